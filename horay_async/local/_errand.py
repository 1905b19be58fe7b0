"""
Work that blocks, done in a thread for the loop: cancelled, it still ends tidily.
"""

from __future__ import annotations

import asyncio
import threading

from collections.abc import Callable
from typing import Any, Final

from .._errors import HorayError


_TICK: Final = 0.02
"""
How soon a thread notices, in seconds.
"""


class LocalModelError(HorayError):
    """
    The model or its server cannot be had; the message says what to do.
    """


class Cancelled(Exception):
    """
    Ends the thread's work; nobody else sees it.
    """


class Errand:
    """
    What the loop and the thread that works for it tell each other.
    """

    def __init__(self) -> None:
        self.fetched = 0
        """
        How many bytes have come, if any had to.
        """
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """
        Ask the thread to stop, clean up and end.
        """
        self._cancelled.set()

    def check(self) -> None:
        """
        Raises:
            Cancelled: The loop wants no more of it.
        """
        if self._cancelled.is_set():
            raise Cancelled

    def pause(self) -> None:
        """
        Wait a moment, for what can only be asked again and again.

        Raises:
            Cancelled: The loop wants no more of it.
        """
        self._cancelled.wait(_TICK)
        self.check()


def in_thread(work: Callable[..., None], *arguments: Any) -> asyncio.Future[None]:
    """
    Begin it. A future, not a task: the end of `asyncio.run` would cancel that.
    """
    return asyncio.get_running_loop().run_in_executor(None, work, *arguments)


async def outlast(work: asyncio.Future[None]) -> None:
    """
    Wait for its end, good or bad, even when cancelled; be cancelled after it.
    """
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    work.exception()  # seen, so that asyncio does not report it
    if cancelled is not None:
        raise cancelled
