"""
Answers as a table: what the lines of a journal become, and how the file is put in place.
"""

import contextlib
import csv
import json
import os
import sys
import tracemalloc

import attrs
import pytest

from horay_async import (
    ChatRequest,
    Conversation,
    IncompleteStreamError,
    Partial,
    PartialChoice,
    RateLimitError,
    Row,
    Usage,
    user,
)
from horay_async._codec import chat_reply, completion_reply
from horay_async._values import Meta, Outcome
from horay_async.cli._answer_table import (
    check_table_output,
    is_table_output,
    journal_of,
    write_table,
)
from horay_async.cli._failures import Misuse
from horay_async.cli._writer import CannotWrite
from horay_async.many._results import result_line


pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ASKED = ChatRequest(messages=[user("hello")])

COLUMNS = {
    "custom_id": pa.string(),
    "text": pa.string(),
    "finish_reason": pa.string(),
    "error": pa.string(),
    "model": pa.string(),
    "prompt_tokens": pa.int64(),
    "completion_tokens": pa.int64(),
    "attempts": pa.int64(),
    "seconds": pa.float64(),
    "turns": pa.list_(pa.string()),
    "choices": pa.list_(pa.string()),
}

EMPTY = dict.fromkeys(COLUMNS)

ANSWER = {
    "text": "hi",
    "finish_reason": "stop",
    "model": "m",
    "prompt_tokens": 3,
    "completion_tokens": 2,
}


def reply(*texts, **fields):
    """
    A chat's answer, one choice for each text.
    """
    choices = [
        {"index": i, "message": {"content": text}, "finish_reason": "stop"}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    body = {"id": "c", "model": "m", "choices": choices, "usage": usage, **fields}
    return chat_reply(body, Meta(status=200))


def line(name, *replies, **facts):
    """
    A journal's line, as a job writes it.
    """
    row = {"id": name, "index": 0, "request": ASKED, "replies": replies, **facts}
    return result_line(Row(**row)).decode()


def table(tmp_path, *lines, kind="parquet"):
    """
    Make a table of lines; its rows, and the file.
    """
    journal, output = tmp_path / "a.jsonl", tmp_path / f"a.{kind}"
    journal.write_text("".join(lines), errors="surrogatepass")
    count = write_table(str(journal), str(output))
    if kind == "csv":
        with output.open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    else:
        found = pq.read_table(output).to_pylist()
    assert len(found) == count
    return found


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("output", "journal"),
    [
        ("a.csv", "a.csv.jsonl"),
        ("a.PARQUET", "a.PARQUET.jsonl"),
        ("a.jsonl", "a.jsonl"),
        ("csv", "csv"),
    ],
)
def test_by_its_name(output, journal):
    """
    A table's journal lies beside it; lines are their own.
    """
    assert journal_of(output) == journal
    assert is_table_output(output) is (output != journal)


# Rows --------------------------------------------------------------------------------


def test_answers(tmp_path):
    """
    One row for each line, in its order.
    """
    text = completion_reply(
        {"choices": [{"index": 0, "text": "once", "finish_reason": "length"}]},
        Meta(status=200),
    )
    assert table(
        tmp_path,
        line("b", reply("hi"), attempts=2, seconds=1.25),
        line("a", text, attempts=1),
        line("c", reply("hi", "hello")),
        line("", reply(None)),
    ) == [
        {**EMPTY, **ANSWER, "custom_id": "b", "attempts": 2, "seconds": 1.25},
        {
            **EMPTY,
            "custom_id": "a",
            "text": "once",
            "finish_reason": "length",
            # Nobody counted, and nobody says 0.
            "attempts": 1,
        },
        {
            **EMPTY,
            **ANSWER,
            "custom_id": "c",
            "choices": ["hi", "hello"],
            "attempts": 0,
        },
        {**EMPTY, **ANSWER, "custom_id": "", "text": None, "attempts": 0},
    ]


def test_conversations(tmp_path):
    """
    All answers, the last as the text; what they cost together. One that was cut off has
    those that came.
    """
    asked = Conversation(ASKED, ["more"])
    whole, cut = table(
        tmp_path,
        line("a", reply("one"), reply("two"), request=asked, attempts=2),
        line("b", reply("one"), request=asked, error=ValueError("no"), attempts=2),
    )
    assert whole == {
        **EMPTY,
        **ANSWER,
        "custom_id": "a",
        "text": "two",
        "turns": ["one", "two"],
        "prompt_tokens": 6,
        "completion_tokens": 4,
        "attempts": 2,
    }
    assert cut == {
        **EMPTY,
        "custom_id": "b",
        "error": "no",
        "model": "m",
        "turns": ["one"],
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "attempts": 2,
    }


