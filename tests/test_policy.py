"""
The policy is a table, and is tested as one.
"""

import math
import string

import attrs
import pytest

from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from horay_async._policy import (
    FINAL,
    Failure,
    GiveUp,
    Retry,
    RetryPolicy,
    backoff,
    decide,
    parse_duration,
    retry_after,
)


NOW = 784111777.0 - 30.0  # half a minute before the date of RFC 9110's examples

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def judge(failure, **circumstances):
    """
    The decision on a first failure, without luck or haste unless told.
    """
    known = {
        "policy": RetryPolicy(),
        "retries_done": 0,
        "free_used": False,
        "now": NOW,
        "dice": 0.5,
        "time_left": None,
    }
    return decide(failure, **known | circumstances)


# name: (facts, circumstances, the wait)
AGAIN = {
    "no answer": ({}, {}, 0.25),
    "no answer on a used connection, later": (
        {"reused": True},
        {"free_used": True},
        0.25,
    ),
    "reset in the answer": ({"reused": True, "answered": True}, {}, 0.25),
    "408": ({"status": 408}, {}, 0.25),
    "409": ({"status": 409}, {}, 0.25),
    "500": ({"status": 500}, {}, 0.25),
    "502": ({"status": 502}, {}, 0.25),
    "503": ({"status": 503}, {}, 0.25),
    "504": ({"status": 504}, {}, 0.25),
    "529": ({"status": 529}, {}, 0.25),
    "out of range": ({"status": 999}, {}, 0.25),
    "second retry": ({"status": 500}, {"retries_done": 1}, 0.5),
    "unlucky": ({"status": 500}, {"dice": 0.0}, 0.0),
    "429": ({"status": 429}, {}, 0.3125),
    "429 unlucky": ({"status": 429}, {"dice": 0.0}, 0.125),
    "429 named": (
        {"status": 429, "code": "rate_limit_exceeded", "type": "requests"},
        {},
        0.3125,
    ),
    "429 of the family": (
        {"status": 429, "type": "invalid_request_error"},
        {},
        0.3125,
    ),
    "code is a number": ({"status": 503, "code": 50505}, {}, 0.25),
    "seconds": ({"status": 429, "headers": {"retry-after": "2"}}, {}, 2.1),
    "seconds, no luck": (
        {"status": 429, "headers": {"retry-after": "2"}},
        {"dice": 0.0},
        2.0,
    ),
    "at once": ({"status": 429, "headers": {"retry-after": "0"}}, {}, 0.0),
    "longest": ({"status": 503, "headers": {"retry-after": "120"}}, {}, 126.0),
    "milliseconds": ({"status": 503, "headers": {"retry-after-ms": "100"}}, {}, 0.105),
    "date": ({"status": 503, "headers": {"retry-after": DATE}}, {}, 31.5),
    "nonsense": ({"status": 503, "headers": {"retry-after": "soon"}}, {}, 0.25),
    "below zero": ({"status": 503, "headers": {"retry-after": "-1"}}, {}, 0.25),
    "the wait counts, not the backoff": (
        {"status": 429, "headers": {"retry-after": "2"}},
        {"retries_done": 1},
        2.1,
    ),
    "told to": ({"status": 400, "headers": {"x-should-retry": "true"}}, {}, 0.25),
    "told to, loudly": (
        {"status": 501, "headers": {"X-Should-Retry": " TRUE "}},
        {},
        0.25,
    ),
    "told nothing": ({"status": 500, "headers": {"x-should-retry": "maybe"}}, {}, 0.25),
    "in time": ({"status": 500}, {"time_left": 0.3}, 0.25),
}

