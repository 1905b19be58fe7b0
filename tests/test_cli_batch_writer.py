"""
The writer of a batch's results.
"""

import asyncio
import contextlib
import io
import os

import pytest

from horay_async.cli import _writer
from horay_async.cli._writer import CannotWrite, LineWriter


class Filling(io.FileIO):
    """
    A file on a disk that has room for ten bytes more, and gives three at a time.
    """

    room = 10

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        size = min(3, self.room, len(data))
        self.room -= size
        return super().write(data[:size])


async def test_writes_at_once(tmp_path):
    """
    A line is there as soon as it is written; the file is closed in the end.
    """
    path = tmp_path / "out"
    file = io.FileIO(path, "w")
    async with LineWriter(file) as writer:
        await writer.write(b"one\n")
        assert await asyncio.to_thread(path.read_bytes) == b"one\n"
        await writer.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert file.closed


async def test_full(tmp_path):
    """
    A file that is full ends with a whole line.
    """
    path = tmp_path / "out"
    async with LineWriter(Filling(path, "w")) as writer:
        await writer.write(b"12345\n")
        with pytest.raises(CannotWrite, match="the answers: No space left on device"):
            await writer.write(b"67890\n")
    assert path.read_bytes() == b"12345\n"


async def test_cancelled(tmp_path):
    """
    Whoever does not wait for a line any more does not take it back.
    """
    path = tmp_path / "out"
    async with LineWriter(io.FileIO(path, "w")) as writer:
        writing = asyncio.ensure_future(writer.write(b"one\n"))
        await asyncio.sleep(0)
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
    assert path.read_bytes() == b"one\n"


async def test_closed_pipe():
    """
    A reader that leaves is told apart from a disk.
    """
    source, sink = os.pipe()
    os.close(source)
    async with LineWriter(io.FileIO(sink, "w")) as writer:
        with pytest.raises(BrokenPipeError):
            await writer.write(b"one\n")


async def test_pipe_that_nobody_reads(monkeypatch):
    """
    Leaving does not wait for ever.
    """
    monkeypatch.setattr(_writer, "PATIENCE", 0.01)
    source, sink = os.pipe()
    async with LineWriter(io.FileIO(sink, "w")) as writer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.write(b"x" * 1_000_000), 0.01)
    os.close(source)
