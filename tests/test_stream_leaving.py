"""
Leaving a stream early: each way closes the upstream connection at once.

Each test waits for the emulator to see its client gone; how many milliseconds that takes is
a benchmark's to tell (`python -m benchmarks.leaving`).
"""

import asyncio
import gc
import threading
import warnings

import anyio
import pytest

from horay_async import (
    AsyncHoray,
    ClientClosedError,
    Outcome,
    StreamAbortedError,
    Timeouts,
    user,
)
from horay_async.emulator import Answer, Emulator
from loopback import until


HELLO = [user("hello")]


@pytest.fixture
def endless(emulator):
    """
    A stream that says one word and then falls silent for ever.
    """
    emulator.script(Answer.chat("word", end="hang", finish=None, done=False))
    return emulator


async def gone(emulator):
    """
    The emulator has seen its client leave.
    """
    request = await emulator.wait_for_disconnect()
    assert request.fate == "disconnected"
    assert emulator.open_streams == 0


async def test_break_inside_async_with(client, endless):
    """
    The end of the block closes, whatever the loop did.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        async for _ in stream:
            break
        assert stream.outcome is None
    await gone(endless)
    assert stream.outcome is Outcome.CLOSED
    assert stream.reply.text == stream.partial.text == "word"


async def test_bare_break(client, endless):
    """
    Without `async with` leaving the loop closes, though the stream is still referred to.
    """
    stream = client.chat.completions.stream(messages=HELLO)
    async for _ in stream:
        break
    await gone(endless)
    assert stream.outcome is Outcome.CLOSED


async def test_a_choice_does_not_own_the_stream(client, emulator):
    """
    Another one may be read when it was left, so it is `async with` that closes.
    """

    def piece(index, text):
        choice = {"index": index, "delta": {"content": text}, "finish_reason": None}
        return {"id": "c", "choices": [choice]}

    pieces = [piece(0, "a"), piece(1, "b"), piece(0, "c")]
    emulator.script(Answer.sse(*pieces, done=False, end="hang"))
    async with client.chat.completions.stream(messages=HELLO, n=2) as stream:
        for index, text in enumerate("ab"):
            async for token in stream.choices[index]:
                assert token.text == text
                break
            gc.collect()
            await asyncio.sleep(0)
        assert stream.outcome is None
    await gone(emulator)
    assert stream.outcome is Outcome.CLOSED


@pytest.mark.parametrize("form", ["text_stream", "chunks", "create"])
async def test_bare_break_of_each_form(client, endless, form):
    """
    Strings and chunks own the stream as tokens do.
    """
    if form == "create":
        stream = await client.chat.completions.create(messages=HELLO, stream=True)
        reader = stream
    else:
        stream = client.chat.completions.stream(messages=HELLO)
        reader = stream.text_stream if form == "text_stream" else stream.chunks()
    async for _ in reader:
        break
    reader = None
    await gone(endless)
    assert stream.outcome is Outcome.CLOSED


async def test_an_exception_in_the_body(client, endless):
    """
    The user's own error passes, and the connection is closed.
    """
    with pytest.raises(KeyError):
        async with client.chat.completions.stream(messages=HELLO) as stream:
            async for _ in stream:
                raise KeyError
    await gone(endless)
    assert stream.outcome is Outcome.CLOSED
    assert stream.reason == "left by KeyError"


async def test_cancellation(client, endless):
    """
    A native cancel closes at once, with nothing left to await.
    """
    started = asyncio.Event()
    streams = []

    async def read():
        async with client.chat.completions.stream(messages=HELLO) as stream:
            streams.append(stream)
            async for _ in stream:
                started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert streams[0].outcome is Outcome.CANCELLED
    await gone(endless)


async def test_a_bare_loop_cancelled(client, endless):
    """
    A cancelled task leaves its bare loop, and the loop's stream is closed.
    """
    started = asyncio.Event()
    stream = client.chat.completions.stream(messages=HELLO)

    async def read():
        async for _ in stream:
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(endless)
    assert stream.outcome is Outcome.CLOSED


async def test_cancelled_twice(client, endless):
    """
    A second cancel finds nothing that it could interrupt.
    """
    started = asyncio.Event()

    async def read():
        async with client.chat.completions.stream(messages=HELLO) as stream:
            async for _ in stream:
                started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(endless)


async def test_cancelled_while_opening(client, emulator):
    """
    A stream that is given up before its headers is taken back.
    """
    never = asyncio.Event()
    emulator.script(Answer.chat("late", before=[never]))
    stream = client.chat.completions.stream(messages=HELLO)
    with anyio.move_on_after(0.05):
        async with stream:
            pytest.fail("it was opened")
    assert stream.outcome is Outcome.CANCELLED
    await gone(emulator)


async def test_anyio_cancel_scope(client, endless):
    """
    anyio's cancellation is like asyncio's.
    """
    with anyio.CancelScope() as scope:
        async with client.chat.completions.stream(messages=HELLO) as stream:
            async for _ in stream:
                asyncio.get_running_loop().call_soon(scope.cancel)
    assert scope.cancelled_caught
    assert stream.outcome is Outcome.CANCELLED
    await gone(endless)


async def test_abort_from_another_task(client, endless):
    """
    The reader gets the reason as an error, and what had come.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        tokens = stream.__aiter__()
        await anext(tokens)
        reader = asyncio.create_task(anext(tokens))
        await asyncio.sleep(0)
        stream.abort("the user pressed stop")
        assert stream.outcome is Outcome.ABORTED
        with pytest.raises(StreamAbortedError, match="pressed stop") as caught:
            await reader
    assert caught.value.partial.text == "word"
    assert stream.reason == "the user pressed stop"
    await gone(endless)


