"""
The source in a job's end: given up, closed, and heard out.
"""

import asyncio
import contextlib
import gc

import pytest

from horay_async import ChatReply, ClientClosedError, StreamAbortedError
from horay_async._line import Line
from mapping import (
    PATIENCE,
    AsyncSource,
    Generated,
    Source,
    assert_over,
    every,
    hold,
    over,
)


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


async def test_cancelled_while_leaving(client):
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


async def test_the_reader_is_told_first(client):
    """
    Whoever reads does not wait for a source that hesitates.
    """
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def source():
        yield "one"
        try:
            asked.set()
            await asyncio.Event().wait()
        finally:
            await go_on.wait()

    job = client.map(source())
    rows = aiter(job)
    await anext(rows)
    reader = asyncio.ensure_future(anext(rows))
    await asked.wait()
    closing = asyncio.create_task(job.aclose())
    with pytest.raises(StreamAbortedError):
        await reader
    assert not closing.done()
    go_on.set()
    await closing
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


async def test_what_the_source_raises_when_it_is_given_up(client):
    """
    So does what it makes of being cancelled.
    """
    asked = asyncio.Event()

    async def source():
        yield "one"
        try:
            asked.set()
            await asyncio.Event().wait()
        finally:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        async with client.map(source()) as job:
            async for _ in job:
                await asked.wait()
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


@pytest.mark.parametrize("how", ["await", "gather", "task"])
async def test_a_source_that_closes_its_own_job(client, how):
    """
    It cannot wait for its own end: all else ends, and so does it.
    """

    async def source():
        yield "one"
        if how == "await":
            await job.aclose()
        elif how == "gather":
            await asyncio.gather(job.aclose())
        else:
            await asyncio.wait_for(asyncio.create_task(job.aclose()), PATIENCE)
        yield "two"

    job = client.map(source())
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StreamAbortedError):
            async with job:
                async for _ in job:
                    pass
    assert_over(client)


async def test_a_source_that_closes_its_job_in_its_end(client):
    """
    Once more than needed is fine.
    """

    async def source():
        try:
            while True:
                yield "one"
        finally:
            await job.aclose()

    job = client.map(source(), concurrency=1)
    async with asyncio.timeout(PATIENCE), job:
        async for _ in job:
            break
    assert_over(client)


async def cancelled():
    """
    Wait for something that somebody has cancelled.
    """
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


class Cancelled(AsyncSource):
    """
    Waits in vain for its second prompt.
    """

    async def __anext__(self):
        if self.taken == 1:
            await cancelled()
        return await super().__anext__()


class Misled(Source):
    """
    Ends as only an async source may.
    """

    def __next__(self):
        if self.taken == 1:
            raise StopAsyncIteration
        return super().__next__()


@pytest.mark.parametrize(
    ("source", "cause", "words"),
    [
        (Cancelled, asyncio.CancelledError, "somebody cancelled the source of this"),
        (Misled, StopAsyncIteration, "raised StopAsyncIteration"),
    ],
)
async def test_errors_that_would_pass_for_an_end(
    client, emulator, source, cause, words
):
    """
    What is in flight is finished and told; then it is an error even to a task group.
    """
    (gate,) = hold(emulator, 1)
    rows = []

    async def read():
        async with client.map(source()) as job:
            async for row in job:
                rows.append(row.reply.text)  # noqa: PERF401 -- what came must stay

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            await emulator.wait_for_request()
            gate.set()
    (error,) = caught.value.exceptions
    assert isinstance(error, RuntimeError)
    assert words in str(error)
    assert isinstance(error.__cause__, cause)
    assert rows == ["prompt 0"]
    assert_over(client)


@pytest.mark.parametrize("begun", [True, False])
async def test_closing_the_client_while_the_source_waits(client, begun):
    """
    What nobody can answer any more is not waited for.
    """
    left = asyncio.Event()

    async def source():
        try:
            if begun:
                yield "one"
            await asyncio.Event().wait()
        finally:
            left.set()

    async with client.map(source()) as job, asyncio.timeout(PATIENCE):
        rows = aiter(job)
        if begun:
            await anext(rows)
        waiting = asyncio.ensure_future(anext(rows))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(ClientClosedError, match="during this job"):
            await waiting
    assert left.is_set() or not begun
    assert_over(client)


@pytest.mark.parametrize("error", [StopIteration("x"), ValueError("no JSON")], ids=repr)
async def test_an_exception_as_a_request(client, error):
    """
    It is handed through as it is, and not raised on the way: it would grow each time.
    """
    rows = await every(client.map([error] * 3))
    assert [row.error for row in rows] == [error] * 3
    assert error.__traceback__ is None


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
    What it answers although it was cancelled was paid for, but no loop tells it any more.
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
    assert [row.request for row in job.unread] == ["one"]
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


async def test_never_begun(client, emulator):
    """
    Nothing was sent, nobody is warned; but the source is closed that nobody will read.
    """
    source = Generated()
    given = source.waited()
    async with client.map(given):
        pass
    client.map(Source())
    aiter(client.map(Source()))
    assert source.taken == 0
    with pytest.raises(StopAsyncIteration):
        await anext(given)
    assert_over(client)
    assert emulator.requests == []
