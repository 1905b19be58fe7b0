"""
The pool: what is reused and what is not, how long it takes, what aiohttp leaves open.
"""

import asyncio
import contextlib
import math
import os
import select
import socket

import pytest

from aiohttp.http import HttpProcessingError
from aiohttp.http_parser import HttpResponseParserPy

from horay_async._connector import Trip
from horay_async._errors import (
    ConnectTimeoutError,
    PoolTimeoutError,
)
from horay_async._protocol import MAX_INTERIM, PIECE, Protocol, has_begun
from horay_async._session import Session
from loopback import (
    PATIENCE,
    STREAM,
    always,
    answer,
    chunk,
    head,
    once,
    serve,
    soon,
    until,
)


pytestmark = pytest.mark.uvloop

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@contextlib.asynccontextmanager
async def session_for(server, **options):
    """
    A session that must leave nothing behind.
    """
    session = Session(base_url=server.url, headers={}, **options)
    try:
        yield session
    finally:
        await session.close()
        assert session.stats().open == 0


async def ask(session, **options):
    """
    One whole exchange.
    """
    body = await soon(session.exchange("POST", "/chat", body=b"{}", **options))
    return body, await soon(body.read_all(1 << 20))


# Checked reuse ---------------------------------------------------------------------


STRAY = {
    "an answer": answer(b'"stray"'),
    "half an answer": answer(b'"stray"')[:-3],
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a bad head": b"HTTP/1.1 200 OK\r\nSec-WebSocket-Key1: 1",
    "half a line": b"HTTP/1.",
    "one byte": b"H",
    "bytes": b"\x00\xff\x17stray",
    "a line": b"stray\r\n\r\n",
    "a chunk": chunk(b"stray"),
}


@pytest.mark.parametrize("kind", STRAY)
@pytest.mark.parametrize("how", ["with the answer", "read", "not read yet"])
async def test_stray_bytes_are_never_the_next_answer(kind, how):
    """
    Wherever they are when the connection is wanted: parser, protocol or socket.
    """
    stray = STRAY[kind]
    numbers = iter(range(100))

    async def script(peer):
        while True:
            await peer.request()
            extra = stray if how == "with the answer" else b""
            peer.send(answer(b"%d" % next(numbers)), extra)

    async with serve(script) as server, session_for(server) as session:
        for number in range(3):
            body, content = await ask(session)
            assert (body.status, content) == (200, b"%d" % number)
            if how != "with the answer":
                # Not by the transport: on return, the bytes are in the other socket.
                os.write(_fileno(server.peers[-1].writer), stray)
            if how == "read":
                (protocol,) = _idle(session)
                await until(lambda protocol=protocol: not _has_news(protocol))
        assert len(server.peers) == 3


@pytest.mark.parametrize("kind", STRAY)
async def test_stray_bytes_in_the_parser_that_is_written_in_python(kind):
    """
    aiohttp takes it where its wheel brings no other. Some bytes it refuses by itself.
    """
    protocol = Protocol(asyncio.get_running_loop())
    parser = HttpResponseParserPy(protocol, protocol._loop, 1 << 16)
    protocol._parser = parser
    assert not has_begun(protocol)
    try:
        messages, _, _ = parser.feed_data(STRAY[kind])
    except HttpProcessingError:
        return
    assert messages or has_begun(protocol)


async def test_an_empty_line_too_many():
    """
    Some servers end every answer with one. It cannot be mistaken, nor is it worth a
    connection once it is read.
    """
    async with serve(always(answer() + b"\r\n")) as server:
        async with session_for(server) as session:
            for _ in range(3):
                assert (await ask(session))[1] == b"{}"
        assert len(server.peers) == 1


@pytest.mark.parametrize("read", [True, False])
async def test_an_ended_connection_is_not_reused(read):
    """
    Not even when its FIN has come and the loop has not read it.
    """
    async with serve(always(answer())) as server, session_for(server) as session:
        await ask(session)
        (protocol,) = _idle(session)
        with socket.socket(fileno=os.dup(_fileno(server.peers[0].writer))) as sock:
            sock.shutdown(socket.SHUT_WR)
        if read:
            await until(lambda: not protocol.is_connected())
        body, _ = await ask(session)
        assert not body.reused
        assert len(server.peers) == 2


def _fileno(transport):
    return transport.get_extra_info("socket").fileno()


