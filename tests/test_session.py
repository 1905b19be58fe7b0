"""
One exchange, the pool, and the session's life.
"""

import asyncio
import contextlib
import gc
import traceback

import pytest

from horay_async._errors import (
    APIConnectionError,
)
from horay_async._session import Session
from horay_async._values import Secret
from loopback import STREAM, always, answer, chunk, head, once, serve, soon, until


pytestmark = pytest.mark.uvloop

KEY = "sk-do-not-show-me"


@contextlib.asynccontextmanager
async def session_for(server, **options):
    """
    A session that must leave nothing behind.
    """
    session = Session(
        base_url=server.url, headers=options.pop("headers", {}), **options
    )
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


# What is sent ----------------------------------------------------------------------


async def test_a_plain_request_on_the_wire():
    """
    Path as it stands, queries merged, the body as JSON, our headers, and no others' idea.
    """
    async with serve(always(answer(b'{"a":1}'))) as server:
        headers = {
            "Authorization": Secret(f"Bearer {KEY}"),
            "User-Agent": "horay-async/1",
        }
        async with session_for(server, headers=headers, query={"v": "1"}) as session:
            body = await session.exchange(
                "POST",
                "/chat/a%2Fb",
                body=b'{"prompt":"hi"}',
                query={"w": "2"},
                headers={"X-Mine": "yes"},
            )
            assert await body.read_all(100) == b'{"a":1}'
    (request,) = server.requests
    assert request.line == "POST /v1/chat/a%2Fb?v=1&w=2 HTTP/1.1"
    assert request.body == b'{"prompt":"hi"}'
    assert request.headers == {
        "host": f"127.0.0.1:{server.port}",
        "accept": "application/json",
        "accept-encoding": request.headers["accept-encoding"],
        "content-type": "application/json",
        "content-length": "15",
        "authorization": f"Bearer {KEY}",
        "user-agent": "horay-async/1",
        "x-mine": "yes",
    }
    assert "gzip" in request.headers["accept-encoding"]


async def test_a_body_of_megabytes():
    """
    Images travel inside prompts: it arrives whole, and nothing warns.
    """
    huge = b"[" + b"1," * 1_500_000 + b"1]"
    async with (
        serve(always(answer()), limit=1 << 24) as server,
        session_for(server) as session,
    ):
        body = await soon(session.exchange("POST", "/chat", body=huge))
        await body.read_all(100)
    assert server.requests[0].headers["content-length"] == str(len(huge))
    assert server.requests[0].body == huge


async def test_a_stream_asks_for_events_uncompressed():
    """
    gzip would hold tokens back.
    """
    async with serve(always(answer())) as server, session_for(server) as session:
        await ask(session, stream=True)
    assert server.requests[0].headers["accept"] == "text/event-stream"
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_get_has_no_content_type():
    """
    Nothing is sent, so nothing is described.
    """
    async with serve(always(answer())) as server, session_for(server) as session:
        body = await session.exchange("GET", "/models")
        await body.read_all(100)
    assert server.requests[0].line == "GET /v1/models HTTP/1.1"
    assert "content-type" not in server.requests[0].headers


async def test_the_callers_headers_win():
    """
    Over the session's, whatever the case of their names; the session's over ours.
    """
    ours = {"accept": "a/b", "X-A": "1"}
    async with (
        serve(always(answer())) as server,
        session_for(server, headers=ours) as session,
    ):
        await ask(session)
        await ask(session, headers={"x-a": "2"})
    assert [request.headers["accept"] for request in server.requests] == ["a/b", "a/b"]
    assert [request.headers["x-a"] for request in server.requests] == ["1", "2"]


# What comes back -------------------------------------------------------------------


