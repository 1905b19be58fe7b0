"""
One call of `benchmarks.soak`: its prompt, its stream, and the check of what came of it.
"""

import asyncio

from horay_async import (
    APIResponseValidationError,
    APIStatusError,
    IncompleteStreamError,
    Outcome,
    Timeouts,
    user,
)


TEXT_SHARE = 0.25
"""
The part of the streams that are text completions, the rest being chats.
"""


THEIRS = APIStatusError, APIResponseValidationError, IncompleteStreamError
"""
Errors that come of what the server says: nothing on our side makes one.
"""


def blame(entry, error):
    """
    Note an error whose cause must be with the server.
    """
    if isinstance(error, THEIRS):
        entry.refused = type(error).__name__


def clocks(patience):
    """
    The clocks of calls that have so many seconds.
    """
    half, quarter = patience / 2, patience / 4
    return Timeouts(
        connect=half,
        first_token=half,
        stall=quarter,
        silence=quarter,
        deadline=patience,
    )


class Call:
    """
    One prompt on its way: the stream or call made of it, and the check of what came.
    """

    def __init__(self, soak, dice, model, way):
        self.soak = soak
        self.dice = dice
        self.model = model
        self.entry = soak.ledger.entry(dice, way)
        self.client = soak.client.with_options(on_event=self.entry.heard)
        self.stream = None
        self.choices = 1
        self.index = 0
        self.seen = []
        self.to_the_end = False
        self._marks = []

    def open(self, n=1, **options):
        """
        Make the stream, which sends nothing yet.
        """
        options |= {"model": self.model, "extra_headers": self.entry.headers}
        text, self.choices = self.entry.text, n
        if n > 1:
            options["n"] = n
        elif self.dice.random() < TEXT_SHARE:
            self.stream = self.client.completions.stream(prompt=text, **options)
            return self.stream
        messages = [user(text)]
        self.stream = self.client.chat.completions.stream(messages=messages, **options)
        return self.stream

    def show(self, text):
        """
        The caller has seen this.
        """
        if self.entry.shown is None:
            self.entry.shown = self.entry.started
        self.seen.append(text)
        for count, mark in self._marks:
            if len(self.seen) >= count and not mark.done():
                mark.set_result(None)

    def mark(self, count):
        """
        A future that is done when so many pieces have been shown.
        """
        future = asyncio.get_running_loop().create_future()
        self._marks.append((count, future))
        return future

    async def read(self, pieces=None):
        """
        Read the stream in `async with`, so many pieces of it or all.
        """
        async with self.open() as stream:
            async for token in stream:
                self.show(token.text)
                if pieces is not None and len(self.seen) >= pieces:
                    return
            self.to_the_end = True

    async def until_some_moment(self, reader):
        """
        Wait until a random moment in the reader's life, before the headers or in its end.
        """
        kind = self.dice.randrange(4)
        if kind == 0:
            await asyncio.sleep(self.dice.random() * 0.05)
        elif kind == 1:
            await asyncio.wait([reader], timeout=self.dice.random())
        else:
            # The last piece is the moment at which the stream begins to drain.
            last = self.entry.text.count(" ") + 1
            mark = self.mark(last if kind == 2 else self.dice.randint(1, last))
            reader.add_done_callback(
                lambda _: None if mark.done() else mark.set_result(None)
            )
            await mark

    def judge(self):
        """
        Check what the stream says of itself, when its reader is gone.
        """
        stream, wrong = self.stream, self.entry.wrong
        if stream is None:
            return None
        outcome = stream.outcome
        if outcome is None:
            if self.entry.started:
                wrong.append("a stream whose reader is gone has no outcome")
            return "never begun"
        texts = [choice.text for choice in stream.reply.choices]
        whole = outcome is Outcome.FINISHED
        if whole and len(texts) < self.choices:
            wrong.append(f"finished with {len(texts)} of {self.choices} choices")
        for at, text in enumerate(texts):
            self.soak.ledger.check(self.entry, text, whole=whole and at == 0)
        if self.seen:
            # Chunks are as the server sent them: halves of a character may come in two.
            halves = "".join(self.seen).encode("utf-16", "surrogatepass")
            seen = halves.decode("utf-16", "replace")
            text = texts[self.index] if self.index < len(texts) else ""
            if not text.startswith(seen) or (self.to_the_end and seen != text):
                wrong.append(f"read {seen!r}, but the reply is {text!r}")
        if stream.error is not None and outcome not in LEFT:
            blame(self.entry, stream.error)
        return str(outcome)


LEFT = {Outcome.CLOSED, Outcome.ABORTED, Outcome.CANCELLED}
