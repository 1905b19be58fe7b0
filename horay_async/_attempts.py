"""
The loop: a lease, one exchange, judge, again; for a plain call, and for a stream until its
first token.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Final, TypeVar

import attrs

from ._codec import describe, status_error_of
from ._errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    DeadlineExceeded,
    FirstTokenTimeoutError,
    HorayError,
    IncompleteStreamError,
    RateLimitError,
)
from ._events import AttemptFailed, AttemptStarted, CallEnded, Hook, tell
from ._governor import Governor, Lease
from ._intake import redacted
from ._limits import Expired, Limit, Limits
from ._policy import (
    LONGEST_WAIT,
    Failure,
    GiveUp,
    Retry,
    RetryPolicy,
    decide,
    rate_limits,
)
from ._session import Body, Session
from ._timeouts import PLAIN_DEADLINE, Timeouts
from ._values import Meta, Outcome, Timings, Usage, counted


T = TypeVar("T")

ERROR_BODY_LIMIT: Final = 1 << 20
"""
Bytes that are read of an error's body.
"""

ERROR_BODY_SECONDS: Final = 10.0
"""
How long we wait for an error's body: the status has said the most important.
"""


@attrs.frozen(kw_only=True)
class Call:
    """
    What is sent, the same in every attempt.
    """

    method: str

    path: str

    service: str
    """
    The service's name, for messages.
    """

    gate: Hashable
    """
    What shares a rate limit: origin, key and model.
    """

    body: bytes | None = attrs.field(default=None, repr=False)

    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    query: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    stream: bool = False

    secret: str | None = attrs.field(default=None, repr=False)
    """
    The key: cut out of what a server echoes before an error carries it.
    """


class Attempts:
    """
    All exchanges of one call. Not shared between tasks; `abort` may come from anywhere.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_call",
        "_free_used",
        "_governor",
        "_hook",
        "_lease",
        "_limit",
        "_limits",
        "_loop",
        "_policy",
        "_retries",
        "_running",
        "_session",
        "count",
        "deadline",
        "sent",
        "timeouts",
        "timings",
    )

    def __init__(
        self,
        call: Call,
        *,
        session: Session,
        governor: Governor,
        policy: RetryPolicy,
        timeouts: Timeouts,
        hook: Hook | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._call = call
        self._session = session
        self._governor = governor
        self._policy = policy
        self._hook = hook
        self._begun = self._loop.time()
        self._lease: Lease | None = None
        self._limits = Limits()
        self._free_used = False
        self._retries = 0
        self._running = False
        self.timeouts = timeouts
        self.timings = Timings()
        self.count = 0
        """
        Attempts so far; one that got no connection counts too.
        """
        self.sent = self._begun
        """
        When the last one was sent, by the loop's clock.
        """
        limit = timeouts.deadline
        if limit is None:
            limit = math.inf if call.stream else PLAIN_DEADLINE
        self._limit = limit
        self.deadline: float | None = None if math.isinf(limit) else self._begun + limit
        """
        When the whole call must be over, by the loop's clock; None: never.
        """

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
                async with self.limit(self.deadline, self.deadline_exceeded):
                    await self._take_lease()
                    body = await self._exchange()
                    answer = await read(body)
            except APIError as error:
                _let_go(body)
                await self.judge(error, body)
            except BaseException:
                _let_go(body)
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
                async with self.limit(self.deadline, self.deadline_exceeded) as limit:
                    await self._take_lease()
                    return await self._exchange(limit)
            except APIError as error:
                await self.judge(error)
            except BaseException:
                self.settle()
                raise

    async def _take_lease(self) -> None:
        asked = self._loop.time()
        # Of the attempts before only the waiting counts on: their errors keep the rest.
        self.timings = Timings(governor=self.timings.governor)
        if self.count:
            # It has waited longest, and has the fewest retries left: it goes first.
            lease = self._governor.lease(self._call.gate, tries=self.count)
        else:
            lease = self._governor.lease(self._call.gate)
        self._lease = await lease
        self.sent = self._loop.time()
        self.timings.governor += self.sent - asked

    async def _exchange(self, limit: Limit | None = None) -> Body:
        """
        Args:
            limit: To be the first token's, once the request is on its way.
        """
        call = self._call

        def departed() -> None:
            self.sent = self._loop.time()
            if limit is not None:
                limit.move(*self._header_limit())

        self.count += 1
        self._running = True
        started = AttemptStarted(attempt=self.count, method=call.method, path=call.path)
        tell(self._hook, started)
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
        self.timings.headers = self._loop.time() - self.sent
        if not 200 <= body.status < 300:
            raise await self._refusal(body)
        if self._lease is not None:
            self._lease.admitted()
        return body

    def _header_limit(self) -> tuple[float | None, Expired]:
        first = self.timeouts.first_token
        when = math.inf if first is None else self.sent + first
        if self.deadline is not None and self.deadline <= when:
            return self.deadline, self.deadline_exceeded
        return (None if math.isinf(when) else when), self.no_first_token

    async def _refusal(self, body: Body) -> APIError:
        """
        Make the error of an answer that is not 2xx; the connection is done with.
        """
        try:
            content = self.redact(await _explanation(body))
        finally:
            body.drop()
        facts = describe(content, status=body.status, content_type=body.content_type)
        error = status_error_of(
            facts, status=body.status, in_stream=False, service=self._call.service
        )
        return error.with_facts(content=content, meta=self.meta(body))

    def redact(self, content: bytes) -> bytes:
        """
        The bytes without our key, plain or as JSON spells it: some servers echo it.
        """
        return redacted(content, self._call.secret)

    # Judging -------------------------------------------------------------------------

    async def judge(self, error: APIError, body: Body | None = None) -> None:
        """
        Settle the lease, and return when it is time to try again.

        Raises:
            APIError: This one, with its facts completed, when there is no use.
        """
        self.complete(error, body)
        verdict = decide(
            self._failure(error),
            policy=self._policy,
            retries_done=self._retries,
            free_used=self._free_used,
            now=time.time(),
            dice=random.random(),  # noqa: S311 -- spreads callers, guards nothing
            time_left=self.deadline and self.deadline - self._loop.time(),
        )
        self._tell_failure(error, verdict)
        closed = isinstance(error, RateLimitError) and self._close_gate(verdict)
        # Only now: the place that it frees is not for a gate that has just closed.
        self.settle()
        if isinstance(verdict, GiveUp):
            error.retry_after = verdict.retry_after
            raise error
        self._free_used = self._free_used or verdict.free
        self._retries += not verdict.free
        if not closed:
            began = self._loop.time()
            async with self.limit(self.deadline, self.deadline_exceeded):
                await asyncio.sleep(verdict.wait)
            self.timings.governor += self._loop.time() - began

    def _tell_failure(self, error: APIError, verdict: Retry | GiveUp) -> None:
        # What fails between two attempts, in the queue say, is none of them.
        if self._running:
            self._running = False
            failed = AttemptFailed(
                attempt=self.count,
                error=error,
                wait=verdict.wait if isinstance(verdict, Retry) else None,
                reason=verdict.reason,
            )
            tell(self._hook, failed)

    def _close_gate(self, verdict: Retry | GiveUp) -> bool:
        """
        Make everyone wait who shares the limit, us included, in the order of coming.
        """
        if isinstance(verdict, Retry):
            wait = verdict.wait
        elif verdict.retry_after is None or verdict.retry_after > LONGEST_WAIT:
            return False
        else:
            wait = verdict.retry_after
        self._governor.close(self._call.gate, wait, lease=self._lease)
        return True

    def complete(self, error: APIError, body: Body | None) -> None:
        """
        Add what this room knows to an error: meta, and the time since the beginning.
        """
        facts = error.__dict__
        if body is None and "pool" in facts:
            # No response came, and still it is known where the time went.
            self.timings.pool, self.timings.connect = facts["pool"], facts["connect"]
        if error.meta.status is None:
            error.meta = self.meta(body, reused=facts.get("reused", False))
        error.elapsed = self._loop.time() - self._begun

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

    # Clocks and aborting -------------------------------------------------------------

    def limit(self, when: float | None, expired: Expired) -> Limit:
        """
        Bound what stands in the `async with` by a moment of the loop's clock, and by
        `abort`.
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

    def deadline_exceeded(self) -> APIError:
        """
        The error of the deadline's clock.
        """
        return self._told_now(
            DeadlineExceeded(
                f"the call took longer than its deadline of {self._limit:g} s"
                f" ({counted(self.count, 'attempt')}{self._crowd()});"
                " raise timeout= or Timeouts(deadline=...) to wait longer"
            )
        )

    def _crowd(self) -> str:
        pool = self._session.stats()
        if self.timings.headers is None and 0 < pool.limit <= pool.in_use:
            return f", all {counted(pool.limit, 'connection')} in use"
        return ""

    def no_first_token(self) -> APIError:
        """
        The error of the first token's clock.
        """
        return self._told_now(
            FirstTokenTimeoutError(
                f"no content within {self.timeouts.first_token:g} s of sending;"
                " raise Timeouts(first_token=...) to wait longer"
            )
        )

    def _told_now(self, error: APIError) -> APIError:
        self.complete(error, None)
        return error

    # Ending --------------------------------------------------------------------------

    def settle(self) -> None:
        """
        Give the lease back. Twice is fine.
        """
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.settle()

    def meta(self, body: Body | None, *, reused: bool = False) -> Meta:
        """
        The facts around the last exchange.

        Args:
            reused: Where no body came: whether the connection had been used before.
        """
        if body is None:
            return Meta(
                service=self._call.service,
                attempts=self.count,
                reused=reused,
                timings=self.timings,
            )
        self.timings.pool = body.pool
        self.timings.connect = body.connect
        return Meta(
            status=body.status,
            headers=body.headers,
            service=self._call.service,
            attempts=self.count,
            reused=body.reused,
            rate_limits=rate_limits(body.headers),
            timings=self.timings,
        )

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
        self.settle()
        self.timings.total = self._loop.time() - self._begun
        if self.timings.headers is not None:
            self.timings.body = self._loop.time() - self.sent - self.timings.headers
        ended = CallEnded(
            path=self._call.path, outcome=outcome, meta=meta, usage=usage, error=error
        )
        tell(self._hook, ended)


async def _explanation(body: Body) -> bytes:
    """
    The body of a refusal, as far as it comes: the status says more than that it broke off.
    """
    content = bytearray()
    with contextlib.suppress(APIError, TimeoutError):
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            while len(content) < ERROR_BODY_LIMIT and (block := await body.read()):
                content += block
    return bytes(content[:ERROR_BODY_LIMIT])


def _let_go(body: Body | None) -> None:
    if body is not None:
        body.drop()