async def test_a_hundred_exchanges_share_a_connection():
    """
    And all but the first know it.
    """
    async with serve(always(answer())) as server, session_for(server) as session:
        bodies = [(await ask(session))[0] for _ in range(100)]
        assert len(server.peers) == 1
        assert [body.reused for body in bodies] == [False, *[True] * 99]
        assert bodies[0].connect > 0
        assert {body.connect for body in bodies[1:]} == {0.0}
        assert all(body.pool >= 0 for body in bodies)
        stats = session.stats()
        assert (stats.open, stats.in_use, stats.waiting) == (1, 0, 0)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Content-Type: Text/Event-Stream ; charset=utf-8", "text/event-stream"),
        ("Content-Type: application/json", "application/json"),
        ("X-Other: 1", ""),
    ],
)
async def test_the_head_of_an_answer(header, expected):
    """
    Status, reason, headers by any case, the bare content type.
    """
    script = always(head(header, "Content-Length: 0", status="429 Slow down"))
    async with serve(script) as server, session_for(server) as session:
        body, content = await ask(session)
    assert (body.status, body.reason, content) == (429, "Slow down", b"")
    assert body.content_type == expected
    assert body.headers["content-LENGTH"] == "0"


async def test_a_redirect_is_an_answer_and_not_followed():
    """
    It would send the prompt, and perhaps the key, elsewhere.
    """
    location = "Location: /v1/elsewhere"
    script = always(answer(b"", status="307 Temporary Redirect", headers=[location]))
    async with serve(script) as server, session_for(server) as session:
        body, _ = await ask(session)
    assert body.status == 307
    assert len(server.requests) == 1


async def test_a_cookie_does_not_come_back():
    """
    Whoever set it.
    """
    script = always(answer(headers=["Set-Cookie: spy=1; Path=/"]))
    async with serve(script) as server:
        # aiohttp's own jar keeps cookies for names only.
        session = Session(base_url=f"http://localhost:{server.port}/v1", headers={})
        await ask(session)
        await ask(session)
        await session.close()
    assert len(server.requests) == 2
    assert not any("cookie" in request.headers for request in server.requests)


async def test_an_interim_answer_is_skipped():
    """
    103 Early Hints, then the answer.
    """
    script = always(head(status="103 Early Hints") + answer(b"[]"))
    async with serve(script) as server, session_for(server) as session:
        body, content = await ask(session)
    assert (body.status, content) == (200, b"[]")


# What goes wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "ending", "answered", "words"),
    [
        ([], "close", False, "hung up before it answered"),
        ([], "reset", False, "reset by peer"),
        ([b"HTTP/1.1 20"], "close", True, "hung up before it answered"),
        ([b"HTTP/1.1 200 OK\r\nA: b"], "close", True, "hung up before it answered"),
        ([head(status="103 Early Hints")], "close", True, "hung up before it answered"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "gone", True, "sent what is not HTTP: "),
        ([head("X: " + KEY * 600)], "gone", True, "not HTTP: got more than 8190 bytes"),
        ([head(KEY)], "gone", True, "sent what is not HTTP: "),
    ],
)
async def test_no_answer(blocks, ending, answered, words):
    """
    One of our errors, that says whether a byte came, in words that quote no byte of it.
    """
    endings = {"close": lambda peer: peer.close(), "reset": lambda peer: peer.reset()}
    script = once(*blocks, then=endings.get(ending))
    async with serve(script) as server, session_for(server) as session:
        with pytest.raises(APIConnectionError) as caught:
            await ask(session)
        assert session.stats().in_use == 0
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert KEY not in str(caught.value)
    assert caught.value.answered == answered
    assert not caught.value.reused


async def test_refused():
    """
    The error names the place and the reason; its cause is the system's error.
    """
    async with serve(always(b"")) as server:
        pass
    async with session_for(server) as session:
        with pytest.raises(APIConnectionError) as caught:
            await ask(session)
    place = f"127.0.0.1:{server.port}"
    assert str(caught.value) == f"cannot connect to {place}: connection refused"
    cause = caught.value.__cause__
    assert isinstance(cause, ConnectionRefusedError)
    # They would lead into aiohttp's frames, which hold the request.
    assert (cause.__traceback__, cause.__context__, cause.__cause__) == (
        None,
        None,
        None,
    )
    assert (caught.value.reused, caught.value.answered) == (False, False)


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("partly", [False, True])
async def test_a_kept_connection_that_dies_says_so(method, partly):
    """
    `reused` and not `answered`: what the free retry asks. And aiohttp sends nothing twice.
    """

    async def script(peer):
        await peer.request()
        peer.send(answer())
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n" if partly else b"")

    async with serve(script) as server, session_for(server) as session:
        await ask(session)
        with pytest.raises(APIConnectionError) as caught:
            await session.exchange(method, "/chat")
        assert (caught.value.reused, caught.value.answered) == (True, partly)
        assert len(server.requests) == 2