# name: (facts, circumstances, words of the reason, the wait the server asked)
NOT_AGAIN = {
    **{
        f"{status}": ({"status": status}, {}, f"status {status}", None)
        for status in (200, 301, 400, 401, 402, 403, 404, 413, 422, 424, 501, 505)
    },
    **{
        f"429 {code}": ({"status": 429, "code": code}, {}, why, None)
        for code, why in FINAL.items()
    },
    "final by type": (
        {"status": 429, "code": None, "type": "insufficient_quota"},
        {},
        "quota",
        None,
    ),
    "final in capitals": (
        {"status": 500, "code": "Model_Not_Found"},
        {},
        "model",
        None,
    ),
    "final whatever the server says": (
        {
            "status": 429,
            "code": "insufficient_quota",
            "headers": {"x-should-retry": "true", "retry-after": "1"},
        },
        {},
        "quota",
        1.0,
    ),
    "the caller knows": ({"status": 500, "final": True}, {}, "cannot help", None),
    "the caller knows, unanswered": (
        {"reused": True, "final": True},
        {},
        "cannot help",
        None,
    ),
    "told not to": (
        {"status": 503, "headers": {"x-should-retry": "false", "retry-after": "3"}},
        {},
        "says not to",
        3.0,
    ),
    "too long": (
        {"status": 429, "headers": {"retry-after": "121"}},
        {},
        "wait 121 s",
        121.0,
    ),
    "a day": (
        {"status": 429, "headers": {"retry-after-ms": "86400000"}},
        {},
        "wait 86400 s",
        86400.0,
    ),
    "too long, though told to": (
        {"status": 429, "headers": {"retry-after": "500", "x-should-retry": "true"}},
        {},
        "wait 500 s",
        500.0,
    ),
    "a final status that asks to wait": (
        {"status": 403, "headers": {"retry-after": "500"}},
        {},
        "status 403",
        500.0,
    ),
    "tried enough": ({"status": 500}, {"retries_done": 2}, "tried 3 times", None),
    "tried enough, asked to wait": (
        {"status": 429, "headers": {"retry-after": "7"}},
        {"retries_done": 2},
        "tried 3 times",
        7.0,
    ),
    "retries are off": (
        {"status": 500},
        {"policy": RetryPolicy(max_retries=0)},
        "no retries",
        None,
    ),
    "no time for the wait": (
        {"status": 429, "headers": {"retry-after": "10"}},
        {"time_left": 5.0},
        "10.5 s is longer than the 5 s left before the deadline",
        10.0,
    ),
    "no time for the backoff": ({}, {"time_left": 0.25}, "deadline", None),
    "no time at all": ({}, {"time_left": -3.0}, "the 0 s left", None),
    "no time for a free one": (
        {"reused": True},
        {"time_left": 0.0},
        "deadline has passed",
        None,
    ),
}

# a name for each: the circumstances
FREE = {
    "the first time": {},
    "though retries are spent": {"retries_done": 2},
    "though retries are off": {"policy": RetryPolicy(max_retries=0)},
    "in time": {"time_left": 0.001},
}


@pytest.mark.parametrize(("facts", "circumstances", "wait"), AGAIN.values(), ids=AGAIN)
def test_again(facts, circumstances, wait):
    """
    What is tried again, and how long is waited first.
    """
    decision = judge(Failure(**facts), **circumstances)
    assert isinstance(decision, Retry), decision
    assert decision.wait == pytest.approx(wait)
    assert decision.free is False
    status = facts.get("status")
    assert decision.reason == (f"status {status}" if status else "no answer")


@pytest.mark.parametrize(
    ("facts", "circumstances", "words", "asked"), NOT_AGAIN.values(), ids=NOT_AGAIN
)
def test_not_again(facts, circumstances, words, asked):
    """
    What is raised, why, and the wait that the error can pass on.
    """
    decision = judge(Failure(**facts), **circumstances)
    assert isinstance(decision, GiveUp), decision
    assert words in decision.reason
    assert decision.retry_after == asked


@pytest.mark.parametrize("circumstances", FREE.values(), ids=FREE)
def test_free(circumstances):
    """
    A kept connection that broke before any answer costs one retry, and no retry.
    """
    decision = judge(Failure(reused=True), **circumstances)
    assert decision == Retry(0.0, decision.reason, free=True)
    assert "connection" in decision.reason


def test_backoff_doubles_to_a_ceiling():
    """
    Half a second, one, two, four, eight, and eight for ever.
    """
    assert [backoff(500, n, 1.0) for n in range(7)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert backoff(None, 10**9, 1.0) == 8
    assert [backoff(429, n, 0.0) for n in range(6)] == [0.125, 0.25, 0.5, 1, 2, 2]


@pytest.mark.parametrize("max_retries", [-1, 1.5, "2", None])
def test_policy_refuses(max_retries):
    """
    A number of retries is a whole number, from 0 on.
    """
    with pytest.raises((TypeError, ValueError)):
        RetryPolicy(max_retries=max_retries)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "5"}, 5),
        ({"Retry-After": " 5 "}, 5),
        ({"RETRY-AFTER": "0.25"}, 0.25),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1e2"}, 100),
        ({"retry-after": ".5"}, 0.5),
        ({"retry-after": "86400"}, 86400),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After-Ms": "0.5"}, 0.0005),
        ({"x-ms-retry-after-ms": "20"}, 0.02),
        ({"retry-after-ms": "10", "x-ms-retry-after-ms": "20"}, 0.01),
        ({"retry-after-ms": "10", "retry-after": "5"}, 0.01),
        ({"retry-after-ms": "soon", "retry-after": "5"}, 5),
        ({"retry-after-ms": "nan", "x-ms-retry-after-ms": "-1"}, None),
        ({"retry-after": DATE}, 30),
        ({"retry-after": "Sunday, 06-Nov-94 08:49:37 GMT"}, 30),
        ({"retry-after": "Sun Nov  6 08:49:37 1994"}, 30),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 +0000"}, 30),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:00 GMT"}, None),  # passed
        ({"retry-after": "Sun, 06 Nov 1994"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 25:49:37 GMT"}, None),
        ({"retry-after": "Sun, 06 Nov 99999999999999999999 08:49:37 GMT"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "5 s"}, None),
        ({"retry-after": "\u0665"}, None),  # a digit that float() would take
        ({"retry-after": "\udcff"}, None),
    ],
)
@pytest.mark.parametrize("kind", [dict, CIMultiDict])
def test_retry_after(headers, seconds, kind):
    """
    Every form of the headers, every kind of nonsense, in a plain dict and in aiohttp's.
    """
    assert retry_after(kind(headers), now=NOW) == (
        None if seconds is None else pytest.approx(seconds)
    )


