"""
A job with a journal: what is written when, what is asked again, and what a full disk costs.
"""

import asyncio
import json
import logging
import os

import pytest

from horay_async import (
    Budget,
    BudgetExceededError,
    ChatRequest,
    ClientClosedError,
    Conversation,
    JournalError,
    JournalLockedError,
    StreamAbortedError,
    user,
)
from horay_async.emulator import Answer
from horay_async.many._journal import Journal
from horay_async.many._working import Work
from loopback import soon, until
from mapping import (
    PATIENCE,
    AsyncSource,
    Generated,
    Source,
    assert_over,
    every,
    hold,
    over,
    workers,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def said(request):
    return request.json["messages"][-1]["content"]


def ids(path):
    return [line["custom_id"] for line in lines(path)]


def texts(path):
    return {
        line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"]
        for line in lines(path)
        if line["error"] is None
    }


async def free(path):
    """
    Nobody has the journal any more, or soon.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                journal = await Journal.open(path)
            except JournalLockedError:
                # Where nobody waited for its end its thread may be at it.
                await asyncio.sleep(0)
            else:
                return await journal.aclose()


# Written -----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, "rows", True])
async def test_before_it_is_handed_over(client, path, stream):
    """
    Whatever the reader has is in the file.
    """
    async with client.map(
        Source(30), concurrency=4, journal=path, stream=stream
    ) as job:
        assert job.journal.answered == 0
        read = []
        async for item in job:
            if hasattr(item, "request"):
                read.append(item.id)
                assert set(read) <= set(ids(path))
    assert sorted(texts(path)) == sorted(read)
    assert len(read) == 30
    await free(path)
    assert_over(client)


async def test_in_the_order_of_the_input(client, emulator, path):
    """
    After a clean end the file is as the rows came.
    """
    first, second = hold(emulator, 2)
    async with client.map(["a", "b"], journal=path, order="input") as job:
        reading = asyncio.ensure_future(anext(aiter(job)))
        await emulator.wait_for_request(2)
        later, sooner = first, second
        if emulator.requests[0].json["messages"][0]["content"] == "b":
            later, sooner = second, first
        sooner.set()
        await until(lambda: path.exists() and len(lines(path)) == 1)
        later.set()
        assert (await soon(reading)).id == "0"
    await every(client.map(["a", "b"], journal=path, order="input"))
    assert ids(path) == ["0", "1"]


async def test_what_cannot_be_asked(client, emulator, path):
    """
    A bad line and an invalid request are written, and not tried again.
    """
    asked = [
        ("a", ValueError("no JSON")),
        ("b", ChatRequest(messages=[user("x")], max_tokens=9999)),
    ]
    rows = await every(client.map(asked, journal=path))
    assert all(row.error for row in rows)
    assert sorted(ids(path)) == ["a", "b"]
    job = client.map(asked, journal=path)
    assert await every(job) == []
    assert (job.progress.skipped, job.progress.skipped_failed) == (2, 2)
    assert emulator.requests == []


# Again -------------------------------------------------------------------------------


async def test_a_second_run(client, emulator, path):
    """
    Asks what is not answered; what failed it asks when it is told to.
    """
    emulator.script(Answer.json({"error": {"message": "no"}}, 400))
    asked = [(str(i), f"prompt {i}") for i in range(10)]
    rows = await every(client.map(asked[:6], journal=path, concurrency=1))
    assert sum(row.error is not None for row in rows) == 1
    job = client.map(asked, journal=path)
    rows = await every(job)
    assert sorted(row.id for row in rows) == ["6", "7", "8", "9"]
    assert [row.index for row in sorted(rows, key=lambda row: row.index)] == [
        6,
        7,
        8,
        9,
    ]
    progress = job.progress
    assert (progress.skipped, progress.skipped_failed, progress.done) == (6, 1, 4)
    assert (progress.total, progress.left) == (10, 0)
    assert (job.journal.answered, job.journal.failed, job.journal.again) == (5, 1, 0)
    assert job.journal.path == str(path)
    (row,) = await every(client.map(asked, journal=path, retry_failed=True))
    assert (row.id, row.reply.text) == ("0", "prompt 0")
    assert len(emulator.requests) == 11
    assert texts(path) == dict(asked)
    assert len(lines(path)) == 10


def bad(count):
    """
    So many rows that are written without being asked.
    """
    return [(str(i), ValueError("no JSON")) for i in range(count)]


@pytest.mark.parametrize("order", ["done", "input"])
async def test_skipped_rows_hold_up_nobody(client, emulator, path, order):
    """
    However many there are between two that are asked.
    """
    asked = [("first", "one"), *bad(300), ("last", "two")]
    await every(client.map(asked[1:-1], journal=path))
    (gate,) = hold(emulator, 1)
    job = client.map(asked, journal=path, order=order, concurrency=2)
    async with job:
        items = aiter(job)
        wait = asyncio.ensure_future(anext(items))
        # The last row is begun while the first one is still being asked.
        await emulator.wait_for_request(2)
        gate.set()
        rows = [await soon(wait)] + [row async for row in items]
    assert {row.index for row in rows} == {0, 301}
    if order == "input":
        assert [row.index for row in rows] == [0, 301]
        assert ids(path) == [name for name, _ in asked]
    assert job.progress.skipped == 300


async def test_others_get_their_turns_meanwhile(client, path):
    """
    A journal with everything in it does not hold up the loop.
    """
    asked = bad(1000)
    await every(client.map(asked, journal=path))
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with client.map(asked, journal=path) as job:
        task = asyncio.create_task(other())
        feeding = asyncio.ensure_future(anext(aiter(job), None))
        await until(lambda: job.progress.skipped)
        turns = 0
        await until(lambda: job.progress.skipped == 1000)
        assert turns >= 5
        assert await soon(feeding) is None
        task.cancel()


async def test_a_changed_request(client, emulator, path, caplog):
    """
    It is asked again, which is said once; its new answer takes the old one's place.
    """
    await every(client.map([("a", "one"), ("b", "two"), ("c", "three")], journal=path))
    asked = [("a", "one"), ("b", "TWO"), ("c", "THREE")]
    job = client.map(asked, journal=path)
    with caplog.at_level(logging.WARNING, "horay_async"):
        rows = await every(job)
    assert sorted(row.id for row in rows) == ["b", "c"]
    assert (job.progress.changed, job.progress.skipped) == (2, 1)
    (record,) = (one for one in caplog.records if "asked again" in one.message)
    assert "row 1 ('b') is asked again: its request is not the one" in record.message
    assert "TWO" not in record.message
    assert texts(path) == {"a": "one", "b": "TWO", "c": "THREE"}
    assert len(lines(path)) == 3


async def test_fields_are_part_of_the_request(client, path):
    """
    So are those that were given for all rows, and the turns of a conversation.
    """
    talk = ("a", Conversation("one", ["two"]))
    assert len(await every(client.map([talk], journal=path, temperature=0))) == 1
    assert len(await every(client.map([talk], journal=path, temperature=0))) == 0
    assert len(await every(client.map([talk], journal=path, temperature=1))) == 1
    other = ("a", Conversation("one", ["three"]))
    assert len(await every(client.map([other], journal=path, temperature=1))) == 1


async def test_ids_that_come_again(client, emulator, path):
    """
    They are different rows, in every run.
    """
    asked = [("a", "one"), ("a", "two"), ("a", "one")]
    assert len(await every(client.map(asked, journal=path))) == 3
    assert len(await every(client.map(asked, journal=path))) == 0
    assert len(emulator.requests) == 3


# Cut off -----------------------------------------------------------------------------


async def test_cut_off(client, emulator, path):
    """
    What came of a conversation is written, and it is asked again from its beginning.
    """
    emulator.script(None)
    hold(emulator, 9)
    talk = ("a", Conversation("one", ["two"]))
    async with client.map([talk, ("b", "x")], journal=path, concurrency=1) as job:
        reading = asyncio.ensure_future(anext(aiter(job)))
        await emulator.wait_for_request(2)
        await job.aclose()
        with pytest.raises(StreamAbortedError):
            await reading
    (line,) = lines(path)
    assert line["custom_id"] == "a"
    assert line["horay"]["cut_off"] is True
    assert len(line["turns"]) == 1
    (row,) = job.unread
    assert row.id == "a"
    emulator.script()
    await free(path)
    assert_over(client)


async def test_cut_off_and_asked_again(client, emulator, path):
    emulator.script(Answer.chat("half", asyncio.Event()))
    async with client.map([("a", "whole")], journal=path, stream=True) as job:
        async for _ in job:
            break
    (line,) = lines(path)
    assert (line["horay"]["cut_off"], line["horay"]["partial"]) == (True, "half")
    (row,) = await every(client.map([("a", "whole")], journal=path))
    assert row.reply.text == "whole"
    assert texts(path) == {"a": "whole"}
    assert len(lines(path)) == 1


async def test_unread_rows_are_written(client, path):
    """
    What is answered and not read when the job is left need not be asked again.
    """
    async with client.map(Source(40), journal=path, concurrency=4) as job:
        async for _ in job:
            await until(lambda: len(job.unread) >= 4)
            break
    unread = {row.id for row in job.unread if row.error is None}
    assert unread <= texts(path).keys()
    again = client.map(Source(40), journal=path)
    rows = await every(again)
    assert len(rows) + again.progress.skipped == 40
    assert not unread & {row.id for row in rows}


async def test_cancelled_while_its_line_is_written(client, path, monkeypatch):
    """
    That is an answered row: it is written, and told as such.
    """
    write, begun = Journal.write, asyncio.Event()

    async def slow(self, claim, line):
        await write(self, claim, line)
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Journal, "write", slow)
    async with client.map([("a", "one")], journal=path) as job:
        reading = asyncio.ensure_future(anext(aiter(job)))
        await soon(begun.wait())
        await job.aclose()
        with pytest.raises(StreamAbortedError):
            await reading
    (row,) = job.unread
    assert row.reply.text == "one"
    assert texts(path) == {"a": "one"}


@pytest.mark.parametrize("first", ["one", ValueError("no JSON")], ids=["asked", "bad"])
async def test_a_slow_disk(client, emulator, path, monkeypatch, first):
    """
    While a line is written another row is asked.
    """
    write, go_on = Journal.write, asyncio.Event()

    async def slow(self, claim, line):
        await go_on.wait()
        await write(self, claim, line)

    monkeypatch.setattr(Journal, "write", slow)
    async with client.map([first, "two"], journal=path, concurrency=1) as job:
        reading = asyncio.ensure_future(anext(aiter(job)))
        await until(lambda: emulator.requests and said(emulator.requests[-1]) == "two")
        assert not reading.done()
        go_on.set()
        await soon(reading)


async def test_closing_the_client(client, emulator, path):
    """
    Rows that it ends were never answered: they are asked again.
    """
    hold(emulator, 2)
    async with client.map(AsyncSource(), journal=path, concurrency=2) as job:
        items = aiter(job)
        wait = asyncio.ensure_future(anext(items))
        await emulator.wait_for_request(2)
        await client.close()
        assert isinstance((await soon(wait)).error, ClientClosedError)
        with pytest.raises(ClientClosedError):
            async for _ in items:
                pass
    assert [line["horay"]["cut_off"] for line in lines(path)] == [True, True]
    await free(path)


# Opened and closed -------------------------------------------------------------------


async def test_one_writer(client, emulator, path):
    """
    A second job is told at once, before anything is sent, and the first goes on.
    """
    hold(emulator, 1)
    source = Generated()
    async with client.map(["one"], journal=path) as job:
        with pytest.raises(JournalLockedError):
            async with client.map(source.sync(), journal=path):
                pytest.fail("it was opened twice")
        with pytest.raises(JournalLockedError):
            async for _ in client.map(source.sync(), journal=path):
                pytest.fail("it was opened twice")
        assert emulator.requests == []
        assert source.taken == 0
        assert await job.open() is job
    await free(path)


async def test_no_journal(client, emulator, path):
    """
    A file that is something else is refused before anything is sent, and left as it is.
    """
    path.write_text("prompt\n")
    with pytest.raises(JournalError):
        async with client.map(["one"], journal=path):
            pytest.fail("it was opened")
    assert path.read_text() == "prompt\n"
    assert emulator.requests == []
    assert client.map(["one"], journal=path).journal is None


@pytest.mark.parametrize("end", ["unused", "break", "last", "error", "bare"])
async def test_the_file_is_let_go(client, path, end):
    """
    Whatever ends the job, another one can have its journal then.
    """
    job = client.map(Source(20), journal=str(path), concurrency=2)
    if end == "unused":
        async with job:
            pass
    elif end == "break":
        async with job:
            async for _ in job:
                break
    elif end == "last":
        async with job:
            async for _ in job:
                if job.done == 20 and not len(job.unread):
                    break
    elif end == "error":
        with pytest.raises(KeyError):
            async with job:
                async for _ in job:
                    raise KeyError
    else:
        async for _ in job:
            break
        await over(client)
    await free(path)
    assert_over(client)


@pytest.mark.parametrize("how", ["cancelled", "left"])
async def test_left_with_the_loop(client, path, how, monkeypatch):
    """
    Where a job is left, or somebody cancels all tasks, as asyncio.run() does, no task is
    begun any more: the loop may end, and the journal's thread ends by itself.
    """
    begun = []
    monkeypatch.setattr(Work, "_end_journal", lambda *_: begun.append(True))
    job = client.map(Generated().waited(), journal=path, concurrency=2)
    items = aiter(job)
    await anext(items)
    ours = workers()
    if how == "cancelled":
        for task in ours:
            task.cancel()
    else:
        del items
    await asyncio.gather(*ours, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)
    assert workers() == begun == []
    await free(path)
    assert texts(path)
    await job.aclose()


async def test_a_source_that_fails(client, path, monkeypatch):
    """
    What it gave before is written; the next run goes on from there. It is no clean end.
    """
    monkeypatch.delattr(Journal, "finish")

    def source():
        yield from ["one", "two"]
        raise KeyError("the file is broken")

    with pytest.raises(KeyError):
        await every(client.map(source(), journal=path))
    assert sorted(texts(path).values()) == ["one", "two"]
    await free(path)


async def test_a_budget(client, emulator, path):
    """
    It ends the job, not the journal: the next run goes on.
    """
    asked = [(str(i), f"prompt {i}") for i in range(50)]
    job = client.map(asked, journal=path, budget=Budget(tokens=100), max_tokens=10)
    rows = []
    with pytest.raises(BudgetExceededError):
        async with job:
            async for row in job:
                rows.append(row)  # noqa: PERF401 -- it fails, and what came must stay
    assert 0 < len(rows) < 50
    assert len(emulator.requests) == len(rows) == len(lines(path))
    assert (job.in_flight, job.done) == (0, len(rows))
    await every(client.map(asked, journal=path, max_tokens=10))
    assert len(texts(path)) == len(emulator.requests) == 50


# The disk ----------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["done", "input"])
async def test_a_full_disk(client, emulator, path, order, monkeypatch):
    """
    It ends the job after what is written; what was paid for and is not, is in `unread`.
    """
    write, given = os.write, Generated()

    def full(file, data):
        if b"custom_id" in bytes(data) and path.stat().st_size > 2000:
            raise OSError(28, "No space left on device")
        return write(file, data)

    monkeypatch.setattr("os.write", full)
    rows = []
    async with client.map(
        given.waited(), journal=path, order=order, concurrency=4
    ) as job:
        with pytest.raises(JournalError, match="No space left"):
            async for row in job:
                rows.append(row)  # noqa: PERF401 -- it fails, and what came must stay
        assert given.closed
        assert job.in_flight == 0
    monkeypatch.undo()
    # In the order of the input some may wait for one that could not be written.
    waiting = {row.id for row in job.unread} & set(ids(path))
    assert {row.id for row in rows} | waiting == set(ids(path))
    assert not waiting or order == "input"
    assert rows or order == "input"
    assert len(job.unread) == len(emulator.requests) - len(rows) > 0
    assert all(row.reply for row in job.unread)
    await free(path)


async def test_a_full_disk_that_nobody_hears_of(client, path, monkeypatch):
    """
    Whoever has left before is told when the job is closed.
    """

    def full(file, data):
        raise OSError(28, "No space left on device")

    async with client.map(Source(9), journal=path, concurrency=1) as job:
        items = aiter(job)
        await anext(items)
        monkeypatch.setattr("os.write", full)
        await until(lambda: job._error is not None)
        with pytest.raises(JournalError):
            await job.aclose()
        await job.aclose()
    assert_over(client)


async def test_an_end_that_fails(client, path, monkeypatch):
    """
    The lines are there, but not in order: that is no clean end.
    """

    async def finish(self, *, order):
        raise JournalError("not in order")

    monkeypatch.setattr(Journal, "finish", finish)
    with pytest.raises(JournalError, match="not in order"):
        await every(client.map(["one"], journal=path))
    await free(path)
