"""
The words everyone shares: what they hold, how they print, copy, pickle and travel.
"""

import copy
import json
import pickle

import attrs
import pytest

from multidict import CIMultiDict

from horay_async._timeouts import Timeouts
from horay_async._values import (
    UNSET,
    Message,
    Meta,
    Outcome,
    Partial,
    PartialChoice,
    RateLimits,
    Response,
    Secret,
    Timings,
    Token,
    Unset,
    Usage,
    assistant,
    system,
    tool,
    user,
)


# Unset and secret ------------------------------------------------------------------


def test_unset():
    """
    Neither None nor true, one of a kind in every process.
    """
    assert UNSET is not None
    assert not UNSET
    assert repr(UNSET) == "UNSET"
    assert Unset("UNSET") is UNSET
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert copy.deepcopy(UNSET) is UNSET


def test_secrets_are_masked():
    """
    No repr of anything that holds one shows it; it still works as the string it is.
    """
    secret = Secret("sk-1234")
    assert secret == "sk-1234"
    assert f"Bearer {secret}" == "Bearer sk-1234"
    for shown in (
        repr(secret),
        repr([secret]),
        repr({"Authorization": secret}),
        repr(Message(content=secret)),
        f"{secret!r}",
        str((secret,)),
    ):
        assert "sk-1234" not in shown
        assert "***" in shown


# Messages --------------------------------------------------------------------------


def test_making_messages():
    assert system("a").to_dict() == {"role": "system", "content": "a"}
    assert user("a").to_dict() == {"role": "user", "content": "a"}
    assert assistant("a").to_dict() == {"role": "assistant", "content": "a"}
    assert tool("a", tool_call_id="c").to_dict() == {
        "role": "tool",
        "content": "a",
        "tool_call_id": "c",
    }
    parts = [{"type": "image_url", "image_url": {"url": "data:"}}]
    assert user(parts).to_dict() == {"role": "user", "content": parts}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        ("", ""),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "image_url"}, {"text": None}, {"text": "b"}], "b"),
    ],
)
def test_text_of_a_message(content, text):
    assert Message(content=content).text == text


def test_reasoning_of_a_message():
    assert Message(extra={"reasoning_content": "a"}).reasoning == "a"
    assert Message(extra={"reasoning_content": None, "reasoning": "b"}).reasoning == "b"
    assert Message().reasoning is None


def test_what_some_servers_add():
    """
    It reads as None where it was not sent, as in openai's classes.
    """
    for name in ("function_call", "annotations", "audio"):
        assert getattr(Message(extra={name: {"a": 1}}), name) == {"a": 1}
        assert getattr(Message(), name) is None


def test_usage_details():
    counted = {"cached_tokens": 3}
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        details = getattr(Usage(extra={name: counted}), name)
        assert details.cached_tokens == 3
        assert details.audio_tokens is None
        assert getattr(Usage(extra={name: None}), name) is None
        assert getattr(Usage(), name) is None


@pytest.mark.parametrize(
    "value",
    [
        Message(content="a", extra={"b": 1}),
        Usage(prompt_tokens=1, source="estimated"),
        Token("a", 1, "b"),
        Partial(choices=(PartialChoice(index=0, text="a"),)),
        Timings(pool=1.0),
        RateLimits(reset_tokens=0.017),
        Meta(status=200, headers=CIMultiDict(a="b")),
        Response(status_code=200, content=b"x"),
        Timeouts(stall=None),
    ],
)
def test_copies_and_pickles(value):
    for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert other == value
        assert type(other) is type(value)


def test_frozen():
    for value in (
        Message(content="a", extra={"b": 1}),
        Usage(),
        Partial(),
        Meta(),
        Response(status_code=1),
        Timeouts(),
    ):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.status = 1


# How it ended, and the facts -----------------------------------------------------------


def test_outcomes_are_strings():
    assert Outcome.FINISHED == "finished"
    assert str(Outcome.TIMED_OUT) == "timed_out"
    assert json.dumps(Outcome.CLOSED) == '"closed"'


def test_partial():
    assert Partial().text == ""
    assert Partial().usage.source == "none"
    first = PartialChoice(index=0, text="a")
    assert Partial(choices=(first, PartialChoice(index=1, text="b"))).text == "a"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"X-Request-ID": "r"}, "r"),
        ({"x-siliconcloud-trace-id": "t"}, "t"),
        ({"X-Generation-Id": "g"}, "g"),
        ({"CF-Ray": "c"}, "c"),
        ({"CF-Ray": "c", "x-request-id": "r"}, "r"),
        ({"date": "now"}, None),
        ({}, None),
    ],
)
def test_request_id(headers, found):
    assert Meta(headers=CIMultiDict(headers)).request_id == found


def test_headers_are_not_printed():
    """
    A server may echo the key in one.
    """
    headers = CIMultiDict({"echo": "sk-1234"})
    assert "sk-1234" not in repr(Meta(headers=headers))
    assert "sk-1234" not in repr(Response(status_code=200, headers=headers))


def test_response():
    response = Response(status_code=200, content=b'{"a": "\xc3\xa9"}')
    assert response.json() == {"a": "é"}
    assert Response(status_code=200, content=b"\xff").text == "\ufffd"
    with pytest.raises(ValueError):
        Response(status_code=200).json()
    assert "a" not in repr(response).replace("status_code", "").replace("headers", "")