def test_estimates(tmp_path):
    """
    Where the server did not count all answers, the line's estimate of the others counts.
    """
    asked = Conversation(ASKED, [[user("and?")]])
    guess = Usage(prompt_tokens=7, completion_tokens=4, source="estimated")
    uncounted = attrs.evolve(reply("two", usage=None), usage=guess)
    alone, both = table(
        tmp_path,
        line("a", uncounted),
        line("b", reply("one"), uncounted, request=asked),
    )
    assert (alone["prompt_tokens"], alone["completion_tokens"]) == (7, 4)
    assert (both["prompt_tokens"], both["completion_tokens"]) == (10, 6)


def test_failures(tmp_path):
    """
    What went wrong, and the text that had come: it has no finish reason, and nobody takes
    it for an answer.
    """
    pieces = [PartialChoice(index=i, text=text) for i, text in enumerate(["On", "Tw"])]
    refused, broken, both, silent = table(
        tmp_path,
        line("a", error=RateLimitError("slow down"), attempts=3, seconds=9),
        line(
            "b",
            error=IncompleteStreamError("gone", partial=Partial(choices=pieces[:1])),
        ),
        line("c", error=IncompleteStreamError("gone", partial=Partial(choices=pieces))),
        line("d", error=ValueError(), outcome=Outcome.FAILED),
    )
    assert refused == {
        **EMPTY,
        "custom_id": "a",
        "error": "slow down",
        "attempts": 3,
        "seconds": 9.0,
    }
    assert (broken["text"], broken["error"]) == ("On", "gone")
    assert (both["text"], both["choices"]) == ("On", ["On", "Tw"])
    assert (silent["text"], silent["error"]) == (None, "ValueError")


def test_content_in_parts(tmp_path):
    """
    Some servers answer in a list of parts.
    """
    parts = [
        {"type": "text", "text": "a"},
        {"type": "x"},
        {"type": "text", "text": "b"},
    ]
    assert table(tmp_path, line("a", reply(parts)))[0]["text"] == "ab"


@pytest.mark.parametrize(
    "response",
    [
        None,
        "body",
        {},
        {"body": None},
        {"body": []},
        {"body": {"choices": None, "usage": []}},
        {"body": {"choices": ["a"], "usage": {"prompt_tokens": "3"}, "model": 7}},
        {"body": {"choices": [{"message": "a"}], "usage": {"prompt_tokens": True}}},
        {"body": {"choices": [{"text": 5}], "usage": {"prompt_tokens": 2**63}}},
    ],
)
@pytest.mark.parametrize("ours", [None, [], {"attempts": "1", "seconds": "2"}])
def test_lines_of_others(tmp_path, response, ours):
    """
    Whatever another tool wrote: what is not there is empty.
    """
    data = {"custom_id": "a", "response": response, "error": None, "horay": ours}
    assert table(tmp_path, json.dumps(data)) == [{**EMPTY, "custom_id": "a"}]


def test_no_lines(tmp_path):
    """
    What is no result is left out; of nothing there is a table of no rows.
    """
    junk = ["{", "[]\n", '{"custom_id": 5}\n', "\n", "null\n", "[" * 5000 + "\n"]
    (row,) = table(tmp_path, "{broken\n", line("a", reply("hi")), *junk)
    assert row["custom_id"] == "a"
    assert table(tmp_path, *junk) == []
    assert table(tmp_path, *junk, kind="csv") == []
    assert (tmp_path / "a.csv").read_text().startswith('"custom_id","text",')


def test_half_a_surrogate_pair(tmp_path):
    """
    Servers send it, and UTF-8 cannot hold it.
    """
    sent = json.dumps(json.loads(line("\ud83d", reply("a\ud800b"))))
    (row,) = table(tmp_path, sent)
    assert (row["custom_id"], row["text"]) == ("?", "a?b")


# Files -------------------------------------------------------------------------------


def test_types(tmp_path):
    """
    Columns have their types though nothing be in them.
    """
    for lines in [], [line("a", error=ValueError("no"))]:
        table(tmp_path, *lines)
        schema = pq.read_schema(tmp_path / "a.parquet")
        assert dict(zip(schema.names, schema.types, strict=True)) == COLUMNS


def test_csv(tmp_path):
    """
    Texts are as they came, whatever a spreadsheet may take them for; lists are JSON.
    """
    text = '=cmd|"/c calc"!A1,\r\n\n "ü"'
    first, second, third = table(
        tmp_path,
        line("007", reply(text), attempts=1, seconds=0.5),
        line("a", reply("ü", text)),
        line("b", reply("one"), reply("two"), request=Conversation(ASKED, ["more"])),
        kind="csv",
    )
    assert (first["custom_id"], first["text"]) == ("007", text)
    assert (first["attempts"], first["seconds"]) == ("1", "0.5")
    assert (first["error"], first["turns"], first["choices"]) == ("", "", "")
    assert json.loads(second["choices"]) == ["ü", text]
    assert "ü" in second["choices"]
    assert json.loads(third["turns"]) == ["one", "two"]


