"""
What a plain call makes of what comes back: streams, errors under status 200, nonsense.
"""

import json

import pytest

from deltas import choice, chunk, ended
from horay_async._codec import chat_reply, completion_reply
from horay_async._errors import (
    APIResponseValidationError,
    APIStatusError,
    IncompleteStreamError,
    PaymentRequiredError,
    RateLimitError,
    ServiceUnavailableError,
)
from horay_async._requests import CompletionRequest
from horay_async._values import Outcome, Usage
from horay_async.emulator import Answer
from lining import CHAT, CLOCKS, KEY, ask, changed, last, lining, whole
from streams import HELLO, WHOLE, wire


TEXT = CompletionRequest(prompt="hello", model="m")


@pytest.fixture
async def line(emulator):
    """
    A line to the emulator.
    """
    async with lining(emulator.base_url) as line:
        yield line


# A stream that nobody asked for ----------------------------------------------------


STREAMS = {
    "by its type": ("text/event-stream", WHOLE),
    "by its parameters": ("text/event-stream; charset=utf-8", WHOLE),
    "by its looks": ("application/json", WHOLE),
    "by a comment": ("text/plain", b": ping\n\n" + WHOLE),
    "by a name": ("text/plain", b"\r\nevent: message\n" + WHOLE),
    "unconfirmed": ("text/event-stream", HELLO + b"data: [DONE]"),
    "not at all": ("text/event-stream", json.dumps(whole("hello")).encode()),
}


@pytest.mark.parametrize(("kind", "body"), STREAMS.values(), ids=STREAMS)
async def test_an_answer_that_is_streamed(line, emulator, kind, body):
    """
    It is put together, as what was asked for.
    """
    emulator.script(Answer.text(body, content_type=kind))
    reply, response = await line.send(CHAT, CLOCKS, chat_reply, chat=True)
    assert (reply.text, reply.object) == ("hello", "chat.completion")
    assert (reply.meta.status, response.content) == (200, body)


async def test_a_text_and_choices_that_are_streamed(line, emulator):
    """
    By the same rules.
    """
    texts = [chunk({"index": n, "text": "ab"[n]}) for n in (1, 0)]
    body = wire(
        *texts, ended(index=1), ended(index=0), chunk(usage={"total_tokens": 9})
    )
    emulator.script(Answer.text(body, content_type="text/event-stream"))
    reply, _ = await line.send(TEXT.evolve(n=2), CLOCKS, completion_reply)
    assert [each.text for each in reply.choices] == ["a", "b"]
    assert reply.usage == Usage(total_tokens=9)


async def test_a_streamed_answer_that_broke_off(line, emulator):
    """
    The error carries what came; another attempt may bring it whole.
    """
    broken = Answer.text(HELLO, content_type="text/event-stream")
    emulator.script(broken)
    with pytest.raises(IncompleteStreamError) as caught:
        await ask(line)
    assert (caught.value.partial.text, caught.value.content) == ("hello", HELLO)
    assert caught.value.meta.status == 200
    assert last(line).outcome is Outcome.INCOMPLETE
    emulator.script(broken, Answer.text(WHOLE, content_type="text/event-stream"))
    assert (await ask(changed(line, max_retries=1))).text == "hello"


async def test_an_error_in_a_streamed_answer(line, emulator):
    """
    It is one.
    """
    body = HELLO + wire({"error": {"message": "oops", "code": 429}})
    emulator.script(Answer.text(body, content_type="text/event-stream"))
    with pytest.raises(RateLimitError, match="oops") as caught:
        await ask(line)
    assert caught.value.partial.text == "hello"
    assert last(line).outcome is Outcome.FAILED


async def test_tool_calls_that_are_streamed(line, emulator):
    """
    They come out as in a plain reply.
    """
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    body = wire(chunk(choice(delta={"tool_calls": [call]})), ended("tool_calls"))
    emulator.script(Answer.text(body, content_type="text/event-stream"))
    reply = await ask(line)
    assert reply.message.tool_calls[0].function.name == "f"


# Answers that are none -------------------------------------------------------------


