"""
When `on_progress` is called: now and then while something changes, and at the end.
"""

from __future__ import annotations

import asyncio

from collections.abc import Callable
from typing import Final

from ._progress import Progress


SECONDS: Final = 0.2
"""
From one call to the next, at least: as often as an eye can follow a number.
"""


Failed = Callable[[Exception], None]
"""
Gets what the user's function raised, after which that is not called again.
"""


class Ticker:
    """
    Calls one function of the user's, on the job's loop.
    """

    __slots__ = ("_call", "_over", "_progress", "_timer")

    def __init__(self, call: Callable[[Progress], object], progress: Progress) -> None:
        self._call = call
        self._progress = progress
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def changed(self, failed: Failed) -> None:
        """
        Something is to be told, soon.
        """
        if self._timer is None and not self._over:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SECONDS, self._tick, failed)

    def end(self, failed: Failed) -> None:
        """
        Tell it for the last time. Twice counts once.
        """
        if self._timer is not None:
            self._timer.cancel()
        if not self._over:
            self._tick(failed)
        self._over = True

    def _tick(self, failed: Failed) -> None:
        self._timer = None
        try:
            self._call(self._progress)
        except Exception as error:  # noqa: BLE001 -- the job hands it to its reader
            self._over = True
            failed(error)
