"""
How many rows are asked at once: a slot for each, beside the governor's lease.

A row has its slot while it is asked, and gives it up with its lease: while it waits for its
retry another row is asked in its place, and when the wait is over it goes before all rows
that have not begun.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

from collections.abc import Callable, Hashable, Mapping
from typing import Final, final

from .._leases import NOTHING_ASKED, Asks, GateState, Governing, Lane, Leased
from .._values import RateLimits, Usage


QUEUE: Final = 32
"""
How many rows may wait for leave to send, where that is more than a quarter of those that
have it: enough for a gate to have someone to let in whenever it can, and not all of a
job's rows, each a task, before a gate that is closed or narrow.
"""


@final
class Slots:
    """
    The slots of one job.
    """

    __slots__ = (
        "_changed",
        "_limit",
        "_numbers",
        "_retried",
        "_taken",
        "_waiting",
        "governor",
        "leased",
    )

    def __init__(
        self,
        governor: Governing,
        limit: int,
        *,
        changed: Callable[[], None],
        retried: Callable[[], None],
    ) -> None:
        """
        Args:
            limit: How many there are.
            changed: Called when `open` may have become true.
            retried: Called when a call is sent once more.
        """
        self.governor = governor
        self._limit = limit
        self._changed = changed
        self._retried = retried
        self._taken = 0
        self.leased: int = 0
        """
        Slots whose row has leave to send.
        """
        self._numbers = itertools.count()
        # Who had more tries first, then in the order of asking. Those who have left stay
        # until it is their turn: they are fewer than the rows under way.
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def open(self) -> bool:
        """
        Whether one more row may begin.
        """
        queued = self._taken - self.leased
        return self._taken < self._limit and queued < max(QUEUE, self.leased // 4)

    def begin(self) -> Slot:
        """
        The slot of a row that begins; only while it is `open`.
        """
        self._taken += 1
        return Slot(self)

    async def turn(self, tries: int) -> None:
        """
        Wait for a slot. Whoever returns from here has it.

        Cancelling gives it, or the place in the queue, back.
        """
        if self._taken < self._limit:
            self._taken += 1
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-tries, next(self._numbers), future))
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                # It came in the same turn of the loop.
                self.free()
            raise

    def free(self) -> None:
        """
        One slot is given back: to who waits, or to a row that has not begun.
        """
        while self._waiting:
            *_, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
                return
        self._taken -= 1
        self._changed()

    def sent(self, tries: int) -> None:
        """
        A row has leave to send.
        """
        self.leased += 1
        if tries:
            self._retried()
        self._changed()


@final
class Slot:
    """
    One row's: the governor that its calls ask, which gives leases that hold the slot.
    """

    __slots__ = ("_began", "_has", "_loop", "_slots", "attempts")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._has = True
        self._began: float | None = None
        self.attempts: int = 0
        """
        How often it had leave to send.
        """

    @property
    def at_most(self) -> int | None:
        """
        The governor's.
        """
        return self._slots.governor.at_most

    @property
    def seconds(self) -> float | None:
        """
        Since its first leave to send; None: it had none.
        """
        return None if self._began is None else self._loop.time() - self._began

    async def lease(
        self,
        key: Hashable,
        *,
        tries: int = 0,
        lane: Lane = "interactive",
        asks: Asks = NOTHING_ASKED,
    ) -> Leased:
        """
        Wait for the slot, if it was given up, and then for leave to send.

        Cancelled, or refused by the governor: neither is held.
        """
        slots = self._slots
        if not self._has:
            await slots.turn(tries)
            self._has = True
        try:
            lease = await slots.governor.lease(key, tries=tries, lane=lane, asks=asks)
        except BaseException:
            self.leave()
            raise
        self.attempts += 1
        if self._began is None:
            self._began = self._loop.time()
        slots.sent(tries)
        return _Lease(lease, self)

    def close(self, key: Hashable, wait: float, *, lease: Leased | None = None) -> None:
        """
        As the governor's, which gets the lease that it gave.
        """
        if isinstance(lease, _Lease):
            lease = lease.inner
        self._slots.governor.close(key, wait, lease=lease)

    def snapshot(self) -> Mapping[Hashable, GateState]:
        """
        The governor's.
        """
        return self._slots.governor.snapshot()

    def over(self) -> None:
        """
        A lease is settled: the slot goes with it.
        """
        self._slots.leased -= 1
        self.leave()

    def leave(self) -> None:
        """
        Give the slot up, until the next lease. Twice is fine.
        """
        if self._has:
            self._has = False
            self._slots.free()


@final
class _Lease:
    """
    The governor's lease, and the slot, settled together.
    """

    __slots__ = ("_slot", "inner")

    def __init__(self, inner: Leased, slot: Slot) -> None:
        self.inner = inner
        """
        The governor's.
        """
        self._slot: Slot | None = slot

    def admitted(self, limits: RateLimits) -> None:
        """
        As the governor's.
        """
        self.inner.admitted(limits)

    def answering(self, seconds: float) -> None:
        """
        As the governor's.
        """
        self.inner.answering(seconds)

    def refused(self, status: int) -> None:
        """
        As the governor's.
        """
        self.inner.refused(status)

    def settle(self, usage: Usage | None = None) -> None:
        """
        Give both back. Twice is fine.
        """
        slot, self._slot = self._slot, None
        if slot is None:
            return
        try:
            self.inner.settle(usage)
        finally:
            slot.over()