def _idle(session):
    return [one for pool in session._http.connector._conns.values() for one, _ in pool]


def _has_news(protocol):
    return (
        protocol.is_connected()
        and select.select([_fileno(protocol.transport)], [], [], 0)[0]
    )


async def test_an_answer_that_closes_is_not_kept():
    """
    `Connection: close` is believed.
    """
    script = always(answer(headers=["Connection: close"]))
    async with serve(script) as server, session_for(server) as session:
        for _ in range(2):
            assert not (await ask(session))[0].reused
            assert session.stats().open == 0
        assert len(server.peers) == 2


async def test_a_new_connection_survives_a_spoilt_one():
    """
    Of two idle ones only the spoilt one goes.
    """
    gate = asyncio.Event()

    async def script(peer):
        while True:
            await peer.request()
            await gate.wait()
            peer.send(answer())

    async with serve(script) as server, session_for(server) as session:
        both = [asyncio.create_task(ask(session)) for _ in range(2)]
        await until(lambda: len(server.requests) == 2)
        gate.set()
        await asyncio.gather(*both)
        assert session.stats().open == 2
        first = _idle(session)[0].transport.get_extra_info("sockname")
        for peer in server.peers:
            if peer.writer.get_extra_info("peername") == first:
                os.write(_fileno(peer.writer), b"H")
        body, _ = await ask(session)
        assert body.reused
        assert session.stats().open == 1
        assert len(server.peers) == 2


# Time ------------------------------------------------------------------------------


async def test_the_pool_ran_out():
    """
    The error says that it was the pool, how large it is, and how long it took.
    """
    async with (
        serve(once(STREAM)) as server,
        session_for(server, max_connections=2) as session,
    ):
        bodies = [await session.exchange("POST", "/chat") for _ in range(2)]
        with pytest.raises(PoolTimeoutError) as caught:
            await session.exchange("POST", "/chat", connect=0.15)
        assert "all 2 connections are in use; waited 0." in str(caught.value)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.clock == "connect"
        assert caught.value.pool > 0.1
        assert caught.value.connect == 0.0
        assert caught.value.__cause__ is None
        for body in bodies:
            body.drop()
        stats = session.stats()
        assert (stats.in_use, stats.waiting, stats.limit) == (0, 0, 2)


@pytest.mark.parametrize("keep", [True, False])
async def test_a_wait_for_a_slot_is_seen(keep):
    """
    And ends with the connection that somebody returned, or with a new one.
    """

    async def script(peer):
        await peer.request()
        peer.send(STREAM, chunk(b"a"))
        await finish.wait()
        peer.send(chunk(b""))
        await peer.request()
        peer.send(answer())

    finish = asyncio.Event()
    clock = asyncio.get_running_loop().time
    async with (
        serve(script) as server,
        session_for(server, max_connections=1) as session,
    ):
        body = await session.exchange("POST", "/chat")
        waiting = asyncio.create_task(session.exchange("POST", "/chat"))
        await until(lambda: session.stats().waiting)
        began = clock()
        await until(lambda: clock() > began + 0.02)
        finish.set()
        if keep:
            assert await soon(body.drain(PATIENCE))
        else:
            body.drop()
        second = await soon(waiting)
        assert second.pool > 0.01
        assert second.reused == keep
        assert (second.connect == 0) == keep
        second.drop()
        assert len(server.peers) == 1 + (not keep)


async def test_no_connection_in_time():
    """
    TLS that never answers: the other timeout, with the time that each part took.
    """

    async def script(peer):
        await peer.gone()

    async with serve(script) as server:
        session = Session(base_url=server.url.replace("http", "https"), headers={})
        with pytest.raises(ConnectTimeoutError) as caught:
            await session.exchange("POST", "/chat", connect=0.15)
        place = f"127.0.0.1:{server.port}"
        assert str(caught.value).startswith(f"no connection to {place} within 0.")
        assert (caught.value.reused, caught.value.answered) == (False, False)
        assert caught.value.connect > 0.1 > caught.value.pool
        await soon(server.peers[0].left.wait())
        assert session.stats().open == 0
        await session.close()


