"""
How many calls at once: found without being told, and held.
"""

import heapq
import random

import pytest

from horay_async._adaptive import Adaptive, Climb
from horay_async._errors import ConfigurationError


def answered(slots, lengths, seconds, *, fixed=None, low=4, high=1024):
    """
    How many calls a server with so many slots answers, and the last number in flight.

    Args:
        slots: The rest wait in a queue of the server's.
        lengths: Gives the seconds of one answer.
        seconds: For how long.
        fixed: In place of the number that is found.
    """
    climb = Climb(Adaptive(low=low, high=high))
    now, done, in_flight, queue, ends, number = 0.0, 0, 0, [], [], 0
    while now < seconds:
        while in_flight < (fixed or int(climb.limit)):
            in_flight += 1
            climb.sent(in_flight)
            queue.append((now, climb.round))
        queue.reverse()
        while queue and len(ends) < slots:
            sent, of = queue.pop()
            number += 1
            heapq.heappush(ends, (now + lengths(), number, sent, of))
        queue.reverse()
        now, _, sent, of = heapq.heappop(ends)
        in_flight -= 1
        done += 1
        climb.answered(now - sent, of)
    return done, climb.limit


@pytest.mark.parametrize("lengths", ["alike", "unlike", "very unlike"])
@pytest.mark.parametrize("slots", [10, 100, 1000])
def test_as_good_as_being_told(slots, lengths):
    """
    90 % of what the right number gives where all answers take as long, hardly less where
    they do not; and no more calls at once than the server has any use for.
    """
    seconds = 10

    def of(dice):
        return {
            "alike": lambda: 0.2,
            "unlike": lambda: dice.expovariate(5),
            "very unlike": lambda: 0.2 * dice.lognormvariate(-0.7, 1.2),
        }[lengths]

    best, _ = answered(slots, of(random.Random(1)), seconds, fixed=slots)
    ours, limit = answered(slots, of(random.Random(1)), seconds)
    assert ours >= (0.9 if lengths == "alike" else 0.8) * best
    assert limit <= max(64, slots * 3)


def test_it_holds_the_knee():
    """
    In the long run the number stays near the server's.
    """
    _, limit = answered(10, lambda: 0.2, 60)
    assert 6 <= limit <= 25


def test_harder_questions():
    """
    Answers that take longer whatever the number are no reason to lower it.
    """
    climb = Climb(Adaptive())
    for seconds in (1.0, 3.0):
        for _ in range(40):
            number, limit = climb.round, int(climb.limit)
            climb.sent(limit)
            for _ in range(max(limit, 32)):
                climb.answered(seconds, number)
    assert climb.limit > 500


def test_a_quiet_gate_teaches_nothing():
    """
    The number is raised only where so many were under way.
    """
    climb = Climb(Adaptive())
    for _ in range(500):
        climb.sent(3)
        climb.answered(0.1, climb.round)
    assert climb.limit == 32


def test_answers_count_in_their_round():
    """
    What was sent when another number was in force says nothing of this one.
    """
    climb = Climb(Adaptive())
    refused(climb)
    limit, number = climb.limit, climb.round
    for _ in range(100):
        climb.sent(int(limit))
        climb.answered(0.1, number - 1)
    assert (climb.limit, climb.round) == (limit, number)


def refused(climb, times=5):
    """
    A cluster of refusals in one round.
    """
    number = climb.round
    for _ in range(times):
        climb.refused(number)


def test_refused():
    """
    Fewer by a third, once for all refusals of a round; never below `low`.
    """
    climb = Climb(Adaptive(low=8))
    refused(climb, 10)
    assert climb.limit == pytest.approx(32 * 0.7)
    for _ in range(20):
        refused(climb)
    assert climb.limit == 8


def test_refused_by_chance():
    """
    A few among many that are answered are no reason to lower the number.
    """
    climb = Climb(Adaptive())
    for call in range(4000):
        climb.sent(int(climb.limit))
        if call % 25 == 24:
            climb.refused(climb.round)
        else:
            climb.answered(0.1, climb.round)
    assert climb.limit == 1024


def test_a_queue_of_our_own():
    """
    Answers that come later because the client is busy: fewer calls would give fewer answers.
    """
    climb = Climb(Adaptive())
    for _ in range(60):
        number, limit = climb.round, int(climb.limit)
        climb.sent(limit)
        # The more at once, the less each costs.
        pace = 2200 * limit / (limit + 150)
        for _ in range(max(limit, 32)):
            climb.answered(max(0.2, limit / pace), number)
    assert climb.limit > 700


@pytest.mark.parametrize(
    ("low", "high", "first"), [(4, 1024, 32), (100, 1024, 100), (1, 5, 5)]
)
def test_bounds(low, high, first):
    """
    The first number is within them, and all others.
    """
    climb = Climb(Adaptive(low=low, high=high))
    assert climb.limit == first
    for _ in range(20):
        limit = int(climb.limit)
        climb.sent(limit)
        for _ in range(max(limit, 32)):
            climb.answered(0.1, climb.round)
    assert climb.limit <= high


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"low": 0}, "low=0.: expected a whole number from 1"),
        ({"high": 2.5}, "high=2.5.: expected a whole number"),
        ({"low": True}, "low=True"),
        ({"low": 9, "high": 8}, "low is above high"),
    ],
)
def test_impossible_bounds(bounds, words):
    """
    They are refused where they are written.
    """
    with pytest.raises(ConfigurationError, match=words):
        Adaptive(**bounds)
