"""
What the emulator does with connections: keeps them, drops them, sees them go.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import time

import aiohttp
import pytest

from horay_async.emulator import Answer, Emulator, serve_forever


CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "one two"}]}
LONG = CHAT | {"messages": [{"role": "user", "content": "word " * 1000}]}
BOUND = 5


@pytest.fixture
async def client(anyio_backend):
    headers = {"authorization": "Bearer key"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session


def url(server):
    return server.base_url + "/chat/completions"


def request(body, version="1.1", **headers):
    """
    A request as bytes.
    """
    data = json.dumps(body).encode()
    given = {"host": "x", "authorization": "Bearer key", "content-length": len(data)}
    given |= {"content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST /v1/chat/completions HTTP/{version}"]
    lines += [f"{name}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode() + data


@contextlib.asynccontextmanager
async def dial(server):
    """
    A plain connection.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def exchange(server, *data):
    """
    Everything that the server says until it hangs up.
    """
    async with dial(server) as (reader, writer):
        for part in data:
            writer.write(part)
        async with asyncio.timeout(BOUND):
            return await reader.read()


def reset(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# Connections.


async def test_connections_are_kept(client, emulator):
    for body in [CHAT, CHAT | {"stream": True}, CHAT | {"n": 0}, CHAT]:
        async with client.post(url(emulator), json=body) as response:
            await response.read()
    async with client.head(emulator.base_url + "/models") as response:
        assert response.status == 200
    assert (emulator.connections, emulator.open_connections) == (1, 1)
    assert [seen.connection for seen in emulator.requests] == [1] * 5
    await client.close()
    await emulator.wait_until(lambda: emulator.open_connections == 0)


async def test_connections_are_closed_if_asked(emulator):
    answer = await exchange(emulator, request(CHAT, connection="close"))
    assert b"connection: close\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["choices"]


async def test_requests_may_come_close_together(emulator):
    answer = await exchange(emulator, request(CHAT) + request(CHAT, connection="close"))
    assert answer.count(b"HTTP/1.1 200 OK") == 2


async def test_http_1_0(emulator):
    answer = await exchange(emulator, request(CHAT | {"stream": True}, "1.0"))
    assert b"chunked" not in answer
    assert answer.partition(b"\r\n\r\n")[2].startswith(b"data: {")
    assert answer.endswith(b"data: [DONE]\n\n")
    emulator.script(Answer.sse("x"))
    answer = await exchange(emulator, request(CHAT, "1.0"))
    assert answer.endswith(b"\r\n\r\ndata: x\n\ndata: [DONE]\n\n")


async def test_expect_continue(emulator):
    head, _, body = request(CHAT, expect="100-continue").partition(b"\r\n\r\n")
    async with dial(emulator) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"


async def test_chunked_requests(client, emulator):
    async def body():
        for byte in json.dumps(CHAT).encode():
            yield bytes([byte])

    headers = {"content-type": "application/json"}
    async with client.post(url(emulator), data=body(), headers=headers) as response:
        assert response.status == 200
    assert emulator.requests[0].headers["transfer-encoding"] == "chunked"
    assert emulator.requests[0].json == CHAT


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nlong: " + b"x" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n", 413),
    ],
)
async def test_what_is_no_request(emulator, data, status):
    async with dial(emulator) as (reader, writer):
        writer.write(data)
        assert int((await reader.readline()).split()[1]) == status
        await reader.read()  # the server has shut down its half of the connection
    await emulator.wait_until(lambda: emulator.open_connections == 0)
    assert emulator.requests == []


async def test_an_early_answer_arrives_though_the_body_goes_on(emulator):
    head = request(CHAT, content_length=100 << 20).partition(b"\r\n\r\n")[0]
    async with dial(emulator) as (reader, writer):
        writer.write(head + b"\r\n\r\n" + b"x" * 500_000)
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")


