"""
Streams as code written for openai's AsyncOpenAI reads them, on both clients.
"""

import asyncio
import json

import pytest

from horay_async import AsyncHoray, Outcome
from horay_async.emulator import Answer
from porting import both


LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
TEXT = "Name three seas, please."
ASKED = {"model": LLAMA, "messages": [{"role": "user", "content": TEXT}]}


def chunk(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    known = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "x"}
    return {**known, "choices": [choice], **more}


def call(index, arguments, **first):
    """
    A chunk with a piece of one tool call.
    """
    function = {"arguments": arguments}
    if name := first.pop("name", None):
        function["name"] = name
    return chunk({"tool_calls": [{"index": index, **first, "function": function}]})


CALLS = Answer.sse(
    chunk({"role": "assistant", "content": None}),
    call(0, "", id="a", type="function", name="depth"),
    call(0, '{"sea": '),
    call(0, '"Black"}'),
    call(1, "", id="b", type="function", name="salt"),
    call(1, "{}"),
    chunk({}, "tool_calls"),
)
"""
Two tool calls in pieces.
"""


async def test_stream(emulator):
    async def snippet(client, _):
        stream = await client.chat.completions.create(**ASKED, stream=True)
        text, reasons, roles = "", [], []
        async for part in stream:
            if not part.choices:
                continue
            delta = part.choices[0].delta
            if delta.content is not None:
                text += delta.content
            roles.append(delta.role)
            reasons.append(part.choices[0].finish_reason)
            assert delta.tool_calls is None
            assert delta.function_call is None
            assert delta.refusal is None
            assert getattr(delta, "reasoning_content", None) is None
        return text, reasons, roles, part.object, part.model, part.service_tier

    given = await both(emulator, snippet)
    assert given[0] == TEXT
    assert given[1][-1] == "stop"


async def test_usage(emulator):
    """
    It comes in a last chunk without choices; all others have none.
    """

    async def snippet(client, _):
        stream = await client.chat.completions.create(
            **ASKED, stream=True, stream_options={"include_usage": True}
        )
        text, usage = "", None
        async for part in stream:
            if part.usage:
                assert usage is None
                usage = part.usage
            if len(part.choices) > 0:
                text += part.choices[0].delta.content or ""
        return text, usage.prompt_tokens, usage.completion_tokens, usage.total_tokens

    assert await both(emulator, snippet) == (TEXT, 4, 4, 8)


async def test_include_usage(emulator):
    """
    Our short form of it.
    """
    async with AsyncHoray(base_url=emulator.base_url, api_key="key") as client:
        stream = await client.chat.completions.create(
            **ASKED, stream=True, include_usage=True
        )
        counts = [part.usage.total_tokens async for part in stream if part.usage]
    assert counts == [8]
    assert emulator.requests[-1].json["stream_options"] == {"include_usage": True}


async def test_in_a_block(emulator):
    async def snippet(client, _):
        parts = []
        async with await client.chat.completions.create(**ASKED, stream=True) as stream:
            async for part in stream:
                parts += [choice.delta.content or "" for choice in part.choices]
        return "".join(parts), stream.response.status_code

    assert await both(emulator, snippet) == (TEXT, 200)


async def test_several_choices(emulator):
    async def snippet(client, _):
        texts = ["", ""]
        stream = await client.chat.completions.create(**ASKED, n=2, stream=True)
        async for part in stream:
            for choice in part.choices:
                texts[choice.index] += choice.delta.content or ""
        return texts

    assert await both(emulator, snippet) == [TEXT] * 2


async def test_other_fields(emulator):
    """
    What the server sends and nobody knows reads as attributes.
    """
    answer = Answer.sse(
        chunk({"role": "assistant", "reasoning_content": "hm"}, provider="Sea"),
        chunk({"content": "a"}, "stop", service_tier="flex", system_fingerprint="f"),
    )

    async def snippet(client, _):
        stream = await client.chat.completions.create(**ASKED, stream=True)
        first, last = [part async for part in stream]
        return (
            first.choices[0].delta.reasoning_content,
            first.provider,
            last.service_tier,
            last.system_fingerprint,
        )

    given = await both(emulator, snippet, answer)
    assert given == ("hm", "Sea", "flex", "f")


# Leaving -----------------------------------------------------------------------------


LONG = [Answer.chat("sea", *["sea"] * 9, end="hang")]


async def test_break_and_close(emulator):
    async def snippet(client, _):
        before = len(emulator.disconnects)
        stream = await client.chat.completions.create(**ASKED, stream=True)
        async for part in stream:
            if part.choices[0].delta.content:
                break
        await stream.close()
        await emulator.wait_for_disconnect(before + 1)
        await stream.close()

    await both(emulator, snippet, *LONG)


async def test_break_in_a_block(emulator):
    async def snippet(client, _):
        before = len(emulator.disconnects)
        async with await client.chat.completions.create(**ASKED, stream=True) as stream:
            async for part in stream:
                if part.choices[0].delta.content:
                    break
        await emulator.wait_for_disconnect(before + 1)

    await both(emulator, snippet, *LONG)


