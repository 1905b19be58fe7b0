"""
The user's own limits: requests, tokens, calls at once, and who goes first.
"""

import asyncio

import pytest

from gating import KEY, NOTHING_SAID, Queue, counts, state, turns
from horay_async import Adaptive, AsyncHoray, ConfigurationError, Governor, user
from horay_async._leases import Asks
from horay_async._values import RateLimits, Usage
from horay_async.emulator import Answer
from horay_async.testing import instant_retries
from loopback import soon


async def gone(governor, clock, seconds, asks):
    """
    How many of very many calls go in so many seconds.
    """
    leases = []
    for _ in range(int(seconds * 10)):
        clock.monotonic.return_value += 0.1
        while True:
            asker = governor.lease(KEY, asks=asks)
            try:
                asker.send(None)
            except StopIteration as done:
                done.value.admitted(NOTHING_SAID)
                done.value.settle()
                leases.append(done.value)
            else:
                asker.close()
                break
    return len(leases)


async def test_requests_a_minute(clock):
    """
    As many as are allowed, and no more.
    """
    governor = Governor(rpm=120)
    assert 118 <= await gone(governor, clock, 60, Asks()) <= 120
    assert state(governor).requests_left <= 3
    clock.monotonic.return_value += 61
    assert governor.snapshot() == {}


async def test_tokens_a_minute(clock):
    """
    By the estimate, as long as no answer tells better.
    """
    governor = Governor(tpm=6000)
    asks = Asks(prompt_bytes=4 * 42, max_tokens=50)
    assert 57 <= await gone(governor, clock, 60, asks) <= 60
    assert state(governor) is not None


async def test_the_estimate_is_corrected(clock):
    """
    What an answer did not use can be used by others, what it used too much is a debt.
    """
    governor = Governor(tpm=60_000)
    big = Asks(max_tokens=30_000)
    lease = await soon(governor.lease(KEY, asks=big))
    assert state(governor).tokens_left <= 1
    waiting = asyncio.create_task(governor.lease(KEY, asks=Asks(max_tokens=500)))
    await turns()
    assert counts(governor) == (1, 1)
    lease.admitted(NOTHING_SAID)
    lease.settle(Usage(prompt_tokens=5, completion_tokens=5))
    other = await soon(waiting)
    other.settle(Usage(prompt_tokens=5, completion_tokens=90_000))
    assert state(governor).tokens_left < 0


async def test_a_refused_call_costs_no_tokens(clock):
    """
    All of them are there for the next one.
    """
    governor = Governor(tpm=6000)
    asks = Asks(max_tokens=90)
    for _ in range(3):
        lease = await soon(governor.lease(KEY, asks=asks))
        lease.refused(503)
        lease.settle()
    assert state(governor).tokens_left == 100


async def test_calls_at_once(governor):
    """
    A place is the next one's as soon as it is free.
    """
    governor = Governor(concurrency=2)
    queue = Queue(governor)
    await queue.ask(4)
    assert counts(governor) == (2, 2)
    assert state(governor).concurrency == 2
    assert governor.at_most == 2
    (await queue.lease(0)).settle()
    await turns()
    assert queue.order == [0, 1, 2]
    await queue.leave()


async def test_adaptive(governor):
    """
    The number moves: down where the server has too much to do.
    """
    governor = Governor(concurrency=Adaptive(low=2, high=40))
    assert governor.at_most == 40
    queue = Queue(governor)
    await queue.ask(50)
    assert counts(governor) == (32, 18)
    for number in range(32):
        lease = await queue.lease(number)
        lease.admitted(NOTHING_SAID)
        lease.answering(0.1)
    # More than that the round before has not shown.
    assert state(governor).concurrency == 40
    for number in range(35, 40):
        (await queue.lease(number)).refused(503)
    assert state(governor).concurrency == 28
    await queue.leave()


# Lanes -----------------------------------------------------------------------------


async def test_interactive_goes_first():
    """
    Where both wait, but for a tenth.
    """
    governor = Governor(concurrency=1)
    queue = Queue(governor)
    first = await governor.lease(KEY)
    await queue.ask(3, lane="batch")
    await queue.ask(12)
    waiting = state(governor)
    assert (waiting.interactive, waiting.batch, waiting.waiting) == (12, 3, 15)
    first.settle()
    for _ in range(15):
        await turns()
        (await queue.lease(queue.order[-1])).settle()
    # One at a time: a tenth of one place is no place, so batch's share is of the turns.
    assert sorted(queue.order) == list(range(15))
    assert [queue.order.index(batch) for batch in range(3)] == [9, 13, 14]
    assert governor.snapshot() == {}


