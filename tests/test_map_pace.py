"""
Many prompts: in which order rows come, how far ahead the source is read, and how they end.
"""

import asyncio
import itertools

import anyio
import pytest

from horay_async import (
    ChatReply,
    ClientClosedError,
    StreamConsumedError,
    WrongLoopError,
)
from horay_async._line import Line
from horay_async.many._asking import Asking
from mapping import PATIENCE, AsyncSource, Source, every, hold, sorted_rows


@pytest.fixture
def instant(monkeypatch):
    """
    Every call is answered in the loop's next turn, without a server.
    """

    async def reply(self, request, timeouts):
        await asyncio.sleep(0)
        return ChatReply()

    monkeypatch.setattr(Line, "reply", reply)


# Order, and how far ahead ------------------------------------------------------------


async def test_as_they_are_done(client, emulator):
    first, second, third = hold(emulator, 3)
    async with client.map(["one", "two", "three"]) as job:
        rows = aiter(job)
        wait = asyncio.ensure_future(anext(rows))
        await emulator.wait_for_request(3)
        order = []
        for gate in (third, first, second):
            gate.set()
            order.append((await wait).request)
            wait = asyncio.ensure_future(anext(rows, None))
        assert await wait is None
    texts = {
        id(gate): emulator.requests[at].json["messages"][0]["content"]
        for at, gate in enumerate((first, second, third))
    }
    assert order == [texts[id(gate)] for gate in (third, first, second)]


@pytest.mark.parametrize("source", [Source, AsyncSource])
@pytest.mark.parametrize(("order", "ahead"), [("done", 2), ("input", 4)])
@pytest.mark.usefixtures("instant")
async def test_a_slow_reader(client, order, ahead, source):
    """
    Who does not read is not read for: the source waits.
    """
    taken = source()
    async with client.map(taken, concurrency=3, order=order) as job:
        read = 0
        async for row in job:
            read += 1
            for _ in range(100):
                await asyncio.sleep(0)
            # It counts as read when it is handed out.
            assert taken.taken == read + ahead * 3
            assert job.done == taken.taken
            if order == "input":
                assert row.index == read - 1
            if read == 20:
                break


async def test_in_the_order_of_the_input(client, emulator):
    """
    One that takes longer than the others holds them back, and in the end the source.
    """
    late = asyncio.Event()

    async def choose(request):
        if request.json["messages"][0]["content"] == "prompt 0":
            await late.wait()

    emulator.script(*[choose] * 40)
    source = Source(40)
    async with client.map(source, concurrency=4, order="input") as job:
        rows = aiter(job)
        wait = asyncio.ensure_future(anext(rows))
        await emulator.wait_until(lambda: len(emulator.requests) == 16, PATIENCE)
        await emulator.wait_until(lambda: len(emulator.open_requests) == 1, PATIENCE)
        for _ in range(100):
            await asyncio.sleep(0)
        assert source.taken == 16
        late.set()
        first = await wait
        rest = [row.index async for row in rows]
    assert [first.index, *rest] == list(range(40))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("order", ["done", "input"])
@pytest.mark.usefixtures("instant")
async def test_ten_thousand(client, order):
    """
    Memory does not grow with the number of rows: what was taken is there, or done with.
    """
    source = Source(10_000)
    before = len(asyncio.all_tasks())
    most = tasks = read = 0
    async with client.map(source, concurrency=16, order=order) as job:
        async for _ in job:
            read += 1
            most = max(most, source.taken - read)
            if read % 100 == 0:
                tasks = max(tasks, len(asyncio.all_tasks()) - before)
                assert job.in_flight <= 16
    assert read == job.done == 10_000
    assert most <= 16 * (2 if order == "done" else 4)
    assert tasks == 16 + 1


async def test_at_once(client, emulator):
    """
    As many as were asked for, and no more.
    """
    gates = hold(emulator, 9)
    async with client.map(Source(9), concurrency=4) as job:
        reading = asyncio.create_task(every(job))
        await emulator.wait_for_request(4)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(emulator.open_requests) == job.in_flight == 4
        for gate in gates:
            gate.set()
        assert len(await reading) == 9


