"""
Who may send: leases, the gate that a 429 closes, and nothing lost on the way.
"""

import asyncio
import contextlib
import gc
import math
import random
import time

import pytest

from horay_async._governor import GateState, Governor
from loopback import soon


KEY = ("http://localhost", "key", "model")
OPEN = math.inf


@pytest.fixture
def governor():
    """
    One with no gates.
    """
    return Governor()


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

    async def ask(self, count=1):
        """
        So many more ask, and get as far as they get.
        """
        for number in range(len(self.tasks), len(self.tasks) + count):
            self.tasks.append(asyncio.create_task(self._lease(number)))
        await turns()

    async def _lease(self, number):
        lease = await self.governor.lease(KEY)
        self.order.append(number)
        return lease

    async def lease(self, number):
        """
        The lease that one of them got.
        """
        return await soon(self.tasks[number])


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
    assert state(governor) == GateState(
        in_flight=3, waiting=0, closed_for=0.0, window=OPEN
    )
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
    governor.close(KEY, 60)
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
    assert time.monotonic() - began >= 0.3
    assert (queue.order, state(governor).window) == ([0], 1)
    assert counts(governor) == (1, 1)
    for task in queue.tasks:
        task.cancel()


async def test_a_longer_wait_counts(governor):
    """
    One that is shorter does not open the gate sooner.
    """
    governor.close(KEY, 60)
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


async def test_it_opens_gradually(governor):
    """
    One, then two, then four: each that the server takes lets two more go.
    """
    queue = Queue(governor)
    governor.close(KEY, 0)
    await queue.ask(8)
    grown = []
    for _ in range(3):
        grown.append(len(queue.order))
        for number in list(queue.order):
            (await queue.lease(number)).admitted()
        await turns()
    assert grown == [1, 3, 7]
    assert queue.order == list(range(8))


async def test_said_twice_counts_once(governor):
    """
    One answer is one proof.
    """
    governor.close(KEY, 0)
    lease = await governor.lease(KEY)
    lease.admitted()
    lease.admitted()
    assert state(governor).window == 2


async def test_a_failed_call_proves_nothing(governor):
    """
    Its place goes to the next in the queue, and no more than that.
    """
    queue = Queue(governor)
    governor.close(KEY, 0)
    await queue.ask(3)
    assert queue.order == [0]
    (await queue.lease(0)).settle()
    await turns()
    assert queue.order == [0, 1]
    assert state(governor).window == 1


async def test_a_newcomer_does_not_overtake(governor):
    """
    First come, first served, also in the turn of the loop in which the gate opens.
    """
    queue = Queue(governor)
    governor.close(KEY, 0)
    await queue.ask(3)
    lease = await queue.lease(0)
    lease.admitted()
    late = asyncio.create_task(governor.lease(KEY))
    await turns()
    assert queue.order == [0, 1, 2]
    assert not late.done()
    (await queue.lease(1)).settle()
    await soon(late)


async def test_calls_under_way_count(governor):
    """
    As long as those that went before the 429 have no answer, nobody follows them.
    """
    before = [await governor.lease(KEY) for _ in range(2)]
    governor.close(KEY, 0)
    queue = Queue(governor)
    await queue.ask()
    before[0].settle()
    await turns()
    assert queue.order == []
    before[1].settle()
    await queue.lease(0)


async def test_wide_open_in_the_end(governor):
    """
    After many good answers no limit is left, and an idle gate is forgotten.
    """
    governor.close(KEY, 0)
    while state(governor):
        lease = await soon(governor.lease(KEY))
        lease.admitted()
        window = state(governor).window
        lease.settle()
    assert window == OPEN


async def test_a_narrow_gate_is_remembered(governor):
    """
    It is idle, but not open: the next ones must not all go at once.
    """
    governor.close(KEY, 0)
    lease = await governor.lease(KEY)
    lease.admitted()
    lease.settle()
    assert state(governor) == GateState(
        in_flight=0, waiting=0, closed_for=0.0, window=2
    )


# Cancelled -------------------------------------------------------------------------


async def test_cancelled_in_the_queue(governor):
    """
    The place is given back; the others keep theirs.
    """
    queue = Queue(governor)
    governor.close(KEY, 0)
    await queue.ask(3)
    queue.tasks[1].cancel()
    await turns()
    assert counts(governor) == (1, 1)
    (await queue.lease(0)).settle()
    await queue.lease(2)
    assert queue.order == [0, 2]


async def test_cancelled_as_the_turn_comes(governor):
    """
    A turn that nobody can use any more goes to the next one.
    """
    queue = Queue(governor)
    governor.close(KEY, 0)
    await queue.ask(3)
    (await queue.lease(0)).settle()
    queue.tasks[1].cancel()
    await queue.lease(2)
    with pytest.raises(asyncio.CancelledError):
        await queue.tasks[1]
    assert counts(governor) == (1, 0)


async def test_cancelled_before_the_turn_comes(governor):
    """
    A turn does not go to one who has been cancelled, though it has not run since.
    """
    queue = Queue(governor)
    governor.close(KEY, 0)
    await queue.ask(3)
    lease = await queue.lease(0)
    queue.tasks[1].cancel()
    lease.settle()
    await queue.lease(2)
    with pytest.raises(asyncio.CancelledError):
        await queue.tasks[1]
    assert counts(governor) == (1, 0)


async def test_all_cancelled(governor):
    """
    Nothing is left of a queue that nobody waits in, and the gate goes on.
    """
    queue = Queue(governor)
    governor.close(KEY, 0)
    lease = await governor.lease(KEY)
    await queue.ask(3)
    assert counts(governor) == (1, 3)
    for task in queue.tasks:
        task.cancel()
    await asyncio.gather(*queue.tasks, return_exceptions=True)
    assert counts(governor) == (1, 0)
    lease.settle()
    await soon(governor.lease(KEY))


async def test_thrown_away(governor):
    """
    A caller may be collected, too.
    """
    governor.close(KEY, 60)
    waiting = governor.lease(KEY)
    waiting.send(None)
    assert counts(governor) == (0, 1)
    waiting.close()
    assert counts(governor) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_leaks(governor, seed):
    """
    Whatever comes at whatever moment, every place and lease comes back.
    """
    dice = random.Random(seed)

    async def call():
        lease = await governor.lease(KEY)
        try:
            await turns(dice.randrange(3))
            if dice.random() < 0.2:
                governor.close(KEY, dice.choice([0, 0.001]))
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
        (await queue.lease(0)).settle()
        await queue.lease(1)

    asyncio.run(both())
    assert counts(governor) == (1, 0)
    for task in tasks:
        # Or asyncio would complain of it where nobody looks.
        task._log_destroy_pending = False
    del tasks, task
    gc.collect()
    assert counts(governor) == (1, 0)


async def test_the_last_one_to_leave_the_queue_takes_its_alarm(governor):
    """
    No timer is left behind for a queue that is empty.
    """
    loop = asyncio.get_running_loop()
    queue = Queue(governor)
    governor.close(KEY, 60)
    await queue.ask()
    (alarm,) = (timer for timer in loop._scheduled if not timer.cancelled())
    queue.tasks[0].cancel()
    await turns()
    assert alarm.cancelled()
