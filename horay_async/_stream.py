"""
TokenStream: when to read, how long to wait, its one outcome, its closing.

A stream owns its connection. Every way out (the end, `break`, an exception, cancellation,
`abort`, `close`, collection) comes to one synchronous `_end`: there is nothing to await, so
nothing that a cancellation could cut short.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import warnings
import weakref

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import attrs

from ._attempts import Attempts
from ._errors import (
    APIConnectionError,
    APIError,
    IncompleteStreamError,
    StreamAbortedError,
    StreamConsumedError,
    StreamSilentError,
    StreamStalledError,
    UnconfirmedStreamError,
)
from ._intake import Feed, Intake, feed_chunks, feed_nothing, feed_tokens
from ._readers import DONE, Choices, Chunks, OwnedTokens, Texts, Tokens
from ._session import Body
from ._values import Meta, Outcome, Partial, Response, Usage


ReplyT = TypeVar("ReplyT")
ChunkT = TypeVar("ChunkT")

DRAIN: Final = 0.1
"""
Seconds that a finished body has to end, so that its connection can be used again.
"""

TAIL: Final = 2.0
"""
Seconds that we wait for usage and `[DONE]` once every choice has its finish reason: some
servers keep the connection open and send neither.
"""

LATE: Final = 0.1
"""
Seconds for a reader who comes after `first_token` has run out: the token may be here.
"""

_WHOLE: Final = frozenset({Outcome.FINISHED, Outcome.UNCONFIRMED})
_LEFT: Final = frozenset({Outcome.CLOSED, Outcome.ABORTED, Outcome.CANCELLED})


@attrs.frozen(kw_only=True)
class Kind(Generic[ReplyT, ChunkT]):
    """
    What differs between chat and text streams: how a chunk and a reply are made.
    """

    chat: bool

    chunk: Callable[[Any], ChunkT]

    reply: Callable[[Any, Meta], ReplyT]


class TokenStream(Generic[ReplyT, ChunkT]):
    """
    One streamed answer: `async for token in stream`.

    Use it in `async with`: whatever ends the block closes the connection at once, and the
    stream may be read in several loops. A bare `async for` also closes it when the loop is
    left, but cannot be looped over twice.

    After the end, `outcome` says how it ended and `reply` holds what was assembled, whole
    or partial. Cancelling one `__anext__` loses no token: the next call goes on.
    """

    __slots__ = (
        "__weakref__",
        "_attempts",
        "_awaiting",
        "_body",
        "_clock",
        "_deadline",
        "_entered",
        "_error",
        "_flowing",
        "_heard",
        "_intake",
        "_kind",
        "_loop",
        "_meta",
        "_n",
        "_opener",
        "_pieces",
        "_prompt_bytes",
        "_pumping",
        "_said",
        "_strict_end",
        "_taken",
        "_waiters",
        "outcome",
        "reason",
    )

    def __init__(
        self,
        opener: Callable[[], Attempts],
        *,
        kind: Kind[ReplyT, ChunkT],
        n: int = 1,
        prompt_bytes: int = 0,
        strict_end: bool = False,
    ) -> None:
        self.outcome: Outcome | None = None
        """
        How the stream ended; None while it has not.
        """
        self.reason = ""
        """
        Why it ended so, in a sentence; "" after a normal end.
        """
        self._opener = opener
        self._kind = kind
        self._n = n
        self._prompt_bytes = prompt_bytes
        self._strict_end = strict_end
        self._attempts: Attempts | None = None
        self._body: Body | None = None
        self._meta = Meta()
        self._error: BaseException | None = None
        self._intake = Intake(n)
        self._entered = self._taken = self._pumping = self._flowing = False
        self._waiters: list[asyncio.Future[None]] = []
        self._clock: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        # Moments by the loop's clock: somebody waits since (0: nobody does), the last
        # byte, the last content.
        self._awaiting = self._heard = self._said = 0.0
        self._pieces = 0

    # What the user reads -------------------------------------------------------------

    def __aiter__(self) -> Tokens:
        return self._reader(feed_tokens)

    @property
    def text_stream(self) -> Texts:
        """
        Only the strings: pieces of thinking, which have no text, are left out.
        """
        return Texts(self._reader(feed_tokens))

    def chunks(self) -> Chunks[ChunkT]:
        """
        Typed chunks in openai's shape, each as the server sent it.
        """
        return Chunks(self._reader(feed_chunks), self._kind.chunk)

    @property
    def choices(self) -> Choices:
        """
        One async iterator for each of the *n* choices; they may be read side by side.

        Each is a cursor over the text that `reply` is made of, so reading only one of them
        neither blocks the others nor stores them twice.
        """
        return Choices(self, self._n)

    async def get_final_completion(self) -> ReplyT:
        """
        Read to the end and return the reply.

        Raises:
            StreamError: It did not finish; `reply` holds what came.
        """
        while await self.advance():
            pass
        return self.reply

    @property
    def reply(self) -> ReplyT:
        """
        What was assembled so far: the whole reply after a normal end, a partial one before.
        """
        body = self._intake.assembly.body(chat=self._kind.chat)
        body["usage"] = self.usage
        return self._kind.reply(body, self._meta)

    @property
    def usage(self) -> Usage:
        """
        What it cost so far, with who counted in `source`.
        """
        return self._intake.assembly.usage(prompt_bytes=self._prompt_bytes)

    @property
    def partial(self) -> Partial:
        """
        What has arrived, as an error would carry it.
        """
        return self._intake.assembly.partial(prompt_bytes=self._prompt_bytes)

    @property
    def meta(self) -> Meta:
        """
        Status, headers, attempts, timings; empty before the headers have come.
        """
        return self._meta

    @property
    def error(self) -> BaseException | None:
        """
        What went wrong, where something did; whoever reads on gets it raised.
        """
        return self._error

    @property
    def response(self) -> Response:
        """
        Status and headers of the HTTP answer, as openai's streams have them.
        """
        return Response(status_code=self._meta.status or 0, headers=self._meta.headers)

    # Opening and closing -------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._entered = True
        return await self.open()

    async def open(self) -> Self:
        """
        Send the request and wait for the headers; `async with` and `async for` do it too.

        Raises:
            APIStatusError: The server refused.
            APIConnectionError: No answer came.

        Cancelled: the request is taken back and the connection closed.
        """
        if self.outcome is None and self._body is None:
            try:
                await self._send()
            except asyncio.CancelledError:
                self._end(Outcome.CANCELLED, "cancelled while it was being opened")
                raise
            except Exception as error:
                self._fail(error)
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            if self._intake.assembly.finished:
                self._end(Outcome.FINISHED)
            if self.outcome in _WHOLE:
                await self._drain()
            self._end(Outcome.CLOSED, "left before its end")
        elif issubclass(kind, asyncio.CancelledError):
            self._end(Outcome.CANCELLED, "the task was cancelled")
        else:
            self._end(Outcome.CLOSED, f"left by {kind.__name__}")

    def close(self) -> Awaitable[None]:
        """
        Close the stream and its connection. Twice is fine; after the end it does nothing.

        It is done when this returns; the awaitable is for code that writes `await
        stream.close()`. Whoever is still reading gets `StreamAbortedError`.
        """
        self._end(Outcome.CLOSED, "closed by its reader")
        return DONE

    aclose = close

    def abort(self, reason: str = "aborted") -> None:
        """
        Stop the stream, from any task of its loop; the connection is closed on return.

        Whoever is reading gets `StreamAbortedError` with the reason.
        """
        self._end(Outcome.ABORTED, reason)

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
        for timer in (self._clock, self._deadline):
            if timer is not None:
                timer.cancel()
        if self._attempts is not None:
            if isinstance(error, APIError):
                error.partial = self.partial
                self._attempts.complete(error, self._body)
                self._attempts.abort(error)
            self._attempts.ended(outcome, self._meta, usage=self.usage, error=error)
        if outcome not in _WHOLE or error is not None:
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
        elif _running_loop() is self._loop:
            self._end(Outcome.CLOSED, "its reader left the loop")
        else:
            # The loop may close between the question and the call.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(
                    self._end, Outcome.CLOSED, "its reader was collected"
                )

    def __del__(self) -> None:
        if getattr(self, "_attempts", None) is not None and self.outcome is None:
            warnings.warn(
                f"{self!r} was never closed: use `async with`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self.abandon()

    def __repr__(self) -> str:
        state = self.outcome or ("open" if self._attempts else "not opened")
        return f"<{type(self).__name__} {state}, {self._intake.assembly.pieces} pieces>"

    # Handing out ---------------------------------------------------------------------

    def _reader(self, feed: Feed) -> Tokens:
        intake = self._intake
        if intake.feed is not feed:
            late = feed is feed_chunks and intake.assembly.started
            if intake.feed is not feed_nothing or late:
                raise StreamConsumedError(
                    "a stream is read as tokens or as chunks, not as both"
                )
            intake.feed = feed
            # A choice may have been read before: what it has said is told at once.
            intake.ready.extend(intake.assembly.so_far())
        if self._entered:
            return Tokens(self)
        if self._taken:
            raise StreamConsumedError(
                "this stream has been read, or is being read;"
                " to read it in several loops, put it in `async with`"
            )
        self._taken = True
        return OwnedTokens(self)

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
        except Exception as error:
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
            self._attempts = self._opener()
            if (deadline := self._attempts.deadline) is not None:
                self._deadline = self._loop.call_at(
                    deadline, _on_deadline, weakref.ref(self)
                )
        self._body = body = await self._attempts.send()
        self._meta = self._attempts.meta(body)
        self._intake = Intake(
            self._n,
            strict_end=self._strict_end,
            meta=self._meta,
            streamed=_is_streamed(body.content_type),
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
            assert attempts is not None  # noqa: S101 -- _send has made it
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
                attempts.settle()
                await attempts.judge(error, body)
            else:
                self._flowing = True
                self._said = self._loop.time()
                attempts.timings.first_token = self._said - attempts.sent
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
        body, intake = self._body, self._intake
        assert body is not None  # noqa: S101 -- or the stream had ended
        self._awaiting = now = self._loop.time()
        if self._clock is None:
            self._arm(now)
        try:
            await self._read(body)
        except _TailOver:
            return
        finally:
            self._awaiting = 0.0
        if intake.assembly.pieces != self._pieces:
            self._pieces, self._said = intake.assembly.pieces, self._heard

    async def _read(self, body: Body) -> None:
        """
        One block, and what it says.
        """
        intake = self._intake
        try:
            block = await body.read()
        except APIConnectionError as error:
            if self.outcome is not None:
                raise
            intake.end(error)
        else:
            self._heard = self._loop.time()
            if block:
                intake.take(block)
            else:
                intake.end()
        if intake.outcome is not None:
            self._end(intake.outcome, intake.reason)
        elif intake.assembly.finished and self._clock is not None:
            # The next wait is armed with the tail's clock.
            self._clock.cancel()
            self._clock = None

    # Clocks --------------------------------------------------------------------------

    def _arm(self, now: float) -> None:
        when = now + TAIL if self._intake.assembly.finished else self._due()[0]
        if not math.isinf(when):
            self._clock = self._loop.call_at(when, _on_clock, weakref.ref(self))

    def _due(self) -> tuple[float, type[APIError]]:
        """
        When the next clock runs out, and whose error that is.

        Both run only while somebody waits: a slow reader is not a slow server.
        """
        assert self._attempts is not None  # noqa: S101 -- clocks come after sending
        stall, silence = self._attempts.timeouts.stall, self._attempts.timeouts.silence
        stalled = silent = math.inf
        if stall is not None:
            stalled = max(self._said, self._awaiting) + stall
        if silence is not None:
            silent = max(self._heard, self._awaiting) + silence
        if silent < stalled:
            return silent, StreamSilentError
        return stalled, StreamStalledError

    def tick(self) -> None:
        """
        The clock rang: end the stream, or wait for what is left of the time.
        """
        self._clock = None
        if not self._awaiting:
            # Nobody waits, so nothing runs; the next wait arms the clock again.
            return
        if self._intake.assembly.finished:
            self._end(Outcome.FINISHED)
            self._drop(_TailOver())
            return
        when, kind = self._due()
        if self._loop.time() < when:
            self._arm(self._loop.time())
        else:
            self._fail(self._ran_out(kind))

    def _ran_out(self, kind: type[APIError]) -> APIError:
        assert self._attempts is not None  # noqa: S101 -- clocks come after sending
        name = "silence" if kind is StreamSilentError else "stall"
        what = "not one byte" if kind is StreamSilentError else "no content"
        return kind(
            f"{what} for {getattr(self._attempts.timeouts, name):g} s, after"
            f" {self._intake.assembly.pieces} pieces and {self._intake.pings} pings;"
            f" raise Timeouts({name}=...) to wait longer"
        )

    def out_of_time(self) -> None:
        """
        The deadline has come, whether anybody waits or not.
        """
        if self._attempts is not None:
            self._fail(self._attempts.deadline_exceeded())


class _TailOver(Exception):  # noqa: N818 -- a signal, not an error
    """
    The stream had finished; nobody need wait for its `[DONE]` any longer.
    """


# The loop must not keep a stream alive that nobody reads, hence the weak references.


def _on_clock(stream: weakref.ref[TokenStream[Any, Any]]) -> None:
    if (alive := stream()) is not None:
        alive.tick()


def _on_deadline(stream: weakref.ref[TokenStream[Any, Any]]) -> None:
    if (alive := stream()) is not None:
        alive.out_of_time()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _is_streamed(content_type: str) -> bool | None:
    if content_type == "text/event-stream":
        return True
    return False if "json" in content_type or "html" in content_type else None
