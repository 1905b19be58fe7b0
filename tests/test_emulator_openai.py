"""
A client that is not ours agrees with the emulator: the openai package.
"""

import asyncio
import contextlib

import openai
import pytest

from horay_async.emulator import Emulator


LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
MESSAGES = [{"role": "user", "content": "Name three seas, please."}]
TEXT = "Name three seas, please."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "depth",
            "parameters": {"type": "object", "properties": {"sea": {"type": "string"}}},
        },
    }
]


@contextlib.asynccontextmanager
async def connect(server, service="horay", **options):
    url = server.base_url if service == "horay" else server.empower_base_url
    options = {"api_key": "key", "max_retries": 0} | options
    async with openai.AsyncOpenAI(base_url=url, **options) as client:
        yield client


# Not the common fixture, which has its tests run on uvloop, too: the openai package
# leaves async generators to the finaliser, and with those uvloop 0.23 in debug mode
# crashes on Python 3.12 and later.
@pytest.fixture
async def echo(anyio_backend):
    """
    An emulator that says everything again.
    """
    async with Emulator(mode="echo") as server:
        yield server


@pytest.fixture(params=["horay", "empower"])
async def client(request, echo):
    async with connect(echo, request.param) as client:
        yield client


def said(chunks, index=0):
    """
    What a stream of chat chunks says for a choice.
    """
    choices = [choice for chunk in chunks for choice in chunk.choices]
    deltas = [choice.delta for choice in choices if choice.index == index]
    return "".join(delta.content or "" for delta in deltas)


async def test_chat(client):
    answer = await client.chat.completions.create(model=LLAMA, messages=MESSAGES, n=2)
    assert [choice.message.content for choice in answer.choices] == [TEXT] * 2
    assert {choice.message.role for choice in answer.choices} == {"assistant"}
    assert {choice.finish_reason for choice in answer.choices} == {"stop"}
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 8)
    assert answer.usage.total_tokens == 12
    assert answer.model == LLAMA
    assert answer._request_id


async def test_chat_stream(client):
    stream = await client.chat.completions.create(
        model=LLAMA,
        messages=MESSAGES,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert [said(chunks, index) for index in range(2)] == [TEXT] * 2
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage.completion_tokens == 8
    choices = [choice for chunk in chunks for choice in chunk.choices]
    finishes = [choice.index for choice in choices if choice.finish_reason == "stop"]
    assert finishes == [0, 1]


async def test_text(echo):
    async with connect(echo) as client:
        answer = await client.completions.create(model=LLAMA, prompt=TEXT, n=2)
    assert [choice.text for choice in answer.choices] == [TEXT] * 2
    assert (answer.object, answer.usage.total_tokens) == ("text_completion", 12)
    logprobs = answer.choices[0].logprobs
    assert "".join(logprobs.tokens) == TEXT


async def test_text_stream(echo):
    async with connect(echo) as client:
        stream = await client.completions.create(
            model=LLAMA,
            prompt=["one two", "three"],
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    texts = [
        "".join(choice.text for choice in choices if choice.index == index)
        for index in range(4)
    ]
    assert texts == ["one two", "one two", "three", "three"]
    assert chunks[-1].usage.completion_tokens == 6


async def test_generated_text():
    async with Emulator() as server, connect(server) as client:
        asked = {"model": LLAMA, "messages": MESSAGES, "seed": 5, "n": 2}
        answer = await client.chat.completions.create(**asked)
        stream = await client.chat.completions.create(**asked, stream=True)
        chunks = [chunk async for chunk in stream]
        for index, choice in enumerate(answer.choices):
            assert said(chunks, index) == choice.message.content
        text = await client.completions.create(
            model=LLAMA, prompt="It was", max_tokens=5, temperature=0, logprobs=2
        )
        logprobs = text.choices[0].logprobs
        assert [len(top) for top in logprobs.top_logprobs] == [2] * 5
        assert text.choices[0].finish_reason == "length"
        chat = await client.chat.completions.create(
            model=LLAMA, messages=MESSAGES, max_tokens=3, logprobs=True, top_logprobs=2
        )
        spoken = chat.choices[0].logprobs.content
        assert "".join(one.token for one in spoken) == chat.choices[0].message.content
        assert [len(one.top_logprobs) for one in spoken] == [2] * 3


async def test_tool_calls(client):
    answer = await client.chat.completions.create(
        model=LLAMA, messages=MESSAGES, tools=TOOLS, tool_choice="required"
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    assert message.content is None
    (call,) = message.tool_calls
    assert call.id
    assert (call.function.name, call.function.arguments) == ("depth", '{"sea": "sea"}')
    conversation = [
        *MESSAGES,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "11 km"},
    ]
    answer = await client.chat.completions.create(
        model=LLAMA, messages=conversation, tools=TOOLS
    )
    assert answer.choices[0].message.content == TEXT


async def test_tool_calls_in_a_stream(client):
    async with client.chat.completions.stream(
        model=LLAMA, messages=MESSAGES, tools=TOOLS, tool_choice="required"
    ) as stream:
        answer = await stream.get_final_completion()
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("depth", '{"sea": "sea"}')


async def test_models(echo):
    async with connect(echo) as client:
        models = [model.id async for model in client.models.list()]
    assert LLAMA in models


async def test_a_bad_key(client):
    client = client.with_options(api_key="bad-key")
    with pytest.raises(openai.AuthenticationError) as caught:
        await client.chat.completions.create(model=LLAMA, messages=MESSAGES)
    assert caught.value.request_id
    assert caught.value.status_code == 401


async def test_a_bad_value(client):
    with pytest.raises(openai.BadRequestError, match="temperature must be a number"):
        await client.chat.completions.create(
            model=LLAMA, messages=MESSAGES, temperature=9
        )


async def test_unknown_names(echo):
    async with connect(echo) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="x", messages=MESSAGES)
        assert caught.value.body["code"] == 20012
    async with connect(echo, "empower") as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="unknown", messages=MESSAGES)
        assert caught.value.param == "model"
        with pytest.raises(openai.NotFoundError):
            await client.completions.create(model=LLAMA, prompt=TEXT)


@pytest.mark.parametrize("service", ["horay", "empower"])
async def test_too_many_requests(service):
    async with (
        Emulator(mode="echo", requests_per_second=5) as server,
        connect(server, service) as client,
    ):
        create = client.chat.completions.create
        results = await asyncio.gather(
            *[create(model=LLAMA, messages=MESSAGES) for _ in range(30)],
            return_exceptions=True,
        )
        refused = [each for each in results if isinstance(each, BaseException)]
        assert {type(error) for error in refused} == {openai.RateLimitError}
        assert refused[0].response.headers["retry-after"] == "1"
        # It reads the wait and tries again by itself.
        patient = client.with_options(max_retries=3)
        await patient.chat.completions.create(model=LLAMA, messages=MESSAGES)


async def test_leaving_a_stream(client, echo):
    stream = await client.chat.completions.create(
        model=LLAMA,
        messages=MESSAGES,
        stream=True,
        max_tokens=4000,
        extra_body={"ignore_eos": True},
        n=128,
    )
    async for _ in stream:
        break
    assert echo.open_streams == 1
    await stream.close()
    await echo.wait_for_disconnect()
