"""
What a gate has learnt from refusals: how long it is closed, and how fast it opens again.

A 429 says that there is a limit, but rarely which: so many calls a minute, or so many at a time.
So two things are learnt from what the server did take: a rate, and a number in flight. Both
fall a little with a new refusal, and grow while there is none: slowly at first, because the
limit is near, and ever faster, because a limit that does not show itself has gone.

Some servers refuse a part of all calls whatever their number. So where no limit is known only a
cluster of refusals shows one; and a pace at which as many are refused as ever is given up again.

No clock of its own: `now` is in seconds, of a clock that never goes back.
"""

from __future__ import annotations

import math

from collections import deque
from typing import Final

from ._chance import BY_CHANCE, Chance


FIRST_SIZE: Final = 32
"""
Calls in flight before anything is known of the server.
"""

BOUNDLESS: Final = 4096
"""
Calls in flight, and calls a second: beyond this many no limit stands behind the number.
"""

CONSENT: Final = 0.25
"""
Seconds. Refusals come fast, so when none has come for so long the server has consented, though
its answers may take a minute.
"""

PATIENT_PROBES: Final = 8
"""
How many calls in a row go first and alone to ask a server that takes nothing. Then more and
more go, so that its refusal is everybody's answer before long.
"""

_PATIENCE: Final = 1.5
"""
How much longer each wait is than the one before, while a server takes nothing.
"""

_GROWTH: Final = 0.02
"""
What a rate grows by in its first second without a refusal, as a part of itself.
"""

_DOUBLING: Final = 2.0
"""
Seconds after which it grows twice as fast.
"""

_LOOK_BACK: Final = 2.0
"""
Seconds, if the server asks to wait no longer: what went before says little of its limit.
"""

_CELL: Final = 0.25
"""
Seconds: how finely what was sent is remembered.
"""

_MEMORY: Final = 120.0
"""
Seconds for which it is.
"""

_LEAST_SPAN: Final = 1.0
"""
Seconds: a burst that was taken in less is what a limit had saved, and says no rate.
"""

_LATE: Final = 0.02
"""
Seconds that a caller may come late and still have its place: timers and loops are.
"""

_LONGEST_PROBE: Final = 8.0
"""
Seconds between two probes, where the server itself asks for no longer wait.
"""

_NEAR: Final = 1.25
"""
A number in flight that is refused below so many times the last one is the same limit.
"""

_LONGEST_HOLD: Final = 60.0
"""
Seconds for which a number that was refused again and again is not tried anew.
"""

_FULL: Final = 0.8
"""
The part of the places that must be taken for their number to be what was refused.
"""

_MANY: Final = 100
"""
Calls that were taken before they did: they came by chance once more.
"""

_IN_VAIN: Final = 4
"""
Refusals in a row after which slowing down has been in vain.
"""

_FEW: Final = 16
"""
So few calls from one to the next: a limit that was met, and kept below, is met later.
"""

_VAIN: Final = 12.0
"""
Seconds after which they may be more, and the pace is doubted all the same.
"""

_LONGEST_VAIN: Final = 120.0
"""
Seconds to which that grows, each time that there was a limit after all.
"""


