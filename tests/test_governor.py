"""
Who may send now: leases, and a gate that one 429 closes for all and that opens by a pace.
"""

import asyncio
import collections
import itertools
import time

import pytest

from gating import KEY, NEVER, Queue, counts, state, turns
from horay_async._governor import GateState
from horay_async.emulator._limits import Bucket
from loopback import soon


# The open gate ---------------------------------------------------------------------


async def test_an_open_gate(governor):
    """
    Everybody goes at once; what is idle is forgotten.
    """
    leases = [await governor.lease(KEY) for _ in range(3)]
    assert state(governor) == GateState(in_flight=3, waiting=0, closed_for=0.0, gap=0.0)
    leases[0].admitted()
    for lease in leases:
        lease.settle()
    assert governor.snapshot() == {}


async def test_settled_twice(governor):
    """
    Whoever is not sure settles once more; after that a late word changes nothing.
    """
    first, second = await governor.lease(KEY), await governor.lease(KEY)
    first.settle()
    first.settle()
    first.admitted()
    assert counts(governor) == (1, 0)
    second.settle()
    assert governor.snapshot() == {}


async def test_gates_are_apart(governor):
    """
    Another model or key has another limit.
    """
    governor.close(KEY, NEVER)
    lease = await soon(governor.lease("other"))
    assert state(governor, "other").in_flight == 1
    assert state(governor).closed_for > 50
    lease.settle()
    assert list(governor.snapshot()) == [KEY]


# The closed gate -------------------------------------------------------------------


async def test_closed_for_all(governor):
    """
    Nobody goes before the wait is over, then one does, and nobody asked it to.
    """
    queue = Queue(governor)
    began = time.monotonic()
    governor.close(KEY, 0.3)
    await queue.ask(2)
    assert counts(governor) == (0, 2)
    assert 0 < state(governor).closed_for <= 0.3
    await queue.lease(0)
    # A timer of uvloop's may be a millisecond early; the gate is not.
    assert queue.times[0] - began >= 0.3
    assert queue.order == [0]
    assert counts(governor) == (1, 1)
    await queue.leave()


async def test_a_longer_wait_counts(governor):
    """
    One that is shorter does not open the gate sooner.
    """
    governor.close(KEY, NEVER)
    governor.close(KEY, 0)
    assert state(governor).closed_for > 50


async def test_closed_again_meanwhile(governor):
    """
    Those who waited already wait for the new end.
    """
    queue = Queue(governor)
    began = time.monotonic()
    governor.close(KEY, 0.3)
    await queue.ask()
    governor.close(KEY, 0.5)
    await queue.lease(0)
    assert time.monotonic() - began >= 0.5


async def test_one_by_one(governor):
    """
    In the order of asking, a gap apart, though none of them has its answer yet.
    """
    queue = Queue(governor)
    governor.close(KEY, 0.2)
    await queue.ask(4)
    await queue.lease(3)
    assert queue.order == [0, 1, 2, 3]
    gaps = [after - before for before, after in itertools.pairwise(queue.times)]
    # The times are taken when the callers run, which may be a little later for one.
    assert min(gaps) > 0.05
    assert queue.times[-1] - queue.times[0] > 0.05
    assert state(governor).gap == 0.2


@pytest.mark.parametrize(("wait", "gap"), [(0, 0.005), (0.03, 0.03), (NEVER, 1)])
async def test_the_first_gap(governor, wait, gap):
    """
    It is the wait that the server asks for, within bounds.
    """
    governor.close(KEY, wait)
    assert state(governor).gap == gap


async def test_it_opens_gradually_and_fully(governor, clock):
    """
    Each that the server takes shrinks the gap a little, until an idle gate is forgotten.
    """
    governor.close(KEY, 1)
    gaps = [state(governor).gap]
    while state(governor):
        clock.monotonic.return_value += 1
        lease = await soon(governor.lease(KEY))
        lease.admitted()
        gaps.append(state(governor).gap)
        lease.settle()
    assert gaps[:3] == pytest.approx([1, 1 / 1.1, 1 / 1.1**2])
    rates = [1 / gap for gap in gaps[:-1]]
    steps = [after - before for before, after in itertools.pairwise(rates)]
    assert min(steps) > 0.09
    assert max(steps) < 1.01
    assert rates[-1] > 990
    assert gaps[-1] == 0


async def test_all_go_when_it_has_opened(governor, clock):
    """
    Those who still wait then need no turn.
    """
    governor.close(KEY, 0)
    leases = []
    for _ in range(1000):
        clock.monotonic.return_value += 1
        leases.append(await soon(governor.lease(KEY)))
    queue = Queue(governor)
    await queue.ask(5)
    assert counts(governor) == (1000, 5)
    for lease in leases:
        lease.admitted()
    await turns()
    assert queue.order == [0, 1, 2, 3, 4]
    assert state(governor).gap == 0


