"""
A journal's file: what is taken for one, how it is mended, and how it is put in order.
"""

import errno
import json
import logging
import os
import tempfile

from pathlib import Path

import pytest

from hypothesis import given
from hypothesis import strategies as st

from horay_async import JournalError, JournalLockedError
from horay_async.many import _journal_file
from horay_async.many._index import Entry, Index
from horay_async.many._journal_file import JournalFile
from horay_async.many._results import read_result
from journaling import LINES, WHOLE, compact, digest, line, never, read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


# Mending -----------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0, 64])
def test_cut_at_every_byte(path, zeros):
    """
    Wherever the last line broke off, and whatever zeros a power cut left after it, all
    lines before it are kept, and it too if it lacks its end only.
    """
    before = len(WHOLE) - len(LINES[-1])
    for size in range(before, len(WHOLE) + 1):
        path.write_bytes(WHOLE[:size] + bytes(zeros))
        _, counts = read(path)
        kept = 3 if size >= len(WHOLE) - 1 else 2
        assert (counts.answered, counts.damaged) == (kept, 0)
        assert path.read_bytes() == b"".join(LINES[:kept])


def test_cut_in_the_first_line(path):
    """
    A new journal whose first line broke off is one.
    """
    for size in range(len(LINES[0]) - 1):
        path.write_bytes(LINES[0][:size])
        _, counts = read(path)
        assert counts.answered == 0
        assert path.read_bytes() == b""


