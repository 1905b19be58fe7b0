"""
Where our client differs from openai's on purpose, as `docs/migrating.md` says it does.
"""

import asyncio
import math

import attrs
import openai
import pytest

import horay_async

from horay_async import AsyncHoray, InvalidRequestError, Timeouts
from horay_async.emulator import Answer


LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
TEXT = "Name three seas, please."
ASKED = {"model": LLAMA, "messages": [{"role": "user", "content": TEXT}]}


@pytest.fixture
async def theirs(emulator):
    async with openai.AsyncOpenAI(
        base_url=emulator.base_url, api_key="key", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def ours(emulator):
    async with AsyncHoray(
        base_url=emulator.base_url, api_key="key", max_retries=0
    ) as client:
        yield client


async def test_a_stream_that_breaks_off(theirs, ours, emulator):
    """
    Where the end of the connection is the end of the body, HTTP cannot tell.
    """
    cut = Answer.chat("Bl", finish=None, done=False, framing="close")
    emulator.script(cut, cut)
    stream = await theirs.chat.completions.create(**ASKED, stream=True)
    assert [chunk async for chunk in stream]
    stream = await ours.chat.completions.create(**ASKED, stream=True)
    with pytest.raises(horay_async.IncompleteStreamError) as caught:
        async for _ in stream:
            pass
    assert caught.value.partial.text == "Bl"


async def test_break_closes(theirs, ours, emulator):
    """
    Theirs waits for its collection, ours closes at once and cannot be taken up again.
    """
    emulator.script(*[Answer.chat("sea", end="hang")] * 2)
    kept = await theirs.chat.completions.create(**ASKED, stream=True)
    async for _ in kept:
        break
    assert emulator.open_streams == 1
    stream = await ours.chat.completions.create(**ASKED, stream=True)
    async for _ in stream:
        break
    await emulator.wait_for_disconnect()
    with pytest.raises(horay_async.StreamConsumedError, match="async with"):
        aiter(stream)
    assert emulator.open_streams == 1
    await kept.close()
    await emulator.wait_for_disconnect(2)


async def test_timeout_is_for_the_whole_call(theirs, ours, emulator):
    """
    Pieces that come in good time, one after the other, and all together too late.
    """
    pieces = ["sea", 0.1] * 5
    emulator.script(Answer.chat(*pieces), Answer.chat(*pieces))
    stream = await theirs.chat.completions.create(**ASKED, stream=True, timeout=0.3)
    assert [chunk async for chunk in stream]
    stream = await ours.chat.completions.create(**ASKED, stream=True, timeout=0.3)
    with pytest.raises(horay_async.APITimeoutError):
        async for _ in stream:
            pass
    emulator.script(Answer.chat(*pieces))
    clocks = Timeouts(stall=0.3, silence=0.3, first_token=0.3)
    stream = await ours.chat.completions.create(**ASKED, stream=True, timeouts=clocks)
    assert [chunk async for chunk in stream]


async def test_no_timeout(ours, emulator):
    """
    None is as if it were not given: the client's own clocks hold.
    """
    hurried = ours.with_options(timeout=0.05)
    waiting = Answer(before=[asyncio.Event()])
    emulator.script(waiting)
    with pytest.raises(horay_async.APITimeoutError):
        await hurried.chat.completions.create(**ASKED, timeout=None)
    emulator.script(Answer(before=[0.1], headers={"content-type": "text/plain"}))
    with pytest.raises(horay_async.APIResponseValidationError):
        await hurried.chat.completions.create(**ASKED, timeout=math.inf)


async def test_numeric_codes(theirs, ours, emulator):
    refusal = Answer.json({"error": {"message": "no", "code": 50505}}, 400)
    for client, code in ((theirs, "50505"), (ours, 50505)):
        emulator.script(refusal)
        with pytest.raises((openai.BadRequestError, horay_async.BadRequestError)) as e:
            await client.chat.completions.create(**ASKED)
        assert e.value.code == code


async def test_messages_say_who(ours, emulator):
    """
    Openai says no more than the code where the body is no error object.
    """
    emulator.script(Answer.text("no such sea", 400))
    with pytest.raises(horay_async.BadRequestError) as caught:
        await ours.chat.completions.create(**ASKED)
    expected = "400 from OpenAI-compatible server: no such sea"
    assert caught.value.message == str(caught.value) == expected


async def test_one_client_one_server(ours):
    for option in ({"api_key": "another"}, {"base_url": "http://localhost:1/v1"}):
        with pytest.raises(TypeError):
            ours.with_options(**option)
    assert not hasattr(ours, "api_key")


async def test_ranges_and_fields(ours, emulator):
    """
    What openai's client would leave to the server.
    """
    with pytest.raises(InvalidRequestError):
        await ours.chat.completions.create(**ASKED, temperature=-1)
    with pytest.raises(TypeError, match="extra_body"):
        await ours.chat.completions.create(**ASKED, modalities=["text"])
    assert emulator.requests == []


async def test_replies_are_values(ours, emulator):
    """
    Frozen, their lists tuples; what the server left out is filled in.
    """
    body = {"choices": [{"message": {"content": "Black"}, "finish_reason": "stop"}]}
    emulator.script(Answer.json(body))
    reply = await ours.chat.completions.create(**ASKED)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        reply.choices[0].message.content = "White"
    assert isinstance(reply.choices, tuple)
    assert reply.choices[0].index == 0
    assert (reply.usage.total_tokens, reply.usage.source) == (0, "none")
    assert attrs.evolve(reply.message, content="White").text == "White"


async def test_an_error_in_a_stream_has_its_class(ours, emulator):
    error = {"error": {"message": "slow down", "code": 429}}
    emulator.script(Answer.sse({"choices": [{"delta": {"content": "Bl"}}]}, error))
    stream = await ours.chat.completions.create(**ASKED, stream=True)
    with pytest.raises(horay_async.RateLimitError) as caught:
        async for _ in stream:
            pass
    assert caught.value.partial.text == "Bl"
