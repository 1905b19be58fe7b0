"""
A journal on a disk that fails: what is kept, and what is said.
"""

import asyncio
import json
import os
import shutil
import sys
import threading

from pathlib import Path

import pytest

import horay_async

from horay_async import JournalError
from horay_async.many import _compaction
from horay_async.many._index import Counts
from horay_async.many._journal import Journal
from horay_async.many._journal_file import JournalFile
from journaling import answer, digest, line, opened, texts, threads
from mapping import PATIENCE
from processes import wait_until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.mark.parametrize("lines", [1, 250])
async def test_the_disk_is_told(path, monkeypatch, lines):
    """
    Soon, and not only at the end: a power cut takes little.
    """
    told, loop, sync = asyncio.Event(), asyncio.get_running_loop(), os.fsync

    def listening(descriptor):
        if f'"custom_id":"{lines - 1}"'.encode() in path.read_bytes():
            loop.call_soon_threadsafe(told.set)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", listening)
    journal = await Journal.open(path)
    for index in range(lines):
        await answer(journal, index)
    await asyncio.wait_for(told.wait(), PATIENCE)
    await journal.aclose()


@pytest.mark.skipif(os.name == "nt", reason="open files stay on Windows")
@pytest.mark.parametrize("what", ["file", "folder", "other"])
async def test_it_was_removed(tmp_path, what):
    """
    Whoever removes it, or puts another file in its place, is told so before the end.
    """
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "run.jsonl"
    journal = await Journal.open(path)
    if what == "folder":
        shutil.rmtree(folder)
    else:
        path.unlink()
    if what == "other":
        path.write_text("")
    await answer(journal, 0)
    with pytest.raises(JournalError, match="somebody has removed or replaced it"):
        await journal.finish()
    await journal.aclose()


FULL = f"""
import asyncio, json, resource, sys
sys.path[:0] = [{str(Path(horay_async.__file__).parents[1])!r}, sys.argv[2]]
from horay_async import JournalError
from journaling import digest, line, opened

SIZE = 20_000

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE))
    done, problems = 0, []

    async def one(journal, claim):
        nonlocal done
        try:
            await journal.write(claim, line(claim.index, "x" * 500))
        except JournalError as error:
            problems.append(str(error))
        else:
            done += 1

    try:
        async with opened(sys.argv[1]) as journal:
            claims = [journal.claim(n, str(n), digest("a")) for n in range(101)]
            await asyncio.gather(*(one(journal, each) for each in claims[:0:-1]))
            await one(journal, claims[0])
            end = "quiet"
            try:
                await journal.finish(order="input")
            except JournalError as error:
                end = str(error)
    finally:
        print(json.dumps([done, problems, end]))

asyncio.run(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no such limit on Windows")
async def test_the_disk_is_full(path):
    """
    What was written stays, half a line is cut off, and all that comes later fails at once;
    there is no clean end.
    """
    words = ["-c", FULL, str(path), str(Path(__file__).parent)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE * 2):
        out, _ = await process.communicate()
    done, problems, end = json.loads(out)
    assert 20 < done < 40
    assert len(problems) == 101 - done
    [problem] = {*problems, end}
    assert problem.endswith(
        f" cannot be written (File too large): its {done} lines so far are kept; mend"
        " that, and run it again to go on"
    )
    assert path.read_bytes().endswith(b"}\n")
    assert texts(path) == [(str(100 - n), "x" * 500) for n in range(done)]
    async with opened(path) as journal:
        assert journal.counts == Counts(answered=done)


async def test_a_compaction_that_fails(path, monkeypatch):
    """
    Costs the order alone, and the next end mends that.
    """

    def full(*_):
        raise OSError(28, "No space left on device")

    async def run():
        async with opened(path) as journal:
            for number in (1, 0):
                journal.claim(1 - number, str(1 - number), digest("a"))
            await journal.finish(order="input")

    path.write_bytes(line(1, "b") + line(0, "a"))
    with monkeypatch.context() as patched:
        patched.setattr(_compaction, "_write_beside", full)
        with pytest.raises(JournalError, match=r"has all its lines.*No space left"):
            await run()
    assert texts(path) == [("1", "b"), ("0", "a")]
    await run()
    assert texts(path) == [("0", "a"), ("1", "b")]


async def test_a_sync_that_fails(path, monkeypatch):
    """
    Is told to the next row, or in the end; what may be lost is counted.
    """

    def fail(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(JournalFile, "sync", fail)
    journal = await Journal.open(path)
    await answer(journal, 0)
    with pytest.raises(JournalError, match="1 line the last 1 may be lost"):
        await journal.aclose()
    await journal.aclose()


async def test_a_mistake_of_ours_ends_all_waits(path, monkeypatch):
    """
    Nobody waits for a thread that has ended.
    """

    def fail(*_):
        raise ZeroDivisionError

    async with opened(path) as journal:
        monkeypatch.setattr(JournalFile, "append", fail)
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):
                with pytest.raises(JournalError):
                    await answer(journal, 0)
            await asyncio.to_thread(wait_until, lambda: not threads())
            with pytest.raises(JournalError):
                await answer(journal, 0)
            with pytest.raises(JournalError, match="failed: ZeroDivisionError"):
                await journal.finish()


@pytest.mark.parametrize("how", ["told", "thrown"])
async def test_lines_that_wait_behind_it(path, monkeypatch, how):
    """
    Are told as well.
    """
    begun, go_on = threading.Event(), threading.Event()

    def fail(*_):
        begun.set()
        assert go_on.wait(PATIENCE)
        if how == "thrown":
            raise ZeroDivisionError
        return (), OSError(5, "Input/output error")

    monkeypatch.setattr(JournalFile, "append", fail)
    journal = await Journal.open(path)
    writes = [asyncio.ensure_future(answer(journal, 0))]
    await asyncio.to_thread(begun.wait, PATIENCE)
    writes += [asyncio.ensure_future(answer(journal, n)) for n in (1, 2)]
    await asyncio.sleep(0)
    writes.pop().cancel()
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*writes, return_exceptions=True)
        assert {type(one) for one in found} == {JournalError}
        await journal.aclose()
