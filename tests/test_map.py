"""
Many prompts: what goes in, what comes out, in which order, and how far ahead.
"""

import asyncio
import inspect

import pytest

from horay_async import (
    COMPATIBLE,
    HORAY,
    UNSET,
    AsyncHoray,
    BadRequestError,
    ChatReply,
    ChatRequest,
    CompletionReply,
    CompletionRequest,
    ConfigurationError,
    Conversation,
    DeadlineExceeded,
    InvalidRequestError,
    RateLimitError,
    Timeouts,
    assistant,
    system,
    user,
)
from horay_async._fields import ChatArguments, CompletionArguments
from horay_async.emulator import Answer
from horay_async.many._arguments import JobOptions, RowArguments
from mapping import every, hold, sorted_rows


def chat(text, **fields):
    return ChatRequest(messages=[user(text)], **fields)


# What goes in and what comes out -----------------------------------------------------


async def test_prompts(client):
    """
    A string is what the user says; each gets one row.
    """
    async with client.map(["one", "two", "three"]) as job:
        rows = sorted([row async for row in job], key=lambda row: row.index)
    assert [row.index for row in rows] == [0, 1, 2]
    assert [row.id for row in rows] == ["0", "1", "2"]
    assert [row.request for row in rows] == ["one", "two", "three"]
    assert [row.reply.text for row in rows] == ["one", "two", "three"]
    assert [row.replies for row in rows] == [(row.reply,) for row in rows]
    assert [row.error for row in rows] == [None] * 3
    assert isinstance(rows[0].reply, ChatReply)
    assert rows[0].reply.meta.status == 200
    assert (job.done, job.failed, job.in_flight) == (3, 0, 0)


async def test_what_a_request_may_be(client):
    """
    Chats, texts and conversations in one job, each answered by its kind.
    """
    text = CompletionRequest(prompt="a text", max_tokens=9)
    asked = [chat("a chat"), text, Conversation("a talk", ["and on"]), "a string"]
    rows = await sorted_rows(client.map(asked))
    assert [row.reply.text for row in rows] == [
        "a chat",
        "a text",
        "and on",
        "a string",
    ]
    assert [type(row.reply) for row in rows] == [
        ChatReply,
        CompletionReply,
        ChatReply,
        ChatReply,
    ]
    assert [row.request for row in rows] == asked


async def test_ids(client):
    """
    An id comes before its request; a number becomes text; the default is the index.
    """
    asked = [("a", "one"), (7, chat("two")), "three", ("a", "four")]
    rows = await sorted_rows(client.map(asked))
    assert [row.id for row in rows] == ["a", "7", "2", "a"]
    assert [row.reply.text for row in rows] == ["one", "two", "three", "four"]
    assert rows[0].request == "one"


async def test_arguments_change_every_request(client, emulator):
    talk = Conversation(chat("three", seed=1), ["four"])
    asked = ["one", chat("two", temperature=0.1, top_p=0.5), talk]
    await every(client.map(asked, temperature=0.7, max_tokens=5, top_p=UNSET))
    assert len(emulator.requests) == 4
    for seen in emulator.requests:
        assert seen.json["temperature"] == 0.7
        assert seen.json["max_tokens"] == 5
        assert "top_p" not in seen.json
    assert sum(seen.json.get("seed") == 1 for seen in emulator.requests) == 2


async def test_arguments_for_texts(client, emulator):
    """
    What only texts have is no mistake where there are texts; a chat among them fails.
    """
    asked = [CompletionRequest(prompt="one"), "two"]
    rows = await sorted_rows(client.map(asked, echo=True))
    assert rows[0].reply.text == "oneone"
    assert isinstance(rows[1].error, TypeError)
    assert "echo" in str(rows[1].error)


@pytest.mark.parametrize(
    "clocks", [{"timeout": 0.05}, {"timeouts": Timeouts(deadline=0.05)}]
)
async def test_clocks_of_each_call(client, emulator, clocks):
    hold(emulator, 1)
    (row,) = await every(client.map(["slow"], **clocks))
    assert isinstance(row.error, DeadlineExceeded)
    assert row.reply is None


async def test_no_requests(client, emulator):
    assert await every(client.map([])) == []
    assert emulator.requests == []


# Conversations -----------------------------------------------------------------------


async def test_a_conversation(client, emulator):
    """
    Each turn is said when the one before is answered, with the answers in its history.
    """
    opening = ChatRequest(messages=[system("Be brief."), user("one")], max_tokens=9)
    turns = [
        "two",
        [user("three"), assistant("3"), {"role": "user", "content": "four"}],
    ]
    (row,) = await every(client.map([("talk", Conversation(opening, turns))]))
    assert row.id == "talk"
    assert [reply.text for reply in row.replies] == ["one", "two", "four"]
    assert row.reply is row.replies[-1]
    said = [
        [(one["role"], one["content"]) for one in seen.json["messages"]]
        for seen in emulator.requests
    ]
    start = [("system", "Be brief."), ("user", "one")]
    then = [*start, ("assistant", "one"), ("user", "two")]
    last = [("user", "three"), ("assistant", "3"), ("user", "four")]
    assert said == [start, then, [*then, ("assistant", "two"), *last]]
    assert {seen.json["max_tokens"] for seen in emulator.requests} == {9}


