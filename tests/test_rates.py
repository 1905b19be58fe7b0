"""
So many a minute: never more in any minute, all of them in the end, and what servers tell.
"""

import itertools
import math
import random

import pytest

from horay_async._leases import Asks
from horay_async._rates import Estimate, Left, Meter, Supply
from horay_async._values import Usage


def most_in_a_minute(times):
    """
    The largest sum of (when, how much) in any 60 s, both ends included.
    """
    most = total = 0
    first = 0
    for when, amount in times:
        total += amount
        while times[first][0] < when - 60:
            total -= times[first][1]
            first += 1
        most = max(most, total)
    return most


def sent(meter, amounts, *, until, pauses=lambda: 0.0):
    """
    What goes when, if it goes as soon as it may.
    """
    now, times = 1000.0, []
    for amount in amounts:
        now += pauses()
        while (wait := meter.wait(amount, now)) > 0:
            now += wait + 1e-6
        if now > 1000.0 + until:
            break
        meter.take(amount, now)
        times.append((now, amount))
    return times


@pytest.mark.parametrize("limit", [1, 3, 10, 59, 60, 61, 600, 6000])
def test_requests_a_minute(limit):
    """
    Never more in any minute, and hardly fewer in the long run; a second's worth at once.
    """
    times = sent(Meter(limit), itertools.repeat(1), until=600)
    assert most_in_a_minute(times) <= limit
    assert len(times) >= 0.97 * limit * 10
    at_once = sum(when < 1000.01 for when, _ in times)
    assert at_once <= max(1, limit / 60) + 1


@pytest.mark.parametrize("seed", range(5))
def test_in_whichever_minute(seed):
    """
    After pauses of any length, too.
    """
    dice = random.Random(seed)
    pauses = lambda: dice.choice([0, 0, 0, 0.3, 20]) * dice.random()  # noqa: E731
    amounts = (dice.randrange(1, 900) for _ in range(3000))
    times = sent(Meter(5000), amounts, until=3600, pauses=pauses)
    assert most_in_a_minute(times) <= 5000
    assert len(times) > 200


def test_more_than_the_limit():
    """
    It goes alone, when nothing has gone for a minute, and does not wait for ever.
    """
    times = sent(Meter(1000), [10, 5000, 10], until=10_000)
    assert [amount for _, amount in times] == [10, 5000, 10]
    first, second, third = (when for when, _ in times)
    assert 60 <= second - first < 62
    assert 299 <= third - second < 302


def test_less_than_was_thought():
    """
    What is given back can be used at once, and is not counted twice a minute later.
    """
    meter = Meter(600)
    meter.take(600, 0.0)
    assert meter.wait(100, 30.0) > 29
    meter.correct(600, 100, 0.0, 30.0)
    assert meter.wait(100, 30.0) <= 0
    for second in (30, 40, 50):
        meter.take(100, second)
    # What went at 0 is gone by now, and must not make place twice.
    assert meter.wait(300, 61.0) <= 0
    assert meter.wait(301, 61.0) > 25


def test_more_than_was_thought():
    """
    It is a debt.
    """
    meter = Meter(600)
    meter.take(10, 0.0)
    meter.correct(10, 600, 0.0, 5.0)
    assert meter.left(5.0) < 1
    assert 55 < meter.wait(10, 5.0) < 57
    # Long over: nothing is there to be taken off.
    meter.correct(600, 10, 0.0, 200.0)
    assert meter.wait(600, 200.0) <= 0


def test_what_may_go():
    """
    A second's worth, until it has gone.
    """
    meter = Meter(6000)
    assert meter.left(0.0) == 100
    assert not meter.used(0.0)
    meter.take(60, 0.0)
    assert meter.left(0.0) == 40
    assert meter.used(60.0)
    assert not meter.used(61.0)


# What a call will cost -------------------------------------------------------------


def test_nothing_is_known():
    """
    A quarter of a token a byte, and as many as the answer may have.
    """
    estimate = Estimate()
    asks = Asks(prompt_bytes=400, max_tokens=50, choices=3)
    assert estimate.of(asks) == pytest.approx(400 / 4 + 8 + 150)
    assert estimate.of(Asks(prompt_bytes=400)) == pytest.approx(108 + 256)


def test_it_learns():
    """
    How long answers are, and how many bytes make a token.
    """
    estimate = Estimate()
    asks = Asks(prompt_bytes=1000, max_tokens=4000, choices=2)
    usage = Usage(prompt_tokens=508, completion_tokens=200)
    for _ in range(100):
        estimate.learn(asks, usage)
    assert estimate.of(asks) == pytest.approx(508 + 200, rel=0.05)
    # Nobody's answer is longer than it may be.
    assert estimate.of(Asks(max_tokens=10)) == pytest.approx(18)