@given(tail=st.binary(max_size=40))
def test_any_tail(tail):
    """
    Whatever bytes stand at the end, no line before them is lost or changed, and the next
    line is a line.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.jsonl")
        path.write_bytes(WHOLE + tail)
        index = Index()
        file = JournalFile(str(path))
        counts = file.read(index, never)
        file.append([line(3, "answer 3")])
        file.close()
        assert counts.answered == 3
        data = path.read_bytes()
        assert data.startswith(WHOLE)
        assert read_result(data.splitlines()[-1]) == Entry(
            "3", "answered", digest("a"), 0
        )
        index, counts = read(path)
        assert counts.answered == 4


def test_what_was_cut_off_is_told(path, caplog):
    """
    And what cannot be read, with its number.
    """
    path.write_bytes(LINES[0] + b"\0\0 oops\n" + LINES[1] + LINES[2][:30])
    with caplog.at_level(logging.WARNING, "horay_async"):
        _, counts = read(path)
    assert (counts.answered, counts.damaged) == (2, 1)
    torn, damaged = caplog.messages
    assert damaged.startswith("1 line of the journal")
    assert "the first is line 2" in damaged
    assert torn.startswith("line 4 of the journal")
    assert "after 30 bytes" in torn


def test_a_damaged_line_stays(path):
    """
    Until somebody mends it: it may have been paid for. Blank lines go in a compaction.
    """
    odd = b'{"id":"batch_req_1","custom_id":"9","resp'
    path.write_bytes(LINES[0] + odd + b"\n\n" + LINES[2] + LINES[1])
    _, counts = read(path)
    assert (counts.answered, counts.damaged) == (3, 1)
    compact(path, [(str(n), "a", "") for n in range(3)], "input")
    assert path.read_bytes() == WHOLE + odd + b"\n"


def test_a_complete_line_of_something_else_gets_its_end(path):
    """
    It is not ours to cut off.
    """
    path.write_bytes(LINES[0] + b'{"prompt": "a"}')
    _, counts = read(path)
    assert counts.damaged == 1
    assert path.read_bytes() == LINES[0] + b'{"prompt": "a"}\n'


def test_nobody_wants_it_any_more(path):
    """
    Then the rest is not read.
    """
    path.write_bytes(WHOLE)
    index = Index()
    file = JournalFile(str(path))
    assert file.read(index, lambda: True).answered == 1
    file.close()


# What is taken for a journal ---------------------------------------------------------

PROMPT = b'{"custom_id": "a", "prompt": "What is it?"}'


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (PROMPT + b"\n", 1),
        (PROMPT, 1),
        (b"\n\n" + PROMPT, 3),
        (b'{"custom_id": "a", "method": "POST", "url": "/v1", "body": {}}\n', 1),
        (b"id,prompt\n1,hello\n", 1),
        (b"What is it?", 1),
        (b"What is it?\n" + PROMPT, 1),
        (b"42\n", 1),
        (b"[]", 1),
        (b'{\n "prompt": "a"\n}\n', 1),
        (b'{"id": "batch', 1),
        (b"\x7fELF\0\0\0" + bytes(range(256)) * 20, 1),
        (b"PAR1" + bytes(2000), 1),
        (b"no\n" * 200 + WHOLE, 1),
        (b"\n" * 150 + b"text without end", 151),
        (json.dumps([PROMPT.decode()] * 3, indent=1).encode(), 1),
    ],
)
def test_what_is_no_journal(path, content, number):
    """
    Is refused, and not a byte of it is touched.
    """
    path.write_bytes(content)
    before = path.stat()
    with pytest.raises(JournalError, match=f"not a journal: its line {number} is"):
        JournalFile(str(path))
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert list(path.parent.iterdir()) == [path]  # no lock either


def test_a_line_without_end(path, monkeypatch):
    """
    Is not read to its end, to find that it is none of ours.
    """
    path.write_bytes(b"{" * 5000)
    monkeypatch.setattr(_journal_file, "_LINE_LIMIT", 1000)
    with pytest.raises(JournalError, match="its line 1 is"):
        JournalFile(str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        bytes(4096),  # after a power cut
        bytes(300) + b'xx"}\n' + WHOLE,
        LINES[0][:40] + b"\n" + LINES[1],
        b'{"id": "b", "custom_id": "x", "response": {}, "error": null}',
    ],
)
def test_what_is_a_journal(path, content):
    """
    What a run left, however it ended, and what other tools make.
    """
    path.write_bytes(content)
    _, counts = read(path)
    assert counts.answered == content.count(b'"error"')


def test_lines_of_others(path):
    """
    They have an answer, whichever request it was; one id that comes again is another row's.
    """
    other = b'{"custom_id": "x", "response": {"body": %d}, "error": null}\n'
    path.write_bytes(other % 1 + other % 2)
    index, counts = read(path)
    assert counts.answered == 2
    states = [
        index.claim(n, "x", digest("any"), retry_failed=False).state for n in range(3)
    ]
    assert states == ["answered", "answered", "new"]
    assert not index.dead


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is a directory, expected a file"),
        ("pipe", "is a device or a pipe, expected a file"),
        ("none/run.jsonl", "cannot be made: there is no directory '.*none'"),
        ("a\0b", "cannot be opened: .*embedded null"),
    ],
)
def test_what_cannot_be_opened(tmp_path, name, problem):
    """
    One sentence says why.
    """
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(JournalError, match=problem):
        JournalFile(f"{tmp_path}/{name}")


def test_a_link(tmp_path, path):
    """
    What it names is locked and replaced; the link stays.
    """
    link = tmp_path / "link.jsonl"
    link.symlink_to("run.jsonl")
    file = JournalFile(str(link))
    with pytest.raises(JournalLockedError):
        JournalFile(str(path))
    file.close()
    path.write_bytes(LINES[1] + LINES[0])
    compact(link, [(str(n), "a", "") for n in range(2)], "input")
    assert link.is_symlink()
    assert path.read_bytes() == LINES[0] + LINES[1]


# What a system may say ---------------------------------------------------------------


def test_opening_fails_behind_the_lock(path):
    """
    The lock is let go.
    """
    in_the_way = path.with_name(".run.jsonl.horay-tmp")
    in_the_way.mkdir()
    with pytest.raises(JournalError, match="cannot be opened"):
        JournalFile(str(path))
    in_the_way.rmdir()
    JournalFile(str(path)).close()


def test_it_cannot_be_mended(path, monkeypatch):
    """
    Nothing is written to it then.
    """

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    path.write_bytes(WHOLE[:-9])
    file = JournalFile(str(path))
    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(JournalError, match="cannot be read: Input/output error"):
        file.read(Index(), never)
    file.close()
    assert path.read_bytes() == WHOLE[:-9]


@pytest.mark.parametrize("room", range(0, 3 * len(LINES[0]) + 1, 7))
@pytest.mark.parametrize("most", [5, 1000])
def test_a_write_that_stops(path, monkeypatch, room, most):
    """
    Lines that were written whole count, half a line goes; and whoever is told how much was
    written goes on from there.
    """
    write = os.write

    def stingy(fd, data):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(fd, data[: min(room, most)])
        room -= count
        return count

    whole = room // len(LINES[0])
    file = JournalFile(str(path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", stingy)
        starts, error = file.append(LINES)
    file.close()
    assert list(starts) == [n * len(LINES[0]) for n in range(whole)]
    assert (error is None) == (whole == 3)
    assert file.lines == whole
    assert path.read_bytes() == b"".join(LINES[:whole])


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.EIO])
def test_directories_cannot_be_synced(path, monkeypatch, number):
    """
    Some file systems know no such thing; where it fails that is said.
    """

    def fail(_):
        raise OSError(number, "this failed")

    monkeypatch.setattr(os, "fsync", fail)
    if number != errno.EIO:
        JournalFile(str(path)).close()
    else:
        with pytest.raises(JournalError, match="this failed"):
            JournalFile(str(path))