def test_round_trip(tmp_path):
    """
    What pyarrow writes it reads again, the empty texts told from none.
    """
    import pyarrow.csv

    table(tmp_path, line("a", reply("")), line("b", error=ValueError("no")), kind="csv")
    options = pyarrow.csv.ConvertOptions(
        strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    found = pyarrow.csv.read_csv(tmp_path / "a.csv", convert_options=options)
    assert found.column("text").to_pylist() == ["", None]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_memory(tmp_path, kind, monkeypatch):
    """
    A journal of any length is held a few rows at a time: by their number, or their length.
    """
    monkeypatch.setattr("horay_async.cli._answer_table._ROWS", 100)
    monkeypatch.setattr("horay_async.cli._answer_table._TEXT", 1 << 17)
    short, long = line("a", reply("hi")), line("a", reply("long" * 12_500))
    journal = tmp_path / "a.jsonl"
    journal.write_text(short * 10_000 + long * 200)
    tracemalloc.start()
    try:
        assert write_table(str(journal), str(tmp_path / f"a.{kind}")) == 10_200
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    if kind == "parquet":
        groups = pq.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups
        assert 150 <= groups <= 220


def test_replaced_as_a_whole(tmp_path, monkeypatch):
    """
    The former table is there until the new one is whole, and keeps its mode; what a crash
    has left beside it goes.
    """
    output = tmp_path / "a.csv"
    output.write_text("former")
    output.chmod(0o600)
    (tmp_path / "a.csv.horay-tmp").write_text("left by a crash")
    seen = []
    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda *paths: (seen.append(output.read_text()), replace(*paths))
    )
    table(tmp_path, line("a", reply("hi")), kind="csv")
    assert seen == ["former"]
    assert output.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["a.csv", "a.jsonl"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_through_a_link(tmp_path):
    """
    The link stays, and what it names is replaced.
    """
    (tmp_path / "there").mkdir()
    (tmp_path / "a.csv").symlink_to(tmp_path / "there" / "b.csv")
    table(tmp_path, line("a", reply("hi")), kind="csv")
    assert (tmp_path / "a.csv").is_symlink()
    assert "hi" in (tmp_path / "there" / "b.csv").read_text()


@contextlib.contextmanager
def files_of_at_most(size):
    import resource

    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.mark.skipif(os.name == "nt", reason="no such limits there")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_full_disk(tmp_path, kind):
    """
    The former table stays, and the sentence says where the answers are.
    """
    output, journal = tmp_path / f"b.{kind}", tmp_path / "a.jsonl"
    output.write_text("former")
    journal.write_text(line("a", reply(os.urandom(5000).hex())))
    with pytest.raises(CannotWrite) as caught, files_of_at_most(4096):
        write_table(str(journal), str(output))
    assert str(caught.value) == (
        f"cannot write {output}: File too large; the answers are all in {journal}"
    )
    assert names(tmp_path) == ["a.jsonl", f"b.{kind}"]
    assert output.read_text() == "former"


def test_no_journal(tmp_path):
    """
    Without lines there is no table.
    """
    with pytest.raises(CannotWrite, match="No such file"):
        write_table(str(tmp_path / "a.jsonl"), str(tmp_path / "a.csv"))
    assert names(tmp_path) == []


# Before anything is sent -------------------------------------------------------------


def test_checked_before(tmp_path):
    """
    A new file, one that was made of the journal beside it, and one that may be replaced.
    """
    output = tmp_path / "a.csv"
    check_table_output(str(output), overwrite=False)
    output.write_text("prompt\n")
    check_table_output(str(output), overwrite=True)
    with pytest.raises(Misuse) as caught:
        check_table_output(str(output), overwrite=False)
    assert str(caught.value) == (
        f"{output} is there already, and was not made of a journal {output}.jsonl:"
        " --overwrite replaces it"
    )
    (tmp_path / "a.csv.jsonl").touch()
    check_table_output(str(output), overwrite=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no/a.csv", "there is no folder"),
        ("dir.csv", "it is no regular file"),
        (f"{'a' * 300}.csv", "too long"),
    ],
)
def test_no_place(tmp_path, name, words):
    """
    What could not be put in place in the end is refused in the beginning.
    """
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(Misuse, match=words):
        check_table_output(str(tmp_path / name), overwrite=True)


def test_without_pyarrow(tmp_path, monkeypatch):
    """
    Said before the night's work, not after it.
    """
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Misuse, match=r"pip install 'horay-async\[parquet\]'"):
        check_table_output(str(tmp_path / "a.csv"), overwrite=False)
