"""
A job's journal: a line for each row in a file, written before the row is handed over.

A thread owns the file. It writes lines as they come, and waits for the disk now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time

from typing import Any, Final, final

from .._errors import JournalError
from .._values import counted
from ._arguments import Order
from ._compaction import compact
from ._index import Claim, Counts, Index, State
from ._journal_file import JournalFile, reason


__all__ = ["Claim", "Counts", "Journal"]

SYNC_LINES: Final = 100

SYNC_SECONDS: Final = 0.05
"""
A power cut costs at most so many lines, or those of this time. One wait for the disk takes
some milliseconds: for each line it would take longer than the server does.
"""


@final
class Journal:
    """
    The lines of one job's rows: those of earlier runs, and this one's.

    One job at a time has it; where the process is killed the system lets go of it. It is
    used on the loop on which it was opened, and ended by `finish` or `aclose`.
    """

    __slots__ = (
        "_index",
        "_retry_failed",
        "_writer",
        "changed",
        "counts",
        "matched",
        "repeated",
    )

    def __init__(self, writer: _Writer, *, retry_failed: bool) -> None:
        """
        Made by `open`.
        """
        self._writer = writer
        self._index = writer.index
        self._retry_failed = retry_failed
        self.counts: Counts = writer.counts
        """
        What it held when it was opened.
        """
        self.repeated: int = 0
        """
        How many rows have an id that a row before them had.
        """

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        retry_failed: bool = False,
    ) -> Journal:
        """
        Lock the file, mend its last line, and take up what it holds.

        A last line that broke off is cut off. One in the middle that cannot be read stays
        where it is. Both are told in the log, and their rows are asked again.

        Args:
            retry_failed: Whether rows that failed are to be asked again.

        Cancelled: waits until it is let go, which is soon; once more, and it does not.

        Raises:
            JournalLockedError: Another process, or another job, is writing it.
            JournalError: It cannot be read or written; or it is no journal, and was not
                touched.
        """
        writer = _Writer(os.fsdecode(path))
        opened = writer.start()
        try:
            await opened
        except asyncio.CancelledError:
            writer.end(None)
            await writer.until_gone()  # or the next to open it would be refused
            raise
        finally:
            del opened  # its error would keep this frame, and so itself
        return cls(writer, retry_failed=retry_failed)

    @property
    def path(self) -> str:
        """
        The file itself, where a link was named.
        """
        return str(self._writer.file.path)

    @property
    def former(self) -> int:
        """
        How many answers to other requests were set aside in its clean end.
        """
        return self._writer.file.former

    @property
    def former_path(self) -> str:
        """
        Where they are, with those of earlier runs.
        """
        return str(self._writer.file.former_path)

    def claim(self, index: int, name: str, digest: bytes) -> Claim:
        """
        Find a row's place: call it once for each, in the order of the input.

        Rows with the same id are told apart by their order.
        """
        claim = self._index.claim(index, name, digest, retry_failed=self._retry_failed)
        self.repeated += claim.nth > 0
        return claim

    def look(self, name: str, nth: int, digest: bytes) -> State:
        """
        What the *nth* row of an id would be. Nothing is claimed; before the first claim.
        """
        return self._index.look(name, nth, digest)

    async def write(self, claim: Claim, line: bytes) -> None:
        """
        Wait until a row's line is written, so that nothing but a power cut can undo it.

        Under load that may take some milliseconds. Cancelled: it is written nevertheless.

        Raises:
            JournalError: The file takes no more; it says why, and what was kept.
        """
        await self._writer.put(claim, line)

    async def finish(self, *, order: Order = "done") -> None:
        """
        End it well: each row has one line then, in the order asked for. What a row had been
        answered to another request is not deleted, but goes to `former_path`.

        Cancelled: the file is left as it is; it holds all lines.

        Raises:
            JournalError: It has failed: some lines may be lost, or all are there but not in
                order.
        """
        self._writer.end(order)
        try:
            await self._writer.until_over(well=True)
        except asyncio.CancelledError:
            self._writer.end(None)
            raise

    async def aclose(self) -> None:
        """
        Let it go, when all that was given to `write` is written. Twice is fine.

        Cancelled: that ends by itself.

        Raises:
            JournalError: It has failed, and no `write` has said so.
        """
        self.let_go()
        await self._writer.until_over()

    def let_go(self) -> None:
        """
        The same, without a wait: its thread does it.
        """
        self._writer.end(None)

    def __del__(self) -> None:
        self.let_go()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"


_Line = tuple[Claim, bytes, "asyncio.Future[None]"]


class _Writer:
    """
    The thread, and what it shares with the loop.

    A daemon: a disk that hangs must not keep a process alive.
    """

    def __init__(self, path: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._queue: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._order: Order | None = None
        # Whether somebody waits for its end; whether nothing is to be put in order.
        self._ending = self._leaving = False
        # Why it takes no more.
        self._broken: str | None = None
        self._told = False
        self._unsynced = 0
        self.index = Index()
        self.counts = Counts()
        self.file: JournalFile
        self._over: asyncio.Future[None] = self._loop.create_future()

    # On the loop ---------------------------------------------------------------------

    def start(self) -> asyncio.Future[None]:
        """
        Begin to open it; wait for the future.
        """
        opened = self._loop.create_future()
        threading.Thread(
            target=self._run, args=(opened,), name="horay-journal", daemon=True
        ).start()
        return opened

    def put(self, claim: Claim, line: bytes) -> asyncio.Future[None]:
        """
        Have a line written.
        """
        written = self._loop.create_future()
        if self._broken is not None or self._ending:
            written.set_exception(self._error())
        else:
            self._queue.put((claim, line, written))
        return written

    def end(self, order: Order | None) -> None:
        """
        Have it ended: put in order, or else left as it is.
        """
        if order is None:
            self._leaving = True
        if not self._ending:
            self._ending, self._order = True, order
            self._queue.put(None)

    async def until_over(self, *, well: bool = False) -> None:
        """
        Wait until the thread has let go of the file.

        Raises:
            JournalError: It has failed, and no row was told so, or it should end *well*.
        """
        await self.until_gone()
        if self._broken is not None and (well or not self._told):
            raise self._error()

    async def until_gone(self) -> None:
        """
        The same, however it has ended.
        """
        await asyncio.wait([self._over])

    def _error(self) -> JournalError:
        self._told = True
        return JournalError(self._broken or f"the journal {self._path!r} was closed")

    def _settle(self, batch: list[_Line], whole: int) -> None:
        for number, (_, _, written) in enumerate(batch):
            if not written.done():  # or whoever waited was cancelled
                _settled(written, self._error() if number >= whole else None)

    def _finished(self) -> None:
        # Where the thread failed in a way that nobody thought of, some lines still wait.
        with contextlib.suppress(queue.Empty):
            while True:
                if (line := self._queue.get_nowait()) is not None:
                    self._settle([line], 0)
        self._over.set_result(None)

    # In the thread -------------------------------------------------------------------

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            self.file = JournalFile(self._path)
            try:
                self.counts = self.file.read(self.index, lambda: self._leaving)
                self._tell(_settled, opened)
                self._work()
            finally:
                self.file.close()
        except Exception as error:  # noqa: BLE001 -- somebody waits for it
            self._broken = f"the journal {self._path!r} failed: {error!r}"
            self._tell(_settled, opened, error.with_traceback(None))
        self._tell(self._finished)

    def _work(self) -> None:
        due: float | None = None
        ended = False
        while not ended:
            batch, ended = self._taken(due)
            if batch:
                self._write(batch)
                due = due or time.monotonic() + SYNC_SECONDS
            if self._unsynced >= SYNC_LINES or ended or _is_past(due):
                self._sync()
                due = None
        if self._order is not None and self._broken is None:
            self._compact(self._order)

    def _taken(self, due: float | None) -> tuple[list[_Line], bool]:
        """
        All lines that there are, waiting for the first one; and whether they are the last.
        """
        batch: list[_Line] = []
        patience = None if due is None else max(0.0, due - time.monotonic())
        try:
            while (line := self._queue.get(timeout=patience)) is not None:
                batch.append(line)
                patience = 0
        except queue.Empty:
            return batch, False
        return batch, True

    def _write(self, batch: list[_Line]) -> None:
        whole = 0
        try:
            if self._broken is None:
                starts, error = self.file.append([line for _, line, _ in batch])
                whole = len(starts)
                for (claim, _, _), start in zip(batch, starts, strict=False):
                    self.index.written(claim, start)
                self._unsynced += whole
                if error is not None:
                    self._broken = (
                        f"the journal {self._path!r} cannot be written"
                        f" ({reason(error)}): its {counted(self.file.lines, 'line')} so"
                        " far are kept; mend that, and run it again to go on"
                    )
        finally:
            self._tell(self._settle, batch, whole)

    def _sync(self) -> None:
        if not self._unsynced:
            return
        try:
            self.file.sync()
        except OSError as error:
            self._broken = self._broken or (
                f"the journal {self._path!r} cannot be kept ({reason(error)}): of its"
                f" {counted(self.file.lines, 'line')} the last {self._unsynced} may be lost"
            )
        self._unsynced = 0

    def _compact(self, order: Order) -> None:
        try:
            compact(self.file, self.index, order, lambda: self._leaving)
        except OSError as error:
            self._broken = (
                f"the journal {self._path!r} has all its lines, but cannot be put in order"
                f" ({reason(error)}): run it again to have it done"
            )

    def _tell(self, act: Any, *arguments: Any) -> None:
        # Nobody waits on a closed loop.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act, *arguments)


def _is_past(due: float | None) -> bool:
    return due is not None and time.monotonic() >= due


def _settled(future: asyncio.Future[None], error: Exception | None = None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
