"""
The emulator answers as the services document it, and every parameter has its effect.
"""

import json

import aiohttp
import pytest

from horay_async.emulator import Emulator


LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
CHAT = {"model": LLAMA, "messages": [{"role": "user", "content": "Once upon a time"}]}
TEXT = {"model": LLAMA, "prompt": "It is a truth"}
LORA = CHAT | {"model": "somebody/some-lora"}


@pytest.fixture
async def client(anyio_backend):
    async with aiohttp.ClientSession(
        headers={"authorization": "Bearer key"}
    ) as session:
        yield session


@pytest.fixture
async def server(anyio_backend):
    """
    An emulator that generates.
    """
    async with Emulator() as server:
        yield server


@pytest.fixture
def ask(client, server):
    """
    Posts to the emulator that generates; returns the answer's JSON.
    """
    return asker(client, server)


@pytest.fixture
def echo(client, emulator):
    """
    Posts to the emulator that says everything again; returns the answer's JSON.
    """
    return asker(client, emulator)


def asker(client, server):
    async def ask(body, path="/v1/chat/completions", status=200, **more):
        url = server.address + path
        async with client.post(url, json=body | more) as response:
            assert response.status == status, await response.text()
            assert response.headers["x-request-id"]
            if not body.get("stream") and not more.get("stream"):
                return await response.json()
            assert response.content_type == "text/event-stream"
            return events(await response.text())

    return ask


def events(text):
    """
    The chunks of a stream, which must end as it should.
    """
    *chunks, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


def content(answer, choice=0):
    return answer["choices"][choice]["message"]["content"]


def joined(chunks, index=0):
    """
    The text that a chat stream has for a choice.
    """
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    deltas = [choice["delta"] for choice in choices if choice["index"] == index]
    return "".join(delta.get("content") or "" for delta in deltas)


def user(text):
    return {"messages": [{"role": "user", "content": text}]}


# What answers look like.


async def test_horay_chat(echo):
    answer = await echo(CHAT)
    assert isinstance(answer.pop("id"), str)
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "object": "chat.completion",
        "model": LLAMA,
        "choices": [
            {
                "message": {"role": "assistant", "content": "Once upon a time"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8},
    }


async def test_empower_chat(echo):
    answer = await echo(LORA, "/api/v1/chat/completions")
    assert isinstance(answer.pop("id"), str)
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "model": "somebody/some-lora",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Once upon a time"},
                "finish_reason": "stop",
                "logprobs": [0.0, 0.0, 0.0, 0.0],
            }
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8},
    }


async def test_horay_text(echo):
    answer = await echo(TEXT, "/v1/completions")
    assert isinstance(answer.pop("id"), str)
    assert isinstance(answer.pop("created"), int)
    tokens = ["It", " is", " a", " truth"]
    assert answer == {
        "object": "text_completion",
        "model": LLAMA,
        "choices": [
            {
                "text": "It is a truth",
                "logprobs": {"tokens": tokens, "token_logprobs": [0.0] * 4},
                "finish_reason": "stop",
            }
        ],
        "prompt": [
            {
                "text": "It is a truth",
                "logprobs": {"tokens": tokens, "token_logprobs": [None] * 4},
            }
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8},
    }


async def test_chat_stream(echo):
    chunks = await echo(CHAT, stream=True, n=2)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert (
        len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    )
    choices = [choice for chunk in chunks for choice in chunk["choices"]]

    def phase(delta, reason=None):
        return [
            {"index": index, "delta": delta, "finish_reason": reason}
            for index in range(2)
        ]

    assert choices == [
        *phase({"role": "assistant", "content": ""}),
        *phase({"content": "Once"}),
        *phase({"content": " upon"}),
        *phase({"content": " a"}),
        *phase({"content": " time"}),
        *phase({}, "stop"),
    ]


async def test_text_stream(echo):
    chunks = await echo(TEXT, "/v1/completions", stream=True)
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["text"] for choice in choices] == ["It", " is", " a", " truth", ""]
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["stop"]
    assert {choice["index"] for choice in choices} == {0}


