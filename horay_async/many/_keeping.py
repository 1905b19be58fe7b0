"""
A job's journal as the job sees it: what it has already, and what goes into it.
"""

from __future__ import annotations

import asyncio
import os

from typing import Any

import attrs

from .._events import logger
from ._arguments import Order
from ._asked import Asked
from ._journal import Journal
from ._progress import Progress
from ._results import digest_of, result_line
from ._rows import Conversation


class Keeping:
    """
    One job's.
    """

    __slots__ = ("_lock", "_order", "_path", "_progress", "_retry_failed", "journal")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retry_failed: bool,
        order: Order,
        progress: Progress,
    ) -> None:
        self._path = path
        self._retry_failed = retry_failed
        self._order: Order = order
        self._progress = progress
        self._lock = asyncio.Lock()
        self.journal: Journal | None = None
        """
        None: it is not open yet.
        """

    async def open(self) -> Journal:
        """
        Lock and read it. Twice is fine.

        Raises:
            JournalError: It cannot be had, or is no journal.
        """
        async with self._lock:
            if self.journal is None:
                self.journal = await Journal.open(
                    self._path, retry_failed=self._retry_failed
                )
            return self.journal

    def has(self, asked: Asked) -> bool:
        """
        Whether a row is in it already and need not be asked. Called once for each row, in
        the order of the input, when it is bound.
        """
        assert self.journal is not None
        item: Any = asked.error or asked.request
        if asked.error is None and isinstance(asked.item, Conversation):
            item = attrs.evolve(asked.item, opening=item)
        digest = digest_of(item)
        asked.claim = claim = self.journal.claim(asked.index, asked.id, digest)
        if claim.skip:
            self._progress._skipped(failed=claim.state == "failed")
            return True
        if claim.state == "changed":
            self._progress._changed()
            # Once: where one has changed there may be as many as there are rows.
            if self._progress.changed == 1:
                logger.warning(
                    "row %d (%r) is asked again: its request is not the one that %s was"
                    " written for. Of further ones only progress.changed tells.",
                    asked.index,
                    asked.id,
                    self.journal.path,
                )
        return False

    async def write(self, asked: Asked) -> None:
        """
        Wait until what became of a row is in the file. Cancelled: it gets there.

        Raises:
            JournalError: The file cannot take it.
        """
        assert self.journal is not None
        assert asked.row is not None
        assert asked.claim is not None
        line = result_line(asked.row, claim=asked.claim)
        await self.journal.write(asked.claim, line)

    def let_go(self) -> None:
        """
        Have it closed as it is, with all that was given to `write`: its thread does that,
        whether or not anybody waits. Twice is fine.
        """
        if self.journal is not None:
            self.journal.let_go()

    async def end(self, *, well: bool) -> None:
        """
        Let go of the file, with all that was written.

        Args:
            well: Whether every row is over: then the file is put in order.

        Raises:
            JournalError: The last lines may be lost, or are not in order.
        """
        if self.journal is None:
            return
        try:
            if well:
                await self.journal.finish(order=self._order)
        finally:
            await self.journal.aclose()
