"""
The first choice that will do: judged as it is finished, and the end of all others.
"""

import asyncio
import re

import pytest

from fanning import (
    CHAT,
    HANG,
    MODEL,
    asked,
    assert_over,
    connect,
    said,
    sparing_stream,
    streamed,
)
from horay_async import (
    COMPATIBLE,
    APIResponseValidationError,
    AsyncHoray,
    BadRequestError,
    ChatChoice,
    CompletionChoice,
    IncompleteStreamError,
    Timeouts,
    user,
)
from horay_async.emulator import Answer


@pytest.fixture
async def two(emulator):
    """
    A client of a server that gives at most two choices a call.
    """
    async with connect(emulator, 2) as client:
        yield client


def is_(text):
    """
    Whether a choice says just this.
    """
    return lambda choice: choice.text == text


# The one that will do ----------------------------------------------------------------


async def test_it_is_judged_when_it_is_finished(two, emulator):
    """
    Not when its call is: the other choice of it never ends.
    """
    emulator.script(Answer.sse(said(0, "a", None), said(1, "b"), **HANG))
    fan = two.fan_out(CHAT, n=2)
    found = await fan.first(is_("b"))
    assert isinstance(found, ChatChoice)
    assert (found.text, found.index, found.finish_reason) == ("b", 1, "stop")
    await emulator.wait_for_disconnect()
    assert fan.choices == (found,)
    assert_over(two)


async def test_the_others_are_cancelled(two, emulator):
    """
    Connections are closed at once, whatever came over them.
    """
    begun = Answer.sse(said(0, "a", None), **HANG)
    silent = Answer(before=[asyncio.Event()])
    emulator.script(begun, silent, streamed("c", "d"))
    found = await two.fan_out(CHAT, n=6).first(is_("d"))
    assert found.text == "d"
    await emulator.wait_for_disconnect(2)
    assert emulator.open_requests == []
    assert_over(two)
    assert asked(emulator, "n", "stream") == [(2, True)] * 3


async def test_none_will_do(two, emulator):
    """
    Each has been looked at, once, and has its number.
    """
    emulator.script(*[sparing_stream(2)] * 3)
    judged = []
    fan = two.fan_out(CHAT, n=5, seed=10)
    assert await fan.first(judged.append) is None
    judged.sort(key=lambda choice: choice.index)
    assert [choice.index for choice in judged] == [0, 1, 2, 3, 4]
    assert [choice.text for choice in judged] == ["10", "11", "12", "13", "14"]
    assert fan.choices == tuple(judged)
    assert_over(two)


async def test_a_text(two, emulator):
    emulator.script(streamed("a", "b"))
    found = await two.fan_out(prompt="Once", n=2).first(is_("b"))
    assert isinstance(found, CompletionChoice)
    assert found.text == "b"


async def test_the_emulators_own_answer(two, emulator):
    """
    Nothing scripted: the choices of a server that interleaves them.
    """
    found = await two.fan_out(CHAT, n=6).first(lambda choice: choice.index == 5)
    assert found.text == "Hello, you."
    assert found.finish_reason == "stop"


@pytest.mark.parametrize(
    "verdict", [True, 1, "yes", re.compile("b").search("b")], ids=repr
)
async def test_what_counts_as_yes(two, emulator, verdict):
    found = await two.fan_out(CHAT, n=1).first(lambda _: verdict)
    assert found.text == "Hello, you."


# The predicate -----------------------------------------------------------------------


async def test_an_async_predicate(two, emulator):
    emulator.script(streamed("a", "b"), streamed("c", "d"))

    async def fits(choice):
        await asyncio.sleep(0)
        return choice.text == "c"

    found = await two.fan_out(CHAT, n=4).first(fits)
    assert found.text == "c"
    assert_over(two)


async def test_a_slow_verdict_holds_nothing_up(two, emulator):
    """
    While one choice is weighed, those after it are judged; it is given up with the rest.
    """
    emulator.script(streamed("a", "b"))
    given_up = []

    async def fits(choice):
        if choice.text == "b":
            return True
        try:
            await asyncio.Event().wait()
        finally:
            given_up.append(choice.text)

    found = await two.fan_out(CHAT, n=2).first(fits)
    assert found.text == "b"
    assert given_up == ["a"]
    assert_over(two)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_predicate_that_fails(two, emulator, kind):
    """
    Its error ends it all, and is what the caller gets.
    """
    emulator.script(Answer(before=[asyncio.Event()]), streamed("a", "b"))

    def fails(choice):
        raise KeyError(choice.text)

    async def fails_later(choice):
        await asyncio.sleep(0)
        raise KeyError(choice.text)

    with pytest.raises(KeyError):
        await two.fan_out(CHAT, n=4).first(fails if kind == "sync" else fails_later)
    await emulator.wait_for_disconnect()
    assert_over(two)