async def test_empower_stream(echo):
    chunks = await echo(LORA, "/api/v1/chat/completions", stream=True)
    assert joined(chunks) == "Once upon a time"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_usage_in_a_stream(echo, path):
    body = CHAT | TEXT | {"n": 3, "stream": True}
    assert not any("usage" in chunk for chunk in await echo(body, path))
    *chunks, last = await echo(body, path, stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in chunks)
    usage = {"prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16}
    assert (last["choices"], last["usage"]) == ([], usage)


async def test_models(client, emulator):
    async def names(**query):
        async with client.get(emulator.base_url + "/models", params=query) as response:
            answer = await response.json()
        assert answer["object"] == "list"
        assert all(model["object"] == "model" for model in answer["data"])
        return [model["id"] for model in answer["data"]]

    everything = await names()
    assert {LLAMA, "deepseek-ai/DeepSeek-V2.5", "gpt-4o-mini"} <= set(everything)
    assert await names(type="image") == ["black-forest-labs/FLUX.1-schnell"]
    assert await names(sub_type="chat") == everything[:-1]
    assert await names(type="audio") == []


async def test_user_info(client, emulator):
    async with client.get(emulator.base_url + "/user/info") as response:
        answer = await response.json()
    data = answer.pop("data")
    assert answer == {"code": 20000, "message": "OK", "status": True}
    assert (data["status"], data["isAdmin"]) == ("normal", False)
    assert (data["balance"], data["chargeBalance"]) == ("0.88", "88.00")
    assert data["totalBalance"] == "88.88"


async def test_image(client, echo):
    body = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "a sea"}
    size = {"image_size": "768x512"}
    answer = await echo(body | size, "/v1/image/generations", seed=4999999999)
    assert answer["seed"] == 4999999999
    assert isinstance(answer["timings"]["inference"], float)
    unseeded = await echo(body | size, "/v1/image/generations")
    assert unseeded == await echo(body | size, "/v1/image/generations")
    async with client.get(answer["images"][0]["url"]) as response:
        assert response.content_type == "image/png"
        picture = await response.read()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert (picture[16:20], picture[20:24]) == (b"\0\0\x03\0", b"\0\0\x02\0")


# The echo.


@pytest.mark.parametrize(
    "text",
    [
        "  two  spaces\tand\nlines \n",
        "\u2028 \u0085 and \r\n",
        "naïve 😀",
        "\ud800 alone",
        " ",
        "",
    ],
)
async def test_echo_is_exact(echo, text):
    assert content(await echo(CHAT | user(text))) == text
    assert joined(await echo(CHAT | user(text), stream=True)) == text
    answer = await echo(TEXT | {"prompt": text}, "/v1/completions")
    assert answer["choices"][0]["text"] == text


async def test_echo_says_what_the_user_said_last(echo):
    parts = [{"type": "text", "text": "the"}, {"type": "text", "text": " last"}]
    messages = [
        {"role": "user", "content": "the first"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "an answer"},
    ]
    assert content(await echo(CHAT | {"messages": messages})) == "the last"


async def test_an_echo_is_cut_only_if_asked(echo):
    long = "word " * 1000
    assert content(await echo(CHAT | user(long))) == long
    answer = await echo(CHAT | user(long), max_tokens=7)
    assert content(answer) == "word" + " word" * 6
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 7


async def test_a_limit_that_cuts_nothing(echo):
    answer = await echo(CHAT, max_tokens=4)
    assert answer["choices"][0]["finish_reason"] == "stop"


# Parameters.


async def test_generated_text_is_plausible(ask):
    answer = await ask(CHAT, seed=1)
    assert len(content(answer).split()) > 3
    assert answer["choices"][0]["finish_reason"] in {"stop", "length"}
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_seed_makes_the_same_text(ask):
    first = content(await ask(CHAT, seed=7))
    assert content(await ask(CHAT, seed=7)) == first
    assert joined(await ask(CHAT, seed=7, stream=True)) == first
    assert content(await ask(CHAT, seed=8)) != first
    unseeded = {content(await ask(CHAT)) for _ in range(4)}
    assert len(unseeded) > 1


async def test_choices_differ(ask):
    answer = await ask(CHAT, n=4, seed=1)
    assert len({content(answer, choice) for choice in range(4)}) == 4
    chunks = await ask(CHAT, n=4, seed=1, stream=True)
    for choice in range(4):
        assert joined(chunks, choice) == content(answer, choice)


@pytest.mark.parametrize(
    "parameter",
    [
        {"temperature": 0},
        {"top_k": 1},
        {"top_p": 1e-9},
        {"min_p": 1},
    ],
    ids=str,
)
async def test_narrow_sampling_is_greedy(ask, parameter):
    body = CHAT | {"frequency_penalty": 0, "max_tokens": 40, "top_p": 1, "top_k": 0}
    answers = [content(await ask(body | parameter, seed=seed)) for seed in range(3)]
    assert len(set(answers)) == 1
    wide = [content(await ask(body, temperature=1, seed=seed)) for seed in range(3)]
    assert len(set(wide)) == 3


@pytest.mark.parametrize(
    "penalty",
    [{"frequency_penalty": 2}, {"presence_penalty": 2}, {"repetition_penalty": 2}],
    ids=str,
)
async def test_penalties_change_a_greedy_text(ask, penalty):
    body = TEXT | {"temperature": 0, "max_tokens": 200, "ignore_eos": True}
    plain = (await ask(body, "/v1/completions"))["choices"][0]["text"]
    other = (await ask(body | penalty, "/v1/completions"))["choices"][0]["text"]
    assert len(set(other.split())) > len(set(plain.split()))


