"""
The ways in which users read a stream, and leave it.
"""

import asyncio
import contextlib

from collections import defaultdict

from .promises import promise


class Reader:
    """
    Reads one stream in one of the ways, and keeps what it was handed.
    """

    def __init__(self, stream, options, network):
        self.stream = stream
        self.error = None
        self.cancelled = False
        self.may_stay_open = False
        """
        Whether this way of reading leaves it to the user to close the stream.
        """
        self.to_the_end = False
        """
        Whether all was read that there was.
        """
        self.types_chunks = False
        """
        Whether a chunk that is odd may fail where it is made, and not where it came.
        """
        self._network = network
        self._exchanges = None
        self._knows_choices = True
        self._handed = defaultdict(list)
        self._breaks = options.pick((None, None, None, 0, 1, 2))
        self._patience = options.pick((0.001, 0.2, 1.0, None))

    def text(self, index):
        """
        What was handed out of one choice; None where nobody knows.
        """
        if not self._knows_choices or (self.error is None and not self._handed):
            return None
        return "".join(self._handed[index])

    def take(self, token):
        """
        Keep it; whether to read on.
        """
        self._handed[token.index].append(token.text)
        return self._goes_on()

    def _goes_on(self):
        if self._exchanges is None:
            self._exchanges = self._network.exchanges
        promise(self._exchanges == self._network.exchanges, "sent again after a token")
        if self._breaks is None:
            return True
        self._breaks -= 1
        return self._breaks >= 0

    @contextlib.contextmanager
    def _whole(self):
        """
        What is read in here is read until nothing comes any more.
        """
        try:
            yield
        except asyncio.CancelledError:
            raise
        except Exception:
            self.to_the_end = True
            raise

    async def tokens(self):
        """
        A bare loop.
        """
        with self._whole():
            async for token in self.stream:
                if not self.take(token):
                    return
        self.to_the_end = True

    async def block(self):
        """
        A loop in a block, which ends the stream on the way out.
        """
        async with self.stream as stream:
            with self._whole():
                async for token in stream:
                    if not self.take(token):
                        return
        self.to_the_end = True

    async def texts(self):
        """
        Only the strings.
        """
        self._knows_choices = False
        async with self.stream as stream:
            async for text in stream.text_stream:
                promise(text, "an empty text")
                if not self._goes_on():
                    return

    async def chunks(self):
        """
        Typed chunks.
        """
        self._knows_choices = False
        self.types_chunks = True
        async for chunk in self.stream.chunks():
            repr(chunk)
            if not self._goes_on():
                return

    async def next_chunks(self):
        """
        One chunk after the other, without a loop.
        """
        self._knows_choices = False
        self.may_stay_open = self.types_chunks = True
        with contextlib.suppress(StopAsyncIteration):
            while True:
                await self.stream.next_chunk()
                if not self._goes_on():
                    return

    async def choices(self):
        """
        Each choice in a task of its own; a failure of one does not stop the others.
        """
        async with self.stream as stream:
            tasks = [
                asyncio.ensure_future(self._choice(cursor)) for cursor in stream.choices
            ]
            try:
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                for task in tasks:
                    task.cancel()
            for error in ended:
                if error is not None:
                    raise error

    async def _choice(self, cursor):
        async for token in cursor:
            if not self.take(token):
                return

    async def final(self):
        """
        Only the reply.
        """
        self._knows_choices = False
        self.may_stay_open = True
        await self.stream.get_final_completion()

    async def heartbeats(self):
        """
        Waits that are given up and taken up again.
        """
        async with self.stream as stream:
            tokens = aiter(stream)
            with self._whole():
                for _ in range(3000):
                    try:
                        async with asyncio.timeout(self._patience):
                            token = await anext(tokens)
                    except StopAsyncIteration:
                        self.to_the_end = True
                        return
                    except TimeoutError as error:
                        if error is stream.error:
                            raise
                        self._patience = min((self._patience or 1) * 2, 100)
                    else:
                        if not self.take(token):
                            return

    async def pair(self):
        """
        Two tasks that read one stream.
        """
        async with self.stream as stream, asyncio.timeout(None):
            tasks = [asyncio.ensure_future(self._share(stream)) for _ in range(2)]
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                for task in tasks:
                    task.cancel()

    async def _share(self, stream):
        async for token in stream:
            if not self.take(token):
                return

    async def opened(self):
        """
        Opened twice at once, then left unread.
        """
        self.may_stay_open = True
        await asyncio.gather(
            self.stream.open(), self.stream.open(), return_exceptions=True
        )


READERS = (
    Reader.tokens,
    Reader.block,
    Reader.block,
    Reader.texts,
    Reader.chunks,
    Reader.next_chunks,
    Reader.choices,
    Reader.final,
    Reader.heartbeats,
    Reader.pair,
    Reader.opened,
)