async def test_no_more_workers_than_work(client, emulator):
    hold(emulator, 3)
    before = asyncio.all_tasks()
    async with client.map(["one", "two", "three"], concurrency=1000) as job:
        wait = asyncio.ensure_future(anext(aiter(job)))
        await emulator.wait_for_request(3)
        for _ in range(10):
            await asyncio.sleep(0)
        workers = {
            task
            for task in asyncio.all_tasks() - before
            if task.get_coro().__name__ == "_work"
        }
        assert len(workers) == 3
        wait.cancel()


@pytest.mark.usefixtures("instant")
async def test_a_thousand_workers(client):
    """
    They do not start inside each other, on no loop.
    """
    rows = await every(client.map(Source(3000), concurrency=2000))
    assert len(rows) == 3000


# The source --------------------------------------------------------------------------


async def test_an_async_source(client):
    async def source():
        for number in range(20):
            await asyncio.sleep(0)
            yield number, f"prompt {number}"

    rows = await sorted_rows(client.map(source(), concurrency=4))
    assert [row.reply.text for row in rows] == [f"prompt {i}" for i in range(20)]


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.usefixtures("instant")
async def test_a_generator_stays_in_one_task(client, early):
    """
    It may hold what belongs to a task over its yields, from beginning to end.
    """
    tasks = set()

    async def source():
        with anyio.CancelScope():
            async with asyncio.timeout(PATIENCE), anyio.create_task_group():
                try:
                    for number in range(50):
                        tasks.add(asyncio.current_task())
                        await asyncio.sleep(0)
                        yield f"prompt {number}"
                finally:
                    tasks.add(asyncio.current_task())

    read = 0
    async with client.map(source(), concurrency=4) as job:
        async for _ in job:
            read += 1
            if early and read == 10:
                break
    assert read == (10 if early else 50)
    assert len(tasks) == 1


@pytest.mark.usefixtures("instant")
async def test_an_async_source_one_at_a_time(client):
    """
    Many workers pull, and still it is never asked twice at once.
    """

    class Strict(AsyncSource):
        asked = False

        async def __anext__(self):
            assert not self.asked
            self.asked = True
            try:
                await asyncio.sleep(0)
                return await super().__anext__()
            finally:
                self.asked = False

    rows = await every(client.map(Strict(200), concurrency=16))
    assert len(rows) == 200


async def test_rows_come_while_the_source_is_slow(client):
    """
    What is answered need not wait for the next request.
    """
    more = asyncio.Event()

    async def source():
        yield "one"
        await more.wait()
        yield "two"

    async with client.map(source()) as job:
        texts = []
        async for row in job:
            texts.append(row.reply.text)
            more.set()
    assert texts == ["one", "two"]


