"""
A server that goes away for a while: the job waits for it, instead of losing its rows.

Where a call failed because no server was there, its row is kept, and no new one is begun. One
of the rows that wait so asks now and then, and each time one new row after it: it may be the
prompts that wait which the server does not bear. When any call is answered all go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import math

from collections.abc import Callable
from typing import Final

from .._errors import APIError
from .._events import logger
from .._policy import INSTANT
from ._asked import Asked
from ._faults import is_away
from ._progress import Progress


FIRST_PAUSE: Final = 1.0
"""
Seconds until the server is asked again; then twice as many each time.
"""

LONGEST_PAUSE: Final = 15.0

RETURNS: Final = 2
"""
How often a row may come back from such a wait, because others were answered, and fail so
again: then it is the row's own failure, a prompt that takes a gateway too long, say.
"""


class Away:
    """
    Whether the server is there, as one job sees it.
    """

    __slots__ = (
        "_absent",
        "_changed",
        "_fresh",
        "_known",
        "_news",
        "_patience",
        "_pause",
        "_probe",
        "_progress",
        "_since",
        "spent",
    )

    def __init__(
        self, patience: float, *, progress: Progress, changed: Callable[[], None]
    ) -> None:
        """
        Args:
            patience: For how many seconds it is waited for; 0: not at all.
            changed: Called when `waits` may have become false.
        """
        self._patience = patience
        self._progress = progress
        self._changed = changed
        # Whether it has ever answered: who mistyped an address need not wait for it.
        self._known = False
        # Since when it has been away.
        self._since: float | None = None
        self.spent: APIError | None = None
        """
        The last failure, once it has been away for too long: nobody new need be asked.
        """
        self._pause = FIRST_PAUSE
        # The rows that wait for it, and the one of them that asks.
        self._absent: set[Asked] = set()
        self._probe: Asked | None = None
        # Whether a new one may, too.
        self._fresh = False
        self._news = asyncio.Event()

    @property
    def waits(self) -> bool:
        """
        Whether no row shall be begun, as those wait that were.
        """
        if self._since is None or self.spent or self._fresh:
            return False
        return bool(self._absent)

    def began(self) -> None:
        """
        A row was begun.
        """
        self._fresh = False

    def answered(self) -> None:
        """
        The server answered a call, well or not.
        """
        self._known = True
        if self._since is None:
            return
        seconds = asyncio.get_running_loop().time() - self._since
        logger.warning("the server is there again after %.0f s", seconds)
        self._since = self._probe = None
        self._pause = FIRST_PAUSE
        self._progress._away(False)
        self._tell()

    async def wait(self, asked: Asked, error: Exception) -> bool:
        """
        A row's call failed: wait until it may be made again. False: it may not.

        A row that was here calls `leave` in the end.
        """
        if self._probe is asked:
            self._probe = None
            self._fresh = True
            self._changed()
        status = error.status_code if isinstance(error, APIError) else None
        self._known = self._known or status is not None
        if not (isinstance(error, APIError) and is_away(error)):
            if status is not None:
                self.answered()
            return False
        if not (self._patience and self._known) or asked.returns >= RETURNS:
            return False
        if self._since is None:
            self._begin(error)
        self._absent.add(asked)
        if await self._until_there(asked, error.retry_after or 0.0):
            return True
        self._give_up(error)
        return False

    async def _until_there(self, asked: Asked, least: float) -> bool:
        """
        Wait until it is there, or it is this row's turn to ask. False: it took too long.
        """
        while self._since is not None:
            left = self._since + self._patience - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            if self._probe is not None:
                await self._hear(left)
                continue
            self._probe = asked
            pause = max(self._pause, least)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            if INSTANT:  # a test: it counts as waited
                self._since -= min(pause, left)
                await asyncio.sleep(0)
            else:
                await self._hear(min(pause, left))
            if self._probe is asked:
                return True
        asked.returns += 1
        return True

    async def _hear(self, seconds: float) -> None:
        """
        Wait so long, or until something has changed.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self._news.wait()

    def leave(self, asked: Asked) -> None:
        """
        A row's call is over, and the row waits no more; another one may ask in its place.
        """
        if asked in self._absent:
            self._absent.discard(asked)
            if self._probe is asked:
                self._probe = None
            self._tell()

    def _begin(self, error: APIError) -> None:
        self._since = asyncio.get_running_loop().time()
        self._progress._away(True)
        status = error.status_code
        logger.warning(
            "the server is away (%s%s): waiting for it, for %g s at most",
            type(error).__name__,
            "" if status is None else f" {status}",
            self._patience,
        )

    def _give_up(self, error: APIError) -> None:
        if self.spent is None:
            # A copy: the row's own has a traceback, whose frames hold us.
            self.spent = copy.copy(error)
            self.spent.reworded(
                f"{error.message}; the server has been away for {self._patience:g} s, so"
                " no more is asked"
            )
            logger.warning(
                "the server has been away for %g s: no more is asked", self._patience
            )
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
        self._changed()
