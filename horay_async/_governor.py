"""
Who may send now: a lease for each exchange, and one gate per origin, key and model.

A 429 concerns everyone who shares the limit, so it closes the gate for all of them, not for
the one call that happened to hear it.
"""

from __future__ import annotations

import math

from collections.abc import Hashable
from typing import Final
from weakref import WeakSet

from ._adaptive import Adaptive
from ._errors import ConfigurationError
from ._forks import in_child
from ._gates import Bounds, Gate, Lease
from ._leases import NOTHING_ASKED, Asks, GateState, Lane, Leased


_MANY: Final = 256
"""
Gates beyond which those that know nothing are thrown away: model names may be many.
"""


class Governor:
    """
    Keeps calls within limits: the user's own, and those that the server shows.

        AsyncHoray(governor=Governor(rpm=500, tpm=200_000, concurrency=64))

    Without any it still waits as long as the server asks to, for all calls at once, and goes on
    at a rate that the server bears. The limits are each model's own (and each origin's and
    key's), in one client or in several that are given the same governor. These must run on
    the same event loop, or on one after the other.
    """

    def __init__(
        self,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        concurrency: int | Adaptive | None = None,
    ) -> None:
        """
        None: no such limit.

        Args:
            rpm: Requests a minute, in whichever minute one looks.
            tpm: Tokens a minute, of prompts and answers. What a call will cost is estimated
                before it is sent, and corrected by what it did. One that costs more than
                that goes alone.
            concurrency: Calls at once; or `Adaptive()`, as many as the server bears.

        Raises:
            ConfigurationError: One of them is no number above 0.
        """
        self._bounds = Bounds(
            _checked("rpm", rpm), _checked("tpm", tpm), _counted(concurrency)
        )
        self._gates: dict[Hashable, Gate] = {}
        self._many = _MANY
        _governors.add(self)

    @property
    def at_most(self) -> int | None:
        """
        How many leases of one gate are ever out at once; None: that has no fixed bound.
        """
        concurrency = self._bounds.concurrency
        return concurrency.high if isinstance(concurrency, Adaptive) else concurrency

    async def lease(
        self,
        key: Hashable,
        *,
        tries: int = 0,
        lane: Lane = "interactive",
        asks: Asks = NOTHING_ASKED,
    ) -> Lease:
        """
        Wait for leave to send, in the order of asking.

        Args:
            key: What shares a limit: origin, API key and model.
            tries: Exchanges that this call has had. Whoever had more goes before those
                who had fewer: it has waited longer, and has fewer retries left. Only a
                server that takes nothing at all is asked by who had the fewest.
            lane: Interactive calls go first; batch calls keep a tenth.
            asks: What it will cost.

        Cancelling gives the place in the queue back.
        """
        gate = self._gates.get(key) or self._made(key)
        return await gate.lease(lane, tries, asks)

    def close(self, key: Hashable, wait: float, *, lease: Leased | None = None) -> None:
        """
        The server answered 429: nobody sends for `wait` seconds, then at a learnt pace.

        Args:
            key: As for `lease`.
            wait: Seconds.
            lease: Of the call that was refused. The refusals of one burst teach one lesson;
                without a lease each counts as a new one.
        """
        gate = self._gates.get(key) or self._made(key)
        gate.close(wait, lease.era if isinstance(lease, Lease) else None)

    def snapshot(self) -> dict[Hashable, GateState]:
        """
        Every gate that is in use or closed, or that has learnt or counted something lately.
        """
        return {key: gate.state() for key, gate in self._gates.items() if gate.knows}

    def _made(self, key: Hashable) -> Gate:
        if len(self._gates) >= self._many:
            self._gates = {k: gate for k, gate in self._gates.items() if gate.knows}
            # If few could go, the next look comes later: it must not be one for each call.
            self._many = max(_MANY, 2 * len(self._gates))
        gate = self._gates[key] = Gate(key, self._bounds)
        return gate


def _checked(name: str, limit: float | None) -> float | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise ConfigurationError(f"{name} is {limit!r}, expected a number a minute")
    if not (limit > 0 and math.isfinite(limit)):
        raise ConfigurationError(
            f"{name} is {limit!r}, expected a finite number above 0; None is no limit"
        )
    return limit


def _counted(concurrency: int | Adaptive | None) -> int | Adaptive | None:
    if concurrency is None or isinstance(concurrency, Adaptive):
        return concurrency
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise ConfigurationError(
            f"concurrency is {concurrency!r}, expected a whole number or Adaptive()"
        )
    if concurrency < 1:
        raise ConfigurationError(
            f"concurrency is {concurrency}, expected 1 or more; None is no limit"
        )
    return concurrency


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
