"""
Answers to other requests: they have been paid for, and are kept, and found again.
"""

import errno
import logging
import os
import stat

from pathlib import Path

import pytest

from horay_async import BadRequestError, JournalError
from horay_async.many._index import Index
from horay_async.many._journal import Journal
from horay_async.many._journal_file import JournalFile
from horay_async.many._results import result_line
from horay_async.many._rows import Conversation
from journaling import answer, compact, digest, line, opened, row, texts


REFUSED = BadRequestError("no")

LINES = [line(0, "first", said="a"), line(0, "second", said="b")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture
def former(tmp_path):
    return tmp_path / "run.former.jsonl"


async def run(path, said, text="fine", rows=2, **fields):
    """
    A job that ends well; what its rows were to the journal.
    """
    async with opened(path) as journal:
        states = [
            (await answer(journal, n, f"{text} {n}", said=said, **fields)).state
            for n in range(rows)
        ]
        await journal.finish(order="input")
        return journal, states


# Kept --------------------------------------------------------------------------------


async def test_another_request(path, former, caplog):
    """
    The former answers go to a file beside it, those of each run after the others, and that
    is said.
    """
    await run(path, "a", "a")
    assert not former.exists()
    with caplog.at_level(logging.WARNING, "horay_async"):
        journal, states = await run(path, "b", "b")
    assert states == ["changed"] * 2
    assert journal.former == 2
    assert journal.former_path == str(former)
    assert texts(path) == [("0", "b 0"), ("1", "b 1")]
    assert texts(former) == [("0", "a 0"), ("1", "a 1")]
    [said] = caplog.messages
    assert "2 lines" in said
    assert repr(str(former)) in said
    await run(path, "c", "c", rows=1)
    assert texts(path) == [("0", "c 0"), ("1", "b 1")]
    assert texts(former)[2:] == [("0", "b 0")]
    assert sorted(path.parent.iterdir()) == [former, path]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("run", "run.former"),
        (".run", ".run.former"),
        ("run.csv.jsonl", "run.csv.former.jsonl"),
    ],
)
def test_its_name(tmp_path, name, other):
    """
    The suffix stays, where there is one.
    """
    path = tmp_path / name
    path.write_bytes(b"".join(LINES))
    compact(path, [])
    assert (tmp_path / other).read_bytes() == LINES[0]


async def test_what_was_not_paid_for(path, former):
    """
    Failures go, and so does what the same request had before.
    """
    await run(path, "a", error=REFUSED)
    path.write_bytes(path.read_bytes() + line(0, "again") + line(0, "once more"))
    await run(path, "b")
    assert texts(former) == [("0", "once more")]


def test_a_part_of_an_answer(path, former):
    """
    Has been paid for as well: turns of a conversation, and text before it broke off.
    """
    one = row(0, "", error=REFUSED, replies=row(0, "some").replies)
    one = result_line(one_of(one))
    with_text = (
        LINES[1]
        .replace(b'"error":null', b'"error":{}')
        .replace(b'"horay":{', b'"horay":{"partial":"Once upon",')
    )
    assert b'"turns":[{' in one
    for part in (one, with_text):
        former.unlink(missing_ok=True)
        path.write_bytes(part + LINES[0])
        compact(path, [])
        assert path.read_bytes() == LINES[0]
        assert former.read_bytes() == part


def one_of(row):
    conversation = Conversation("a", [])
    return type(row)(
        id=row.id,
        index=row.index,
        request=conversation,
        replies=row.replies,
        error=row.error,
    )


def test_which_request_it_was_is_not_known(path, former):
    """
    Then it was another one.
    """
    unknown = LINES[1].replace(digest("b").hex().encode(), b"")
    path.write_bytes(unknown + LINES[0])
    compact(path, [])
    assert former.read_bytes() == unknown


async def test_not_before_the_clean_end(path, former):
    """
    Until then the journal has them, and it is a later end that sets them aside.
    """
    await run(path, "a", "a")
    async with opened(path) as journal:
        await answer(journal, 0, "b", said="b")
    assert journal.former == 0
    assert not former.exists()
    await run(path, "b", rows=1)
    assert texts(former) == [("0", "a 0")]


# Found again -------------------------------------------------------------------------


async def test_back_again(path, former):
    """
    Whoever goes back to a former request has its answer, and pays nothing; the other one
    is kept in turn. None is kept twice.
    """
    await run(path, "a", "a")
    await run(path, "b", "b")
    for _ in range(2):
        for said in "ab":
            _, states = await run(path, said)
            assert states == ["answered"] * 2
            assert texts(path) == [("0", f"{said} 0"), ("1", f"{said} 1")]
    assert texts(former) == [("0", "a 0"), ("1", "a 1"), ("0", "b 0"), ("1", "b 1")]


@pytest.mark.parametrize("well", [True, False])
async def test_failures_displace_no_answer(path, former, well):
    """
    As where a model's name was misspelt: with the right one all is there.
    """
    await run(path, "a", "a")
    async with opened(path) as journal:
        for number in range(2):
            await answer(journal, number, said="typo", error=REFUSED)
        if well:
            await journal.finish()
    _, states = await run(path, "a")
    assert states == ["answered"] * 2
    assert texts(path) == [("0", "a 0"), ("1", "a 1")]


async def test_a_look(path):
    """
    Says what a row would be, and claims nothing.
    """
    await run(path, "a")
    await run(path, "b")
    async with opened(path) as journal:
        for said, state in [("a", "answered"), ("b", "answered"), ("c", "changed")]:
            assert journal.look("0", 0, digest(said)) == state
        assert journal.look("0", 1, digest("a")) == "new"
        assert journal.claim(0, "0", digest("c")).state == "changed"