@pytest.mark.parametrize("connect", [0, -1.0])
async def test_no_time_at_all(connect):
    """
    What a deadline leaves may be nothing; aiohttp would take that for no limit.
    """
    async with (
        serve(once(STREAM)) as server,
        session_for(server, max_connections=1) as session,
    ):
        body = await session.exchange("POST", "/chat")
        with pytest.raises(PoolTimeoutError):
            await soon(session.exchange("POST", "/chat", connect=connect))
        body.drop()


@pytest.mark.parametrize("connect", [None, math.inf])
async def test_no_limit(connect):
    """
    None and infinity are the same, and no timeout of aiohttp's is left.
    """
    trip = Trip(connect)
    assert (trip.connect, trip.total, trip.sock_read, trip.sock_connect) == (None,) * 4
    async with serve(always(answer())) as server, session_for(server) as session:
        await ask(session, connect=connect)


def test_a_trip_that_knows_nothing():
    """
    In a borrowed session's pool nobody takes the time.
    """
    trip = Trip(10)
    assert (trip.times(), trip.answered) == ((0.0, 0.0, False), False)
    assert trip.ceil_threshold == math.inf


async def test_sockets_stay_alive():
    """
    TCP keep-alive for answers that take minutes to begin, and no delay for small packets.
    """
    async with serve(once(STREAM)) as server, session_for(server) as session:
        body = await session.exchange("POST", "/chat")
        sock = body._response.connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        body.drop()


# Floods ----------------------------------------------------------------------------


EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"


@pytest.mark.parametrize("flood", [EMPTY, SHORT, answer(), head(*["A: b"] * 60)])
@pytest.mark.parametrize("first", [answer(), EMPTY])
async def test_an_idle_connection_that_speaks(flood, first):
    """
    It is closed at the first byte: nobody reads what nobody has asked for.
    """
    begin = asyncio.Event()

    async def script(peer):
        await peer.request()
        peer.send(first)
        await begin.wait()
        peer.watch()
        while not peer.left.is_set():
            peer.send(flood * 100)
            await peer.writer.drain()
            await asyncio.sleep(0)

    async with serve(script) as server, session_for(server) as session:
        await ask(session)
        (protocol,) = _idle(session)
        begin.set()
        await soon(server.peers[0].left.wait())
        assert not protocol.is_connected()
        assert len(protocol) == 0


class Counted(Protocol):
    """
    How many messages the parser has found.
    """

    found = 0

    def feed_data(self, data, size=0):
        self.found += 1
        super().feed_data(data, size)


class Open(asyncio.Transport):
    """
    A transport that only knows whether it is open.
    """

    def __init__(self):
        super().__init__()
        self.closing = False

    def is_closing(self):
        return self.closing

    def abort(self):
        self.closing = True

    close = abort


def _listening():
    protocol = Counted(asyncio.get_running_loop())
    protocol.connection_made(Open())
    protocol.set_response_params()
    protocol.depart()
    return protocol


LF_ONLY = b"HTTP/1.1 100 Continue\n\n"


@pytest.mark.parametrize(
    ("block", "most"),
    [
        (INTERIM * 10_000, MAX_INTERIM + 1),
        (LF_ONLY * 10_000, MAX_INTERIM + 1),
        (EMPTY * 6000, 1),
        (SHORT * 6000, 1 + PIECE // len(SHORT)),
    ],
    ids=["interim", "lines end in LF", "empty", "short"],
)
async def test_a_flood_in_one_block(block, most):
    """
    Not all that one read of the socket brings is parsed before somebody else has a turn.
    """
    protocol = _listening()
    protocol.data_received(block)
    assert protocol.found <= most
    assert protocol.transport.is_closing()
    assert len(protocol) == (block[9:12] == b"200")


async def test_interim_answers_are_counted_anew():
    """
    For each request on a connection that is kept.
    """
    protocol = _listening()
    for _ in range(3):
        protocol.data_received(INTERIM * MAX_INTERIM + SHORT)
        assert not protocol.transport.is_closing()
        assert len(protocol) == MAX_INTERIM + 1
        for _ in range(MAX_INTERIM + 1):
            await protocol.read()
        protocol.depart()


async def test_a_body_in_pieces():
    """
    However large the blocks are in which it comes.
    """
    body = bytes(range(256)) * 1000
    async with (
        serve(always(answer(body) + b"\r\n")) as server,
        session_for(server) as session,
    ):
        for _ in range(2):
            assert (await ask(session))[1] == body
