"""
Leaving the queue of a gate: cancelled, thrown away, or with its loop.
"""

import asyncio
import contextlib
import gc
import random

import pytest

from gating import KEY, NEVER, NOTHING_SAID, Queue, counts, turns
from loopback import soon


# Cancelled -------------------------------------------------------------------------


async def test_cancelled_in_the_queue(governor):
    """
    The place is given back; the others keep theirs.
    """
    queue = Queue(governor)
    governor.close(KEY, 0.5)
    await queue.ask(3)
    queue.tasks[1].cancel()
    await turns()
    assert counts(governor) == (0, 2)
    await queue.lease(2)
    assert queue.order == [0, 2]
    assert queue.times[1] - queue.times[0] < 0.95


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
    governor.close(KEY, 0.5)
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
    monkeypatch.setattr("horay_async._pace._LEAST_SPAN", 0.001)
    monkeypatch.setattr("horay_async._pace._LONGEST_PROBE", 0.002)
    dice = random.Random(seed)

    async def call():
        lease = await governor.lease(KEY)
        try:
            await turns(dice.randrange(3))
            if dice.random() < 0.2:
                governor.close(KEY, dice.choice([0, 0.001]), lease=lease)
            elif dice.random() < 0.7:
                lease.admitted(NOTHING_SAID)
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
    # Nor is anybody under way on the second, which is closed by now.
    assert counts(governor) == (0, 0)


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
