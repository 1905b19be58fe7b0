"""
TokenStream: what the user reads, opens and closes; `_flow` moves underneath.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings

from collections.abc import Awaitable, Callable
from types import FrameType, TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import attrs

from ._attempts import Attempts
from ._errors import StreamConsumedError
from ._flow import WHOLE, Flow
from ._forks import inherited
from ._intake import Ahead, Feed, feed_chunks, feed_nothing, feed_tokens
from ._readers import DONE, Choices, Chunks, OwnedTokens, Texts, Tokens
from ._values import Meta, Outcome, Response


ReplyT = TypeVar("ReplyT")
ChunkT = TypeVar("ChunkT")

_OURS: Final = frozenset({"asyncio", __name__.partition(".")[0]})

_AWAITED: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@attrs.frozen(kw_only=True)
class Kind(Generic[ReplyT, ChunkT]):
    """
    What differs between chat and text streams: how a chunk and a reply are made.
    """

    chat: bool

    chunk: Callable[[Any], ChunkT]

    reply: Callable[[Any, Meta], ReplyT]


class TokenStream(Flow, Generic[ReplyT, ChunkT]):
    """
    One streamed answer: `async for token in stream`.

    Use it in `async with`: whatever ends the block closes the connection at once, and the
    stream may be read in several loops. A bare `async for` also closes it when the loop is
    left, but cannot be looped over twice.

    After the end, `outcome` says how it ended and `reply` holds what was assembled, whole
    or partial. Cancelling the wait for a token loses none: the next wait goes on.
    """

    __slots__ = ("_entered", "_kind", "_place", "_taken")

    def __init__(
        self,
        opener: Callable[[], Attempts],
        *,
        kind: Kind[ReplyT, ChunkT],
        n: int = 1,
        prompt_bytes: int = 0,
        strict_end: bool = False,
    ) -> None:
        super().__init__(opener, n=n, prompt_bytes=prompt_bytes, strict_end=strict_end)
        self._kind = kind
        self._entered = self._taken = False
        self._place = _place_of(sys._getframe(1))

    # What the user reads -------------------------------------------------------------

    def __aiter__(self) -> Tokens:
        return self._reader(feed_tokens)

    @property
    def text_stream(self) -> Texts:
        """
        Only the strings: pieces of thinking, which have no text, are left out.
        """
        return Texts(self.__aiter__)

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
        while self._being_opened():
            await (self._opened() if self._opening else self._turn())
        if self._error is not None:
            raise self._error
        if self.outcome is None and self._body is None:
            self._pumping = True
            try:
                await self._send()
            except Exception as error:
                self._fail(error)
                if self._error is not error and self._error is not None:
                    # It was ended in the very turn in which this failed: one end, one error.
                    raise self._error from None
                raise
            except BaseException:
                self._end(Outcome.CANCELLED, "cancelled while it was being opened")
                raise
            finally:
                self._pumping = False
                self._wake()
        return self

    def _being_opened(self) -> bool:
        """
        Whether another task is at it, so that a second one would send a second time.
        """
        unopened = self.outcome is None and self._body is None
        return unopened and (self._pumping or self._opening is not None)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            if self._intake.assembly.finished:
                self._end(Outcome.FINISHED)
            if self.outcome in WHOLE:
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

        From another thread: it is done when the stream's loop has its next turn.
        """
        self._stop(Outcome.CLOSED, "closed by its reader")
        return DONE

    aclose = close

    def abort(self, reason: str = "aborted") -> None:
        """
        Stop the stream, from any task of its loop; the connection is closed on return.

        Whoever is reading gets `StreamAbortedError` with the reason.

        From another thread: it is done when the stream's loop has its next turn.
        """
        self._stop(Outcome.ABORTED, reason)

    def __del__(self) -> None:
        if getattr(self, "_attempts", None) is not None and self.outcome is None:
            super().abandon()
            if inherited(self._loop):
                # The parent process goes on reading it.
                return
            # Last, as it may raise.
            file, line = self._place or ("", 0)
            opened = f", opened at {file}:{line}," if file else ""
            warnings.warn_explicit(
                f"{self!r}{opened} was never closed: use `async with`",
                ResourceWarning,
                filename=file or __file__,
                lineno=line,
                source=self,
            )

    def abandon(self) -> None:
        """
        A reader is gone without a word; inside `async with` that says nothing.
        """
        if not self._entered:
            super().abandon()

    def __repr__(self) -> str:
        state = self.outcome or ("open" if self._attempts else "not opened")
        return f"<{type(self).__name__} {state}, {self._intake.assembly.pieces} pieces>"

    # Handing out ---------------------------------------------------------------------

    async def next_chunk(self) -> ChunkT:
        """
        One chunk without a loop, for code that looks at the first before it goes on.

        Cancelling loses none. It closes nothing: loop over the rest, or close the stream.
        """
        self._choose(feed_chunks)
        return self._kind.chunk(await self.next())

    def _choose(self, feed: Feed) -> None:
        intake = self._intake
        if intake.feed is feed:
            return
        ahead = isinstance(intake.feed, Ahead)
        # What was read ahead of its reader, in a race, is handed out as it came.
        kept = list(intake.ready) if ahead else []
        late = feed is feed_chunks and intake.assembly.started and not kept
        if late or not (ahead or intake.feed is feed_nothing):
            raise StreamConsumedError(
                "a stream is read as tokens or as chunks, not as both"
            )
        intake.feed = feed
        intake.ready.clear()
        for tokens, chunk in kept:
            feed(intake.ready, tokens, chunk)
        if not kept:
            # A choice may have been read before: what it has said is told at once.
            intake.ready.extend(intake.assembly.so_far())

    def read_ahead(self) -> Ahead:
        """
        Keep what is read before there is a reader, until the feed that this returns is sealed.
        """
        feed = self._intake.feed = Ahead()
        return feed

    def _reader(self, feed: Feed) -> Tokens:
        self._choose(feed)
        if self._entered:
            return Tokens(self)
        if self._taken:
            raise StreamConsumedError(
                "this stream has been read, or is being read;"
                " to read it in several loops, put it in `async with`"
            )
        self._taken = True
        return OwnedTokens(self)


def _place_of(frame: FrameType | None) -> tuple[str, int] | None:
    """
    File and line of whoever called us; None where it was an event loop.
    """
    in_task = False
    while frame is not None:
        # What is awaited, but was called by a function, was called by a loop, of which
        # there need be no frame: uvloop has none.
        awaited = bool(frame.f_code.co_flags & _AWAITED)
        if in_task and not awaited:
            break
        module = frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] not in _OURS:
            return frame.f_code.co_filename, frame.f_lineno
        in_task = awaited
        frame = frame.f_back
    return None
