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

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs

from ._attempts import Attempts
from ._clocks import Clocks
from ._errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    HorayError,
    IncompleteStreamError,
    StreamAbortedError,
    UnconfirmedStreamError,
    WrongLoopError,
)
from ._forks import inherited
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
        "_opening",
        "_prompt_bytes",
        "_pumping",
        "_ready",
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
        self._opening: asyncio.Task[None] | None = None
        self._ready: deque[Any] = deque()
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
        while not self._ready:
            if not await self.advance():
                raise StopAsyncIteration
        return self._ready.popleft()

    async def advance(self) -> bool:
        """
        Wait until something has changed; False once the stream has ended well.

        Whoever waits reads for all; if it is cancelled, the next one who waits reads on.

        Raises:
            StreamError: What ended the stream, if it did not end well.
            WrongLoopError: It was begun on another loop.
        """
        if self.outcome is not None:
            if self._error is not None:
                raise self._error
            await self._drain()
            return False
        if self._attempts is not None and self._loop is not asyncio.get_running_loop():
            raise WrongLoopError(
                "this stream was begun on another event loop: read it there"
            )
        if self._pumping:
            await self._turn()
        elif self._flowing:
            await self._pump()
        else:
            await self._started()
        return True

    async def _turn(self) -> None:
        """
        Wait until whoever reads has read.
        """
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

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

    async def _started(self) -> None:
        """
        Wait for the first content.

        What leads to it has a task of its own: a wait that is given up and taken up again,
        for a heartbeat say, must neither send twice nor cut a pause between attempts.
        """
        if self._opening is None:
            loop = asyncio.get_running_loop()
            self._opening = loop.create_task(self._begin())
        await self._opened()

    async def _opened(self) -> None:
        """
        Wait for the task that opens the stream.

        A stranger may cancel that one, as with all tasks that there are: it ends the stream,
        and is no cancellation of who waits.
        """
        opening = self._opening
        assert opening is not None
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            if self._opening is opening and opening.cancelled():
                # Before its first turn: it could not end the stream itself.
                self._opening = None
                self._end(Outcome.CANCELLED, "the task that opened it was cancelled")
            task = asyncio.current_task()
            if not opening.cancelled() or task is None or task.cancelling():
                raise

    async def _begin(self) -> None:
        try:
            await self._until_content()
        except Exception as error:  # noqa: BLE001 -- whatever it is, it ends the stream
            # Where somebody else has ended the stream, that end's error woke us. Either
            # way the readers' next turn tells it.
            self._fail(error)
        except BaseException:
            self._end(Outcome.CANCELLED, "the task that opened it was cancelled")
            raise
        finally:
            self._opening = None
            self._flow_on()

    def _flow_on(self) -> None:
        # Only now handed out: chunks of an attempt that failed are nobody's.
        self._flowing = True
        self._ready = self._intake.ready

    async def _send(self) -> Body:
        if self.outcome is not None:
            # Ended before its first turn: nothing is sent.
            raise self._error or StreamAbortedError("the stream was stopped")
        if self._attempts is None:
            self._loop = asyncio.get_running_loop()
            self._attempts = self._opener()
            self._clocks = Clocks(self, self._loop)
        body = await self._attempts.send()
        if self.outcome is not None:
            # Ended in the very turn in which the headers came.
            body.drop()
            self._attempts.settle()
            raise self._error or StreamAbortedError("the stream was stopped")
        self._body = body
        # Until now the attempts have kept the deadline.
        self._clocks.start(self._attempts.timeouts, self._attempts.deadline)
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

    async def _until_content(self) -> None:
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
                async with attempts.limit(when, self._no_first_token):
                    while not self._settled():
                        await self._read(body)
            except APIError as error:
                if self._intake.assembly.pieces or self.outcome is not None:
                    raise
                self._drop()
                await attempts.judge(error, body)
            else:
                attempts.answering()
                return

    def _settled(self) -> bool:
        """
        Whether there is content, or will be none, so that nothing is tried again.
        """
        assembly = self._intake.assembly
        return self.outcome is not None or assembly.pieces > 0 or assembly.finished

    async def _pump(self) -> None:
        """
        One read, under the clocks, for all who wait.
        """
        body = self._body
        assert body is not None
        self._pumping = True
        self._clocks.wait()
        try:
            await self._read(body)
        except _TailOver:
            pass
        except Exception as error:  # noqa: BLE001 -- as in _begin
            self._fail(error)
        finally:
            self._clocks.rest()
            self._pumping = False
            self._wake()

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

    def ran_out(self, kind: type[APITimeoutError], seconds: float) -> None:
        """
        Nothing came for too long.
        """
        assert self._attempts is not None
        what = "not one byte" if kind.clock == "silence" else "no content"
        error = kind("", **self._so_far())
        self._fail(
            self._attempts.late(error, f"{what} for {seconds:g} s ({kind.clock})")
        )

    def _so_far(self) -> dict[str, Any]:
        """
        What the error of a clock says of the answer.
        """
        return {"partial": self.partial, "pings": self._intake.pings}

    def _no_first_token(self) -> APIError:
        assert self._attempts is not None
        return self._attempts.no_first_token(**self._so_far())

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
        # Between two attempts, these keep it: they know what went wrong.
        if self._body is not None:
            self._fail(self._attempts.deadline_exceeded(**self._so_far()))

    # The end -------------------------------------------------------------------------

    def _stop(self, outcome: Outcome, reason: str) -> None:
        """
        End it from anywhere: what another thread does waits for the loop's next turn.
        """
        if self._attempts is not None and self._loop.is_running():
            elsewhere = asyncio._get_running_loop() is not self._loop
            if elsewhere and not inherited(self._loop):
                # The loop may close between the question and the call.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._end, outcome, reason)
                    return
        self._end(outcome, reason)

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
            self._ready.clear()
            self._intake.ready.clear()
            error = StreamAbortedError(f"the stream was stopped: {reason}")
        self.outcome, self.reason, self._error = outcome, reason, error
        try:
            if self._attempts is not None:
                self._clocks.stop()
                self._tell_end(self._attempts, outcome, error)
        finally:
            # The user's hook was called, which may raise even what ends programs.
            if outcome not in WHOLE or error is not None:
                self._drop(error)
            self._wake()

    def _tell_end(
        self, attempts: Attempts, outcome: Outcome, error: BaseException | None
    ) -> None:
        if isinstance(error, APIError):
            attempts.complete(error, self._body)
            if outcome not in _LEFT:
                # It may have been cleaned.
                self.reason = str(error)
            self._meta = error.meta
            error.partial = self.partial
            attempts.abort(error)
        attempts.ended(outcome, self._meta, usage=self.usage, error=error)

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
        if isinstance(error, HorayError):
            # The frames that it comes from hold what the server sent, as it came.
            error = error.with_traceback(None)
        self._end(outcome, str(error), error)

    async def _drain(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            await body.drain(DRAIN)

    def abandon(self) -> None:
        """
        The reader is gone without a word; this may run on any thread, in the middle of
        anything, so all is left to the loop's next turn.
        """
        if self._attempts is None or (self.outcome is not None and self._body is None):
            return
        if self._loop.is_closed() or inherited(self._loop):
            # Its transports are gone; all that is left to do is to say so.
            self._body = None
            self.outcome = self.outcome or Outcome.CLOSED
            self._attempts.settle()
            return
        # The loop may close between the question and the call.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(
                self._end, Outcome.CLOSED, "its reader left the loop"
            )


class _TailOver(Exception):
    """
    The stream had finished; nobody need wait for its `[DONE]` any longer.
    """
