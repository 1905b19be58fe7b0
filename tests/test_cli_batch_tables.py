"""
`horay batch` with tables: rows in, rows out.
"""

import csv
import json

import pyarrow.parquet as pq
import pytest

from batching import command, emulating, text_of, write_lines
from horay_async.cli._writer import CannotWrite
from horay_async.emulator import Answer


__all__ = ["command"]


@pytest.fixture
def server():
    with emulating() as server:
        yield server


@pytest.fixture
def table(tmp_path):
    """
    Four rows, the third of them without a prompt.
    """
    path = tmp_path / "in.csv"
    path.write_text(
        "id,prompt,max_tokens,system,topic\n"
        "007,one,9,,a\n"
        'b,"two, or\n2",1,Be brief.,\n'
        "c,,,,\n"
        ",four,,,\n"
    )
    return path


def rows(path):
    with path.open(newline="") as file:
        return {row["custom_id"]: row for row in csv.DictReader(file)}


def test_csv(server, table, tmp_path, command):
    """
    Rows are asked as lines are, and the answers are rows again.
    """
    out = tmp_path / "out.csv"
    words = "batch", table, "-o", out, *server.words, "--order", "input"
    code, _, err = command(*words)
    assert code == 1
    assert "horay: row 3: " in err
    assert f"4 lines: 3 answered, 1 failed (1 bad line); results in {out}\n" in err
    asked = {one.json["messages"][-1]["content"]: one.json for one in server.requests}
    assert asked["one"]["max_tokens"] == 9
    assert "max_tokens" not in asked["four"]
    assert asked["two, or\n2"]["messages"][0] == {
        "role": "system",
        "content": "Be brief.",
    }
    found = rows(out)
    assert list(found) == ["007", "b", "c", "row-4"]
    assert [row["text"] for row in found.values()] == ["one", "two,", "", "four"]
    assert found["c"]["error"]


def test_goes_on(server, table, tmp_path, command):
    """
    What goes on is the journal beside the table; the table is made anew.
    """
    out = tmp_path / "out.parquet"
    words = "batch", table, "-o", out, *server.words
    server.script(*[Answer.json({"error": {"message": "no"}}, 400)] * 3)
    assert command(*words)[0] == 1
    assert all(row["error"] for row in pq.read_table(out).to_pylist())
    code, _, err = command(*words, "--retry-failed")
    assert (code, len(server.requests)) == (1, 6)
    assert f"horay: {out}.jsonl: 4 failed (asked again)\n" in err
    texts = {row["custom_id"]: row["text"] for row in pq.read_table(out).to_pylist()}
    assert texts["007"] == "one"
    journal = tmp_path / "out.parquet.jsonl"
    assert len(journal.read_text().splitlines()) == 4


def test_ragged_row(server, tmp_path, command):
    """
    A row with a cell too many fails alone, and the table is made.
    """
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("prompt,x\none,1\ntwo,1,2\nthree,1\n")
    code, _, err = command("batch", source, "-o", out, *server.words)
    assert code == 1
    assert "horay: row 2: the row has 3 cells, expected 2\n" in err
    assert "3 lines: 2 answered, 1 failed (1 bad line); " in err
    found = rows(out)
    assert [found[f"row-{n}"]["text"] for n in (1, 2, 3)] == ["one", "", "three"]


def test_no_first_row(server, tmp_path, command):
    """
    A table of which nothing can be read is refused.
    """
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('prompt,x\n"one,1\n')
    code, _, err = command("batch", source, "-o", out, *server.words)
    assert code == 2
    assert "row 1 has 1 cell, expected 2 (a quote that nobody closes?)\n" in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_lines_to_a_table(server, tmp_path, command):
    """
    Lines may become a table, too; the summary names it.
    """
    source = write_lines(tmp_path / "in.jsonl", {"prompt": "one"})
    out = tmp_path / "out.csv"
    code, _, err = command("batch", source, "-o", out, *server.words, "--json")
    assert code == 0
    assert json.loads(err)["output"] == str(out)
    assert rows(out)["line-1"]["text"] == "one"


def test_rows_to_stdout(server, table, command):
    """
    A table may become lines.
    """
    code, out, _ = command("batch", table, *server.words, "--max-tokens", 9)
    assert code == 1
    lines = [json.loads(line) for line in out.splitlines()]
    texts = {line["custom_id"]: text_of(line) for line in lines if not line["error"]}
    assert texts == {"007": "one", "b": "two,", "row-4": "four"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question\nwhy?\n", "expected a column prompt"),
        ("prompt,temprature\na,1\n", "did you mean 'temperature'?"),
        ("", "it is empty"),
    ],
)
def test_no_prompts(server, tmp_path, command, text, said):
    """
    A table that asks for nothing is refused before anything is sent.
    """
    (tmp_path / "in.csv").write_text(text)
    out = tmp_path / "out.csv"
    code, _, err = command("batch", tmp_path / "in.csv", "-o", out, *server.words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_table_that_cannot_be_written(server, table, tmp_path, command, monkeypatch):
    """
    The answers are in the journal then, and the next run has nothing to ask.
    """
    out = tmp_path / "out.csv"
    words = "batch", table, "-o", out, *server.words
    out.mkdir()
    code, _, err = command(*words)
    assert code == 2
    assert "is no regular file" in err
    assert not server.requests
    out.rmdir()

    def full(*_):
        raise CannotWrite("cannot write out.csv: it is full")

    monkeypatch.setattr("horay_async.cli._work.write_table", full)
    code, _, err = command(*words)
    assert code == 1
    assert "horay: cannot write out.csv: it is full\n" in err
    assert f"results in {out}.jsonl\n" in err
    monkeypatch.undo()
    monkeypatch.setenv("HORAY_API_KEY", "a-key")
    asked = len(server.requests)
    command(*words)
    assert len(server.requests) == asked
    assert len(rows(out)) == 4
