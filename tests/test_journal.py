"""
A journal as a job uses it: opened, claimed from, written to, ended.
"""

import asyncio
import gc
import json
import subprocess
import sys
import threading
import weakref

from pathlib import Path

import pytest

import horay_async

from horay_async import APIConnectionError, BadRequestError, JournalError
from horay_async.many import _journal
from horay_async.many._index import Counts
from horay_async.many._journal import Journal
from horay_async.many._journal_file import JournalFile
from journaling import answer, digest, line, opened, texts, threads
from mapping import PATIENCE
from processes import wait_until


REFUSED = BadRequestError("no")
AWAY = APIConnectionError("cannot connect")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


async def states(path, *rows, **options):
    """
    What rows, each a number and what it says, are to a journal.
    """
    async with opened(path, **options) as journal:
        return [
            journal.claim(number, str(number), digest(said)).state
            for number, said in rows
        ]


# From run to run ---------------------------------------------------------------------


async def test_a_new_one(path):
    """
    Every row is new; its line is in the file when it has been written.
    """
    async with opened(path) as journal:
        assert journal.counts == Counts()
        assert journal.path == str(path.resolve())
        assert repr(journal) == f"<Journal {journal.path!r}>"
        for number in range(3):
            claim = await answer(journal, number)
            assert (claim.state, claim.skip) == ("new", False)
            assert len(texts(path)) == number + 1
        await journal.finish()
    assert texts(path) == [("0", "fine"), ("1", "fine"), ("2", "fine")]
    await asyncio.to_thread(wait_until, lambda: not threads())


async def test_the_next_run(path):
    """
    What is answered and what failed is skipped; what was cut off, and what has changed, is
    asked again.
    """
    async with opened(path) as journal:
        await answer(journal, 0)
        await answer(journal, 1, error=REFUSED)
        await answer(journal, 2, error=AWAY)
    rows = [(n, "a") for n in range(4)]
    assert await states(path, *rows) == ["answered", "failed", "again", "new"]
    changed = [(n, "b") for n in range(4)]
    assert await states(path, *changed) == ["changed"] * 3 + ["new"]
    async with opened(path, retry_failed=True) as journal:
        assert journal.counts == Counts(answered=1, failed=1, again=1)
        found = [await answer(journal, n, "late") for n in range(3)]
        assert [claim.state for claim in found] == ["answered", "again", "again"]
        await journal.finish()
    assert texts(path) == [("0", "fine"), ("1", "late"), ("2", "late")]


async def test_the_input_has_shifted(path):
    """
    Rows without ids of their own are asked again, and none keeps another's answer.
    """
    async with opened(path) as journal:
        for number, said in enumerate("abcd"):
            await answer(journal, number, said.upper(), said=said)
        await journal.finish(order="input")
    async with opened(path) as journal:
        for number, said in enumerate("bcd"):
            claim = await answer(journal, number, said.upper(), said=said)
            assert claim.state == "changed"
        await journal.finish(order="input")
    assert texts(path) == [("0", "B"), ("1", "C"), ("2", "D"), ("3", "D")]


async def test_one_id_for_several_rows(path):
    """
    They are told apart by their order, in the next run too.
    """
    async with opened(path) as journal:
        for number in range(3):
            await answer(journal, number, f"no. {number}", name="same", said=number)
        assert journal.repeated == 2
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert [one["horay"].get("nth") for one in lines] == [None, 1, 2]
    async with opened(path) as journal:
        for number in range(4):
            claim = journal.claim(number, "same", digest(number))
            assert claim.state == ("answered" if number < 3 else "new")


@pytest.mark.parametrize("order", ["done", "input"])
async def test_in_order(path, order):
    """
    A clean end leaves the rows as they came, or in the order of the input.
    """
    async with opened(path) as journal:
        claims = [journal.claim(n, str(n), digest("a")) for n in range(4)]
        for number in (2, 0, 3, 1):
            await journal.write(claims[number], line(number, f"{number}"))
        await journal.finish(order=order)
    ids = [one for one, _ in texts(path)]
    assert ids == (["2", "0", "3", "1"] if order == "done" else ["0", "1", "2", "3"])


async def test_another_end_leaves_the_order(path):
    """
    It takes no longer than it must.
    """
    async with opened(path) as journal:
        claims = [journal.claim(n, str(n), digest("a")) for n in range(2)]
        await journal.write(claims[1], line(1, "b"))
        await journal.write(claims[0], line(0, "a"))
    assert texts(path) == [("1", "b"), ("0", "a")]


# Many at once ------------------------------------------------------------------------


async def test_many_writers(path):
    """
    Each line is there when its `write` returns, however many write at once.
    """

    async def one(journal, claim):
        await journal.write(claim, line(claim.index, "x" * 500))
        return path.stat().st_size

    async with opened(path) as journal:
        claims = [journal.claim(n, str(n), digest("a")) for n in range(200)]
        async with asyncio.timeout(PATIENCE):
            sizes = await asyncio.gather(*(one(journal, each) for each in claims))
        assert min(sizes) >= len(line(0, "x" * 500))
        await journal.finish(order="input")
    assert texts(path) == [(str(n), "x" * 500) for n in range(200)]


async def test_a_cancelled_write_is_written(path):
    """
    As is all that was given to it when the journal is closed.
    """
    async with opened(path) as journal:
        claim = journal.claim(0, "0", digest("a"))
        write = asyncio.ensure_future(journal.write(claim, line(0, "fine")))
        await asyncio.sleep(0)
        write.cancel()
    assert write.cancelled()
    assert texts(path) == [("0", "fine")]


