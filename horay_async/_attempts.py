"""
The loop: a lease, one exchange, judge, again; for a plain call, and for a stream until its
first token.
"""

from __future__ import annotations

import asyncio
import math
import random
import time

from collections.abc import Awaitable, Callable, Hashable, Mapping
from types import TracebackType
from typing import Final, TypeVar

import attrs

from multidict import CIMultiDict

from ._codec import describe, status_error_of
from ._errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    DeadlineExceeded,
    FirstTokenTimeoutError,
    IncompleteStreamError,
    RateLimitError,
)
from ._events import AttemptFailed, AttemptStarted, CallEnded, Hook, tell
from ._governor import Governor, Lease
from ._policy import LONGEST_WAIT, Failure, Retry, RetryPolicy, decide, parse_duration
from ._session import Body, Session
from ._values import (
    PLAIN_DEADLINE,
    Meta,
    Outcome,
    RateLimits,
    Timeouts,
    Timings,
    Usage,
)


T = TypeVar("T")

ERROR_BODY_LIMIT: Final = 1 << 20
"""
Bytes that are read of an error's body.
"""


SHORTEST_SECRET: Final = 8


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

    body: bytes | None = None

    headers: Mapping[str, str] = attrs.field(factory=dict)

    query: Mapping[str, str] = attrs.field(factory=dict)

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
        "_abort",
        "_begun",
        "_call",
        "_free_used",
        "_governor",
        "_hook",
        "_lease",
        "_loop",
        "_policy",
        "_retries",
        "_scope",
        "_session",
        "count",
        "deadline",
        "sent",
        "timings",
        "timeouts",
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
        self._scope: asyncio.Timeout | None = None
        self._abort: APIError | None = None
        self._free_used = False
        self._retries = 0
        self.timeouts = timeouts
        self.timings = Timings()
        self.count = 0
        """
        HTTP requests sent so far.
        """
        self.sent = self._begun
        """
        When the last one was sent, by the loop's clock.
        """
        limit = timeouts.deadline
        if limit is None:
            limit = math.inf if call.stream else PLAIN_DEADLINE
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
                    body = await self._exchange()
                    return await read(body)
            except APIError as error:
                _let_go(body)
                self.settle()
                await self.judge(error, body)
            except BaseException:
                _let_go(body)
                raise
            finally:
                self.settle()

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
                async with self.limit(*self._header_limit()):
                    return await self._exchange()
            except APIError as error:
                await self.judge(error)

    async def _exchange(self) -> Body:
        call, began = self._call, self._loop.time()
        self._lease = await self._governor.lease(call.gate)
        try:
            self.sent = self._loop.time()
            self.timings.governor += self.sent - began
            self.count += 1
            if self._hook is not None:
                event = AttemptStarted(
                    attempt=self.count, method=call.method, path=call.path
                )
                tell(self._hook, event)
            body = await self._session.exchange(
                call.method,
                call.path,
                body=call.body,
                headers=call.headers,
                query=call.query,
                stream=call.stream,
                connect=self.timeouts.connect,
            )
            self.timings.headers = self._loop.time() - self.sent
            if 200 <= body.status < 300:
                self._lease.admitted()
                return body
            raise await self._refusal(body)
        except BaseException:
            self.settle()
            raise

    def _header_limit(self) -> tuple[float | None, Callable[[], APIError]]:
        first = self.timeouts.first_token
        when = math.inf if first is None else self._loop.time() + first
        if self.deadline is not None and self.deadline <= when:
            return self.deadline, self.deadline_exceeded
        return (None if math.isinf(when) else when), self.no_first_token

    async def _refusal(self, body: Body) -> APIError:
        """
        Make the error of an answer that is not 2xx; the connection is done with.
        """
        try:
            content = await body.read_all(ERROR_BODY_LIMIT)
        except APIError:
            # The status says more than that its explanation broke off.
            content = b""
        finally:
            body.drop()
        content = self.redact(content)
        facts = describe(content, status=body.status, content_type=body.content_type)
        error = status_error_of(
            facts, status=body.status, in_stream=False, service=self._call.service
        )
        return error.with_facts(content=content, meta=self.meta(body))

    def redact(self, content: bytes) -> bytes:
        """
        The bytes without our key: some servers echo it.
        """
        secret = self._call.secret
        # A key of a few letters is a test's, and cutting it out would maim any text.
        if secret and len(secret) >= SHORTEST_SECRET:
            return content.replace(secret.encode(), b"***")
        return content

    # Judging -------------------------------------------------------------------------

    async def judge(self, error: APIError, body: Body | None = None) -> None:
        """
        Return when it is time to try again.

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
            time_left=None
            if self.deadline is None
            else self.deadline - self._loop.time(),
        )
        retry = verdict if isinstance(verdict, Retry) else None
        if self._hook is not None:
            event = AttemptFailed(
                attempt=self.count,
                error=error,
                wait=retry.wait if retry else None,
                reason=verdict.reason,
            )
            tell(self._hook, event)
        asked = retry.wait if retry else verdict.retry_after
        limited = isinstance(error, RateLimitError) and asked is not None
        if limited and asked <= LONGEST_WAIT:
            self._governor.close(self._call.gate, asked)
        if retry is None:
            error.retry_after = verdict.retry_after
            raise error
        self._free_used = self._free_used or retry.free
        self._retries += not retry.free
        if not limited:
            # A closed gate makes everyone wait, us included, in the order of coming.
            began = self._loop.time()
            async with self.limit(self.deadline, self.deadline_exceeded):
                await asyncio.sleep(retry.wait)
            self.timings.governor += self._loop.time() - began

    def complete(self, error: APIError, body: Body | None) -> None:
        """
        Add what this room knows to an error: meta, and the time since the beginning.
        """
        if error.meta.status is None:
            error.meta = self.meta(body)
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

    def limit(self, when: float | None, expired: Callable[[], APIError]) -> Limit:
        """
        Bound what stands in the `async with` by a moment of the loop's clock, and by
        `abort`.
        """
        return Limit(self, when, expired)

    def abort(self, error: APIError) -> None:
        """
        Make whoever waits inside `limit` get this error, now; later waits get it too.
        """
        self._abort = error
        if self._scope is not None:
            self._scope.reschedule(self._loop.time())

    def deadline_exceeded(self) -> APIError:
        """
        The error of the deadline's clock.
        """
        return DeadlineExceeded(
            f"the call took longer than its deadline of {self.limit_in_seconds():g} s"
            f" ({self.count} requests sent);"
            " raise Timeouts(deadline=...) to wait longer"
        )

    def limit_in_seconds(self) -> float:
        """
        The deadline as it was given.
        """
        return math.inf if self.deadline is None else self.deadline - self._begun

    def no_first_token(self) -> APIError:
        """
        The error of the first token's clock.
        """
        return FirstTokenTimeoutError(
            f"no content within {self.timeouts.first_token:g} s of sending;"
            " raise Timeouts(first_token=...) to wait longer"
        )

    # Ending --------------------------------------------------------------------------

    def settle(self) -> None:
        """
        Give the lease back. Twice is fine.
        """
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.settle()

    def meta(self, body: Body | None) -> Meta:
        """
        The facts around the last exchange.
        """
        if body is None:
            return Meta(
                service=self._call.service, attempts=self.count, timings=self.timings
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
        if self._hook is not None:
            event = CallEnded(
                path=self._call.path,
                outcome=outcome,
                meta=meta,
                usage=usage,
                error=error,
            )
            tell(self._hook, event)


class Limit:
    """
    `asyncio.timeout_at` that raises our error, and that `Attempts.abort` can end early.
    """

    __slots__ = ("_attempts", "_expired", "_scope")

    def __init__(
        self,
        attempts: Attempts,
        when: float | None,
        expired: Callable[[], APIError],
    ) -> None:
        self._attempts = attempts
        self._expired = expired
        self._scope = asyncio.timeout_at(when)

    async def __aenter__(self) -> None:
        if self._attempts._abort is not None:
            raise self._attempts._abort
        await self._scope.__aenter__()
        self._attempts._scope = self._scope

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._attempts._scope = None
        try:
            await self._scope.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise (self._attempts._abort or self._expired()) from None


def rate_limits(headers: CIMultiDict[str]) -> RateLimits:
    """
    Read the `x-ratelimit-*` headers (OpenAI's names, which Groq and LiteLLM use too).
    """
    get = headers.get
    return RateLimits(
        limit_requests=_count(get("x-ratelimit-limit-requests")),
        remaining_requests=_count(get("x-ratelimit-remaining-requests")),
        reset_requests=_duration(get("x-ratelimit-reset-requests")),
        limit_tokens=_count(get("x-ratelimit-limit-tokens")),
        remaining_tokens=_count(get("x-ratelimit-remaining-tokens")),
        reset_tokens=_duration(get("x-ratelimit-reset-tokens")),
    )


def _count(text: str | None) -> int | None:
    # isdecimal also admits other scripts' digits, which int() reads just as well.
    return int(text) if text and text.isdecimal() and len(text) < 20 else None


def _duration(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)


def _let_go(body: Body | None) -> None:
    if body is not None:
        body.drop()