async def test_a_conversation_that_fails_half_way(client, emulator):
    """
    What was answered is kept.
    """
    emulator.script(None, Answer.json({"error": {"message": "no"}}, 400))
    (row,) = await every(client.map([Conversation("one", ["two", "three"])]))
    assert isinstance(row.error, BadRequestError)
    assert row.reply is None
    assert [reply.text for reply in row.replies] == ["one"]
    assert len(emulator.requests) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("one", "two"), "follow_ups = 'two': expected a list of what is said next"),
        (("one", user("two")), "follow_ups = .*: expected a list"),
        (("one", 7), "follow_ups = 7: expected a list"),
        (("one", [7]), r"follow_ups\[0\] = 7: expected a string, a message, or a list"),
        (("one", ["two", []]), r"follow_ups\[1\]: the list is empty"),
        (("one", [{"content": "two"}]), r"follow_ups\[0\]\[0\].role"),
        ((CompletionRequest(prompt="one"), []), "opening = .*: expected a ChatRequest"),
    ],
)
def test_no_conversation(arguments, words):
    with pytest.raises(InvalidRequestError, match=words):
        Conversation(*arguments)


# Errors ------------------------------------------------------------------------------


async def test_an_error_is_its_rows_own(client, emulator):
    """
    A refusal, a value out of range, an exception that was handed in: the rest is answered.
    """
    problem = ValueError("line 4 is no JSON")
    asked = ["one", chat("two", max_tokens=9999), ("bad", problem), "four"]
    emulator.script(Answer.json({"error": {"message": "too many"}}, 429), None)
    client = client.with_options(max_retries=0)
    async with client.map(asked, concurrency=1) as job:
        rows = [row async for row in job]
    assert isinstance(rows[0].error, RateLimitError)
    assert isinstance(rows[1].error, InvalidRequestError)
    assert "max_tokens = 9999: Horay documents 1 to 4096" in str(rows[1].error)
    assert rows[2].error is rows[2].request is problem
    assert rows[2].id == "bad"
    assert rows[3].reply.text == "four"
    assert [row.reply for row in rows[:3]] == [None] * 3
    assert [row.replies for row in rows[:3]] == [()] * 3
    assert (job.done, job.failed, job.in_flight) == (4, 3, 0)
    assert len(emulator.requests) == 2


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (7, r"requests\[1\] is of type int, expected a string, a ChatRequest, "),
        (None, "is of type NoneType"),
        ([user("hi")], r"ChatRequest\(messages=\[...\]\)"),
        (user("hi"), r"ChatRequest\(messages=\[...\]\)"),
        ({"prompt": "hi"}, r"CompletionRequest\(\*\*fields\)"),
        (("id", 7), "is of type int"),
        (("id", "one", "two"), "is of type tuple"),
        (("id", ("id", "one")), "is of type tuple"),
        (
            (None, "one"),
            r"requests\[1\] = \(None, …\): expected an id that is a string",
        ),
        ((True, "one"), "expected an id"),
        ((10**5000, "one"), "is of type tuple"),
        (asyncio.CancelledError(), "is of type CancelledError"),
    ],
)
async def test_an_item_that_is_none(client, item, words):
    """
    It names its place, and what was expected; the others are answered.
    """
    rows = await sorted_rows(client.map(["one", item, "three"]))
    assert [row.error is None for row in rows] == [True, False, True]
    with pytest.raises(InvalidRequestError, match=words):
        raise rows[1].error


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (
            ("one", {}),
            TypeError,
            r"requests is one str, expected many: pass \[request\]",
        ),
        ((b"one", {}), TypeError, "requests is one bytes"),
        ((chat("one"), {}), TypeError, "requests is one ChatRequest"),
        ((Conversation("one"), {}), TypeError, "requests is one Conversation"),
        (({"a": "one"}, {}), TypeError, r"pass its items\(\)"),
        ((7, {}), TypeError, "requests is a int, expected an iterable"),
        ((None, {}), TypeError, "requests is a NoneType, expected an iterable"),
        (([], {"concurrency": 0}), ConfigurationError, "concurrency is 0, expected 1"),
        (
            ([], {"concurrency": 2.0}),
            ConfigurationError,
            "2.0, expected a whole number",
        ),
        (([], {"concurrency": True}), ConfigurationError, "True, expected a whole"),
        (
            ([], {"order": "any"}),
            ConfigurationError,
            "'any', expected 'done' or 'input'",
        ),
        (([], {"timeout": "soon"}), ConfigurationError, "timeout is 'soon'"),
        (([], {"timeouts": 5}), ConfigurationError, "timeouts is 5"),
        (
            ([], {"temprature": 1}),
            TypeError,
            "'temprature'; did you mean 'temperature'",
        ),
        (([], {"tiemout": 1}), TypeError, "'tiemout'; did you mean 'timeout'"),
        (([], {"concurency": 1}), TypeError, "did you mean 'concurrency'"),
        (([], {"odrer": 1}), TypeError, "did you mean 'order'"),
        (
            ([], {"stream": "row"}),
            ConfigurationError,
            "stream is 'row', expected True, False or 'rows'",
        ),
        (([], {"stream": 1}), ConfigurationError, "stream is 1, expected"),
        (([], {"total": -1}), ConfigurationError, "total is -1, expected 0 or more"),
        (([], {"total": "9"}), ConfigurationError, "total is '9', expected a whole"),
        (([], {"retry_failed": True}), ConfigurationError, "it needs journal="),
        (([], {"journal": 7}), ConfigurationError, "journal is 7, expected the path"),
        (([], {"on_progress": 7}), ConfigurationError, "on_progress is 7, expected"),
        (
            ([], {"on_progress": asyncio.sleep}),
            ConfigurationError,
            "on_progress is a coroutine function",
        ),
        (([], {"messages": []}), TypeError, "messages is what each of the requests"),
        (([], {"prompt": ""}), TypeError, "prompt is what each of the requests"),
        (([], {"temperature": "hot"}), InvalidRequestError, "temperature = 'hot'"),
        (([], {"temperature": -1}), InvalidRequestError, "Horay documents at least 0"),
        (([], {"echo": 1}), InvalidRequestError, "echo = 1: expected True or False"),
        (
            ([], {"echo": True, "tools": []}),
            TypeError,
            "'echo'.* and 'tools', which no",
        ),
    ],
)
async def test_refused_at_once(client, emulator, given, error, words):
    """
    What can work for no row is said before the first is sent.
    """
    with pytest.raises(error, match=words):
        client.map(given[0], **given[1])
    assert emulator.requests == []


