"""
Plain JSON to replies: what servers leave out or bend is tolerated, the rest has a place.
"""

import contextlib
import math

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from horay_async._codec import (
    chat_chunk,
    chat_reply,
    completion_chunk,
    completion_reply,
    image_reply,
    model_list,
    usage_of,
    user_info,
    warm,
)
from horay_async._errors import APIError, APIResponseValidationError
from horay_async._replies import ChatReply, CompletionReply
from horay_async._values import Meta


META = Meta(status=200, service="Horay")


def reply(*choices, **fields):
    return chat_reply({"choices": list(choices) or [{"message": {}}], **fields}, META)


def delta(**fields):
    return chat_chunk({"choices": [{"delta": fields}]}).choices[0].delta


# Deviations ------------------------------------------------------------------------


def test_index_is_the_place_where_none_is_sent():
    found = reply({"message": {}}, {"index": None}, {"index": 7}, {"index": "x"})
    assert [choice.index for choice in found.choices] == [0, 1, 7, 3]


def test_nulls_take_the_default():
    nulls = {"message": None, "finish_reason": ""}
    found = reply({"message": {}}, nulls, id=None, model=None)
    assert found.choices[1].message.role == "assistant"
    assert found.choices[1].finish_reason is None
    assert found.choices[1].to_dict()["finish_reason"] is None
    message = reply(
        {"message": {"role": "", "content": None, "tool_calls": None}}
    ).message
    assert (message.role, message.tool_calls) == ("assistant", None)


def test_contents():
    for content, kept, text in [
        ("", "", ""),
        (None, None, ""),
        ([], [], ""),
        ([{"type": "text", "text": "a"}], [{"type": "text", "text": "a"}], "a"),
        (["a", {"text": "b"}], [{"type": "text", "text": "a"}, {"text": "b"}], "ab"),
    ]:
        found = reply({"message": {"content": content}})
        assert found.message.content == kept
        assert found.text == text
        assert delta(content=content).content == kept


def test_arguments_are_text():
    """
    Some local servers send the object itself.
    """
    calls = [
        {"function": {"name": "f", "arguments": {"a": "é"}}},
        {"id": "x", "type": None, "function": None},
    ]
    first, second = reply({"message": {"tool_calls": calls}}).message.tool_calls
    assert first.function.arguments == '{"a": "é"}'
    assert (first.id, first.type) == (None, "function")
    assert (second.type, second.function.name) == ("function", None)


def test_scalars_pass_as_they_come():
    found = reply(
        {"message": {}, "finish_reason": 5, "logprobs": "x"},
        id=7,
        created="now",
        model=[1],
    )
    assert (found.id, found.created, found.model) == (7, "now", [1])
    assert found.choices[0].finish_reason == 5


@pytest.mark.parametrize("amount", ["much", "", "NaN", "Infinity", True, [], {}])
def test_amounts_that_are_none(amount):
    with pytest.raises(APIResponseValidationError, match=r"sent balance = .* money"):
        user_info({"data": {"balance": amount}})


# Usage -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, (1, 2, 3)),
        ({"prompt_tokens": 1, "completion_tokens": 2}, (1, 2, 3)),
        (
            {"prompt_tokens": 1, "completion_tokens": None, "total_tokens": None},
            (1, 0, 1),
        ),
        ({"prompt_tokens": 1.0, "completion_tokens": "2"}, (1, 2, 3)),
        ({"prompt_tokens": True, "completion_tokens": "x"}, (0, 0, 0)),
        ({"prompt_tokens": math.inf, "completion_tokens": 1.5}, (0, 0, 0)),
        ({"total_tokens": 5}, (0, 0, 5)),
    ],
)
def test_usage(usage, counts):
    found = usage_of(usage)
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == counts
    assert found.source == "server"


@pytest.mark.parametrize("usage", [None, {}, [], [1], "x", 5, True])
def test_no_usage(usage):
    assert usage_of(usage) is None


def test_usage_keeps_details():
    body = {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1, "cost": 0.5}
    assert usage_of(body).to_dict() == body
    assert usage_of(body).cost == 0.5


# What cannot be read -----------------------------------------------------------------


