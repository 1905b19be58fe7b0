"""
Two clients, one server: openai's package and ours read the same answers.

What the emulator generates is decided by the seed, so each client asks for itself.
"""

import openai
import pytest

from horay_async import EMPOWER, HORAY, AsyncHoray, Outcome
from horay_async.emulator import Emulator


LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
MESSAGES = [{"role": "user", "content": "Which way is the sea?"}]
SAMPLING = [
    {"seed": 1, "max_tokens": 20},
    {"seed": 2, "max_tokens": 40, "n": 2, "temperature": 0.9},
    {"seed": 3, "max_tokens": 60, "top_p": 0.5, "stop": [".", ";"]},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "depth",
            "parameters": {"type": "object", "properties": {"sea": {"type": "string"}}},
        },
    }
]


@pytest.fixture(params=["horay", "empower"])
async def clients(request, anyio_backend):
    """
    Openai's client and ours, on a service of an emulator that generates.
    """
    async with Emulator() as server:
        empower = request.param == "empower"
        url = server.empower_base_url if empower else server.base_url
        options = {"base_url": url, "api_key": "key", "max_retries": 0}
        service = EMPOWER if empower else HORAY
        async with (
            openai.AsyncOpenAI(**options) as theirs,
            AsyncHoray(**options, service=service) as ours,
        ):
            yield theirs, ours


def facts(reply):
    """
    What a whole answer says; the usage, which is whoever's counted it.
    """
    return (
        [choice.message.content for choice in reply.choices],
        [choice.finish_reason for choice in reply.choices],
        usage_of(reply),
    )


def text_facts(reply):
    return (
        [choice.text for choice in reply.choices],
        [choice.finish_reason for choice in reply.choices],
        usage_of(reply),
    )


def usage_of(reply):
    usage = reply.usage
    return (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


async def put_together(stream, n, piece):
    """
    What the chunks of a stream say, put together as openai's users do.
    """
    texts, reasons, usage = [""] * n, [None] * n, None
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += piece(choice)
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
        if chunk.usage:
            usage = usage_of(chunk)
    return texts, reasons, usage


def delta(choice):
    return choice.delta.content or ""


def text(choice):
    return choice.text


@pytest.mark.parametrize("sampling", SAMPLING, ids=str)
async def test_chat(clients, sampling):
    """
    Whole, as chunks, and as our tokens: all say the same, and count the same.
    """
    theirs, ours = clients
    asked = {"model": LLAMA, "messages": MESSAGES, **sampling}
    n = sampling.get("n", 1)
    expected = facts(await theirs.chat.completions.create(**asked))
    assert facts(await ours.chat.completions.create(**asked)) == expected
    streamed = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    for client in clients:
        stream = await client.chat.completions.create(**streamed)
        assert await put_together(stream, n, delta) == expected
    async with ours.chat.completions.stream(**asked, include_usage=True) as stream:
        texts = [""] * n
        async for token in stream:
            texts[token.index] += token.text
    assert texts == expected[0]
    assert facts(stream.reply) == expected
    assert stream.outcome is Outcome.FINISHED
    assert all(expected[0])


@pytest.mark.parametrize("clients", ["horay"], indirect=True)
@pytest.mark.parametrize("sampling", SAMPLING, ids=str)
async def test_text(clients, sampling):
    theirs, ours = clients
    asked = {"model": LLAMA, "prompt": "It was", **sampling}
    n = sampling.get("n", 1)
    expected = text_facts(await theirs.completions.create(**asked))
    assert text_facts(await ours.completions.create(**asked)) == expected
    streamed = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    for client in clients:
        stream = await client.completions.create(**streamed)
        assert await put_together(stream, n, text) == expected
    async with ours.completions.stream(**asked, include_usage=True) as stream:
        parts = [[token.text async for token in choice] for choice in stream.choices]
    assert ["".join(part) for part in parts] == expected[0]
    assert text_facts(stream.reply) == expected
    assert stream.outcome is Outcome.FINISHED


async def test_tool_calls(clients):
    """
    Whole; put together by openai's own stream helper; and by our stream.
    """
    theirs, ours = clients
    asked = {"model": LLAMA, "messages": MESSAGES, "tools": TOOLS}
    asked |= {"tool_choice": "required", "seed": 4}

    def calls(reply):
        (choice,) = reply.choices
        return choice.finish_reason, [
            (call.type, call.function.name, call.function.arguments)
            for call in choice.message.tool_calls
        ]

    expected = calls(await theirs.chat.completions.create(**asked))
    assert expected[0] == "tool_calls"
    assert calls(await ours.chat.completions.create(**asked)) == expected
    async with theirs.chat.completions.stream(**asked) as stream:
        assert calls(await stream.get_final_completion()) == expected
    async with ours.chat.completions.stream(**asked) as stream:
        assert calls(await stream.get_final_completion()) == expected


@pytest.mark.parametrize("clients", ["horay"], indirect=True)
async def test_log_probabilities(clients):
    """
    Merged over a stream's chunks, they are those of the whole answer.
    """
    theirs, ours = clients
    asked = {"model": LLAMA, "messages": MESSAGES, "seed": 5, "max_tokens": 8}
    asked |= {"logprobs": True, "top_logprobs": 2}
    expected = (await theirs.chat.completions.create(**asked)).choices[0].logprobs
    reply = await ours.chat.completions.create(**asked)
    assert reply.choices[0].logprobs == expected.to_dict()
    async with ours.chat.completions.stream(**asked) as stream:
        reply = await stream.get_final_completion()
    assert reply.choices[0].logprobs == expected.to_dict()
    assert len(expected.content) == 8


@pytest.mark.parametrize("clients", ["horay"], indirect=True)
async def test_models(clients):
    theirs, ours = clients
    expected = [model.to_dict() async for model in theirs.models.list()]
    assert [model.to_dict() async for model in ours.models.list()] == expected
