"""
Scripted answers fit the way in which they are asked for.
"""

import json

import openai
import pytest

from horay_async.testing import LiveEmulator, refusal, reply
from live import asked, connected, events, post, server


__all__ = ["server"]

TEXT = "/v1/completions"


@pytest.fixture
def client(server):
    """
    The strictest reader of this wire format that is not ours.
    """
    options = {"base_url": server.base_url, "api_key": "any", "max_retries": 0}
    with openai.OpenAI(**options, _strict_response_validation=True) as client:
        yield client


def stream(server, **fields):
    """
    The events of one streamed answer.
    """
    with connected(server) as connection:
        return events(post(connection, stream=True, **fields))


# The four forms --------------------------------------------------------------------


def test_a_chat(client, server):
    server.script(reply("Black ", "Sea"), reply("Black ", "Sea"))
    ask = {"model": "m", "messages": [{"role": "user", "content": "A sea?"}]}
    whole = client.chat.completions.create(**ask)
    assert whole.choices[0].message.content == "Black Sea"
    assert (whole.model, whole.choices[0].finish_reason) == ("m", "stop")
    assert whole.usage.completion_tokens == 2
    chunks = list(client.chat.completions.create(**ask, stream=True))
    said = [chunk.choices[0].delta.content for chunk in chunks]
    assert said == ["", "Black ", "Sea", None]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None, None, None, "stop"]
    assert chunks[0].choices[0].delta.role == "assistant"


def test_a_text(client, server):
    server.script(*[reply("Black ", "Sea", finish="length")] * 2)
    ask = {"model": "m", "prompt": "A sea:"}
    whole = client.completions.create(**ask)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (
        "Black Sea",
        "length",
    )
    chunks = stream(server, path=TEXT)
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["text"] for choice in choices] == ["Black ", "Sea", ""]
    # OpenAI's reader wants no null here, and every server sends it.
    assert [choice["finish_reason"] for choice in choices] == [None, None, "length"]


def test_a_tool_call(client, server):
    """
    Its name whole, then its arguments, in fragments; what is no JSON stays as it is.
    """
    calls = [("weather", {"place": "Odesa"}), ("stop", "{not")]
    server.script(*[reply(tool_calls=calls)] * 2)
    ask = {"model": "m", "messages": [{"role": "user", "content": "Weather?"}]}
    whole = client.chat.completions.create(**ask).choices[0]
    assert (whole.finish_reason, whole.message.content) == ("tool_calls", None)
    made = [(call.id, call.function.name) for call in whole.message.tool_calls]
    assert made == [("call_1", "weather"), ("call_2", "stop")]
    given = [call.function.arguments for call in whole.message.tool_calls]
    assert given == ['{"place": "Odesa"}', "{not"]
    with client.chat.completions.stream(**ask) as streamed:
        final = streamed.get_final_completion().choices[0]
    assert final.message.tool_calls[0].function.arguments == '{"place": "Odesa"}'
    assert final.finish_reason == "tool_calls"


def test_a_tool_call_as_openai_writes_it(server):
    """
    What stands in a recorded answer can be said again.
    """
    call = {
        "id": "call_x",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"place": "Odesa"}'},
    }
    unnamed = {"function": {"name": "weather", "arguments": {"place": "Odesa"}}}
    server.script(*[reply(tool_calls=[call, unnamed])] * 2)
    said = asked(server)[1]["choices"][0]["message"]["tool_calls"]
    assert said == [call, {**call, "id": "call_2"}]
    opening = [
        piece
        for event in stream(server)
        for piece in event["choices"][0]["delta"].get("tool_calls", ())
        if "id" in piece
    ]
    assert [(piece["index"], piece["id"]) for piece in opening] == [
        (0, "call_x"),
        (1, "call_2"),
    ]


def test_texts_and_tools(server):
    """
    First one, then the other.
    """
    server.script(*[reply("Wait.", tool_calls=[("weather", {})])] * 2)
    message = asked(server)[1]["choices"][0]["message"]
    assert message["content"] == "Wait."
    assert len(message["tool_calls"]) == 1
    kinds = [[*event["choices"][0]["delta"]] for event in stream(server)]
    assert kinds[1:] == [["content"], *[["tool_calls"]] * 3, []]


# Details ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", TEXT])
def test_several_choices(server, path):
    """
    Each says the same, and says that it is finished.
    """
    server.script(*[reply("Black ", "Sea")] * 2)
    with connected(server) as connection:
        whole = json.load(post(connection, path=path, n=2))
        assert [choice["index"] for choice in whole["choices"]] == [0, 1]
        assert whole["usage"]["completion_tokens"] == 4
        chunks = events(post(connection, path=path, n=2, stream=True))
    last = [
        event["choices"][0] for event in chunks if event["choices"][0]["finish_reason"]
    ]
    assert [choice["index"] for choice in last] == [0, 1]