async def test_abort_a_stream_of_chunks(client, endless):
    """
    openai's shape has the same emergency exit.
    """
    stream = await client.chat.completions.create(messages=HELLO, stream=True)
    reader = stream.__aiter__()
    while not (await anext(reader)).choices[0].delta.content:
        pass
    stream.abort("stopped")
    with pytest.raises(StreamAbortedError, match="stopped"):
        await anext(reader)
    assert stream.outcome is Outcome.ABORTED
    await gone(endless)


async def test_abort_while_opening(client, emulator):
    """
    An abort also ends the wait for the headers.
    """
    never = asyncio.Event()
    emulator.script(Answer.chat("late", before=[never]))
    stream = client.chat.completions.stream(messages=HELLO)
    opening = asyncio.create_task(stream.open())
    await emulator.wait_for_request()
    stream.abort("not wanted")
    with pytest.raises(StreamAbortedError, match="not wanted"):
        await opening
    assert stream.outcome is Outcome.ABORTED
    await gone(emulator)


async def test_abort_between_attempts(client, emulator):
    """
    An abort also ends the wait for the next attempt.
    """
    emulator.script(
        Answer.json({"message": "busy"}, 503, headers={"retry-after": "60"})
    )
    stream = client.chat.completions.stream(messages=HELLO)
    opening = asyncio.create_task(stream.open())
    await emulator.wait_for_request()
    await emulator.wait_until_idle()
    stream.abort("not wanted")
    with pytest.raises(StreamAbortedError):
        await asyncio.wait_for(opening, 5)
    assert len(emulator.requests) == 1


async def test_close_during_a_wait(client, endless):
    """
    Closed by somebody else, the reader is told; it must not take it for the end.
    """
    stream = client.chat.completions.stream(messages=HELLO)
    tokens = stream.__aiter__()
    await anext(tokens)
    reader = asyncio.create_task(anext(tokens))
    await asyncio.sleep(0)
    stream.close()
    with pytest.raises(StreamAbortedError, match="closed"):
        await reader
    await gone(endless)


async def test_close_is_idempotent(client, endless):
    """
    Twice is fine, awaited or not, and the first outcome stays.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        await anext(stream.__aiter__())
        stream.close()
        await stream.close()
        await stream.aclose()
        stream.abort("too late")
    assert stream.outcome is Outcome.CLOSED
    await gone(endless)


async def test_reading_after_close_raises(client, endless):
    """
    A loop over a closed stream must not look like a finished one.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        await anext(stream.__aiter__())
        stream.close()
        with pytest.raises(StreamAbortedError):
            async for _ in stream:
                pytest.fail("a token after the end")


