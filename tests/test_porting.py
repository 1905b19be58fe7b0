"""
Code written for openai's AsyncOpenAI runs on our client, its import and constructor changed.
"""

import asyncio
import json
import pickle

import pytest

from horay_async import UNSET
from horay_async.emulator import Answer
from porting import both


LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
TEXT = "Name three seas, please."
ASKED = {"model": LLAMA, "messages": [{"role": "user", "content": TEXT}]}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "depth",
            "parameters": {"type": "object", "properties": {"sea": {"type": "string"}}},
        },
    }
]

REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "x",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Bläck.", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
    "vendor_field": {"a": [1, None]},
}
"""
A reply with nulls, with details, and with a field that nobody knows.
"""


# Plain calls -------------------------------------------------------------------------


async def test_chat(emulator):
    async def snippet(client, _):
        response = await client.chat.completions.create(**ASKED, temperature=0.2)
        choice = response.choices[0]
        assert response.id.startswith("chatcmpl-")
        assert isinstance(response.created, int)
        assert response._request_id
        return (
            choice.message.content,
            choice.message.role,
            choice.finish_reason,
            response.object,
            response.model,
            response.usage.prompt_tokens,
            response.usage.completion_tokens,
            response.usage.total_tokens,
        )

    given = await both(emulator, snippet)
    assert given[:3] == (TEXT, "assistant", "stop")


async def test_what_the_server_left_out(emulator):
    """
    Fields that openai documents and the server does not send are None.
    """

    async def snippet(client, _):
        response = await client.chat.completions.create(**ASKED)
        choice = response.choices[0]
        return (
            response.system_fingerprint,
            response.service_tier,
            choice.logprobs,
            choice.message.refusal,
            choice.message.tool_calls,
            choice.message.function_call,
            choice.message.annotations,
            choice.message.audio,
            response.usage.prompt_tokens_details,
            response.usage.completion_tokens_details,
        )

    assert set(await both(emulator, snippet)) == {None}


async def test_several_choices(emulator):
    async def snippet(client, _):
        response = await client.chat.completions.create(**ASKED, n=2)
        return [choice.message.content for choice in response.choices]

    assert await both(emulator, snippet) == [TEXT] * 2


async def test_text_completions(emulator):
    async def snippet(client, _):
        response = await client.completions.create(model=LLAMA, prompt=TEXT, n=2)
        stream = await client.completions.create(model=LLAMA, prompt=TEXT, stream=True)
        pieces = [part.choices[0].text async for part in stream if part.choices]
        return (
            [choice.text for choice in response.choices],
            response.choices[0].finish_reason,
            response.choices[0].logprobs.tokens,
            response.choices[0].logprobs.token_logprobs,
            response.usage.total_tokens,
            pieces,
        )

    given = await both(emulator, snippet)
    assert given[0] == [TEXT] * 2
    assert "".join(given[-1]) == TEXT


async def test_log_probabilities(emulator):
    async def snippet(client, _):
        asked = ASKED | {"logprobs": True, "top_logprobs": 2}
        response = await client.chat.completions.create(**asked)
        told = [
            (one.token, one.logprob, one.bytes, [top.token for top in one.top_logprobs])
            for one in response.choices[0].logprobs.content
        ]
        stream = await client.chat.completions.create(**asked, stream=True)
        streamed = [
            one.token
            async for chunk in stream
            for choice in chunk.choices
            if choice.logprobs
            for one in choice.logprobs.content
        ]
        return told, streamed

    told, streamed = await both(emulator, snippet)
    assert "".join(token for token, *_ in told) == "".join(streamed) == TEXT


async def test_usage_details(emulator):
    async def snippet(client, _):
        response = await client.chat.completions.create(**ASKED)
        details = response.usage.completion_tokens_details
        return (
            response.usage.prompt_tokens_details.cached_tokens,
            response.usage.prompt_tokens_details.audio_tokens,
            details.reasoning_tokens if details else 0,
        )

    assert await both(emulator, snippet, Answer.json(REPLY)) == (8, None, 3)


async def test_options_of_one_call(emulator):
    async def snippet(client, _):
        await client.chat.completions.create(
            **ASKED,
            timeout=20,
            extra_headers={"X-Team": "sea"},
            extra_query={"tier": "free"},
            extra_body={"top_k": 7},
        )
        seen = emulator.requests[-1]
        return seen.headers["x-team"], seen.query, seen.json

    team, query, body = await both(emulator, snippet)
    assert (team, query) == ("sea", "tier=free")
    assert body == ASKED | {"top_k": 7}


