"""
One limit's gate: who is under way, who waits, and when the next one may go.
"""

from __future__ import annotations

import asyncio
import math
import time

from collections.abc import Hashable
from typing import Final

import attrs

from ._adaptive import Adaptive, Climb
from ._events import gate_closed
from ._leases import Asks, GateState, Lane
from ._pace import Pace
from ._policy import INSTANT
from ._queues import TENTH, Queue, Waiter
from ._rates import Estimate, Supply
from ._values import RateLimits, Usage


_MEMORY: Final = 60.0
"""
Seconds without a call after which what refusals have taught is out of date.
"""

_COMPANY: Final = 60.0
"""
Seconds after an interactive call for which batch calls leave places free for the next one.
"""


@attrs.frozen
class Bounds:
    """
    The user's limits, for each gate.
    """

    rpm: float | None = None

    tpm: float | None = None

    concurrency: int | Adaptive | None = None


class Lease:
    """
    Leave to send one exchange. Whoever has it settles it, whatever happens.
    """

    __slots__ = (
        "_gate",
        "asks",
        "era",
        "gone",
        "lane",
        "life",
        "proven",
        "refusal",
        "round",
        "sent",
        "tokens",
    )

    def __init__(
        self, gate: Gate, lane: Lane, asks: Asks, tokens: float, now: float
    ) -> None:
        self._gate: Gate | None = gate
        self.lane: Lane = lane
        self.asks = asks
        self.tokens = tokens
        """
        What it was thought to cost.
        """
        self.sent = now
        self.gone = (gate.requests.gone, gate.tokens.gone)
        """
        What had gone through the gate with this one.
        """
        self.life = gate.life
        self.era: int = gate.pace.era
        """
        What refusals had taught when this one went: its outcome speaks of no other.
        """
        self.round = 0 if gate.climb is None else gate.climb.round
        self.proven = False
        self.refusal = 0
        """
        The status, if it was refused.
        """

    def admitted(self, limits: RateLimits) -> None:
        """
        The server took the request: the headers of a 2xx are there. Twice counts once.
        """
        if self._gate is not None and not self.proven:
            self.proven = True
            self._gate.admitted(self, limits)

    def answering(self, seconds: float) -> None:
        """
        The answer has begun: its first content is there, or a plain call's headers.
        """
        if self._gate is not None:
            self._gate.answering(self, seconds)

    def refused(self, status: int) -> None:
        """
        The server has too much to do: 429, 503 or 529.
        """
        if self._gate is not None:
            self.refusal = status
            self._gate.refused(self)

    def settle(self, usage: Usage | None = None) -> None:
        """
        The exchange is over. Twice is fine; only the first time counts.
        """
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave(self, usage)

    def unsend(self) -> None:
        """
        Nothing was sent, and nothing will be.
        """
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.unsend(self)


