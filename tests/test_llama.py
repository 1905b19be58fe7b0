"""
Our client against a server that is not ours: llama.cpp's own, with a real small model.
"""

import asyncio
import json
import urllib.request

import openai
import pytest

from horay_async import AsyncHoray, Outcome, Timeouts, user
from horay_async.local import LocalModelError
from llama_server import give_up


QUESTION = [user("Name three seas.")]
SLOTS = 4

# Greedy, and without the cache of an earlier prompt, whose rounding may differ.
EXACT = {"temperature": 0, "extra_body": {"cache_prompt": False}}

# Longer than any test waits, whatever the model would like to say.
ENDLESS = {"max_tokens": 1900, "extra_body": {"ignore_eos": True}}


@pytest.fixture
async def client(anyio_backend, llama):
    async with AsyncHoray(
        base_url=llama.base_url, timeouts=Timeouts(deadline=60)
    ) as it:
        yield it


@pytest.fixture
def asked(llama):
    return {"model": llama.model, "messages": QUESTION, "max_tokens": 16}


async def busy(llama):
    """
    How many answers the server is writing.
    """

    def slots():
        url = f"{llama.base_url.removesuffix('/v1')}/slots"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            return json.load(answer)

    return sum(slot["is_processing"] for slot in await asyncio.to_thread(slots))


async def idle(llama):
    """
    Wait until it writes none. It tells nobody, so it is asked again and again.
    """
    async with asyncio.timeout(10):
        while await busy(llama):  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0.01)


async def test_chat(client, asked, llama):
    reply = await client.chat.completions.create(**asked)
    assert reply.text
    assert reply.message.role == "assistant"
    assert reply.choices[0].finish_reason in {"stop", "length"}
    assert reply.model == llama.model
    assert reply.usage.source == "server"
    assert reply.usage.prompt_tokens > 3
    assert 0 < reply.usage.completion_tokens <= 16
    counts = reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.total_tokens == counts


async def test_stream(client, asked):
    """
    Piece by piece it says what it says at once.
    """
    reply = await client.chat.completions.create(**asked, **EXACT)
    async with client.chat.completions.stream(
        **asked, **EXACT, include_usage=True
    ) as stream:
        texts = [token.text async for token in stream]
    assert len(texts) > 1
    assert "".join(texts) == stream.reply.text == reply.text
    assert stream.outcome is Outcome.FINISHED
    assert stream.reply.usage.source == "server"
    assert stream.reply.usage.completion_tokens == reply.usage.completion_tokens
    assert stream.reply.choices[0].finish_reason == reply.choices[0].finish_reason
    assert stream.meta.timings.first_token > 0


async def test_usage_is_estimated_where_it_is_not_asked_for(client, asked):
    async with client.chat.completions.stream(**asked) as stream:
        pieces = [token async for token in stream]
    usage = stream.reply.usage
    assert usage.source == "estimated"
    assert usage.completion_tokens == len(pieces)


async def test_chunks(client, asked):
    stream = await client.chat.completions.create(**asked, stream=True)
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(delta or "" for delta in deltas) == stream.reply.text
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1].choices[0].finish_reason
    assert stream.outcome is Outcome.FINISHED


async def test_text(client, llama):
    asked = {"model": llama.model, "prompt": "The sea is", "max_tokens": 8, **EXACT}
    reply = await client.completions.create(**asked)
    async with client.completions.stream(**asked, include_usage=True) as stream:
        text = "".join([text async for text in stream.text_stream])
    assert text == stream.reply.text == reply.text
    assert text
    assert stream.reply.usage.completion_tokens == reply.usage.completion_tokens == 8
    assert stream.reply.choices[0].finish_reason == "length"
    assert stream.outcome is Outcome.FINISHED


async def test_two_choices(client, asked):
    """
    They come side by side, the second one first; each has its own cursor.
    """
    reply = await client.chat.completions.create(**asked, n=2, seed=1)
    assert [choice.index for choice in reply.choices] == [0, 1]
    assert all(choice.text for choice in reply.choices)
    async with client.chat.completions.stream(**asked, n=2, seed=1) as stream:
        first, second = await asyncio.gather(*map(read, stream.choices))
    assert stream.outcome is Outcome.FINISHED
    assert [first, second] == [choice.text for choice in stream.reply.choices]
    assert all(choice.finish_reason for choice in stream.reply.choices)


async def read(choice):
    return "".join([token.text async for token in choice])


async def test_two_texts(client, llama):
    async with client.completions.stream(
        model=llama.model, prompt="The sea is", max_tokens=8, n=2
    ) as stream:
        assert {token.index async for token in stream} == {0, 1}
    assert stream.outcome is Outcome.FINISHED
    assert len(stream.reply.choices) == 2


async def test_openai_agrees(client, asked, llama):
    """
    Openai's client reads the same answer.
    """
    theirs = asked | {"messages": [{"role": "user", "content": "Name three seas."}]}
    async with openai.AsyncOpenAI(base_url=llama.base_url, api_key="key") as other:
        expected = await other.chat.completions.create(**theirs, **EXACT)
    reply = await client.chat.completions.create(**asked, **EXACT)
    assert reply.text == expected.choices[0].message.content
    assert reply.usage.total_tokens == expected.usage.total_tokens
    assert reply.choices[0].finish_reason == expected.choices[0].finish_reason
    dumped = [{**one.to_dict(), "id": "", "created": 0} for one in (reply, expected)]
    for one in dumped:
        del one["timings"]
    assert dumped[0] == dumped[1]


async def test_leaving_early(client, asked, llama):
    """
    After `break` the server stops writing: every slot is free again for the next call.
    """
    asked |= ENDLESS

    async def leave(started):
        async with client.chat.completions.stream(**asked) as stream:
            async for _ in stream:
                await started.wait()
                break
        # Kept by the test: it is not the stream's collection that is tried here.
        return stream

    await idle(llama)
    started = asyncio.Barrier(SLOTS)
    streams = await asyncio.gather(*(leave(started) for _ in range(SLOTS)))
    assert [stream.outcome for stream in streams] == [Outcome.CLOSED] * SLOTS
    # Were they still written, this would wait for more than a thousand tokens.
    reply = await client.chat.completions.create(
        **asked | {"max_tokens": 1}, timeouts=Timeouts(deadline=10)
    )
    assert reply.usage.completion_tokens == 1
    await idle(llama)


async def test_cancelled_early(client, asked, llama):
    """
    The same for a task that is cancelled in the middle. (A plain call's answer is written
    to its end whoever has left: llama.cpp looks at the connection only when it sends.)
    """
    await idle(llama)
    reading = asyncio.Event()

    async def read_all():
        async with stream:
            async for _ in stream:
                reading.set()

    stream = await client.chat.completions.create(**asked | ENDLESS, stream=True)
    task = asyncio.create_task(read_all())
    await reading.wait()
    assert await busy(llama) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stream.outcome is Outcome.CANCELLED
    await idle(llama)


async def test_models(client, llama):
    assert [model.id async for model in client.models.list()] == [llama.model]


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)]
)
def test_a_skip_fails_in_ci(ci, outcome, monkeypatch):
    """
    No model for the tests: on a machine of one's own a reason to skip, in CI a failure.
    """
    monkeypatch.setenv("CI", ci)
    # Both are awaited: a skip that gets out would skip this test.
    outcomes = (pytest.skip.Exception, pytest.fail.Exception)
    with pytest.raises(outcomes, match="no connection") as raised:
        give_up(LocalModelError("no connection"))
    assert raised.type is outcome