def test_a_proxy_of_headers():
    """
    What aiohttp really hands over.
    """
    headers = CIMultiDictProxy(CIMultiDict({"X-Should-Retry": "false"}))
    assert isinstance(judge(Failure(status=500, headers=headers)), GiveUp)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("17ms", 0.017),
        ("1h2m3s", 3723),
        ("7.66s", 7.66),
        ("2m59.56s", 179.56),
        ("1m30ms", 60.03),
        ("12us", 12e-6),
        ("12\u00b5s", 12e-6),
        ("12\u03bcs", 12e-6),
        ("5ns", 5e-9),
        ("0s", 0),
        (" 1s ", 1),
        ("12", 12),
        ("0.5", 0.5),
        ("", None),
        ("s", None),
        ("1d", None),
        ("-1s", None),
        ("+1s", None),
        ("1 s", None),
        ("1m 30s", None),
        ("1s1", None),
        ("1..5s", None),
        ("1S", None),
        ("None", None),
        ("nan", None),
        ("inf", None),
        ("infs", None),
        ("\u0661s", None),
        ("9" * 400 + "s", None),
        ("9" * 5000, None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_parse_duration(text, seconds):
    """
    Go's durations as rate limits give them; a bare number; nothing else.
    """
    assert parse_duration(text) == (
        None if seconds is None else pytest.approx(seconds, rel=1e-12)
    )


NUMBERS = st.floats() | st.integers(-(10**400), 10**400)
VALUES = (
    st.text()
    | NUMBERS.map(str)
    | st.text(string.digits + ".-+eE_ hmsnu\u00b5", max_size=12)
    | st.datetimes().map(lambda date: date.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    | st.text("SunMoJaFeb GMT0123456789:,-+", max_size=40)
)
NAMES = st.sampled_from(
    ["retry-after", "Retry-After-Ms", "x-ms-retry-after-ms", "X-SHOULD-RETRY"]
)
FAILURES = st.builds(
    Failure,
    status=st.none() | st.integers(100, 999),
    headers=st.dictionaries(NAMES, VALUES),
    code=st.none() | st.integers() | st.text(),
    type=st.none() | st.text(),
    reused=st.booleans(),
    answered=st.booleans(),
)


CIRCUMSTANCES = st.fixed_dictionaries(
    {
        "policy": st.just(RetryPolicy(max_retries=10**9)),
        "retries_done": st.integers(0, 10**9),
        "free_used": st.booleans(),
        "now": st.floats(0, 2e9),
        "dice": st.floats(0, 1, exclude_max=True),
        "time_left": st.none() | st.floats(allow_nan=False),
    }
)


@given(FAILURES, CIRCUMSTANCES)
def test_no_header_breaks_it(failure, circumstances):
    """
    Whatever a server says, a wait is a time that can be waited, within what is promised.
    """
    decision = decide(failure, **circumstances)
    time_left = circumstances["time_left"]
    asked = retry_after(failure.headers, now=circumstances["now"])
    if isinstance(decision, GiveUp):
        assert decision.retry_after == asked
        return
    assert math.isfinite(decision.wait)
    if decision.free or asked is None:
        assert 0 <= decision.wait <= 8
    else:
        assert asked <= decision.wait <= 1.1 * asked <= 132.1
    assert time_left is None or decision.wait < time_left


@given(VALUES)
def test_no_duration_breaks_it(text):
    """
    A duration is a finite time or nothing.
    """
    seconds = parse_duration(text)
    assert seconds is None or 0 <= seconds < math.inf


def test_values_are_frozen():
    """
    Facts and decisions can be shared.
    """
    for value in (RetryPolicy(), Failure(), Retry(0.0, ""), GiveUp("")):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.reason = "x"