class Gate:
    """
    One limit's gate.
    """

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_company",
        "_estimate",
        "_key",
        "_last",
        "_learnt",
        "_loop",
        "_most",
        "_queue",
        "_under_way",
        "climb",
        "life",
        "pace",
        "requests",
        "tokens",
    )

    def __init__(self, key: Hashable, bounds: Bounds) -> None:
        self._key = key
        self.pace = Pace()
        self.climb: Climb | None = None
        """
        How many at once the server bears, where that is to be found out.
        """
        self._most: int | None = None
        if isinstance(bounds.concurrency, Adaptive):
            self.climb = Climb(bounds.concurrency)
        else:
            self._most = bounds.concurrency
        self.requests = Supply(bounds.rpm)
        self.tokens = Supply(bounds.tpm)
        self._estimate = Estimate()
        self._learnt: RateLimits | None = None
        # When a call went last, and when an interactive one came last.
        self._last = self._company = -math.inf
        self._under_way: dict[Lane, int] = {"interactive": 0, "batch": 0}
        self._queue = Queue()
        self.life = 0
        """
        How many loops have been closed under those who were under way.
        """
        # Where they wait, and the alarm is set.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf

    @property
    def in_flight(self) -> int:
        """
        Leases that are out.
        """
        return self._under_way["interactive"] + self._under_way["batch"]

    @property
    def knows(self) -> bool:
        """
        Whether it is in use, or has learnt or counted what must not be forgotten.
        """
        now = time.monotonic()
        if self.in_flight or self._queue or self.pace.closed_until > now:
            return True
        if self.pace.knows and now - self._last < _MEMORY:
            return True
        return self.requests.used(now) or self.tokens.used(now)

    # Asking --------------------------------------------------------------------------

    async def lease(self, lane: Lane, tries: int, asks: Asks) -> Lease:
        """
        Wait for a turn, if one has to.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move(loop)
        now = time.monotonic()
        if lane == "interactive":
            self._company = now
        if now - self._last > _MEMORY and not self.in_flight and not self._queue:
            self._forget(now)
        tokens = self._estimate.of(asks) if self.tokens.limited else 0.0
        if not self._queue and self._wait(lane, tokens, now) <= 0:
            return self._enter(lane, asks, tokens, now)
        return await self._turn(loop, Waiter(lane, tries, asks, tokens))

    def _enter(self, lane: Lane, asks: Asks, tokens: float, now: float) -> Lease:
        self._under_way[lane] += 1
        self._last = now
        in_flight = self.in_flight
        self.pace.sent(now, in_flight)
        if self.climb is not None:
            self.climb.sent(in_flight)
        self.requests.take(1, now)
        self.tokens.take(tokens, now)
        return Lease(self, lane, asks, tokens, now)

    async def _turn(self, loop: asyncio.AbstractEventLoop, waiter: Waiter) -> Lease:
        """
        Wait in the queue. Whoever returns from here has entered.
        """
        future: asyncio.Future[Lease] = loop.create_future()
        waiter.future = future
        self._queue.add(waiter)
        self._wake()
        try:
            return await future
        except BaseException:
            # Cancelled, or thrown away with its loop.
            if future.done() and not future.cancelled():
                # The turn had just come: it goes to the next one.
                future.result().unsend()
            else:
                self._queue.remove(waiter)
                self._wake()
            raise

    # When ----------------------------------------------------------------------------

    def _wait(self, lane: Lane, tokens: float, now: float) -> float:
        """
        Seconds until one may go; not above 0 if it may now; infinite if only an answer can
        make room.
        """
        in_flight = self.in_flight
        limit = self._limit()
        if limit is not None:
            if in_flight >= limit:
                return math.inf
            if lane == "batch" and limit - in_flight <= self._kept(limit, now):
                return self._company + _COMPANY - now
        if INSTANT:
            # A test, for which waits take no time.
            return 0.0
        wait = self.pace.wait(now, in_flight)
        if wait <= 0:
            # Of a slow start each lane has its own: a batch that fills it makes nobody wait.
            alone = lane == "interactive" and self.pace.starting
            crowd = self._under_way["interactive"] if alone else in_flight
            wait = self.pace.room(now, crowd)
        if self.requests.limited:
            wait = max(wait, self.requests.wait(1, now))
        if self.tokens.limited:
            wait = max(wait, self.tokens.wait(tokens, now))
        return wait

    def _limit(self) -> int | None:
        """
        How many may be in flight by the user's word.
        """
        return self._most if self.climb is None else int(self.climb.limit)

    def _kept(self, limit: int, now: float) -> int:
        """
        Places that batch calls leave free, so that an interactive one need not wait.
        """
        alone = now - self._company >= _COMPANY
        if limit < 2 or alone or self._batch_is_short(limit):
            return 0
        # Where one waits for its turn already, there is nothing to keep.
        return 0 if self._queue.interactive.count else max(1, limit // TENTH)

    def _batch_is_short(self, limit: int) -> bool:
        """
        Whether batch calls have fewer places than are theirs in any case.
        """
        return self._under_way["batch"] < limit // TENTH

    def _next(self, now: float) -> tuple[Waiter | None, float]:
        """
        Whose turn is next, and in how many seconds it comes.
        """
        queue, limit = self._queue, self._limit()
        must = limit is not None and self._batch_is_short(limit)
        lane = queue.lane(batch_must=must)
        if lane is None:
            return None, math.inf
        fewest = self.pace.probing(now, self.in_flight)
        waiter = queue.first(lane, fewest=fewest)
        return waiter, self._wait(lane, waiter.tokens, now)

    def _wake(self) -> None:
        """
        Give the turn to those who may go, and see to it that the next is woken in time.
        """
        if self._loop is not None and self._loop.is_closed():
            self.disown()
        now = time.monotonic()
        while True:
            waiter, wait = self._next(now)
            if waiter is None or wait > 0:
                break
            self._queue.take(waiter)
            if not waiter.future.done():
                # It enters here, not when it runs, or two could have one turn.
                lease = self._enter(waiter.lane, waiter.asks, waiter.tokens, now)
                waiter.future.set_result(lease)
        self._set_alarm(wait)

    def _set_alarm(self, wait: float) -> None:
        alarm = self._alarm
        if math.isinf(wait):
            if alarm is not None:
                alarm.cancel()
                self._alarm = None
            return
        assert self._loop is not None
        at = self._loop.time() + wait
        if alarm is not None:
            # One that rings too early asks again, which costs less than a new one each time.
            if self._alarm_at <= at:
                return
            alarm.cancel()
        self._alarm, self._alarm_at = self._loop.call_at(at, self._ring), at

    def _ring(self) -> None:
        self._alarm = None
        self._wake()

    # Telling -------------------------------------------------------------------------

    def admitted(self, lease: Lease, limits: RateLimits) -> None:
        """
        The server took one.
        """
        now = time.monotonic()
        self.pace.admitted(now, self.in_flight, lease.era)
        if limits.limit_requests is not None or limits.limit_tokens is not None:
            self._learnt = limits
            self.requests.tell(
                limits.limit_requests,
                limits.remaining_requests,
                limits.reset_requests,
                sent=lease.gone[0],
                now=now,
            )
            self.tokens.tell(
                limits.limit_tokens,
                limits.remaining_tokens,
                limits.reset_tokens,
                sent=lease.gone[1],
                now=now,
            )
        if self._queue:
            self._wake()

    def answering(self, lease: Lease, seconds: float) -> None:
        """
        The answer of one has begun.
        """
        if self.climb is not None:
            self.climb.answered(seconds, lease.round)
            if self._queue:
                self._wake()

    def refused(self, lease: Lease) -> None:
        """
        It was too much for the server.
        """
        if self.climb is not None:
            self.climb.refused(lease.round)

    def close(self, wait: float, era: int | None) -> None:
        """
        Nobody enters for so long, and then at the pace that was learnt.
        """
        now = time.monotonic()
        self._last = max(self._last, now)
        if self.pace.refused(now, wait, self.in_flight, era):
            gate_closed(self._key, self.pace.closed_until - now, len(self._queue))
        if self._queue:
            self._wake()

    def leave(self, lease: Lease, usage: Usage | None) -> None:
        """
        One is no longer under way.
        """
        if self.tokens.limited:
            self._account(lease, usage)
        if lease.life == self.life:
            self._under_way[lease.lane] -= 1
        if self._queue:
            self._wake()

    def _account(self, lease: Lease, usage: Usage | None) -> None:
        """
        What it really cost, as far as anybody knows.
        """
        real = lease.tokens
        if usage is not None and usage.source != "none":
            real = float(usage.prompt_tokens + usage.completion_tokens)
            if usage.source == "server":
                self._estimate.learn(lease.asks, usage)
        elif lease.refusal:
            real = 0.0
        self.tokens.correct(lease.tokens, real, lease.sent, time.monotonic())

    def unsend(self, lease: Lease) -> None:
        """
        One was not under way at all.
        """
        now = time.monotonic()
        self.pace.unsent()
        self.requests.correct(1, 0, lease.sent, now)
        self.tokens.correct(lease.tokens, 0, lease.sent, now)
        if lease.life == self.life:
            self._under_way[lease.lane] -= 1
        self._wake()

    # Small print ---------------------------------------------------------------------

    def _forget(self, now: float) -> None:
        """
        So long after the last call the limit may be another one: it is learnt anew.
        """
        if self.pace.knows and self.pace.closed_until <= now:
            self.pace = Pace(self.pace.era + 1)

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Those who waited on a loop that is closed will not wake, nor do they hold a lease.
        """
        if self._loop is not None and self._loop.is_closed():
            self.disown()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._loop = loop

    def disown(self) -> None:
        """
        Forget who waits and who is under way, and the loop on which they do.
        """
        self._queue.clear()
        self._under_way = {"interactive": 0, "batch": 0}
        self.life += 1
        self._loop = self._alarm = None

    def state(self) -> GateState:
        """
        What there is to see.
        """
        now = time.monotonic()
        limit = self._limit()
        size = min(self.pace.size, math.inf if limit is None else limit)
        return GateState(
            in_flight=self.in_flight,
            interactive=self._queue.interactive.count,
            batch=self._queue.batch.count,
            closed_for=max(0.0, self.pace.closed_until - now),
            rate=self.pace.rate,
            concurrency=None if math.isinf(size) else int(size),
            requests_left=self.requests.left(now),
            tokens_left=self.tokens.left(now),
            learnt=self._learnt,
        )
