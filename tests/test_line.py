"""
What opens a call: the request that goes out, and how it ended, for whoever listens.
"""

import asyncio

import attrs
import pytest

from horay_async._codec import chat_chunk, chat_reply, completion_reply, model_list
from horay_async._errors import (
    APIConnectionError,
    APIResponseValidationError,
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequestError,
    UnconfirmedStreamError,
)
from horay_async._governor import Governor
from horay_async._requests import ChatRequest, CompletionRequest
from horay_async._services import HORAY
from horay_async._settings import check_headers, check_query
from horay_async._stream import Kind
from horay_async._timeouts import Timeouts
from horay_async._values import Outcome, Token, user
from horay_async.emulator import Answer
from lining import CHAT, CLOCKS, KEY, ask, changed, last, lining, whole
from loopback import once, serve, soon, until
from streams import HELLO, WHOLE, wire


TEXT = CompletionRequest(prompt="hello", model="m")
STREAMED = {"content-type": "text/event-stream"}


@pytest.fixture
async def line(emulator):
    """
    A line to the emulator.
    """
    async with lining(emulator.base_url) as line:
        yield line


# Binding ---------------------------------------------------------------------------


def test_bind(line):
    """
    An object, keywords, or both; the clocks are none of the request's.
    """
    built, clocks = line.bind(ChatRequest, CHAT, {})
    assert (built, clocks) == (CHAT, CLOCKS)
    by_words, _ = line.bind(
        ChatRequest, None, {"messages": CHAT.messages, "model": "m"}
    )
    assert by_words == CHAT
    fields = {"temperature": 0.5, "timeouts": Timeouts(stall=1), "timeout": 2}
    both, clocks = line.bind(ChatRequest, CHAT, fields)
    assert both == CHAT.evolve(temperature=0.5)
    assert clocks == Timeouts(stall=1, deadline=2)
    assert set(fields) == {"temperature", "timeouts", "timeout"}


def test_bind_meets_the_service(line):
    """
    Its default model is sent, its ranges hold, as far as the settings say.
    """
    built, _ = line.bind(ChatRequest, None, {"messages": [user("x")]})
    assert built.model == HORAY.chat.model
    wild = {"messages": [user("x")], "max_tokens": 5000}
    with pytest.raises(InvalidRequestError, match="max_tokens"):
        line.bind(ChatRequest, None, wild)
    changed(line, validate="off").bind(ChatRequest, None, wild)


def test_bind_refuses(line):
    """
    Before anything is sent.
    """
    with pytest.raises(
        TypeError, match="expected a ChatRequest, got CompletionRequest"
    ):
        line.bind(ChatRequest, TEXT, {})
    with pytest.raises(InvalidRequestError):
        line.bind(ChatRequest, CHAT, {"messages": []})
    with pytest.raises(ConfigurationError, match="timeout is 0"):
        line.bind(ChatRequest, CHAT, {"timeout": 0})


# Out -------------------------------------------------------------------------------


async def test_a_plain_call(line, emulator):
    """
    What is sent, what comes back, and what the hook hears.
    """
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    emulator.script(Answer.json(whole(usage=usage), headers=[("x-request-id", "r-1")]))
    reply, response = await line.send(CHAT, CLOCKS, chat_reply, chat=True)
    (request,) = emulator.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.json == {
        "messages": [{"role": "user", "content": "hello"}],
        "model": "m",
    }
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert (reply.text, reply.usage.total_tokens) == ("all", 3)
    assert (reply.meta.request_id, reply.meta.attempts) == ("r-1", 1)
    assert reply.meta.timings.total >= reply.meta.timings.body >= 0
    assert (response.status_code, response.json()) == (200, whole(usage=usage))
    assert response.headers["X-Request-Id"] == "r-1"
    event = last(line)
    assert (event.path, event.outcome) == ("/chat/completions", Outcome.FINISHED)
    assert (event.meta, event.usage, event.error) == (reply.meta, reply.usage, None)


