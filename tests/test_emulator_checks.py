"""
The emulator refuses what a strict server refuses, and calls the tools it is offered.
"""

import json
import math

import aiohttp
import pytest

from horay_async.emulator import Emulator
from horay_async.emulator._limits import Bucket


CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = {"model": "deepseek-ai/DeepSeek-V2.5", "prompt": "Hello"}
PATHS = {
    "chat": ("/v1/chat/completions", CHAT),
    "text": ("/v1/completions", TEXT),
    "empower": ("/api/v1/chat/completions", CHAT),
}


@pytest.fixture
async def client(anyio_backend):
    async with aiohttp.ClientSession(
        headers={"authorization": "Bearer key"}
    ) as session:
        yield session


@pytest.fixture
async def server(anyio_backend):
    async with Emulator(mode="echo") as server:
        yield server


async def post(client, url, body, **options):
    async with client.post(url, json=body, **options) as response:
        return response.status, await response.json(), response.headers


# Errors.


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer bad-key", "Basic key"])
async def test_bad_keys(client, server, key):
    headers = {"authorization": key}
    url = server.base_url + "/models"
    async with client.get(url, headers=headers) as response:
        assert (response.status, await response.json()) == (401, "Invalid token")
        assert response.headers["x-siliconcloud-trace-id"]
    url = server.empower_base_url + "/chat/completions"
    status, body, _ = await post(client, url, CHAT, headers=headers)
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")


async def test_no_key(server):
    url = server.base_url + "/models"
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        assert response.status == 401


async def test_known_keys(client):
    async with Emulator(mode="echo", api_keys={"bad-key"}) as server:
        url = server.base_url + "/models"
        async with client.get(url) as response:
            assert response.status == 401
        headers = {"authorization": "Bearer bad-key"}
        async with client.get(url, headers=headers) as response:
            assert response.status == 200


async def test_unknown_paths(client, server):
    async with client.get(server.base_url + "/nothing") as response:
        assert (response.status, await response.json()) == (404, "404 page not found")
    async with client.get(server.address + "/") as response:
        assert response.status == 404
    # Empower documents no text completions, and no list of models.
    for path in ["/completions", "/models"]:
        url = server.empower_base_url + path
        status, body, _ = await post(client, url, TEXT)
        assert (status, body["error"]["message"]) == (404, "Not Found")


async def test_wrong_method(client, server):
    async with client.get(server.base_url + "/completions") as response:
        assert response.status == 405
        assert response.headers["allow"] == "POST"


async def test_unknown_models(client, server):
    url = server.base_url + "/chat/completions"
    for model in ["gpt-5", TEXT["model"]]:  # the second completes text only
        status, body, _ = await post(client, url, CHAT | {"model": model})
        assert (status, body["code"], body["data"]) == (400, 20012, None)
        assert "Model does not exist" in body["message"]
    url = server.empower_base_url + "/chat/completions"
    status, body, _ = await post(client, url, CHAT | {"model": "unknown/lora"})
    assert (status, body["error"]["param"], body["error"]["code"]) == (
        404,
        "model",
        404,
    )


async def test_models_of_your_own(client):
    async with Emulator(mode="echo", models={"mine"}) as server:
        url = server.base_url + "/chat/completions"
        assert (await post(client, url, CHAT | {"model": "mine"}))[0] == 200
        async with client.get(server.base_url + "/models") as response:
            assert (await response.json())["data"][-1]["id"] == "mine"


async def test_the_default_model(client, server):
    url = server.base_url + "/chat/completions"
    _, body, _ = await post(client, url, {"messages": CHAT["messages"]})
    assert body["model"] == "meta-llama/Meta-Llama-3.1-8B-Instruct"
    url = server.empower_base_url + "/chat/completions"
    status, body, _ = await post(client, url, {"messages": CHAT["messages"]})
    assert (status, body["error"]["param"]) == (400, "model")