async def test_closing_the_client_ends_its_streams(emulator, client, endless):
    """
    A reader of a closed client gets an error, not silence.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        await anext(stream.__aiter__())
        reader = asyncio.create_task(anext(stream.__aiter__()))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(ClientClosedError):
            await asyncio.wait_for(reader, 5)
    await gone(endless)


async def test_forgotten_after_opening(client, endless):
    """
    A stream that nobody closes is closed by its collection, which says so.
    """
    stream = await client.chat.completions.create(messages=HELLO, stream=True)
    with pytest.warns(ResourceWarning, match="never closed"):
        del stream
        gc.collect()
    await gone(endless)


async def test_collected_on_another_thread(client, endless):
    """
    A collection on another thread asks the loop to close.
    """
    tokens = client.chat.completions.stream(messages=HELLO).__aiter__()
    await anext(tokens)
    box = [tokens]
    del tokens
    thread = threading.Thread(target=box.clear)
    thread.start()
    await asyncio.to_thread(thread.join)
    await gone(endless)


def test_collected_after_its_loop():
    """
    A stream that outlives its loop goes quietly, but for the warning.
    """
    from horay_async import HORAY, AsyncHoray
    from horay_async.emulator import Emulator

    async def leave_open():
        async with Emulator(mode="echo") as server:
            client = AsyncHoray(service=HORAY, base_url=server.base_url, api_key="key")
            server.script(Answer.chat("word", end="hang", done=False))
            stream = client.chat.completions.stream(messages=HELLO)
            await stream.open()
            await client.close()
            return stream

    stream = asyncio.run(leave_open())
    with pytest.warns(ResourceWarning, match="never closed"):
        del stream
        gc.collect()


async def test_the_lease_is_given_back(client, endless):
    """
    Whoever leaves makes room.
    """
    governor = client._line.governor
    async with client.chat.completions.stream(messages=HELLO) as stream:
        await anext(stream.__aiter__())
        assert [gate.in_flight for gate in governor.snapshot().values()] == [1]
    assert governor.snapshot() == {}
    await gone(endless)


async def test_the_next_call_is_unharmed(client, endless):
    """
    After a stream was left, the next one works, on a new connection.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        await anext(stream.__aiter__())
    reply = await client.chat.completions.create(
        messages=HELLO, timeouts=Timeouts(deadline=5)
    )
    assert reply.text == "hello"
    assert endless.connections == 2


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_stopped_in_the_turn_of_the_headers(client, emulator, how):
    """
    Whenever the stop comes, the connection does not outlive it.
    """
    for turns in range(40):
        emulator.script(Answer.chat("word", end="hang", done=False, finish=None))
        stream = client.chat.completions.stream(messages=HELLO)
        opening = asyncio.create_task(stream.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        getattr(stream, how)()
        await asyncio.gather(opening, return_exceptions=True)
        await emulator.wait_until(lambda: emulator.open_connections <= 1)
        await emulator.wait_until(lambda: emulator.open_streams == 0)
    assert client._line.governor.snapshot() == {}


async def test_a_reader_from_before_the_block(client, emulator):
    """
    A loop that was begun before `async with` does not close it by its end.
    """
    stream = client.chat.completions.stream(messages=HELLO)
    early = stream.__aiter__()
    async with stream:
        del early
        gc.collect()
        await asyncio.sleep(0)
        assert (await stream.get_final_completion()).text == "hello"
    assert stream.outcome is Outcome.FINISHED


async def test_warnings_as_errors(client, endless, monkeypatch):
    """
    A warning that raises does not keep the stream open.
    """
    stream = await client.chat.completions.create(messages=HELLO, stream=True)
    raised = []
    monkeypatch.setattr("sys.unraisablehook", raised.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del stream
        gc.collect()
    assert [type(each.exc_value) for each in raised] == [ResourceWarning]
    await gone(endless)


async def test_one_token_and_no_more(client, endless):
    """
    An iterator that only one wait refers to lives as long as that wait.
    """
    stream = client.chat.completions.stream(messages=HELLO)
    assert (await anext(stream.__aiter__())).text == "word"
    await gone(endless)
    assert stream.outcome is Outcome.CLOSED


@pytest.mark.parametrize("way", ["close", "abort"])
async def test_stopped_from_another_thread(client, endless, way):
    """
    The loop is woken for it, and does it in its next turn.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        tokens = aiter(stream)
        await anext(tokens)
        waiting = asyncio.create_task(anext(tokens))
        await asyncio.sleep(0)
        thread = threading.Thread(target=getattr(stream, way))
        thread.start()
        with pytest.raises(StreamAbortedError):
            await asyncio.wait_for(waiting, 5)
        await asyncio.to_thread(thread.join)
        assert stream.outcome == ("closed" if way == "close" else "aborted")
    await gone(endless)


def test_stopped_while_its_loop_rests(monkeypatch):
    """
    Outside of a loop that does not run it is done at once.
    """
    loop = asyncio.new_event_loop()

    async def begin():
        server = await Emulator(mode="echo").__aenter__()
        server.script(Answer.chat("word", end="hang", finish=None, done=False))
        client = AsyncHoray(base_url=server.base_url, api_key="key-of-the-tests")
        stream = await client.chat.completions.stream(messages=HELLO, model="m").open()
        return server, client, stream

    server, client, stream = loop.run_until_complete(begin())
    stream.close()
    assert stream.outcome is Outcome.CLOSED
    loop.run_until_complete(client.close())
    loop.run_until_complete(server.__aexit__(None, None, None))
    loop.close()


@pytest.mark.parametrize("form", ["read", "open"])
async def test_its_own_task_cancelled_by_a_stranger(client, endless, form):
    """
    As by code that cancels all tasks: it ends the stream, and is no cancellation of the
    reader.
    """
    stream = client.chat.completions.stream(messages=HELLO)
    reading = asyncio.create_task(anext(aiter(stream)))
    await until(lambda: stream._opening is not None)
    stream._opening.cancel()
    waiting = stream.open() if form == "open" else stream.advance()
    for each in (reading, waiting):
        with pytest.raises(StreamAbortedError, match=r"cancelled|shut down"):
            await each
    assert stream.outcome is Outcome.CANCELLED
    assert client._line.governor.snapshot() == {}
