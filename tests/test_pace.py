"""
What refusals teach: how long a gate is closed, and how fast it opens again.
"""

import math

import pytest

from horay_async._pace import BOUNDLESS, CONSENT, FIRST_SIZE, PATIENT_PROBES, Pace


def burst(pace, count, now=0.0):
    """
    So many go at once.
    """
    for number in range(count):
        assert pace.wait(now, number) <= 0
        pace.sent(now, number + 1)


def closed(pace, taken, refused, wait=1.0, now=0.0):
    """
    A burst of which the server takes some, and asks the others to wait.
    """
    era = pace.era
    burst(pace, taken + refused, now)
    for number in range(refused):
        pace.refused(now, wait, taken + refused - number, era)


def test_slow_start():
    """
    32 at first, one more with each that the server takes.
    """
    pace = Pace()
    burst(pace, FIRST_SIZE)
    assert 0 < pace.room(0.0, FIRST_SIZE) <= CONSENT
    for _ in range(FIRST_SIZE):
        pace.admitted(0.1, FIRST_SIZE, pace.era)
    assert pace.size == 2 * FIRST_SIZE
    assert not pace.knows


def test_few_calls_widen_nothing():
    """
    An answer shows room only where there was a crowd.
    """
    pace = Pace()
    pace.sent(0.0, 1)
    pace.admitted(0.1, 1, pace.era)
    assert pace.size == FIRST_SIZE


def test_silence():
    """
    Without a refusal for a quarter of a second there is room for as many again.
    """
    pace = Pace()
    burst(pace, FIRST_SIZE)
    assert pace.room(CONSENT - 0.01, FIRST_SIZE) > 0
    assert pace.room(CONSENT + 0.01, FIRST_SIZE) <= 0
    assert pace.size == 2 * FIRST_SIZE


def test_beyond_all_bounds():
    """
    After thousands no limit is expected any more.
    """
    pace = Pace()
    now, in_flight = 0.0, FIRST_SIZE
    while not math.isinf(pace.size):
        now += 1
        assert pace.room(now, in_flight) <= 0
        in_flight = 2 * in_flight
    assert in_flight > BOUNDLESS


def test_closed():
    """
    Until the longest wait of all is over, whoever heard it.
    """
    pace = Pace()
    closed(pace, 20, 12, wait=1.0)
    pace.refused(0.5, 2.0, 20, 0)
    pace.refused(0.6, 0.1, 20, None)
    assert pace.closed_until == 2.5
    assert pace.wait(1.0, 20) == pytest.approx(1.5)
    assert pace.wait(2.5, 0) <= 0


def test_the_rate_that_was_taken():
    """
    Twenty in the time of a burst and its wait.
    """
    pace = Pace()
    closed(pace, 20, 12, wait=1.25)
    assert pace.rate is None
    assert pace.wait(1.25, 0) <= 0
    assert pace.rate == pytest.approx(20 / 1.25)
    pace.sent(1.25, 1)
    # A timer that is late costs nobody anything.
    assert pace.wait(1.25, 1) == pytest.approx(1 / 16 - 0.02, abs=0.021)


def test_the_rate_grows():
    """
    With each that is taken, and the faster the longer nothing is refused; in the end it is
    forgotten.
    """
    pace = Pace()
    closed(pace, 20, 12)
    pace.wait(1.0, 0)
    rates = []
    for second in range(2, 60):
        for part in range(10):
            pace.admitted(second + part / 10, 1, pace.era)
        rates.append(pace.rate)
        if pace.rate is None:
            break
    assert rates[0] < 20 * 1.1
    assert rates[8] > 20 * 1.5
    assert rates[-1] is None
    assert len(rates) < 40


def test_what_went_before_proves_nothing():
    """
    Answers to calls of the burst do not make the rate grow.
    """
    pace = Pace()
    closed(pace, 20, 12)
    pace.wait(1.0, 0)
    pace.admitted(5.0, 1, pace.era - 1)
    assert pace.rate == 20


def test_a_new_refusal():
    """
    The rate falls by a tenth at least, by half at most, and once for all of one burst.
    """
    pace = Pace()
    closed(pace, 20, 12)
    pace.wait(1.0, 0)
    era = pace.era
    for number in range(3):
        pace.sent(1.0 + number, 1)
    pace.refused(4.0, 1.0, 1, era)
    pace.refused(4.0, 1.0, 1, era)
    pace.wait(5.0, 0)
    assert pace.rate == pytest.approx(10)
    assert pace.era == era + 1


