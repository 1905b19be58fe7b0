"""
Leaving a job early: each way ends what is under way, and leaves nothing behind.

What each test looks for: the emulator sees its clients leave, no task of the job's is left,
every lease is back, and a generator that was the source is closed.
"""

import asyncio
import gc
import threading
import weakref

import anyio
import pytest

from horay_async import HORAY, AsyncHoray, Conversation, StreamAbortedError
from horay_async.emulator import Answer, Emulator
from mapping import PATIENCE, Generated, Source, assert_over, hold, over, workers


COUNT = 4


@pytest.fixture
def held(emulator):
    """
    A server that answers once, and then no more.
    """
    emulator.script(None)
    hold(emulator, 100)
    return emulator


@pytest.fixture
def source():
    """
    A generator that says whether it was closed.
    """
    return Generated()


async def gone(emulator, count=COUNT):
    """
    The server has seen all its clients leave, and nothing has come since.
    """
    await emulator.wait_for_disconnect(count, PATIENCE)
    await emulator.wait_until_idle(PATIENCE)
    assert len(emulator.requests) == count + 1


@pytest.mark.parametrize("kind", ["sync", "waited"])
async def test_break(client, held, source, kind):
    """
    When the block is left all is over: not soon, but then.
    """
    given = getattr(source, kind)()
    async with client.map(given, concurrency=COUNT) as job:
        async for _ in job:
            await held.wait_for_request(COUNT + 1)
            break
        assert not source.closed
    assert_over(client)
    assert source.closed
    assert job.in_flight == 0
    await gone(held)


@pytest.mark.parametrize("kind", ["sync", "waited"])
async def test_a_bare_break(client, held, source, kind):
    """
    Without `async with` it is over soon, though the job is still referred to.
    """
    given = getattr(source, kind)()
    job = client.map(given, concurrency=COUNT)
    async for _ in job:
        await held.wait_for_request(COUNT + 1)
        break
    await over(client)
    assert source.closed
    await gone(held)
    assert job.in_flight == 0


async def test_an_exception_in_the_body(client, held, source):
    with pytest.raises(KeyError):
        async with client.map(source.waited(), concurrency=COUNT) as job:
            async for _ in job:
                await held.wait_for_request(COUNT + 1)
                raise KeyError
    assert_over(client)
    assert source.closed
    await gone(held)


async def test_an_exception_in_a_bare_loop(client, held, source):
    with pytest.raises(KeyError):
        async for _ in client.map(source.waited(), concurrency=COUNT):
            await held.wait_for_request(COUNT + 1)
            raise KeyError
    await over(client)
    assert source.closed
    await gone(held)


@pytest.mark.parametrize("bare", [False, True])
async def test_cancelled(client, held, source, bare):
    """
    The reader's task is cancelled while it waits for a row.
    """

    async def read():
        job = client.map(source.waited(), concurrency=COUNT)
        if bare:
            async for _ in job:
                pass
        else:
            async with job:
                async for _ in job:
                    pass

    task = asyncio.create_task(read())
    await held.wait_for_request(COUNT + 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if bare:
        await over(client)
    assert_over(client)
    assert source.closed
    await gone(held)


async def test_an_anyio_scope(client, held, source):
    """
    anyio cancels again and again, until the block is left.
    """
    with anyio.CancelScope() as scope:
        async with client.map(source.waited(), concurrency=COUNT) as job:
            async for _ in job:
                await held.wait_for_request(COUNT + 1)
                scope.cancel()
    assert scope.cancelled_caught
    assert_over(client)
    await gone(held)


@pytest.mark.parametrize("order", ["done", "input"])
async def test_cancelled_at_every_point(client, emulator, order):
    """
    Whenever it comes, nothing is left.
    """
    for turns in range(1, 60):
        source = Generated()
        given = source.waited()

        async def read(given=given):
            job = client.map(given, concurrency=3, order=order)
            async with job:
                async for _ in job:
                    pass

        task = asyncio.create_task(read())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_over(client)
        assert source.closed == (source.taken > 0)
        # Whether it was begun or not, it gives no more.
        assert await anext(given, None) is None
    await emulator.wait_until_idle(PATIENCE)


async def test_closed_by_another_task(client, held, source):
    """
    The reader is told: it must not take it for the end.
    """
    job = client.map(source.sync(), concurrency=COUNT)
    rows = aiter(job)
    await anext(rows)
    await held.wait_for_request(COUNT + 1)
    reader = asyncio.ensure_future(anext(rows))
    await asyncio.sleep(0)
    await asyncio.gather(job.aclose(), job.aclose())
    await job.aclose()
    for read in (reader, anext(rows)):
        with pytest.raises(StreamAbortedError, match="closed before its end"):
            await read
    assert_over(client)
    assert source.closed
    await gone(held)


@pytest.mark.parametrize("order", ["done", "input"])
async def test_rows_that_were_not_read(client, emulator, order):
    """
    They are paid for: who looks finds them, though no loop tells them any more.
    """
    first = asyncio.Event()

    async def choose(request):
        if request.json["messages"][0]["content"] == "prompt 1":
            await first.wait()

    emulator.script(*[choose] * 4)
    async with client.map(Source(4), order=order) as job:
        rows = aiter(job)
        read = await anext(rows)
        async with asyncio.timeout(PATIENCE):
            while job.done < 3:  # noqa: ASYNC110 -- there is no event to wait for
                await asyncio.sleep(0)
        assert len(job.unread) == 2
    assert {read.index, *[row.index for row in job.unread]} == {0, 2, 3}
    assert [row.error for row in job.unread] == [None, None]
    with pytest.raises(StreamAbortedError):
        await anext(rows)


async def test_all_done_and_not_read(client):
    """
    Nothing is under way any more, and still it was not read to its end.
    """
    async with client.map(["one", "two", "three"]) as job:
        rows = aiter(job)
        await anext(rows)
        while workers():  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0)
    assert len(job.unread) == 2
    with pytest.raises(StreamAbortedError):
        await anext(rows)


