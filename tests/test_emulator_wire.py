"""
What the emulator does with connections: keeps them, drops them, sees them go.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import struct

import aiohttp
import pytest

from dialling import BOUND, CHAT, dial, request, url
from horay_async.emulator import Answer, Emulator, serve_forever


LONG = CHAT | {"messages": [{"role": "user", "content": "word " * 1000}]}


@pytest.fixture
async def client(anyio_backend):
    headers = {"authorization": "Bearer key"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session


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
    headers = {"expect": "100-continue", "transfer_encoding": "chunked"}
    whole = request(CHAT, content_length=None, **headers)
    head, _, body = whole.partition(b"\r\n\r\n")
    async with dial(emulator) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        # It is told once, however slowly it goes on.
        for byte in b"%x\r\n" % len(body):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        writer.write(body + b"\r\n0\r\n\r\n")
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
        for _ in range(16):
            writer.write(b"x" * 500_000)
            await writer.drain()
        assert (await reader.read()).endswith(b'bytes"')  # and no reset


async def test_a_refused_client_that_stays_is_dropped(emulator, monkeypatch):
    monkeypatch.setattr("horay_async.emulator._connection._LINGER", 0.01)
    async with dial(emulator) as (_, writer):
        writer.write(b"nonsense\r\n\r\n")
        await emulator.wait_until(lambda: emulator.connections == 1)
        await emulator.wait_until(lambda: emulator.open_connections == 0)


async def test_a_flood_of_requests_is_dropped(emulator):
    emulator.script(Answer(framing="raw", end="hang"))
    async with dial(emulator) as (_, writer):
        writer.write(request(CHAT))
        await emulator.wait_for_request()
        writer.write(b"x" * (2 << 20))
        await emulator.wait_for_disconnect()
        await emulator.wait_until(lambda: emulator.open_connections == 0)


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
    "endless nothing": lambda: Answer(body=itertools.repeat(lambda: None)),
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


async def test_leaving_is_not_logged(client, caplog):
    """
    A client that leaves in the middle of a stream is no news: nothing is written after it.
    """
    body = CHAT | {"ignore_eos": True, "stream": True, "max_tokens": 400}
    async with Emulator() as server:

        async def begin():
            async with client.post(url(server), json=body) as response:
                await response.content.readline()
                response.close()

        await asyncio.gather(*[begin() for _ in range(5)])
        await server.wait_until_idle()
    assert "socket.send() raised exception." not in caplog.messages


async def test_leaving_at_the_end_is_not_early(emulator):
    async with dial(emulator) as (reader, writer):
        writer.write(request(CHAT | {"stream": True}))
        await reader.readuntil(b"[DONE]")
    await emulator.wait_until_idle()
    assert [seen.fate for seen in emulator.requests] == ["finished"]


async def test_a_long_answer_holds_up_nobody(client, emulator):
    long = {"ignore_eos": True, "n": 128, "max_tokens": 4096}
    async with dial(emulator) as (_, writer):
        writer.write(request(CHAT | long))
        first = await emulator.wait_for_request()
        async with client.get(emulator.base_url + "/models") as response:
            assert response.status == 200
        assert first.fate == "open"


async def test_back_pressure():
    """
    A client that does not read stops the generation.
    """
    words = {"messages": [{"role": "user", "content": f" {'x' * 2000}" * 100}]}
    async with Emulator(mode="echo") as server, dial(server) as (reader, writer):
        writer.transport.pause_reading()
        writer.write(request(CHAT | words | {"stream": True, "n": 128}))
        await server.wait_for_request()
        with pytest.raises(TimeoutError, match=r"1 request \(1 open"):
            await server.wait_until_idle(timeout=0.5)
        writer.transport.resume_reading()
        data = bytearray()
        while not data.endswith(b"0\r\n\r\n"):
            data += await reader.read(1 << 20)
        await server.wait_until_idle()
    assert data.count(b'"finish_reason":"stop"') == 128
    assert server.requests[0].fate == "finished"


async def test_closing_drops_everything():
    server = Emulator(mode="echo", time_to_first_token=60)
    await server.aclose()  # nothing to do yet
    await server.start()
    async with dial(server), dial(server) as (reader, writer):
        writer.write(request(CHAT))
        seen = await server.wait_for_request()
        await server.wait_until(lambda: server.open_connections == 2)
        await server.aclose()
        assert await reader.read() == b""
    assert (seen.fate, server.open_connections) == ("dropped", 0)
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection("127.0.0.1", server.port)
    await server.aclose()
    with pytest.raises(RuntimeError):
        await server.start()
    assert len(asyncio.all_tasks()) <= 2


async def test_serve_forever():
    server = Emulator(mode="echo")
    task = asyncio.create_task(serve_forever(server))
    await asyncio.sleep(0)
    await server.wait_until(lambda: server.started)
    assert await exchange(server, request(CHAT, connection="close"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.open_connections == 0


async def test_waiting_in_vain(emulator):
    with pytest.raises(TimeoutError, match=r"no 2 requests within 0.01 s; seen: 0"):
        await emulator.wait_for_request(2, timeout=0.01)
    with pytest.raises(TimeoutError, match="1 disconnects"):
        await emulator.wait_for_disconnect(timeout=0.01)


async def test_many_connections(emulator):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(200):
            await stack.enter_async_context(dial(emulator))
        await emulator.wait_until(lambda: emulator.open_connections == 200)
    await emulator.wait_until(lambda: emulator.open_connections == 0)
