"""
Who may send now: a lease for each exchange, and one gate per origin, key and model.

A 429 concerns everyone who shares the limit, so it closes the gate for all of them, not for
the one call that happened to hear it. When the wait is over the gate opens gradually: calls
go one by one, a gap apart, and the gap shrinks with each that the server takes.
"""

from __future__ import annotations

import asyncio
import bisect
import time

from collections.abc import Hashable
from typing import Final
from weakref import WeakSet

import attrs

from ._forks import in_child


_LEAST_FIRST_GAP: Final = 0.005
"""
Seconds between calls after a 429 that asks for no wait worth the name.
"""

_LONGEST_GAP: Final = 1.0
"""
Seconds; only where the server itself asks to wait longer may a gap grow beyond.
"""

_OPEN_GAP: Final = 0.001
"""
A gap below this many seconds is none: no limit stands behind the number.
"""


@attrs.frozen(kw_only=True)
class GateState:
    """
    One gate, as `Governor.snapshot` shows it.
    """

    in_flight: int

    waiting: int

    closed_for: float
    """
    Seconds until the gate opens; 0 while it is open.
    """

    gap: float
    """
    Seconds between one call and the next while the gate reopens; 0 while it is open.
    """


class Lease:
    """
    Leave to send one exchange. Whoever has it settles it, whatever happens.
    """

    __slots__ = ("_gate", "_proven", "pace")

    def __init__(self, gate: _Gate) -> None:
        self._gate: _Gate | None = gate
        self._proven = False
        self.pace: int = gate.pace
        """
        The number of the gate's pace when this one went: its outcome speaks of no other.
        """

    def admitted(self) -> None:
        """
        The server took the request: a reopening gate lets calls go faster. Twice counts once.
        """
        if self._gate is not None and not self._proven:
            self._proven = True
            self._gate.admitted(self.pace)

    def settle(self) -> None:
        """
        The exchange is over. Twice is fine.
        """
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave()


class Governor:
    """
    The gates of one client, or of several that are given the same governor.

    They must run on the same event loop, or on one after the other.
    """

    def __init__(self) -> None:
        self._gates: dict[Hashable, _Gate] = {}
        _governors.add(self)

    async def lease(self, key: Hashable, *, tries: int = 0) -> Lease:
        """
        Wait for leave to send, in the order of asking.

        Args:
            key: What shares a limit: origin, API key and model.
            tries: Exchanges that this call has had. Whoever had more goes before those
                who had fewer: it has waited longer, and has fewer retries left.

        Cancelling gives the place in the queue back.
        """
        gate = self._gate(key)
        if gate.free():
            gate.enter()
        else:
            await gate.turn(tries)
        return Lease(gate)

    def close(self, key: Hashable, wait: float, *, lease: Lease | None = None) -> None:
        """
        The server answered 429: nobody sends for `wait` seconds, then one by one.

        Args:
            key: As for `lease`.
            wait: Seconds.
            lease: Of the call that was refused. The refusals of one burst slow the gate
                down once; without a lease each counts as a new one.
        """
        self._gate(key).close(wait, None if lease is None else lease.pace)

    def _gate(self, key: Hashable) -> _Gate:
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = _Gate(key, self._gates)
        return gate

    def snapshot(self) -> dict[Hashable, GateState]:
        """
        Every gate that is in use, closed, or has not opened fully since.
        """
        return {key: gate.state() for key, gate in self._gates.items()}


_governors: Final[WeakSet[Governor]] = WeakSet()


def _after_fork() -> None:
    """
    Leases and those who wait are the parent process's; the child begins with open gates.
    """
    for governor in list(_governors):
        for gate in governor._gates.values():
            gate.disown()
        governor._gates.clear()


in_child(_after_fork)


