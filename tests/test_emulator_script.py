"""
The emulator does what it is told, byte for byte, and at the pace it is told.
"""

import asyncio
import json
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
    emulator.script(Answer.json("models"), method="GET")
    results = []
    for _ in range(5):
        async with client.post(url(emulator), json=CHAT | {"n": 2}) as response:
            answer = await response.json()
            results.append(answer if isinstance(answer, int) else "served")
    assert results == [1, "served", 2, "served", "served"]
    async with client.get(emulator.base_url + "/models") as response:
        assert await response.json() == "models"


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
    async with client.post(url(server), json=CHAT) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    with pytest.raises(ZeroDivisionError):
        await server.__aexit__(None, None, None)
    assert len(server.errors) == 2


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
