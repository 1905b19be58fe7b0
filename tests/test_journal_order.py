"""
A journal's file put in order, when a job has ended well.
"""

import json
import stat
import tempfile

from pathlib import Path

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from horay_async import BadRequestError
from horay_async.many import _compaction
from horay_async.many._index import Index
from horay_async.many._journal_file import JournalFile
from journaling import LINES, WHOLE, compact, digest, line, never, read, texts


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


NAMES = st.sampled_from(["a", "b", "c", "d"])
RUNS = st.lists(
    st.tuples(
        st.lists(st.tuples(NAMES, st.sampled_from("xyz"), st.booleans()), max_size=6),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


def said_of(path):
    """
    Id and answer of each line of a file; None: it failed.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [said_in(json.loads(one)) for one in lines]


def said_in(data):
    if data["error"] is not None:
        return data["custom_id"], None
    return data["custom_id"], data["response"]["body"]["choices"][0]["message"][
        "content"
    ]


def ended(path, rows, keys, order):
    """
    Those rows in the order that is asked for, after a check that the file has them so.
    """
    if order == "input":
        others = [key for key in rows if key not in keys]
        rows = {key: rows[key] for key in keys + others}
    assert said_of(path) == [(key[0], row[1]) for key, row in rows.items()]
    return rows


@given(RUNS, st.sampled_from(["done", "input"]), st.randoms())
@settings(max_examples=100)
def test_runs_beside_a_model(runs, order, chance):
    """
    After each run that ends well each row has one line, its newest or the one that answers
    its request, in the order asked for; and no answer is lost that ever was given.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.jsonl")
        rows = {}  # (name, nth): (said, text), in the order of the file
        answers = {}  # (name, nth, said): text
        for number, (names, well) in enumerate(runs):
            index = Index()
            file = JournalFile(str(path))
            file.read(index, never)
            todo, keys, recalled = [], [], []
            for at, (name, said, fails) in enumerate(names):
                claim = index.claim(at, name, digest(said), retry_failed=True)
                keys.append(key := (name, claim.nth))
                if claim.skip:
                    assert claim.state == "answered"
                    row = (said, answers[*key, said])
                    if rows[key] != row:
                        recalled.append((key, row))
                else:
                    assert (*key, said) not in answers
                    text = None if fails else f"run {number}: {said}"
                    todo.append((claim, key, said, text))
            chance.shuffle(todo)
            for claim, key, said, text in todo:
                fields = {"error": BadRequestError("no")} if text is None else {}
                one = line(0, text, name=key[0], nth=key[1], said=said, **fields)
                [where], _ = file.append([one])
                index.written(claim, where)
                rows.pop(key, None)
                rows[key] = (said, text)
                if text is not None:
                    answers[*key, said] = text
            if well:
                _compaction.compact(file, index, order, never)
                for key, row in recalled:
                    rows.pop(key)
                    rows[key] = row
                rows = ended(path, rows, keys, order)
            file.close()
        kept = {*said_of(path), *said_of(path.with_name("run.former.jsonl"))}
        assert {(key[0], text) for key, text in answers.items()} <= kept


def test_rows_that_this_run_did_not_have(path):
    """
    Come after the others, in the order of their last lines.
    """
    path.write_bytes(LINES[0] + LINES[1] + LINES[0] + LINES[2])
    compact(path, [("2", "a", "")], "input")
    assert path.read_bytes() == LINES[2] + LINES[1] + LINES[0]


def test_what_is_in_order_stays(path):
    """
    It is not written again.
    """
    path.write_bytes(WHOLE)
    before = path.stat()
    compact(path, [(str(n), "a", "") for n in range(3)], "input")
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    path.write_bytes(LINES[1] + LINES[0])
    compact(path, [("0", "a", "")], "done")
    assert path.stat().st_ino == before.st_ino


def test_long_lines(path):
    """
    Longer than what is read at once.
    """
    answers = [chr(97 + n) * 2_000_000 for n in range(3)]
    path.write_bytes(line(1, answers[1]) + line(0, answers[0], said="old"))
    compact(path, [(str(n), "a", answers[n]) for n in range(3)], "done")
    assert texts(path) == [("1", answers[1]), ("0", answers[0]), ("2", answers[2])]


def test_mode_and_owner_are_kept(path):
    """
    A journal that others may not read is not shown to them.
    """
    path.write_bytes(LINES[1] + LINES[0])
    path.chmod(0o640)
    before = path.stat()
    compact(path, [("0", "a", ""), ("1", "a", "")], "input")
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_given_up(path):
    """
    The old file stays whole, and nothing is left beside it.
    """
    path.write_bytes(LINES[1] + LINES[0])
    calls = iter([False, True])
    rows = [("0", "a", ""), ("1", "a", "")]
    compact(path, rows, "input", gone=lambda: next(calls))
    assert path.read_bytes() == LINES[1] + LINES[0]
    assert not list(path.parent.glob("*-tmp"))


def test_what_a_killed_compaction_left_goes(path):
    """
    At the next opening.
    """
    beside = path.with_name(".run.jsonl.horay-tmp")
    path.write_bytes(WHOLE)
    beside.write_bytes(LINES[0])
    read(path)
    assert not beside.exists()
    assert path.read_bytes() == WHOLE


def test_somebody_else_has_written_to_it(path):
    """
    Then it is not replaced: what was added would be lost.
    """
    path.write_bytes(LINES[1] + LINES[0])
    index = Index()
    file = JournalFile(str(path))
    file.read(index, never)
    for number in range(2):
        index.claim(number, str(number), digest("a"), retry_failed=False)
    with path.open("ab") as other:
        other.write(LINES[2])
    with pytest.raises(OSError, match="somebody else has written"):
        _compaction.compact(file, index, "input", never)
    file.close()
    assert path.read_bytes() == LINES[1] + LINES[0] + LINES[2]
