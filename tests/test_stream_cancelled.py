"""
Cancelled at any moment, in any way: no connection, lease or task is left, and no token lost.
"""

import asyncio
import itertools

from contextlib import aclosing

import anyio
import pytest

from horay_async import Outcome, StreamAbortedError, Timeouts, user
from horay_async.emulator import Answer
from loopback import STREAM, chunk, soon, threaded, until


HELLO = [user("hello")]

WORDS = ["one ", "two ", "three "]


@pytest.fixture
def endless(emulator):
    """
    A stream that says one word and then falls silent for ever.
    """
    emulator.script(Answer.chat("word", end="hang", finish=None, done=False))
    return emulator


def ours():
    """
    The tasks of the client: the emulator, in the same loop, has its own.
    """
    return [
        task
        for task in asyncio.all_tasks()
        if "/horay_async/_" in task.get_coro().cr_code.co_filename
        or "/horay_async/many/" in task.get_coro().cr_code.co_filename
    ]


async def assert_nothing_is_left(client, emulator):
    """
    As if nothing had been asked; and the next call is answered.
    """
    # A loop without `async with` is closed by a finaliser, in the loop's next turn.
    await until(lambda: not ours() and client._line.governor.snapshot() == {})
    assert client._line.session.stats().in_use == 0
    await emulator.wait_until(lambda: emulator.open_streams == 0)
    idle = client._line.session.stats().open
    await emulator.wait_until(lambda: emulator.open_connections <= idle)


# Each moment -----------------------------------------------------------------------


async def plain(client):
    await client.chat.completions.create(messages=HELLO)


async def streamed(client):
    async with client.chat.completions.stream(messages=HELLO) as stream:
        async for _ in stream:
            pass


async def bare(client):
    async for _ in client.chat.completions.stream(messages=HELLO):
        pass


async def texts(client):
    async for _ in client.chat.completions.stream(messages=HELLO).text_stream:
        pass


async def chunked(client):
    async for _ in await client.chat.completions.create(messages=HELLO, stream=True):
        pass


async def final(client):
    stream = client.chat.completions.stream(messages=HELLO)
    async with aclosing(stream):
        await stream.get_final_completion()


async def many(client):
    async with client.map(["a", "b"]) as job:
        async for _ in job:
            pass


async def fanned(client):
    await client.fan_out(messages=HELLO, n=2).first(bool)


CALLS = [plain, streamed, bare, texts, chunked, final, many, fanned]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("times", [1, 2])
async def test_after_any_number_of_turns(client, emulator, call, times):
    """
    Cancelled (once, or twice at once) after 0, 1, 2, … turns of the loop, until it is done
    before. A 503 comes first, so that waiting to try again is among the moments.
    """
    await plain(client)  # what is made once
    for turns in itertools.count():
        emulator.script(
            Answer.json({}, 503, headers=[("retry-after-ms", "1")]),
            Answer.chat(*WORDS),
        )
        task = asyncio.create_task(call(client))
        for _ in range(turns):
            await asyncio.sleep(0)
        # Where nothing but time can help, a turn says nothing.
        if turns > 40:
            await asyncio.sleep(0.0005 * (turns - 40))
        over = task.done()
        for _ in range(times):
            task.cancel()
        (error,) = await asyncio.gather(task, return_exceptions=True)
        # None is swallowed.
        assert task.cancelled() or (over and error is None)
        await assert_nothing_is_left(client, emulator)
        emulator._script.waiting.clear()
        await soon(plain(client))
        if over:
            break
        assert turns < 400


# While it is closed ----------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
async def test_while_it_drains(client, emulator, times):
    """
    A whole answer whose connection does not end: the cancellation passes, the connection is
    closed, and the outcome stays.
    """
    emulator.script(Answer.chat("whole", end="hang", done=True))
    stream = client.chat.completions.stream(messages=HELLO)
    task = asyncio.create_task(read_whole(stream))
    await until(lambda: stream.outcome)
    for _ in range(times):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert stream.outcome is Outcome.FINISHED
    await emulator.wait_for_disconnect()
    await assert_nothing_is_left(client, emulator)


