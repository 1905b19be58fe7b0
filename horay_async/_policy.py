"""
Decisions only: send it again? wait how long?

No clock and no dice of its own: the time and the luck are arguments, so a decision can
be repeated. What is read from servers (headers, codes) may be any nonsense; none of it
raises, and no wait is negative, infinite or longer than promised here.
"""

import math
import re

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import attrs

from ._values import RateLimits


FIRST_BACKOFF = 0.5
"""
Ceiling of the first wait where the server names none, in seconds; it doubles each time.
"""

LONGEST_BACKOFF = 8.0
"""
Where that doubling stops, in seconds.
"""

BACKOFF_FLOOR_429 = 0.25
"""
The part of the ceiling that is waited in any case after a 429.
"""

LONGEST_WAIT = 120.0
"""
The longest wait that a server may ask for, in seconds.
"""

EXTRA = 0.1
"""
The part of such a wait that is added at random, so that callers do not return together.
"""

INSTANT: list[object] = []
"""
Who has asked that the waits between attempts take no time: see `horay_async.testing`.
"""

NEVER_HELPS = {
    501: "the server cannot do this at all",  # RFC 9110 15.6.2; llama.cpp uses it so
    505: "the server does not speak this HTTP version",  # RFC 9110 15.6.6
}
"""
Statuses from 500 on that say something about the server, not about this moment.
"""

FINAL = {
    # Money: OpenAI sends the first with a 429, Moonshot the second, where waiting would
    # look sensible.
    "insufficient_quota": "the quota of the account is used up",
    "exceeded_current_quota_error": "the quota of the account is used up",
    "billing_hard_limit_reached": "the account has reached its billing limit",
    "billing_not_active": "the account has no active billing",
    "billing_error": "the account has a billing problem",
    # Who asks.
    "invalid_api_key": "the key is not valid",
    "account_deactivated": "the account is deactivated",
    "access_terminated": "the access of the account is ended",
    "authentication_error": "the key is not valid",
    "permission_error": "the key may not do this",
    # What is asked: the same request meets the same answer.
    "model_not_found": "the model does not exist",
    "not_found_error": "what is asked for does not exist",
    "not_supported_error": "the server cannot do this at all",
    "context_length_exceeded": "the prompt is too long for the model",
    "exceed_context_size_error": "the prompt is too long for the model",
    "request_too_large": "the request is too large",
    "content_policy_violation": "the request was refused for its content",
    "content_filter": "the request was refused for its content",
    "unsupported_country_region_territory": "the service is not offered here",
}
"""
Codes and types that no waiting mends, whatever the status.

"invalid_request_error" is not among them: it is the name of a whole family, and gateways
put it on a 429 for a rate per minute too. There the status is the better witness.
"""


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """
    How often to try again.
    """

    max_retries: int = attrs.field(
        default=2,
        validator=[attrs.validators.instance_of(int), attrs.validators.ge(0)],
    )
    """
    Attempts after the first. 0 turns retries off.
    """


@attrs.frozen(kw_only=True)
class Failure:
    """
    The facts of one exchange that failed.
    """

    status: int | None = None
    """
    The HTTP status, or the one that an error inside a stream stands for. None: no
    answer came.
    """

    headers: Mapping[str, str] = attrs.field(factory=dict)
    """
    Their names may have any case.
    """

    code: str | int | None = None

    type: str | None = None

    final: bool = False
    """
    The caller knows that trying again is no use: an answer that is not JSON, say.
    """

    reused: bool = False
    """
    The connection had served another exchange before, and broke. (A timeout is not a
    break: the server may well be working.)
    """

    answered: bool = False
    """
    At least one byte of an answer had come.
    """


@attrs.frozen
class Retry:
    """
    Send it again after so many seconds.
    """

    wait: float

    reason: str

    free: bool = False
    """
    It does not count as one of the policy's retries.
    """


@attrs.frozen
class GiveUp:
    """
    Raise.
    """

    reason: str

    retry_after: float | None = None
    """
    The seconds that the server asked to wait, if it did.
    """

    too_long: bool = False
    """
    Only the wait is too long: the error says so, as nothing else in it does.
    """


def decide(
    failure: Failure,
    *,
    policy: RetryPolicy,
    retries_done: int,
    free_used: bool,
    now: float,
    dice: float,
    time_left: float | None,
) -> Retry | GiveUp:
    """
    Judge a failed exchange. Not to be asked about a cancelled one: that is never retried.

    *now* is Unix time; *dice* is at least 0 and below 1; *time_left* is what the deadline
    leaves, in seconds.

    A reused connection that broke before any answer gets one free retry at once, even
    where retries are off: as a rule the server closed it while it was idle and never saw
    the request.
    """
    asked = retry_after(failure.headers, now=now)
    broke_idle = failure.status is None and failure.reused and not failure.answered
    if broke_idle and not free_used and not failure.final:
        if time_left is not None and time_left <= 0:
            return GiveUp("the deadline has passed", asked)
        return Retry(0.0, "a connection kept from before was closed", free=True)
    if (why_not := _why_final(failure)) is not None:
        return GiveUp(why_not, asked)
    why_not = None
    if asked is not None and asked > LONGEST_WAIT:
        why_not = (
            f"the server asks to wait {asked:.6g} s,"
            f" and no more than {LONGEST_WAIT:.0f} s are waited"
        )
    elif retries_done >= policy.max_retries:
        return GiveUp(_count(retries_done), asked)
    if asked is None:
        wait = backoff(failure.status, retries_done, dice)
    else:
        wait = asked * (1 + EXTRA * dice)
    if why_not is None and time_left is not None and wait >= time_left:
        why_not = (
            f"the wait of {wait:.3g} s is longer than the {max(time_left, 0):.3g} s"
            " left before the deadline"
        )
    if why_not is not None:
        return GiveUp(why_not, asked, too_long=True)
    return Retry(wait, _what(failure.status))