async def test_options_of_a_client(emulator):
    async def snippet(client, _):
        patient = client.with_options(
            timeout=20, max_retries=1, default_headers={"X-Team": "sea"}
        )
        await patient.chat.completions.create(**ASKED)
        await client.copy(max_retries=3).chat.completions.create(**ASKED)
        await (
            client.with_options(timeout=20)
            .with_options(max_retries=0)
            .chat.completions.create(**ASKED)
        )
        seen = emulator.requests[-3:]
        return [one.headers.get("x-team") for one in seen]

    assert await both(emulator, snippet) == ["sea", None, None]


async def test_nothing_is_sent_for_what_is_not_given(emulator):
    """
    Where openai's code says NOT_GIVEN or omit, ours says UNSET.
    """

    async def snippet(client, package):
        nothing = getattr(package, "omit", UNSET)
        await client.chat.completions.create(
            **ASKED, temperature=nothing, tools=nothing, stop=None, stream=nothing
        )
        body = emulator.requests[-1].json
        # openai's client says "stream": false, which is what its absence means.
        return {name: body[name] for name in body if name != "stream"}

    assert await both(emulator, snippet) == ASKED | {"stop": None}


async def test_many_at_once(emulator):
    async def snippet(client, _):
        limit = asyncio.Semaphore(3)

        async def ask(question):
            async with limit:
                messages = [{"role": "user", "content": question}]
                response = await client.chat.completions.create(
                    model=LLAMA, messages=messages
                )
                return response.choices[0].message.content

        return await asyncio.gather(*(ask(f"sea {i}") for i in range(10)))

    assert await both(emulator, snippet) == [f"sea {i}" for i in range(10)]


async def test_closing(emulator):
    async def snippet(client, _):
        before = client.is_closed()
        await client.chat.completions.create(**ASKED)
        await client.close()
        return before, client.is_closed()

    assert await both(emulator, snippet) == (False, True)


async def test_models(emulator):
    """
    The list may be awaited or looped over, and what was awaited may be looped over too.
    """

    async def snippet(client, _):
        looped = [model.id async for model in client.models.list()]
        page = await client.models.list()
        again = [model.id async for model in page]
        return looped, [model.id for model in page.data], again, page.data[0].object

    looped, listed, again, kind = await both(emulator, snippet)
    assert LLAMA in looped
    assert looped == listed == again
    assert kind == "model"


# The HTTP answer ---------------------------------------------------------------------


async def test_raw_response(emulator):
    async def snippet(client, _):
        raw = await client.chat.completions.with_raw_response.create(**ASKED)
        response = raw.parse()
        assert raw.request_id == raw.headers["X-Request-Id"] == response._request_id
        assert json.loads(raw.text) == json.loads(raw.content)
        assert json.loads(raw.text)["id"] == response.id
        return (
            raw.status_code,
            raw.headers.get("Content-Type"),
            raw.headers.get("x-nothing"),
            raw.retries_taken,
            raw.http_response.status_code,
            raw.http_response.json()["choices"],
            response.choices[0].message.content,
        )

    assert (await both(emulator, snippet))[-1] == TEXT


async def test_raw_response_of_a_stream(emulator):
    async def snippet(client, _):
        raw = await client.chat.completions.with_raw_response.create(
            **ASKED, stream=True
        )
        stream = raw.parse()
        text = ""
        async for chunk in stream:
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        return text, raw.status_code, bool(raw.request_id)

    assert await both(emulator, snippet) == (TEXT, 200, True)


async def test_raw_response_of_text(emulator):
    async def snippet(client, _):
        verbs = client.completions.with_raw_response
        raw = await verbs.create(model=LLAMA, prompt=TEXT)
        stream = await verbs.create(model=LLAMA, prompt=TEXT, stream=True)
        pieces = [part.choices[0].text async for part in stream.parse()]
        return raw.status_code, raw.parse().choices[0].text, pieces

    assert (await both(emulator, snippet))[:2] == (200, TEXT)


# As dicts and JSON -------------------------------------------------------------------


