"""
A journal's file put in order, when a job has ended well: one line of each row.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import stat

from collections.abc import Callable, Iterable, Iterator
from typing import IO, Final

from .._errors import JournalError
from .._events import logger
from .._values import counted
from ._arguments import Order
from ._index import Index
from ._journal_file import BINARY, PIECE, JournalFile, sync_directory
from ._results import read_result


_WINDOW: Final = 1 << 16
"""
Bytes to read at once of lines that are put in order: they stand near their places.
"""


def compact(
    file: JournalFile, index: Index, order: Order, gone: Callable[[], bool]
) -> None:
    """
    Leave one line of each row, in the order asked for; nothing is done where it is so.

    The new file takes the old one's place when it is complete, and the old one is whole
    until then. Lines of rows that this run did not have are kept, in the order of the input
    after the others. The file is closed then.

    Former answers that rows have claimed are taken back first. Of the lines that go, those
    with answers to other requests are set aside: after a crash there may be two of such a
    line, and there is always one.

    Args:
        gone: Says whether to leave it as it is after all.

    Raises:
        OSError: It cannot be done.
    """

    def wanted() -> Iterator[int]:
        rest = heapq.merge(sorted(index.unclaimed()), file.damaged)
        return itertools.chain(index.claimed(), rest)

    if index.recalls:
        _recall(file, index)
    in_order = order != "input" or _rises(wanted())
    if in_order and not index.dead:
        return
    status = os.fstat(file.fd)
    if status.st_size != file.end:
        raise OSError(errno.EBUSY, "somebody else has written to it")
    with os.fdopen(file.fd, "rb", buffering=_WINDOW, closefd=False) as old:
        pieces = _alive(old, index.dead) if in_order else _lines(old, wanted())
        try:
            if _write_beside(file, pieces, status, gone):
                if index.former:
                    _set_aside(file, _lines(old, sorted(index.former)), status)
                file.close_file()  # Windows replaces no open file
                file.new.replace(file.path)
                sync_directory(file.path.parent)
        finally:
            with contextlib.suppress(OSError):
                file.new.unlink(missing_ok=True)
    if file.former:
        logger.warning(
            "%s of the journal %r answered other requests than now: kept in %r",
            counted(file.former, "line"),
            file.name,
            str(file.former_path),
        )


def _write_beside(
    file: JournalFile,
    pieces: Iterable[bytes],
    status: os.stat_result,
    gone: Callable[[], bool],
) -> bool:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
    fd = os.open(file.new, flags, 0o600)
    with os.fdopen(fd, "wb", buffering=PIECE) as new:
        for piece in pieces:
            if gone():
                return False
            new.write(piece)
        new.flush()
        _keep_owner(fd, status)
        os.fsync(fd)
    return True


# Former answers ----------------------------------------------------------------------


def _recall(file: JournalFile, index: Index) -> None:
    """
    Add those again that rows of this run have claimed.
    """
    with contextlib.ExitStack() as stack:
        own = os.fdopen(file.fd, "rb", buffering=_WINDOW, closefd=False)
        files = [stack.enter_context(own)]
        if file.former_path.is_file():
            former = file.former_path.open("rb", buffering=_WINDOW)
            files.append(stack.enter_context(former))

        def copy(begin: int, elsewhere: bool, digest: bytes) -> int:
            [line] = _lines(files[elsewhere], [begin])
            entry = read_result(line)
            if entry is None or entry.digest != digest:
                raise ValueError
            return _added(file, line.rstrip(b"\n") + b"\n")

        try:
            index.recall(copy)
        except (IndexError, ValueError):
            raise OSError(
                errno.EBUSY, f"somebody has changed {str(file.former_path)!r}"
            ) from None
    file.sync()


def _set_aside(
    file: JournalFile, lines: Iterable[bytes], status: os.stat_result
) -> None:
    """
    Add lines to the file of former answers: all, or none.
    """
    try:
        former = JournalFile(str(file.former_path))
    except JournalError as error:
        raise OSError(
            errno.EEXIST,
            f"answers to other requests are kept in {str(file.former_path)!r}, which is"
            " something else, or in use: move it away",
        ) from error
    begin = former.end
    try:
        if not begin:
            _keep_owner(former.fd, status)  # what others may not read stays so
        elif not _ends_a_line(former.fd):
            _added(former, b"\n")
        for line in lines:
            _added(former, line)
            file.former += 1
        former.sync()
    except OSError:
        file.former = 0
        with contextlib.suppress(OSError):
            os.ftruncate(former.fd, begin)
        raise
    finally:
        former.close()


def _added(file: JournalFile, line: bytes) -> int:
    starts, error = file.append([line])
    if error is not None:
        raise error
    return starts[0]


def _ends_a_line(fd: int) -> bool:
    # Not so where a crash has cut off the last one.
    os.lseek(fd, -1, os.SEEK_END)
    return os.read(fd, 1) == b"\n"


# Small print -------------------------------------------------------------------------


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
    while at < end and (piece := file.read(min(PIECE, end - at))):
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
