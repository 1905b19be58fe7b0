"""
A journal's file: what is taken for one, what is in it, and how a line is added or mended.

All of it blocks: one thread does it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from .._errors import JournalError
from .._events import logger
from .._values import counted
from ._index import Counts, Index
from ._journal_lock import JournalLock, beside, is_at
from ._results import read_result


_BEGINS: Final = b'{"id":"batch_req_'
"""
How each of our lines does, so that half a line is known for one.
"""

_TRIED: Final = 100
"""
So many lines are looked at for one that can be read, to tell what a file is. Blank ones
do not count.
"""

_LINE_LIMIT: Final = 1 << 28
"""
Bytes of a line, in a file of which nobody knows yet what it is.
"""

PIECE: Final = 1 << 20
"""
Bytes to read at once.
"""

BINARY: Final = getattr(os, "O_BINARY", 0)


class JournalFile:
    """
    A file of lines that this process alone writes, from its opening to its closing.
    """

    def __init__(self, path: str) -> None:
        """
        Lock and open it.

        Raises:
            JournalLockedError: Somebody else has it.
            JournalError: It is no journal, in which case nothing was touched, or cannot be
                opened.
        """
        self.name = path
        self.damaged: list[int] = []
        """
        Where the lines begin that cannot be read.
        """
        self.lines = 0
        """
        How many it holds.
        """
        self.former = 0
        """
        How many a compaction has set aside.
        """
        self.fd = -1
        try:
            # What a link names is locked and replaced, not the link.
            self.path = Path(os.path.realpath(path))
            _check(self.path, path)
            self._lock = JournalLock(self.path, path)
            try:
                self._open()
            except BaseException:
                self.close()
                raise
        except (OSError, ValueError) as error:
            raise JournalError(
                f"the journal {path!r} cannot be opened: {reason(error)}"
            ) from error

    def _open(self) -> None:
        self.new.unlink(missing_ok=True)  # of a compaction that was killed
        there = self.path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | BINARY
        self.fd = os.open(self.path, flags, 0o666)
        if not there:
            sync_directory(self.path.parent)
        self.end = os.fstat(self.fd).st_size

    @property
    def former_path(self) -> Path:
        """
        Where those go and are: answers to other requests than a row's last one.
        """
        return self.path.with_name(f"{self.path.stem}.former{self.path.suffix}")

    @property
    def new(self) -> Path:
        """
        What takes its place in a compaction.
        """
        return beside(self.path, "tmp")

    # Reading -------------------------------------------------------------------------

    def read(self, index: Index, gone: Callable[[], bool]) -> Counts:
        """
        Take up all lines, and mend the last one, if whoever wrote it was killed meanwhile.

        A line in the middle that cannot be read stays as it is: its row is asked again, and
        whoever knows what it was can mend it. Former answers are taken up as well, but not
        for a new journal: whoever removed the last one begins anew.

        Args:
            gone: Says whether nobody wants it any more.

        Raises:
            JournalError: It cannot be read, or mended.
        """
        offset = first = 0
        try:
            self._read_former(index, gone)
            with os.fdopen(self.fd, "rb", buffering=PIECE, closefd=False) as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n"):
                        line = self._mend(number, offset, line)  # noqa: PLW2901
                    self._take(index, offset, line)
                    if self.damaged[:1] == [offset]:
                        first = number
                    offset += len(line)
                    if gone():
                        break
        except OSError as error:
            raise JournalError(
                f"the journal {self.name!r} cannot be read: {reason(error)}"
            ) from error
        if self.damaged:
            logger.warning(
                "%s of the journal %r cannot be read, the first is line %d: what stands"
                " there stays, and such a row is asked again",
                counted(len(self.damaged), "line"),
                self.name,
                first,
            )
        return Counts(**index.sealed(), damaged=len(self.damaged))

    def _read_former(self, index: Index, gone: Callable[[], bool]) -> None:
        if not self.end or not self.former_path.is_file():
            return
        offset = 0
        with self.former_path.open("rb", buffering=PIECE) as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    if (entry := read_result(line)) is not None:
                        index.add_former(entry, offset)
                offset += len(line)
                if gone():
                    break

    def _take(self, index: Index, offset: int, line: bytes) -> None:
        if not line.strip():
            return
        self.lines += 1
        entry = None
        with contextlib.suppress(ValueError):
            entry = read_result(line)
        if entry is None:
            self.damaged.append(offset)
        else:
            index.add(entry, offset)

    def _mend(self, number: int, offset: int, line: bytes) -> bytes:
        """
        The last line, which has no end: if it lacks only that it gets it, or else it goes.
        """
        # After a power cut some file systems have zeros where nothing was written yet.
        whole = line.rstrip(b"\0")
        try:
            read_result(whole)
        except ValueError:
            whole = b""
        os.ftruncate(self.fd, offset + len(whole))
        self.end = offset + len(whole)
        if whole:
            whole += b"\n"
            self._write_all(b"\n")
            return whole
        logger.warning(
            "line %d of the journal %r broke off after %d bytes: it is cut off, and its row"
            " is asked again",
            number,
            self.name,
            len(line),
        )
        return b""

    # Writing -------------------------------------------------------------------------

    def append(self, lines: Sequence[bytes]) -> tuple[Sequence[int], OSError | None]:
        """
        Write lines; returns where each begins that was written whole, and why not all were.

        What was written of the next one is cut off again, as far as that can be done.
        """
        begin = self.end
        ends = [begin, *itertools.accumulate(map(len, lines), initial=begin)][1:]
        try:
            self._write_all(b"".join(lines))
        except OSError as error:
            whole = [end for end in ends if end <= self.end]
            self.end = whole[-1]
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.end)
            self.lines += len(whole) - 1
            return whole[:-1], error
        self.lines += len(lines)
        return ends[:-1], None

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = os.write(self.fd, rest)
            self.end += count
            rest = rest[count:]

    def sync(self) -> None:
        """
        Wait until all that was written would outlast a power cut.

        Raises:
            OSError: It cannot be, or the file is not where it was.
        """
        os.fsync(self.fd)
        if not is_at(self.path, self.fd):
            raise FileNotFoundError(errno.ENOENT, "somebody has removed or replaced it")

    def close(self) -> None:
        """
        Let it go, and the lock. Twice is fine.
        """
        self.close_file()
        self._lock.release()

    def close_file(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def sync_directory(path: Path) -> None:
    """
    Have a new name outlast a power cut too.
    """
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover -- Windows
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        # A file system without such a thing, or a directory that may not be read.
        if error.errno not in {errno.EINVAL, errno.EACCES}:
            raise


# Before anything is touched ----------------------------------------------------------


def _check(path: Path, name: str) -> None:
    """
    Refuse what is no journal: what a user named by mistake must not be damaged.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise JournalError(
                f"the journal {name!r} cannot be made: there is no directory"
                f" {str(path.parent)!r}"
            ) from None
        return
    if not stat.S_ISREG(status.st_mode):
        what = "directory" if stat.S_ISDIR(status.st_mode) else "device or a pipe"
        raise JournalError(f"{name!r} is a {what}, expected a file for the journal")
    with path.open("rb") as file:
        number = _first_stranger(file)
    if number:
        raise JournalError(
            f"{name!r} is not a journal: its line {number} is not an answer as in OpenAI's"
            " Batch outputs; it is left as it is: name a new file, or an earlier journal"
        )


def _first_stranger(file: IO[bytes]) -> int:
    """
    The number of a line that is no journal's, before any that is one's; 0 if there is none.
    """
    unread = tried = number = 0
    while tried < _TRIED:
        line = file.readline(_LINE_LIMIT)
        number += 1
        said = line.strip(b"\0 \t\r\n")
        if not said and line:
            continue  # blank, or zeros after a power cut
        tried += 1
        if said.startswith(_BEGINS):
            return 0  # ours, be it whole or not
        if not line.endswith(b"\n") and _BEGINS.startswith(said):
            return unread  # the end, or a bit of our next line
        if len(line) == _LINE_LIMIT:
            return unread or number
        unread = unread or number
        if said.startswith(b"{"):
            with contextlib.suppress(ValueError):
                return 0 if read_result(said) else unread
    return unread


def reason(error: Exception) -> str:
    """
    What an error of the system says.
    """
    return getattr(error, "strerror", None) or str(error)