async def read_whole(stream):
    async with stream:
        async for _ in stream:
            pass


async def test_again_while_it_leaves(client, endless):
    """
    A task that is cancelled, and again while its `finally` waits.
    """
    started, leaving = asyncio.Event(), asyncio.Event()

    async def read():
        async with client.chat.completions.stream(messages=HELLO) as stream:
            try:
                async for _ in stream:
                    started.set()
            finally:
                leaving.set()
                await asyncio.sleep(60)

    task = asyncio.create_task(read())
    await soon(started.wait())
    task.cancel()
    await soon(leaving.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    await endless.wait_for_disconnect()
    await assert_nothing_is_left(client, endless)


# By others -------------------------------------------------------------------------


async def test_aborted_by_a_callback(client, endless):
    """
    What the loop calls may stop a stream as well as a task.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        tokens = aiter(stream)
        await anext(tokens)
        asyncio.get_running_loop().call_soon(stream.abort, "by a callback")
        with pytest.raises(StreamAbortedError, match="by a callback"):
            await soon(anext(tokens))
    assert stream.outcome is Outcome.ABORTED
    await endless.wait_for_disconnect()


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_stopped_before_its_first_turn(client, emulator, way, turns):
    """
    A read that has been asked for, and not begun: nothing is sent for nobody.
    """
    told = []
    watched = client.with_options(on_event=told.append)
    stream = watched.chat.completions.stream(messages=HELLO)
    task = asyncio.create_task(anext(aiter(stream)))
    for _ in range(turns):
        await asyncio.sleep(0)
    sent = bool(told)
    getattr(stream, way)()
    with pytest.raises(StreamAbortedError):
        await soon(task)
    await assert_nothing_is_left(client, emulator)
    if not sent:
        assert told == []
        assert emulator.requests == []


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_a_stranger_who_cancels_its_task(client, endless, turns):
    """
    Its readers were not cancelled: they hear that the stream was stopped, now and later.
    """
    stream = client.chat.completions.stream(messages=HELLO)
    reader = asyncio.create_task(stream.get_final_completion())
    await until(lambda: stream._opening)
    opener = asyncio.create_task(stream.open())
    for _ in range(turns):
        await asyncio.sleep(0)
    stream._opening.cancel()
    for waiting in (reader, opener, stream.get_final_completion()):
        with pytest.raises(StreamAbortedError, match="cancelled"):
            await soon(waiting)
    assert stream.outcome is Outcome.CANCELLED
    await assert_nothing_is_left(client, endless)


async def test_a_sibling_that_fails(client, endless):
    """
    A TaskGroup cancels who reads beside it.
    """
    started = asyncio.Event()
    streams = []

    async def read():
        async with client.chat.completions.stream(messages=HELLO) as stream:
            streams.append(stream)
            async for _ in stream:
                started.set()

    async def fail():
        await started.wait()
        raise KeyError

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(fail())
    assert caught.group_contains(KeyError)
    assert streams[0].outcome is Outcome.CANCELLED
    await endless.wait_for_disconnect()
    await assert_nothing_is_left(client, endless)


@pytest.mark.parametrize("kind", ["asyncio", "anyio", "fail_after"])
@pytest.mark.parametrize("whole", [True, False])
async def test_a_limit_of_the_users(client, endless, kind, whole):
    """
    Around the block it ends the stream; around one wait it does not.
    """
    limits = {
        "asyncio": asyncio.timeout,
        "anyio": anyio.move_on_after,
        "fail_after": anyio.fail_after,
    }
    limit = limits[kind]
    stream = client.chat.completions.stream(messages=HELLO)

    async def read():
        async with stream:
            tokens = aiter(stream)
            assert (await anext(tokens)).text == "word"
            if whole:
                await anext(tokens)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await anext(tokens)
            assert stream.outcome is None

    if not whole:
        await soon(read())
        assert stream.outcome is Outcome.CLOSED
    elif kind == "asyncio":
        with pytest.raises(TimeoutError):
            async with limit(0.3):
                await read()
    elif kind == "anyio":
        with limit(0.3) as scope:
            await read()
        assert scope.cancelled_caught
    else:
        with pytest.raises(TimeoutError), limit(0.3):
            await read()
    if whole:
        assert stream.outcome is Outcome.CANCELLED
    await endless.wait_for_disconnect()
    await assert_nothing_is_left(client, endless)


async def test_polled(client, emulator):
    """
    `wait_for` around each wait, again and again: no token is lost, and nothing sent twice.
    """
    emulator.script(Answer.chat(*[step for word in WORDS for step in (0.03, word)]))
    texts = []
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=Timeouts(deadline=10)
    ) as stream:
        tokens = aiter(stream)
        while True:
            try:
                texts.append((await asyncio.wait_for(anext(tokens), 0.004)).text)
            except TimeoutError:
                continue
            except StopAsyncIteration:
                break
    assert texts == WORDS
    assert len(emulator.requests) == 1
    assert stream.outcome is Outcome.FINISHED


# Inside generators -----------------------------------------------------------------


async def words(client, seen):
    stream = client.chat.completions.stream(messages=HELLO)
    seen.append(stream)
    async for token in stream:
        yield token.text


async def lines(client, seen):
    async with aclosing(words(client, seen)) as inner:
        async for word in inner:
            yield word + "\n"


@pytest.mark.parametrize("make", [words, lines])
@pytest.mark.parametrize("way", ["aclose", "break", "return", "raise", "athrow"])
async def test_inside_generators(client, endless, make, way):
    """
    Closing the outermost generator closes the connection, however it is left.
    """
    seen = []

    async def read():
        async with aclosing(make(client, seen)) as outer:
            async for text in outer:
                assert text.strip() == "word"
                if way == "return":
                    return
                if way == "raise":
                    raise KeyError
                break

    if way in {"aclose", "athrow"}:
        outer = make(client, seen)
        await anext(outer)
        if way == "aclose":
            await outer.aclose()
        else:
            with pytest.raises(KeyError):
                await outer.athrow(KeyError())
    elif way == "raise":
        with pytest.raises(KeyError):
            await read()
    else:
        await read()
    await endless.wait_for_disconnect()
    assert seen[0].outcome is Outcome.CLOSED
    await assert_nothing_is_left(client, endless)


async def test_a_generator_that_is_forgotten(client, endless):
    """
    Without `aclosing`, too: the loop closes what nobody refers to any more.
    """
    seen = []
    async for _ in words(client, seen):
        break
    await endless.wait_for_disconnect()
    assert seen[0].outcome is Outcome.CLOSED
    await assert_nothing_is_left(client, endless)


# The loop's end --------------------------------------------------------------------


@pytest.mark.parametrize("waiting", ["headers", "tokens", "nobody"])
def test_the_end_of_the_loop(waiting):
    """
    `asyncio.run` cancels who reads; what nobody reads is closed with the loop.
    """
    from horay_async import HORAY, AsyncHoray

    async def main(port):
        url = f"http://127.0.0.1:{port}/v1"
        client = AsyncHoray(service=HORAY, base_url=url, api_key="key")
        stream = client.chat.completions.stream(messages=HELLO)
        task = None
        if waiting == "nobody":
            await stream.open()
        else:
            task = asyncio.create_task(stream.get_final_completion())
            if waiting == "headers":
                await until(lambda: client._line.session.stats().in_use)
            else:
                await until(lambda: stream.partial.text)
        return client, stream, task

    word = chunk(b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n')
    with threaded(b"" if waiting == "headers" else STREAM + word) as port:
        client, stream, task = asyncio.run(main(port))
    if task is not None:
        assert task.cancelled()
    stream.close()
    assert stream.outcome is not None
    assert client._line.governor.snapshot() == {}
    asyncio.run(client.close())
