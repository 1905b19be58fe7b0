"""
Leaving a job early: each way ends what is under way, and leaves nothing behind.

What each test looks for: the emulator sees its clients leave, no task of the job's is left,
every lease is back, and a generator that was the source is closed.
"""

import asyncio
import contextlib
import gc
import threading
import weakref

import anyio
import pytest

from horay_async import HORAY, AsyncHoray, ChatReply, StreamAbortedError
from horay_async._line import Line
from horay_async.emulator import Answer, Emulator
from mapping import PATIENCE, Source, hold


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


class Generated:
    """
    A generator of prompts, as the source of one job, and what became of it.
    """

    def __init__(self):
        self.taken = 0
        self.closed = False

    def sync(self):
        try:
            while True:
                self.taken += 1
                yield f"prompt {self.taken}"
        finally:
            self.closed = True

    async def waited(self):
        try:
            while True:
                self.taken += 1
                yield f"prompt {self.taken}"
        finally:
            await asyncio.sleep(0)
            self.closed = True


def workers():
    """
    The tasks of jobs.
    """
    ours = ("_feed", "row")
    return [task for task in asyncio.all_tasks() if task.get_coro().__name__ in ours]


def assert_over(client):
    """
    Nothing of the job is left.
    """
    assert workers() == []
    assert client._line.governor.snapshot() == {}


async def gone(emulator, count=COUNT):
    """
    The server has seen all its clients leave, and nothing has come since.
    """
    await emulator.wait_for_disconnect(count, PATIENCE)
    await emulator.wait_until_idle(PATIENCE)
    assert len(emulator.requests) == count + 1


async def over(client):
    """
    Wait until nothing of the job is left, where nobody waits for its end.
    """
    async with asyncio.timeout(PATIENCE):
        while workers():  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert_over(client)


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


async def test_a_source_that_never_gives(client, emulator):
    """
    A wait for the next request is given up as well.
    """
    asked, left = asyncio.Event(), asyncio.Event()

    async def source():
        yield "one"
        try:
            asked.set()
            await asyncio.Event().wait()
        finally:
            left.set()

    async with client.map(source()) as job:
        async for _ in job:
            await asked.wait()
            break
    assert left.is_set()
    assert_over(client)


async def test_cancelled_while_leaving(client, held):
    """
    What hesitates to end is cancelled once more, and the block is left when it has ended.
    """
    hesitates = asyncio.Event()
    ended = []

    async def source():
        try:
            yield "one"
            await asyncio.Event().wait()
        finally:
            hesitates.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

    async def read():
        async with client.map(source()) as job:
            async for _ in job:
                # Until it waits for the second request.
                for _ in range(10):
                    await asyncio.sleep(0)
                break

    task = asyncio.create_task(read())
    await hesitates.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
    assert_over(client)


async def test_cancelled_while_the_source_is_closed(client, emulator):
    """
    The last thing that may hesitate.
    """
    closing = asyncio.Event()

    async def source():
        try:
            while True:
                yield "one"
        finally:
            closing.set()
            await asyncio.Event().wait()

    async def read():
        async with client.map(source(), concurrency=1) as job:
            async for _ in job:
                break

    task = asyncio.create_task(read())
    await closing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_over(client)


async def test_what_the_source_raises_in_its_end(client):
    """
    It passes; the job is over all the same.
    """

    async def source():
        try:
            while True:
                yield "one"
        finally:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        async with client.map(source(), concurrency=1) as job:
            async for _ in job:
                break
    assert_over(client)


async def test_what_the_source_raises_and_nobody_hears(client):
    """
    In a bare loop there is nobody to raise it to; asyncio is told, as of a generator.
    """
    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    async def source():
        try:
            while True:
                yield "one"
        finally:
            raise OSError("the disk is full")

    async for _ in client.map(source(), concurrency=1):
        break
    await over(client)
    gc.collect()
    assert list(map(str, told)) == ["the disk is full"]


async def test_a_source_that_does_not_listen(client, emulator):
    """
    What it gives although it was cancelled is not sent any more.
    """
    asked = asyncio.Event()

    class Deaf:
        given = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.given += 1
            if self.given > 1:
                asked.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    return "too late"
            return "one"

    async with client.map(Deaf()) as job:
        async for _ in job:
            await asked.wait()
            break
    assert_over(client)
    assert len(emulator.requests) == 1


async def test_a_call_that_does_not_listen(client, monkeypatch):
    """
    What it answers although it was cancelled is not told any more.
    """
    asked = asyncio.Event()

    async def reply(self, request, timeouts):
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ChatReply()

    monkeypatch.setattr(Line, "reply", reply)
    job = client.map(["one"])
    reader = asyncio.ensure_future(anext(aiter(job)))
    await asked.wait()
    await job.aclose()
    with pytest.raises(StreamAbortedError):
        await reader
    assert job.done == 0
    assert_over(client)


async def test_what_is_not_the_jobs_to_close(client):
    """
    A file or a queue may be read on.
    """

    class Closable(Source):
        closed = False

        def close(self):
            self.closed = True

    source = Closable()
    async with client.map(source, concurrency=2) as job:
        async for _ in job:
            break
    assert not source.closed


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


async def test_rows_that_were_not_read(client):
    """
    They are gone with the job.
    """
    job = client.map(["one", "two", "three"])
    rows = aiter(job)
    await anext(rows)
    async with asyncio.timeout(PATIENCE):
        while job.done < 3 or workers():  # noqa: ASYNC110 -- there is no event
            await asyncio.sleep(0)
    await job.aclose()
    with pytest.raises(StreamAbortedError):
        await anext(rows)


async def test_closed_after_its_end(client):
    async with client.map(["one"]) as job:
        rows = aiter(job)
        await anext(rows)
        assert await anext(rows, None) is None
    await job.aclose()
    assert await anext(rows, None) is None


async def test_never_begun(client, emulator, source):
    """
    Nothing was sent, nobody is warned; but the source is closed that nobody will read.
    """
    given = source.waited()
    async with client.map(given):
        pass
    client.map(Source())
    assert source.taken == 0
    with pytest.raises(StopAsyncIteration):
        await anext(given)
    assert_over(client)
    assert emulator.requests == []


async def test_reading_after_the_block(client, emulator):
    job = client.map(Source())
    async with job:
        pass
    with pytest.raises(StreamAbortedError):
        async for _ in job:
            pytest.fail("a row after the end")
    assert emulator.requests == []


async def test_somebody_cancels_a_worker(client, held):
    """
    The reader is not left waiting, and the others end.
    """
    async with client.map(Source(), concurrency=COUNT) as job:
        rows = aiter(job)
        await anext(rows)
        await held.wait_for_request(COUNT + 1)
        workers()[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await anext(rows)
    assert_over(client)
    await gone(held)


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
