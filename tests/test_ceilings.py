"""
No server can fill the memory or hold up the loop: every ceiling, and the error that names it.
"""

import asyncio
import gzip
import inspect
import json
import pickle
import re
import time
import tracemalloc

from pathlib import Path

import aiohttp
import pytest

import deltas

from deltas import ended, said
from horay_async import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    AsyncHoray,
    EventTooLargeError,
    FirstTokenTimeoutError,
    IncompleteStreamError,
    SSEDecodeError,
    Timeouts,
    _intake,
)
from horay_async._body import BLOCK, DRAIN_BYTES
from horay_async._call import ERROR_BODY_LIMIT
from horay_async._codec import (
    BODY_LIMIT,
    MAX_NESTING,
    chat_reply,
    describe,
    loads,
)
from horay_async._flow import DRAIN
from horay_async._intake import Intake
from horay_async._protocol import MAX_INTERIM
from horay_async._refusals import LONGEST
from horay_async._sse import MAX_EVENT
from horay_async._structure import MAX_ITEMS
from horay_async._tool_calls import MAX_CALLS
from horay_async._values import Meta
from loopback import STREAM, answer, chunk, head, once, serve, soon
from streams import read, wire


MIB = 1 << 20

HELLO = [{"role": "user", "content": "hello"}]

WHOLE = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}


def connect(server, **options):
    """
    A client of a raw server, which does not try again.
    """
    options = {"max_retries": 0, "timeout": 10, **options}
    return AsyncHoray(api_key="key-of-the-tests", base_url=server.url, **options)


async def ask(client, prompt="hello"):
    """
    A plain call.
    """
    messages = [{"role": "user", "content": prompt}]
    return await soon(client.chat.completions.create(messages=messages, model="m"))


async def listen(client):
    """
    A stream, to its end.
    """
    async with client.chat.completions.stream(messages=HELLO, model="m") as stream:
        return [token.text async for token in stream]


def flood(*first, then):
    """
    A script that goes on as fast as it can.
    """

    async def script(peer):
        await peer.request()
        peer.watch()
        peer.send(*first)
        while not peer.left.is_set():
            peer.send(then)
            await peer.writer.drain()
            await asyncio.sleep(0)

    return script


# Memory ----------------------------------------------------------------------------


JSON = head("Content-Type: application/json", "Transfer-Encoding: chunked")
GZIP = head(
    "Content-Type: text/event-stream",
    "Transfer-Encoding: chunked",
    "Content-Encoding: gzip",
)
REFUSAL = head("Transfer-Encoding: chunked", status="400 Bad Request")
SPACES = chunk(b" " * 60_000)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
BOMB = chunk(gzip.compress(bytes(100 * MIB), 1)) + chunk(b"")