async def test_text_and_lists(line, emulator):
    """
    Other endpoints, other paths; what has no usage tells none.
    """
    text = {"choices": [{"text": "all", "finish_reason": "stop"}]}
    emulator.script(Answer.json(text))
    reply, _ = await line.send(TEXT, CLOCKS, completion_reply)
    assert (reply.text, reply.usage.source) == ("all", "none")
    emulator.script(Answer.json({"data": [{"id": "m"}]}), method="GET")
    models, _ = await line.get(HORAY.models, CLOCKS, model_list)
    assert [model.id for model in models.data] == ["m"]
    assert last(line).usage is None
    post, get = emulator.requests
    assert post.path == "/v1/completions"
    assert (get.method, get.path, get.body) == ("GET", "/v1/models", b"")
    assert "content-type" not in get.headers


async def test_extras(line, emulator):
    """
    The call's own come last, whatever the case of their names.
    """
    line = changed(
        line,
        headers=check_headers({"X-A": "default", "X-B": "default"}, "h"),
        query=check_query({"a": "default", "b": "b c"}, "q"),
    )
    emulator.script(Answer.json(whole()), Answer.json(whole()))
    await ask(line)
    await ask(
        line,
        extra_headers={"x-a": "own", "authorization": "Bearer other"},
        extra_query={"a": 5},
        extra_body={"model": "other", "new": [1]},
    )
    plain, extra = emulator.requests
    assert (plain.headers["x-a"], plain.headers["x-b"]) == ("default", "default")
    assert plain.query == "a=default&b=b+c"
    assert (extra.headers["x-a"], extra.headers["x-b"]) == ("own", "default")
    assert extra.headers["authorization"] == "Bearer other"
    assert extra.query == "a=5&b=b+c"
    assert (extra.json["model"], extra.json["new"]) == ("other", [1])


async def test_default_headers_of_two_cases(line, emulator):
    """
    A copy of the client may have named one again: it is sent once.
    """
    line = changed(line, headers={"X-A": "old", "x-a": "new"})
    emulator.script(Answer.json(whole()))
    emulator.script(Answer.json([]), method="GET")
    await ask(line)
    await line.get(HORAY.models, CLOCKS, model_list)
    assert [each.headers["x-a"] for each in emulator.requests] == ["new", "new"]


async def test_what_shares_a_limit(line, emulator):
    """
    Address, key and model as it is sent.
    """
    seen = []

    class Watched(Governor):
        async def lease(self, key, **asked):
            seen.append(key)
            return await super().lease(key, **asked)

    line = attrs.evolve(line, governor=Watched())
    emulator.script(*[Answer.json(whole())] * 3)
    emulator.script(Answer.json([]), method="GET")
    await ask(line)
    await ask(line, extra_body={"model": "other"})
    await ask(line, extra_body={"model": ["nonsense"]})
    await line.get(HORAY.models, CLOCKS, model_list)
    where = (emulator.base_url, KEY)
    assert seen == [(*where, name) for name in ("m", "other", None, None)]
    assert KEY not in repr(seen)


async def test_secrets(line):
    """
    No repr of what travels through the rooms shows the key, headers or the prompt.
    """
    line = changed(line, headers={"api-key": "secret-1"}, query={"key": "secret-2"})
    request = CHAT.evolve(messages=[user("secret-3")])
    told = repr(line) + repr(line._call(request, stream=False))
    assert KEY not in told
    assert "secret" not in told


# How many choices ------------------------------------------------------------------


COUNTS = {
    "one": (TEXT, 1),
    "n": (TEXT.evolve(n=3), 3),
    "n of null": (TEXT.evolve(n=None), 1),
    "two prompts": (TEXT.evolve(prompt=["a", "b"]), 2),
    "n of each prompt": (TEXT.evolve(prompt=["a", "b"], n=3), 6),
    "one prompt of token ids": (TEXT.evolve(prompt=[1, 2, 3], n=2), 2),
    "two prompts of token ids": (TEXT.evolve(prompt=[[1, 2], [3]], n=2), 4),
    "the extra body has the last word": (TEXT.evolve(n=3, extra_body={"n": 2}), 2),
    "prompts in the extra body": (TEXT.evolve(extra_body={"prompt": ["a", "b"]}), 2),
    "no prompts": (TEXT.evolve(extra_body={"prompt": []}), 1),
    "nonsense": (TEXT.evolve(extra_body={"n": "two"}), 1),
    "none": (TEXT.evolve(extra_body={"n": 0}), 1),
    "a chat": (CHAT.evolve(n=2), 2),
}


