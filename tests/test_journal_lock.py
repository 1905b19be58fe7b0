"""
Whose a journal is.
"""

import errno

import filelock
import pytest

from horay_async import JournalError, JournalLockedError
from horay_async.many._journal_file import JournalFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def test_one_writer(path):
    """
    A second one gets an error that says what to do; a third one may, when it has ended.
    """
    file = JournalFile(str(path))
    with pytest.raises(JournalLockedError, match="wait until that has ended"):
        JournalFile(str(path))
    file.close()
    file.close()
    JournalFile(str(path)).close()
    assert list(path.parent.iterdir()) == [path]


def test_a_lock_of_nothing(path, monkeypatch):
    """
    Who had opened the lock's file when its holder removed it tries again.
    """
    acquire = filelock.BaseFileLock.acquire
    lock = path.with_name(".run.jsonl.horay-lock")
    calls = []

    def late(self, **options):
        calls.append(options)
        acquire(self, **options)
        if len(calls) < 3:
            lock.unlink()
        if len(calls) == 1:
            lock.touch()

    with monkeypatch.context() as patched:
        patched.setattr(filelock.BaseFileLock, "acquire", late)
        file = JournalFile(str(path))
    assert len(calls) == 3
    with pytest.raises(JournalLockedError):
        JournalFile(str(path))
    file.close()


def test_who_comes_while_it_is_let_go(path, monkeypatch):
    """
    Has a lock that nobody removes: a third one is refused.
    """
    release = filelock.BaseFileLock.release
    came = []

    def late(self, *args, **options):
        if not came:
            came.append(None)
            came[0] = JournalFile(str(path))
        release(self, *args, **options)

    file = JournalFile(str(path))
    with monkeypatch.context() as patched:
        patched.setattr(filelock.BaseFileLock, "release", late)
        file.close()
    with pytest.raises(JournalLockedError):
        JournalFile(str(path))
    came[0].close()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSYS, "files cannot be locked there"), (errno.EIO, "it failed")],
)
def test_files_cannot_be_locked(path, monkeypatch, number, said):
    """
    As on some network drives. A lock that outlives a process that is killed is none.
    """

    def refuse(*_, **__):
        raise OSError(number, "it failed")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(JournalError, match=f"cannot be opened: {said}"):
        JournalFile(str(path))
    monkeypatch.undo()
    JournalFile(str(path)).close()
