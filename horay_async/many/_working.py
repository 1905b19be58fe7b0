"""
The moving part of a job: who pulls, who asks, and how it all ends.

One task pulls from the source, only as fast as there is room, and starts a task for each
row. They are plain tasks of the job's own, as its rows are read by a loop of the user's: a
task group would have to be left open across each of its turns.
"""

from __future__ import annotations

import asyncio

from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from functools import partial
from typing import Any, Final, Self, TypeVar

from .._errors import (
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    JournalError,
    StreamAbortedError,
    WrongLoopError,
)
from .._line import Line
from ._arguments import Order, Terms
from ._asked import Asked
from ._asking import asking
from ._away import Away
from ._keeping import Keeping
from ._ledger import Ledger
from ._outlet import Outlet
from ._progress import Progress
from ._rows import Row, RowToken
from ._slots import Slots
from ._source import END, Source, asked
from ._tasks import wind_up
from ._ticker import Ticker


T = TypeVar("T")

AHEAD: Final[Mapping[Order, int]] = {"done": 2, "input": 4}
"""
How many rows may be under way or wait for the reader, for each of `concurrency`.

Twice keeps all workers busy while the reader is, for a moment, not, or while rows wait for
their retries. In the order of the input finished rows also wait for one that takes longer
than others, so there are more.
"""

_BREATH: Final = 100
"""
How many rows that the journal has may follow each other before other tasks get a turn.
"""


