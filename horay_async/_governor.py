"""
Who may send now: a lease for each exchange, and one gate per origin, key and model.

A 429 concerns everyone who shares the limit, so it closes the gate for all of them, not for
the one call that happened to hear it. When the wait is over the gate opens gradually: one
call goes through, then two, then four, for each that the server takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time

from collections import deque
from collections.abc import Hashable
from typing import Final

import attrs


_WIDE_OPEN: Final = 1024
"""
A reopening gate that has grown this far is open: no limit stands behind the number.
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

    window: float
    """
    How many calls may be under way without the server's word while the gate reopens;
    infinite while it is open.
    """


class Lease:
    """
    Leave to send one exchange. Whoever has it settles it, whatever happens.
    """

    __slots__ = ("_gate", "_proven")

    def __init__(self, gate: _Gate) -> None:
        self._gate: _Gate | None = gate
        self._proven = False

    def admitted(self) -> None:
        """
        The server took the request: a reopening gate opens wider. Twice counts once.
        """
        if self._gate is not None and not self._proven:
            self._proven = True
            self._gate.admitted()

    def settle(self) -> None:
        """
        The exchange is over. Twice is fine.
        """
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave(proven=self._proven)


class Governor:
    """
    The gates of one client, or of several that are given the same governor.

    They must run on the same event loop, or on one after the other.
    """

    def __init__(self) -> None:
        self._gates: dict[Hashable, _Gate] = {}

    async def lease(self, key: Hashable) -> Lease:
        """
        Wait for leave to send, in the order of asking.

        Args:
            key: What shares a limit: origin, API key and model.

        Cancelling gives the place in the queue back.
        """
        gate = self._gate(key)
        if not gate.free():
            await gate.turn()
        gate.enter()
        return Lease(gate)

    def close(self, key: Hashable, wait: float) -> None:
        """
        The server answered 429: nobody sends for `wait` seconds, then a few at first.
        """
        self._gate(key).close(wait)

    def _gate(self, key: Hashable) -> _Gate:
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = _Gate(key, self._gates)
        return gate

    def snapshot(self) -> dict[Hashable, GateState]:
        """
        Every gate that is in use, closed, or has not opened wide since.
        """
        return {key: gate.state() for key, gate in self._gates.items()}


class _Gate:
    """
    One limit's gate.
    """

    __slots__ = (
        "_alarm",
        "_closed_until",
        "_gates",
        "_in_flight",
        "_key",
        "_unproven",
        "_waiting",
        "_window",
    )

    def __init__(self, key: Hashable, gates: dict[Hashable, _Gate]) -> None:
        self._key = key
        self._gates = gates
        self._closed_until = 0.0
        self._window = math.inf
        self._in_flight = 0
        # Sent, or about to be, without the server's word yet.
        self._unproven = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    def free(self) -> bool:
        """
        Whether one may enter without waiting for a turn.
        """
        self._bury()
        return not self._waiting and self._is_open()

    def _is_open(self) -> bool:
        return self._unproven < self._window and time.monotonic() >= self._closed_until

    async def turn(self) -> None:
        """
        Wait in the queue. Whoever returns from here enters at once.
        """
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._wake()
        try:
            await place
        except BaseException:
            # Cancelled, or thrown away with its loop.
            if place.done() and not place.cancelled():
                # The turn had just come: it goes to the next one.
                self._unproven -= 1
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(place)
            self._wake()
            self._forget()
            raise
        self._unproven -= 1

    def enter(self) -> None:
        """
        One more is under way.
        """
        self._unproven += 1
        self._in_flight += 1

    def admitted(self) -> None:
        """
        The server took one.
        """
        self._unproven -= 1
        # One more for each that was taken doubles the window every round trip.
        self._window = math.inf if self._window >= _WIDE_OPEN else self._window + 1
        self._wake()

    def close(self, wait: float) -> None:
        """
        Nobody enters for so long, and then one.
        """
        self._closed_until = max(self._closed_until, time.monotonic() + wait)
        self._window = 1
        self._wake()

    def leave(self, *, proven: bool) -> None:
        """
        One is no longer under way.
        """
        self._in_flight -= 1
        self._unproven -= not proven
        self._wake()
        self._forget()

    def _wake(self) -> None:
        """
        Give the turn to those who may go, and see to it that the next is woken in time.
        """
        self._bury()
        while self._waiting and self._is_open():
            place = self._waiting.popleft()
            if not place.done():
                # Counted until the waiter runs and enters, or two could take one place.
                self._unproven += 1
                place.set_result(None)
        wait = self._closed_until - time.monotonic()
        if self._waiting and wait > 0:
            if self._alarm is None:
                loop = self._waiting[0].get_loop()
                self._alarm = loop.call_later(wait, self._ring)
        elif self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        self._wake()

    def _bury(self) -> None:
        """
        Forget who waited on a loop that is closed: neither they nor its alarm will wake.
        """
        while self._waiting and self._waiting[0].get_loop().is_closed():
            del self._waiting[0]
            self._alarm = None

    def _forget(self) -> None:
        """
        An idle open gate knows nothing, so it goes: model names may be many.
        """
        if (
            not self._in_flight
            and not self._unproven
            and not self._waiting
            and self._window == math.inf
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
            window=self._window,
        )
