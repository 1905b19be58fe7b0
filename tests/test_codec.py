"""
Requests to bytes and bytes to JSON, with a second opinion where orjson refuses.
"""

import contextlib
import json
import math

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from horay_async._codec import chat_reply, loads, pack
from horay_async._errors import InvalidRequestError
from horay_async._requests import ChatRequest, CompletionRequest, ImageRequest
from horay_async._values import Message, Meta, user


def chat(content="Hello", **fields):
    return ChatRequest(messages=[user(content)], **fields)


# Out -------------------------------------------------------------------------------


def test_stream_is_only_sent_with_streams():
    """
    A plain call says nothing of streaming: the server's default is false.
    """
    request = chat(model="m", stream_options={"include_usage": True})
    plain = {"messages": [{"role": "user", "content": "Hello"}], "model": "m"}
    assert json.loads(pack(request, stream=False)) == plain
    assert json.loads(pack(request, stream=True)) == {
        **plain,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "stream_options" not in json.loads(pack(chat(), stream=True))


def test_extra_body_comes_last():
    request = chat(
        stream_options={"include_usage": True},
        extra_body={"stream_options": {"x": 1}, "model": "mine"},
    )
    for stream in (True, False):
        body = json.loads(pack(request, stream=stream))
        assert body["stream_options"] == {"x": 1}
        assert body["model"] == "mine"


def test_packing_changes_nothing():
    request = chat(extra_body={"a": {"b": 1}}, stream_options={})
    first = pack(request, stream=True)
    pack(request, stream=False)
    assert pack(request, stream=True) == first


def test_all_kinds():
    assert json.loads(pack(CompletionRequest(prompt=["a"]), stream=False)) == {
        "prompt": ["a"]
    }
    assert json.loads(pack(ImageRequest(prompt="sea", seed=1), stream=False)) == {
        "prompt": "sea",
        "seed": 1,
    }


def test_text_is_sent_as_utf8():
    body = pack(chat("é\u2028😀\x00"), stream=False)
    assert "é\u2028😀" in body.decode()
    assert json.loads(body)["messages"][0]["content"] == "é\u2028😀\x00"


def test_numbers_beyond_64_bits():
    body = pack(chat(seed=2**64, extra_body={"big": -(10**40)}), stream=False)
    assert json.loads(body)["seed"] == 2**64
    assert json.loads(body)["big"] == -(10**40)
    with pytest.raises(InvalidRequestError, match="cannot be sent as JSON"):
        pack(chat(seed=10**5000), stream=False)


def test_deep_values():
    """
    Deeper than orjson goes, and too deep for anything.
    """
    value = []
    for _ in range(300):
        value = [value]
    assert pack(chat(extra_body={"x": value}), stream=False).count(b"[") > 300


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"content": "half \ud83d"}, "messages[0].content"),
        ({"content": [{"text": "\udc00"}]}, "messages[0].content[0].text"),
        ({"user": "\ud800"}, "user"),
        ({"stop": ["a", "\ud800"]}, "stop[1]"),
        ({"extra_body": {"n": 1, "a": [None, {"b": "\ud800"}]}}, "a[1].b"),
        ({"extra_body": {"a": {"\ud800": 1}}}, "a: a key"),
        ({"extra_body": {"\ud800": 1}}, "a key"),
    ],
)
def test_text_that_cannot_be_encoded(fields, path):
    """
    Half a UTF-16 pair: the error names its place.
    """
    with pytest.raises(InvalidRequestError) as caught:
        pack(chat(**fields), stream=False)
    assert caught.value.field == path
    assert str(caught.value).startswith(f"{path}: the text holds half a UTF-16 pair")


def test_whatever_slips_in():
    """
    A value that changed after it was checked is still our error.
    """
    request = chat(metadata={"a": 1})
    request.metadata["a"] = object()
    with pytest.raises(InvalidRequestError, match="cannot be sent as JSON"):
        pack(request, stream=False)
    # orjson refuses the integer, so the second encoder meets the number.
    request.metadata["a"] = [2**64, math.nan]
    with pytest.raises(InvalidRequestError, match="cannot be sent as JSON"):
        pack(request, stream=False)
    request.metadata["a"] = loop = []
    loop.append(loop)
    with pytest.raises(InvalidRequestError, match="cannot be sent as JSON"):
        pack(request, stream=False)


def test_a_reply_goes_back_in():
    """
    A reply's message is sent as the server wrote it, without what it left null.
    """
    heard = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {
                "id": "c",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
            }
        ],
        "annotations": [],
    }
    reply = chat_reply({"choices": [{"message": heard}]}, Meta())
    request = ChatRequest(messages=[user("a"), reply.message])
    del heard["refusal"]
    assert json.loads(pack(request, stream=False))["messages"][1] == heard


@given(
    st.builds(
        Message,
        role=st.sampled_from(["user", "assistant"]),
        content=st.none()
        | st.text()
        | st.lists(st.fixed_dictionaries({"text": st.text()})),
        name=st.none() | st.text(min_size=1),
        # Only a model says nothing.
    ).filter(lambda message: message.role == "assistant" or message.content is not None)
)
@settings(deadline=None)
def test_messages_travel_whole(message):
    body = json.loads(pack(ChatRequest(messages=[message]), stream=False))
    assert body["messages"] == [message.to_dict()]


# In --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', {"a": [1, 2.5, None, True, "é"]}),
        (b'"raw \xe2\x80\xa8 separator"', "raw \u2028 separator"),
        (b'"\\ud83d"', "\ufffd"),
        (b'{"\\ud83d": [{"a": "\\udc00b"}]}', {"\ufffd": [{"a": "\ufffdb"}]}),
        (b'"\\ud83d\\ude00"', "😀"),
        (b"[Infinity, -Infinity]", [math.inf, -math.inf]),
        (b"1e400", math.inf),
        (b'\xef\xbb\xbf{"bom": 1}', {"bom": 1}),
        (b'"\xff"', "\ufffd"),
        (b"1" * 400, int("1" * 400)),
        (b"-" + b"1" * 5000, "-" + "1" * 5000),
        (bytearray(b'{"a": 1}'), {"a": 1}),
        (bytearray(b'"\\ud83d"'), "\ufffd"),
    ],
)
def test_what_servers_send(data, value):
    assert loads(data) == value


def test_nan():
    assert math.isnan(loads(b'{"logprob": NaN}')["logprob"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"oops",
        b"{'a': 1}",
        b"[1,]",
        b'{"a": 1} x',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b"\x00",
        b"\xff\xfe[\x00]\x00",
    ],
)
def test_what_is_not_json(data):
    with pytest.raises(ValueError):
        loads(data)


def mutilated(draw):
    body = bytearray(
        draw(
            st.sampled_from(
                [
                    b'{"a": ["\\ud83d", NaN, 1e999, "\xc3\xa9"]}',
                    b'{"a": {"b": [1, 2, {"c": null}]}} ',
                    b"11111111111111111111111111",
                ]
            )
        )
    )
    for place, byte in draw(
        st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)))
    ):
        body[place] = byte
    return bytes(body)


@given(st.binary() | st.composite(mutilated)())
@settings(deadline=None, max_examples=300)
def test_only_value_errors(data):
    """
    Any bytes are JSON or a ValueError.
    """
    with contextlib.suppress(ValueError):
        loads(data)
