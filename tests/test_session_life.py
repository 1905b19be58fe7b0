"""
A session's life: closing, other loops, other people's sessions.
"""

import asyncio
import gc
import ssl
import subprocess
import sys
import textwrap
import threading

from pathlib import Path

import aiohttp
import pytest

from aiohttp.http import HttpProcessingError

from horay_async._errors import (
    APIConnectionError,
    ClientClosedError,
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


# Closing ---------------------------------------------------------------------------


async def test_close_twice_and_use_after():
    """
    Twice is fine; use after it is a clear error, and so it is before any use.
    """
    async with serve(always(answer())) as server:
        session = new_session(server)
        await ask(session)
        await session.close()
        await session.close()
        assert session.closed
        await soon(server.peers[0].left.wait())
        with pytest.raises(ClientClosedError, match="closed"):
            await ask(session)
        unused = new_session(server)
        await unused.close()
        with pytest.raises(ClientClosedError, match="closed"):
            await ask(unused)


async def test_close_ends_what_is_open():
    """
    A body that is read, one in nobody's hands, a head that is awaited, a queue for a slot.
    """
    streaming = asyncio.Event()

    async def script(peer):
        request = await peer.request()
        if request.body != b"wait":
            peer.send(STREAM, chunk(b"a"))
        if len(server.requests) == 3:
            streaming.set()
        await peer.gone()

    async with serve(script) as server:
        session = new_session(server, max_connections=3)
        idle = await soon(session.exchange("POST", "/chat", body=b"1"))
        read = await soon(session.exchange("POST", "/chat", body=b"2"))
        assert await soon(read.read()) == b"a"
        reading = asyncio.create_task(read.read())
        heading = asyncio.create_task(session.exchange("POST", "/chat", body=b"wait"))
        await soon(streaming.wait())
        queueing = asyncio.create_task(session.exchange("POST", "/chat", body=b"4"))
        await until(lambda: session.stats().waiting == 1)
        await soon(session.close())
        for task in (reading, heading, queueing):
            with pytest.raises(ClientClosedError):
                await soon(task)
        for body in (idle, read):
            for _ in range(2):
                with pytest.raises(ClientClosedError):
                    await body.read()
        # Nobody has connected since: the next in the queue of connections is this one.
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await until(lambda: len(server.peers) > 3)
        writer.close()
        for peer in server.peers:
            await soon(peer.left.wait())
        assert len(server.peers) == 4


async def test_close_does_not_wait_for_what_is_unsent():
    """
    A server that has stopped reading could hold the connection for ever.
    """

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        reading.set()
        await asyncio.Event().wait()

    reading = asyncio.Event()

    async with serve(script) as server:
        session = new_session(server)
        huge = session.exchange("POST", "/chat", body=bytes(50_000_000))
        task = asyncio.create_task(huge)
        await soon(reading.wait())
        (protocol,) = session._http.connector._acquired
        await until(lambda: protocol.writing_paused)
        await soon(session.close())
        assert protocol._connection_lost_called
        with pytest.raises(ClientClosedError):
            await soon(task)


async def test_close_ends_a_queue():
    """
    For a slot that is not given back: its request still waits for an answer.
    """
    async with serve(once()) as server:
        session = new_session(server, max_connections=1)
        tasks = [asyncio.create_task(ask(session)) for _ in range(3)]
        await until(lambda: session.stats().waiting == 2 and server.requests)
        await soon(session.close())
        for task in tasks:
            with pytest.raises(ClientClosedError):
                await soon(task)
        assert len(server.peers) == 1


async def test_close_ends_a_connection_in_the_making():
    """
    TLS to a server that says nothing: close() does not leave it to its timeout.
    """

    async def script(peer):
        await peer.gone()

    async with serve(script) as server:
        session = Session(base_url=server.url.replace("http", "https"), headers={})
        task = asyncio.create_task(session.exchange("POST", "/chat", connect=None))
        await until(lambda: server.peers)
        await soon(session.close())
        with pytest.raises(ClientClosedError):
            await soon(task)
        await soon(server.peers[0].left.wait())


async def test_close_ends_a_lookup(monkeypatch):
    """
    Also when two wait for the same name.
    """
    asked = asyncio.Event()

    async def lookup(self, *args, **options):
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", lookup)
    session = Session(base_url="http://api.test:1/v1", headers={})
    tasks = [asyncio.create_task(session.exchange("GET", "/a")) for _ in range(2)]
    await soon(asked.wait())
    await asyncio.sleep(0)
    await soon(session.close())
    for task in tasks:
        with pytest.raises(ClientClosedError):
            await soon(task)


async def test_closing_does_not_swallow_a_cancellation():
    """
    Cancelled and closed at once: cancelled.
    """
    async with serve(once()) as server:
        session = new_session(server, max_connections=1)
        first = asyncio.create_task(ask(session))
        await until(lambda: server.requests)
        second = asyncio.create_task(ask(session))
        await until(lambda: session.stats().waiting == 1)
        second.cancel()
        await soon(session.close())
        with pytest.raises(asyncio.CancelledError):
            await soon(second)
        with pytest.raises(ClientClosedError):
            await soon(first)


async def test_close_while_it_opens(monkeypatch):
    """
    The certificates are still being read in their thread.
    """
    reading, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    create = ssl.create_default_context

    def slowly(**options):
        loop.call_soon_threadsafe(reading.set)
        go_on.wait(5)
        return create()

    monkeypatch.setattr("ssl.create_default_context", slowly)
    session = Session(base_url="https://127.0.0.1:1/v1", headers={}, ssl="ca.pem")
    task = asyncio.create_task(ask(session))
    await soon(reading.wait())
    await session.close()
    go_on.set()
    with pytest.raises(ClientClosedError):
        await soon(task)
    assert session._http is None


async def test_close_is_bounded(monkeypatch):
    """
    A transport that never says it is closed does not hold up the one who closes.
    """
    monkeypatch.setattr("horay_async._session.CLOSE_SECONDS", 0.01)

    async def forever(*args, **options):
        await asyncio.Event().wait()

    async with serve(always(answer())) as server:
        session = new_session(server)
        await ask(session)
        connector = session._http.connector
        monkeypatch.setattr("aiohttp.connector._wait_for_close", forever)
        await soon(session.close())
        assert connector.closed
        await soon(server.peers[0].left.wait())


# Loops -----------------------------------------------------------------------------


async def test_another_loop_is_refused_while_the_first_is_open():
    """
    To send, and to close.
    """
    async with serve(always(answer())) as server:
        session = new_session(server)
        await ask(session)

        def elsewhere(what):
            with pytest.raises(WrongLoopError, match="another event loop"):
                asyncio.run(what())

        await asyncio.to_thread(elsewhere, lambda: ask(session))
        await asyncio.to_thread(elsewhere, session.close)
        assert await ask(session) == b"{}"
        await session.close()


SCRIPT = """
    import asyncio, gc, sys
    sys.path.insert(0, {tests!r})
    from loopback import STREAM, chunk, threaded
    from horay_async._session import Session

    session, kept = None, []

    async def main(port, whole):
        global session
        url = f"http://127.0.0.1:{{port}}"
        session = session or Session(base_url=url, headers={{}})
        session._base = url
        body = await session.exchange("POST", "/chat", body=b"{{}}")
        assert await body.read() == b"a"
        kept.append(body)
        assert session.stats().open == 1

    async def end():
        await session.close()

    def run(coroutine):
        {run}

    with threaded(STREAM + chunk(b"a")) as open, threaded(STREAM + chunk(b"a") + chunk(b"")) as whole:
        for port in (whole, open, whole, open):
            run(main(port, port == whole))
            if port == whole:
                kept.clear()
            gc.collect()
        kept.clear()
        gc.collect()
        run(end())
        session = None
        gc.collect()
        print("quiet")
"""

RUNS = {
    "asyncio.run": "asyncio.run(coroutine)",
    "loop.close": """
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(coroutine)
        finally:
            loop.close()""",
    "uvloop": """
        import uvloop
        uvloop.run(coroutine)""",
}


@pytest.mark.parametrize("run", RUNS)
def test_one_loop_after_the_other(run):
    """
    Repeated `asyncio.run` without a close between: it starts anew, and nothing warns.

    Not even in a process of its own that makes errors of all warnings, with bodies left
    open and collected when their loop is long closed.
    """
    if run == "uvloop":
        pytest.importorskip("uvloop")
    tests = str(Path(__file__).parent)
    script = textwrap.dedent(SCRIPT).format(run=RUNS[run], tests=tests)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("quiet\n", "")


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("keep", [True, False])
def test_a_loop_that_was_closed(read, keep):
    """
    The next loop starts anew: idle connections, open bodies and waiters of the old one are
    forgotten, their sockets closed.
    """
    session, bodies, transports, waiting = None, [], [], []

    async def main():
        nonlocal session
        if session is None:
            session = Session(base_url=url, headers={}, max_connections=2)
        for _ in range(2):
            body = await soon(session.exchange("POST", "/chat"))
            assert await soon(body.read()) == b"a"
            bodies.append(body)
        await until(lambda: all(body.at_end for body in bodies[-2:]) == read)
        connector = session._http.connector
        transports.extend(one.transport for one in connector._protocols())
        assert session.stats().open == 2 - read
        if not read:
            waiting.append(asyncio.ensure_future(session.exchange("POST", "/chat")))
            waiting.append(asyncio.ensure_future(bodies[-1].read()))
            await until(lambda: session.stats().waiting == 1)

    with threaded(STREAM + chunk(b"a") + (chunk(b"") if read else b"")) as port:
        url = f"http://127.0.0.1:{port}"
        for number in range(1, 4):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
            assert len(transports) == number * (2 - read)
            if not keep:
                if number == 1:
                    bodies[0].drop()
                bodies.clear()
                gc.collect()
        asyncio.run(session.close())
        assert all(one.get_extra_info("socket").fileno() == -1 for one in transports)
    bodies.clear()
    for task in waiting:
        # It was never to run again, and says so.
        task._log_destroy_pending = False
        task.get_coro().close()
    gc.collect()


# Forgotten -------------------------------------------------------------------------


async def test_forgotten_in_a_running_loop():
    """
    A warning says so, and the connections close.
    """
    async with serve(always(answer())) as server:
        session = new_session(server)
        await ask(session)
        with pytest.warns(ResourceWarning, match=r"a client for 127.* was not closed"):
            del session
            gc.collect()
        await soon(server.peers[0].left.wait())


def test_forgotten_with_its_loop():
    """
    The loop ended in the middle of things: a warning, and no socket is left.
    """
    with threaded(answer()) as port:
        session = Session(base_url=f"http://127.0.0.1:{port}", headers={})
        loop = asyncio.new_event_loop()
        loop.run_until_complete(ask(session))
        (protocol,) = session._http.connector._protocols()
        transport = protocol.transport
        loop.close()
        with pytest.warns(ResourceWarning, match=r"a client for 127.* was not closed"):
            del session
            gc.collect()
        assert transport.get_extra_info("socket").fileno() == -1


def test_forgotten_after_asyncio_run():
    """
    The run has closed everything, so there is nothing to say.
    """
    with threaded(answer()) as port:
        session = Session(base_url=f"http://127.0.0.1:{port}", headers={})
        asyncio.run(ask(session))
        assert session._http.closed
        assert session.stats().open == 0
        del session
        gc.collect()


@pytest.mark.parametrize(
    "told",
    [
        UnicodeError("label empty or too long"),
        RuntimeError("coroutine raised StopIteration"),
        aiohttp.EofStream(),
        HttpProcessingError(code=400, message="odd"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_is_raised_below(told, monkeypatch):
    """
    It is our error, and can be tried again.
    """

    async def fail(*_, **__):
        raise told

    async with serve(always(answer())) as server:
        session = Session(base_url=server.url, headers={})
        await session._open()
        monkeypatch.setattr(session._http, "request", fail)
        with pytest.raises(APIConnectionError) as caught:
            await session.exchange("POST", "/chat")
        assert caught.value.__context__ is None
        await session.close()


async def test_an_error_of_ours_from_below(monkeypatch):
    """
    Such pass as they are, though some are RuntimeErrors.
    """

    async def fail(*_, **__):
        raise WrongLoopError("of ours")

    async with serve(always(answer())) as server:
        session = Session(base_url=server.url, headers={})
        await session._open()
        monkeypatch.setattr(session._http, "request", fail)
        with pytest.raises(WrongLoopError, match="of ours"):
            await session.exchange("POST", "/chat")
        await session.close()


def test_a_loop_that_winds_up():
    """
    What it has closed is not asked; on another loop the session begins anew.
    """
    with threaded(answer()) as port:
        session = Session(base_url=f"http://127.0.0.1:{port}/v1", headers={})

        async def ask_twice():
            await (await session.exchange("POST", "/chat")).read_all(100)
            await asyncio.get_running_loop().shutdown_asyncgens()
            with pytest.raises(ClientClosedError, match="is being shut down"):
                await session.exchange("POST", "/chat")

        async def ask_once():
            await (await session.exchange("POST", "/chat")).read_all(100)
            await session.close()

        asyncio.run(ask_twice())
        asyncio.run(ask_once())


async def test_a_borrowed_session_closed_by_its_owner():
    """
    Who waits for a slot in it hears why, and is not cancelled.
    """
    async with (
        serve(once(STREAM)) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http,
    ):
        session = new_session(server, session=http)
        body = await session.exchange("POST", "/chat")
        waiting = asyncio.create_task(session.exchange("POST", "/chat"))
        await until(lambda: session.stats().waiting)
        await http.close()
        with pytest.raises(ClientClosedError, match="given as session= is closed"):
            await soon(waiting)
        body.drop()
        await session.close()