def test_a_number_in_flight():
    """
    It is what was taken, and holds the longer the more often it is met.
    """
    pace = Pace()
    closed(pace, 20, 12)
    assert pace.size == 20
    pace.wait(1.0, 20)
    assert math.isinf(pace.room(1.0, 20))
    sizes = []
    now = 1.0
    for _ in range(4):
        began = now
        while pace.size < 21:
            now += 0.1
            pace.admitted(now, int(pace.size), pace.era)
        pace.refused(now, 0.1, 21, pace.era)
        now += 0.1
        pace.wait(now, 20)
        sizes.append(now - began)
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]


def test_a_probe():
    """
    A server that took nothing is asked by one, alone, and ever more rarely.
    """
    pace = Pace()
    closed(pace, 0, 32, wait=0.4)
    now, waits = 0.4, []
    for _ in range(PATIENT_PROBES):
        assert pace.wait(now, 0) <= 0
        assert pace.probing(now, 0)
        assert pace.size == 1
        assert pace.rate is None
        pace.sent(now, 1)
        pace.refused(now, 0.4, 1, pace.era)
        waits.append(pace.closed_until - now)
        now = pace.closed_until
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(0.6)
    assert waits[-1] == 8.0
    # From here on more and more go: its refusal is everybody's answer.
    for size in (2, 4, 8):
        pace.wait(now, 0)
        assert pace.size == size
        pace.sent(now, 1)
        pace.refused(now, 0.4, 1, pace.era)
        now = pace.closed_until


def test_a_server_asks_for_more():
    """
    Its own wait is kept to, and not lengthened where it is long.
    """
    pace = Pace()
    closed(pace, 0, 1, wait=60)
    pace.wait(60, 0)
    pace.sent(60, 1)
    pace.refused(60, 60, 1, pace.era)
    assert pace.closed_until == 120


def test_a_probe_is_taken():
    """
    What had gone before the outage was taken in all the time since; without anything to go
    by it is a slow start again.
    """
    pace = Pace()
    closed(pace, 0, 32)
    pace.wait(1.0, 0)
    pace.sent(1.0, 1)
    pace.admitted(1.0, 1, pace.era)
    assert not pace.probing(1.0, 1)
    assert pace.starting
    assert pace.rate is None
    assert pace.size == 2
    pace = Pace()
    closed(pace, 30, 5)
    pace.wait(1.0, 0)
    pace.sent(1.0, 1)
    pace.refused(1.0, 1.0, 1, pace.era)
    pace.wait(2.0, 0)
    assert pace.probing(2.0, 0)
    assert not pace.starting
    pace.sent(3.0, 1)
    pace.admitted(3.0, 1, pace.era)
    assert pace.rate == pytest.approx(30 / 3, rel=0.1)


def test_a_few_refusals_teach_nothing():
    """
    Where nearly all are taken each waits for itself: the gate stays open, for ever so long.
    """
    pace = Pace()
    for number in range(5000):
        now = number / 1000
        pace.sent(now, 20)
        if number % 50 == 49:
            assert not pace.refused(now, 60.0, 20, pace.era)
        else:
            pace.admitted(now, 20, pace.era)
    assert pace.rate is None
    assert pace.closed_until == 0
    assert pace.era == 0


def test_a_first_refusal_is_believed():
    """
    Where little was taken before, all wait; but only a cluster of refusals is a lesson.
    """
    pace = Pace()
    burst(pace, 32)
    assert pace.refused(0.0, 1.0, 32, 0)
    assert not pace.refused(0.0, 1.0, 31, 0)
    assert pace.wait(0.5, 30) == pytest.approx(0.5)
    assert pace.wait(1.0, 30) <= 0
    assert pace.rate is None


def test_slowing_down_in_vain():
    """
    Who is refused however slow the calls go, is refused by chance: the gate opens again, and
    at a real limit it is as it was.
    """
    pace = Pace()
    closed(pace, 20, 12)
    now = 1.0
    for _ in range(4):
        for _ in range(3):
            now = max(now, now + pace.wait(now, 1))
            pace.sent(now, 1)
            pace.admitted(now, 1, pace.era)
        pace.sent(now, 1)
        news = pace.refused(now, 0.1, 1, pace.era)
    assert not news
    slow = pace.rate
    assert slow < 20
    for _ in range(100):
        now += 0.1
        pace.admitted(now, 1, pace.era)
    assert pace.rate is None or pace.rate > 10 * slow
    # A limit after all: what was learnt before counts again.
    for number in range(12):
        assert pace.refused(now, 1.0, 1, pace.era) == (number == 11)
    pace.wait(now + 1.0, 1)
    assert pace.rate <= slow


def test_a_turn_that_was_not_used():
    """
    It is the next one's, and was never sent.
    """
    pace = Pace()
    closed(pace, 20, 12)
    pace.wait(1.0, 0)
    before = pace.wait(1.0, 0)
    pace.sent(1.0, 1)
    pace.unsent()
    assert pace.wait(1.0, 0) == pytest.approx(before, abs=0.021)
