"""
A response's body: read, interrupted, cut off, drained, dropped, forgotten.
"""

import asyncio
import contextlib
import gc
import gzip
import threading
import tracemalloc
import zlib

import pytest

from horay_async._errors import (
    APIConnectionError,
    APIResponseValidationError,
    StreamStalledError,
)
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

GZIP = "Content-Encoding: gzip"


@contextlib.asynccontextmanager
async def opened(script):
    """
    A body whose head has come, with its session and server; nothing may be left in use.
    """
    async with serve(script) as server:
        session = Session(base_url=server.url, headers={})
        try:
            body = await soon(session.exchange("POST", "/chat", body=b"{}"))
            yield body, session, server
            assert session.stats().in_use == 0
        finally:
            await session.close()


class Steps:
    """
    A script that sends its blocks one by one, when the test says so.
    """

    def __init__(self, *blocks, then=None):
        self._blocks = blocks
        self._then = then
        self._gates = [asyncio.Event() for _ in blocks] + [asyncio.Event()]
        self._gates[0].set()

    def go(self, step):
        """
        Let it send block number `step`; after the last, let it do what comes then.
        """
        self._gates[step].set()

    async def __call__(self, peer):
        await peer.request()
        peer.watch()
        for gate, block in zip(self._gates, self._blocks, strict=False):
            await gate.wait()
            peer.send(block)
        if self._then is not None:
            await self._gates[-1].wait()
            self._then(peer)
        await peer.left.wait()


# Reading ---------------------------------------------------------------------------


async def test_blocks_as_they_come():
    """
    Each as soon as it is there, then b"" for good.
    """
    steps = Steps(STREAM, chunk(b"one"), chunk(b"two"), chunk(b""))
    async with opened(steps) as (body, _, _):
        for step, data in enumerate([b"one", b"two"], 1):
            assert not body.at_end
            steps.go(step)
            assert await soon(body.read()) == data
        steps.go(3)
        assert await soon(body.read()) == b""
        assert body.at_end
        assert await body.read() == b""
        body.drop()
        assert await body.read() == b""


async def test_cancelling_a_read_loses_nothing():
    """
    The next read continues.
    """
    steps = Steps(head("Content-Length: 6"), b"one", b"two")
    async with opened(steps) as (body, _, _):
        for come in (b"", b"and "):
            reading = asyncio.create_task(body.read())
            await asyncio.sleep(0)
            # The second time a block has come, but its reader has not had its turn.
            body._content.feed_data(come)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        steps.go(1)
        steps.go(2)
        assert await soon(body.read_all(100)) == b"and onetwo"


async def test_two_readers_at_once():
    """
    It is a mistake of the caller's, and not the end of the body.
    """
    steps = Steps(STREAM, chunk(b"one") + chunk(b""))
    async with opened(steps) as (body, _, _):
        reading = asyncio.create_task(body.read())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another coroutine"):
            await body.read()
        steps.go(1)
        assert await soon(reading) == b"one"
        assert await soon(body.read()) == b""


async def test_the_whole_body_may_wait_unread():
    """
    The connection is back in the pool before the last byte is read.
    """
    async with opened(always(answer(b"[1]"))) as (body, session, server):
        await until(lambda: body.at_end)
        assert session.stats().in_use == 0
        again = await soon(session.exchange("POST", "/chat", body=b"{}"))
        assert again.reused
        assert await again.read_all(10) == b"[1]"
        assert await body.read_all(10) == b"[1]"
        assert len(server.peers) == 1


async def test_a_body_that_ends_with_its_connection():
    """
    Without a length, a FIN is its end.
    """
    script = once(head(), b"all of it", then=lambda peer: peer.close())
    async with opened(script) as (body, _, _):
        assert await soon(body.read_all(100)) == b"all of it"


@pytest.mark.parametrize(("limit", "data"), [(5, b"hello"), (4, b"hello"), (0, b"x")])
async def test_a_ceiling_on_the_whole_body(limit, data):
    """
    Up to the limit is fine; one byte more is an error, and the connection is closed.
    """
    steps = Steps(STREAM + chunk(data), chunk(b""))
    async with opened(steps) as (body, _, server):
        if len(data) <= limit:
            steps.go(1)
            assert await soon(body.read_all(limit)) == data
            return
        with pytest.raises(APIResponseValidationError, match=f"longer than {limit} "):
            await soon(body.read_all(limit))
        await soon(server.peers[0].left.wait())


