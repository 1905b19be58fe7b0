"""
Whose a journal is: a file beside it that one process holds, until it ends in whatever way.
"""

from __future__ import annotations

import contextlib
import errno
import os

from pathlib import Path

from .._errors import JournalLockedError


class JournalLock:
    """
    Held from its making to its release.
    """

    def __init__(self, path: Path, name: str) -> None:
        """
        Take it for the journal at *path*, which the user calls *name*.

        Raises:
            JournalLockedError: Somebody else has it.
            OSError: It cannot be had at all.
        """
        import filelock  # noqa: PLC0415 -- only where a journal is opened

        self._path = beside(path, "lock")
        # A soft lock outlives a process that is killed.
        self._lock = filelock.FileLock(self._path, fallback_to_soft=False)
        while not self._lock.is_locked:
            # Who ends removes the file. Whoever had opened it by then has a lock of nothing,
            # and the next one makes another: so it must be there still, the one that it was.
            guard = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._lock.acquire(blocking=False)
                if not is_at(self._path, guard):
                    self._lock.release()
            except filelock.Timeout:
                raise JournalLockedError(
                    f"the journal {name!r} is being written by another process, or by"
                    " another job of this one: wait until that has ended, or name another"
                    " file"
                ) from None
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
                raise OSError(errno.ENOLCK, "files cannot be locked there") from None
            finally:
                os.close(guard)

    def release(self) -> None:
        """
        Let it go, and leave nothing behind. Twice is fine.
        """
        if not self._lock.is_locked:
            return
        # Before it is let go: afterwards the file may be another's. Windows removes no open
        # one, and there filelock does it.
        if os.name != "nt":  # pragma: no branch -- Windows
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._lock.release()


def beside(path: Path, kind: str) -> Path:
    """
    The name of a file of ours that goes with another.
    """
    return path.with_name(f".{path.name}.horay-{kind}")


def is_at(path: Path, fd: int) -> bool:
    """
    Whether a file that was opened there is there still.
    """
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