def test_answers_differ():
    """
    The estimate is rather too long than too short.
    """
    estimate, dice = Estimate(), random.Random(1)
    lengths = [dice.choice([50, 150]) for _ in range(200)]
    for length in lengths:
        estimate.learn(Asks(), Usage(completion_tokens=length))
    assert 130 < estimate.of(Asks()) < 260


# What a server says is left ----------------------------------------------------------


def test_nothing_said():
    """
    Nothing waits.
    """
    left = Left()
    assert left.wait(10**9, 0.0) == 0
    assert left.left(0.0) is None


def test_it_slows_down_before_the_refusal():
    """
    As many as are left go at once; then as fast as they come back.
    """
    left = Left()
    left.tell(60, 3, 57.0, sent=1, total=1, now=0.0)
    for _ in range(3):
        assert left.wait(1, 0.0) <= 0
        left.take(1, 0.0)
    assert left.left(0.0) == 0
    assert left.wait(1, 0.0) == pytest.approx(1.0)
    assert left.wait(1, 1.01) <= 0
    # All are there again.
    assert left.wait(60, 57.0) <= 0
    assert left.left(57.0) is None


def test_what_is_on_its_way_counts():
    """
    The server has not seen the calls that went after the one it answers.
    """
    left = Left()
    left.tell(100, 10, 90.0, sent=5, total=15, now=0.0)
    assert left.left(0.0) == 0
    # An answer that was overtaken says nothing new.
    left.tell(100, 99, 1.0, sent=4, total=15, now=0.0)
    assert left.left(0.0) == 0


def test_a_window():
    """
    Nothing comes back before its end: that shows, and then nothing is expected.
    """
    left = Left()
    left.tell(500, 100, 40.0, sent=400, total=400, now=0.0)
    for number in range(1, 91):
        left.take(1, number * 0.02)
    left.tell(500, 10, 38.0, sent=490, total=490, now=2.0)
    assert left.left(2.5) == 10
    for _ in range(10):
        left.take(1, 2.5)
    assert left.wait(1, 2.5) == pytest.approx(5.0)
    assert left.wait(1, 40.0) <= 0


NONSENSE = [
    (None, 0, 60.0),
    (100, None, 60.0),
    (100, 0, None),
    (0, 0, 60.0),
    (100, 101, 60.0),
    (100, 0, 0.0),
]


@pytest.mark.parametrize("said", NONSENSE)
def test_nonsense_is_ignored(said):
    """
    Nobody waits for it.
    """
    left = Left()
    left.tell(*said, sent=1, total=1, now=0.0)
    assert left.wait(1, 0.0) <= 0


def test_nonsense_holds_nobody_back_for_long():
    """
    None left for a day, though the server takes what comes.
    """
    left, now = Left(), 0.0
    left.tell(1, 0, 86_400.0, sent=1, total=1, now=now)
    left.take(1, now)
    assert 0 < left.wait(1, now) <= 5


def test_a_number_that_never_changes():
    """
    It limits nothing: what goes comes back as fast.
    """
    left = Left()
    now = gone = 0
    for _ in range(50):
        now += 1.0
        for _ in range(40):
            left.take(1, now)
        gone += 40
        left.tell(60, 59, 60.0, sent=gone, total=gone, now=now)
    assert left.wait(40, now + 0.5) <= 0


# Both --------------------------------------------------------------------------------


def test_supply():
    """
    The tighter of the two counts; without either nothing does.
    """
    free = Supply(None)
    free.take(5, 0.0)
    free.correct(5, 9, 0.0, 0.0)
    free.tell(None, 1, 1.0, sent=0, now=0.0)
    assert (free.limited, free.wait(9, 0.0), free.left(0.0), free.used(0.0)) == (
        False,
        0,
        None,
        False,
    )
    supply = Supply(600)
    supply.take(4, 0.0)
    assert (supply.limited, supply.gone, supply.left(0.0)) == (True, 4, 6)
    supply.tell(100, 2, 98.0, sent=4, now=0.0)
    assert supply.left(0.0) == 2
    assert supply.wait(3, 0.0) == pytest.approx(1.0)
    supply.correct(4, 600, 0.0, 0.0)
    assert supply.wait(1, 0.0) > 50
    assert supply.used(0.0)
    assert not math.isinf(supply.wait(10**9, 0.0))