@pytest.mark.parametrize("order", ["done", "input"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_source_that_fails(client, emulator, kind, order):
    """
    What it gave before is answered and told; then its error.
    """
    gates = hold(emulator, 3)

    def source():
        yield from ["one", "two", "three"]
        raise KeyError("the file is broken")

    async def async_source():
        for one in source():
            yield one

    rows = []

    async def read(job):
        async for row in job:
            rows.append(row)  # noqa: PERF401 -- it fails, and what came must stay

    given = source() if kind == "sync" else async_source()
    async with client.map(given, order=order) as job:
        reading = asyncio.create_task(read(job))
        await emulator.wait_for_request(3)
        for gate in gates:
            gate.set()
        with pytest.raises(KeyError, match="the file is broken"):
            await reading
    assert sorted(row.reply.text for row in rows) == ["one", "three", "two"]
    assert job.done == 3


async def test_an_error_comes_again(client):
    """
    Whoever asks once more after the error gets it again: it must not look like an end.
    """

    def source():
        raise KeyError
        yield

    async with client.map(source()) as job:
        rows = aiter(job)
        for _ in range(2):
            with pytest.raises(KeyError):
                await anext(rows)


async def test_a_source_that_cannot_be_read(client):
    class Broken:
        def __iter__(self):
            raise OSError("gone")

    async with client.map(Broken()) as job:
        rows = aiter(job)
        for _ in range(2):
            with pytest.raises(OSError, match="gone"):
                await anext(rows)


async def test_the_end_stays_the_end(client):
    async with client.map(["one"]) as job:
        rows = aiter(job)
        await anext(rows)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(rows)


# Reading -----------------------------------------------------------------------------


async def test_a_bare_loop(client):
    rows = [row async for row in client.map(["one", "two"], order="input")]
    assert [row.reply.text for row in rows] == ["one", "two"]


@pytest.mark.parametrize("bare", [False, True])
async def test_one_loop(client, bare):
    """
    A second one would get what the first has left, if anything.
    """
    job = client.map(["one", "two"])
    if bare:
        async for _ in job:
            break
    else:
        async with job:
            async for _ in job:
                break
    with pytest.raises(StreamConsumedError, match="a job is read by one loop"):
        async for _ in job:
            pytest.fail("it was read twice")


async def test_waits_that_are_given_up(client, emulator):
    """
    A wait that is cancelled loses no row: the next one goes on.
    """
    count = 12
    gates = hold(emulator, count)
    texts = []
    async with client.map(Source(count), concurrency=5) as job:
        rows = aiter(job)
        while len(texts) < count:
            try:
                async with asyncio.timeout(0.001):
                    texts.append((await anext(rows)).reply.text)
            except TimeoutError:
                if gates:
                    gates.pop().set()
    assert sorted(texts) == sorted(f"prompt {i}" for i in range(count))
    assert len(emulator.requests) == count


async def test_several_tasks_read_one_loop(client):
    """
    Each row is told once.
    """
    async with client.map(Source(50), concurrency=8) as job:
        rows = aiter(job)

        async def read():
            return [row.index async for row in rows]

        parts = await asyncio.gather(read(), read(), read())
    assert sorted(itertools.chain(*parts)) == list(range(50))


async def test_a_mistake_of_ours(client, monkeypatch):
    """
    Whatever breaks a worker, the reader is told, and does not wait for ever.
    """

    async def broken(self, asked):
        await asyncio.sleep(0)
        raise ZeroDivisionError

    monkeypatch.setattr(Asking, "row", broken)
    async with client.map(["one", "two"]) as job:
        with pytest.raises(ZeroDivisionError):
            await anext(aiter(job))


async def test_another_loop(client):
    job = client.map(Source())
    async with job:
        rows = aiter(job)
        await anext(rows)

        async def elsewhere():
            with pytest.raises(WrongLoopError, match="read it there"):
                await anext(rows)
            with pytest.raises(WrongLoopError, match="close it there"):
                await job.aclose()

        await asyncio.to_thread(asyncio.run, elsewhere())


# The client is closed ----------------------------------------------------------------


@pytest.mark.parametrize("order", ["done", "input"])
async def test_closing_the_client(client, emulator, order):
    """
    What is under way fails, each row for itself; the rest is one error, not a row each.
    """
    hold(emulator, 4)
    source = Source()
    async with client.map(source, concurrency=4, order=order) as job:
        rows = aiter(job)
        wait = asyncio.ensure_future(anext(rows))
        await emulator.wait_for_request(4)
        await client.close()
        failed = [await wait]
        with pytest.raises(ClientClosedError, match="closed during this job"):
            async for row in rows:
                failed.append(row)  # noqa: PERF401 -- it fails, and what came must stay
    assert [type(row.error) for row in failed] == [ClientClosedError] * 4
    assert source.taken == 4


async def test_a_closed_client(client, emulator):
    """
    Nothing is taken from the source in vain.
    """
    await client.close()
    source = Source()
    async with client.map(source) as job:
        with pytest.raises(ClientClosedError):
            await anext(aiter(job))
    assert source.taken == 0