@pytest.fixture
def synced(monkeypatch):
    """
    How many lines there were each time that the file was synced.
    """
    found = []
    sync = JournalFile.sync

    def spy(file):
        assert threading.current_thread() in threads()
        found.append(file.lines)
        sync(file)

    monkeypatch.setattr(JournalFile, "sync", spy)
    return found


async def test_it_is_synced_after_some_time(path, synced):
    """
    However few lines there are, and at the end.
    """
    async with opened(path) as journal:
        await answer(journal, 0)
        async with asyncio.timeout(PATIENCE):
            while synced != [1]:  # noqa: ASYNC110 -- by its clock
                await asyncio.sleep(0.001)
        await answer(journal, 1)
    assert synced == [1, 2]


async def test_it_is_synced_after_a_hundred_lines(path, synced, monkeypatch):
    """
    However little time has passed.
    """
    monkeypatch.setattr(_journal, "SYNC_SECONDS", 1000)
    async with opened(path) as journal:
        claims = [journal.claim(n, str(n), digest("a")) for n in range(250)]
        for part in (claims[:99], claims[99:101], claims[101:]):
            await asyncio.gather(*(journal.write(c, line(c.index, "b")) for c in part))
        await answer(journal, 250)
    assert 100 <= synced[0] <= 101
    assert synced[-1] == 251


# One at a time -----------------------------------------------------------------------


async def test_another_job_is_refused(path):
    """
    At once; and its journal is free when it has ended.
    """
    async with opened(path):
        with pytest.raises(horay_async.JournalLockedError, match=r"run\.jsonl"):
            await Journal.open(path)
    async with opened(path):
        pass


OTHER = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(horay_async.__file__).parents[1])!r})
from horay_async.many._journal import Journal

async def main():
    journal = await Journal.open(sys.argv[1])
    print("open", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.loop("plain")
async def test_another_process_is_refused(path):
    """
    As long as the one lives that has it, and no longer, however it dies.
    """

    def other():
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, path], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "open\n"
        return process

    with await asyncio.to_thread(other) as process:
        try:
            with pytest.raises(horay_async.JournalLockedError, match="another process"):
                await Journal.open(path)
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
    async with opened(path):
        pass


async def test_what_is_no_journal(tmp_path):
    """
    Is refused, and leaves nothing behind: no thread, and no error that keeps itself.
    """
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n')
    gc.disable()
    try:
        try:
            await Journal.open(prompts)
        except JournalError as error:
            assert "is not a journal" in str(error)  # noqa: PT017 -- raises() keeps it
            kept = weakref.ref(error)
        await asyncio.to_thread(wait_until, lambda: not threads())
        await asyncio.sleep(0)
        assert kept() is None
    finally:
        gc.enable()
    assert prompts.read_text() == '{"prompt": "a"}\n'


# Leaving -----------------------------------------------------------------------------


async def test_closed(path):
    """
    Twice is fine; nothing is written afterwards.
    """
    journal = await Journal.open(path)
    claim = journal.claim(0, "0", digest("a"))
    await journal.aclose()
    await journal.aclose()
    with pytest.raises(JournalError, match="was closed"):
        await journal.write(claim, line(0, "late"))
    assert texts(path) == []


async def test_a_cancelled_opening_lets_go(path):
    """
    Before it ends: the next one is not refused.
    """
    for _ in range(20):
        opening = asyncio.ensure_future(Journal.open(path))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        async with opened(path):
            pass


async def test_an_opening_that_is_cancelled_twice(path, monkeypatch):
    """
    Waits for nothing: the disk may hang.
    """
    reading, go_on = threading.Event(), threading.Event()

    def slowly(*_):
        reading.set()
        assert go_on.wait(PATIENCE)
        return Counts()

    monkeypatch.setattr(JournalFile, "read", slowly)
    opening = asyncio.ensure_future(Journal.open(path))
    await asyncio.to_thread(reading.wait, PATIENCE)
    for _ in range(2):
        opening.cancel()
        await asyncio.wait([opening], timeout=0)
    with pytest.raises(asyncio.CancelledError):
        await opening
    go_on.set()
    await asyncio.to_thread(wait_until, lambda: not threads())


async def test_a_forgotten_one_lets_go(path):
    """
    When nothing refers to it any more.
    """
    journal = await Journal.open(path)
    await answer(journal, 0)
    del journal
    await asyncio.to_thread(wait_until, lambda: not threads())
    async with opened(path) as journal:
        assert journal.counts.answered == 1


async def test_a_cancelled_finish_leaves_the_order(path, monkeypatch):
    """
    The file is whole, and free.
    """
    compacting, go_on = threading.Event(), threading.Event()
    compact = _journal.compact

    def slowly(file, index, order, gone):
        compacting.set()
        assert go_on.wait(PATIENCE)
        compact(file, index, order, gone)

    monkeypatch.setattr(_journal, "compact", slowly)
    async with opened(path) as journal:
        claims = [journal.claim(n, str(n), digest("a")) for n in range(2)]
        await journal.write(claims[1], line(1, "b"))
        await journal.write(claims[0], line(0, "a"))
        finishing = asyncio.ensure_future(journal.finish(order="input"))
        await asyncio.to_thread(compacting.wait, PATIENCE)
        finishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finishing
        go_on.set()
        await asyncio.to_thread(wait_until, lambda: not threads())
    assert texts(path) == [("1", "b"), ("0", "a")]
    assert list(path.parent.iterdir()) == [path]


async def test_let_go(path):
    """
    All that was given to it is written nevertheless.
    """
    journal = await Journal.open(path)
    claim = journal.claim(0, "0", digest("a"))
    write = asyncio.ensure_future(journal.write(claim, line(0, "fine")))
    await asyncio.sleep(0)
    journal.let_go()
    await asyncio.to_thread(wait_until, lambda: not threads())
    await write
    assert texts(path) == [("0", "fine")]