# What a server does for ever: the error, what it says, and MiB that it may take.
FLOODS = {
    "a status line": ([b"HTTP/1.1 200 "], b"a" * 9000, APIConnectionError, "8190", 4),
    "a header": (
        [b"HTTP/1.1 200 OK\r\nA: "],
        b"a" * 9000,
        APIConnectionError,
        "8190",
        4,
    ),
    "headers": (
        [b"HTTP/1.1 200 OK\r\n"],
        b"A: b\r\n" * 1000,
        APIConnectionError,
        "too many headers",
        4,
    ),
    "trailers": (
        [STREAM, b"0\r\n"],
        b"A: b\r\n" * 1000,
        IncompleteStreamError,
        "too many headers",
        4,
    ),
    "interim answers": (
        [],
        INTERIM * 1000,
        APIConnectionError,
        f"more than {MAX_INTERIM} interim answers",
        8,
    ),
    "a line": ([STREAM, chunk(b"data: ")], SPACES, EventTooLargeError, "16777216", 48),
    "data lines": (
        [STREAM],
        chunk((b"data: " + b"a" * 100 + b"\n") * 600),
        EventTooLargeError,
        "16777216",
        48,
    ),
    "a bomb": ([GZIP], BOMB, EventTooLargeError, "16777216", 48),
    "a refusal": ([REFUSAL], SPACES, APIStatusError, "400", 16),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_without_end(kind):
    """
    An error of ours names the ceiling, and the memory stays near it.
    """
    first, then, error, words, most = FLOODS[kind]
    async with (
        serve(flood(*first, then=then)) as server,
        connect(server) as client,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(error, match=words):
                await soon(listen(client))
            assert tracemalloc.get_traced_memory()[1] < most * MIB
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("first", "then"),
    [([JSON], SPACES), ([GZIP], BOMB)],
    ids=["spaces", "a bomb"],
)
async def test_a_plain_answer_without_end(first, then, monkeypatch):
    """
    The ceiling counts what was unpacked; what had been read is not kept by the error.
    """
    monkeypatch.setattr("horay_async._line.BODY_LIMIT", 4 * MIB)
    async with (
        serve(flood(*first, then=then)) as server,
        connect(server) as client,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(
                APIResponseValidationError, match=str(4 * MIB)
            ) as caught:
                await ask(client)
            now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 12 * MIB
        assert now < 3 * MIB
        assert caught.value.partial.text == ""


async def test_many_interim_answers():
    """
    Each is only a promise; the last one counts.
    """
    script = once(INTERIM * MAX_INTERIM, answer(json.dumps(WHOLE).encode()))
    async with serve(script) as server, connect(server) as client:
        assert (await ask(client)).text == "whole"


def test_a_stream_without_end(monkeypatch):
    """
    64 MiB for each choice, and for four at least.
    """
    monkeypatch.setattr("horay_async._intake.BODY_LIMIT", 1000)
    event = wire(said("a" * 60))
    for n, limit in [(1, 4000), (4, 4000), (5, 5000)]:
        intake = Intake(n)
        with pytest.raises(SSEDecodeError, match=f"longer than {limit} bytes"):
            for _ in range(limit // len(event) + 1):
                intake.take(event)
        # What had come stays.
        assert len(intake.assembly.parts(0)) == limit // len(event)


# Parts -----------------------------------------------------------------------------


def test_a_choice_far_out():
    """
    Its index is a name, not a place in a list.
    """
    result = read(wire(ended(), ended(index=10**9), "[DONE]"), n=2)
    assert [one["index"] for one in result.body["choices"]] == [0, 10**9]


def many_choices(number):
    return [{"index": place, "delta": {"content": "x"}} for place in range(number)]


@pytest.mark.parametrize("n", [1, 2])
def test_too_many_choices(n):
    """
    In one chunk, or in many: the ceiling is far above what can be asked for.
    """
    assert (
        read(wire({"choices": many_choices(MAX_ITEMS)}), n=n).error
        is not SSEDecodeError
    )
    result = read(wire({"choices": many_choices(MAX_ITEMS + 1)}), n=n)
    assert result.error is SSEDecodeError
    assert result.said == (
        f"the server sent more than {MAX_ITEMS} choices, the most that are read of one"
        " answer"
    )


def test_too_many_choices_of_a_plain_answer():
    choice = {"message": {}}
    assert (
        len(chat_reply({"choices": [choice] * MAX_ITEMS}, Meta()).choices) == MAX_ITEMS
    )
    with pytest.raises(APIResponseValidationError, match=f"at most {MAX_ITEMS}"):
        chat_reply({"choices": [choice] * (MAX_ITEMS + 1)}, Meta())


@pytest.mark.parametrize("name", ["index", "id"])
def test_too_many_tool_calls(name):
    """
    By whatever they are told apart.
    """
    make = int if name == "index" else str
    events = [
        deltas.chunk(deltas.choice(delta={"tool_calls": [{name: make(place)}]}))
        for place in range(MAX_CALLS + 1)
    ]
    assert read(wire(*events[:-1], ended(), "[DONE]")).outcome == "finished"
    result = read(wire(*events))
    assert result.error is SSEDecodeError
    assert f"more than {MAX_CALLS} tool calls" in result.said


# Nesting ---------------------------------------------------------------------------


def nested(levels):
    """
    An object of so many levels, itself included.
    """
    return b'{"choices": [{"message": {"content": "%b"}}], "x": %b%b}' % (
        b"a" * 400,
        b"[" * (levels - 1),
        b"]" * (levels - 1),
    )


@pytest.mark.parametrize("levels", [MAX_NESTING + 1, 500, 1000, 5000, 100_000])
def test_nested_too_deeply(levels):
    """
    Just below the ceiling, all that is done with an answer works; above, it is no answer.
    """
    words = f"nested deeper than {MAX_NESTING} levels"
    with pytest.raises(ValueError, match=words):
        loads(nested(levels))
    result = read(b"data: " + nested(levels) + b"\n\n")
    assert result.error is SSEDecodeError
    assert words in result.said
    result = read(nested(levels), streamed=False)
    assert result.error is APIResponseValidationError
    assert words in result.said
    assert describe(nested(levels), status=400).message.startswith('{"choices"')


def test_nested_deeply():
    reply = chat_reply(loads(nested(MAX_NESTING)), Meta())
    assert pickle.loads(pickle.dumps(reply)) == reply
    assert repr(reply)
    assert json.loads(reply.to_json())["x"]
    wide = b"[" + b"[]," * 1000 + b"[]]"
    assert len(loads(wide)) == 1001


# The loop --------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [b" ", b"  ", b":", b": PING", b"\t"])
def test_blank_events_get_no_second_look(blank, monkeypatch):
    """
    A block of a flood holds thousands.
    """
    looks = []
    monkeypatch.setattr(_intake, "loads", looks.append)
    result = read(b"data: %b\n\n" % blank * 3 + wire(said("a"), ended(), "[DONE]"))
    assert (result.outcome, looks) == ("finished", [])


FAST = {
    "comments": STREAM + chunk(b":\n" * 30_000),
    "empty events": STREAM + chunk(b"data:\n\n" * 9000),
    "empty objects": STREAM + chunk(b"data:{}\n\n" * 7000),
    "unknown lines": STREAM + chunk(b"x\n" * 30_000),
    "compressed": GZIP + chunk(gzip.compress(b":\n" * (50 * MIB))),
}


@pytest.mark.parametrize("kind", FAST)
async def test_others_get_their_turn(kind):
    """
    Beside a stream that comes as fast as it can, another task runs all the time.
    """
    first, _, then = FAST[kind].partition(b"\r\n\r\n")
    turns, over = 0, False

    async def tick():
        nonlocal turns
        while not over:
            await asyncio.sleep(0)
            turns += 1

    clocks = Timeouts(first_token=0.3)
    async with (
        serve(flood(first + b"\r\n\r\n", then=then)) as server,
        connect(server, timeouts=clocks) as client,
    ):
        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        # The clock must have its turn, too.
        with pytest.raises(FirstTokenTimeoutError):
            await soon(listen(client))
        over = True
        await ticking
        # A turn a block: on a slow machine, one of these may take 50 ms.
        assert turns > (time.monotonic() - began) * 5


async def test_others_get_their_turn_beside_a_long_answer(monkeypatch):
    """
    What is unpacked from one block of the network would else be read in one go.
    """
    monkeypatch.setattr("horay_async._line.BODY_LIMIT", 16 * MIB)
    turns, over = 0, False

    async def tick():
        nonlocal turns
        while not over:
            await asyncio.sleep(0)
            turns += 1

    async with serve(once(GZIP, BOMB)) as server, connect(server) as client:
        ticking = asyncio.create_task(tick())
        with pytest.raises(APIResponseValidationError):
            await ask(client)
        over = True
        await ticking
        assert turns >= 16 * MIB // (1 << 18)


# Early answers ---------------------------------------------------------------------


@pytest.mark.uvloop
@pytest.mark.parametrize("status", ["413 Content Too Large", "401 Unauthorized"])
@pytest.mark.parametrize("end", ["close", "reset", "stay"])
async def test_an_answer_while_we_are_still_sending(status, end):
    """
    It is read and told; that the rest cannot be sent any more says less.
    """
    refusal = answer(b'{"error": {"message": "no"}}', status=status)

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.send(refusal)
        await peer.writer.drain()
        if end == "close":
            peer.close()
        elif end == "reset":
            # What is sent into it from now on is answered with RST.
            await peer.reader.read(1)
            peer.writer.close()
        else:
            await peer.gone()

    async with serve(script) as server, connect(server) as client:
        with pytest.raises(APIStatusError) as caught:
            await ask(client, "a" * (16 * MIB))
        assert caught.value.status_code == int(status[:3])
        assert "no" in str(caught.value)


# The document ----------------------------------------------------------------------


CEILINGS = {
    "interim answers (1xx)": f"{MAX_INTERIM:,}",
    "the body of a plain answer, unpacked": f"{BODY_LIMIT >> 20} MiB",
    "the body of an error, unpacked": f"{ERROR_BODY_LIMIT >> 20} MiB,",
    "an event of a stream, or a line of it": f"{MAX_EVENT >> 20} MiB",
    "a whole stream": f"{BODY_LIMIT >> 20} MiB for each choice, at least {BODY_LIMIT >> 18} MiB",
    "nesting of JSON": f"{MAX_NESTING} levels",
    "choices of an answer, items of a list": f"{MAX_ITEMS:,}",
    "tool calls of a streamed choice": f"{MAX_CALLS:,}",
    "a server's message in an error's text": f"{LONGEST:,} characters",
    "what is read after an answer's end, for the connection's sake": (
        f"{DRAIN_BYTES >> 10} KiB, {DRAIN} s"
    ),
}


def test_the_document_is_right():
    """
    Its table of ceilings says what the constants say; those of HTTP are aiohttp's.
    """
    text = Path(__file__).parents[1].joinpath("docs", "security.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", text, re.MULTILINE))
    assert CEILINGS.keys() <= rows.keys()
    for what, most in CEILINGS.items():
        assert rows[what].startswith(most), what
    defaults = inspect.signature(aiohttp.ClientSession).parameters
    assert defaults["max_line_size"].default == 8190
    assert defaults["max_field_size"].default == 8190
    assert defaults["max_headers"].default == 128
    assert f"after every {BLOCK >> 10} KiB" in text
