"""
What comes in place of a stream: whole replies, pages, nothing.
"""

import json

import pytest

from multidict import CIMultiDict

from horay_async._errors import (
    APIConnectionError,
    APIResponseValidationError,
    IncompleteStreamError,
    SSEDecodeError,
    UnconfirmedStreamError,
)
from horay_async._values import Meta, Outcome
from streams import WHOLE, read


FINISHED, UNCONFIRMED = Outcome.FINISHED, Outcome.UNCONFIRMED


def whole_reply(**fields):
    """
    What a plain call would have got.
    """
    message = {"role": "assistant", "content": "all"}
    only = {"index": 0, "message": message, "finish_reason": "stop", **fields}
    return json.dumps({"id": "c", "choices": [only]}).encode()


@pytest.mark.parametrize("streamed", [False, None])
def test_a_whole_reply(streamed):
    """
    A plain JSON answer is an answer, whether its type is named or not.
    """
    result = read(b"\n ", whole_reply(), streamed=streamed)
    assert (result.text, result.outcome) == ("all", FINISHED)


def test_a_whole_reply_without_a_finish_reason():
    """
    It is as whole as a stream with [DONE].
    """
    reply = whole_reply(finish_reason=None)
    result = read(reply, streamed=False)
    assert (result.text, result.outcome) == ("all", UNCONFIRMED)
    assert "the whole reply came" in result.reason
    strict = read(reply, streamed=False, strict_end=True)
    assert strict.error is UnconfirmedStreamError


def test_a_whole_reply_with_half_a_character():
    """
    The text encodes all the same.
    """
    reply = whole_reply().replace(b"all", rb"\ud83d")
    assert read(reply, streamed=False).text == "\ufffd"


def test_a_whole_reply_that_broke_off():
    """
    Half a JSON value is no answer.
    """
    cause = APIConnectionError("the cable is cut")
    result = read(whole_reply(), streamed=False, cause=cause)
    assert result.error is IncompleteStreamError


def test_a_stream_of_another_name():
    """
    Some servers send streams as text/plain: the first bytes tell.
    """
    for blocks in ([WHOLE], [b" \n", b"\n", WHOLE], [b": ping\n\n", WHOLE]):
        assert read(*blocks, streamed=None).text == "hello"


# name: (the content type, the bytes, the error, what it says)
INSTEAD = {
    "a page": (
        "text/html; charset=utf-8",
        b"<html><title>Bad gateway</title></html>",
        APIResponseValidationError,
        "expected a stream from Horay, but it sent text/html; charset=utf-8: Bad gateway",
    ),
    "a page without a type": (
        "",
        b"<html><title>Bad gateway</title></html>",
        APIResponseValidationError,
        "no content type: Bad gateway",
    ),
    "JSON that is no answer": (
        "application/json",
        b'{"id": "c"}',
        APIResponseValidationError,
        "application/json",
    ),
    "JSON that is text": (
        "application/json",
        b'"Invalid token"',
        APIResponseValidationError,
        "Invalid token",
    ),
    "a list": ("application/json", b"[1]", APIResponseValidationError, "json: 1"),
    "an answer that cannot be read": (
        "application/json",
        b'{"choices": "x"}',
        SSEDecodeError,
        "choices of type str",
    ),
    "half a JSON value": (
        "application/json",
        b'{"choices": [',
        APIResponseValidationError,
        'no JSON (expecting value, at character 13): {"choices": [',
    ),
}


@pytest.mark.parametrize(
    ("kind", "bytes_", "error", "message"), INSTEAD.values(), ids=INSTEAD
)
@pytest.mark.parametrize("streamed", [False, None])
def test_something_else(kind, bytes_, error, message, streamed):
    """
    The error says what came, and carries it.
    """
    headers = CIMultiDict({"Content-Type": kind} if kind else {})
    meta = Meta(status=200, service="Horay", headers=headers)
    result = read(bytes_, streamed=streamed, meta=meta)
    assert result.error is error
    assert message in result.said
    assert result.content == bytes_


def test_nothing_in_place_of_a_stream():
    """
    An empty body says nothing, and the error says so.
    """
    result = read(streamed=False)
    assert result.error is APIResponseValidationError
    assert "the server, but it sent no content type: an empty body" in result.said


def test_too_much_in_place_of_a_stream(monkeypatch):
    """
    No answer may fill the memory.
    """
    monkeypatch.setattr("horay_async._intake.BODY_LIMIT", 10)
    assert read(b"{" * 10, streamed=None).said.startswith("expected a stream")
    result = read(b"{" * 10, b"{", streamed=None)
    assert result.error is APIResponseValidationError
    assert result.said == "the answer is longer than 10 bytes"