async def test_a_predicate_that_comes_to_an_end(two, emulator):
    """
    Errors that mean something to Python are told as what they are here.
    """
    with pytest.raises(RuntimeError, match="give its next\\(\\) a default"):
        await two.fan_out(CHAT, n=2).first(lambda _: next(iter([])))

    async def cancelled(choice):
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="somebody cancelled a call"):
        await two.fan_out(CHAT, n=2).first(cancelled)
    assert_over(two)


async def test_no_predicate(two, emulator):
    with pytest.raises(TypeError, match="predicate is 'sea', expected a function"):
        await two.fan_out(CHAT, n=4).first("sea")
    assert emulator.requests == []


# Servers -----------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
async def test_a_server_that_gives_fewer(emulator, most):
    """
    It is asked for the rest, at what it does give, and no choice comes twice.
    """
    emulator.script(*[sparing_stream(most)] * 8)
    judged = []
    async with connect(emulator, service=COMPATIBLE) as client:
        fan = client.fan_out(CHAT, n=8, seed=100, model=MODEL)
        assert await fan.first(judged.append) is None
    assert sorted(choice.index for choice in judged) == list(range(8))
    assert [choice.text for choice in fan.choices] == [str(100 + i) for i in range(8)]
    assert len(emulator.requests) == -(-8 // most)


async def test_a_choice_without_a_finish_reason(two, emulator):
    """
    Some gateways send none: what there is at the end is judged then.
    """
    emulator.script(Answer.sse(said(0, "a"), said(1, "b", None)))
    found = await two.fan_out(CHAT, n=2).first(is_("b"))
    assert found.text == "b"
    assert len(emulator.requests) == 1


async def test_numbers_of_its_own(two, emulator):
    """
    Asking again would never end.
    """
    emulator.script(Answer.sse(said(7, "a"), said(8, "b")))
    with pytest.raises(APIResponseValidationError, match="a number below 2") as caught:
        await two.fan_out(CHAT, n=2).first(is_("b"))
    assert caught.value.status_code == 200


async def test_several_prompts(two, emulator):
    """
    A call for each of them: in a stream nothing else says whose choice it is.
    """

    emulator.script(*[sparing_stream(2)] * 6)
    fan = two.fan_out(prompt=["a", "b", "c"], n=3, seed=0)
    found = await fan.first(is_("c2"))
    assert found.index == 8
    expected = [f"{prompt}{at}" for prompt in "abc" for at in range(3)]
    for choice in fan.choices:
        assert expected[choice.index] == choice.text
    seen = [one for one in asked(emulator, "prompt", "n", "seed") if one[0] == "c"]
    assert seen == [("c", 1, 2), ("c", 2, 0)]


async def test_a_call_that_fails(two, emulator):
    """
    The others are cancelled, and what had come is there.
    """
    judged = asyncio.Event()

    async def refuse(request):
        await judged.wait()
        return Answer.json({"error": {"message": "no more"}}, 400)

    emulator.script(Answer.sse(said(0, "a"), **HANG), refuse)
    fan = two.fan_out(CHAT, n=4)
    with pytest.raises(BadRequestError, match="no more"):
        await fan.first(lambda _: judged.set())
    assert [choice.text for choice in fan.choices] == ["a"]
    await emulator.wait_for_disconnect()
    assert_over(two)


async def test_a_stream_that_breaks_off(two, emulator):
    emulator.script(Answer.sse(said(0, "a"), done=False, end="close"))
    fan = two.fan_out(CHAT, n=2)
    with pytest.raises(IncompleteStreamError):
        await fan.first(is_("b"))
    assert [choice.text for choice in fan.choices] == ["a"]


async def test_in_a_timeout(two, emulator):
    """
    A bound of the caller's own ends it all.
    """
    emulator.script(Answer.sse(said(0, "a", None), **HANG))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await two.fan_out(CHAT, n=2).first(is_("b"))
    await emulator.wait_for_disconnect()
    assert_over(two)


# A real model ------------------------------------------------------------------------


async def test_a_real_model(anyio_backend, llama):
    """
    Choices differ by their seeds; llama.cpp takes as many at once as it has slots.
    """
    async with AsyncHoray(
        base_url=llama.base_url, timeouts=Timeouts(deadline=60)
    ) as client:
        asking = {
            "messages": [user("Name a sea.")],
            "model": llama.model,
            "max_tokens": 8,
            "temperature": 1.5,
            "seed": 7,
            "n": 3,
        }
        reply = await client.fan_out(**asking)
        texts = [choice.text for choice in reply.choices]
        assert len(set(texts)) == 3
        assert [choice.index for choice in reply.choices] == [0, 1, 2]
        assert reply.usage.completion_tokens <= 3 * 8
        fan = client.fan_out(**asking)
        found = await fan.first(lambda choice: choice.text)
        assert found.text
        assert found in fan.choices
