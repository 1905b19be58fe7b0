"""
Work that blocks, done in a thread for the loop: cancelled, it still ends tidily.
"""

from __future__ import annotations

import asyncio
import threading

from collections.abc import Callable
from concurrent.futures import Future
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

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def check(self) -> None:
        """
        Raises:
            Cancelled: The loop wants no more of it.
        """
        if self.cancelled:
            raise Cancelled

    def pause(self) -> None:
        """
        Wait a moment, for what can only be asked again and again.

        Raises:
            Cancelled: The loop wants no more of it.
        """
        self._cancelled.wait(_TICK)
        self.check()


Ended = Future[BaseException | None]
"""
The end of what a thread does. The result is the error that ended it, if one did.
"""


def in_thread(work: Callable[..., None], *arguments: Any) -> Ended:
    """
    Begin it in a thread of its own: those of the loop may all be held up, even by somebody
    who waits for us.
    """
    ended: Ended = Future()

    def run() -> None:
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 -- for those who wait
            ended.set_result(error)
        else:
            ended.set_result(None)

    threading.Thread(target=run).start()
    return ended


async def outlast(ended: Ended) -> None:
    """
    Wait for the end, good or bad, even when cancelled; be cancelled after it.
    """
    cancelled = None
    waiting = asyncio.wrap_future(ended)
    while not waiting.done():
        try:
            await asyncio.wait({waiting})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
