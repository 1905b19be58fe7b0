"""
A job: many requests in, a row for each out, some of them under way at any time.

One task pulls from the source, only as fast as there is room, and starts a task for each
row. They are plain tasks of the job's own, as its rows are read by a loop of the user's: a
task group would have to be left open across each of its turns.
"""

from __future__ import annotations

import asyncio
import contextlib

from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar, final, get_args

from .._errors import (
    ClientClosedError,
    ConfigurationError,
    StreamAbortedError,
    StreamConsumedError,
    WrongLoopError,
)
from .._line import Line
from .._requests import ChatRequest, CompletionRequest
from ._asking import asking, cut_off
from ._rows import Asked, Conversation, ReplyT, Row, asked
from ._tasks import wind_up


T = TypeVar("T")

Order = Literal["done", "input"]
"""
In which order rows come: as they are done, or as their requests were given.
"""

AHEAD: Final[Mapping[Order, int]] = {"done": 2, "input": 4}
"""
How many rows may be under way or wait for the reader, for each of `concurrency`.

Twice keeps all workers busy while the reader is, for a moment, not. In the order of the
input finished rows also wait for one that takes longer than others, so there are more.
"""

_END: Final = object()


@final
class Job(Generic[ReplyT]):
    """
    Many requests at work: `async for row in job`.

    Use it in `async with`: whatever ends the loop or the block cancels what is under way and
    closes its connections before the block is left, and closes the source if it is a
    generator. A bare `async for` does the same soon after its loop is left. A job is read by
    one loop.

    Nothing is sent before the first row is asked for. Cancelling the wait for a row loses
    none: the next wait goes on. What was answered when the job was left is in `unread`.

    A job that was closed before its end raises `StreamAbortedError` to whoever reads on; a
    second loop over one that is read, or was read to its end, `StreamConsumedError`.
    """

    __slots__ = (
        "__weakref__",
        "_ahead",
        "_asking",
        "_concurrency",
        "_delivered",
        "_ended",
        "_error",
        "_feeder",
        "_late",
        "_loop",
        "_news",
        "_pulled",
        "_ready",
        "_room",
        "_source",
        "_stopped",
        "_taken",
        "_tasks",
        "done",
        "failed",
        "in_flight",
    )

    def __init__(
        self,
        line: Line,
        requests: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int,
        order: Order,
        arguments: Mapping[str, Any],
    ) -> None:
        """
        Made by `client.map(...)`.
        """
        _check(requests, concurrency, order)
        self._asking = asking(line, arguments)
        self._concurrency = concurrency
        self._ahead = AHEAD[order] * concurrency
        self.done: int = 0
        """
        Rows that are finished, those that failed included.
        """
        self.failed: int = 0
        """
        Rows that ended in an error.
        """
        self.in_flight: int = 0
        """
        Rows that are being asked.
        """
        self._source: Any = requests
        self._taken = False
        # Known when the first row is asked for.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pulled = self._delivered = 0
        self._room = asyncio.Event()
        # Whether no more is pulled; whether what is under way is given up as well.
        self._ended = self._stopped = False
        # What the reader gets after the last row, where that is not all.
        self._error: BaseException | None = None
        self._news = asyncio.Event()
        self._ready: deque[Row[Any]] = deque()
        # Rows that wait for those before them.
        self._late: dict[int, Row[Any]] | None = {} if order == "input" else None

    @property
    def unread(self) -> Sequence[Row[ReplyT]]:
        """
        What was paid for and not read: the rows that are finished.

        Once the job is closed also the conversations that were cut off, with the answers
        they have and `StreamAbortedError` as their error.
        """
        late = self._late or {}
        return (*self._ready, *(late[index] for index in sorted(late)))

    # Reading -------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Row[ReplyT]]:
        if self._taken:
            raise StreamConsumedError(
                "this job has been read, or is being read: a job is read by one loop"
            )
        self._taken = True
        return _Rows(self)

    async def _next(self) -> Row[ReplyT]:
        """
        The next row, for the readers; cancelling loses none.
        """
        self._begin()
        while self._stopped or not self._ready:
            if self._stopped or not self._tasks:
                raise self._error or StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        self._delivered += 1
        self._room.set()
        return self._ready.popleft()

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            if not self._ended:
                self._feeder = self._start(self._feed())
                self._feeder.add_done_callback(self._left)
                self._asking.line.waiting.add(self._feeder)
        elif self._loop is not loop:
            raise WrongLoopError(
                "this job was begun on another event loop: read it there"
            )

    # Working -------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        return task

    async def _feed(self) -> None:
        """
        Pull and ask, as long as there is room.

        The one task that touches the source, and closes it: a generator may hold what
        belongs to the task that it runs in, a timeout or a task group.
        """
        try:
            # An eager loop begins it at once, before the job knows of its task.
            await asyncio.sleep(0)
            take = self._open_source()
            while True:
                await self._until_room()
                given = await take()
                # An async source may give something although it was cancelled: too late.
                if given is _END or self._stopped:
                    break
                self.in_flight += 1
                one = asked(self._pulled, given)
                self._pulled += 1
                task = self._start(self._asking.row(one))
                task.add_done_callback(partial(self._answered, one))
        except (Exception, asyncio.CancelledError) as error:
            if self._stopped:
                raise
            self._error = self._told(error)
        finally:
            self._ended = True
            if self._feeder is not None:
                self._asking.line.waiting.discard(self._feeder)
            await self._close_source()

    async def _until_room(self) -> None:
        """
        Wait until one more row may be asked.

        Raises:
            ClientClosedError: None will be.
        """
        while (
            self.in_flight >= self._concurrency
            or self._pulled - self._delivered >= self._ahead
        ):
            self._room.clear()
            await self._room.wait()
        if self._asking.line.session.closed:
            raise self._told(asyncio.CancelledError())

    def _answered(self, asked: Asked, task: asyncio.Task[Row[Any]]) -> None:
        self.in_flight -= 1
        self._room.set()
        if task.cancelled():
            # By us: then without an answer there is nothing to tell. Or by a stranger.
            if asked.replies or not self._stopped:
                self._hand_over(cut_off(asked))
        elif not task.exception():
            self._hand_over(task.result())
        self._left(task)

    def _left(self, task: asyncio.Task[Any]) -> None:
        """
        A task is over; if it failed, by a mistake of ours, so does the job.
        """
        self._tasks.discard(task)
        self._news.set()
        if self._stopped:
            return
        if not task.cancelled():
            if (error := task.exception()) is not None:
                self._stop(error)
        elif task is self._feeder:
            # Before it was begun: later it catches that.
            self._stop(self._told(asyncio.CancelledError()))

    def _told(self, error: BaseException) -> BaseException:
        """
        An error as the reader may get it: some mean something to a loop or to a task group,
        and would pass there for a good end.
        """
        told = error
        if isinstance(error, asyncio.CancelledError):
            if self._asking.line.session.closed:
                return ClientClosedError("the client was closed during this job")
            told = RuntimeError(
                "somebody cancelled the source of this job, or what it waits for"
            )
        elif isinstance(error, StopAsyncIteration):
            told = RuntimeError("the source of this job raised StopAsyncIteration")
        if told is not error:
            told.__cause__ = error
        return told

    def _hand_over(self, row: Row[Any]) -> None:
        self.done += 1
        self.failed += row.error is not None
        if self._late is None:
            self._ready.append(row)
        else:
            self._late[row.index] = row
            due = self._delivered + len(self._ready)
            while due in self._late:
                self._ready.append(self._late.pop(due))
                due += 1
        self._news.set()

    # Leaving -------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        End the job: what is under way is cancelled, and its connections are closed.

        Returns when all of it has ended and the source, if it is a generator, is closed.
        Twice is fine. Whoever still reads gets `StreamAbortedError`.

        Called by the source itself it returns when all else has ended.

        Cancelled: it all ends nevertheless; what hesitates is cancelled once more.

        Raises:
            Exception: What the source raised when it was closed.
        """
        if self._loop not in (None, asyncio.get_running_loop()):
            raise WrongLoopError(
                "this job was begun on another event loop: close it there"
            )
        self._close()
        await wind_up(self._tasks)
        if asyncio.current_task() in self._tasks:
            return
        # Where nothing was begun nobody else does.
        await self._close_source()
        feeder, self._feeder = self._feeder, None
        if feeder is not None and not feeder.cancelled():
            feeder.result()

    def _close(self) -> None:
        if self._tasks or self._ready or not self._ended:
            self._stop(StreamAbortedError("the job was closed before its end"))

    def _stop(self, error: BaseException) -> None:
        """
        Give up what is under way; the reader gets the error.
        """
        if not self._stopped:
            self._ended = self._stopped = True
            self._error = error
            self._news.set()
            for task in self._tasks:
                task.cancel()

    def _open_source(self) -> Callable[[], Awaitable[Any]]:
        """
        What takes the next request from the source, or `_END`.
        """
        if isinstance(self._source, AsyncIterable):
            waited = self._source = aiter(self._source)
            return lambda: anext(waited, _END)
        at_hand = self._source = iter(self._source)

        async def take() -> Any:
            return next(at_hand, _END)

        return take

    async def _close_source(self) -> None:
        # Of what it was given only generators are the job's to close: a file is not.
        source, self._source = self._source, None
        if isinstance(source, AsyncGenerator):
            await source.aclose()
        elif isinstance(source, Generator):
            source.close()

    def _abandon(self) -> None:
        """
        The reader is gone without a word; this may run on any thread, in the middle of
        anything, so all is left to the loop's next turn.
        """
        if self._loop is not None:
            # Of a loop that is closed all tasks have ended.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._close)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self.done} done, {self.failed} of them failed,"
            f" {self.in_flight} in flight>"
        )


@final
class _Rows(Generic[ReplyT]):
    """
    The one loop over a job: leaving it closes the job, in `async with` or out of it.

    CPython collects this object at `break`, as nothing but the loop refers to it.
    """

    __slots__ = ("_job",)

    def __init__(self, job: Job[ReplyT]) -> None:
        self._job = job

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Row[ReplyT]:
        """
        Wait for the next row; cancelling loses none.

        Raises:
            ClientClosedError: The client was closed; some requests were never sent.
            StreamAbortedError: The job was closed.
            Exception: The source's own, after the rows of all that it had given.
        """
        return await self._job._next()

    def __del__(self) -> None:
        self._job._abandon()


# Before anything is sent -------------------------------------------------------------


def _check(requests: Any, concurrency: Any, order: Any) -> None:
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise ConfigurationError(
            f"concurrency is {concurrency!r}, expected a whole number"
        )
    if concurrency < 1:
        raise ConfigurationError(f"concurrency is {concurrency}, expected 1 or more")
    if order not in get_args(Order):
        words = " or ".join(map(repr, get_args(Order)))
        raise ConfigurationError(f"order is {order!r}, expected {words}")
    one = (str, bytes, ChatRequest, CompletionRequest, Conversation)
    if isinstance(requests, one):
        kind = type(requests).__name__
        msg = f"requests is one {kind}, expected many: pass [request]"
        raise TypeError(msg)
    if isinstance(requests, Mapping):
        msg = "requests is a mapping: pass its items(), and its keys are the ids"
        raise TypeError(msg)
    if not isinstance(requests, (Iterable, AsyncIterable)):
        kind = type(requests).__name__
        msg = f"requests is a {kind}, expected an iterable or an async iterable"
        raise TypeError(msg)