@pytest.mark.parametrize("length", [True, False])
async def test_a_gzip_bomb(length):
    """
    A megabyte that unpacks to a gigabyte is refused at the limit, in bounded memory.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    bomb = b"".join([packer.compress(block) for _ in range(1000)] + [packer.flush()])
    framing = f"Content-Length: {len(bomb)}" if length else "Connection: close"
    async with opened(once(head(GZIP, framing), bomb)) as (body, _, server):
        tracemalloc.start()
        try:
            with pytest.raises(APIResponseValidationError, match="longer than 4194304"):
                await soon(body.read_all(4 << 20))
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()
        await soon(server.peers[0].left.wait())


async def test_gzip_is_unpacked_though_nobody_asked():
    """
    Some servers compress streams that asked for identity.
    """
    data = gzip.compress(b"data: 1\n\n")
    script = always(STREAM[:-2] + f"{GZIP}\r\n\r\n".encode() + chunk(data) + chunk(b""))
    async with opened(script) as (body, _, _):
        assert await soon(body.read_all(100)) == b"data: 1\n\n"


# Broken off ------------------------------------------------------------------------


DEFLATED = zlib.compress(bytes(range(256)))

HUNG_UP = "hung up before the body was whole"

# What the server sends, one after the other; what is read before the error; its words.
BREAKS = {
    "chunked": ([STREAM, chunk(b"a"), "close"], b"a", HUNG_UP),
    "in a chunk": ([STREAM, b"9\r\na", "close"], b"a", HUNG_UP),
    "length": ([head("Content-Length: 9"), b"a", "close"], b"a", HUNG_UP),
    "reset": ([STREAM, chunk(b"a"), "reset"], b"a", "reset by peer"),
    "reset, no length": ([head(), b"a", "reset"], b"a", "reset by peer"),
    "bad size": ([STREAM, chunk(b"a"), b"zz\r\n"], b"a", "not HTTP: invalid character"),
    "bad end": ([STREAM, chunk(b"a"), b"1\r\nbcd\r\n"], b"ab", "not HTTP: expected"),
    "gzip lie": (
        [head(GZIP, "Content-Length: 99"), b"no gzip"],
        b"",
        "not compressed as",
    ),
    "deflate cut": (
        [head("Content-Encoding: deflate", "Content-Length: 24"), DEFLATED[:24]],
        bytes(range(17)),
        "not compressed as",
    ),
}


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("waiting", [True, False])
async def test_a_body_that_breaks_off(kind, waiting):
    """
    Whether somebody reads when it happens or later: first what came, then the error.
    """
    sent, expected, words = BREAKS[kind]
    blocks = [block for block in sent if isinstance(block, bytes)]
    steps = Steps(*blocks, then=lambda peer: getattr(peer, sent[-1])())
    async with opened(steps) as (body, _, _):
        content = body._content
        reading = asyncio.create_task(_everything(body)) if waiting else None
        steps.go(1)
        if len(sent) > 2:
            # A reset overtakes what is not read yet.
            await until(lambda: content.total_bytes)
            steps.go(2)
        if not waiting:
            await until(lambda: content.exception() is not None)
        came, error = await soon(reading or _everything(body))
        assert came == expected
        assert words in str(error)
        assert (error.reused, error.answered) == (False, True)
        assert error.__context__ is None
        assert not body.at_end
        with pytest.raises(APIConnectionError) as again:
            await body.read()
        # The same words, but another error: nothing may keep the first one alive.
        assert again.value is not error
        assert str(again.value) == str(error)
        assert again.value.__dict__ == error.__dict__


async def _everything(body):
    came = []
    try:
        while block := await body.read():
            came.append(block)
    except APIConnectionError as error:
        return b"".join(came), error
    pytest.fail("it should have broken off")


async def test_a_parser_that_says_nothing():
    """
    Whatever it made of the end of the connection, the reader is told.
    """
    steps = Steps(STREAM, chunk(b"a"), then=lambda peer: peer.close())
    async with opened(steps) as (body, _, _):
        steps.go(1)
        assert await soon(body.read()) == b"a"
        body._response._protocol._parser = None
        steps.go(2)
        with pytest.raises(APIConnectionError, match=HUNG_UP):
            await soon(body.read())


# Interrupting ----------------------------------------------------------------------


@pytest.mark.parametrize("error", [StreamStalledError("no tokens"), KeyError("other")])
async def test_interrupt_wakes_the_reader(error):
    """
    With that very error, which later reads get too; no task is cancelled.
    """
    async with opened(Steps(STREAM, b"")) as (body, session, server):
        reading = asyncio.create_task(body.read())
        await asyncio.sleep(0)
        body.interrupt(error)
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                await soon(reading)
            assert caught.value is error
            reading = asyncio.create_task(body.read())
        with pytest.raises(type(error)):
            await soon(reading)
        assert session.stats().in_use == 1
        assert not server.peers[0].left.is_set()
        body.drop()
        await soon(server.peers[0].left.wait())
        with pytest.raises(type(error)):
            await body.read()


async def test_interrupt_before_anybody_reads():
    """
    The next read gets it, even of a body that is whole or empty.
    """
    for reply in (answer(b"{}"), answer(b"")):
        async with opened(always(reply)) as (body, _, _):
            await until(lambda body=body: body.at_end)
            body.interrupt(StreamStalledError("no tokens"))
            with pytest.raises(StreamStalledError):
                await body.read()
            body.drop()


# Dropping --------------------------------------------------------------------------


async def test_drop_closes_at_once():
    """
    Before another byte is read, though the server sends without end; twice is fine.
    """

    async def script(peer):
        await peer.request()
        peer.send(STREAM)
        peer.watch()
        with contextlib.suppress(ConnectionError):
            while not peer.left.is_set():
                peer.send(chunk(bytes(1000)))
                await peer.writer.drain()
                await asyncio.sleep(0)

    async with opened(script) as (body, session, server):
        await soon(body.read())
        body.drop()
        body.drop()
        assert session.stats().in_use == 0
        await soon(server.peers[0].left.wait())
        with pytest.raises(APIConnectionError, match="on our side"):
            await body.read()


async def test_drop_wakes_a_reader():
    """
    Whoever reads in another task does not wait for ever.
    """
    async with opened(Steps(STREAM, b"")) as (body, _, _):
        reading = asyncio.create_task(body.read())
        await asyncio.sleep(0)
        body.drop()
        with pytest.raises(APIConnectionError, match="on our side"):
            await soon(reading)


async def test_an_answer_before_the_request_was_whole():
    """
    An early 413: the answer is read, and the connection is not kept.
    """

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.send(answer(b"too large", status="413 Too Large"))
        await read_on.wait()
        await peer.gone()

    read_on = asyncio.Event()
    async with serve(script) as server:
        session = Session(base_url=server.url, headers={})
        body = await soon(session.exchange("POST", "/chat", body=bytes(50_000_000)))
        assert body.status == 413
        assert await soon(body.read_all(100)) == b"too large"
        assert session.stats().open == 0
        read_on.set()
        await soon(server.peers[0].left.wait())
        await session.close()


async def test_a_switch_of_protocols():
    """
    Nobody asked for one: an answer without a body, on a connection that is closed.
    """
    script = once(
        head("Upgrade: websocket", "Connection: upgrade", status="101 Switch")
    )
    async with opened(script) as (body, session, server):
        assert body.status == 101
        assert await soon(body.read()) == b""
        assert session.stats().open == 0
        await soon(server.peers[0].left.wait())


@pytest.mark.parametrize("thread", [False, True])
async def test_a_forgotten_body(thread):
    """
    Collected, on whichever thread: the connection closes, and nothing warns.
    """
    async with serve(once(STREAM, chunk(b"a"))) as server:
        session = Session(base_url=server.url, headers={})
        holder = [await soon(session.exchange("POST", "/chat"))]
        if thread:
            worker = threading.Thread(target=holder.clear)
            worker.start()
            worker.join(PATIENCE)
        else:
            holder.clear()
        gc.collect()
        await soon(server.peers[0].left.wait())
        assert session.stats().in_use == 0
        await session.close()


# Draining --------------------------------------------------------------------------


async def test_drained_streams_share_a_connection():
    """
    The last chunk comes a moment after what the reader was after.
    """

    async def script(peer):
        while True:
            await peer.request()
            peer.send(STREAM, chunk(b"data: [DONE]\n\n"))
            await asked.wait()
            peer.send(chunk(b""))

    asked = asyncio.Event()
    async with opened(script) as (body, session, server):
        for _ in range(20):
            assert await soon(body.read()) == b"data: [DONE]\n\n"
            draining = asyncio.create_task(body.drain(PATIENCE))
            await asyncio.sleep(0)
            asked.set()
            assert await soon(draining)
            asked.clear()
            body = await soon(session.exchange("POST", "/chat"))  # noqa: PLW2901
            assert body.reused
        body.drop()
        assert len(server.peers) == 1


async def test_drain_of_what_is_whole():
    """
    There is nothing to wait for.
    """
    async with opened(always(answer())) as (body, session, _):
        await until(lambda: body.at_end)
        assert await body.drain(0)
        assert await body.drain()
        assert session.stats().open == 1


@pytest.mark.parametrize(
    "blocks",
    [[b""], [chunk(bytes(30_000)) * 3], [b"zz\r\n"]],
    ids=["late", "much", "bad"],
)
async def test_drain_is_bounded(blocks):
    """
    In time and in bytes, and an error ends it: then the connection closes.
    """
    steps = Steps(STREAM, *blocks)
    async with opened(steps) as (body, session, server):
        steps.go(1)
        late = blocks == [b""]
        assert not await soon(body.drain(0.001 if late else PATIENCE))
        assert session.stats().open == 0
        await soon(server.peers[0].left.wait())


async def test_drain_cancelled():
    """
    It drops, and lets the cancellation pass.
    """
    async with opened(Steps(STREAM, b"")) as (body, _, server):
        draining = asyncio.create_task(body.drain(PATIENCE))
        await asyncio.sleep(0)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(draining)
        await soon(server.peers[0].left.wait())
