"""
Quantiles of what never ends, in constant memory: p50 and p95 to within one percent.

The idea is DDSketch's (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile
sketch with relative-error guarantees", VLDB 2019): count values in buckets whose bounds grow
by a constant factor, and every value in a bucket is near its middle.
"""

from __future__ import annotations

import math

from typing import Any, Final, final


ERROR: Final = 0.01
"""
How far off a quantile may be, relative to itself.
"""

# 10 microseconds to 115 days, in seconds: what lies outside counts as the bound. That makes
# 1,267 buckets at most, and a job's latencies fall into a hundred or two.
_LEAST, _MOST = 1e-5, 1e7

_FACTOR: Final = (1 + ERROR) / (1 - ERROR)

_PER_BUCKET: Final = 1 / math.log(_FACTOR)

# In a bucket (low, low * _FACTOR] this, times its upper bound, is as far from both ends.
_MIDDLE: Final = 2 / (1 + _FACTOR)


@final
class Quantiles:
    """
    How values are spread: each of `p50` and `p95` is within 1 % of a value that came.
    """

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self.count: int = 0
        """
        How many values came.
        """
        self._buckets: dict[int, int] = {}

    @property
    def p50(self) -> float | None:
        """
        The median: half of the values are at most so large. None where none came.
        """
        return self.quantile(0.5)

    @property
    def p95(self) -> float | None:
        """
        One value in twenty is larger. None where none came.
        """
        return self.quantile(0.95)

    def quantile(self, share: float) -> float | None:
        """
        The value that this share of all (0 to 1) does not exceed. None where none came.

        Raises:
            ValueError: No such share.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a quantile of {share!r}: expected 0 to 1")
        # The value with so many before it (nearest rank). A product may be a hair too large:
        # 0.95 * 100 must not become the 96th.
        rank = max(math.ceil(share * self.count - 1e-9), 1)
        for index in sorted(self._buckets):
            rank -= self._buckets[index]
            if rank <= 0:
                return _FACTOR**index * _MIDDLE
        return None

    def add(self, value: float) -> None:
        """
        Count one more, in seconds.
        """
        bounded = min(max(value, _LEAST), _MOST)
        index = math.ceil(math.log(bounded) * _PER_BUCKET)
        self._buckets[index] = self._buckets.get(index, 0) + 1
        self.count += 1

    def to_dict(self) -> dict[str, Any]:
        """
        The same for programs; seconds to the microsecond.
        """
        p50, p95 = self.p50, self.p95
        return {
            "count": self.count,
            "p50": None if p50 is None else round(p50, 6),
            "p95": None if p95 is None else round(p95, 6),
        }

    def __repr__(self) -> str:
        if self.p50 is None or self.p95 is None:
            return f"<{type(self).__name__}: none yet>"
        return (
            f"<{type(self).__name__} of {self.count}: p50 {self.p50:.3g} s,"
            f" p95 {self.p95:.3g} s>"
        )