async def test_logit_bias(ask):
    body = TEXT | {"max_tokens": 5, "temperature": 0}
    plain = (await ask(body, "/v1/completions"))["choices"][0]
    forced = await ask(body | {"logit_bias": {"3": 100}}, "/v1/completions")
    tokens = forced["choices"][0]["logprobs"]["tokens"]
    assert len(set(tokens)) == 1
    assert tokens != plain["logprobs"]["tokens"]


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/v1/chat/completions", 512),
        ("/v1/completions", 256),
        ("/api/v1/chat/completions", 256),
    ],
)
async def test_default_limits(ask, path, limit):
    answer = await ask(CHAT | TEXT, path, ignore_eos=True, n=2)
    reasons = {choice["finish_reason"] for choice in answer["choices"]}
    assert reasons == {"length"}
    assert answer["usage"]["completion_tokens"] == 2 * limit


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_limits(ask, name):
    answer = await ask(CHAT | {name: 3}, logprobs=True)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3
    assert len(answer["choices"][0]["logprobs"]["content"]) == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("three", "one two "),
        (["never", "e four", "four"], "one two thre"),
        (["o t", "two"], "one "),
        ("e", "on"),
        (["fives", "fiver"], "one two three four five"),
        ("one", ""),
    ],
    ids=str,
)
async def test_stop_strings(echo, stop, text, stream):
    body = CHAT | user("one two three four five") | {"stop": stop, "stream": stream}
    answer = await echo(body)
    assert (joined(answer) if stream else content(answer)) == text
    last = answer[-1] if stream else answer
    assert last["choices"][0]["finish_reason"] == "stop"


async def test_what_may_be_a_stop_string_is_held_back(echo):
    body = CHAT | user("a b c d e") | {"stop": " b c x", "stream": True}
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in await echo(body)]
    assert texts == ["", "a", " b c d", " e", None]


async def test_ignore_eos(echo):
    answer = await echo(CHAT, ignore_eos=True, max_tokens=6)
    assert content(answer) == "Once upon a timeOnce upon"
    assert answer["choices"][0]["finish_reason"] == "length"
    answer = await echo(CHAT, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 512


async def test_prompts(echo):
    body = TEXT | {"prompt": ["one", "two"], "n": 2}
    answer = await echo(body, "/v1/completions")
    texts = [choice["text"] for choice in answer["choices"]]
    assert texts == ["one", "one", "two", "two"]
    assert [prompt["text"] for prompt in answer["prompt"]] == ["one", "two"]
    chunks = await echo(body, "/v1/completions", stream=True)
    choices = [chunk["choices"][0] for chunk in chunks]
    found = {choice["index"]: choice["text"] for choice in choices if choice["text"]}
    assert found == dict(enumerate(texts))


@pytest.mark.parametrize("stream", [False, True])
async def test_text_echo(echo, stream):
    body = TEXT | {"echo": True, "max_tokens": 2, "stream": stream, "logprobs": 1}
    answer = await echo(body, "/v1/completions")
    choices = [chunk["choices"][0] for chunk in answer] if stream else answer["choices"]
    assert "".join(choice["text"] for choice in choices) == "It is a truthIt is"
    lists = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    whole = {name: [] for name in lists[0]}
    for part in lists:
        for name, values in part.items():
            whole[name] += values
    assert whole == {
        "tokens": ["It", " is", " a", " truth", "It", " is"],
        "token_logprobs": [None] * 4 + [0.0, 0.0],
        "top_logprobs": [None] * 4 + [{"It": 0.0}, {" is": 0.0}],
        "text_offset": [0, 2, 5, 7, 13, 15],
    }


async def test_chat_logprobs(ask):
    asked = {"logprobs": True, "top_logprobs": 2, "seed": 3, "max_tokens": 9}
    answer = await ask(CHAT, **asked)
    spoken = answer["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in spoken) == content(answer)
    for token in spoken:
        assert bytes(token["bytes"]).decode() == token["token"]
        assert token["logprob"] <= 0
        assert len(token["top_logprobs"]) == 2
    chunks = await ask(CHAT, stream=True, **asked)
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [part["content"][0] for part in streamed if part] == spoken


async def test_text_logprobs(ask):
    answer = await ask(TEXT, "/v1/completions", logprobs=3, max_tokens=5)
    logprobs = answer["choices"][0]["logprobs"]
    assert [len(logprobs[name]) for name in logprobs] == [5] * 4
    assert all(len(top) == 3 for top in logprobs["top_logprobs"])
    assert "".join(logprobs["tokens"]) == answer["choices"][0]["text"]


async def test_empower_logprobs(ask):
    body = LORA | {"max_tokens": 5, "stream": True, "logprobs": True}
    chunks = await ask(body, "/api/v1/chat/completions")
    logprobs = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert all(type(part[0]) is float for part in logprobs if part)


@pytest.mark.parametrize("stream", [False, True])
async def test_json_mode(ask, stream):
    body = CHAT | {"response_format": {"type": "json_object"}, "stream": stream}
    answer = await ask(body)
    text = joined(answer) if stream else content(answer)
    assert list(json.loads(text)) == ["answer"]


async def test_json_schema(ask):
    schema = {"type": "object", "properties": {"sea": {"enum": ["Aral", "Black"]}}}
    named = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    answer = await ask(CHAT | {"response_format": named})
    assert json.loads(content(answer)) == {"sea": "Aral"}