class Pace:
    """
    What the refusals of one gate have taught.
    """

    __slots__ = (
        "_careful",
        "_chance",
        "_clean_since",
        "_closed_at",
        "_doubts",
        "_doubts_since",
        "_few",
        "_fresh",
        "_grown",
        "_hold",
        "_lately",
        "_met",
        "_met_rate",
        "_next",
        "_patience",
        "_quiet_since",
        "_streak",
        "_taken_in_all",
        "_taken_lately",
        "_top",
        "_trusted",
        "closed_until",
        "era",
        "rate",
        "size",
    )

    def __init__(self, era: int = 0) -> None:
        self.closed_until = 0.0
        """
        When the wait that the server asked for is over.
        """
        self.rate: float | None = None
        """
        Calls a second; None: as many as come.
        """
        self.size: float = FIRST_SIZE
        """
        How many may be in flight.
        """
        self.era = era
        """
        How many refusals have taught something. What went out in one era says nothing of the
        next: the refusals of one burst are one lesson.
        """
        # Whether `size` has met a limit, so that it grows by time and not by answers.
        self._careful = False
        self._lately = _Lately()
        # How many the server has taken, or may have, since the gate opened last.
        self._fresh = 0
        self._closed_at = 0.0
        self._met = self._met_rate = False
        self._top = 0
        self._hold = 0.0
        self._streak = 0
        self._next = 0.0
        self._quiet_since = 0.0
        self._clean_since = self._grown = 0.0
        # Which refusals are lessons.
        self._chance = Chance()
        # Rate, size and hold before it was tried out what calls without them would meet.
        self._trusted: tuple[float | None, float, float] = (None, FIRST_SIZE, 0.0)
        # How many slowed the gate down since when, and of those the last few in a row.
        self._doubts = self._few = 0
        self._doubts_since = 0.0
        self._patience = _VAIN
        # Calls that were taken since then, and since the last of them.
        self._taken_in_all = self._taken_lately = 0

    # Asking --------------------------------------------------------------------------

    def wait(self, now: float, in_flight: int) -> float:
        """
        Seconds until one more may go by the clock; not above 0 if it may now.
        """
        if self._met and now >= self.closed_until:
            self._reopen(now, in_flight)
        until = max(self.closed_until, self._next)
        return until - now if until else 0.0

    def room(self, now: float, in_flight: int) -> float:
        """
        Seconds until one more may go, for all that are in flight; not above 0 if it may
        now; infinite if only an answer can make room.
        """
        if in_flight < self.size:
            return 0.0
        if self._careful:
            return math.inf
        quiet = now - self._quiet_since
        if quiet < CONSENT:
            return CONSENT - quiet
        self._grow_size(in_flight * 2, now)
        return 0.0

    def probing(self, now: float, in_flight: int) -> bool:
        """
        Whether the next one goes to ask for all: nothing was taken lately, or all was in vain.
        """
        if self._met and now >= self.closed_until:
            self._reopen(now, in_flight)
        return self._streak > 0 or (
            self._chance.borne > 0 and self._taken_lately < _MANY
        )

    @property
    def starting(self) -> bool:
        """
        Whether `size` has met no limit yet.
        """
        return not (self._careful or self._streak)

    @property
    def knows(self) -> bool:
        """
        Whether there is anything that would be a pity to forget.
        """
        return self.rate is not None or self._careful or self._met

    # Telling -------------------------------------------------------------------------

    def sent(self, now: float, in_flight: int) -> None:
        """
        One more is under way.
        """
        if in_flight >= self.size:
            self._quiet_since = now
        self._fresh += 1
        self._lately.add(now, 1)
        if self.rate is not None:
            self._next = max(self._next, now - _LATE) + 1 / self.rate

    def unsent(self) -> None:
        """
        The one that went last did not go: its turn had come, and it was not there any more.
        """
        self._fresh -= 1
        self._lately.less()
        if self.rate is not None:
            self._next -= 1 / self.rate

    def admitted(self, now: float, in_flight: int, era: int) -> None:
        """
        The server took one.
        """
        if era != self.era:
            return
        self._taken_lately += 1
        self._chance.taken()
        if self._streak:
            self._answered(now)
        if self.rate is not None or self._careful:
            self._grow(now, in_flight)
        elif in_flight * 2 > self.size:
            self.size += 1
        if self.size > BOUNDLESS:
            self.size, self._careful = math.inf, False

    def refused(self, now: float, wait: float, in_flight: int, era: int | None) -> bool:
        """
        The server asks to wait. Whether that has closed the gate.
        """
        was_open = self.closed_until <= now
        fresh = era is None or era == self.era
        alone = self._fresh <= 1 and in_flight <= 1 and not self._taken_lately
        if fresh and era is not None and not alone and self._by_chance(now):
            self._uncount(era)
            if self._chance.borne or self._taken_lately >= FIRST_SIZE:
                return False
            # Not enough was taken to tell: they wait, and learn nothing.
            self.closed_until = max(self.closed_until, now + wait)
            return was_open
        if fresh and self._streak:
            wait = max(wait, min(wait * _PATIENCE**self._streak, _LONGEST_PROBE))
        self.closed_until = max(self.closed_until, now + wait)
        if fresh:
            self.era += 1
            self._meet(in_flight)
            if not self._streak:
                self._closed_at = now
        elif self._careful:
            self.size = max(self.size - 1.0, 1.0)
        self._uncount(era)
        return fresh and was_open

    def _uncount(self, era: int | None) -> None:
        """
        What was refused was not taken.
        """
        if era is not None:
            self._fresh -= 1
            self._lately.less()

    def _by_chance(self, now: float) -> bool:
        """
        Whether one more refusal shows no limit, so that it is its own call's alone.
        """
        if self._streak:
            return False
        if self._chance.borne or (self.rate is None and not self._careful):
            if not self._chance.refused():
                return True
            self._believe(now)
            return False
        self._doubts += 1
        if self._taken_lately:
            self._few = self._few + 1 if self._taken_lately < _FEW else 0
        self._taken_in_all += self._taken_lately
        self._taken_lately = 0
        return self._in_vain(now)

    def _believe(self, now: float) -> None:
        """
        There is a limit.
        """
        if self._chance.borne:
            if self._taken_lately < _MANY:
                self._patience = min(2 * self._patience, _LONGEST_VAIN)
            self.rate, self.size, self._hold = self._trusted
        self._chance.borne, self._doubts_since = 0.0, now
        self._doubts = self._few = self._taken_in_all = self._taken_lately = 0

    def _in_vain(self, now: float) -> bool:
        """
        Whether it has slowed down, and is refused all the same.
        """
        wait = self._patience - (_VAIN if self._few >= _IN_VAIN else 0.0)
        borne = (self._doubts + 1) / (self._doubts + self._taken_in_all + 1)
        if self._doubts < _IN_VAIN or now - self._doubts_since < wait or borne > 0.5:
            return False
        self._chance.borne = max(borne, BY_CHANCE)
        self._trusted = self.rate, self.size, self._hold
        # From here on it grows fast, until refusals come in a cluster.
        self._clean_since, self._hold = now - 6 * _DOUBLING, 0.0
        return True

    def _meet(self, in_flight: int) -> None:
        """
        A limit has shown itself. So many at a time can be it only if so many were under way.
        """
        self._met = True
        full = in_flight > _FULL * self.size
        # The first time it may be either; from the second on it is what has been reached.
        self._met_rate = not (full and self._careful)
        if full:
            again = self._careful and in_flight <= self._top * _NEAR
            self._hold = min(2 * self._hold + 1, _LONGEST_HOLD) if again else 0.0
            self._top, self._careful = in_flight, True
            self.size = max(in_flight - 1.0, 1.0)

    # Learning ------------------------------------------------------------------------

    def _reopen(self, now: float, in_flight: int) -> None:
        """
        The wait is over: what did the server take, and how long did that last?
        """
        self._met = False
        fresh, self._fresh = self._fresh, 0
        self._quiet_since = self._clean_since = self._grown = self._next = now
        if fresh < 1 and not in_flight:
            self._probe()
        elif self._met_rate:
            rate = self._taken(now)
            if self.rate is not None:
                rate = max(min(rate, self.rate * 0.9), self.rate * 0.5)
            self.rate = rate if rate < BOUNDLESS else None

    def _taken(self, now: float) -> float:
        """
        Calls a second that the server took lately: the wait counts, and as much before it.
        """
        back = max(now - self._closed_at, _LOOK_BACK)
        count, begun = self._lately.since(self._closed_at - back)
        return max(count, 0.5) / max(now - begun, _LEAST_SPAN)

    def _probe(self) -> None:
        """
        Nothing is known of a server that took nothing: one asks, for all.
        """
        self._streak += 1
        self.rate = None
        self._careful = False
        self.size = 2.0 ** max(0, self._streak - PATIENT_PROBES)

    def _answered(self, now: float) -> None:
        """
        A probe was taken: what went before the outage was taken in all the time since.
        """
        self._streak = 0
        rate = self._taken(now)
        # The probe itself says nothing of how many more it may be.
        if rate * (now - self._closed_at) >= 2:
            self.rate = rate
            self._grown = self._next = now
            # The time that an outage takes is no limit's: such a rate grows faster.
            self._clean_since = now - 3 * _DOUBLING

    def _grow(self, now: float, in_flight: int) -> None:
        seconds = min(now - self._grown, 1.0)
        self._grown = now
        clean = now - self._clean_since
        if self.rate is not None:
            self.rate *= _growth(clean, seconds)
            if self.rate > BOUNDLESS:
                self.rate, self._next = None, 0.0
        if self._careful and in_flight + 1 >= self.size and clean > self._hold:
            self.size *= _growth(clean - self._hold, seconds)

    def _grow_size(self, size: float, now: float) -> None:
        self._quiet_since = now
        self.size = size if size <= BOUNDLESS else math.inf


def _growth(clean: float, seconds: float) -> float:
    """
    The factor for these seconds, after so many without a refusal.
    """
    speed: float = _GROWTH * 2.0 ** min(clean / _DOUBLING, 10.0)
    return 1.0 + min(speed * seconds, 1.0)


class _Lately:
    """
    How many went when, as far as a rate can tell.
    """

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        # When each begins, and how many went in it.
        self._cells: deque[list[float]] = deque()

    def add(self, now: float, count: int) -> None:
        """
        So many more.
        """
        cells = self._cells
        if cells and now - cells[-1][0] < _CELL:
            cells[-1][1] += count
            return
        cells.append([now, count])
        while now - cells[0][0] > _MEMORY:
            cells.popleft()

    def less(self) -> None:
        """
        One of the last did not count.
        """
        if self._cells:
            self._cells[-1][1] -= 1

    def since(self, when: float) -> tuple[float, float]:
        """
        How many since then; and when the first of them went.
        """
        count, begun = 0.0, math.inf
        for began, number in reversed(self._cells):
            if began < when:
                break
            count, begun = count + number, began
        return count, begun
