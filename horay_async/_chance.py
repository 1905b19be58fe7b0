"""
Whether refusals show a limit, or come by chance: alone among many calls that are taken.

Some servers refuse a part of all calls whatever their number. Going slower helps against a limit
only, and a limit refuses whatever comes too much: it shows in clusters.
"""

from __future__ import annotations

from typing import Final


_CLUSTER: Final = 5.0
"""
Refusals that show a limit. Each call that was taken makes up for a part of one.
"""

_LARGE_CLUSTER: Final = 12.0
"""
As many show one where they had come however slow the calls went.
"""

BY_CHANCE: Final = 0.06
"""
The part of all calls that may be refused without any limit behind it: of twice as many
clusters come, sooner or later.
"""


class Chance:
    """
    The refusals of one gate.
    """

    __slots__ = ("_score", "borne")

    def __init__(self) -> None:
        # How near they have come to a cluster.
        self._score = 0.0
        self.borne = 0.0
        """
        The part of the calls that was refused however slow they went; 0: not known.
        """

    def taken(self) -> None:
        """
        The server took a call.
        """
        if self._score:
            borne, times = (self.borne, 3) if self.borne else (BY_CHANCE, 2)
            self._score = max(self._score - times * borne / (1 - borne), 0.0)

    def refused(self) -> bool:
        """
        It refused one. Whether that makes a cluster.
        """
        self._score += 1
        if self._score < (_LARGE_CLUSTER if self.borne else _CLUSTER):
            return False
        self._score = 0.0
        return True
