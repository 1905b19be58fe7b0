"""
How far a job is: counts, pace and what is left, on a clock that is moved by hand.
"""

import json

from types import SimpleNamespace

import pytest

from horay_async import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    RateLimitError,
    StreamAbortedError,
    Usage,
)
from horay_async.many._ledger import Ledger
from horay_async.many._money import ANY, Budget, Price
from horay_async.many._progress import RECENT, Progress
from horay_async.many._quantiles import ERROR


class Clock:
    """
    Seconds that pass when a test says so.
    """

    def __init__(self):
        self.now = 1234.5

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def progress(clock, ledger=None, **given):
    return Progress(ledger, clock=clock, **given)


def row(error=None, seconds=None, first_token=None):
    """
    All that is read of a row.
    """
    return SimpleNamespace(error=error, seconds=seconds, first_token=first_token)


def finish(one, times=1, **facts):
    for _ in range(times):
        one._finished(row(**facts))


def start(one, times=1):
    for _ in range(times):
        one._started()


async def use(ledger, prompt, completion, **more):
    reservation = await ledger.reserve(prompt_bytes=10)
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, **more)
    reservation.settle(usage)


def test_before_it_begins(clock):
    """
    Nothing is known, and no time passes.
    """
    one = progress(clock)
    clock.now += 100
    assert repr(one) == "<Progress: 0 done, 0 failed, 0 tokens>"
    assert (one.seconds, one.rows_per_second, one.tokens_per_second) == (0, 0, 0)
    assert (one.total, one.left, one.eta, one.cost) == (None, None, None, None)


def test_counts(clock):
    """
    Every row is in one place only.
    """
    one = progress(clock, total=20)
    for failed in (False, True, False):
        one._skipped(failed=failed)
    start(one, 8)
    one._retried()
    one._retried()
    one._changed()
    finish(one, 3)
    finish(one, 2, error=ValueError())
    one._dropped()
    assert (one.done, one.answered, one.failed, one.in_flight) == (5, 3, 2, 2)
    assert (one.skipped, one.skipped_failed, one.changed, one.retried) == (3, 1, 1, 2)
    assert one.left == 20 - 5 - 3


@pytest.mark.parametrize(
    ("error", "unanswered"),
    [
        (APIConnectionError("cannot connect"), 1),
        (AuthenticationError("no"), 1),
        (StreamAbortedError("closed"), 1),
        (RateLimitError("slowly"), 1),
        (BadRequestError("no"), 0),
        (ValueError(), 0),
    ],
)
def test_unanswered(clock, error, unanswered):
    """
    What went without an answer through no fault of its own is told from what failed.
    """
    one = progress(clock)
    start(one)
    finish(one, error=error)
    assert (one.failed, one.unanswered) == (1, unanswered)
    assert one.to_dict()["unanswered"] == unanswered


async def test_estimates(clock):
    """
    Tokens that no server counted are about as many.
    """
    ledger = Ledger()
    one = progress(clock, ledger)
    await use(ledger, 10, 5)
    assert (one.estimated, repr(one)) == (0, "<Progress: 0 done, 0 failed, 15 tokens>")
    await use(ledger, 10, 5, source="estimated")
    assert one.estimated == one.to_dict()["estimated"] == 1
    assert repr(one) == "<Progress: 0 done, 0 failed, about 30 tokens>"


async def test_in_words(clock):
    """
    The repr says what matters, and leaves out what there is none of.
    """
    ledger = Ledger(prices={ANY: Price(1, 2)})
    one = progress(clock, ledger, total=2000)
    start(one, 61)
    one._skipped()
    one._retried()
    clock.now += 10
    await use(ledger, 1000, 200)
    finish(one, 60)
    start(one, 41)
    finish(one, 40)
    one._dropped()
    assert repr(one) == (
        "<Progress: 100 of 2000 done, 0 failed, 1 in the journal before, 1 in flight,"
        " 1 retry, 1200 tokens, cost 0.0014, 190 s left>"
    )
    one._retried()
    one._ended()
    assert "2 retries" in repr(one)
    assert "left" not in repr(one)


async def test_to_dict(clock):
    """
    All of it, as JSON has it, at one moment.
    """
    ledger = Ledger(Budget(tokens=10**6), {ANY: Price(1, 2)})
    one = progress(clock, ledger, total=10)
    start(one, 4)
    clock.now += 8
    await use(ledger, 100, 40)
    finish(one, 4, seconds=2.0, first_token=0.5)
    facts = one.to_dict()
    start(one)
    assert json.loads(json.dumps(facts)) == facts
    assert facts.pop("latency")["p50"] == pytest.approx(2, rel=ERROR)
    assert facts.pop("first_token")["p95"] == pytest.approx(0.5, rel=ERROR)
    assert facts.pop("cost") == pytest.approx(180e-6)
    assert facts == {
        "total": 10,
        "done": 4,
        "answered": 4,
        "failed": 0,
        "unanswered": 0,
        "skipped": 0,
        "skipped_failed": 0,
        "changed": 0,
        "retried": 0,
        "in_flight": 0,
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "cached_tokens": 0,
        "estimated": 0,
        "unpriced": 0,
        "seconds": 8.0,
        "away": 0.0,
        "rows_per_second": 0.5,
        "tokens_per_second": 5.0,
        "eta": 12.0,
    }


