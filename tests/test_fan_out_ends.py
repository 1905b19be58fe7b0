"""
How a fan-out ends before it is done: it fails, or is cancelled, and nothing is lost.
"""

import asyncio
import gc
import itertools
import weakref

import pytest

from fanning import CHAT, PATIENCE, connect, whole
from horay_async import APIResponseValidationError, BadRequestError
from horay_async.emulator import Answer
from horay_async.many._calls import AT_ONCE


@pytest.fixture
async def four(emulator):
    """
    A client of a server that gives at most four choices a call.
    """
    async with connect(emulator, 4) as client:
        yield client


async def test_a_call_that_fails(four, emulator):
    """
    The others are cancelled; what had come is there.
    """
    forever, answered = asyncio.Event(), asyncio.Event()

    async def refuse(request):
        await answered.wait()
        return Answer.json({"error": {"message": "no more"}}, 400)

    emulator.script(Answer.json(whole(*"abcd")), Answer(before=[forever]), refuse)
    fan = four.fan_out(CHAT, n=12)
    reading = asyncio.ensure_future(fan)
    async with asyncio.timeout(PATIENCE):
        while not fan.choices:  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0)
    answered.set()
    with pytest.raises(BadRequestError, match="no more"):
        await reading
    assert [choice.text for choice in fan.choices] == list("abcd")
    await emulator.wait_for_disconnect()
    assert four._line.governor.snapshot() == {}


async def test_what_had_come_is_in_the_error(four, emulator):
    """
    In one line nobody holds the fan-out: what was paid for is with the error.
    """
    thought = whole("a", "b", prompt_tokens=3, completion_tokens=5)
    thought["choices"][1]["message"]["reasoning_content"] = "hm"

    async def refuse(request):
        async with asyncio.timeout(PATIENCE):
            while not fan.choices:  # noqa: ASYNC110 -- there is no event to wait for
                await asyncio.sleep(0)
        return Answer.json({"error": {"message": "no more"}}, 400)

    emulator.script(Answer.json(thought), refuse)
    async with connect(emulator, 2) as client:
        fan = client.fan_out(CHAT, n=4)
        with pytest.raises(BadRequestError) as caught:
            await fan
    choices = caught.value.partial.choices
    assert [(one.index, one.text, one.reasoning) for one in choices] == [
        (0, "a", ""),
        (1, "b", "hm"),
    ]
    assert caught.value.usage.completion_tokens == 5
    assert caught.value.usage.source == "server"


async def test_an_error_keeps_its_cause(four, emulator):
    emulator.script(Answer.json({"choices": 7}))
    with pytest.raises(APIResponseValidationError) as caught:
        await four.fan_out(CHAT, n=2)
    assert not isinstance(caught.value.__context__, BaseExceptionGroup)


@pytest.mark.parametrize("how", ["await", "first"])
async def test_cancelled(four, emulator, how):
    emulator.script(*[Answer(before=[asyncio.Event()])] * 3)
    fan = four.fan_out(CHAT, n=12)
    reading = asyncio.ensure_future(fan.first(bool) if how == "first" else fan)
    await emulator.wait_for_request(3)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await emulator.wait_for_disconnect(3)
    assert four._line.governor.snapshot() == {}


@pytest.mark.parametrize("how", ["await", "first"])
async def test_cancelled_at_every_point(four, emulator, how):
    """
    No cancellation is lost, not even one that comes when it is all decided.
    """

    async def fits(choice):
        if choice.index == 0:
            return True
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)

    async def use():
        emulator.script(Answer.json({"error": {"message": "no"}}, 400))
        fan = four.fan_out(CHAT, n=12)
        await (fan.first(fits) if how == "first" else fan)

    async def use_first():
        await four.fan_out(CHAT, n=4).first(fits)

    for kind in [use, use_first]:
        for turns in itertools.count():
            emulator._script.waiting.clear()
            task = asyncio.create_task(kind())
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                task.exception()
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    await emulator.wait_until_idle(PATIENCE)
    assert four._line.governor.snapshot() == {}


async def test_somebody_cancels_a_call(four, emulator):
    """
    That is no choice, nor the caller's own cancellation.
    """
    emulator.script(Answer(before=[asyncio.Event()]))
    fan = four.fan_out(CHAT, n=2)
    reading = asyncio.ensure_future(fan)
    await emulator.wait_for_request()
    next(iter(fan._calls.tasks)).cancel()
    with pytest.raises(RuntimeError, match="somebody cancelled a call"):
        await reading


@pytest.mark.parametrize("how", ["await", "first"])
async def test_freed_when_it_is_done(four, how):
    """
    Its choices may be large: they do not wait for the garbage collector.
    """
    gc.collect()
    gc.disable()
    try:
        fan = four.fan_out(CHAT, n=6)
        await (fan.first(lambda _: False) if how == "first" else fan)
        gone = weakref.ref(fan)
        del fan
        async with asyncio.timeout(PATIENCE):
            while gone() is not None:  # noqa: ASYNC110 -- there is no event to wait for
                await asyncio.sleep(0)
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["await", "first"])
async def test_a_closed_client(four, emulator, how):
    """
    Every call fails at once, on an eager loop too: one error comes of it.
    """
    await four.close()
    fan = four.fan_out(CHAT, n=100)
    with pytest.raises(RuntimeError, match="closed"):
        await (fan.first(bool) if how == "first" else fan)


async def test_not_more_at_once(emulator):
    held = asyncio.Event()

    async def wait(request):
        await held.wait()

    emulator.script(*[wait] * 100)
    async with connect(emulator, 1) as client:
        reading = asyncio.ensure_future(client.fan_out(CHAT, n=100))
        await emulator.wait_for_request(AT_ONCE, PATIENCE)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(emulator.requests) == AT_ONCE
        held.set()
        assert len((await reading).choices) == 100
