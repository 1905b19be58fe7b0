"""
The reader of a batch's lines.
"""

import asyncio
import gzip
import io
import os
import threading

import pytest

from horay_async.cli import _reader
from horay_async.cli._failures import Failure, Misuse
from horay_async.cli._reader import LineReader, count_lines, numbered


PLAIN = b"a\n\n \r\nb\nc"
KINDS = "plain", "gzip"
LINES = [(1, b"a"), (4, b"b"), (5, b"c")]


class Slow(io.RawIOBase):
    """
    A file that gives one byte at a time, as a pipe may.
    """

    def __init__(self, content):
        self._content = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, into):
        byte = self._content.read(1)
        into[: len(byte)] = byte
        return len(byte)


def lines_of(content, *, slow=False):
    raw = Slow(content) if slow else io.BytesIO(content)
    found = numbered(io.BufferedReader(raw), "x")
    return [line for lines in found for line in lines]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("content", [PLAIN, gzip.compress(PLAIN)], ids=KINDS)
def test_lines(content, slow):
    """
    Blank lines are counted and left out; the last line needs no line feed.
    """
    assert lines_of(content, slow=slow) == LINES


def test_several_gzips():
    """
    Gzipped files that were put one behind the other are one.
    """
    assert lines_of(gzip.compress(b"a\nb") + gzip.compress(b"c\n")) == [
        (1, b"a"),
        (2, b"bc"),
    ]


def test_long_lines():
    """
    A line may be longer than one read, and be cut anywhere.
    """
    long = b"x" * 200_000
    assert lines_of(long + b"\n" + long) == [(1, long), (2, long)]


def test_endless_line(monkeypatch):
    """
    What has no lines does not fill the memory.
    """
    monkeypatch.setattr(_reader, "LONGEST", 2 << 20)
    with pytest.raises(Failure, match="one line is longer than 2 MB"):
        lines_of(bytes(3 << 20))


PACKED = gzip.compress(b"".join(b"%d\n" % n for n in range(50_000)))
OTHER = PACKED[:-8] + b"12345678"  # the wrong checksum


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (PACKED[:-20], "it ends too early"),
        (PACKED[:12], "it ends too early"),
        (PACKED[:1000] + b"\xff" * 1000 + PACKED[2000:], "it is damaged"),
        (OTHER, "it is damaged"),
        (PACKED + b"and more", "it is damaged"),
    ],
)
def test_broken_gzip(content, problem):
    """
    What a broken file still gives is whole lines; then it is said what is wrong.
    """
    blocks = numbered(io.BufferedReader(io.BytesIO(content)), "x.gz")
    found = []
    with pytest.raises(Failure, match=f"cannot read x.gz to its end: {problem}"):
        found += blocks
    assert all(
        line == b"%d" % (number - 1) for lines in found for number, line in lines
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04rest", "a zip file"),
        ('{"prompt": "a"}'.encode("utf-16"), "UTF-16 text"),
        (b"PAR1", "a Parquet file"),
    ],
)
def test_strangers(content, what):
    """
    A file of another kind is one sentence, not a thousand bad lines.
    """
    with pytest.raises(Misuse, match=f"it is {what}, expected JSON Lines"):
        lines_of(content)


class Failing(Slow):
    """
    A disk that breaks after the first line.
    """

    def readinto(self, into):
        if not (size := super().readinto(into)):
            raise OSError(5, "Input/output error")
        return size


async def test_reader(tmp_path):
    """
    The reader gives the same lines, and lets one be looked at before.
    """
    path = tmp_path / "in"
    path.write_bytes(PLAIN)
    with LineReader(path.open("rb"), "x", numbered) as lines:
        assert await lines.peek() == LINES[0]
        assert [line async for line in lines] == LINES
        assert await lines.peek() is None


async def test_peek_ahead():
    """
    Lines further on are looked at, too: read for that, or only if they are there.
    """
    source, sink = os.pipe()
    with LineReader(os.fdopen(source, "rb"), "x", numbered) as lines:
        os.write(sink, b"a\nb\n")
        assert await lines.peek(wait=False) == (1, b"a")
        assert await lines.peek(1, wait=False) == (2, b"b")
        assert await lines.peek(2, wait=False) is None
        os.write(sink, b"c\n")
        assert await lines.peek(2) == (3, b"c")
        os.close(sink)
        assert await lines.peek(3) is None
        assert [line async for line in lines] == [(1, b"a"), (2, b"b"), (3, b"c")]


async def test_reader_that_fails():
    """
    What came before an error was given; after it there is nothing.
    """
    with LineReader(io.BufferedReader(Failing(b"a\nb")), "x", numbered) as lines:
        assert await anext(lines) == (1, b"a")
        with pytest.raises(Failure, match="cannot read x: Input/output error"):
            await anext(lines)
        assert [line async for line in lines] == []


async def test_reader_shared():
    """
    Tasks that pull at once get each line once, and all of them get the end.
    """
    source, sink = os.pipe()
    with LineReader(os.fdopen(source, "rb"), "x", numbered) as lines:

        async def pull():
            return [number async for number, _ in lines]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(pull()) for _ in range(4)]
            await asyncio.sleep(0)
            os.write(sink, b"x\n" * 100)
            os.close(sink)
    found = [number for task in tasks for number in task.result()]
    assert sorted(found) == list(range(1, 101))


async def test_reader_waits_for_nobody():
    """
    Waiting for a silent pipe can be cancelled, and what comes later harms nobody.
    """
    source, sink = os.pipe()
    with LineReader(os.fdopen(source, "rb"), "x", numbered) as lines:
        waiting = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    os.close(sink)


async def test_reader_ended():
    """
    Whoever waits for a line learns that there will be none.
    """
    source, sink = os.pipe()
    with LineReader(os.fdopen(source, "rb"), "x", numbered) as lines:
        os.write(sink, b"a\nb\n")
        assert await anext(lines) == (1, b"a")
        lines.end()
        assert [line async for line in lines] == []
    os.close(sink)
    source, sink = os.pipe()
    with LineReader(os.fdopen(source, "rb"), "x", numbered) as lines:
        waiting = asyncio.ensure_future(anext(lines, None))
        await asyncio.sleep(0)
        lines.end()
        assert await asyncio.wait_for(waiting, 10) is None
    os.close(sink)


# How many --------------------------------------------------------------------------


@pytest.mark.parametrize("content", [PLAIN, gzip.compress(PLAIN)], ids=KINDS)
async def test_count(tmp_path, content):
    """
    What is counted is what the reader gives.
    """
    path = tmp_path / "in"
    path.write_bytes(content)
    told = asyncio.get_running_loop().create_future()
    count_lines(str(path), told.set_result)
    assert await asyncio.wait_for(told, 10) == 3


@pytest.mark.parametrize("kind", ["pipe", "broken"])
async def test_count_of_what_cannot_be_counted(tmp_path, monkeypatch, kind):
    """
    A pipe is not read by anybody else, and a broken file has no number.
    """
    path = tmp_path / "in"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(PACKED[:-20])
    threads, told = [], []

    class Thread(threading.Thread):
        def start(self):
            threads.append(self)
            super().start()

    monkeypatch.setattr(_reader.threading, "Thread", Thread)
    count_lines(str(path), told.append)
    await asyncio.to_thread(threads[0].join, 10)
    assert not threads[0].is_alive()
    await asyncio.sleep(0)
    assert not told
