"""
Who may send now: leases, and a gate that one 429 closes for all and that opens by a pace.
"""

import asyncio
import itertools
import logging
import time

import pytest

from gating import KEY, NEVER, NOTHING_SAID, Queue, counts, state, turns
from horay_async._gates import Bounds, Gate
from horay_async._governor import Governor
from horay_async._leases import GateState
from horay_async._values import Secret
from loopback import soon


# The open gate ---------------------------------------------------------------------


async def test_an_open_gate(governor):
    """
    Everybody goes at once; what is idle and knows nothing is not shown.
    """
    leases = [await governor.lease(KEY) for _ in range(3)]
    assert state(governor) == GateState(in_flight=3, concurrency=32)
    leases[0].admitted(NOTHING_SAID)
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
    first.admitted(NOTHING_SAID)
    first.answering(1.0)
    first.refused(503)
    first.unsend()
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


async def test_many_models(governor):
    """
    Gates that know nothing do not pile up; those in use stay.
    """
    kept = await governor.lease("kept")
    for number in range(2000):
        (await governor.lease(number)).settle()
    assert len(governor._gates) < 600
    assert state(governor, "kept").in_flight == 1
    kept.settle()


async def test_no_secret_is_shown(governor, caplog):
    """
    Neither in a snapshot nor in the log.
    """
    caplog.set_level(logging.INFO, "horay_async")
    key = ("http://here", Secret("sk-secret"), "model")
    lease = await governor.lease(key)
    governor.close(key, NEVER, lease=lease)
    assert "sk-secret" not in repr(governor.snapshot()) + caplog.text
    assert "model" in caplog.text


# Slow start ------------------------------------------------------------------------


async def test_the_first_burst(governor, clock):
    """
    32 go; one more with each that the server takes.
    """
    queue = Queue(governor)
    await queue.ask(100)
    assert counts(governor) == (32, 68)
    for number in range(10):
        (await queue.lease(number)).admitted(NOTHING_SAID)
    await turns()
    assert counts(governor) == (42, 58)
    assert queue.order == list(range(42))
    await queue.leave()


async def test_silence_is_consent(governor):
    """
    Nobody need answer for all to go, as long as nobody refuses.
    """
    queue = Queue(governor)
    await queue.ask(100)
    assert counts(governor) == (32, 68)
    await queue.lease(99)
    assert counts(governor) == (100, 0)


async def test_old_knowledge(governor, clock):
    """
    A minute after the last call the gate is as it was in the beginning.
    """
    lease = await governor.lease(KEY)
    governor.close(KEY, 1, lease=lease)
    lease.settle()
    clock.monotonic.return_value += 59
    assert state(governor) is not None
    clock.monotonic.return_value += 2
    assert governor.snapshot() == {}
    (await soon(governor.lease(KEY))).admitted(NOTHING_SAID)
    assert state(governor) == GateState(in_flight=1, concurrency=32)


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


async def refused(governor, taken, count, wait):
    """
    A burst of which the server takes some, and refuses the others.
    """
    leases = [await soon(governor.lease(KEY)) for _ in range(taken + count)]
    for lease in leases[taken:]:
        lease.refused(429)
        governor.close(KEY, wait, lease=lease)
    for lease in leases:
        lease.settle()


async def test_it_opens_at_the_rate_that_was_taken(governor, clock):
    """
    In the order of asking, a gap apart, though none of them has its answer yet.
    """
    await refused(governor, 20, 5, 2)
    queue = Queue(governor)
    await queue.ask(5)
    clock.monotonic.return_value += 2
    tasks = [asyncio.create_task(governor.lease(KEY))]
    await turns()
    assert state(governor).rate == pytest.approx(10)
    assert queue.order == [0]
    for number in range(1, 5):
        clock.monotonic.return_value += 0.11
        # Whoever asks rings the bell.
        tasks.append(asyncio.create_task(governor.lease(KEY)))
        await turns()
        assert queue.order == list(range(number + 1))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_one_by_one(governor):
    """
    By the clock that there is.
    """
    await refused(governor, 10, 5, 0.5)
    queue = Queue(governor)
    await queue.ask(4)
    await queue.lease(3)
    assert queue.order == [0, 1, 2, 3]
    gaps = [after - before for before, after in itertools.pairwise(queue.times)]
    # The times are taken when the callers run, which may be a little later for one.
    assert min(gaps) > 0.04
    assert queue.times[-1] - queue.times[0] > 0.2


