"""
The targets `codec`, any bytes where JSON, a reply or an error should be, and `headers`.
"""

import math

from multidict import CIMultiDict

from horay_async import _codec
from horay_async._errors import APIError, APIResponseValidationError, APIStatusError
from horay_async._intake import misfit
from horay_async._policy import (
    EXTRA,
    LONGEST_BACKOFF,
    LONGEST_WAIT,
    Failure,
    GiveUp,
    RetryPolicy,
    decide,
    parse_duration,
    rate_limits,
    retry_after,
)
from horay_async._secrets import redacted
from horay_async._values import Meta

from .promises import HEAD, Broken, Options, check_error, check_value, promise


READERS = (
    _codec.chat_chunk,
    _codec.completion_chunk,
    lambda obj: _codec.chat_reply(obj, Meta()),
    lambda obj: _codec.completion_reply(obj, Meta()),
    _codec.model_list,
    _codec.image_reply,
    _codec.user_info,
)

STATUSES = (
    400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 424, 429,
    500, 502, 503, 504, 529, 599, 200, 204, 301, 0, 999,
)  # fmt: skip

TYPES = (
    "application/json",
    "text/html; charset=utf-8",
    "text/plain",
    "",
    "text/event-stream",
    "TEXT/HTML",
)

KEY = "sk-of/the-fuzzer"


def codec(data):
    """
    Whatever a body holds, only our own errors come out, and what is made of it is portable.
    """
    options = Options(data)
    body = data[HEAD:]
    readers = {options.number(len(READERS)), options.number(len(READERS))}
    event = options.pick(("", "", "error", "message"))
    refused(body, options.pick(STATUSES), options.pick(TYPES))
    try:
        value = _codec.loads(body)
    except ValueError:
        return
    facts = _codec.error_in(value, event)
    if facts is not None:
        check_error(_codec.status_error_of(facts, status=200, in_stream=True))
    for index in sorted(readers):
        try:
            made = READERS[index](value)
        except APIResponseValidationError as error:
            check_error(error)
        else:
            check_value(made, data[0] if data else 0)


def refused(body, status, kind):
    """
    The error that an answer with this status is.
    """
    facts = _codec.describe(body, status=status, content_type=kind)
    promise(facts.message, "facts without a message", facts)
    promise(len(facts.message) <= 1000, "a message without a bound", facts.message)
    error = _codec.status_error_of(
        facts, status=status, in_stream=False, service="Horay"
    )
    promise(isinstance(error, APIStatusError), "no status error", error)
    headers = CIMultiDict({"content-type": kind})
    meta = Meta(status=status, headers=headers)
    check_error(error.with_facts(content=redacted(body, KEY), meta=meta))
    check_error(misfit("a stream", body, meta))


def headers(data):
    """
    Whatever a server writes into its headers, a wait is finite and within the limits.
    """
    options = Options(data)
    text = data[HEAD:].decode("latin-1" if options.number(2) else "utf-8", "replace")
    sent = {}
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        sent[name.strip()] = value
        check_wait(parse_duration(value))
    made = options.pick((dict, CIMultiDict))(sent)
    check_wait(retry_after(made, now=1_700_000_000.0))
    limits = rate_limits(CIMultiDict(sent))
    for name in ("requests", "tokens"):
        check_wait(getattr(limits, f"reset_{name}"))
        check_wait(getattr(limits, f"limit_{name}"))
        check_wait(getattr(limits, f"remaining_{name}"))
    check_verdict(options, made)


def check_wait(seconds):
    """
    Absent, or a number that can be waited for.
    """
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        msg = f"a wait of {seconds!r}"
        raise Broken(msg)


def check_verdict(options, sent):
    """
    What the policy makes of them.
    """
    retries = options.number(4)
    time_left = options.pick((None, None, 0.0, 1.0, 1000.0))
    verdict = decide(
        Failure(
            status=options.pick((None, *STATUSES)),
            headers=sent,
            code=options.pick((None, 429, "insufficient_quota", "x")),
            reused=options.pick((False, True)),
            answered=options.pick((False, True)),
        ),
        policy=RetryPolicy(max_retries=2),
        retries_done=retries,
        free_used=options.pick((False, True)),
        now=1_700_000_000.0,
        dice=options.number(256) / 256,
        time_left=time_left,
    )
    promise(verdict.reason, "no reason", verdict)
    if isinstance(verdict, GiveUp):
        check_wait(verdict.retry_after)
        return
    longest = max(LONGEST_BACKOFF, LONGEST_WAIT * (1 + EXTRA))
    promise(0 <= verdict.wait <= longest, "a wait out of bounds", verdict)
    promise(retries < 2 or verdict.free, "more retries than allowed", verdict)
    promise(
        time_left is None or verdict.free or verdict.wait < time_left,
        "a wait beyond the deadline",
        verdict,
    )


def only_ours(call):
    """
    The result, or the error, which must be one of ours.
    """
    try:
        return call(), None
    except APIError as error:
        check_error(error)
        return None, error
