"""
Who may send: leases, the gate that a 429 closes, and nothing lost on the way.
"""

import asyncio
import collections
import contextlib
import gc
import itertools
import random
import time

from unittest import mock

import pytest

from horay_async._governor import GateState, Governor
from horay_async.emulator._limits import Bucket
from loopback import soon


KEY = ("http://localhost", "key", "model")
NEVER = 60
"""
A wait in seconds that no test sits out.
"""


@pytest.fixture
def governor():
    """
    One with no gates.
    """
    return Governor()


@pytest.fixture
def clock(monkeypatch):
    """
    The gates' clock, which goes as the test says.
    """
    clock = mock.Mock(**{"monotonic.return_value": 1000.0})
    monkeypatch.setattr("horay_async._governor.time", clock)
    return clock


def state(governor, key=KEY):
    """
    One gate as anybody can see it; None where it is forgotten.
    """
    return governor.snapshot().get(key)


def counts(governor, key=KEY):
    """
    How many are under way, and how many wait.
    """
    gate = state(governor, key)
    return (gate.in_flight, gate.waiting) if gate else (0, 0)


class Queue:
    """
    Callers who ask one after the other, and the leases that they got.
    """

    def __init__(self, governor):
        self.governor = governor
        self.tasks = []
        self.order = []
        self.times = []

    async def ask(self, count=1, *, tries=0):
        """
        So many more ask, and get as far as they get.
        """
        for number in range(len(self.tasks), len(self.tasks) + count):
            self.tasks.append(asyncio.create_task(self._lease(number, tries)))
        await turns()

    async def _lease(self, number, tries):
        lease = await self.governor.lease(KEY, tries=tries)
        self.order.append(number)
        self.times.append(time.monotonic())
        return lease

    async def lease(self, number):
        """
        The lease that one of them got.
        """
        return await soon(self.tasks[number])

    async def leave(self):
        """
        All give up.
        """
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def turns(count=5):
    """
    Let everything run that can run without time going by.
    """
    for _ in range(count):
        await asyncio.sleep(0)


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
    governor.close(KEY, 0.03)
    await queue.ask()
    governor.close(KEY, 0.08)
    await queue.lease(0)
    assert time.monotonic() - began >= 0.08


async def test_one_by_one(governor):
    """
    In the order of asking, a gap apart, though none of them has its answer yet.
    """
    queue = Queue(governor)
    governor.close(KEY, 0.02)
    await queue.ask(4)
    await queue.lease(3)
    assert queue.order == [0, 1, 2, 3]
    gaps = [after - before for before, after in itertools.pairwise(queue.times)]
    # The times are taken when the callers run, which may be a little later for one.
    assert min(gaps) > 0.01
    assert queue.times[-1] - queue.times[0] > 0.05
    assert state(governor).gap == 0.02


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