async def test_a_newcomer_does_not_overtake(governor):
    """
    First come, first served, also in the turn of the loop in which a turn is given.
    """
    await refused(governor, 20, 2, 0.02)
    queue = Queue(governor)
    await queue.ask(2)
    await queue.lease(0)
    late = asyncio.create_task(governor.lease(KEY))
    await soon(late)
    assert queue.order == [0, 1]


async def test_who_was_refused_goes_first(governor):
    """
    The more often the sooner: it has fewer retries left.
    """
    await refused(governor, 20, 2, 0.2)
    queue = Queue(governor)
    for tries in (0, 0, 1, 2, 1):
        await queue.ask(tries=tries)
    await queue.lease(1)
    assert queue.order == [3, 2, 4, 0, 1]


async def test_a_server_that_takes_nothing(governor):
    """
    One asks for all: of those who have had the fewest tries, as they can best afford it.
    """
    await refused(governor, 0, 32, 0.5)
    queue = Queue(governor)
    for tries in (1, 1, 0, 2):
        await queue.ask(tries=tries)
    lease = await queue.lease(2)
    assert counts(governor) == (1, 3)
    lease.admitted(NOTHING_SAID)
    lease.settle()
    await queue.lease(3)
    assert queue.order[:2] == [2, 3]
    await queue.leave()


async def test_said_twice_counts_once(governor, clock):
    """
    One answer is one proof.
    """
    await refused(governor, 10, 5, 1)
    clock.monotonic.return_value += 1
    lease = await soon(governor.lease(KEY))
    clock.monotonic.return_value += 0.5
    lease.admitted(NOTHING_SAID)
    rate = state(governor).rate
    assert rate > 10
    clock.monotonic.return_value += 0.5
    lease.admitted(NOTHING_SAID)
    assert state(governor).rate == rate


async def test_closed_by_a_late_refusal(governor, clock):
    """
    Of a call that was sent long ago: the rate stays, the wait counts all the same.
    """
    late = await governor.lease(KEY)
    await refused(governor, 10, 2, 1)
    clock.monotonic.return_value += 1
    (await soon(governor.lease(KEY))).settle()
    rate = state(governor).rate
    governor.close(KEY, NEVER, lease=late)
    clock.monotonic.return_value += NEVER
    (await soon(governor.lease(KEY))).settle()
    assert state(governor).rate == rate


async def test_said_once(governor, caplog):
    """
    The log tells of each closing, not of each refusal, nor of each that waits.
    """
    caplog.set_level(logging.INFO, "horay_async")
    queue = Queue(governor)
    leases = [await governor.lease(KEY) for _ in range(5)]
    for lease in leases:
        governor.close(KEY, NEVER, lease=lease)
    await queue.ask(3)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "no call to http://localhost" in record.getMessage()
    assert "for 60.0 s" in record.getMessage()
    assert record.horay["event"] == "GateClosed"
    await queue.leave()


def test_anybodys_lease():
    """
    Another governor's lease is no lesson of this one's: it counts as a new one.
    """
    governor = Governor()
    for _ in range(2):
        governor.close(KEY, 1, lease=object())
    assert governor._gates[KEY].pace.era == 2


def test_a_gate_alone():
    """
    It knows nothing before its first call.
    """
    gate = Gate(KEY, Bounds())
    assert not gate.knows
    assert gate.state() == GateState(in_flight=0, concurrency=32)
