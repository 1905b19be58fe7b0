"""
The clocks of one stream after its first token: stall, silence, tail and deadline.

Stall and silence run only while somebody waits: a slow reader is not a slow server. One loop
timer serves them, re-armed only when it rings, so that a token costs no timer.
"""

from __future__ import annotations

import asyncio
import math
import weakref

from typing import Final, Protocol

from ._errors import APITimeoutError, StreamSilentError, StreamStalledError
from ._timeouts import Timeouts


TAIL: Final = 2.0
"""
Seconds that we wait for usage and `[DONE]` once every choice has its finish reason: some
servers keep the connection open and send neither.
"""


class Timed(Protocol):
    """
    What a clock acts upon.
    """

    def ran_out(self, kind: type[APITimeoutError], seconds: float) -> None:
        """
        Nothing came for so long.
        """

    def tail_over(self) -> None:
        """
        The answer is whole, and what may follow it did not come.
        """

    def out_of_time(self) -> None:
        """
        The deadline has come, whether anybody waits or not.
        """


class Clocks:
    """
    Told of waits, bytes and content; tells the stream when it was too long.

    It must not keep a stream alive that nobody reads, hence the weak reference.
    """

    __slots__ = (
        "_deadline",
        "_finished",
        "_heard",
        "_loop",
        "_rested",
        "_said",
        "_timed",
        "_timeouts",
        "_timer",
        "_waiting",
    )

    def __init__(self, timed: Timed, loop: asyncio.AbstractEventLoop) -> None:
        self._timed = weakref.ref(timed)
        self._loop = loop
        self._timeouts = Timeouts()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._finished = self._waiting = False
        # Moments by the loop's clock: the last byte, the last content, the last wait's
        # end. The first two are moved on by the time in which nobody waits.
        self._heard = self._said = self._rested = 0.0

    def start(self, timeouts: Timeouts, deadline: float | None) -> None:
        """
        Begin with the deadline, a moment of the loop's clock; begin anew where another
        attempt has its answer.
        """
        self._timeouts = timeouts
        if self._deadline is not None:
            self._deadline.cancel()
        if deadline is not None:
            self._deadline = self._loop.call_at(deadline, self._out_of_time)

    def wait(self) -> None:
        """
        Somebody waits for bytes.
        """
        now = self._loop.time()
        idle = now - self._rested
        self._heard += idle
        self._said += idle
        self._waiting = True
        if self._timer is None:
            self._arm(now)

    def heard(self, *, content: bool) -> None:
        """
        Bytes have come, with content in them or not.
        """
        self._heard = self._rested = self._loop.time()
        if content:
            self._said = self._heard

    def rest(self) -> None:
        """
        Nobody waits any longer.
        """
        self._waiting = False
        self._rested = self._loop.time()

    def finish(self) -> None:
        """
        Every choice has ended: the next wait is for the tail alone.
        """
        if not self._finished and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._finished = True

    def stop(self) -> None:
        """
        No clock rings any more.
        """
        for timer in (self._timer, self._deadline):
            if timer is not None:
                timer.cancel()
        self._timer = self._deadline = None

    def _due(self) -> tuple[float, type[APITimeoutError]]:
        """
        When the next clock runs out, and the error of that.
        """
        stall, silence = self._timeouts.stall, self._timeouts.silence
        stalled = math.inf if stall is None else self._said + stall
        silent = math.inf if silence is None else self._heard + silence
        if silent < stalled:
            return silent, StreamSilentError
        return stalled, StreamStalledError

    def _arm(self, now: float) -> None:
        when = now + TAIL if self._finished else self._due()[0]
        if not math.isinf(when):
            self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        timed = self._timed()
        if timed is None or not self._waiting:
            # Nobody waits, so nothing runs; the next wait arms the timer again.
            return
        if self._finished:
            timed.tail_over()
            return
        when, kind = self._due()
        now = self._loop.time()
        if now < when:
            self._arm(now)
        else:
            timed.ran_out(kind, getattr(self._timeouts, kind.clock))

    def _out_of_time(self) -> None:
        timed = self._timed()
        if timed is not None:
            timed.out_of_time()
