"""
Errors under status 200: each shape that servers tell them in, before and after content.
"""

import json

import pytest

from multidict import CIMultiDict

from deltas import choice, chunk, ended, said
from horay_async._errors import (
    APIResponseValidationError,
    APIStatusError,
    BadRequestError,
    InternalServerError,
    OverloadedError,
    RateLimitError,
    ServiceUnavailableError,
    UnprocessableEntityError,
)
from horay_async._intake import Intake
from horay_async._secrets import redacted
from horay_async._values import Meta
from streams import DONE, HELLO, read, wire


# name: (the bytes, the error, what it says, the status that it stands for)
SHAPES = {
    "OpenAI, vLLM": (
        wire({"error": {"message": "oops", "type": "server_error", "code": None}}),
        InternalServerError,
        "oops",
        500,
    ),
    "TGI's chat": (
        wire({"error": {"message": "oops", "http_status_code": 422}}),
        UnprocessableEntityError,
        "oops",
        422,
    ),
    "a string": (wire({"error": "oops"}), APIStatusError, "oops", None),
    "TGI's own stream": (
        wire({"error": "oops", "error_type": "overloaded"}),
        RateLimitError,
        "oops",
        429,
    ),
    "vLLM before 0.10.1": (
        wire({"object": "error", "message": "oops", "type": "BadRequest", "code": 400}),
        BadRequestError,
        "oops",
        400,
    ),
    "OpenRouter": (
        wire(
            chunk(
                choice(delta={"content": ""}, finish_reason="error"),
                error={"code": "server_error", "message": "oops"},
            )
        ),
        InternalServerError,
        "oops",
        500,
    ),
    "OpenRouter, by number": (
        wire(
            chunk(choice(finish_reason="error"), error={"code": 502, "message": "oops"})
        ),
        InternalServerError,
        "oops",
        502,
    ),
    "Anthropic's kind": (
        wire(
            b"event: error\n",
            {"type": "error", "error": {"type": "overloaded_error", "message": "oops"}},
        ),
        OverloadedError,
        "oops",
        529,
    ),
    "an event named error": (
        wire(b"event: error\n", {"message": "oops"}),
        APIStatusError,
        "oops",
        None,
    ),
    "an event named error, no JSON": (
        wire(b"event: error\n", "oops"),
        APIStatusError,
        "oops",
        None,
    ),
    "an event named error, a JSON string": (
        wire(b"event: error\n", '"oops"'),
        APIStatusError,
        "oops",
        None,
    ),
    "an event named error, empty": (
        b"event: error\ndata:\n\n",
        APIStatusError,
        "no message",
        None,
    ),
    "a field named error (llama.cpp)": (
        b'error: {"code": 500, "message": "oops", "type": "server_error"}\n\n',
        InternalServerError,
        "oops",
        500,
    ),
    "a field named error, no JSON": (b"error: oops\n\n", APIStatusError, "oops", None),
    "a bare JSON line (lemonade)": (
        b'{"error": {"message": "oops", "code": 503}}\n',
        ServiceUnavailableError,
        "oops",
        503,
    ),
    "SiliconFlow's family": (
        wire({"code": 50505, "message": "oops", "data": None}),
        ServiceUnavailableError,
        "oops",
        503,
    ),
    "SiliconFlow's family, by status": (
        wire({"code": 20012, "message": "oops", "status": False}),
        BadRequestError,
        "oops",
        400,
    ),
}


