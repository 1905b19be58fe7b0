"""
How long a call may wait: until a moment, or until somebody stops it.
"""

from __future__ import annotations

import asyncio

from collections.abc import Callable
from types import TracebackType
from typing import Self

from ._errors import APIError, HorayError


Expired = Callable[[], APIError]
"""
Makes the error of a clock that has run out.
"""


class Limits:
    """
    The limits of one call: one at a time, and one way to end them all.
    """

    __slots__ = ("_current", "_loop", "stopped")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.stopped: HorayError | None = None
        """
        What `stop` was given.
        """
        self._current: asyncio.Timeout | None = None

    def until(self, when: float | None, expired: Expired) -> Limit:
        """
        Bound what stands in the `async with` by a moment of the loop's clock; None: only
        by `stop`.
        """
        return Limit(self, when, expired)

    def stop(self, error: HorayError) -> None:
        """
        Make whoever waits inside a limit get this error, now; later ones get it too.
        """
        self.stopped = error
        # One that has run out raises this error by itself, and cannot be changed any more.
        if self._current is not None and not self._current.expired():
            self._current.reschedule(self._loop.time())


class Limit:
    """
    `asyncio.timeout_at` that raises our error, and that `Limits.stop` can end early.

    A cancellation from elsewhere passes.
    """

    __slots__ = ("_expired", "_limits", "_timeout")

    def __init__(self, limits: Limits, when: float | None, expired: Expired) -> None:
        self._limits = limits
        self._expired = expired
        self._timeout = asyncio.timeout_at(when)

    def move(self, when: float | None, expired: Expired) -> None:
        """
        Another moment, and another error, from now on.
        """
        if not self._timeout.expired() and self._limits.stopped is None:
            self._expired = expired
            self._timeout.reschedule(when)

    async def __aenter__(self) -> Self:
        if self._limits.stopped is not None:
            raise self._limits.stopped
        await self._timeout.__aenter__()
        self._limits._current = self._timeout
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._limits._current = None
        timeout, timed_out = self._timeout, False
        try:
            await timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            timed_out = True
        # Not in the `except`: its error's traceback holds the timeout, and that the task
        # which holds our error as its result; and this frame stands in our error's.
        del timeout, error, traceback
        if timed_out:
            del self._timeout
            told = self._limits.stopped or self._expired()
            try:
                raise told from None
            finally:
                # What ended is kept out of sight, and would be kept all the same, with the
                # frames of the whole call, which hold this error: a cycle.
                told.__context__ = None
                del told
