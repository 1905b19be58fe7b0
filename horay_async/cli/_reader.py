"""
Lines from a file or a pipe, one at a time, without holding up the event loop.
"""

import asyncio
import contextlib
import queue
import threading

from typing import BinaryIO, Self


class LineReader:
    """
    Numbered lines; several tasks may pull from it at once. Owns the file.

    A thread reads, and only when somebody asks, so a slow pipe holds up nobody and nothing
    is read ahead. The thread is a daemon: a pipe that says nothing must not keep the
    process alive after Ctrl-C.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[asyncio.Future[bytes] | None] = (
            queue.SimpleQueue()
        )
        self._turn = asyncio.Lock()
        self._number = 0
        self._ended = False
        self._back: list[tuple[int, bytes]] = []
        threading.Thread(
            target=_read,
            args=(file, self._asked, self._loop),
            name="horay-lines",
            daemon=True,
        ).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """
        Let the thread close the file, as soon as it is not reading from it.
        """
        self._asked.put(None)

    def __aiter__(self) -> Self:
        return self

    def put_back(self, number: int, line: bytes) -> None:
        """
        Have a line come again.
        """
        self._back.append((number, line))

    async def __anext__(self) -> tuple[int, bytes]:
        """
        The next line that is not blank, with its number.

        Raises:
            OSError: The file cannot be read on.
        """
        if self._back:
            return self._back.pop()
        async with self._turn:
            while not self._ended:
                # Until the line is here, this was the last one: the thread ends with an
                # error, and a cancelled wait loses its line.
                self._ended = True
                line = await self._ask()
                self._ended = not line
                self._number += 1
                if line.strip():
                    return self._number, line
        raise StopAsyncIteration

    async def _ask(self) -> bytes:
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._asked.put(future)
        return await future


def _read(
    file: BinaryIO,
    asked: queue.SimpleQueue[asyncio.Future[bytes] | None],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """
    The thread: a line for every future, until the file ends or nobody wants more.
    """
    with file:
        while (future := asked.get()) is not None:
            line, error = b"", None
            try:
                line = file.readline()
            except OSError as problem:
                error = problem
            # A closed loop waits for no line.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, future, line, error)
            if not line:
                return


def _settle(future: asyncio.Future[bytes], line: bytes, error: OSError | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(line)
