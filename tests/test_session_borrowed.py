"""
A session over somebody else's aiohttp session.
"""

import asyncio

import aiohttp
import pytest

from horay_async._errors import (
    APIConnectionError,
    ClientClosedError,
    ConnectTimeoutError,
    WrongLoopError,
)
from horay_async._session import Session
from loopback import STREAM, always, answer, chunk, once, serve, soon, threaded, until


pytestmark = pytest.mark.uvloop


def new_session(server, **options):
    """
    A session for a server, with no headers of its own.
    """
    return Session(base_url=server.url, headers={}, **options)


async def ask(session):
    """
    One whole exchange.
    """
    body = await soon(session.exchange("POST", "/chat", body=b"{}"))
    return await soon(body.read_all(1 << 20))


async def test_a_borrowed_session_is_used_as_it_is():
    """
    Its headers and its pool, but not its timeouts or its way with redirects.
    """
    replies = iter(
        [
            answer(b"", status="302 Found", headers=["Location: /"]),
            answer(b"", status="500 Oh"),
        ]
    )

    async def script(peer):
        for reply in replies:
            await peer.request()
            peer.send(reply)
        await peer.gone()

    async with (
        serve(script) as server,
        aiohttp.ClientSession(
            headers={"X-Theirs": "1"},
            raise_for_status=True,
            timeout=aiohttp.ClientTimeout(total=1e-9),
        ) as theirs,
    ):
        session = new_session(server, session=theirs)
        for status in (302, 500):
            body = await session.exchange("POST", "/chat", body=b"{}")
            assert (body.status, body.reused) == (status, False)
            assert await body.read_all(10) == b""
        assert session.stats().limit == 100
        await session.close()
        assert not theirs.closed
        assert len(theirs.connector._conns) == 1
        with pytest.raises(ClientClosedError):
            await ask(session)
    assert server.requests[0].headers["x-theirs"] == "1"


async def test_drop_on_a_borrowed_session():
    """
    It does not wait for a server that has stopped reading.
    """

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.send(STREAM)
        peer.writer.transport.pause_reading()
        await asyncio.Event().wait()

    async with serve(script) as server, aiohttp.ClientSession() as theirs:
        session = new_session(server, session=theirs)
        huge = bytes(50_000_000)
        body = await soon(session.exchange("POST", "/chat", body=huge))
        protocol = body._response.connection.protocol
        await until(lambda: protocol.writing_paused)
        body.drop()
        await until(lambda: protocol._connection_lost_called)


async def test_our_bodies_on_a_borrowed_session_close_with_us():
    """
    They are ours, though the session is not.
    """
    async with (
        serve(once(STREAM, chunk(b"a"))) as server,
        aiohttp.ClientSession() as theirs,
    ):
        session = new_session(server, session=theirs)
        body = await session.exchange("POST", "/chat")
        assert await body.read() == b"a"
        await session.close()
        await soon(server.peers[0].left.wait())
        with pytest.raises(ClientClosedError):
            await body.read()
        assert not theirs.closed


async def test_a_borrowed_session_that_is_closed():
    """
    The error says whose it is; before the first use and after.
    """
    async with serve(always(answer())) as server:
        async with aiohttp.ClientSession() as theirs:
            session = new_session(server, session=theirs)
            await ask(session)
        for one in (session, new_session(server, session=theirs)):
            with pytest.raises(ClientClosedError, match="session="):
                await ask(one)


async def test_a_borrowed_session_of_another_loop():
    """
    It cannot work here.
    """
    async with aiohttp.ClientSession() as theirs:
        session = Session(base_url="http://127.0.0.1:1/v1", headers={}, session=theirs)

        def elsewhere():
            with pytest.raises(WrongLoopError, match="session="):
                asyncio.run(ask(session))

        await asyncio.to_thread(elsewhere)


def test_a_borrowed_session_whose_loop_is_closed():
    """
    It cannot be made anew here.
    """

    async def main():
        nonlocal session
        async with aiohttp.ClientSession() as theirs:
            session = Session(base_url=url, headers={}, session=theirs)
            await ask(session)

    session = None
    with threaded(answer()) as port:
        url = f"http://127.0.0.1:{port}"
        asyncio.run(main())
        with pytest.raises(WrongLoopError, match="session="):
            asyncio.run(ask(session))


async def test_a_borrowed_session_reports_errors_like_ours():
    """
    As far as can be known from outside its pool.
    """
    spoil = asyncio.Event()

    async def script(peer):
        await peer.request()
        peer.send(STREAM, chunk(b"a"))
        await spoil.wait()
        peer.send(b"zz\r\n")

    async with serve(script) as server, aiohttp.ClientSession() as theirs:
        session = new_session(server, session=theirs)
        body = await session.exchange("POST", "/chat")
        assert await body.read() == b"a"
        spoil.set()
        await until(lambda: not body._content._protocol.connected)
        with pytest.raises(APIConnectionError, match="broke: connection closed"):
            await soon(body.read())


async def test_a_borrowed_session_times_out_like_ours():
    """
    A full pool of theirs is a connection that did not come in time.
    """
    async with (
        serve(once(STREAM)) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as theirs,
    ):
        session = new_session(server, session=theirs)
        body = await session.exchange("POST", "/chat")
        with pytest.raises(ConnectTimeoutError, match="no connection to"):
            await session.exchange("POST", "/chat", connect=0.01)
        body.drop()