@pytest.mark.parametrize(("request_", "count"), COUNTS.values(), ids=COUNTS)
def test_how_many_choices(line, request_, count):
    """
    Each of them is waited for.
    """
    stream = line.stream(request_, CLOCKS, Kind(chat=False, chunk=None, reply=None))
    assert len(stream.choices) == count


# Streams ---------------------------------------------------------------------------


KIND = Kind(chat=True, chunk=chat_chunk, reply=chat_reply)


async def test_a_stream(line, emulator):
    """
    It sends when it is opened, and asks for a stream.
    """
    emulator.script(Answer(headers=STREAMED, body=[WHOLE]))
    stream = line.stream(CHAT, CLOCKS, KIND)
    assert emulator.requests == []
    async with stream:
        tokens = [token async for token in stream]
    assert tokens == [Token("hel"), Token("lo")]
    (request,) = emulator.requests
    assert request.json["stream"] is True
    # What it cost is estimated from the prompt's text: "hello" takes two times four bytes.
    assert stream.usage.prompt_tokens == 2
    assert last(line).outcome is Outcome.FINISHED


async def test_a_strict_stream(line, emulator):
    """
    It wants more than [DONE].
    """
    emulator.script(Answer(headers=STREAMED, body=[HELLO, wire("[DONE]")]))
    stream = line.stream(CHAT, CLOCKS, KIND, strict_end=True)
    with pytest.raises(UnconfirmedStreamError, match="0 of 1"):
        await stream.get_final_completion()


# How it ended ----------------------------------------------------------------------


async def test_too_late(line, emulator):
    """
    A clock's end has its own outcome.
    """
    emulator.script(Answer(before=[60.0]))
    with pytest.raises(DeadlineExceeded) as caught:
        await line.send(CHAT, Timeouts(deadline=0.1), chat_reply)
    event = last(line)
    assert (event.outcome, event.error) == (Outcome.TIMED_OUT, caught.value)
    assert event.meta.timings.total >= 0.09


async def test_cancelled(line, emulator):
    """
    It goes straight through, the hook hears of it, and the connection is closed.
    """
    emulator.script(Answer(before=[60.0]))
    task = asyncio.create_task(ask(line))
    await until(lambda: emulator.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert last(line).outcome is Outcome.CANCELLED
    assert isinstance(last(line).error, asyncio.CancelledError)
    await emulator.wait_for_disconnect()


async def test_no_connection():
    """
    The error's meta is the event's.
    """
    async with serve(once()) as server:
        url = server.url
    async with lining(url) as line:
        with pytest.raises(APIConnectionError) as caught:
            await ask(line)
    assert last(line).meta is caught.value.meta
    assert last(line).outcome is Outcome.FAILED


async def test_a_mistake_of_ours(line, emulator):
    """
    Even then the lease is back and the hook hears of the end.
    """

    def parse(value, meta):
        raise ZeroDivisionError

    emulator.script(Answer.json(whole()))
    with pytest.raises(ZeroDivisionError):
        await line.send(CHAT, CLOCKS, parse)
    assert last(line).outcome is Outcome.FAILED
    assert last(line).meta.attempts == 1


async def test_too_long(line, emulator, monkeypatch):
    """
    No answer may fill the memory.
    """
    monkeypatch.setattr("horay_async._line.BODY_LIMIT", 10)
    emulator.script(Answer.json(whole()))
    with pytest.raises(APIResponseValidationError, match="longer than 10 bytes"):
        await ask(line)


async def test_said_by_the_emulator(line, emulator):
    """
    The whole way, unscripted.
    """
    request, clocks = line.bind(ChatRequest, None, {"messages": [user("one two")]})
    reply, _ = await line.send(request, clocks, chat_reply, chat=True)
    assert reply.text == "one two"
    async with line.stream(request, clocks, KIND) as stream:
        assert "".join([token.text async for token in stream]) == "one two"