FRAMES = {
    "at once": (b"", b""),
    "at once, then [DONE]": (b"", DONE),
    "after content": (HELLO, b""),
    "after content, then [DONE]": (HELLO, DONE),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize(
    ("bytes_", "error", "message", "status"), SHAPES.values(), ids=SHAPES
)
def test_shapes(frame, bytes_, error, message, status):
    """
    Every shape is the error that it stands for, and never the end of the answer.
    """
    before, after = frame
    result = read(before + bytes_ + after)
    assert result.error is error
    assert message in result.said
    assert "in the stream" in result.said
    assert result.status == status
    assert result.text == ("hello" if before else "")
    assert result.outcome is None


LAST = {
    "an event named error": b"event: error\ndata: oops",
    "a bare JSON line": b'{"error": "oops"}',
    "a field named error": b"error: oops",
    "an ordinary one": b'data: {"error": "oops"}',
}


@pytest.mark.parametrize("bytes_", LAST.values(), ids=LAST)
def test_the_very_last_line(bytes_):
    """
    The server may forget the line's end before it hangs up.
    """
    result = read(HELLO + bytes_)
    assert (result.error, result.text) == (APIStatusError, "hello")
    assert result.said.endswith("in the stream: oops")


def test_the_facts():
    """
    The error carries what the server said, raw as well, and the HTTP answer's facts.
    """
    meta = Meta(
        status=200, service="Horay", headers=CIMultiDict({"X-Request-Id": "r-1"})
    )
    told = {"message": "oops", "type": "t", "code": "c", "param": "p"}
    intake = Intake(meta=meta)
    with pytest.raises(APIStatusError) as caught:
        intake.take(wire({"error": told}))
    error = caught.value
    assert str(error) == "error from Horay, in the stream: oops"
    assert (error.type, error.code, error.param, error.body) == ("t", "c", "p", told)
    assert (error.meta, error.request_id, error.in_stream) == (meta, "r-1", True)
    assert json.loads(error.content) == {"error": told}


def test_an_error_in_place_of_a_stream():
    """
    Plain JSON, with status 200 all the same (OpenRouter).
    """
    body = b'{"error": {"code": 429, "message": "oops"}}'
    for streamed in (False, None):
        result = read(body, streamed=streamed)
        assert (result.error, result.status) == (RateLimitError, 429)
        assert result.content == body


def test_an_error_after_the_finish():
    """
    It is told, though the answer is there.
    """
    result = read(wire(said("a"), ended(), {"error": "oops"}))
    assert (result.text, result.error) == ("a", APIStatusError)


def test_lines_that_are_no_error():
    """
    A bare line counts only if it is an error.
    """
    strays = b'{"choices": []}\n{"message": 1\n{"a": "error"}\nerror\nerrors: x\n\n'
    assert read(wire(said("a"), strays, ended())).said == "None"


# The key ---------------------------------------------------------------------------


KEY = 'sk-1/2"3\\45678'

SPELLINGS = {
    "plain": KEY,
    "in JSON": json.dumps(KEY)[1:-1],
    "in PHP's JSON": json.dumps(KEY)[1:-1].replace("/", r"\/"),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_the_key_is_cut_out(spelling):
    """
    However it is spelled, and however often.
    """
    content = f"no {spelling} and no {spelling}!".encode()
    assert redacted(content, KEY) == b"no *** and no ***!"


@pytest.mark.parametrize("secret", [None, "", "test", "1234567"])
def test_short_keys_are_left(secret):
    """
    Cutting out every "test" would maim any text.
    """
    assert redacted(b"a test of 1234567", secret) == b"a test of 1234567"


def without_key(content):
    """
    What an intake is given to cut the key out.
    """
    return redacted(content, KEY)


ECHOES = {
    "an error": wire({"error": {"message": f"bad key {KEY}", "param": KEY}}),
    "a field named error": f"error: bad key {KEY}\n\n".encode(),
    "nonsense": wire(f"bad key {KEY}"),
    "no object": wire(json.dumps(KEY)),
    "a chunk that cannot be read": wire({"choices": KEY}),
    "a page": f"<title>bad key {KEY}</title>".encode(),
    "a whole error": json.dumps({"error": f"bad key {KEY}"}).encode(),
    "a whole reply that is none": json.dumps({"message": {"x": KEY}}).encode(),
}


@pytest.mark.parametrize("bytes_", ECHOES.values(), ids=ECHOES)
def test_an_echoed_key(bytes_):
    """
    No error tells it, whatever the server puts it into.
    """
    intake = Intake(redact=without_key, streamed=None)
    with pytest.raises((APIStatusError, APIResponseValidationError)) as caught:
        intake.take(bytes_)
        intake.end()
    error = caught.value
    told = f"{error} {error.__dict__} {error.content.decode()}"
    assert "***" in told
    assert "sk-1" not in told
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_an_answer_may_hold_the_key():
    """
    Only errors are cut: a model may well repeat what it was told.
    """
    result = read(wire(said(KEY), ended()), redact=without_key)
    assert result.text == KEY
