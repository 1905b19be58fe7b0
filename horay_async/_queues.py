"""
Who waits at a gate, and whose turn is next.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from ._leases import Asks, Lane


TENTH: Final = 10
"""
One turn in so many is batch's while both lanes wait, and one place in so many.
"""


class Waiter:
    """
    One who waits.
    """

    __slots__ = ("asks", "future", "lane", "tokens", "tries")

    def __init__(self, lane: Lane, tries: int, asks: Asks, tokens: float) -> None:
        self.lane: Lane = lane
        self.tries = tries
        self.asks = asks
        self.tokens = tokens
        """
        What it is thought to cost.
        """
        self.future: Any = None
        """
        Done when the turn has come.
        """


class Row:
    """
    One lane: those with more tries go before those with fewer, then first come, first served.
    """

    __slots__ = ("_by_tries", "count")

    def __init__(self) -> None:
        # Linked, so that leaving costs the same anywhere: thousands may be cancelled at once.
        self._by_tries: dict[int, OrderedDict[Waiter, None]] = {}
        self.count = 0

    def add(self, waiter: Waiter) -> None:
        """
        Behind all others with so many tries.
        """
        self._by_tries.setdefault(waiter.tries, OrderedDict())[waiter] = None
        self.count += 1

    def remove(self, waiter: Waiter) -> bool:
        """
        Whether it was there.
        """
        row = self._by_tries.get(waiter.tries)
        if row is None or waiter not in row:
            return False
        del row[waiter]
        if not row:
            del self._by_tries[waiter.tries]
        self.count -= 1
        return True

    def first(self, *, fewest: bool) -> Waiter:
        """
        Whose turn is next; with `fewest`, of those who have had the fewest tries.
        """
        tries = (min if fewest else max)(self._by_tries)
        return next(iter(self._by_tries[tries]))

    def clear(self) -> None:
        """
        Forget all.
        """
        self._by_tries.clear()
        self.count = 0


class Queue:
    """
    Both lanes.
    """

    __slots__ = ("_since_batch", "batch", "interactive")

    def __init__(self) -> None:
        self.interactive = Row()
        self.batch = Row()
        # Turns that interactive calls have had while batch calls waited.
        self._since_batch = 0

    def __len__(self) -> int:
        return self.interactive.count + self.batch.count

    def add(self, waiter: Waiter) -> None:
        """
        One more waits.
        """
        self._row(waiter.lane).add(waiter)

    def remove(self, waiter: Waiter) -> bool:
        """
        It waits no longer; False if it did not wait.
        """
        return self._row(waiter.lane).remove(waiter)

    def lane(self, *, batch_must: bool) -> Lane | None:
        """
        Whose turn it is; None: nobody waits.

        Args:
            batch_must: Batch calls have fewer places than are theirs.
        """
        if not self.batch.count:
            return "interactive" if self.interactive.count else None
        due = batch_must or self._since_batch >= TENTH - 1
        return "batch" if due or not self.interactive.count else "interactive"

    def first(self, lane: Lane, *, fewest: bool) -> Waiter:
        """
        The next one of a lane in which somebody waits.
        """
        return self._row(lane).first(fewest=fewest)

    def take(self, waiter: Waiter) -> None:
        """
        It has its turn.
        """
        self.remove(waiter)
        if waiter.lane == "batch":
            self._since_batch = 0
        elif self.batch.count:
            self._since_batch += 1

    def clear(self) -> None:
        """
        Forget all.
        """
        self.interactive.clear()
        self.batch.clear()

    def _row(self, lane: Lane) -> Row:
        return self.batch if lane == "batch" else self.interactive
