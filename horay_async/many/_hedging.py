"""
How often a second call may be sent for a slow one, and when it is slow. No I/O.

A slow server is mostly one with too much to do. If every call that is slow were sent twice,
an outage would double its load, so second calls are paid out of a credit that only answers
earn, as gRPC (proposal A6) and Finagle (its retry budget) do it.
"""

from __future__ import annotations

import math

from collections import deque
from collections.abc import Hashable, MutableMapping
from typing import Any, Final, Literal

from .._errors import ConfigurationError
from .._leases import GateState


After = float | Literal["p95"]
"""
Seconds without a token after which a second call is sent; or so long as 19 of 20 need not.
"""

START: Final = 1.0
"""
The credit of a model that was never called: its first slow call may be hedged.
"""

MOST: Final = 10.0
"""
What a long calm may save up.
"""

ENOUGH: Final = 20
"""
Answers that a percentile needs: of fewer, the slowest one would be it.
"""

REMEMBERED: Final = 200
"""
Answers that it is taken of, the latest: servers change.
"""

GATES: Final = 1000
"""
Models that are remembered: their names may be many.
"""


class Hedges:
    """
    What one model's hedged calls have earned, and how long their first tokens took.
    """

    __slots__ = ("_credit", "_seen")

    def __init__(self) -> None:
        self._credit = START
        self._seen: deque[float] = deque(maxlen=REMEMBERED)

    def answered(self, seconds: float, at_most: float) -> None:
        """
        A call got its first token: it earns its share of a second call.

        Args:
            seconds: How long that took. Where the second call was faster: how long the
                first had been waited for by then, which is less than it would have taken.
            at_most: The share.
        """
        self._seen.append(seconds)
        self._credit = min(self._credit + at_most, MOST)

    def spend(self, at_most: float) -> bool:
        """
        Whether a second call may be sent; if so it counts as sent.
        """
        # A hair less than one is one: twenty times 0.05.
        if not at_most or self._credit < 1 - 1e-9:
            return False
        self._credit -= 1
        return True

    def delay(self, after: After) -> float | None:
        """
        Seconds to wait for the first token; None: for ever, too little has been seen.
        """
        if after != "p95":
            return after
        if len(self._seen) < ENOUGH:
            return None
        return sorted(self._seen)[math.ceil(0.95 * len(self._seen)) - 1]


def hedges_of(known: MutableMapping[Hashable, Any], gate: Hashable) -> Hedges:
    """
    What a client knows of one gate; the gate that was first asked for is forgotten first.
    """
    hedges = known.get(gate)
    if not isinstance(hedges, Hedges):
        if len(known) >= GATES:
            del known[next(iter(known))]
        hedges = known[gate] = Hedges()
    return hedges


def has_room(state: GateState | None) -> bool:
    """
    Whether a gate would let one more call go at once, and the server has not just said that
    it has too much to do.
    """
    if state is None:
        return True
    full = state.concurrency is not None and state.in_flight >= state.concurrency
    left = (state.requests_left, state.tokens_left)
    spent = any(number is not None and number < 1 for number in left)
    slowed = state.closed_for > 0 or state.rate is not None
    return not (slowed or state.waiting or full or spent)


def check_after(after: Any) -> After:
    """
    When the second call is sent.

    Raises:
        ConfigurationError: That is no time.
    """
    if after == "p95":
        return "p95"
    if not _is_number(after) or not 0 < after < math.inf:
        raise ConfigurationError(
            f"after is {after!r}, expected more than 0 seconds, or 'p95'"
        )
    return float(after)


def check_share(at_most: Any) -> float:
    """
    How many of the calls may be sent twice.

    Raises:
        ConfigurationError: That is no share.
    """
    if not _is_number(at_most) or not 0 <= at_most <= 1:
        raise ConfigurationError(
            f"at_most is {at_most!r}, expected a share of the calls: 0 to 1"
        )
    return float(at_most)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
