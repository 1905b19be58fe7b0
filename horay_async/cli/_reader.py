"""
Lines from a file or a pipe, gzipped or not, without holding up the event loop.
"""

import asyncio
import contextlib
import gzip
import queue
import threading
import zlib

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from io import BufferedReader
from pathlib import Path
from typing import Any, Self, cast

from ._failures import Failure, Misuse, reason
from ._lines import Line


Numbered = tuple[int, Line]

Numbering = Callable[[Any, str], Iterator[Sequence[Numbered]]]
"""
What makes numbered lines of an open file and its name; it blocks.
"""

_Wanted = asyncio.Future[Sequence[Numbered]]

# One read of a pipe gives at most this much on Linux, and a thread's turn costs as much as
# a few hundred short lines.
_BLOCK = 1 << 16

LONGEST = 256 << 20
"""
Bytes of a line: far above any honest one, and below what fills a machine's memory.
"""

_GZIP = b"\x1f\x8b"

# What people have that looks like lines of JSON from afar.
_STRANGERS = {
    b"PK\x03\x04": "a zip file",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
    # PowerShell's ">" writes it.
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


class LineReader:
    """
    Lines with their numbers, as *numbering* finds them; several tasks may pull. Owns the file.

    A thread reads, and only when somebody asks: a slow pipe holds up nobody, and no more is
    read ahead than one read gives. It may be a *daemon*: a pipe that says nothing must not
    keep the process alive after Ctrl-C.
    """

    def __init__(
        self,
        file: AbstractContextManager[Any],
        name: str,
        numbering: Numbering,
        *,
        daemon: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[_Wanted | None] = queue.SimpleQueue()
        self._ready: deque[Numbered] = deque()
        self._turn = asyncio.Lock()
        self._waiting: _Wanted | None = None
        self._ended = False
        threading.Thread(
            target=_read,
            args=(file, numbering, name, self._asked, self._loop),
            name="horay-lines",
            daemon=daemon,
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

    async def peek(self, ahead: int = 0, *, wait: bool = True) -> Numbered | None:
        """
        The line that comes next, or so many after it, or None; it is still to come.

        Args:
            wait: Whether more is read for it than the next line takes: a pipe may have no
                more to say before that is answered.

        Raises:
            Failure: The file cannot be read.
        """
        while len(self._ready) <= ahead and not self._ended:
            if self._ready and not wait:
                break
            async with self._turn:
                await self._refill(ahead)
        return self._ready[ahead] if ahead < len(self._ready) else None

    def end(self) -> None:
        """
        Give no more lines; whoever waits for one gets the end.
        """
        self._ended = True
        self._ready.clear()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result([])

    async def __anext__(self) -> Numbered:
        """
        The next line, with its number.

        Raises:
            Failure: The file cannot be read on. What came before it was given.
        """
        if await self.peek() is None:
            raise StopAsyncIteration
        return self._ready.popleft()

    async def _refill(self, ahead: int) -> None:
        # Somebody else's turn may have brought some.
        if len(self._ready) > ahead or self._ended:
            return
        # Until lines are here, there are no more: the thread ends with an error, and a
        # cancelled wait loses its lines.
        self._ended = True
        self._waiting = self._loop.create_future()
        self._asked.put(self._waiting)
        lines = await self._waiting
        self._ready.extend(lines)
        self._ended = not lines


def _read(
    file: AbstractContextManager[Any],
    numbering: Numbering,
    name: str,
    asked: queue.SimpleQueue[_Wanted | None],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """
    The thread: lines for every future, until the file ends or nobody wants more.
    """
    with file:
        blocks = numbering(file, name)
        while (future := asked.get()) is not None:
            lines: Sequence[Numbered] = ()
            error: Failure | None = None
            try:
                lines = next(blocks, lines)
            except Failure as problem:
                error = problem
            # A closed loop waits for no line.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, future, lines, error)
            if not lines:
                return


def _settle(
    future: _Wanted,
    lines: Sequence[Numbered],
    error: Exception | None,
) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(lines)


# Bytes to lines ----------------------------------------------------------------------


def numbered(file: BufferedReader, name: str) -> Iterator[list[tuple[int, bytes]]]:
    """
    Lists, none of them empty, of the lines that are not blank, each with its number.

    Raises:
        Failure: It cannot be read on, or is nothing that has lines.
    """
    number = 0
    for lines in _lines(file, name):
        found = []
        for line in lines:
            number += 1
            if line and not line.isspace():
                found.append((number, line))
        if found:
            yield found


def _lines(file: BufferedReader, name: str) -> Iterator[list[bytes]]:
    """
    The lines of each read, without their line feeds.
    """
    begun: list[bytes] = []
    length = 0
    for block in _blocks(file, name):
        first, *rest = block.split(b"\n")
        begun.append(first)
        length += len(first)
        if length > LONGEST:
            raise Failure(
                f"cannot read {name}: one line is longer than {LONGEST >> 20} MB"
            )
        if rest:
            last = rest.pop()
            yield [b"".join(begun), *rest]
            begun, length = [last], len(last)
    yield [b"".join(begun)]


def _blocks(file: BufferedReader, name: str) -> Iterator[bytes]:
    """
    What is there, as it comes, unpacked where it is gzipped.
    """
    try:
        head = file.peek(16)[:16]
        _refuse_stranger(head, name)
        # One byte tells, should a pipe give no more at first: no JSON begins so.
        read = _unpacker(file) if head[:1] == _GZIP[:1] else file.read1
        while block := read(_BLOCK):
            yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = (
            "it ends too early" if isinstance(error, EOFError) else "it is damaged"
        )
        raise Failure(f"cannot read {name} to its end: {problem} (gzip)") from None
    except OSError as error:
        raise Failure(f"cannot read {name}: {reason(error)}") from None


def _refuse_stranger(head: bytes, name: str) -> None:
    for begin, what in _STRANGERS.items():
        if head.startswith(begin):
            raise Misuse(
                f"cannot read {name}: it is {what}, expected JSON Lines in UTF-8, "
                "plain or gzipped"
            )


def _unpacker(file: BufferedReader) -> Callable[[int], bytes]:
    return gzip.GzipFile(fileobj=cast(Any, _Eager(file))).read1


class _Eager:
    """
    A file whose reads give what is there: of a slow pipe the packed lines come in time.
    """

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        # The few bytes of a header are wanted whole.
        read = self._file.read if size < 16 else self._file.read1
        return cast(bytes, read(size))


# How many ----------------------------------------------------------------------------


def count_lines(path: str, tell: Callable[[int], object]) -> None:
    """
    Have a thread tell how many lines of a regular file there are; of nothing else.

    *tell* is called on the loop that runs now, if at all: what cannot be read to its end
    has no number.
    """
    threading.Thread(
        target=_count,
        args=(path, tell, asyncio.get_running_loop()),
        name="horay-count",
        daemon=True,
    ).start()


def _count(
    path: str, tell: Callable[[int], object], loop: asyncio.AbstractEventLoop
) -> None:
    # Whoever reads the file says what is wrong with it; a closed loop wants no number.
    with contextlib.suppress(Failure, OSError, RuntimeError):
        if not Path(path).is_file():
            return  # what a pipe gives two readers, neither gets whole
        with Path(path).open("rb") as file:
            total = sum(len(lines) for lines in numbered(file, path))
        loop.call_soon_threadsafe(tell, total)