async def test_said_twice_counts_once(governor):
    """
    One answer is one proof.
    """
    governor.close(KEY, 0.01)
    lease = await governor.lease(KEY)
    lease.admitted()
    gap = state(governor).gap
    lease.admitted()
    assert state(governor).gap == gap < 0.01


async def test_a_failed_call_proves_nothing(governor, clock):
    """
    The gap stays, and the gate is remembered: the next ones must not all go at once.
    """
    governor.close(KEY, 1)
    clock.monotonic.return_value += 1
    lease = await soon(governor.lease(KEY))
    clock.monotonic.return_value += 100
    lease.settle()
    assert state(governor) == GateState(in_flight=0, waiting=0, closed_for=0.0, gap=1.0)


async def test_closed_by_a_late_refusal(governor, clock):
    """
    Of a call that was sent long ago: the gap stays as it is, the wait counts all the same.
    """
    late = await governor.lease(KEY)
    governor.close(KEY, 0)
    clock.monotonic.return_value += 1
    lease = await soon(governor.lease(KEY))
    lease.admitted()
    gap = state(governor).gap
    governor.close(KEY, NEVER, lease=late)
    assert state(governor).gap == gap
    assert state(governor).closed_for == NEVER


async def test_open_again_but_closed(governor, clock):
    """
    An idle gate is not forgotten before its wait is over.
    """
    late = await governor.lease(KEY)
    governor.close(KEY, 0)
    leases = [late]
    for _ in range(1000):
        clock.monotonic.return_value += 1
        leases.append(await soon(governor.lease(KEY)))
    # From here on the first burst is over.
    leases[-1].admitted()
    governor.close(KEY, NEVER, lease=late)
    for lease in leases:
        lease.admitted()
        lease.settle()
    assert state(governor) == GateState(
        in_flight=0, waiting=0, closed_for=NEVER, gap=0.0
    )


async def test_one_burst_counts_once(governor):
    """
    What was sent before the gap was set does not widen it, and its success shrinks nothing.
    """
    burst = [await governor.lease(KEY) for _ in range(5)]
    for lease in burst[:3]:
        governor.close(KEY, 0.01, lease=lease)
    burst[3].admitted()
    assert state(governor).gap == 0.01
    governor.close(KEY, 0.02, lease=burst[4])
    assert state(governor).gap == 0.02, "the longest wait of the first burst counts"
    assert 0.01 < state(governor).closed_for <= 0.02


async def test_a_further_refusal_widens_the_gap(governor):
    """
    Once for all that had been sent by then; later waits do not count for the gap.
    """
    governor.close(KEY, 0.01)
    pair = [await governor.lease(KEY) for _ in range(2)]
    for lease in pair:
        governor.close(KEY, 0, lease=lease)
    assert state(governor).gap == 0.02
    governor.close(KEY, 0.5, lease=pair[0])
    assert state(governor).gap == 0.02
    assert state(governor).closed_for > 0.4


async def test_the_widest_gap(governor):
    """
    A second, or as long as the server itself asks to wait.
    """
    for _ in range(10):
        governor.close(KEY, 0)
    assert state(governor).gap == 1
    for _ in range(10):
        governor.close(KEY, 20)
    assert state(governor).gap == 20


async def test_a_newcomer_does_not_overtake(governor):
    """
    First come, first served, also in the turn of the loop in which a turn is given.
    """
    queue = Queue(governor)
    governor.close(KEY, 0.02)
    await queue.ask(2)
    await queue.lease(0)
    late = asyncio.create_task(governor.lease(KEY))
    await soon(late)
    assert queue.order == [0, 1]


async def test_who_was_refused_goes_first(governor):
    """
    The more often the sooner: it has fewer retries left.
    """
    queue = Queue(governor)
    governor.close(KEY, 0.2)
    for tries in (0, 0, 1, 2, 1):
        await queue.ask(tries=tries)
    await queue.lease(1)
    assert queue.order == [3, 2, 4, 0, 1]


async def test_a_limit_is_found(governor):
    """
    Many callers of a server that takes so many a second: none needs a third retry, and
    few a first one but those who were there in the first burst.
    """
    bucket = Bucket(100)
    refused = collections.Counter()

    async def call(number):
        while True:
            lease = await governor.lease(KEY, tries=refused[number])
            await asyncio.sleep(0.002)
            wait = bucket.take(time.monotonic())
            if not wait:
                lease.admitted()
                lease.settle()
                return
            refused[number] += 1
            governor.close(KEY, wait, lease=lease)
            lease.settle()

    began = time.monotonic()
    await soon(asyncio.gather(*(call(number) for number in range(200))))
    assert max(refused.values()) <= 2
    assert refused.total() < 150
    assert time.monotonic() - began < 3