# name: (the answer, the error, what it says)
WRONG = {
    "an error": (
        Answer.json({"error": {"code": 402, "message": "oops"}}),
        PaymentRequiredError,
        "402 from Horay, under HTTP 200: oops",
    ),
    "SiliconFlow's envelope": (
        Answer.json({"code": 50505, "message": "oops", "status": False}),
        ServiceUnavailableError,
        "503 from Horay, under HTTP 200: oops",
    ),
    "a page": (
        Answer.text("<title>Bad gateway</title>", content_type="text/html"),
        APIResponseValidationError,
        "expected JSON from Horay, but it sent text/html: Bad gateway",
    ),
    "half a JSON value": (
        Answer.text('{"a":', content_type="application/json"),
        APIResponseValidationError,
        "it sent application/json: no JSON (",
    ),
    "nothing": (
        Answer.text("", content_type="application/json"),
        APIResponseValidationError,
        "it sent application/json: an empty body",
    ),
    "nothing at all": (
        Answer(status=204, framing="raw", body=[b"HTTP/1.1 204 No Content\r\n\r\n"]),
        APIResponseValidationError,
        "it sent no content type: an empty body",
    ),
    "a string": (
        Answer.json("Invalid token"),
        APIResponseValidationError,
        "Invalid token",
    ),
    "no choices": (
        Answer.json({"id": "c"}),
        APIResponseValidationError,
        "expected an answer with choices",
    ),
    "choices that cannot be read": (
        Answer.json({"choices": "x"}),
        APIResponseValidationError,
        "the server sent choices = 'x', expected a list",
    ),
}


@pytest.mark.parametrize(("scripted", "error", "message"), WRONG.values(), ids=WRONG)
async def test_wrong_answers(line, emulator, scripted, error, message):
    """
    With status 200, and an error all the same, which carries what came.
    """
    emulator.script(scripted)
    with pytest.raises(error) as caught:
        await ask(line)
    assert type(caught.value) is error
    assert message in str(caught.value)
    assert caught.value.meta.status in (200, 204)
    (body,) = scripted.body
    if scripted.framing != "raw":
        body = body if isinstance(body, bytes) else body.encode()
        assert caught.value.content == body
    assert last(line).outcome is Outcome.FAILED
    assert last(line).error is caught.value


async def test_an_error_under_200_may_be_tried_again(line, emulator):
    """
    As the one that it stands for.
    """
    busy = Answer.json(
        {"error": {"code": 503, "message": "busy"}}, headers=[("retry-after-ms", "1")]
    )
    emulator.script(busy, Answer.json(whole()))
    assert (await ask(changed(line, max_retries=1))).meta.attempts == 2


# The key ---------------------------------------------------------------------------


ECHOES = {
    "an error": Answer.json({"error": {"message": f"bad key {KEY}", "param": KEY}}),
    "a page": Answer.text(f"<title>bad key {KEY}</title>", content_type="text/html"),
    "no reply": Answer.json({"choices": f"bad key {KEY}"}),
    "no reply, longer than is shown": Answer.json({"choices": "x" * 55 + KEY}),
    "a stream": Answer.text(wire({"error": KEY}), content_type="text/event-stream"),
    "no stream": Answer.text(wire(KEY), content_type="text/event-stream"),
}


@pytest.mark.parametrize("scripted", ECHOES.values(), ids=ECHOES)
async def test_an_echoed_key(line, emulator, scripted):
    """
    No error tells it, not even a part of it.
    """
    emulator.script(scripted)
    with pytest.raises((APIStatusError, APIResponseValidationError)) as caught:
        await ask(line)
    error = caught.value
    assert b"***" in error.content
    assert "sk-of" not in f"{error!r} {error.__dict__} {error.content.decode()}"
    assert error.__context__ is None or error.__suppress_context__


async def test_an_answer_may_hold_the_key(line, emulator):
    """
    A model repeats what it is told, and an answer is given as it came.
    """
    emulator.script(Answer.json(whole(f"your key is {KEY}")))
    reply, response = await line.send(CHAT, CLOCKS, chat_reply)
    assert reply.text == f"your key is {KEY}"
    assert KEY.encode() in response.content