class Work:
    """
    One job at work.
    """

    __slots__ = (
        "__weakref__",
        "_ahead",
        "_asking",
        "_away",
        "_begun",
        "_disturbed",
        "_ended",
        "_error",
        "_feeder",
        "_keeper",
        "_keeping",
        "_loop",
        "_outlet",
        "_pulled",
        "_room",
        "_slots",
        "_source",
        "_stopped",
        "_tasks",
        "_ticker",
        "_untold",
        "progress",
    )

    def __init__(
        self,
        line: Line,
        requests: Iterable[Any] | AsyncIterable[Any],
        *,
        terms: Terms,
        ledger: Ledger,
        arguments: Mapping[str, Any],
    ) -> None:
        """
        Made by `client.map(...)`.
        """
        self.progress: Progress = Progress(ledger, total=terms.total)
        """
        How far it is; live.
        """
        self._outlet = Outlet(terms.order)
        self._room = asyncio.Event()
        self._away = Away(
            terms.patience, progress=self.progress, changed=self._room.set
        )
        self._asking = asking(
            line,
            arguments,
            ledger=ledger,
            stream=terms.stream,
            tell=self._outlet.tell,
            away=self._away,
            retried=self.progress._retried,
        )
        self._ahead = AHEAD[terms.order] * terms.concurrency
        self._slots = Slots(
            line.governor,
            terms.concurrency,
            changed=self._room.set,
            retried=self.progress._retried,
        )
        self._keeping: Keeping | None = None
        if terms.journal is not None:
            self._keeping = Keeping(
                terms.journal,
                retry_failed=terms.retry_failed,
                order=terms.order,
                progress=self.progress,
            )
        self._ticker: Ticker | None = None
        if terms.on_progress is not None:
            self._ticker = Ticker(terms.on_progress, self.progress)
        self._source = Source(requests)
        # Known when the first row is asked for, or the journal is opened.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._feeder: asyncio.Task[None] | None = None
        # What ends the journal, when all else has ended.
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pulled = self._begun = 0
        # Whether no more is pulled; whether what is under way is given up as well.
        self._ended = self._stopped = False
        # Whether somebody cancelled a task of ours: perhaps the loop is about to end.
        self._disturbed = False
        # What the reader gets after the last row, where that is not all; and what nobody
        # has been told, be it that or something that happened later.
        self._error: BaseException | None = None
        self._untold: Exception | None = None

    # Handing over --------------------------------------------------------------------

    async def _next(self) -> Row[Any] | RowToken:
        """
        The next one, for the reader; cancelling loses none.
        """
        self._begin()
        outlet = self._outlet
        while self._stopped or not outlet:
            if self._stopped or not self._tasks:
                if self._untold is self._error:
                    self._untold = None
                raise self._error or StopAsyncIteration
            outlet.news.clear()
            await outlet.news.wait()
        self._room.set()
        return outlet.take()

    def _stay(self) -> None:
        """
        A job stays on the loop on which it was begun.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongLoopError(
                "this job was begun on another event loop: read it there"
            )

    def _begin(self) -> None:
        self._stay()
        if self._feeder is None and not self._ended:
            self.progress._begin()
            self._feeder = self._start(self._feed())
            self._feeder.add_done_callback(self._left)
            self._asking.line.waiting.add(self._feeder)

    async def open(self) -> Self:
        """
        Open the journal, if there is one; `async with` and `async for` do it too.

        Raises:
            JournalLockedError: Another process, or another job, is writing it.
            JournalError: It cannot be read or written, or is no journal.
        """
        self._stay()
        if self._keeping is not None and not self._ended:
            await self._keeping.open()
        return self

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
            await self.open()
            take = self._source.open()
            while await self._feed_one(take):
                pass
        except (Exception, asyncio.CancelledError) as error:
            if self._stopped:
                raise
            if self._error is None:
                self._disturbed = isinstance(error, asyncio.CancelledError)
                self._error = self._told(error)
        finally:
            self._ended = True
            assert self._feeder is not None
            self._asking.line.waiting.discard(self._feeder)
            await self._source.close()

    async def _feed_one(self, take: Callable[[], Awaitable[Any]]) -> bool:
        """
        One request more; False: there is none.
        """
        await self._until_room()
        given = await take()
        # An async source may give something although it was cancelled: too late.
        if given is END or self._ended:
            return False
        one = asked(self._pulled, given)
        self._pulled += 1
        self._asking.bind(one)
        if self._keeping is not None and self._keeping.has(one):
            self._changed()
            if self.progress.skipped % _BREATH == 0:
                await asyncio.sleep(0)
            return True
        if one.error is None:
            await self._reserve(one)
        # In the meantime a row may have come back from waiting for its retry.
        if not self._slots.open:
            try:
                await self._until_room()
            except BaseException:
                one.release()
                raise
        one.slot = self._slots.begin()
        self._away.began()
        one.place = self._begun
        self._begun += 1
        self.progress._started()
        self._changed()
        task = self._start(self._work(one))
        task.add_done_callback(partial(self._answered, one))
        return True

    async def _reserve(self, one: Asked) -> None:
        try:
            one.reservation = await self._asking.reserve(one.request)
        except ConfigurationError as error:
            # No price for the model: of strings that is true of all, so it ends the job.
            if isinstance(one.item, str):
                raise
            one.error = error

    async def _until_room(self) -> None:
        """
        Wait until one more row may be asked.

        Raises:
            ClientClosedError: None will be.
        """
        while (
            not self._slots.open
            or self._away.waits
            or self._begun - self._outlet.passed >= self._ahead
        ):
            self._room.clear()
            await self._room.wait()
        if self._asking.line.session.closed:
            raise self._told(asyncio.CancelledError())

    async def _work(self, one: Asked) -> None:
        """
        One row, until it may be handed over.
        """
        assert one.slot is not None
        try:
            one.row = await self._asking.row(one)
            if self._keeping is not None:
                # The disk may take its time: meanwhile another row is asked. Who was asked
                # has left already.
                one.slot.leave()
                await self._write(one, self._keeping)
        except asyncio.CancelledError as cancelled:
            if self._keeping is not None and one.row is None and one.came:
                one.row = one.cut_off()
                await self._write(one, self._keeping)
            # The task keeps it, and some frames of its traceback know the task.
            raise cancelled.with_traceback(None) from None
        finally:
            # Errors keep frames, and from Python 3.12 on those that called them: the job and
            # its unread rows shall not wait for the collector with them.
            del self, one

    async def _write(self, one: Asked, keeping: Keeping) -> None:
        try:
            await keeping.write(one)
        except JournalError as error:
            one.unwritten = True
            self._give_up(error)

    def _answered(self, one: Asked, task: asyncio.Task[None]) -> None:
        assert one.slot is not None
        try:
            one.slot.leave()
            one.release()
            row, one.row = one.row, None
            # Cancelled by us: then without an answer there is nothing to tell. Or by a
            # stranger.
            if row is None and task.cancelled() and (one.came or not self._stopped):
                row = one.cut_off()
            if row is None:
                self.progress._dropped()
            else:
                self.progress._finished(row)
                self._outlet.put(one, row)
            self._room.set()
            if self._away.spent is not None:
                self._ask_no_more(self._away.spent)
        finally:
            self._left(task)

    def _left(self, task: asyncio.Task[Any]) -> None:
        """
        A task is over; if it failed, by a mistake of ours, so does the job.
        """
        self._tasks.discard(task)
        self._changed()
        self._outlet.news.set()
        if not self._stopped:
            if not task.cancelled():
                if (error := task.exception()) is not None:
                    self._stop(error)
            elif task is self._feeder:
                # Before it was begun: later it catches that.
                self._stop(self._told(asyncio.CancelledError()))
            else:
                self._disturbed = True
        if task is self._feeder and task.cancelled():
            self._feeder = None  # it holds us, by its traceback
        if self._ended and not self._tasks:
            self._conclude()

    def _changed(self) -> None:
        if self._ticker is not None:
            self._ticker.changed(self._give_up)

    def _ask_no_more(self, error: Exception) -> None:
        """
        The reader gets the error when what is under way is over.
        """
        self._error = self._error or error
        if not self._ended:
            self._ended = True
            # It may be waiting for a source that has nothing to give for hours.
            assert self._feeder is not None
            self._feeder.cancel()

    def _give_up(self, error: Exception) -> None:
        """
        The same, of what has to be told even to whoever reads no more.
        """
        self._untold = self._untold or error
        self._ask_no_more(error)

    def _conclude(self) -> None:
        """
        All rows are over, and the source is closed.
        """
        if self._error is None and (why := self._asking.ledger.why) is not None:
            # It was a later turn of a conversation that found the budget used up.
            self._error = BudgetExceededError(why)
        if self._keeping is not None:
            if not (self._keeper or self._stopped or self._disturbed):
                # Whoever reads waits for that.
                self._keeper = self._start(self._end_journal(self._keeping))
                self._keeper.add_done_callback(self._left)
                return
            self._keeping.let_go()
        self.progress._ended()
        if self._ticker is not None:
            self._ticker.end(self._give_up)

    async def _end_journal(self, keeping: Keeping) -> None:
        try:
            await keeping.end(well=self._error is None)
        except JournalError as error:
            self._give_up(error)

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

    # Ending --------------------------------------------------------------------------

    async def _end(self) -> None:
        """
        Give up what is left, and wait until all has ended.

        Raises:
            JournalError: Its last lines may be lost.
            Exception: What the source raised when it was closed, or `on_progress`.
        """
        self._close()
        await wind_up(self._tasks)
        if asyncio.current_task() in self._tasks:
            return
        # Where nothing was begun nobody else does.
        await self._source.close()
        if self._keeping is not None:
            await self._keeping.end(well=False)
        feeder, self._feeder = self._feeder, None
        if feeder is not None and not feeder.cancelled():
            feeder.result()
        error, self._untold = self._untold, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    def _close(self) -> None:
        if self._tasks or self._outlet or not self._ended:
            self._stop(StreamAbortedError("the job was closed before its end"))

    def _stop(self, error: BaseException) -> None:
        """
        Give up what is under way; the reader gets the error.
        """
        if not self._stopped:
            self._ended = self._stopped = True
            self._error = error
            self._outlet.news.set()
            for task in self._tasks:
                task.cancel()
