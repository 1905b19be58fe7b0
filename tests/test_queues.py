"""
Who waits at a gate, and whose turn is next.
"""

import pytest

from horay_async._leases import NOTHING_ASKED
from horay_async._queues import Queue, Waiter


def waiter(lane="interactive", tries=0):
    """
    One who could wait.
    """
    return Waiter(lane, tries, NOTHING_ASKED, 0.0)


def served(queue, *, fewest=False, batch_must=False):
    """
    All of a queue, in their turns.
    """
    order = []
    while (lane := queue.lane(batch_must=batch_must)) is not None:
        order.append(queue.first(lane, fewest=fewest))
        queue.take(order[-1])
    return order


def filled(*waiters):
    """
    A queue of these.
    """
    queue = Queue()
    for one in waiters:
        queue.add(one)
    return queue


def test_first_come_first_served():
    """
    Those with more tries before those with fewer; with `fewest` the other way round.
    """
    a, b, c, d = waiter(), waiter(tries=2), waiter(tries=1), waiter(tries=2)
    assert served(filled(a, b, c, d)) == [b, d, c, a]
    assert served(filled(a, b, c, d), fewest=True) == [a, c, b, d]


def test_a_tenth_for_batch():
    """
    Interactive calls go first, but every tenth turn is batch's, whatever the tries.
    """
    queue = filled(*(waiter("batch", tries=5) for _ in range(3)))
    for _ in range(25):
        queue.add(waiter())
    lanes = [one.lane for one in served(queue)]
    assert [i for i, lane in enumerate(lanes) if lane == "batch"] == [9, 19, 27]


def test_turns_alone_count_for_nothing():
    """
    Only turns that batch calls waited through bring theirs nearer.
    """
    queue = filled(*(waiter() for _ in range(20)))
    served(queue)
    queue.add(waiter("batch"))
    for _ in range(3):
        queue.add(waiter())
    assert [one.lane for one in served(queue)][-1] == "batch"


def test_batch_must():
    """
    With fewer places than are its own, batch goes first.
    """
    queue = filled(waiter(), waiter("batch"), waiter())
    lanes = [one.lane for one in served(queue, batch_must=True)]
    assert lanes == ["batch", "interactive", "interactive"]


@pytest.mark.parametrize("lane", ["interactive", "batch"])
def test_leaving(lane):
    """
    From anywhere; twice is no harm, and the counts are right.
    """
    waiters = [waiter(lane, tries=i % 2) for i in range(6)]
    queue = filled(*waiters)
    assert queue.remove(waiters[4])
    assert queue.remove(waiters[1])
    assert not queue.remove(waiters[1])
    assert len(queue) == 4
    rest = [waiters[i] for i in (3, 5, 0, 2)]
    assert served(queue) == rest
    assert len(queue) == 0
    assert not queue


def test_cleared():
    """
    Nobody waits any more.
    """
    queue = filled(waiter(), waiter("batch"))
    queue.clear()
    assert len(queue) == 0
    assert queue.lane(batch_must=True) is None
