"""
One streamed exchange: when to read, how long to wait, and its one end.

Every way out (the end, `break`, an exception, cancellation, `abort`, `close`, collection)
comes to one synchronous `_end`: there is nothing to await, so nothing that a cancellation
could cut short.
"""

from __future__ import annotations

import asyncio
import contextlib
import math

from collections.abc import Callable
from typing import Any, Final

import attrs

from ._attempts import Attempts
from ._clocks import Clocks
from ._errors import (
    APIConnectionError,
    APIError,
    IncompleteStreamError,
    StreamAbortedError,
    UnconfirmedStreamError,
)
from ._intake import Intake
from ._session import Body
from ._values import Meta, Outcome, Partial, Usage


DRAIN: Final = 0.1
"""
Seconds that a finished body has to end, so that its connection can be used again.
"""

LATE: Final = 0.1
"""
Seconds for a reader who comes after `first_token` has run out: the token may be here.
"""

WHOLE: Final = frozenset({Outcome.FINISHED, Outcome.UNCONFIRMED})
"""
The outcomes after which the connection may be used again.
"""

_LEFT: Final = frozenset({Outcome.CLOSED, Outcome.ABORTED, Outcome.CANCELLED})


class Flow:
    """
    The moving part of a stream: whoever waits pumps it, and its end is one.
    """

    __slots__ = (
        "__weakref__",
        "_attempts",
        "_body",
        "_clocks",
        "_error",
        "_flowing",
        "_intake",
        "_loop",
        "_meta",
        "_n",
        "_opener",
        "_prompt_bytes",
        "_pumping",
        "_strict_end",
        "_waiters",
        "outcome",
        "reason",
    )

    def __init__(
        self,
        opener: Callable[[], Attempts],
        *,
        n: int,
        prompt_bytes: int,
        strict_end: bool,
    ) -> None:
        self.outcome: Outcome | None = None
        """
        How the stream ended; None while it has not.
        """
        self.reason: str = ""
        """
        Why it ended so, in a sentence; "" after a normal end.
        """
        self._opener = opener
        self._n = n
        self._prompt_bytes = prompt_bytes
        self._strict_end = strict_end
        self._attempts: Attempts | None = None
        self._body: Body | None = None
        self._meta = Meta()
        self._error: BaseException | None = None
        self._intake = Intake(n)
        self._pumping = self._flowing = False
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def usage(self) -> Usage:
        """
        What it cost so far, with who counted in `source`: "none" where it was refused.
        """
        if not 200 <= (self._meta.status or 0) < 300:
            return Usage(source="none")
        return self._intake.assembly.usage(prompt_bytes=self._prompt_bytes)

    @property
    def partial(self) -> Partial:
        """
        What has arrived, as an error would carry it.
        """
        return attrs.evolve(self._intake.assembly.partial(), usage=self.usage)

    # Moving on -----------------------------------------------------------------------

    async def next(self) -> Any:
        """
        The next token or chunk, for the readers; cancelling loses none.
        """
        while not self._intake.ready:
            if not await self.advance():
                raise StopAsyncIteration
        return self._intake.ready.popleft()

    async def advance(self) -> bool:
        """
        Wait until something has changed; False once the stream has ended well.

        Whoever waits reads for all; if it is cancelled, the next one who waits reads on.

        Raises:
            StreamError: What ended the stream, if it did not end well.
        """
        if self.outcome is not None:
            if self._error is not None:
                raise self._error
            await self._drain()
            return False
        if self._pumping:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
            return True
        self._pumping = True
        try:
            await (self._pump() if self._flowing else self._begin())
        except Exception as error:  # noqa: BLE001 -- whatever it is, it ends the stream
            # Where somebody else has ended the stream, that end's error woke the reading
            # here. Either way the next turn tells it.
            self._fail(error)
        finally:
            self._pumping = False
            self._wake()
        return True

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def parts(self, index: int) -> list[str]:
        """
        The text of one choice so far.
        """
        return self._intake.assembly.parts(index)

    def ending(self, index: int) -> str | None:
        """
        The finish reason of one choice.
        """
        return self._intake.assembly.ending(index)

    # Reading -------------------------------------------------------------------------

    async def _send(self) -> Body:
        if self._attempts is None:
            self._loop = asyncio.get_running_loop()
            self._attempts = attempts = self._opener()
            self._clocks = Clocks(self, self._loop)
            self._clocks.start(attempts.timeouts, attempts.deadline)
        self._body = body = await self._attempts.send()
        self._meta = self._attempts.meta(body)
        self._intake = Intake(
            self._n,
            strict_end=self._strict_end,
            meta=self._meta,
            # Whatever else the type says, the first bytes know better: some servers send
            # streams as text/plain or as JSON.
            streamed=True if body.content_type == "text/event-stream" else None,
            redact=self._attempts.redact,
            feed=self._intake.feed,
        )
        return body

    async def _begin(self) -> None:
        """
        Read until the first content; a failure before it may be tried again.
        """
        while True:
            body = self._body or await self._send()
            attempts = self._attempts
            assert attempts is not None
            first = attempts.timeouts.first_token
            when = None
            if first is not None and not math.isinf(first):
                when = max(attempts.sent + first, self._loop.time() + min(first, LATE))
            try:
                async with attempts.limit(when, attempts.no_first_token):
                    while not self._settled():
                        await self._read(body)
            except APIError as error:
                if self._intake.assembly.pieces or self.outcome is not None:
                    raise
                self._drop()
                await attempts.judge(error, body)
            else:
                self._flowing = True
                attempts.timings.first_token = self._loop.time() - attempts.sent
                return

    def _settled(self) -> bool:
        """
        Whether there is content, or will be none, so that nothing is tried again.
        """
        assembly = self._intake.assembly
        return self.outcome is not None or assembly.pieces > 0 or assembly.finished

    async def _pump(self) -> None:
        """
        One read, under the clocks.
        """
        body = self._body
        assert body is not None
        self._clocks.wait()
        try:
            await self._read(body)
        except _TailOver:
            return
        finally:
            self._clocks.rest()

    async def _read(self, body: Body) -> None:
        """
        One block, and what it says.
        """
        intake, assembly = self._intake, self._intake.assembly
        pieces = assembly.pieces
        try:
            block = await body.read()
        except APIConnectionError as error:
            if self.outcome is not None:
                raise
            intake.end(error)
        else:
            if block:
                intake.take(block)
            else:
                intake.end()
        self._clocks.heard(content=assembly.pieces != pieces)
        if intake.outcome is not None:
            self._end(intake.outcome, intake.reason)
        elif assembly.finished:
            self._clocks.finish()

    # What the clocks say -------------------------------------------------------------

    def ran_out(self, kind: type[APIError], clock: str, seconds: float) -> None:
        """
        Nothing came for too long.
        """
        what = "not one byte" if clock == "silence" else "no content"
        pieces, pings = self._intake.assembly.pieces, self._intake.pings
        self._fail(
            kind(
                f"{what} for {seconds:g} s, after {pieces} pieces and {pings} pings;"
                f" raise Timeouts({clock}=...) to wait longer"
            )
        )

    def tail_over(self) -> None:
        """
        The answer is whole; nobody need wait for its `[DONE]`.
        """
        self._end(Outcome.FINISHED)
        self._drop(_TailOver())

    def out_of_time(self) -> None:
        """
        The deadline has come, whether anybody waits or not.
        """
        assert self._attempts is not None
        self._fail(self._attempts.deadline_exceeded())

    # The end -------------------------------------------------------------------------

    def _end(
        self, outcome: Outcome, reason: str = "", error: BaseException | None = None
    ) -> None:
        """
        The one way out: synchronous, and from the second time on it only lets go of a body
        that still waits to be drained.
        """
        if self.outcome is not None:
            self._drop()
            return
        if outcome in _LEFT:
            self._intake.ready.clear()
            error = StreamAbortedError(f"the stream was stopped: {reason}")
        self.outcome, self.reason, self._error = outcome, reason, error
        if self._attempts is not None:
            self._clocks.stop()
            if isinstance(error, APIError):
                self._attempts.complete(error, self._body)
                self._meta = error.meta
                error.partial = self.partial
                self._attempts.abort(error)
            self._attempts.ended(outcome, self._meta, usage=self.usage, error=error)
        if outcome not in WHOLE or error is not None:
            self._drop(error)
        self._wake()

    def _drop(self, error: BaseException | None = None) -> None:
        body, self._body = self._body, None
        if body is not None:
            if error is not None:
                # Woken first, so that a reader gets our error, not the dead socket's.
                body.interrupt(error)
            body.drop()

    def _fail(self, error: Exception) -> None:
        """
        End with this error; whoever reads gets it after the tokens that came before it.
        """
        if isinstance(error, IncompleteStreamError):
            outcome = Outcome.INCOMPLETE
        elif isinstance(error, UnconfirmedStreamError):
            outcome = Outcome.UNCONFIRMED
        elif isinstance(error, TimeoutError):
            outcome = Outcome.TIMED_OUT
        else:
            outcome = Outcome.FAILED
        self._end(outcome, str(error), error)

    async def _drain(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            await body.drain(DRAIN)

    def abandon(self) -> None:
        """
        The reader is gone without a word; this may run on any thread, at any time.
        """
        if self._attempts is None or (self.outcome is not None and self._body is None):
            return
        if self._loop.is_closed():
            # Its transports are gone; all that is left to do is to say so.
            self._body = None
            self.outcome = self.outcome or Outcome.CLOSED
            self._attempts.settle()
        elif _running_loop() is self._loop:
            self._end(Outcome.CLOSED, "its reader left the loop")
        else:
            # The loop may close between the question and the call.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(
                    self._end, Outcome.CLOSED, "its reader was collected"
                )


class _TailOver(Exception):
    """
    The stream had finished; nobody need wait for its `[DONE]` any longer.
    """


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