MISFITS = [
    (chat_reply, [], "an answer = [], expected an object"),
    (chat_reply, "oops", "an answer = 'oops', expected an object"),
    (chat_reply, {"choices": {"a": 1}}, "choices = {'a': 1}, expected a list"),
    (chat_reply, {"choices": ["a"]}, "choices[0] = 'a', expected an object"),
    (chat_reply, {"choices": [{}, None]}, "choices[1] = None, expected an object"),
    (
        chat_reply,
        {"choices": [{"message": "hi"}]},
        "choices[0].message = 'hi', expected an object",
    ),
    (
        chat_reply,
        {"choices": [{"message": {"content": 5}}]},
        "choices[0].message.content = 5, expected a string or a list of parts",
    ),
    (
        chat_reply,
        {"choices": [{"message": {"content": ["a", 5]}}]},
        "choices[0].message.content[1] = 5, expected an object",
    ),
    (
        chat_reply,
        {"choices": [{"message": {"tool_calls": "f"}}]},
        "choices[0].message.tool_calls = 'f', expected a list",
    ),
    (
        chat_reply,
        {"choices": [{"message": {"tool_calls": [{"function": "f"}]}}]},
        "choices[0].message.tool_calls[0].function = 'f', expected an object",
    ),
    (
        completion_reply,
        {"choices": [{"text": ["a"]}]},
        "choices[0].text = ['a'], expected a string",
    ),
    (chat_reply, {}, "sent {}, expected an answer with choices"),
    (chat_reply, {"choices": []}, "expected an answer with choices"),
    (chat_reply, {"choices": None}, "expected an answer with choices"),
    (completion_reply, {"object": "list"}, "expected an answer with choices"),
    (model_list, {"data": "m"}, "data = 'm', expected a list"),
    (model_list, {"data": ["m"]}, "data[0] = 'm', expected an object"),
    (model_list, None, "an answer = None, expected an object"),
    (image_reply, {"images": "u"}, "images = 'u', expected a list"),
    (image_reply, {"created": 1}, "expected an answer with images"),
    (user_info, {"code": 20000, "data": None}, "expected an answer with data"),
    (user_info, "x", "an answer = 'x', expected an object"),
]


@pytest.mark.parametrize(("read", "body", "said"), MISFITS)
def test_misfits_name_their_place(read, body, said):
    with pytest.raises(APIResponseValidationError) as caught:
        read(body, META)
    assert str(caught.value).startswith("the server sent ")
    assert said in str(caught.value)
    assert caught.value.body == body
    assert caught.value.meta is META


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "an answer = None, expected an object"),
        ({"choices": "x"}, "choices = 'x', expected a list"),
        (
            {"choices": [{"delta": "x"}]},
            "choices[0].delta = 'x', expected an object",
        ),
        (
            {"choices": [{"delta": {"content": True}}]},
            "choices[0].delta.content = True, expected a string or a list of parts",
        ),
        (
            {"choices": [{"delta": {"tool_calls": [{"function": 1}]}}]},
            "choices[0].delta.tool_calls[0].function = 1, expected an object",
        ),
    ],
)
def test_misfits_in_chunks(body, said):
    with pytest.raises(APIResponseValidationError) as caught:
        chat_chunk(body)
    assert said in str(caught.value)


def test_misfits_are_shown_short():
    with pytest.raises(APIResponseValidationError) as caught:
        chat_reply("x" * 10_000, META)
    assert len(str(caught.value)) < 120
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(
        APIResponseValidationError, match=r"\[\.\.\.\]\]+, expected an object"
    ):
        chat_chunk(value)
    while value:
        value = value[0]  # else the interpreter would recurse to free it


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "choices",
                    "message",
                    "delta",
                    "content",
                    "text",
                    "tool_calls",
                    "function",
                    "arguments",
                    "index",
                    "usage",
                    "finish_reason",
                    "logprobs",
                    "data",
                    "images",
                    "balance",
                    "extra",
                    "meta",
                    "envelope",
                    "prompt_tokens",
                    "role",
                    "total_tokens",
                    "isAdmin",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(JSON)
def test_only_our_errors(obj):
    """
    Whatever JSON a server sends, it is read or refused, and what is read works.
    """
    usage_of(obj)
    for read in (
        lambda: chat_reply(obj, META),
        lambda: completion_reply(obj, META),
        lambda: chat_chunk(obj),
        lambda: completion_chunk(obj),
        lambda: model_list(obj),
        lambda: image_reply(obj),
        lambda: user_info(obj),
    ):
        with contextlib.suppress(APIError):
            found = read()
            found.to_json()
            found.model_dump_json()
            if isinstance(found, (ChatReply, CompletionReply)):
                assert isinstance(found.text, str)


def test_warm():
    """
    Twice is fine, and so is never.
    """
    warm()
    warm()
