"""
The emulator does what it is told, byte for byte, and at the pace it is told.
"""

import asyncio
import contextlib
import json
import sys
import time

import aiohttp
import pytest

from dialling import BOUND, CHAT, dial, request, url
from horay_async.emulator import Answer, Emulator


@pytest.fixture
async def client(anyio_backend):
    headers = {"authorization": "Bearer key"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session


# Scripts.


PLAIN = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "wire"),
    [
        (
            Answer(body=[b"one", "zw\u00f6", b""]),
            PLAIN + b"transfer-encoding: chunked\r\n\r\n"
            b"3\r\none\r\n4\r\nzw\xc3\xb6\r\n0\r\n\r\n",
        ),
        (
            Answer(body=[b"one", b"two"], end="close"),
            PLAIN + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n",
        ),
        (
            Answer(framing="length", body=[b"one", 0.001, b"two"]),
            PLAIN + b"content-length: 6\r\n\r\nonetwo",
        ),
        (
            Answer(framing="length", headers={"Content-Length": "9"}, body=["one"]),
            PLAIN + b"Content-Length: 9\r\n\r\none",
        ),
        (
            Answer(framing="close", headers=[("a", "1"), ("a", "2")], body=[b"one"]),
            PLAIN + b"a: 1\r\na: 2\r\nconnection: close\r\n\r\none",
        ),
        (Answer(framing="raw", body=[b"ICY 200 OK\n\n"]), b"ICY 200 OK\n\n"),
        (
            Answer.json({"a": "\u2028"}, 529, headers={"retry-after": "1"}),
            (
                b"HTTP/1.1 529 Unnamed\r\ncontent-type: application/json\r\n"
                b'retry-after: 1\r\ncontent-length: 11\r\n\r\n{"a":"\xe2\x80\xa8"}'
            ),
        ),
        (
            Answer.text("<p>", 502, "text/html", framing="close"),
            (
                b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\n"
                b"connection: close\r\n\r\n<p>"
            ),
        ),
        (
            Answer.sse({"a": 1}, "two\nlines", b": raw\r", done=False, framing="close"),
            PLAIN + b"content-type: text/event-stream\r\nconnection: close\r\n\r\n"
            b'data: {"a":1}\n\ndata: two\ndata: lines\n\n: raw\r',
        ),
        (
            Answer.sse("x", newline="\r\n", headers={"Content-Type": "x"}, end="close"),
            PLAIN + b"Content-Type: x\r\ntransfer-encoding: chunked\r\n\r\n"
            b"b\r\ndata: x\r\n\r\n\r\n10\r\ndata: [DONE]\r\n\r\n\r\n",
        ),
    ],
)
async def test_scripted_bytes(emulator, answer, wire):
    emulator.script(answer)
    async with dial(emulator) as (reader, writer):
        writer.write(request(CHAT))
        async with asyncio.timeout(BOUND):
            assert await reader.readexactly(len(wire)) == wire
        await emulator.wait_until_idle()
        if answer.end == "close" or answer.framing == "close":
            assert await reader.read() == b""
        else:  # nothing more comes, and the next request is served
            writer.write(request(CHAT, connection="close"))
            assert (await reader.read()).startswith(PLAIN + b"date: ")
    assert {seen.fate for seen in emulator.requests} == {"finished"}