async def test_what_it_saw(client, emulator):
    before = asyncio.get_running_loop().time()
    async with client.post(url(emulator) + "?a=b", json=CHAT) as response:
        identity = response.headers["x-request-id"]
        await response.read()
    await emulator.wait_until_idle()
    (seen,) = emulator.requests
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert (seen.query, seen.status, seen.id) == ("a=b", 200, identity)
    assert seen.headers["authorization"] == "Bearer key"
    assert (seen.json, json.loads(seen.body)) == (CHAT, CHAT)
    assert before <= seen.arrival <= seen.ended
    assert (seen.fate, seen.number, seen.connection) == ("finished", 1, 1)


async def test_only_so_many_requests_are_kept(client):
    async with Emulator(mode="echo", keep_requests=2) as server:
        for _ in range(3):
            async with client.post(url(server), json=CHAT) as response:
                await response.read()
        assert [seen.number for seen in server.requests] == [2, 3]
        assert (await server.wait_for_request(3)).number == 3


# Leaving.


def endless():
    return itertools.chain([b"x"], itertools.repeat(b"y" * 1000))


# Made anew for each test: an event belongs to the loop that first waited for it.
SILENT = {
    "hang": lambda: Answer.sse("x", done=False, end="hang"),
    "pause": lambda: Answer.sse("x", 60.0, "y"),
    "event": lambda: Answer.sse("x", asyncio.Event(), "y"),
    "flow": lambda: Answer.sse("x", *[0.001, "y"] * 10_000),
    "endless": lambda: Answer(body=endless()),
    "before the head": lambda: Answer(framing="raw", end="hang"),
}


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("name", SILENT)
async def test_leaving_a_scripted_answer(emulator, name, leave):
    answer = SILENT[name]()
    emulator.script(answer)
    await leave_early(emulator, CHAT, leave, wait=answer.framing != "raw")


async def leave_early(server, body, leave, *, wait=True):
    async with dial(server) as (reader, writer):
        writer.write(request(body))
        seen = await server.wait_for_request()
        if wait:
            await reader.readuntil(b"\r\n\r\n")
        assert (server.open_requests, seen.fate) == ([seen], "open")
        if leave == "reset":
            reset(writer)
        else:
            writer.close()
        assert await server.wait_for_disconnect() is seen
    assert (seen.fate, server.disconnects) == ("disconnected", [seen])
    await server.wait_until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    "pace",
    [{"time_to_first_token": 60}, {"tokens_per_second": 100}, {"ping_every": 0.01}],
    ids=str,
)
async def test_leaving_a_generated_answer(pace, stream, leave):
    if "ping_every" in pace:
        pace |= {"time_to_first_token": 60}
    async with Emulator(mode="echo", **pace) as server:
        body = LONG | {"stream": stream}
        await leave_early(server, body, leave, wait=stream)
        assert server.open_streams == 0


async def test_leaving_a_stream_that_nobody_reads():
    async with Emulator(mode="echo") as server:
        body = CHAT | {"ignore_eos": True, "stream": True, "max_tokens": 4096, "n": 128}
        await leave_early(server, body, "reset")


async def test_leaving_at_the_end_is_not_early(emulator):
    async with dial(emulator) as (reader, writer):
        writer.write(request(CHAT | {"stream": True}))
        await reader.readuntil(b"[DONE]")
    await emulator.wait_until_idle()
    assert [seen.fate for seen in emulator.requests] == ["finished"]


async def test_back_pressure():
    """
    A client that does not read stops the generation.
    """
    words = {"messages": [{"role": "user", "content": f" {'x' * 2000}" * 100}]}
    async with Emulator(mode="echo") as server, dial(server) as (reader, writer):
        writer.transport.pause_reading()
        writer.write(request(CHAT | words | {"stream": True, "n": 128}))
        await server.wait_for_request()
        with pytest.raises(TimeoutError, match="1 requests .1 open"):
            await server.wait_until_idle(timeout=0.5)
        writer.transport.resume_reading()
        data = bytearray()
        while not data.endswith(b"0\r\n\r\n"):
            data += await reader.read(1 << 20)
        await server.wait_until_idle()
    assert data.count(b'"finish_reason":"stop"') == 128
    assert server.requests[0].fate == "finished"