async def test_cancelled_reader(emulator):
    async def snippet(client, _):
        before = len(emulator.disconnects)
        reading = asyncio.Event()

        async def read():
            async with await client.chat.completions.create(
                **ASKED, stream=True
            ) as stream:
                async for _ in stream:
                    reading.set()

        task = asyncio.create_task(read())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await emulator.wait_for_disconnect(before + 1)

    await both(emulator, snippet, *LONG)


# In and out of loops -----------------------------------------------------------------


async def test_first_chunk_before_the_loop(emulator):
    """
    A server of one's own that answers only once it knows that the stream has begun.
    """

    async def snippet(client, _):
        stream = await client.chat.completions.create(**ASKED, stream=True)
        first = await anext(stream)
        second = await stream.__anext__()
        rest = [part async for part in stream]
        deltas = [part.choices[0].delta.content for part in (first, second, *rest)]
        return "".join(delta or "" for delta in deltas), bool(rest)

    assert await both(emulator, snippet) == (TEXT, True)


async def test_only_single_chunks(emulator):
    async def snippet(client, _):
        stream = await client.chat.completions.create(**ASKED, stream=True)
        text = ""
        while part := await anext(stream, None):
            text += part.choices[0].delta.content or ""
        return text

    assert await both(emulator, snippet) == TEXT


async def test_a_clock_of_ones_own(emulator):
    """
    `wait_for` around each chunk.
    """

    async def snippet(client, _):
        go = asyncio.Event()
        emulator.script(Answer.chat("Bl", go, "ack"))
        stream = await client.chat.completions.create(**ASKED, stream=True)
        iterator = aiter(stream)
        text = ""
        while part := await asyncio.wait_for(anext(iterator, None), 5):
            text += part.choices[0].delta.content or ""
            go.set()
        return text

    assert await both(emulator, snippet) == "Black"


async def test_first_chunk_then_another_reader(emulator):
    """
    The first chunk is not lost when the rest goes to a loop, in a block as without one.
    """
    async with AsyncHoray(base_url=emulator.base_url, api_key="key") as client:
        stream = await client.chat.completions.create(**ASKED, stream=True)
        first = await anext(stream)
        async with stream:
            rest = [part async for part in stream]
    assert first.choices[0].delta.role == "assistant"
    assert len(rest) > 1
    assert stream.outcome is Outcome.FINISHED
    assert stream.reply.text == TEXT


async def test_passing_a_stream_on(emulator):
    """
    As proxies do it: each chunk as an event of one line.
    """

    async def snippet(client, _):
        async def events():
            stream = await client.chat.completions.create(**ASKED, stream=True)
            async for part in stream:
                yield f"data: {part.model_dump_json(exclude_unset=True)}\n\n"
                yield f"data: {part.model_dump_json(exclude_none=True)}\n\n"
                yield f"data: {part.to_json(indent=None)}\n\n"
            yield "data: [DONE]\n\n"

        lines = [event.removeprefix("data: ") async for event in events()]
        return [line.strip() == "[DONE]" or json.loads(line) for line in lines]

    given = await both(emulator, snippet, CALLS)
    assert given[-1] is True
    assert given[0] == chunk({"role": "assistant", "content": None})


# Tool calls put together by hand -----------------------------------------------------


async def test_tool_calls_as_in_openai_s_guide(emulator):
    """
    The first piece of each call is kept, and the others' arguments are added to it.
    """

    async def snippet(client, _):
        stream = await client.chat.completions.create(**ASKED, stream=True)
        final = {}
        async for part in stream:
            for piece in part.choices[0].delta.tool_calls or []:
                index = piece.index
                if index not in final:
                    final[index] = piece
                else:
                    final[index].function.arguments += piece.function.arguments
        return [
            (one.id, one.type, one.function.name, one.function.arguments)
            for one in final.values()
        ]

    assert await both(emulator, snippet, CALLS) == [
        ("a", "function", "depth", '{"sea": "Black"}'),
        ("b", "function", "salt", "{}"),
    ]


async def test_tool_calls_as_dicts(emulator):
    """
    The other way: dicts of one's own, sent back in a message.
    """

    async def snippet(client, _):
        stream = await client.chat.completions.create(**ASKED, stream=True)
        calls = []
        async for part in stream:
            for piece in part.choices[0].delta.tool_calls or []:
                if piece.id:
                    function = {"name": piece.function.name, "arguments": ""}
                    calls.append(
                        {"id": piece.id, "type": "function", "function": function}
                    )
                calls[piece.index]["function"]["arguments"] += piece.function.arguments
        messages = [*ASKED["messages"], {"role": "assistant", "tool_calls": calls}]
        messages += [
            {"role": "tool", "tool_call_id": one["id"], "content": "?"} for one in calls
        ]
        response = await client.chat.completions.create(model=LLAMA, messages=messages)
        return emulator.requests[-1].json["messages"], response.choices[0].finish_reason

    sent, finish = await both(emulator, snippet, CALLS)
    assert [one["id"] for one in sent[1]["tool_calls"]] == ["a", "b"]
    assert finish == "stop"
