"""
Races that are left: cancelled at any point, broken out of, forgotten.
"""

import asyncio
import contextlib
import gc
import weakref

import pytest

from horay_async import BadRequestError, Outcome
from horay_async.emulator import Answer
from racing import (
    HANG,
    PATIENCE,
    assert_over,
    connect,
    refusal,
    script,
    silent,
)


@pytest.fixture
async def racer(emulator):
    """
    A client that tries everything once.
    """
    async with connect(emulator) as client:
        yield client


async def test_cancelled_while_nobody_has_won(racer, emulator):
    script(emulator, {"a": silent(), "b": silent(200)})
    race = racer.race(["a", "b"])
    reading = asyncio.ensure_future(race)
    await emulator.wait_for_request(2, PATIENCE)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    # Not a turn later.
    assert_over(racer)
    assert [loser.outcome for loser in race.losers] == [Outcome.CANCELLED] * 2
    assert race.usage.prompt_tokens == 2
    await emulator.wait_for_disconnect(2)


@pytest.mark.parametrize("answer", [silent, lambda: Answer.chat("a", **HANG)])
async def test_cancelled_at_any_turn(racer, emulator, answer):
    """
    Whenever it comes, no connection, no lease and no task outlives it.
    """
    emulator.script(*[answer() for _ in range(120)])
    for turns in range(60):
        race = racer.race(["a", "b"])

        async def read(race=race):
            async with race as stream:
                async for _ in stream:
                    pass

        reading = asyncio.create_task(read())
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reading, PATIENCE)
        assert_over(racer)
        await emulator.wait_until_idle()


async def test_cancelled_twice(racer, emulator):
    """
    The second one does not leave anything behind either.
    """
    script(emulator, {"a": silent(), "b": silent(200)})
    reading = asyncio.ensure_future(racer.race(["a", "b"]))
    await emulator.wait_for_request(2, PATIENCE)
    reading.cancel()
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await emulator.wait_for_disconnect(2)
    assert_over(racer)


@pytest.mark.parametrize("how", ["left", "raised"])
async def test_left_early(racer, emulator, how):
    script(emulator, {"a": Answer.chat("word", **HANG), "b": silent()})
    race = racer.race(["a", "b"])
    with contextlib.suppress(ZeroDivisionError):
        async with race as stream:
            async for _ in stream:
                if how == "left":
                    break
                1 / 0  # noqa: B018 -- it raises
    assert stream.outcome is Outcome.CLOSED
    assert_over(racer)
    await emulator.wait_for_disconnect(2)


async def test_never_begun(racer, emulator):
    """
    Nothing is sent, and nobody is told to close anything.
    """
    racer.race(["a", "b"])
    gc.collect()
    assert emulator.requests == []


@pytest.mark.parametrize("how", ["won", "lost"])
async def test_freed_when_it_is_done(racer, emulator, how):
    """
    Neither a race nor its error waits for the garbage collector.
    """
    if how == "lost":
        script(emulator, {"a": refusal(), "b": refusal()})
    else:
        script(emulator, {"a": Answer.chat("all"), "b": silent()})
    gc.collect()
    gc.disable()
    try:
        race = racer.race(["a", "b"])
        streams = [weakref.ref(stream) for stream in race._streams.values()]
        if how == "won":
            await race
        else:
            with pytest.raises(BadRequestError):
                await race
        gone = weakref.ref(race)
        del race
        async with asyncio.timeout(PATIENCE):
            while gone() or any(one() for one in streams):  # noqa: ASYNC110 -- no event
                await asyncio.sleep(0)
    finally:
        gc.enable()