class _Gate:
    """
    One limit's gate.
    """

    __slots__ = (
        "_alarm",
        "_asked",
        "_closed_until",
        "_first_burst",
        "_gap",
        "_gates",
        "_in_flight",
        "_key",
        "_loop",
        "_next",
        "_waiting",
        "pace",
    )

    def __init__(self, key: Hashable, gates: dict[Hashable, _Gate]) -> None:
        self._key = key
        self._gates = gates
        self._closed_until = 0.0
        self._gap = 0.0
        # When the gap after the last call is over.
        self._next = 0.0
        # Whether the open gate has been refused, and nothing been taken since.
        self._first_burst = False
        self._in_flight = 0
        self._asked = 0
        # Sorted by tries, most first, then by the order of asking.
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        # Where they wait, and the alarm is set.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self.pace: int = 0
        """
        How often a refusal has set the gap.
        """

    def free(self) -> bool:
        """
        Whether one may enter without waiting for a turn.
        """
        self._bury()
        return not self._waiting and self._wait() <= 0

    def _wait(self) -> float:
        """
        Seconds until the next one may go; not above 0 if it may now.
        """
        # Most gates have never been closed, and need no clock.
        until = max(self._closed_until, self._next)
        return until - time.monotonic() if until else 0.0

    def enter(self) -> None:
        """
        One more is under way.
        """
        self._in_flight += 1
        self._next = time.monotonic() + self._gap if self._gap else 0.0

    async def turn(self, tries: int) -> None:
        """
        Wait in the queue. Whoever returns from here has entered.
        """
        self._asked += 1
        self._loop = asyncio.get_running_loop()
        future = self._loop.create_future()
        place = (-tries, self._asked, future)
        bisect.insort(self._waiting, place)
        self._wake()
        try:
            await future
        except BaseException:
            # Cancelled, or thrown away with its loop.
            if future.done() and not future.cancelled():
                # The turn had just come: it goes to the next one, without a gap.
                self._in_flight -= 1
                self._next = 0.0
            else:
                # Thousands may be cancelled at once: not one may look through all others.
                index = bisect.bisect_left(self._waiting, place)
                if self._waiting[index : index + 1] == [place]:
                    del self._waiting[index]
            self._wake()
            self._forget()
            raise

    def admitted(self, pace: int) -> None:
        """
        The server took one: a call a second faster, but at most by a tenth.
        """
        if not self._gap or pace != self.pace:
            return
        self._first_burst = False
        self._gap /= 1 + min(self._gap, 0.1)
        if self._gap < _OPEN_GAP:
            self._gap = self._next = 0.0
            self._wake()

    def close(self, wait: float, pace: int | None) -> None:
        """
        Nobody enters for so long, and then one by one.
        """
        self._closed_until = max(self._closed_until, time.monotonic() + wait)
        first_gap = min(max(_LEAST_FIRST_GAP, wait), _LONGEST_GAP)
        # What was sent before the gap was set says nothing about it.
        fresh = pace is None or pace == self.pace
        self.pace += fresh
        if not self._gap:
            self._first_burst = True
            self._gap = first_gap
        elif fresh:
            self._first_burst = False
            self._gap = min(self._gap * 2, max(_LONGEST_GAP, wait))
        elif self._first_burst:
            # The longest wait of many comes closest to what the limit is.
            self._gap = max(self._gap, first_gap)
        self._wake()

    def leave(self) -> None:
        """
        One is no longer under way.
        """
        self._in_flight -= 1
        self._forget()

    def _wake(self) -> None:
        """
        Give the turn to those who may go, and see to it that the next is woken in time.
        """
        self._bury()
        while self._waiting and self._wait() <= 0:
            *_, future = self._waiting.pop(0)
            if not future.done():
                # It enters here, not when it runs, or two could have one turn.
                self.enter()
                future.set_result(None)
        if self._loop is not None and self._waiting and self._alarm is None:
            self._alarm = self._loop.call_later(self._wait(), self._ring)
        elif self._alarm is not None and not self._waiting:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        self._wake()

    def _bury(self) -> None:
        """
        Forget who waited on a loop that is closed: neither they nor its alarm will wake.
        """
        if self._loop is not None and self._loop.is_closed():
            self.disown()

    def disown(self) -> None:
        """
        Forget who waits, and the loop on which they do.
        """
        self._waiting.clear()
        self._loop = self._alarm = None

    def _forget(self) -> None:
        """
        An idle open gate knows nothing, so it goes: model names may be many.
        """
        if (
            not self._in_flight
            and not self._waiting
            and not self._gap
            and self._wait() <= 0
            and self._gates.get(self._key) is self
        ):
            del self._gates[self._key]

    def state(self) -> GateState:
        """
        What there is to see.
        """
        return GateState(
            in_flight=self._in_flight,
            waiting=len(self._waiting),
            closed_for=max(0.0, self._closed_until - time.monotonic()),
            gap=self._gap,
        )
