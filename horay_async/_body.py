"""
The body of a response as it comes: read, dropped or drained.
"""

from __future__ import annotations

import asyncio
import copy

from typing import Final

import aiohttp

from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

from ._connector import Trip, cut
from ._errors import APIConnectionError, APIResponseValidationError, HorayError
from ._network import cause_of, explain
from ._secrets import printable, redacted, redacted_headers


DRAIN_BYTES: Final = 1 << 16
"""
What a server may still send after a normal end, for its connection to be worth keeping.
"""

BLOCK: Final = 1 << 16
"""
Bytes handed out at once, and bytes after which other tasks get their turn: a server that
sends as fast as it can must not hold up the loop.
"""

BROKEN: Final = (
    aiohttp.ClientError,
    aiohttp.EofStream,
    HttpProcessingError,
    OSError,
    # For a body whose connection is gone; for an address that nobody can connect to.
    RuntimeError,
    # From the resolver, for a name that cannot be one.
    UnicodeError,
)
"""
What aiohttp, and all that it calls, raise where an exchange breaks.
"""


class Body:
    """
    A response: its head, and its body as it comes.

    Read it to its end, or `drop` it.
    """

    __slots__ = (
        "_content",
        "_error",
        "_response",
        "_responses",
        "_unturned",
        "_where",
        "connect",
        "content_type",
        "headers",
        "pool",
        "reason",
        "reused",
        "status",
    )

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        trip: Trip,
        where: str,
        responses: set[aiohttp.ClientResponse],
        secrets: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            where: The server, for messages.
            responses: Where it stands as long as it is read.
            secrets: Cut out of the headers, as some servers echo them.
        """
        self._response = response
        self._where = where
        self._responses = responses
        self._content = response.content
        self._error: BaseException | None = None
        # Bytes read since the loop had its last turn.
        self._unturned = 0
        self.status = response.status
        self.headers: CIMultiDict[str] = redacted_headers(response.headers, secrets)
        self.reason = printable(response.reason or "")
        if any(secret in self.reason for secret in secrets):
            self.reason = redacted(self.reason.encode(), secrets).decode()
        if len(self.headers) and self.headers != response.headers:
            # aiohttp's own are in reach of whoever walks an error's traceback.
            response._headers = CIMultiDictProxy(self.headers)
            response._cache.clear()
            response._raw_headers = ()
            response._raw_cookie_headers = ()
        response.reason = self.reason
        content_type = self.headers.get("Content-Type", "")
        self.content_type = content_type.partition(";")[0].strip().lower()
        """
        In lower case and without parameters; "" where there is none.
        """
        self.pool, self.connect, self.reused = trip.times()
        """
        Seconds waited for a free slot; seconds spent on DNS, TCP and TLS; and whether it
        came over a connection that had been used before, for which the latter are 0.
        """
        responses.add(response)

    @property
    def at_end(self) -> bool:
        """
        The whole body has come, though it may not be read; the connection is returned.
        """
        return self._content.is_eof() and self._content.exception() is None

    async def read(self) -> bytes:
        """
        The next bytes, as they came; b"" at the end of a whole body.

        Cancelling loses none: the next call continues.

        Raises:
            APIConnectionError: The body broke off. What had come before is read first.
            ClientClosedError: The session was closed.
        """
        if self._error is not None:
            raise self._error
        failure = None
        content = self._content
        try:
            ended = content.at_eof()
            if self._unturned >= BLOCK and not ended:
                self._unturned = 0
                if content._buffer:
                    await asyncio.sleep(0)
            # At the end, read() would log that it is asked too often.
            block = await (content.readany() if ended else content.read(BLOCK))
        except BROKEN as error:
            ours = isinstance(error, HorayError) or error is self._error
            if ours or content._waiter is not None:
                raise
            if content._buffer:
                # aiohttp would throw away what came before the break.
                return content._read_nowait(BLOCK)
            block, failure = b"", self._failure(error)
        if failure is not None:
            try:
                raise failure
            finally:
                # Else this frame, which the error's traceback holds, would hold the error.
                del failure
        if not block:
            self._finish()
        self._unturned += len(block)
        return block

    async def read_all(self, limit: int) -> bytes:
        """
        The whole body, decompressed.

        Raises:
            APIResponseValidationError: It is longer than `limit` bytes; no more than that,
                and half a megabyte, is read. What had come is lost.
        """
        blocks: list[bytes] = []
        size = 0
        while block := await self.read():
            size += len(block)
            if size > limit:
                self.drop()
                # The error's traceback holds this frame.
                blocks.clear()
                block = b""
                raise APIResponseValidationError(
                    f"the body of the answer is longer than {limit} bytes"
                )
            blocks.append(block)
        return b"".join(blocks)

    def interrupt(self, error: BaseException) -> None:
        """
        Make whoever waits in `read` get this error at the loop's next turn, and later reads.

        Nothing is closed, no task is cancelled. Only from the loop's own thread.
        """
        self._error = error
        if not self._response._loop.is_closed():
            self._content.set_exception(error)

    def drop(self) -> None:
        """
        Close the connection now, unless it is returned already. Twice is fine.

        A body that had not come whole cannot be read after that. Only from the loop's own
        thread; the loop may be closed.
        """
        if self._error is None and not self.at_end:
            self.interrupt(APIConnectionError("the connection was closed on our side"))
        self._finish()

    async def drain(self, seconds: float = 0.1) -> bool:
        """
        Read what is left, so that the connection returns to the pool; else drop it.

        It waits no longer than `seconds`, and reads no more than 64 KiB.

        Returns:
            Whether the connection has returned.

        Cancelled: the connection is dropped.
        """
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(seconds):
                while left > 0 and not self.at_end:
                    left -= len(await self.read())
        except (HorayError, TimeoutError):
            pass
        finally:
            self.drop()
        return self.at_end

    def _finish(self) -> None:
        self._responses.discard(self._response)
        # It has none after a whole body, unless the server answered before it had the
        # whole request, or wants to speak another protocol.
        if self._response._connection is not None:
            cut(self._response)

    def _failure(self, error: BaseException) -> APIConnectionError:
        failure = APIConnectionError(explain(error, self._where))
        failure.__cause__ = cause_of(error)
        failure.with_facts(
            reused=self.reused, answered=True, pool=self.pool, connect=self.connect
        )
        # For later reads, another one: this one's traceback will hold us.
        self._error = copy.copy(failure)
        self._error.__cause__ = failure.__cause__
        # aiohttp's quotes the answer, which may echo the request.
        self._content.set_exception(self._error)
        self._finish()
        return failure

    def __del__(self) -> None:
        # The connection must not stay leased. Whose mistake it is, the room above tells.
        self._responses.discard(self._response)
        if self._response.connection is not None:
            try:
                # Collected on any thread, and in the middle of anything.
                self._response._loop.call_soon_threadsafe(cut, self._response)
            except RuntimeError:
                cut(self._response)