async def test_no_header_in_any_error_frame_or_repr():
    """
    The key's text is in no traceback, not even with the locals of every frame.
    """
    headers = {"Authorization": Secret(f"Bearer {KEY}")}
    scripts = [
        once(then=lambda peer: peer.close()),
        once(b"nonsense\r\n\r\n"),
        once(then=lambda peer: peer.reset()),
        once(STREAM, b"zz\r\n"),
        once(STREAM, chunk(b"a")[:-1], then=lambda peer: peer.close()),
    ]
    for script in scripts:
        async with (
            serve(script) as server,
            session_for(server, headers=headers) as session,
        ):
            with pytest.raises(APIConnectionError) as caught:
                await ask(session, headers={"X-Key": Secret(KEY)})
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        shown = traceback.TracebackException.from_exception(
            caught.value, capture_locals=True
        )
        assert KEY not in "".join(shown.format())
        # Nor is there a way from the error into aiohttp's frames.
        assert caught.value.__context__ is None
        modules = [frame.f_globals["__name__"] for frame, _ in _frames(caught.value)]
        assert not any(name.startswith("aiohttp") for name in modules)


def _frames(error):
    while error is not None:
        yield from traceback.walk_tb(error.__traceback__)
        error = error.__cause__ or error.__context__


# Cancelling ------------------------------------------------------------------------


async def test_cancelled_while_it_waits_for_a_slot():
    """
    It leaves the queue.
    """
    async with (
        serve(once()) as server,
        session_for(server, max_connections=1) as session,
    ):
        first = asyncio.create_task(ask(session))
        await until(lambda: server.requests)
        second = asyncio.create_task(ask(session))
        await until(lambda: session.stats().waiting == 1)
        await _cancel(second)
        assert session.stats().waiting == 0
        await _cancel(first)
        assert session.stats().in_use == 0


async def test_cancelled_while_it_connects():
    """
    The server takes the connection and says nothing: TLS waits.
    """

    async def script(peer):
        await peer.gone()

    async with serve(script) as server:
        url = server.url.replace("http", "https")
        session = Session(base_url=url, headers={})
        task = asyncio.create_task(ask(session))
        await until(lambda: server.peers)
        await _cancel(task)
        assert session.stats().in_use == 0
        await soon(server.peers[0].left.wait())
        await session.close()


async def test_cancelled_while_it_sends():
    """
    What is not sent is not sent later: the server may never read it.
    """

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        reading.set()
        await read_on.wait()
        await peer.gone()

    reading, read_on = asyncio.Event(), asyncio.Event()
    async with serve(script) as server, session_for(server) as session:
        huge = bytes(50_000_000)
        task = asyncio.create_task(session.exchange("POST", "/chat", body=huge))
        await soon(reading.wait())
        (protocol,) = session._http.connector._acquired
        await until(lambda: protocol.writing_paused)
        await _cancel(task)
        assert session.stats().in_use == 0
        await until(lambda: protocol._connection_lost_called)
        read_on.set()
        await soon(server.peers[0].left.wait())


async def test_cancelled_while_it_waits_for_the_head():
    """
    The server sees it at once.
    """
    async with serve(once()) as server, session_for(server) as session:
        task = asyncio.create_task(ask(session))
        await until(lambda: server.requests)
        await _cancel(task)
        assert session.stats().in_use == 0
        await soon(server.peers[0].left.wait())


async def _cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)


async def test_cancelled_at_every_turn():
    """
    Wherever it hits, no connection stays in use, and the session goes on.
    """
    async with (
        serve(always(STREAM + chunk(b"a") + chunk(b""))) as server,
        session_for(server) as session,
    ):
        for turns in range(40):
            task = asyncio.create_task(ask(session))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            # A body that was never handed over is collected: a turn later.
            del task
            gc.collect()
            await until(lambda: session.stats().in_use == 0)
        assert (await ask(session))[1] == b"a"
