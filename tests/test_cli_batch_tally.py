"""
What has become of a batch's lines, in words.
"""

import pytest

from horay_async import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConnectTimeoutError,
    InternalServerError,
    InvalidRequestError,
    PaymentRequiredError,
    RateLimitError,
    StreamAbortedError,
)
from horay_async.cli._lines import BadLine
from horay_async.cli._tally import Tally, amount, clock, duration, kind_of
from horay_async.many import Price, Progress
from horay_async.many._ledger import Ledger


PRICES = {"*": Price(1, 2)}

USED = "prompt_tokens", "completion_tokens", "estimated", "unpriced"


def progress(*, answered=0, failed=0, total=None, **facts):
    """
    A job that has come so far.
    """
    ledger = Ledger(prices=facts.pop("prices", None))
    for name in (*USED, "_cost"):
        setattr(ledger, name, facts.pop(name, 0))
    now = Progress(ledger, total=total, clock=lambda: 0.0)
    now.done, now.failed = answered + failed, failed
    for name, value in facts.items():
        setattr(now, name, value)
    return now


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadLine("x"), "bad line"),
        (InvalidRequestError("x"), "invalid request"),
        (AuthenticationError("x"), "refused key"),
        (PaymentRequiredError("x"), "empty account"),
        (RateLimitError("x"), "rate limit"),
        (RateLimitError("x", code="insufficient_quota"), "empty account"),
        (RateLimitError("x", type="insufficient_quota"), "empty account"),
        (BadRequestError("x"), "refused request"),
        (InternalServerError("x"), "server error"),
        (ConnectTimeoutError("x"), "timeout"),
        (APIConnectionError("x"), "lost connection"),
        (StreamAbortedError("x"), "interrupted line"),
        (BudgetExceededError("x"), "interrupted line"),
        (KeyError("x"), "error"),
    ],
)
def test_kinds(error, kind):
    """
    Failures are told apart by what the user may do about them.
    """
    assert kind_of(error) == kind


def test_lines():
    """
    Lines by what became of them, failures by their kind.
    """
    tally = Tally(progress(answered=1))
    assert tally.lines(whole=True) == "1 line: 1 answered, 0 failed"
    assert tally.is_whole()
    tally = Tally(progress(answered=1, failed=3))
    tally.failures.update(["bad line", "rate limit", "bad line"])
    said = "4 lines: 1 answered, 3 failed (2 bad lines, 1 rate limit)"
    assert tally.lines(whole=True) == said
    assert not tally.is_whole()


def test_lines_that_nobody_answered():
    """
    What was never answered has not failed, and the code is not 0 all the same.
    """
    tally = Tally(progress(answered=1, failed=3, total=9))
    for error in APIConnectionError("x"), AuthenticationError("x"), BadLine("x"):
        tally.add(error)
    assert tally.answered == 1
    said = "4 lines: 1 answered, 1 failed (1 bad line), 2 not answered"
    why = " (1 lost connection, 1 refused key)"
    assert tally.lines(whole=True) == said + why
    said = "9 lines: 1 answered, 1 failed (1 bad line), 7 not answered"
    assert tally.lines(whole=False) == said
    facts = tally.to_dict(whole=True)
    assert facts["failures"] == {"bad_line": 1}
    assert facts["not_answered"] == 2
    assert facts["not_answered_because"] == {"lost_connection": 1, "refused_key": 1}
    tally.failures.clear()
    assert not tally.is_whole()


def test_lines_of_earlier_runs():
    """
    What was answered before counts as a line; what failed before is no good end.
    """
    tally = Tally(progress(answered=1, skipped=812))
    said = "813 lines: 1 answered, 0 failed, 812 answered before"
    assert tally.lines(whole=True) == said
    assert tally.is_whole()
    tally = Tally(progress(answered=1, skipped=812, skipped_failed=3))
    said = "813 lines: 1 answered, 0 failed, 809 answered before, 3 failed before"
    assert tally.lines(whole=True) == said
    assert not tally.is_whole()


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (
            None,
            "2 lines: 1 answered, 0 failed, 1 answered before, the others not answer",
        ),
        (9, "9 lines: 1 answered, 0 failed, 1 answered before, 7 not answered"),
        (2, "2 lines: 1 answered, 0 failed, 1 answered before"),
    ],
)
def test_lines_that_are_left(total, said):
    """
    What was not answered is counted, where that can be.
    """
    tally = Tally(progress(answered=1, skipped=1, total=total))
    assert tally.lines(whole=False).startswith(said)


def test_lost_results():
    """
    What came and could not be written is not answered.
    """
    tally = Tally(progress(answered=5, total=9), lost=2)
    said = "9 lines: 3 answered, 0 failed, 2 lost, 4 not answered"
    assert tally.lines(whole=False) == said
    assert not tally.is_whole()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, ""),
        ({"prices": PRICES}, "cost 0.0000, "),
        (
            {"prices": PRICES, "unpriced": 1},
            "no price for 1 answer, ",
        ),
        (
            {"prices": PRICES, "unpriced": 2, "_cost": 5.0},
            "cost 0.0000 (2 answers without a price), ",
        ),
    ],
)
def test_cost(facts, said):
    """
    Money has no currency, and says what it leaves out.
    """
    now = progress(prompt_tokens=3, completion_tokens=5, **facts)
    assert Tally(now).cost() == f"3 tokens in, 5 out, {said}0.0 s, 0 tokens/s"


def test_estimates():
    """
    Tokens that no server counted are told as what they are.
    """
    now = progress(prompt_tokens=3, completion_tokens=5, estimated=1)
    assert Tally(now).cost() == "about 3 tokens in, 5 out, 0.0 s, 0 tokens/s"
    assert Tally(now).to_dict(whole=True)["estimated"] == 1


@pytest.mark.parametrize(
    ("money", "said"),
    [(0, "0.0000"), (0.00123, "0.0012"), (9.5, "9.5000"), (12, "12.00")],
)
def test_amounts(money, said):
    """
    Small sums are told more exactly.
    """
    assert amount(money) == said


def test_times():
    """
    How long answers took, of streams also their first tokens; and what was asked twice.
    """
    now = progress(answered=20)
    assert Tally(now).times() == ""
    for second in range(1, 21):
        now.latency.add(float(second))
    assert Tally(now).times() == "latency p50 10 s, p95 19 s"
    now.first_token.add(0.25)
    now.retried, now.changed = 1, 2
    assert (
        Tally(now)
        .times()
        .endswith("; first token p50 0.25 s, p95 0.25 s; 1 retry; 2 lines had changed")
    )


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (0.04, "0.0 s", "0:00"),
        (59.94, "59.9 s", "1:00"),
        (83, "1:23", "1:23"),
        (7263, "2:01:03", "2:01:03"),
    ],
)
def test_durations(seconds, long, short):
    """
    Seconds, then minutes, then hours.
    """
    assert duration(seconds) == long
    assert clock(seconds) == short