async def test_a_scripted_reset(emulator):
    emulator.script(Answer.sse("x", done=False, end="reset"))
    async with dial(emulator) as (reader, writer):
        writer.write(request(CHAT))
        await reader.readuntil(b"x\n\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
    await emulator.wait_until_idle()
    assert emulator.requests[0].fate == "finished"


async def test_a_reset_before_the_head(client, emulator):
    emulator.script(Answer(framing="raw", end="reset"))
    with pytest.raises(aiohttp.ClientOSError):
        await client.post(url(emulator), json=CHAT)


async def test_events_order_an_answer(client, emulator):
    go, reached = asyncio.Event(), asyncio.Event()
    emulator.script(Answer.sse("one", reached.set, go, "two"))
    async with client.post(url(emulator), json=CHAT | {"stream": True}) as response:
        assert await response.content.readline() == b"data: one\n"
        await reached.wait()
        assert emulator.open_streams == 1
        go.set()
        assert (await response.read()).startswith(b"\ndata: two\n\n")
    await emulator.wait_until_idle()
    assert emulator.open_streams == 0


async def test_callables_in_a_body(client, emulator):
    async def later():
        await asyncio.sleep(0)
        return b"two "

    body = [lambda: b"one ", later, lambda: "three", lambda: None]
    emulator.script(Answer(body=body))
    async with client.post(url(emulator), json=CHAT) as response:
        assert await response.read() == b"one two three"


async def test_what_comes_before_the_head(client, emulator):
    done = []

    def note():
        done.append(emulator.requests[0].status)

    emulator.script(Answer(before=[note, 0.001, note], body=[note]))
    async with client.post(url(emulator), json=CHAT) as response:
        assert await response.read() == b""
    assert done == [None, None, 200]


async def test_scripts_take_their_turn(client, emulator):
    def choose(seen):
        return Answer.json(seen.json["n"])

    async def later(seen):
        return None

    emulator.script(Answer.json(1), None, choose, later)
    emulator.script(Answer.json("models"), method="get")
    results = []
    for _ in range(5):
        async with client.post(url(emulator), json=CHAT | {"n": 2}) as response:
            answer = await response.json()
            results.append(answer if isinstance(answer, int) else "served")
    assert results == [1, "served", 2, "served", "served"]
    async with client.get(emulator.base_url + "/models") as response:
        assert await response.json() == "models"


async def test_a_function_may_return_one(client, emulator):
    """
    An answer that fits its request is a function, as `reply(...)` of the testing room is.
    """

    def fit(seen):
        return Answer.json(seen.number)

    async def later(seen):
        return fit

    emulator.script(lambda _: fit, lambda _: later)
    for number in (1, 2):
        async with client.post(url(emulator), json=CHAT) as response:
            assert await response.json() == number


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([Answer()], r"not a list: script\(first, second\)$"),
        (429, "not 429$"),
        (b"reset", "not b'reset'$"),
    ],
)
async def test_what_is_no_answer(emulator, wrong, said):
    """
    It is told where it was written, and nothing is added.
    """
    with pytest.raises(TypeError, match=said):
        emulator.script(None, wrong)
    assert emulator._script.waiting == {}


@pytest.mark.parametrize(
    ("choice", "said"), [([], "not a list"), ("kaputt", "no fault is called")]
)
async def test_what_a_function_may_not_return(client, choice, said):
    server = Emulator(mode="echo")
    await server.start()
    server.script(lambda _: choice)
    async with client.post(url(server), json=CHAT) as response:
        assert response.status == 500
    with pytest.raises((TypeError, ValueError), match=said):
        await server.__aexit__(None, None, None)


async def test_a_scripted_chat(client, emulator):
    emulator.script(Answer.chat("one", " two", usage={"total_tokens": 3}))
    async with client.post(url(emulator), json=CHAT) as response:
        *parts, _, _ = (await response.text()).split("\n\n")
    chunks = [json.loads(part[6:]) for part in parts]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    texts = [choice["delta"].get("content") for choice in choices]
    assert texts == ["", "one", " two", None]
    assert choices[-1]["finish_reason"] == "stop"
    assert chunks[-1]["usage"] == {"total_tokens": 3}


async def test_a_failing_script_is_heard_of(client):
    def fail(*seen):
        raise ZeroDivisionError

    server = Emulator(mode="echo")
    await server.start()
    server.script(fail, Answer(body=[b"x", fail]))
    async with client.post(url(server), json=CHAT) as response:
        assert response.status == 500
        assert "ZeroDivisionError" in await response.text()
        # Else the next in line would answer, and the test fail for that.
        assert response.headers["x-should-retry"] == "false"
    async with client.post(url(server), json=CHAT) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    with pytest.raises(ZeroDivisionError):
        await server.__aexit__(None, None, None)
    assert len(server.errors) == 2


