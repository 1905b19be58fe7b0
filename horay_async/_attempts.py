"""
The loop: a lease, one exchange, judge, again; for a plain call, and for a stream until its
first token.
"""

from __future__ import annotations

import asyncio
import math
import random
import time

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from ._call import Call
from ._errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    ConnectTimeoutError,
    DeadlineExceeded,
    FirstTokenTimeoutError,
    HorayError,
    IncompleteStreamError,
    PoolTimeoutError,
    RateLimitError,
)
from ._events import Hook, Report
from ._late import LateT, tell
from ._leases import Governing, Leased
from ._limits import Expired, Limit, Limits
from ._policy import (
    INSTANT,
    LONGEST_WAIT,
    Failure,
    GiveUp,
    Retry,
    RetryPolicy,
    decide,
    rate_limits,
)
from ._session import Body, Session
from ._timeouts import Timeouts
from ._values import Meta, Outcome, Timings, Usage, counted


T = TypeVar("T")

_OVERLOADED: Final = frozenset({429, 503, 529})
"""
Statuses that say that the server has too much to do.
"""


class Attempts:
    """
    All exchanges of one call. Not shared between tasks; `abort` may come from anywhere.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_call",
        "_clock",
        "_departed",
        "_free_used",
        "_governor",
        "_lease",
        "_limit",
        "_limits",
        "_loop",
        "_policy",
        "_report",
        "_retries",
        "_session",
        "count",
        "deadline",
        "sent",
        "timeouts",
        "timings",
        "usage",
    )

    def __init__(
        self,
        call: Call,
        *,
        session: Session,
        governor: Governing,
        policy: RetryPolicy,
        timeouts: Timeouts,
        hook: Hook | None = None,
        row: str | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._call = call
        self._session = session
        self._governor = governor
        self._policy = policy
        self._report = Report(hook, call.method, call.path, row)
        self._begun = self._loop.time()
        self._lease: Leased | None = None
        self._limits = Limits()
        # What bounds the exchange under way. Not a local: it knows the task, which may hold
        # an error as its result, whose traceback holds the locals.
        self._clock: Limit | None = None
        self._free_used = False
        self._retries = 0
        self._departed = False
        self.timeouts = timeouts
        self.timings = Timings()
        self.count = 0
        """
        Attempts so far; one that got no connection counts too.
        """
        self.usage: Usage | None = None
        """
        What the answer cost, once whoever reads it knows: it settles the lease.
        """
        self.sent = self._begun
        """
        When the last one went out, by the loop's clock.
        """
        self._limit = timeouts.bound(stream=call.stream)
        self.deadline: float | None = None
        """
        When the whole call must be over, by the loop's clock; None: never.
        """
        if not math.isinf(self._limit):
            self.deadline = self._begun + self._limit

    async def run(self, read: Callable[[Body], Awaitable[T]]) -> T:
        """
        Send, and read the answer, as often as the policy allows.

        Args:
            read: Reads a successful answer. An `APIError` that it raises is judged as well.

        Cancelled: the connection is closed and the lease settled before this returns.
        """
        while True:
            body = None
            try:
                async with self.limit(
                    self.deadline, self.deadline_exceeded
                ) as self._clock:
                    await self._take_lease()
                    body = await self._exchange()
                    answer = await read(body)
            except APIError as error:
                if body is not None:
                    body.drop()
                await self.judge(error, body)
            except BaseException:
                if body is not None:
                    body.drop()
                self.settle()
                raise
            else:
                self.settle()
                return answer

    async def send(self) -> Body:
        """
        One successful exchange: returns when the headers of a 2xx answer are there.

        The lease stays with the call: `settle` it when the body is done with.

        Raises:
            APIError: The last attempt's, when the policy gives up.

        Cancelled: the connection is closed and the lease settled before this returns.
        """
        while True:
            try:
                async with self.limit(
                    self.deadline, self.deadline_exceeded
                ) as self._clock:
                    await self._take_lease()
                    return await self._exchange()
            except APIError as error:
                await self.judge(error)
            except BaseException:
                self.settle()
                raise

    async def _take_lease(self) -> None:
        asked = self._loop.time()
        try:
            # Who has had tries has waited longest, and has the fewest left: it goes first.
            call = self._call
            self._lease = await self._governor.lease(
                call.gate, tries=self.count, lane=call.lane, asks=call.asks
            )
        finally:
            self.sent = self._loop.time()
            self.timings.governor += self.sent - asked

    async def _exchange(self) -> Body:
        call = self._call

        def departed() -> None:
            self._departed = True
            self.sent = self._loop.time()
            if call.stream and self._clock is not None:
                self._clock.move(*self._header_limit())

        self.count += 1
        self._report.started(self.count)
        try:
            body = await self._session.exchange(
                call.method,
                call.path,
                body=call.body,
                headers=call.headers,
                query=call.query,
                stream=call.stream,
                connect=self.timeouts.connect,
                departed=departed,
            )
        except BaseException as error:
            self._note_connecting(error)
            raise
        self.timings.headers = self._loop.time() - self.sent
        self.timings.pool, self.timings.connect = body.pool, body.connect
        if not 200 <= body.status < 300:
            # From here on a clock would say less than the status.
            if self._clock is not None:
                self._clock.move(None, self.deadline_exceeded)
            refusal = call.refusal(body, self._time_left())
            raise (await refusal).with_facts(meta=self.meta(body))
        if self._lease is not None:
            self._lease.admitted(rate_limits(body.headers))
            if not call.stream:
                self._lease.answering(self._loop.time() - self.sent)
        return body

    def answering(self) -> None:
        """
        A stream's first content is there.
        """
        seconds = self.timings.first_token = self._loop.time() - self.sent
        if self._lease is not None:
            self._lease.answering(seconds)

    def _note_connecting(self, error: BaseException) -> None:
        """
        No response came, and still it is known where the time went.
        """
        timings, facts = self.timings, error.__dict__
        if "pool" in facts:
            timings.pool, timings.connect = facts["pool"], facts["connect"]
        clock = f"{self.timeouts.connect:g} s (connect)"
        if isinstance(error, PoolTimeoutError):
            self.late(error, f"{self._crowd()} for {clock}")
        elif isinstance(error, ConnectTimeoutError):
            self.late(error, f"no connection to {self._session.where} within {clock}")

    def _crowd(self) -> str:
        limit = self._session.stats().limit
        return f"all {counted(limit, 'connection')} in use"

    def _header_limit(self) -> tuple[float | None, Expired]:
        first = self.timeouts.first_token
        when = math.inf if first is None else self.sent + first
        if self.deadline is not None and self.deadline <= when:
            return self.deadline, self.deadline_exceeded
        return (None if math.isinf(when) else when), self.no_first_token

    def redact(self, content: bytes) -> bytes:
        """
        The bytes without our key.
        """
        return self._call.redact(content)

    # Judging -------------------------------------------------------------------------

    async def judge(self, error: APIError, body: Body | None = None) -> None:
        """
        Settle the lease, and return when it is time to try again.

        Raises:
            APIError: This one, with its facts completed, when there is no use.

        Cancelled: the lease is settled already; only the waiting ends.
        """
        try:
            verdict = self._verdict(error, body)
            status = error.status_code
            if self._lease is not None and status in _OVERLOADED:
                self._lease.refused(status)
            if isinstance(error, RateLimitError):
                self._close_gate(verdict)
            if isinstance(verdict, GiveUp):
                error.retry_after = verdict.retry_after
                if verdict.too_long:
                    error.reworded(f"{error.message}; {verdict.reason}")
                raise error
        finally:
            # Only now: the place that it frees is not for a gate that has just closed.
            self.settle()
            # Its traceback holds this frame: a cycle, which would wait for the collector.
            del error
        self._free_used = self._free_used or verdict.free
        self._retries += not verdict.free
        # Of this attempt only the waiting counts on: its error keeps the rest.
        self.timings = Timings(governor=self.timings.governor)
        self._departed = False
        # Its own wait, whatever the gate has made of it: another one asks for all.
        await self._pause(verdict.wait)

    def _verdict(self, error: APIError, body: Body | None) -> Retry | GiveUp:
        self.complete(error, body)
        verdict = decide(
            self._failure(error),
            policy=self._policy,
            retries_done=self._retries,
            free_used=self._free_used,
            now=time.time(),
            dice=random.random(),  # noqa: S311 -- spreads callers, guards nothing
            time_left=self._time_left(),
        )
        wait = verdict.wait if isinstance(verdict, Retry) else None
        self._report.failed(error, wait, verdict.reason)
        return verdict

    async def _pause(self, seconds: float) -> None:
        if INSTANT:  # a test: it counts as waited
            self._begun -= seconds
            if self.deadline is not None:
                self.deadline -= seconds
            self.timings.governor += seconds
            return
        began = self._loop.time()
        async with self.limit(self.deadline, self.deadline_exceeded):
            try:
                await asyncio.sleep(seconds)
            finally:
                self.timings.governor += self._loop.time() - began

    def _close_gate(self, verdict: Retry | GiveUp) -> None:
        """
        Make everyone wait who shares the limit.
        """
        if INSTANT:
            return
        if isinstance(verdict, Retry):
            wait = verdict.wait
        elif verdict.retry_after is None or verdict.retry_after > LONGEST_WAIT:
            return
        else:
            wait = verdict.retry_after
        self._governor.close(self._call.gate, wait, lease=self._lease)

    def complete(self, error: APIError, body: Body | None) -> None:
        """
        Add what this room knows to an error: meta, and the time since the beginning.
        """
        if error.meta.status is None:
            reused = error.__dict__.get("reused", False)
            error.meta = self.meta(body, reused=reused)
        error.elapsed = self._loop.time() - self._begun
        self._call.clean(error)

    def _failure(self, error: APIError) -> Failure:
        facts = error.__dict__
        judged = (APIStatusError, APIConnectionError, IncompleteStreamError)
        return Failure(
            status=error.status_code if isinstance(error, APIStatusError) else None,
            headers=error.meta.headers,
            code=error.code,
            type=error.type,
            final=not isinstance(error, judged) or isinstance(error, DeadlineExceeded),
            reused=facts.get("reused", False),
            answered=facts.get("answered", False),
        )

    def _time_left(self) -> float | None:
        return None if self.deadline is None else self.deadline - self._loop.time()

    # Clocks and aborting -------------------------------------------------------------

    def limit(self, when: float | None, expired: Expired) -> Limit:
        """
        Bound what stands in the `async with` by a moment of the loop's clock, and by
        `abort`. A cancellation from elsewhere passes.
        """
        return self._limits.until(when, expired)

    def abort(self, error: APIError) -> None:
        """
        Make whoever waits inside `limit` get this error, now; later waits get it too.
        """
        self.complete(error, None)
        self._limits.stop(error)

    def close(self, error: HorayError) -> None:
        """
        The client was closed: whoever waits for a turn, or between attempts, gets this.
        """
        self._limits.stop(error)

    def deadline_exceeded(self, **facts: Any) -> APIError:
        """
        The error of the deadline's clock, with what is known of the answer.
        """
        what = f"the call took longer than its deadline of {self._limit:g} s"
        if self.timings.pool and not (self.timings.connect or self._departed):
            what += f" ({self._crowd()})"
        return self.late(DeadlineExceeded("", **facts), what)

    def no_first_token(self, **facts: Any) -> APIError:
        """
        The error of the first token's clock.
        """
        seconds = f"{self.timeouts.first_token:g} s"
        error = FirstTokenTimeoutError("", **facts)
        return self.late(error, f"no content within {seconds} of sending (first_token)")

    def late(self, error: LateT, what: str) -> LateT:
        """
        Complete the error of a clock that has run out.

        Args:
            what: What it was, for the beginning of its sentence.
        """
        unanswered = 0.0
        if self.timings.headers is None and self._departed:
            unanswered = self._loop.time() - self.sent
        self._stop_body()
        self.complete(error, None)
        return tell(error, what, unanswered=unanswered)

    # Ending --------------------------------------------------------------------------

    def settle(self) -> None:
        """
        Give the lease back. Twice is fine.
        """
        self._clock = None
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.settle(self.usage)

    def meta(self, body: Body | None, *, reused: bool = False) -> Meta:
        """
        The facts around the last exchange.

        Args:
            reused: Where no body came: whether the connection had been used before.
        """
        service, count, timings = self._call.service, self.count, self.timings
        if body is None:
            return Meta(service=service, attempts=count, reused=reused, timings=timings)
        return Meta(
            status=body.status,
            headers=body.headers,
            service=service,
            attempts=count,
            reused=body.reused,
            rate_limits=rate_limits(body.headers),
            timings=timings,
        )

    def _stop_body(self) -> None:
        """
        Note how long the body has taken, if there is one.
        """
        if self.timings.headers is not None:
            self.timings.body = self._loop.time() - self.sent - self.timings.headers

    def ended(
        self,
        outcome: Outcome,
        meta: Meta,
        *,
        usage: Usage | None = None,
        error: BaseException | None = None,
    ) -> None:
        """
        The call is over: settle, note its time, tell the hook.
        """
        if usage is not None:
            self.usage = usage
        self.settle()
        self.timings.total = self._loop.time() - self._begun
        self._stop_body()
        self._report.ended(outcome, meta, usage, error)
