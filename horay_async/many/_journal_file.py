"""
A journal's file: whose it is, what is in it, and how a line is added, mended, put in order.

All of it blocks: one thread does it.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import stat

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from .._errors import JournalError, JournalLockedError
from .._events import logger
from .._values import counted
from ._arguments import Order
from ._index import Counts, Index
from ._results import read_result


_BEGINS: Final = b'{"id":"batch_req_'
"""
How each of our lines does, so that half a line is known for one.
"""

_TRIED: Final = 100
"""
So many lines are looked at for one that can be read, to tell what a file is.
"""

_LINE_LIMIT: Final = 1 << 28
"""
Bytes of a line, in a file of which nobody knows yet what it is.
"""

_PIECE: Final = 1 << 20

_WINDOW: Final = 1 << 16
"""
Bytes to read at once of lines that are put in order: they stand near their places.
"""

_BINARY: Final = getattr(os, "O_BINARY", 0)


class JournalFile:
    """
    A file of lines that this process alone writes, from its opening to its closing.
    """

    def __init__(self, path: str, *, overwrite: bool = False) -> None:
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
        self._fd = -1
        try:
            # What a link names is locked and replaced, not the link.
            self.path = Path(os.path.realpath(path))
            _check(self.path, path)
            self._lock = _lock(self.path, path)
            try:
                self._open(overwrite=overwrite)
            except BaseException:
                self.close()
                raise
        except (OSError, ValueError) as error:
            raise JournalError(
                f"the journal {path!r} cannot be opened: {reason(error)}"
            ) from error

    def _open(self, *, overwrite: bool) -> None:
        self._new.unlink(missing_ok=True)  # of a compaction that was killed
        there = self.path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY
        self._fd = os.open(self.path, flags, 0o666)
        if overwrite:
            os.ftruncate(self._fd, 0)
        if not there:
            _sync_directory(self.path.parent)
        self._end = os.fstat(self._fd).st_size

    @property
    def _new(self) -> Path:
        return _beside(self.path, "tmp")

    # Reading -------------------------------------------------------------------------

    def read(self, index: Index, gone: Callable[[], bool]) -> Counts:
        """
        Take up all lines, and mend the last one, if whoever wrote it was killed meanwhile.

        A line in the middle that cannot be read stays as it is: its row is asked again, and
        whoever knows what it was can mend it.

        Args:
            gone: Says whether nobody wants it any more.

        Raises:
            JournalError: It cannot be read, or mended.
        """
        offset = first = 0
        try:
            with os.fdopen(self._fd, "rb", buffering=_PIECE, closefd=False) as file:
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
        os.ftruncate(self._fd, offset + len(whole))
        self._end = offset + len(whole)
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
        begin = self._end
        ends = [begin, *itertools.accumulate(map(len, lines), initial=begin)][1:]
        try:
            self._write_all(b"".join(lines))
        except OSError as error:
            whole = [end for end in ends if end <= self._end]
            self._end = whole[-1]
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._end)
            self.lines += len(whole) - 1
            return whole[:-1], error
        self.lines += len(lines)
        return ends[:-1], None

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = os.write(self._fd, rest)
            self._end += count
            rest = rest[count:]

    def sync(self) -> None:
        """
        Wait until all that was written would outlast a power cut.

        Raises:
            OSError: It cannot be, or the file is not where it was.
        """
        os.fsync(self._fd)
        if not _is_at(self.path, self._fd):
            raise FileNotFoundError(errno.ENOENT, "somebody has removed or replaced it")

    def close(self) -> None:
        """
        Let it go, and the lock. Twice is fine.
        """
        self._close_file()
        if self._lock.is_locked:
            if os.name != "nt":  # there filelock does it
                with contextlib.suppress(OSError):
                    _beside(self.path, "lock").unlink()
            self._lock.release()

    # Compaction ----------------------------------------------------------------------

    def compact(self, index: Index, order: Order, gone: Callable[[], bool]) -> None:
        """
        Leave one line of each row, in the order asked for; nothing is done where it is so.

        The new file takes the old one's place when it is complete, and the old one is whole
        until then. Lines of rows that this run did not have are kept, in the order of the
        input after the others. The file is closed then.

        Args:
            gone: Says whether to leave it as it is after all.

        Raises:
            OSError: It cannot be done.
        """

        def wanted() -> Iterator[int]:
            rest = heapq.merge(sorted(index.unclaimed()), self.damaged)
            return itertools.chain(index.claimed(), rest)

        in_order = order != "input" or _rises(wanted())
        if in_order and not index.dead:
            return
        status = os.fstat(self._fd)
        if status.st_size != self._end:
            raise OSError(errno.EBUSY, "somebody else has written to it")
        with os.fdopen(self._fd, "rb", buffering=_WINDOW, closefd=False) as old:
            pieces = _alive(old, index.dead) if in_order else _lines(old, wanted())
            try:
                if self._write_beside(pieces, status, gone):
                    self._close_file()  # Windows replaces no open file
                    self._new.replace(self.path)
                    _sync_directory(self.path.parent)
            finally:
                with contextlib.suppress(OSError):
                    self._new.unlink(missing_ok=True)

    def _write_beside(
        self, pieces: Iterable[bytes], status: os.stat_result, gone: Callable[[], bool]
    ) -> bool:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY
        fd = os.open(self._new, flags, 0o600)
        with os.fdopen(fd, "wb", buffering=_PIECE) as new:
            for piece in pieces:
                if gone():
                    return False
                new.write(piece)
            new.flush()
            _keep_owner(fd, status)
            os.fsync(fd)
        return True

    def _close_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def _rises(numbers: Iterable[int]) -> bool:
    return all(one < next_one for one, next_one in itertools.pairwise(numbers))


def _alive(file: IO[bytes], dead: Iterable[int]) -> Iterator[bytes]:
    """
    All of a file but the lines that begin at *dead*.
    """
    at = 0
    for begin in sorted(dead):
        yield from _between(file, at, begin)
        file.seek(begin)
        at = begin + len(file.readline())
    yield from _between(file, at, os.fstat(file.fileno()).st_size)


def _between(file: IO[bytes], at: int, end: int) -> Iterator[bytes]:
    file.seek(at)
    while at < end and (piece := file.read(min(_PIECE, end - at))):
        at += len(piece)
        yield piece


def _lines(file: IO[bytes], places: Iterable[int]) -> Iterator[bytes]:
    for begin in places:
        file.seek(begin)
        yield file.readline()


def _keep_owner(fd: int, status: os.stat_result) -> None:
    if hasattr(os, "fchmod"):  # pragma: no branch -- Windows
        with contextlib.suppress(PermissionError):  # only root may give files away
            os.fchown(fd, status.st_uid, status.st_gid)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))


def _sync_directory(path: Path) -> None:
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
    unread = 0
    for number in range(1, _TRIED + 1):
        line = file.readline(_LINE_LIMIT)
        said = line.strip(b"\0 \t\r\n")
        if not said and line:
            continue  # blank, or zeros after a power cut
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


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.horay-{kind}")


def _lock(path: Path, name: str) -> Any:
    import filelock  # noqa: PLC0415 -- only where a journal is opened

    where = _beside(path, "lock")
    lock = filelock.FileLock(where)
    while not lock.is_locked:
        # Who ends removes it. Whoever had opened it by then has a lock of nothing, and the
        # next one makes another file: so it must be there still, the one that it was.
        guard = os.open(where, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock.acquire(blocking=False)
            if not _is_at(where, guard):
                lock.release()
        except filelock.Timeout:
            raise JournalLockedError(
                f"the journal {name!r} is being written by another process, or by another"
                " job of this one: wait until that has ended, or name another file"
            ) from None
        except NotImplementedError:
            raise OSError(errno.ENOLCK, "files cannot be locked there") from None
        finally:
            os.close(guard)
    return lock


def _is_at(path: Path, fd: int) -> bool:
    """
    Whether a file that was opened there is there still.
    """
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def reason(error: Exception) -> str:
    """
    What an error of the system says.
    """
    return getattr(error, "strerror", None) or str(error)