def backoff(status: int | None, retries_done: int, dice: float) -> float:
    """
    The wait in seconds where the server names none: exponential, with full jitter.

    After a 429 a quarter of the ceiling is waited in any case: the server said that the
    time has not come, and a wait of nothing would spend a retry on hearing it again.
    """
    # Beyond 2**10 the ceiling does not change, and a float would overflow.
    ceiling = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(retries_done, 10))
    floor = BACKOFF_FLOOR_429 * ceiling if status == 429 else 0.0
    return floor + dice * (ceiling - floor)


def _why_final(failure: Failure) -> str | None:
    """
    Say why trying again is no use, or None if it may be.

    The order is the rank of the witnesses: what the caller knows, the error's own code,
    the server's word on retries, the status.
    """
    if failure.final:
        return "trying again cannot help"
    for name in (failure.code, failure.type):
        if isinstance(name, str) and (why := FINAL.get(name.strip().lower())):
            return why
    should_retry = (_header(failure.headers, "x-should-retry") or "").strip().lower()
    if should_retry == "false":
        return "the server says not to try again"
    if should_retry != "true" and (why := _why_status(failure.status)):
        return why
    return None


def _why_status(status: int | None) -> str | None:
    if status in NEVER_HELPS:
        return f"status {status}: {NEVER_HELPS[status]}"
    # RFC 9110 15: a status out of range is to be taken as one of the 5xx.
    if status is None or status in (408, 409, 429) or status >= 500:
        return None
    return f"status {status} is final"


def _what(status: int | None) -> str:
    return "no answer" if status is None else f"status {status}"


def _count(retries_done: int) -> str:
    if retries_done == 0:
        return "no retries allowed"
    return f"tried {retries_done + 1} times"


MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms")

NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")

# The longest form, RFC 850's "Wednesday, 06-Nov-94 08:49:37 GMT", has 33.
LONGEST_DATE = 40


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """
    The seconds that a server asks to wait; it may be any finite number from 0 on.

    ``retry-after-ms`` and ``x-ms-retry-after-ms`` come first, then ``Retry-After`` in
    seconds (fractions too) or as a date (RFC 9110 10.2.3). A header that makes no sense
    counts as absent; so does a date that has passed, for it may be the clocks that
    differ.
    """
    for name in MILLISECONDS:
        wait = _number(_header(headers, name))
        if wait is not None:
            return wait / 1000
    value = _header(headers, "retry-after")
    wait = _number(value)
    return wait if wait is not None else _until(value, now)


def _header(headers: Mapping[str, str], name: str) -> str | None:
    # A case-insensitive mapping answers at once; a plain dict is searched.
    value = headers.get(name)
    if value is None:
        for key, other in headers.items():
            if key.lower() == name:
                return other
    return value


def _number(text: str | None) -> float | None:
    # float() alone would take "1_000", "infinity" and digits of other scripts; and it does
    # not strip all that strip() does.
    text = (text or "").strip()
    if not NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _until(text: str | None, now: float) -> float | None:
    if text is None or len(text) > LONGEST_DATE:
        return None
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # RFC 9110 5.6.7: a date in HTTP is in GMT
            date = date.replace(tzinfo=UTC)
        wait = date.timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return wait if wait > 0 else None


UNITS = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "\u00b5s": 1e-6,  # the micro sign
    "\u03bcs": 1e-6,  # the Greek letter
    "ns": 1e-9,
}

# "ms" before "m": "17ms" are not 17 minutes and a rest.
PART = re.compile("([0-9]+(?:\\.[0-9]+)?)(h|ms|us|\u00b5s|\u03bcs|ns|m|s)")

DURATION = re.compile(f"(?:{PART.pattern})+")


def parse_duration(text: str) -> float | None:
    """
    Seconds of a duration as ``x-ratelimit-reset-*`` give it: "6m0s", "17ms", "2m59.56s".

    A bare number is in seconds. Anything else, and what is not finite, is None.
    """
    text = text.strip()
    if (number := _number(text)) is not None:
        return number
    if not DURATION.fullmatch(text):
        return None
    seconds = sum(float(value) * UNITS[unit] for value, unit in PART.findall(text))
    return seconds if math.isfinite(seconds) else None


def rate_limits(headers: Mapping[str, str]) -> RateLimits:
    """
    Read the `x-ratelimit-*` headers (OpenAI's names, which Groq and LiteLLM use too).
    """
    get = headers.get
    return RateLimits(
        limit_requests=_whole_number(get("x-ratelimit-limit-requests")),
        remaining_requests=_whole_number(get("x-ratelimit-remaining-requests")),
        reset_requests=_duration(get("x-ratelimit-reset-requests")),
        limit_tokens=_whole_number(get("x-ratelimit-limit-tokens")),
        remaining_tokens=_whole_number(get("x-ratelimit-remaining-tokens")),
        reset_tokens=_duration(get("x-ratelimit-reset-tokens")),
    )


def _whole_number(text: str | None) -> int | None:
    # isdecimal also admits other scripts' digits, which int() reads just as well.
    return int(text) if text and text.isdecimal() and len(text) < 20 else None


def _duration(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)
