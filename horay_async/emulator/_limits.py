"""
So many requests a second, and no more.
"""

import math

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """
    A token bucket: it holds one second's worth, at least one, and starts full.
    """

    rate: float

    level: float = field(init=False)

    _filled: float = field(init=False, default=-math.inf)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"requests_per_second must be above 0, not {self.rate!r}")
        self.level = self.size

    @property
    def size(self) -> float:
        return max(1.0, self.rate)

    def take(self, now: float) -> float:
        """
        Take one. Returns the seconds until there is one, which is 0 if there was.
        """
        if self._filled != -math.inf:
            grown = self.level + (now - self._filled) * self.rate
            self.level = min(self.size, grown)
        self._filled = now
        if self.level < 1:
            return (1 - self.level) / self.rate
        self.level -= 1
        return 0.0

    def headers(self) -> list[tuple[str, str]]:
        """
        The limit, what is left of it, and when it is whole again, as OpenAI writes them.
        """
        reset = (self.size - self.level) / self.rate
        return [
            ("x-ratelimit-limit-requests", str(int(self.size))),
            ("x-ratelimit-remaining-requests", str(int(self.level))),
            ("x-ratelimit-reset-requests", duration(reset)),
        ]


def waiting(seconds: float) -> list[tuple[str, str]]:
    """
    How long to wait, for those who read whole seconds and for those who read more.
    """
    return [
        ("retry-after", str(math.ceil(seconds))),
        ("retry-after-ms", str(math.ceil(seconds * 1000))),
    ]


def duration(seconds: float) -> str:
    """
    A duration as Go prints it: 1m2.5s, 17ms.
    """
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    hours, rest = divmod(round(seconds, 3), 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{hours:.0f}h" if hours else ""
    text += f"{minutes:.0f}m" if hours or minutes else ""
    return text + f"{round(rest, 3):g}s"