BAD = [
    ("n", [0, 129, 1.5, "1", True]),
    ("stream", [1, "true"]),
    ("stop", [[""], "", [1], 5, {}]),
    ("temperature", [-0.1, 2.1, "1", True, math.inf]),
    ("top_p", [0, 1.1, []]),
    ("frequency_penalty", [-2.1, 2.1]),
    ("presence_penalty", [-2.1, 2.1]),
    ("repetition_penalty", [0, -1]),
    ("min_p", [-1, 2]),
    ("max_tokens", [0, -1, 1.5, "5"]),
    ("seed", [1.5, "1", 2**63]),
    ("logit_bias", [[], {"a": 1}, {"1": 101}, {"1": "1"}]),
    ("ignore_eos", [1]),
    ("top_k", [-2, "1", 1.5]),
    ("stream_options", [1, {"include_usage": 1}, {"include_usage": True}]),
]

BAD_CHAT = [
    ("messages", [[], {}, "Hello", ["Hello"], [{"role": "user"}]]),
    ("messages", [[{"role": "nobody", "content": ""}], [{"content": "Hello"}]]),
    ("messages", [[{"role": "user", "content": [1]}]]),
    ("messages", [[{"role": "user", "content": [{"type": "text", "text": 1}]}]]),
    ("max_completion_tokens", [0, "1"]),
    ("logprobs", [1]),
    ("top_logprobs", [-1, 21, "1"]),
    ("response_format", ["json", {"type": "xml"}, {"type": "json_schema"}]),
    (
        "tools",
        [{}, [1], [{"type": "function"}], [{"type": "function", "function": {}}]],
    ),
    ("tool_choice", ["some", "any", "required", {"function": {"name": "f"}}, 1]),
    ("model", [1, "", []]),
]

BAD_TEXT = [("prompt", [1, [], [1]]), ("logprobs", [True, 21]), ("echo", [1])]


@pytest.mark.parametrize(
    ("endpoint", "name", "values"),
    [
        (endpoint, name, values)
        for endpoint in PATHS
        for name, values in BAD + (BAD_TEXT if endpoint == "text" else BAD_CHAT)
    ],
)
async def test_bad_values(client, server, endpoint, name, values):
    path, good = PATHS[endpoint]
    headers = {"content-type": "application/json"}
    for value in values:
        async with client.post(
            server.address + path,
            data=json.dumps(good | {name: value}),
            headers=headers,
        ) as response:
            assert response.status == 400, value
            body = await response.json()
        if endpoint == "empower":
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert body["error"]["code"] == 400
        else:
            assert (set(body), body["code"]) == ({"code", "message", "data"}, 20012)


@pytest.mark.parametrize(
    ("endpoint", "name", "good", "bad"),
    [
        ("chat", "max_tokens", 4096, 4097),
        ("text", "temperature", 1, 1.1),
        ("text", "max_tokens", 5000, 0),
        ("empower", "max_tokens", 5000, 0),
        ("empower", "temperature", 2, 2.1),
        ("chat", "n", 128, 129),
        ("chat", "top_k", 50.0, 50.5),
        ("empower", "response_format", {"type": "text"}, {"type": "json"}),
    ],
)
async def test_documented_ranges(client, endpoint, name, good, bad):
    path, body = PATHS[endpoint]
    async with Emulator(mode="echo") as server:
        for value, expected in [(good, 200), (bad, 400), (None, 200)]:
            url = server.address + path
            status, _, _ = await post(client, url, body | {name: value})
            assert status == expected


@pytest.mark.parametrize("name", ["messages", "prompt"])
async def test_what_is_required(client, server, name):
    path = PATHS["chat" if name == "messages" else "text"][0]
    status, body, _ = await post(
        client, server.address + path, {"model": "gpt-4o-mini"}
    )
    assert (status, body["message"]) == (400, f"{name} is required")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff{}", b"[" * 100_000, b'{"n": NaN}'],
    ids=lambda data: str(data[:9]),
)
async def test_bad_json(client, server, data):
    headers = {"content-type": "application/json"}
    url = server.base_url + "/chat/completions"
    async with client.post(url, data=data, headers=headers) as response:
        assert (response.status, (await response.json())["code"]) == (400, 20012)