async def test_a_batch_in_its_slow_start(governor):
    """
    Fills it for itself only.
    """
    queue = Queue(governor)
    await queue.ask(50, lane="batch")
    assert counts(governor) == (32, 18)
    await soon(governor.lease(KEY))
    assert counts(governor) == (33, 18)
    await queue.leave()


async def test_batch_leaves_places_free():
    """
    Once there was an interactive call, the next one finds a place at once.
    """
    governor = Governor(concurrency=20)
    queue = Queue(governor)
    (await governor.lease(KEY)).settle()
    await queue.ask(30, lane="batch")
    assert counts(governor) == (18, 12)
    first = await soon(governor.lease(KEY))
    second = await soon(governor.lease(KEY))
    assert counts(governor) == (20, 12)
    first.settle()
    second.settle()
    await turns()
    assert counts(governor) == (18, 12)
    await queue.leave()


async def test_batch_has_all_where_it_is_alone(clock):
    """
    No place is kept for calls that do not come.
    """
    governor = Governor(concurrency=20)
    (await governor.lease(KEY)).settle()
    clock.monotonic.return_value += 61
    queue = Queue(governor)
    await queue.ask(30, lane="batch")
    assert counts(governor) == (20, 10)
    await queue.leave()


async def test_batch_keeps_a_tenth():
    """
    Of the places, however many interactive calls there are.
    """
    governor = Governor(concurrency=20)
    queue = Queue(governor)
    await queue.ask(40)
    await queue.ask(10, lane="batch")
    for number in range(4):
        (await queue.lease(number)).settle()
        await turns()
    assert sum(number >= 40 for number in queue.order) == 2
    await queue.leave()


# What servers say --------------------------------------------------------------------


async def test_headers(clock):
    """
    The gate slows down before the server refuses, and shows why.
    """
    governor = Governor()
    lease = await soon(governor.lease(KEY))
    said = RateLimits(limit_requests=60, remaining_requests=2, reset_requests=58.0)
    lease.admitted(said)
    queue = Queue(governor)
    await queue.ask(5)
    assert queue.order == [0, 1]
    assert state(governor).requests_left == 0
    assert state(governor).learnt == said
    clock.monotonic.return_value += 1.01
    await queue.ask()
    assert queue.order == [0, 1, 2]
    await queue.leave()


async def test_waits_that_take_no_time(clock):
    """
    In users' tests nothing waits for a rate.
    """
    governor = Governor(rpm=1, tpm=1)
    with instant_retries():
        for _ in range(50):
            await soon(governor.lease(KEY, asks=Asks(max_tokens=100)))
    assert state(governor).in_flight == 50


# What cannot be ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rpm": 0}, "rpm is 0, expected a finite number above 0"),
        ({"rpm": "60"}, "rpm is '60', expected a number a minute"),
        ({"tpm": float("inf")}, "tpm is inf, expected a finite number"),
        ({"tpm": True}, "tpm is True, expected a number"),
        ({"concurrency": 0}, "concurrency is 0, expected 1 or more"),
        ({"concurrency": 2.0}, "concurrency is 2.0, expected a whole number or Adap"),
    ],
)
def test_impossible_limits(given, words):
    """
    They are refused where they are written.
    """
    with pytest.raises(ConfigurationError, match=words):
        Governor(**given)


# Through a client --------------------------------------------------------------------


async def test_a_client(emulator):
    """
    The lane and the request's size reach the governor; the real usage settles the lease.
    """
    seen = []

    class Watched(Governor):
        async def lease(self, key, **asked):
            seen.append(asked)
            lease = await super().lease(key, **asked)
            settle = lease.settle

            class Told:
                def __getattr__(self, name):
                    return getattr(lease, name)

                def settle(self, usage=None):
                    seen.append(usage)
                    settle(usage)

            return Told()

    governor = Watched()
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    only = {"index": 0, "message": {"content": "all"}, "finish_reason": "stop"}
    emulator.script(*[Answer.json({"id": "c", "choices": [only], "usage": usage})] * 2)
    async with AsyncHoray(base_url=emulator.base_url, governor=governor) as client:
        assert client.governor is governor
        ask = client.chat.completions.create
        await ask(messages=[user("four")], model="m", max_tokens=9, n=1)
        batch = client.with_options(lane="batch")
        await batch.chat.completions.create(messages=[user("four")], model="m")
        with pytest.raises(ConfigurationError, match="lane is 'slow', expected"):
            client.with_options(lane="slow")
    first, told, second, _ = seen
    assert first["lane"] == "interactive"
    assert first["asks"] == Asks(prompt_bytes=4, max_tokens=9, choices=1)
    assert (told.prompt_tokens, told.completion_tokens) == (7, 3)
    assert second["lane"] == "batch"
    assert second["asks"].max_tokens is None
    assert governor.snapshot() == {}