async def test_allowed_for_one_kind(client):
    """
    A value that only one kind of request may have is that one's: 1.5 is hot for a text.
    """
    asked = [CompletionRequest(prompt="one"), "two"]
    rows = await sorted_rows(client.map(asked, temperature=1.5))
    assert isinstance(rows[0].error, InvalidRequestError)
    assert rows[1].reply.text == "two"


async def test_what_only_texts_may_have(client):
    """
    A number of log probabilities is no mistake because a chat could not have it.
    """
    (row,) = await every(client.map([CompletionRequest(prompt="one")], logprobs=2))
    assert row.reply.text == "one"


async def test_each_brings_its_model(emulator):
    """
    Where the service has no default, every request may name its own.
    """
    async with AsyncHoray(
        base_url=emulator.base_url, service=COMPATIBLE, api_key="key"
    ) as client:
        asked = [chat("one", model=HORAY.chat.model), "two"]
        rows = await sorted_rows(client.map(asked, max_tokens=9))
    assert rows[0].reply.text == "one"
    assert isinstance(rows[1].error, InvalidRequestError)
    assert rows[1].error.field == "model"


def test_arguments_of_a_mixed_job():
    """
    They are those of both kinds, but for what the rows bring.
    """
    both = ChatArguments.__annotations__ | CompletionArguments.__annotations__
    assert RowArguments.__annotations__.keys() == both.keys() - {"messages", "prompt"}


def test_options_of_a_job():
    """
    Those of the overloads are those of the verb.
    """
    verb = inspect.signature(AsyncHoray.map).parameters.keys()
    others = {"self", "requests", "stream", "arguments"}
    assert JobOptions.__annotations__.keys() == verb - others


# As they are shown -------------------------------------------------------------------


async def test_reprs(client, emulator):
    """
    Neither prompts nor answers: rows are logged by the thousand.
    """
    emulator.script(None, None, None, Answer.json({"error": "no"}, 400))
    talk = Conversation("secret", ["secret"])
    rows = await every(client.map([("a", "secret"), talk, talk], concurrency=1))
    assert list(map(repr, rows)) == [
        "<Row 0 'a': 1 answer, 2 tokens>",
        "<Row 1 '1': 2 answers, 6 tokens>",
        "<Row 2 '2': BadRequestError>",
    ]
    assert repr(talk) == "<Conversation of 2 turns>"
    (row,) = await every(client.map([7]))
    assert repr(row) == "<Row 0 '0': InvalidRequestError>"
    job = client.map(["one"])
    assert repr(job) == "<Job: 0 done, 0 of them failed, 0 in flight>"


# A real model ------------------------------------------------------------------------


async def test_a_real_model(anyio_backend, llama):
    """
    Six questions at four slots, one of them with a follow-up.
    """
    seas = [f"Name a sea near {where}." for where in ("Italy", "Japan", "Peru", "Oman")]
    asked = [*seas, Conversation("Name a sea.", ["And another?"])]
    async with (
        AsyncHoray(base_url=llama.base_url, timeouts=Timeouts(deadline=60)) as client,
        client.map(
            asked, concurrency=4, order="input", model=llama.model, max_tokens=8
        ) as job,
    ):
        rows = [row async for row in job]
    assert [row.error for row in rows] == [None] * 5
    assert [len(row.replies) for row in rows] == [1, 1, 1, 1, 2]
    assert all(reply.text for row in rows for reply in row.replies)
    assert HORAY.name not in repr(rows)