@pytest.mark.parametrize("end", [pytest.fail, sys.exit])
async def test_what_is_no_error_of_pythons(client, end):
    """
    What would end the loop, or the client's task alone, is an error like any other.
    """

    def fail(*seen):
        end("no more calls")

    server = Emulator(mode="echo")
    await server.start()
    server.script(fail, Answer(body=[b"x", fail]), Answer(at="accept", before=[fail]))
    server.script(Answer(at="listen", before=[fail]))
    async with client.post(url(server), json=CHAT) as response:
        assert response.status == 500
    async with client.post(url(server), json=CHAT) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    with pytest.raises(aiohttp.ClientError):
        await client.post(url(server), json=CHAT)
    await server.wait_until(lambda: len(server.errors) == 4 and server.listening)
    with pytest.raises(RuntimeError, match="no more calls"):
        await server.__aexit__(None, None, None)


async def asked(server):
    async with dial(server) as (reader, writer):
        writer.write(request(CHAT, connection="close"))
        with contextlib.suppress(ConnectionError):
            await reader.read()


async def test_what_is_told_of_it(anyio_backend):
    """
    A line for each request, and for each connection that never saw one.
    """
    told = []
    async with Emulator(mode="echo", log=told.append) as server:
        server.script("status-503", "reset-at-accept", "hang-mid-stream", None)
        await asked(server)
        await asked(server)
        async with dial(server) as (reader, writer):
            writer.write(request(CHAT | {"stream": True}))
            await reader.readuntil(b"data: ")
        await server.wait_for_disconnect()
        await asked(server)
        server.script("refused")
    assert told == [
        "POST /v1/chat/completions: status-503, status 503",
        "connection 2: reset-at-accept",
        "POST /v1/chat/completions: hang-mid-stream, disconnected",
        "POST /v1/chat/completions: status 200",
        "the port: refused",
    ]


# Pace.


async def stream(client, server, body=CHAT):
    """
    The data lines of a stream, with the seconds since the request at which each came.
    """
    begin = time.monotonic()
    async with client.post(url(server), json=body | {"stream": True}) as response:
        return [
            (line.decode(), time.monotonic() - begin)
            async for line in response.content
            if line.strip()
        ]


async def test_time_to_first_token(client):
    async with Emulator(mode="echo", time_to_first_token=0.2) as server:
        _, (first, late), *_ = await stream(client, server)
        assert '"one"' in first
        assert late >= 0.2
        begin = time.monotonic()
        async with client.post(url(server), json=CHAT) as response:
            await response.read()
        assert time.monotonic() - begin >= 0.2


async def test_the_role_comes_before_the_first_token(client):
    async with Emulator(mode="echo", time_to_first_token=60) as server:
        body = CHAT | {"stream": True}
        async with client.post(url(server), json=body) as response:
            assert b'"role":"assistant"' in await response.content.readline()


async def test_tokens_per_second(client):
    async with Emulator(mode="echo", tokens_per_second=20) as server:
        body = CHAT | {"n": 2}  # the choices are written side by side
        times = [
            at for line, at in await stream(client, server, body) if " two" in line
        ]
        assert len(times) == 2
        assert times[0] >= 0.05
        begin = time.monotonic()
        async with client.post(url(server), json=CHAT) as response:
            await response.read()
        assert time.monotonic() - begin >= 0.05


async def test_pings(client):
    async with Emulator(
        mode="echo", time_to_first_token=0.2, ping_every=0.05, newline="\r\n"
    ) as server:
        lines = [line for line, _ in await stream(client, server)]
        assert 1 <= lines.count(": ping\r\n") <= 4
        assert lines[-1] == "data: [DONE]\r\n"


async def test_carriage_returns(client):
    body = CHAT | {"stream": True}
    async with (
        Emulator(mode="echo", newline="\r") as server,
        client.post(url(server), json=body) as response,
    ):
        text = await response.text()
    assert text.endswith("data: [DONE]\r\r")
    assert "\n" not in text


async def test_an_unknown_mode():
    with pytest.raises(ValueError, match="ngram"):
        Emulator(mode="magic")


@pytest.mark.parametrize("number", [-1, 0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name",
    [
        "time_to_first_token",
        "tokens_per_second",
        "ping_every",
        "requests_per_second",
    ],
)
async def test_no_pace(name, number):
    """
    Nobody could keep it.
    """
    if (name, number) == ("time_to_first_token", 0):
        return
    with pytest.raises(ValueError, match=f"{name} must be .*, not {number}"):
        await Emulator(mode="echo", **{name: number}).start()