async def test_wrong_content_type(client, server):
    url = server.base_url + "/chat/completions"
    for kind in ["text/plain", "application/x-www-form-urlencoded"]:
        async with client.post(
            url, data=json.dumps(CHAT), headers={"content-type": kind}
        ) as response:
            assert response.status == 415
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    async with client.post(url, data=json.dumps(CHAT), headers=headers) as response:
        assert response.status == 200


async def test_too_large(client):
    async with Emulator(mode="echo", max_body=1000) as server:
        url = server.base_url + "/chat/completions"
        body = CHAT | {"padding": "x" * 10_000}
        status, answer, headers = await post(client, url, body)
        assert (status, headers["connection"]) == (413, "close")
        assert "1000 bytes" in answer
        assert server.requests == []


async def test_too_many_requests(client):
    async with Emulator(mode="echo", requests_per_second=0.01) as server:
        url = server.base_url + "/chat/completions"
        status, _, headers = await post(client, url, CHAT)
        assert (status, headers["x-ratelimit-limit-requests"]) == (200, "1")
        assert headers["x-ratelimit-remaining-requests"] == "0"
        status, body, headers = await post(client, url, CHAT)
        assert (status, set(body)) == (429, {"message", "data"})
        assert 0 < int(headers["retry-after"]) <= 100
        assert 0 < int(headers["retry-after-ms"]) <= 100_000
        url = server.empower_base_url + "/chat/completions"
        status, body, _ = await post(client, url, CHAT)
        assert (status, body["error"]["type"]) == (429, "rate_limit_error")


def test_a_rate_over_time():
    bucket = Bucket(2)
    assert [bucket.take(5.0) for _ in range(3)] == [0, 0, 0.5]
    assert bucket.take(5.25) == 0.25
    assert [bucket.take(5.5), bucket.take(5.5)] == [0, 0.5]
    assert [bucket.take(99.0) for _ in range(3)] == [
        0,
        0,
        0.5,
    ]  # no more than a second's


@pytest.mark.parametrize(
    ("rate", "reset"),
    [(10, "100ms"), (0.4, "2.5s"), (1 / 90, "1m30s"), (1e-4, "2h46m40s")],
)
async def test_when_the_limit_is_whole_again(client, rate, reset):
    async with Emulator(mode="echo", requests_per_second=rate) as server:
        url = server.base_url + "/chat/completions"
        _, _, headers = await post(client, url, CHAT)
        assert headers["x-ratelimit-reset-requests"] == reset


# Tools.


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = tool("get_weather", city={"type": "string"}, days={"type": "integer"})
TIME = tool("get_time")
NAMES = {"messages": [{"role": "user", "content": "get_time and get_weather, please"}]}


def called(answer):
    """
    The names of the functions that an answer calls, with their arguments.
    """
    message = answer["choices"][0]["message"]
    calls = message.get("tool_calls", [])
    for call in calls:
        assert call["id"]
        assert call["type"] == "function"
    functions = [call["function"] for call in calls]
    return {each["name"]: json.loads(each["arguments"]) for each in functions}


ARGUMENTS = {"city": "city", "days": 1}


@pytest.mark.parametrize(
    ("more", "calls"),
    [
        ({"tool_choice": "required"}, {"get_weather": ARGUMENTS}),
        ({"tool_choice": "any"}, {"get_weather": ARGUMENTS}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_time"}}},
            {"get_time": {}},
        ),
        ({}, {}),
        (NAMES, {"get_time": {}, "get_weather": ARGUMENTS}),
        (
            {"messages": [{"role": "user", "content": "get_weather, get_time"}]},
            {"get_weather": ARGUMENTS, "get_time": {}},
        ),
        (NAMES | {"parallel_tool_calls": False}, {"get_time": {}}),
        (NAMES | {"tool_choice": "none"}, {}),
        ({"messages": [{"role": "user", "content": "get_weather_now"}]}, {}),
        ({"messages": [*NAMES["messages"], {"role": "tool", "content": "9"}]}, {}),
    ],
)
async def test_tool_calls(client, server, more, calls):
    for path in ["/v1/chat/completions", "/api/v1/chat/completions"]:
        body = CHAT | {"tools": [WEATHER, TIME]} | more
        _, answer, _ = await post(client, server.address + path, body)
        assert list(called(answer).items()) == list(calls.items())
        choice = answer["choices"][0]
        assert choice["finish_reason"] == ("tool_calls" if calls else "stop")
        assert (choice["message"]["content"] is None) == bool(calls)


