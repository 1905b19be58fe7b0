"""
Lines to a file or a pipe, each of them whole, without holding up the event loop.
"""

import asyncio
import contextlib
import io
import os
import queue
import stat
import threading

from typing import Self

from ._failures import Failure, reason


_Job = tuple[bytes, asyncio.Future[None]]

PATIENCE = 1.0
"""
Seconds for what is still to be written at the end: far more than a disk needs.
"""


class CannotWrite(Failure):
    """
    The output takes no more.
    """


class LineWriter:
    """
    Writes lines, each at once; owns the file.

    A thread writes, so that a pipe that nobody reads from holds up no call. It is a daemon:
    such a pipe must not keep the process alive after Ctrl-C.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._loop = asyncio.get_running_loop()
        self._wanted: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = self._loop.create_future()
        threading.Thread(
            target=_write,
            args=(file, self._wanted, self._closed, self._loop),
            name="horay-answers",
            daemon=True,
        ).start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """
        Wait until all is written and the file is closed; of a pipe that takes nothing, not
        for ever.
        """
        self._wanted.put(None)
        await asyncio.wait([self._closed], timeout=PATIENCE)

    async def write(self, line: bytes) -> None:
        """
        Wait until a line is written. Cancelled: it is written nevertheless.

        Raises:
            BrokenPipeError: Whoever read has left.
            CannotWrite: The file takes no more. What it holds ends with a whole line.
        """
        written: asyncio.Future[None] = self._loop.create_future()
        self._wanted.put((line, written))
        await written


def _write(
    file: io.FileIO,
    wanted: queue.SimpleQueue[_Job | None],
    closed: asyncio.Future[None],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """
    The thread: line after line, until there are no more.
    """
    # Nobody waits on a closed loop.
    with contextlib.suppress(RuntimeError):
        with file:
            while (job := wanted.get()) is not None:
                line, written = job
                error: Exception | None = None
                try:
                    _write_whole(file, line)
                except BrokenPipeError as problem:
                    error = problem
                except OSError as problem:
                    error = CannotWrite(f"cannot write the answers: {reason(problem)}")
                loop.call_soon_threadsafe(_settle, written, error)
        loop.call_soon_threadsafe(_settle, closed, None)


def _write_whole(file: io.FileIO, line: bytes) -> None:
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        # Half a line would be joined to whatever is written next.
        if 0 < len(rest) < len(line) and _is_regular(os.fstat(file.fileno())):
            with contextlib.suppress(OSError):
                file.truncate(file.tell() - (len(line) - len(rest)))
        raise


def _settle(written: asyncio.Future[None], error: Exception | None) -> None:
    if written.done():
        return
    if error is not None:
        written.set_exception(error)
    else:
        written.set_result(None)


def _is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)