async def test_dumps(emulator):
    async def snippet(client, _):
        response = await client.chat.completions.create(**ASKED)
        message = response.choices[0].message
        assert response.vendor_field == {"a": [1, None]}
        assert "\n" in response.to_json()
        return (
            response.to_dict(),
            response.to_dict(mode="json"),
            json.loads(response.to_json()),
            json.loads(response.to_json(indent=None)),
            response.model_dump(exclude_unset=True),
            response.model_dump(exclude_none=True)["choices"],
            response.model_dump(mode="json", exclude_none=True)["usage"],
            json.loads(response.model_dump_json(exclude_unset=True, indent=2)),
            message.model_dump(exclude={"content"}, exclude_none=True),
            len(message.model_dump_json(exclude_none=True)),
            len(response.choices[0].to_json(indent=None)),
        )

    given = await both(emulator, snippet, Answer.json(REPLY))
    assert given[0] == REPLY
    assert given[8] == {"role": "assistant"}


async def test_every_field(emulator):
    """
    `model_dump()` has all that openai's has and the server sent, and null for the rest.
    """

    async def snippet(client, _):
        response = await client.chat.completions.create(**ASKED)
        dumped = response.model_dump()
        assert json.loads(response.model_dump_json()) == dumped
        message = dumped["choices"][0]["message"]
        unset = dumped["system_fingerprint"], message["tool_calls"], message["refusal"]
        return unset, message["content"], dumped["usage"]["total_tokens"]

    assert await both(emulator, snippet) == ((None,) * 3, TEXT, 8)


async def test_pickles(emulator):
    async def snippet(client, _):
        response = await client.chat.completions.create(**ASKED, logprobs=True)
        stream = await client.chat.completions.create(**ASKED, stream=True)
        chunks = [chunk async for chunk in stream]
        assert pickle.loads(pickle.dumps(response)) == response
        assert pickle.loads(pickle.dumps(chunks)) == chunks

    await both(emulator, snippet)


# Back in as input --------------------------------------------------------------------


async def test_a_conversation(emulator):
    async def snippet(client, _):
        messages = [{"role": "system", "content": "Be brief."}, *ASKED["messages"]]
        response = await client.chat.completions.create(model=LLAMA, messages=messages)
        messages.append(response.choices[0].message)
        messages.append({"role": "user", "content": "And lakes?"})
        response = await client.chat.completions.create(model=LLAMA, messages=messages)
        return emulator.requests[-1].json, response.choices[0].message.content

    body, text = await both(emulator, snippet)
    assert body["messages"][2] == {"role": "assistant", "content": TEXT}
    assert text == "And lakes?"


WAYS_BACK = {
    "as it is": lambda message: message,
    "dumped": lambda message: message.model_dump(exclude_none=True),
    "to_dict": lambda message: message.to_dict(),
    "by hand": lambda message: {
        "role": message.role,
        "content": message.content,
        "tool_calls": message.tool_calls,
    },
    "each call by hand": lambda message: {
        "role": "assistant",
        "tool_calls": [
            {
                "id": call.id,
                "type": call.type,
                "function": {
                    "name": call.function.name,
                    "arguments": call.function.arguments,
                },
            }
            for call in message.tool_calls
        ],
    },
    "each call dumped": lambda message: {
        "role": "assistant",
        "content": message.content or "",
        "tool_calls": [call.model_dump() for call in message.tool_calls],
    },
}


@pytest.mark.parametrize("back", WAYS_BACK.values(), ids=WAYS_BACK)
async def test_tools(emulator, back):
    async def snippet(client, _):
        messages = list(ASKED["messages"])
        response = await client.chat.completions.create(
            model=LLAMA, messages=messages, tools=TOOLS, tool_choice="required"
        )
        message = response.choices[0].message
        assert response.choices[0].finish_reason == "tool_calls"
        messages.append(back(message))
        for call in message.tool_calls:
            sea = json.loads(call.function.arguments)["sea"]
            messages.append(
                {"role": "tool", "tool_call_id": call.id, "content": f"{sea}: 11 km"}
            )
        response = await client.chat.completions.create(
            model=LLAMA, messages=messages, tools=TOOLS
        )
        sent = emulator.requests[-1].json["messages"]
        # The id is another each time.
        assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
        sent[1]["tool_calls"][0]["id"] = sent[2]["tool_call_id"] = "call"
        return sent, response.choices[0].message.content

    sent, text = await both(emulator, snippet)
    function = {"name": "depth", "arguments": '{"sea": "sea"}'}
    assert sent[1]["tool_calls"] == [
        {"id": "call", "type": "function", "function": function}
    ]
    assert sent[2]["content"] == "sea: 11 km"
    assert text == TEXT