async def test_tool_calls_in_a_stream(client, server):
    body = CHAT | NAMES | {"tools": [WEATHER, TIME], "stream": True}
    url = server.empower_base_url + "/chat/completions"
    async with client.post(url, json=body) as response:
        lines = (await response.text()).split("\n\n")[:-2]
    choices = [json.loads(line[6:])["choices"][0] for line in lines]
    calls = {}
    for choice in choices:
        for call in choice["delta"].get("tool_calls", []):
            if "id" in call:  # the name is whole, and comes with the id
                assert call["function"]["arguments"] == ""
                calls[call["index"]] = [call["function"]["name"], ""]
            else:
                assert list(call["function"]) == ["arguments"]
                calls[call["index"]][1] += call["function"]["arguments"]
    assert calls == {
        0: ["get_time", "{}"],
        1: ["get_weather", '{"city": "city", "days": 1}'],
    }
    assert choices[-1]["finish_reason"] == "tool_calls"


async def test_tool_calls_cut_off(client, server):
    body = CHAT | {"tools": [WEATHER], "tool_choice": "any", "max_tokens": 3}
    url = server.base_url + "/chat/completions"
    _, answer, _ = await post(client, url, body)
    choice = answer["choices"][0]
    function = choice["message"]["tool_calls"][0]["function"]
    assert (choice["finish_reason"], function["arguments"]) == ("length", '{"city')
    assert answer["usage"]["completion_tokens"] == 3


async def test_thinking(client, server):
    body = CHAT | NAMES | {"tools": [TIME], "include_thinking": True}
    url = server.empower_base_url + "/chat/completions"
    _, answer, _ = await post(client, url, body)
    text = answer["choices"][0]["message"]["content"]
    assert text == "<thinking>The user wants get_time.</thinking>"
    assert called(answer) == {"get_time": {}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "minLength": 3}, "axx"),
        ({"type": "string", "maxLength": 0}, ""),
        ({"enum": [3, 4]}, 3),
        ({"const": None}, None),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "number", "exclusiveMinimum": 5}, 5.5),
        ({"type": "integer", "maximum": -5}, -5),
        ({"type": "boolean"}, True),
        ({"type": ["null", "string"]}, None),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"$ref": "#/$defs/x"}, "shared"),
        ({"default": "given"}, "given"),
        ({"type": "object", "required": ["b"]}, {"b": "b"}),
        ({"$ref": "#/nowhere"}, "a"),
        (5, None),
    ],
    ids=str,
)
async def test_arguments_fit_their_schema(client, server, schema, value):
    function = tool("f", a=schema)
    function["function"]["parameters"]["$defs"] = {"x": {"const": "shared"}}
    body = CHAT | {"tools": [function], "tool_choice": "any"}
    url = server.base_url + "/chat/completions"
    _, answer, _ = await post(client, url, body)
    assert called(answer) == {"f": {"a": value}}


async def test_a_schema_that_refers_to_itself(client, server):
    function = tool("f", a={"$ref": "#"}, b={"items": {"$ref": "#"}, "type": "array"})
    function["function"]["parameters"]["properties"]["b"]["minItems"] = 1000
    body = CHAT | {"tools": [function], "tool_choice": "any"}
    _, answer, _ = await post(client, server.base_url + "/chat/completions", body)
    assert "a" in called(answer)["f"]