async def test_closed_after_its_end(client):
    async with client.map(["one"]) as job:
        rows = aiter(job)
        await anext(rows)
        assert await anext(rows, None) is None
    await job.aclose()
    assert await anext(rows, None) is None


async def test_reading_after_the_block(client, emulator):
    job = client.map(Source())
    async with job:
        pass
    with pytest.raises(StreamAbortedError):
        async for _ in job:
            pytest.fail("a row after the end")
    assert_over(client)
    assert emulator.requests == []


async def test_somebody_cancels_a_row(client, held):
    """
    That is the row's error, as any other; the others go on.
    """
    async with client.map(Source(), concurrency=COUNT) as job:
        rows = aiter(job)
        await anext(rows)
        await held.wait_for_request(COUNT + 1)
        one = next(task for task in workers() if task.get_coro().__name__ == "_work")
        one.cancel()
        row = await anext(rows)
        assert isinstance(row.error, StreamAbortedError)
        assert str(row.error) == "this row was cancelled before it was answered"
    assert_over(client)


async def test_a_hook_cancels_its_row(emulator):
    """
    Also when it is past all waiting, and so cannot be told from inside.
    """

    def hook(event):
        asyncio.current_task().cancel()

    async with AsyncHoray(
        service=HORAY, base_url=emulator.base_url, api_key="key", on_event=hook
    ) as client:
        rows = [row async for row in client.map(["one", "two"])]
    assert [type(row.error) for row in rows] == [StreamAbortedError] * 2


@pytest.mark.parametrize("order", ["done", "input"])
async def test_a_conversation_that_is_cut_off(client, emulator, order):
    """
    Its answers are paid for, and not lost; what has none was not asked.
    """

    async def first_turn_only(request):
        if [one["content"] for one in request.json["messages"]] != ["one"]:
            await asyncio.Event().wait()

    emulator.script(*[first_turn_only] * 4)
    talk = Conversation("one", ["two", "three"])
    async with client.map(["late", ("talk", talk)], order=order) as job:
        reader = asyncio.ensure_future(anext(aiter(job)))
        await emulator.wait_for_request(3)
        assert not job.unread
        reader.cancel()
    (row,) = job.unread
    assert row.id == "talk"
    assert [reply.text for reply in row.replies] == ["one"]
    assert row.reply is None
    assert isinstance(row.error, StreamAbortedError)
    assert str(row.error) == "this row was cancelled after 1 answer"
    assert job.in_flight == 0
    assert (job.done, job.failed) == (1, 1)


async def test_collected_on_another_thread(client, held, source):
    """
    A collection on another thread asks the loop to end the job.
    """
    rows = aiter(client.map(source.waited(), concurrency=COUNT))
    await anext(rows)
    await held.wait_for_request(COUNT + 1)
    box = [rows]
    del rows
    thread = threading.Thread(target=box.clear)
    thread.start()
    await asyncio.to_thread(thread.join)
    await over(client)
    assert source.closed
    await gone(held)


async def test_the_job_can_be_collected(client, held):
    """
    When all is over nothing holds on to it.
    """
    job = client.map(Source(), concurrency=COUNT)
    async for _ in job:
        break
    await over(client)
    gone = weakref.ref(job)
    del job
    gc.collect()
    assert gone() is None


def test_collected_after_its_loop():
    """
    One that outlives its loop goes quietly.
    """

    async def leave_open():
        async with Emulator(mode="echo") as server:
            server.script(Answer.json({}, before=[asyncio.Event()]))
            async with AsyncHoray(
                service=HORAY, base_url=server.base_url, api_key="key"
            ) as client:
                rows = aiter(client.map(Source(), concurrency=2))
                await anext(rows)
                return rows

    rows = asyncio.run(leave_open())
    del rows
    gc.collect()


async def test_the_next_call_is_unharmed(client, held):
    async with client.map(Source(), concurrency=2) as job:
        async for _ in job:
            break
    held._script.waiting.clear()
    rows = [row async for row in client.map(["one", "two"], timeout=PATIENCE)]
    assert [row.error for row in rows] == [None, None]


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("stream", [False, "rows", True])
async def test_nothing_waits_for_the_collector(client, emulator, stream, bare):
    """
    A job that was left is freed with its unread rows when its user lets go of it.
    """
    hangs = Answer.chat("half ", asyncio.Event()) if stream else None
    emulator.script(Answer.chat("one"), *[hangs] * 2)
    if not stream:
        emulator.script()
        hold(emulator, 9)
    gc.collect()
    gc.disable()
    try:
        job = client.map(Source(), stream=stream, concurrency=3)
        gone = weakref.ref(job)
        if bare:
            async for _ in job:
                break
            await over(client)
        else:
            async with job:
                async for _ in job:
                    break
        del job, _
        for _ in range(5):
            await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()


async def test_nor_does_one_whose_rows_failed(client, emulator):
    """
    Errors keep frames, and some are in cycles of aiohttp's: the job is not with them.
    """
    broken = Answer.chat("half ", end="close", finish=None, done=False)
    emulator.script(*[broken] * 3)
    gc.collect()
    gc.disable()
    try:
        job = client.map(Source(3), stream="rows")
        gone = weakref.ref(job)
        async with job:
            assert all([row.error async for row in job])
        del job
        for _ in range(5):
            await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()