async def test_a_journal_that_begins_anew(path, former):
    """
    Whoever has removed it, or emptied it, wants new answers.
    """
    await run(path, "a")
    await run(path, "b")
    path.write_bytes(b"")
    async with opened(path) as journal:
        assert journal.claim(0, "0", digest("a")).state == "new"
    path.unlink()
    async with opened(path) as journal:
        assert journal.claim(0, "0", digest("a")).state == "new"


@pytest.mark.parametrize("how", ["removed", "changed", "emptied"])
async def test_somebody_has_changed_it(path, former, how):
    """
    Since it was read: nothing is taken back then, and nothing is lost.
    """
    await run(path, "a", "a")
    await run(path, "b", "b")
    async with opened(path) as journal:
        for number in range(2):
            assert journal.claim(number, str(number), digest("a")).skip
        if how == "removed":
            former.unlink()
        else:
            former.write_bytes(LINES[1] * 2 if how == "changed" else b"")
        with pytest.raises(JournalError, match="somebody has changed"):
            await journal.finish()
    assert texts(path) == [("0", "b 0"), ("1", "b 1")]


async def test_lines_of_others_in_it(path, former):
    """
    Are left alone.
    """
    await run(path, "a", "a")
    await run(path, "b", "b")
    former.write_bytes(LINES[0] + b"\n{oops\n{}\n" + former.read_bytes())
    _, states = await run(path, "a")
    assert states == ["answered"] * 2
    assert texts(path) == [("0", "a 0"), ("1", "a 1")]


def test_nobody_wants_it_any_more(path, former, monkeypatch):
    """
    Then the rest is not read.
    """
    path.write_bytes(LINES[0])
    former.write_bytes(b"".join(LINES))
    seen = []
    monkeypatch.setattr(Index, "add_former", lambda *args: seen.append(args))
    file = JournalFile(str(path))
    file.read(Index(), lambda: True)
    file.close()
    assert len(seen) == 1


# What may happen meanwhile -----------------------------------------------------------


def test_it_is_safe_before_the_other_goes(path, former, monkeypatch):
    """
    A crash, or a power cut, leaves a line in one file at least; the next end mends that.
    """
    path.write_bytes(b"".join(LINES))
    synced = []
    fsync = os.fsync

    def spy(fd):
        fsync(fd)
        if former.exists() and os.path.samestat(former.stat(), os.fstat(fd)):
            synced.append(former.read_bytes())

    def crash(*_):
        assert synced == LINES[:1]
        raise OSError(errno.EIO, "power cut")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", spy)
        patched.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="power cut"):
            compact(path, [])
    assert path.read_bytes() == b"".join(LINES)
    assert former.read_bytes() == LINES[0]
    compact(path, [])
    assert path.read_bytes() == LINES[1]
    assert former.read_bytes() == LINES[0]


def test_a_line_that_broke_off_in_it(path, former):
    """
    Does not take the next one with it.
    """
    former.write_bytes(LINES[1][:50])
    path.write_bytes(b"".join(LINES))
    compact(path, [])
    assert former.read_bytes() == LINES[1][:50] + b"\n" + LINES[0]


def test_others_may_not_read_it_either(path, former):
    """
    Where they may not read the journal.
    """
    path.write_bytes(b"".join(LINES))
    path.chmod(0o600)
    compact(path, [])
    assert stat.S_IMODE(former.stat().st_mode) == 0o600


@pytest.mark.parametrize("before", [b"", LINES[1]])
def test_the_disk_is_full(path, former, before, monkeypatch):
    """
    Nothing is lost, and what was added is cut off again.
    """
    former.write_bytes(before)
    path.write_bytes(LINES[0] + LINES[1] + line(1, "a") + line(1, "b", said="b"))
    add = JournalFile._write_all
    added = []

    def full(file, data):
        if file.path == former and added:
            raise OSError(errno.ENOSPC, "No space left on device")
        added.append(data)
        add(file, data)

    monkeypatch.setattr(JournalFile, "_write_all", full)
    whole = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        compact(path, [])
    assert path.read_bytes() == whole
    assert former.read_bytes() == before


async def test_the_disk_is_full_for_what_is_taken_back(path, former, monkeypatch):
    """
    The next run takes it back.
    """
    await run(path, "a", "a")
    await run(path, "b", "b")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(JournalFile, "_write_all", full)
        with pytest.raises(JournalError, match="No space left"):
            await run(path, "a")
    await run(path, "a")
    assert texts(path) == [("0", "a 0"), ("1", "a 1")]


async def test_something_else_has_its_name(path, former):
    """
    It is not touched, and the journal keeps all its lines.
    """
    await run(path, "a", "a")
    former.write_text("what is this?\n")
    with pytest.raises(
        JournalError, match="which is something else, or in use: move it"
    ):
        await run(path, "b", "b")
    assert former.read_text() == "what is this?\n"
    assert len(texts(path)) == 4
    former.unlink()
    await run(path, "b")
    assert len(texts(path)) == len(texts(former)) == 2


async def test_it_is_in_use(path, former):
    """
    As a journal of its own.
    """
    await run(path, "a", "a")
    journal = await Journal.open(former)
    with pytest.raises(JournalError, match="in use: move it away"):
        await run(path, "b", "b")
    await journal.aclose()
    assert len(texts(path)) == 4
