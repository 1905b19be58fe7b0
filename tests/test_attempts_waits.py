"""
Too many requests: how long all wait, and who does.
"""

import asyncio
import pickle

import pytest

from calling import GATE, calling, read
from horay_async._errors import RateLimitError
from horay_async._timeouts import Timeouts
from horay_async.emulator import Answer
from loopback import soon, until


OK = Answer.json({"ok": True})


def limited(**headers):
    """
    A 429 with these headers.
    """
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer.json({"message": "slow down"}, 429, headers=named)


@pytest.fixture
def dice(monkeypatch):
    """
    The luck of the waits: none unless a test says otherwise.
    """
    luck = {"now": 0.0}
    monkeypatch.setattr("random.random", lambda: luck["now"])
    return luck


@pytest.fixture
async def caller(emulator, dice):
    """
    A caller of the emulator.
    """
    async with calling(emulator.base_url) as caller:
        yield caller


async def test_a_429_closes_the_gate(caller, emulator):
    """
    For all who share the limit, until the server's time is over; then in turn.
    """
    emulator.script(limited(retry_after_ms="80"), OK, OK)
    first = asyncio.create_task(caller.run())
    await until(lambda: caller.gate and caller.gate.closed_for)
    second = asyncio.create_task(caller.run())
    await soon(asyncio.gather(first, second))
    arrivals = [request.arrival for request in emulator.requests]
    assert len(arrivals) == 3
    assert min(arrivals[1:]) - arrivals[0] > 0.07
    assert (1, 0.08, "status 429") in caller.told
    assert caller.in_flight == 0


async def test_others_are_not_stopped(caller, emulator):
    """
    Another model has another limit.
    """
    emulator.script(limited(retry_after="60"), OK)
    first = asyncio.create_task(caller.run(timeouts=Timeouts()))
    await until(lambda: caller.gate and caller.gate.closed_for)
    await soon(caller.run(gate="other"))
    first.cancel()
    await asyncio.wait([first])
    assert caller.in_flight == 0


async def test_the_wait_is_the_governors_time(caller, emulator):
    """
    As is every wait between two attempts.
    """
    busy = Answer.json({}, 503, headers=[("retry-after-ms", "30")])
    emulator.script(limited(retry_after_ms="30"), busy, OK)
    attempts = caller.call()
    await attempts.run(read)
    assert attempts.timings.governor > 0.05


async def test_a_503_stops_only_its_own_call(caller, emulator):
    """
    It is no word on limits.
    """
    busy = Answer.json({}, 503, headers=[("retry-after", "60")])
    emulator.script(busy, OK)
    waiting = asyncio.create_task(caller.run(timeouts=Timeouts()))
    await until(lambda: len(caller.told) == 2)
    await soon(caller.run())
    waiting.cancel()
    await asyncio.wait([waiting])
    assert caller.governor.snapshot() == {}


async def test_without_a_word_on_waiting(caller, emulator):
    """
    The backoff closes the gate.
    """
    emulator.script(limited(), OK)
    attempts = caller.call()
    await attempts.run(read)
    assert attempts.timings.governor > 0.11


async def test_a_wait_that_is_too_long(caller, emulator):
    """
    It is raised at once, with the wait; nobody else has to wait so long, either.
    """
    emulator.script(limited(retry_after="300"))
    with pytest.raises(RateLimitError) as caught:
        await caller.run()
    assert caught.value.retry_after == 300
    assert caught.value.attempts == 1
    assert caller.governor.snapshot() == {}


async def test_the_longest_wait(caller, emulator, dice):
    """
    A tenth more at random makes it no reason to go at once.
    """
    dice["now"] = 0.99
    emulator.script(limited(retry_after="120"), OK)
    waiting = asyncio.create_task(caller.run(timeouts=Timeouts()))
    await until(lambda: len(caller.told) >= 2)
    await until(lambda: caller.gate.closed_for)
    assert 120 < caller.gate.closed_for < 132
    assert len(emulator.requests) == 1
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_no_time_for_the_wait(caller, emulator):
    """
    Raised at once as well, but the others are told to wait.
    """
    emulator.script(limited(retry_after="60"))
    with pytest.raises(RateLimitError) as caught:
        await caller.run(timeouts=Timeouts(deadline=5))
    assert caught.value.retry_after == 60
    assert "longer than the" in caller.told[-1][2]
    assert caller.gate.closed_for > 50


async def test_no_place_in_a_gate_that_has_just_closed(caller, emulator):
    """
    The one whose 429 closes the gate does not let the next one through.
    """
    caller.governor.close(GATE, 0.3)
    emulator.script(
        Answer.json({}, 429, headers=[("retry-after", "60")], before=[0.05])
    )
    calls = [
        asyncio.create_task(caller.run(retries=0, timeouts=Timeouts()))
        for _ in range(2)
    ]
    with pytest.raises(RateLimitError):
        await soon(calls[0])
    await asyncio.sleep(0.4)
    assert len(emulator.requests) == 1
    assert (caller.gate.in_flight, caller.gate.waiting) == (0, 1)
    calls[1].cancel()
    await asyncio.wait(calls)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("600", "; the server asks to wait 600 s, and no more than 120 s are waited"),
        ("60", " s left before the deadline"),
    ],
)
async def test_the_error_says_that_the_wait_is_too_long(caller, emulator, asked, words):
    """
    Else it would look like the last of several attempts.
    """
    emulator.script(limited(retry_after=asked))
    with pytest.raises(RateLimitError) as caught:
        await caller.run(timeouts=Timeouts(deadline=5 if asked == "60" else None))
    assert str(caught.value).endswith(words)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