def test_usage(server):
    """
    In a stream where it is asked for, or given.
    """
    given = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    server.script(*[reply("Sea")] * 2, *[reply("Sea", usage=given)] * 2)
    assert all("usage" not in event for event in stream(server))
    last = stream(server, stream_options={"include_usage": True})[-1]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 2
    assert stream(server)[-1]["usage"] == given
    assert asked(server)[1]["usage"] == given


def test_headers(server):
    server.script(*[reply("Sea", headers={"x-request-id": "abc"})] * 2)
    with connected(server) as connection:
        for streamed in (False, True):
            response = post(connection, stream=streamed)
            assert response.getheader("x-request-id") == "abc"
            kind = "text/event-stream" if streamed else "application/json"
            assert response.getheader("content-type").startswith(kind)
            response.read()


def test_waits(server):
    """
    Between the pieces of a stream; all of them before a whole answer.
    """
    done = []
    pieces = ("Black ", 0.0, lambda: done.append(1), "Sea")
    server.script(*[reply(*pieces)] * 2)
    assert asked(server)[1]["choices"][0]["message"]["content"] == "Black Sea"
    assert len(stream(server)) == 4
    assert done == [1, 1]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([["a", "b"]], r"not \['a', 'b'\]: reply\('a', 'b'\)"),
        ([{"x": 1}], r"not \{'x': 1\}"),
        ([b"a"], r"not b'a'"),
        (["a", None, "b"], "not None"),
        ([True], "not True"),
        ([LiveEmulator().hold], r"not hold: call it, hold\(\)"),
        ([reply("a")], "not another reply"),
        ([refusal(429)], "not an Answer, which goes into script"),
        ([str], "not <class 'str'>"),
    ],
)
def test_what_is_no_piece(pieces, said):
    """
    It is told where it was written.
    """
    with pytest.raises(TypeError, match=rf"reply\(\) takes texts.*, {said}"):
        reply(*pieces)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_what_is_no_pause(seconds):
    with pytest.raises(ValueError, match=f"not {seconds}"):
        reply("a", seconds)
    with pytest.raises(ValueError, match=f"not {seconds}"):
        refusal(429, retry_after=seconds)


@pytest.mark.parametrize(
    "calls",
    [
        ("weather", {"place": "Odesa"}),
        ["weather"],
        [{"name": "weather", "arguments": {}}],
        [("weather", 5)],
        [("weather", {}, 1)],
        "weather",
        5,
    ],
    ids=repr,
)
def test_what_is_no_tool_call(calls):
    with pytest.raises(TypeError, match=r'\[\("weather", \{"place": "Odesa"\}\)\]'):
        reply(tool_calls=calls)


def test_what_is_no_refusal():
    for status in (9999, 99, 100):
        with pytest.raises(ValueError, match=f"200 to 599, not {status}"):
            refusal(status)
    for status in ("429", None, True, 429.0):
        with pytest.raises(TypeError, match="200 to 599, not "):
            refusal(status)
    with pytest.raises(TypeError, match="of seconds, not '60'"):
        refusal(429, retry_after="60")


@pytest.mark.parametrize("make", [reply, lambda **options: refusal(429, **options)])
def test_what_is_no_header(make):
    for headers in ({"x-one": "a\r\nb: c"}, {"x two": "a"}, {"x": "\u2028"}):
        with pytest.raises(ValueError, match="cannot be a header"):
            make(headers=headers)
    with pytest.raises(TypeError, match="cannot be a header"):
        make(headers={"retry-after-ms": 1})


def test_what_a_function_returns_is_not_said(server):
    """
    It waits, or does something: bytes of its own would break the answer.
    """
    server.script(*[reply("Black ", lambda: "Red", "Sea")] * 2)
    assert asked(server)[1]["choices"][0]["message"]["content"] == "Black Sea"
    assert len(stream(server)) == 4


def test_nothing(server):
    """
    An answer of no text is one, too.
    """
    server.script(reply())
    assert asked(server)[1]["choices"][0]["message"]["content"] == ""


def test_a_refusal(client, server):
    """
    What openai's client reads of it.
    """
    more = {"type": "rate", "code": "slow_down", "headers": {"x-request-id": "abc"}}
    server.script(refusal(429, "slow down", retry_after=60, **more), refusal(404))
    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        client.completions.create(model="m", prompt="p")
    error = caught.value
    assert (error.type, error.code, error.request_id) == ("rate", "slow_down", "abc")
    assert error.response.headers["retry-after"] == "60"
    status, body = asked(server)
    assert status == 404
    assert body["error"]["message"]
