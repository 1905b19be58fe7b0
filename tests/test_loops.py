"""
One client and many event loops: what works, and what says why it does not.
"""

import asyncio
import contextlib
import threading
import time

import pytest

from blockbuster import BlockingError

from horay_async import AsyncHoray, ClientClosedError, WrongLoopError
from loopback import STREAM, answer, chunk, serve, soon, threaded


WHOLE = answer(b'{"choices": [{"message": {"content": "whole"}, "index": 0}]}')

EVENT = b'data: {"choices": [{"delta": {"content": "one"}, "index": 0}]}\n\n'

OPEN = STREAM + chunk(EVENT)

HELLO = [{"role": "user", "content": "hello"}]


def connect(port):
    """
    A client of a server in a thread.
    """
    return AsyncHoray(base_url=f"http://127.0.0.1:{port}/v1", api_key="key", timeout=10)


async def ask(client):
    """
    A plain call.
    """
    return (await client.chat.completions.create(messages=HELLO, model="m")).text


async def begin(client):
    """
    A stream, open after its first token.
    """
    stream = client.chat.completions.stream(messages=HELLO, model="m")
    await stream.open()
    assert (await stream.next_chunk()).choices[0].delta.content == "one"
    return stream


@contextlib.contextmanager
def running():
    """
    A loop that runs in a thread all the time, as a notebook's does; calls something in it.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(
            coroutine, loop
        ).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_a_loop_for_each_test():
    """
    A client of the module, and a loop for each test, closed without a word to the client.
    """
    with threaded(WHOLE) as port:
        client = connect(port)
        for _ in range(3):
            with asyncio.Runner() as runner:
                assert runner.run(ask(client)) == "whole"
                assert runner.run(ask(client)) == "whole"
        asyncio.run(client.close())


def test_a_client_for_each_loop():
    """
    Loops in several threads at once do not know of each other.
    """
    with threaded(WHOLE) as port:
        texts = []
        ready = threading.Barrier(3)

        def work():
            async def main():
                async with connect(port) as client:
                    texts.append(await ask(client))
                    await asyncio.to_thread(ready.wait, 10)
                    texts.append(await ask(client))

            asyncio.run(main())

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert texts == ["whole"] * 6


def test_a_loop_that_always_runs():
    """
    Cell by cell in a notebook: one loop, many calls into it, the stream left open between.
    """
    with threaded(OPEN) as port, running() as call:
        client = connect(port)
        stream = call(begin(client))
        assert client._line.session.stats().in_use == 1
        call(client.close())
        with pytest.raises(ClientClosedError):
            call(stream.next_chunk())
        assert stream.outcome == "failed"


def test_another_loop():
    """
    It may neither call, read, nor close; what runs on the first is not disturbed by trying.
    """
    with threaded(OPEN) as port, running() as call:
        client = connect(port)
        stream = call(begin(client))

        for attempt in (ask(client), client.close(), stream.next_chunk()):

            async def elsewhere(attempt=attempt):
                with pytest.raises(WrongLoopError, match="loop"):
                    await attempt

            asyncio.run(elsewhere())
        assert stream.outcome is None
        assert not client.is_closed()
        assert client._line.session.stats().in_use == 1
        call(client.close())
        assert client.is_closed()
        with pytest.raises(ClientClosedError):
            call(stream.next_chunk())


def test_a_stream_outlives_its_loop():
    """
    It says so; the client works in the next loop.
    """
    with threaded(OPEN) as port:
        client = connect(port)
        stream = asyncio.run(begin(client))

        async def later():
            with pytest.raises(WrongLoopError, match="another event loop"):
                await stream.next_chunk()
            stream.close()
            assert stream.reply.text == "one"
            (await begin(client)).close()
            await client.close()

        asyncio.run(later())


@pytest.mark.uvloop
async def test_a_call_that_blocks_fails_its_test(monkeypatch):
    """
    The watch over the tests covers the first call, which opens everything.
    """

    def slow(*_, **__):
        time.sleep(0)

    monkeypatch.setattr("horay_async._session.headers_of", slow)

    async def script(peer):
        await peer.gone()

    async with serve(script) as server, connect(server.port) as client:
        with pytest.raises(BlockingError):
            await soon(ask(client))