async def test_closing_drops_everything(client):
    server = Emulator(mode="echo", time_to_first_token=60)
    await server.start()
    async with dial(server), dial(server) as (reader, writer):
        writer.write(request(CHAT))
        seen = await server.wait_for_request()
        await server.wait_until(lambda: server.open_connections == 2)
        await server.aclose()
        assert await reader.read() == b""
    assert (seen.fate, server.open_connections) == ("dropped", 0)
    with pytest.raises(OSError, match="refused|failed"):
        await asyncio.open_connection("127.0.0.1", server.port)
    await server.aclose()
    with pytest.raises(RuntimeError):
        await server.start()
    assert len(asyncio.all_tasks()) <= 2


async def test_serve_forever():
    server = Emulator(mode="echo")
    task = asyncio.create_task(serve_forever(server))
    await asyncio.sleep(0)
    while not server.port:
        await asyncio.sleep(0)
    assert await exchange(server, request(CHAT, connection="close"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.open_connections == 0


async def test_waiting_in_vain(emulator):
    with pytest.raises(TimeoutError, match="no 2 requests within 0.01 s; seen: 0 req"):
        await emulator.wait_for_request(2, timeout=0.01)
    with pytest.raises(TimeoutError, match="1 disconnects"):
        await emulator.wait_for_disconnect(timeout=0.01)


async def test_many_connections(emulator):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(200):
            await stack.enter_async_context(dial(emulator))
        await emulator.wait_until(lambda: emulator.open_connections == 200)
    await emulator.wait_until(lambda: emulator.open_connections == 0)


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
            b"HTTP/1.1 529 Unnamed\r\ncontent-type: application/json\r\n"
            b'retry-after: 1\r\ncontent-length: 11\r\n\r\n{"a":"\xe2\x80\xa8"}',
        ),
        (
            Answer.text("<p>", 502, "text/html", framing="close"),
            b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\n"
            b"connection: close\r\n\r\n<p>",
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
        with pytest.raises(ConnectionResetError):
            while True:
                await reader.readuntil(b"x\n\n")
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

    before = asyncio.Event()
    before.set()
    body = [lambda: b"one ", later, lambda: "three", lambda: None]
    emulator.script(Answer(body=body, before=[before, 0.001]))
    async with client.post(url(emulator), json=CHAT) as response:
        assert await response.read() == b"one two three"


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
    def fail():
        raise ZeroDivisionError

    server = Emulator(mode="echo")
    with pytest.raises(ZeroDivisionError):
        async with server:
            server.script(lambda seen: fail(), Answer(body=[b"x", fail]))
            async with client.post(url(server), json=CHAT) as response:
                assert response.status == 500
                assert "ZeroDivisionError" in await response.text()
            with pytest.raises(aiohttp.ClientPayloadError):
                async with client.post(url(server), json=CHAT) as response:
                    await response.read()
    assert len(server.errors) == 2


# Pace.


async def stream(client, server, body=CHAT):
    """
    The data lines of a stream, with the seconds since the request at which each came.
    """
    lines = []
    begin = time.monotonic()
    async with client.post(url(server), json=body | {"stream": True}) as response:
        async for line in response.content:
            if line.strip():
                lines.append((line.decode(), time.monotonic() - begin))
    return lines


async def test_time_to_first_token(client):
    async with Emulator(mode="echo", time_to_first_token=0.2) as server:
        (role, early), (first, late), *_ = await stream(client, server)
        assert "role" in role
        assert early < 0.2 <= late
        assert '"one"' in first
        begin = time.monotonic()
        async with client.post(url(server), json=CHAT) as response:
            await response.read()
        assert time.monotonic() - begin >= 0.2


async def test_tokens_per_second(client):
    async with Emulator(mode="echo", tokens_per_second=20) as server:
        lines = await stream(client, server, CHAT | {"n": 2})
        times = [at for line, at in lines if '"content":"' in line]
        assert times[-1] - times[2] >= 0.04  # one pause between the two words of each
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
    async with Emulator(mode="echo", newline="\r") as server:
        async with client.post(url(server), json=CHAT | {"stream": True}) as response:
            text = await response.text()
    assert text.endswith("data: [DONE]\r\r")
    assert "\n" not in text


async def test_an_unknown_mode():
    with pytest.raises(ValueError, match="ngram"):
        Emulator(mode="magic")