async def test_tokens_are_the_ledgers(clock):
    """
    They count as soon as they are settled, those of rows that fail later included.
    """
    ledger = Ledger(prices={"a": Price(1, 2)})
    one = progress(clock, ledger)
    start(one)
    await use(ledger, 50, 20)
    assert (one.prompt_tokens, one.completion_tokens, one.unpriced) == (50, 20, 1)
    assert (one.cached_tokens, one.cost) == (0, 0)


# Time --------------------------------------------------------------------------------


def test_seconds(clock):
    """
    From the first row that is asked for, until the end.
    """
    one = progress(clock)
    clock.now += 5
    one._begin()
    clock.now += 5
    one._begin()
    start(one)
    assert one.seconds == 5
    one._ended()
    clock.now += 100
    one._ended()
    assert one.seconds == 5


async def test_recent_pace(clock):
    """
    Speed is that of the last minute, so that what is left follows a server that slows
    down.
    """
    ledger = Ledger()
    one = progress(clock, ledger, total=10_000)
    for _ in range(100):
        start(one, 10)
        clock.now += 1
        await use(ledger, 10, 50)
        finish(one, 10)
    assert one.rows_per_second == pytest.approx(10, rel=0.02)
    assert one.tokens_per_second == pytest.approx(50, rel=0.02)
    assert one.eta == pytest.approx(900, rel=0.02)
    for _ in range(RECENT):
        start(one)
        clock.now += 1
        finish(one)
    assert one.rows_per_second == pytest.approx(1, rel=0.02)
    assert one.tokens_per_second == 0
    assert one.eta == pytest.approx(10_000 - 1060, rel=0.02)


def test_slower_than_a_minute(clock):
    """
    Where none was finished in the last minute, speed is that of all the time.
    """
    one = progress(clock, total=10)
    start(one)
    for _ in range(4):
        clock.now += 100
        finish(one)
        start(one)
    clock.now += 100
    assert one.rows_per_second == pytest.approx(4 / 500)
    assert one.eta == pytest.approx(6 * 500 / 4)


def test_all_the_time_at_the_end(clock):
    """
    Of a job that is over the speed is that of the whole, for a summary.
    """
    one = progress(clock)
    start(one, 30)
    clock.now += 1
    finish(one, 20)
    clock.now += 99
    finish(one, 10)
    assert one.rows_per_second == pytest.approx(10 / RECENT, rel=0.05)
    one._ended()
    assert one.rows_per_second == pytest.approx(0.3)
    clock.now += 1000
    assert one.rows_per_second == pytest.approx(0.3)


def test_nothing_is_divided_by_no_time(clock):
    """
    A row may be over in the instant in which it began.
    """
    one = progress(clock)
    start(one)
    finish(one)
    assert one.rows_per_second > 0


def test_the_first_round(clock):
    """
    The first results are the quickest: they tell nothing of the others.
    """
    one = progress(clock, total=100)
    start(one, 8)
    clock.now += 1
    finish(one, 7)
    assert one.eta is None
    start(one, 7)
    clock.now += 1
    finish(one)
    assert one.eta == pytest.approx(92 * 2 / 8)


def test_no_total(clock):
    """
    Without knowing how many there are nobody knows what is left; it may be learnt later.
    """
    one = progress(clock)
    start(one)
    clock.now += 1
    finish(one)
    assert one.eta is None
    one.total = 3
    assert (one.left, one.eta) == (2, 2)
    # More than somebody had counted.
    one.total = 0
    assert (one.left, one.eta) == (0, 0)


def test_all_skipped(clock):
    """
    Where the journal has it all nothing is left, and no pace is needed to know that.
    """
    one = progress(clock, total=2)
    one._begin()
    one._skipped()
    one._skipped()
    assert one.eta == 0


def test_latency_of_answers(clock):
    """
    What failed at once, or waited for a clock, says nothing of how long answers take.
    """
    one = progress(clock)
    finish(one, seconds=1.0)
    finish(one, seconds=3.0, first_token=0.2)
    finish(one, error=ValueError(), seconds=600.0, first_token=60.0)
    finish(one, error=ValueError())
    assert (one.latency.count, one.first_token.count) == (2, 1)


def test_memory(clock):
    """
    A job of any length leaves as much behind as a short one.
    """
    one = progress(clock)
    for step in range(10_000):
        clock.now += step % 7
        start(one)
        finish(one, seconds=float(step % 40))
    assert len(one._pace._rows) == RECENT
    assert len(one.latency._buckets) <= 40