async def test_a_failed_call_proves_nothing(governor):
    """
    The gap stays, and the gate is remembered: the next ones must not all go at once.
    """
    governor.close(KEY, 0.01)
    lease = await governor.lease(KEY)
    lease.settle()
    assert state(governor) == GateState(
        in_flight=0, waiting=0, closed_for=0.0, gap=0.01
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
    governor.close(KEY, 0.02)
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


# Cancelled -------------------------------------------------------------------------


async def test_cancelled_in_the_queue(governor):
    """
    The place is given back; the others keep theirs.
    """
    queue = Queue(governor)
    governor.close(KEY, 0.05)
    await queue.ask(3)
    queue.tasks[1].cancel()
    await turns()
    assert counts(governor) == (0, 2)
    await queue.lease(2)
    assert queue.order == [0, 2]
    assert queue.times[1] - queue.times[0] < 0.09


async def test_cancelled_as_the_turn_comes(governor, clock):
    """
    A turn that nobody can use any more goes to the next one, and no gap is lost.
    """
    queue = Queue(governor)
    governor.close(KEY, 1)
    await queue.ask(2)
    clock.monotonic.return_value += 1
    # Whoever asks rings the bell: the first in the queue gets the turn, but has not run.
    asker = governor.lease(KEY)
    asker.send(None)
    assert counts(governor) == (1, 2)
    queue.tasks[0].cancel()
    await queue.lease(1)
    with pytest.raises(asyncio.CancelledError):
        await queue.tasks[0]
    asker.close()
    assert counts(governor) == (1, 0)


async def test_cancelled_before_the_turn_comes(governor, clock):
    """
    A turn does not go to one who has been cancelled, though it has not run since.
    """
    queue = Queue(governor)
    governor.close(KEY, 1)
    await queue.ask(2)
    clock.monotonic.return_value += 1
    queue.tasks[0].cancel()
    await queue.ask()
    assert queue.order == [1]
    assert counts(governor) == (1, 1)
    await queue.leave()


async def test_all_cancelled(governor):
    """
    Nothing is left of a queue that nobody waits in, and the gate goes on.
    """
    queue = Queue(governor)
    governor.close(KEY, 0.1)
    await queue.ask(3)
    assert counts(governor) == (0, 3)
    await queue.leave()
    assert counts(governor) == (0, 0)
    await soon(governor.lease(KEY))


async def test_thrown_away(governor):
    """
    A caller may be collected, too.
    """
    governor.close(KEY, NEVER)
    waiting = governor.lease(KEY)
    waiting.send(None)
    assert counts(governor) == (0, 1)
    waiting.close()
    assert counts(governor) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_leaks(governor, monkeypatch, seed):
    """
    Whatever comes at whatever moment, every place and lease comes back.
    """
    # A gate that is refused so often would be slow, which is not the point here.
    monkeypatch.setattr("horay_async._governor._LONGEST_GAP", 0.002)
    dice = random.Random(seed)

    async def call():
        lease = await governor.lease(KEY)
        try:
            await turns(dice.randrange(3))
            if dice.random() < 0.2:
                governor.close(KEY, dice.choice([0, 0.001]), lease=lease)
            elif dice.random() < 0.7:
                lease.admitted()
            await turns(dice.randrange(3))
        finally:
            lease.settle()

    tasks = []
    for _ in range(60):
        tasks.append(asyncio.create_task(call()))
        if dice.random() < 0.5:
            dice.choice(tasks).cancel()
        await turns(dice.randrange(3))
    async with asyncio.timeout(5):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {
        type(None),
        asyncio.CancelledError,
    }
    assert counts(governor) == (0, 0)
    await soon(governor.lease(KEY))


# Loops -----------------------------------------------------------------------------


def test_from_loop_to_loop(governor):
    """
    A client lives through several `asyncio.run`: who waits in the second is woken.
    """

    async def cancelled():
        governor.close(KEY, 0.3)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await governor.lease(KEY)

    asyncio.run(cancelled())
    asyncio.run(soon(governor.lease(KEY)))
    assert counts(governor) == (1, 0)


def test_a_loop_that_was_left_behind(governor):
    """
    Those who waited on a loop that is closed stand in nobody's way.
    """
    loop = asyncio.new_event_loop()
    governor.close(KEY, 0.3)
    tasks = [loop.create_task(governor.lease(KEY)) for _ in range(2)]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert counts(governor) == (0, 2)

    async def both():
        queue = Queue(governor)
        await queue.ask(2)
        await queue.lease(1)

    asyncio.run(both())
    assert counts(governor) == (2, 0)
    for task in tasks:
        # Or asyncio would complain of it where nobody looks.
        task._log_destroy_pending = False
    del tasks, task
    gc.collect()
    assert counts(governor) == (2, 0)


async def test_the_last_one_to_leave_the_queue_takes_its_alarm(governor):
    """
    No timer is left behind for a queue that is empty.
    """
    loop = asyncio.get_running_loop()
    queue = Queue(governor)
    governor.close(KEY, NEVER)
    await queue.ask()
    (alarm,) = (timer for timer in loop._scheduled if not timer.cancelled())
    queue.tasks[0].cancel()
    await turns()
    assert alarm.cancelled()
