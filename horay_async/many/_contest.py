"""
Calls side by side for one answer: the first token wins, the others are stopped at once.
"""

from __future__ import annotations

import asyncio

from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Any, Generic, TypeVar

import attrs

from .._errors import StreamConsumedError
from .._stream import TokenStream
from .._values import Outcome, Usage
from ._sums import summed
from ._tasks import wind_up


ReplyT = TypeVar("ReplyT")
ChunkT = TypeVar("ChunkT")


@attrs.frozen(kw_only=True)
class Loser:
    """
    A call that was sent, and did not win.
    """

    index: int
    """
    Its place in the list; of a hedge 0 is the first call, and 1 the second.
    """

    outcome: Outcome
    """
    `ABORTED` where another one was faster.
    """

    error: Exception | None = None
    """
    What went wrong, where it failed by itself.
    """

    usage: Usage
    """
    What it cost. A stream that is stopped is not counted by its server, so this is an
    estimate: its prompt, once it was sent, and the pieces that came. "none": it was not
    sent, or was refused.
    """


class Contest(Generic[ReplyT, ChunkT]):
    """
    What a race and a hedge have in common: calls side by side, of which one wins.

    Once the first content of one is there (text, thinking, a refusal or a tool call) the
    others are stopped, their connections closed and their leases given back; only then the
    winner's stream is handed out. If that breaks later, this is its error: nobody is left to
    take its place. An answer that ends without any content wins only if no other call has
    any.
    """

    def __init__(self, streams: Iterable[TokenStream[ReplyT, ChunkT]]) -> None:
        self._streams = dict(enumerate(streams))
        self.winner: int | None = None
        """
        The place of the call that won; None before that, or if none did.
        """
        self.losers: tuple[Loser, ...] = ()
        """
        The others that were begun, in the order of their places.
        """
        self._stream: TokenStream[ReplyT, ChunkT] | None = None
        self._used = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._running: set[int] = set()
        # Those that ended before the first token, in this order.
        self._failed: set[int] = set()
        self._empty: list[int] = []

    @property
    def errors(self) -> tuple[Exception, ...]:
        """
        What the calls failed with that failed by themselves.
        """
        return tuple(one.error for one in self.losers if one.error is not None)

    @property
    def usage(self) -> Usage:
        """
        What it cost in all: the winner, so far, and the losers.
        """
        usages = [one.usage for one in self.losers]
        if self._stream is not None:
            usages.append(self._stream.usage)
        paid = [usage for usage in usages if usage.source != "none"]
        return summed(paid) if paid else Usage(source="none")

    # Running it ----------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, ReplyT]:
        """
        Wait for the winner's whole reply.

        Cancelled: all calls are; their connections are closed before this returns.

        Raises:
            APIError: All calls failed: the error of the first in the list, with the others'
                in its notes. Or: the winner broke off; its error.
            StreamConsumedError: It has been used before, or one of its streams has.
        """
        return self._answer().__await__()

    async def _answer(self) -> ReplyT:
        try:
            async with self as stream:
                return await stream.get_final_completion()
        finally:
            # An error that a loser keeps must not keep us.
            del self

    async def __aenter__(self) -> TokenStream[ReplyT, ChunkT]:
        """
        Wait for the first token; gives the winner's stream, with that token unread.

        Cancelled, and raises: as when it is awaited.
        """
        try:
            return await self._decide()
        finally:
            del self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._stream is not None
        await self._stream.__aexit__(kind, error, traceback)

    async def _decide(self) -> TokenStream[ReplyT, ChunkT]:
        self._check_fresh()
        self._used = True
        try:
            try:
                self._begin()
                await self._over.wait()
                if self.winner is None and self._empty:
                    self._win(self._empty[0])
                await self._wind_up()
            except BaseException as error:
                self._over.set()
                for stream in self._streams.values():
                    await stream.__aexit__(type(error), error, None)
                await self._wind_up()
                raise
            if self._stream is None:
                raise self._defeat()
            return await self._stream.__aenter__()
        finally:
            self._streams.clear()
            del self

    async def _wind_up(self) -> None:
        """
        End all but the winner, and wait: a connection that was being made needs a turn more.
        """
        self._end_others()
        await wind_up(self._tasks)
        for index, stream in self._streams.items():
            if index != self.winner and stream.error is not None:
                # Our frames in it would keep us, and the stream itself.
                stream.error.with_traceback(None)

    def _begin(self) -> None:
        """
        Send what is sent at once.
        """
        self._running.update(self._streams)
        for index in self._streams:
            self._start(index)

    def _start(self, index: int) -> None:
        task = asyncio.get_running_loop().create_task(self._contend(index))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _contend(self, index: int) -> None:
        """
        Wait until one call's first content is there, or it has ended without.
        """
        stream = self._streams[index]
        feed = stream.read_ahead()
        try:
            going = True
            while going and not _has_spoken(stream):
                going = await stream.advance()
        except Exception:  # noqa: BLE001, S110 -- the stream keeps it
            pass
        else:
            # A reader who comes now finds it all; one who goes on without, none of it.
            feed.sealed = True
            # What comes with the first content may have ended it.
            if stream.error is None and not self._over.is_set():
                if _has_spoken(stream):
                    self._win(index)
                else:
                    self._empty.append(index)
        finally:
            if not self._over.is_set():
                if stream.outcome is None:
                    # A stranger has cancelled this task, of which the stream knows nothing.
                    stream.abort("somebody cancelled this call")
                if stream.error is not None:
                    self._failed.add(index)
            self._running.discard(index)
            if not self._running:
                self._over.set()
            del self, stream

    def _win(self, index: int) -> None:
        """
        End all others: nothing is awaited, so in this very turn no other one can win.
        """
        self.winner, self._stream = index, self._streams[index]
        self._over.set()
        self._end_others()

    def _end_others(self) -> None:
        """
        Whatever has not won is over, and what it cost is known. Twice is fine.
        """
        losers = []
        for index, stream in self._streams.items():
            if index != self.winner:
                stream.abort("another call was faster")
                error = stream.error if index in self._failed else None
                loser = Loser(
                    index=index,
                    outcome=stream.outcome or Outcome.ABORTED,
                    error=error if isinstance(error, Exception) else None,
                    usage=_cost_of(stream),
                )
                losers.append(loser)
        self.losers = tuple(losers)

    def _defeat(self) -> Exception:
        """
        The first call's error, which tells of the others'.
        """
        first, *others = self.losers
        assert first.error is not None
        for one in others:
            said = f"{type(one.error).__name__}: {one.error}"
            first.error.add_note(
                f"call {one.index} of the {self._name} failed, too: {said}"
            )
        return first.error

    def _check_fresh(self) -> None:
        if self._used:
            raise StreamConsumedError(f"this {self._name} has been used: it runs once")
        for index, stream in self._streams.items():
            if not _is_fresh(stream):
                raise StreamConsumedError(
                    f"requests[{index}] is a stream that has been opened or is being"
                    " read: a race opens its streams itself"
                )

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()

    def __repr__(self) -> str:
        state = "open"
        if self.winner is not None:
            state = f"won by {self.winner}"
        elif self._used:
            state = "lost" if self._over.is_set() else "running"
        return f"<{type(self).__name__} {state}>"


# What is known of a stream -----------------------------------------------------------


def _has_spoken(stream: TokenStream[Any, Any]) -> bool:
    return stream.partial.tokens > 0


def _is_fresh(stream: TokenStream[Any, Any]) -> bool:
    touched = stream._attempts or stream.outcome or stream._being_opened()
    return not (touched or stream._entered or stream._taken)


def departed(stream: TokenStream[Any, Any]) -> float | None:
    """
    When its request went out, by the loop's clock; None where it waits for its turn or its
    next attempt, or has no connection yet.
    """
    attempts = stream._attempts
    return attempts.sent if attempts is not None and attempts._departed else None


def _cost_of(stream: TokenStream[Any, Any]) -> Usage:
    """
    What it cost: of a request that went out and was not refused at least the prompt.
    """
    if stream.meta.status is None and departed(stream) is not None:
        return stream._intake.assembly.usage(prompt_bytes=stream._prompt_bytes)
    return stream.usage
