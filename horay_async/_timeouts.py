"""
How long to wait, by five separate clocks.
"""

from __future__ import annotations

import math

from typing import Any, Final, Self

import attrs


def _clock(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"Timeouts({attribute.name}={value!r}): expected seconds or None"
        raise TypeError(msg)
    if math.isnan(value) or value <= 0:
        msg = f"Timeouts({attribute.name}={value!r}): expected more than 0 seconds"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class Timeouts:
    """
    Five separate clocks, in seconds. None switches one off; so does `math.inf`.

    `stall` and `silence` run only while somebody awaits a token, so a slow reader causes no
    false alarm. A plain call sends nothing until it is done: only `connect` and
    `deadline` apply to it.
    """

    connect: float | None = attrs.field(default=10.0, validator=_clock)
    """
    A free connection slot, DNS, TCP and TLS.
    """

    first_token: float | None = attrs.field(default=300.0, validator=_clock)
    """
    From sending to the first content; pings and empty deltas are not content.
    """

    stall: float | None = attrs.field(default=120.0, validator=_clock)
    """
    No content after the first (a ping does not help; reasoning counts as content).
    """

    silence: float | None = attrs.field(default=60.0, validator=_clock)
    """
    No bytes at all after the first content (a ping resets it).
    """

    deadline: float | None = attrs.field(default=None, validator=_clock)
    """
    Everything: queueing, all attempts, their waits, and the stream.

    None: `PLAIN_DEADLINE` for a plain call, no limit for a stream, whose other clocks
    already bound every wait. `math.inf`: no limit for either.
    """

    def evolve(self, **changes: float | None) -> Self:
        """
        A copy with some clocks changed.
        """
        return attrs.evolve(self, **changes)

    def bound(self, *, stream: bool) -> float:
        """
        The deadline in force, in seconds; infinite where there is none.
        """
        if self.deadline is not None:
            return self.deadline
        return math.inf if stream else PLAIN_DEADLINE


PLAIN_DEADLINE: Final = 600.0
"""
Seconds that a plain call may take where no deadline is set.
"""
