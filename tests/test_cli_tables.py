"""
CSV and Parquet files in: their columns, their rows, and what cannot be read.
"""

import asyncio
import csv
import gzip
import io
import itertools
import os
import random
import sys
import tracemalloc

import pytest

from horay_async.cli._failures import Failure, Misuse
from horay_async.cli._lines import BadLine
from horay_async.cli._reader import LineReader
from horay_async.cli._tables import (
    _Blocks,
    count_rows,
    is_table,
    numbered_rows,
    open_table,
)
from loopback import soon


pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path, content):
    """
    A file of bytes, of text, or of a table's columns.
    """
    if isinstance(content, dict):
        pq.write_table(pa.table(content), path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def rows(path):
    """
    All of a table's rows; their numbers count from 1 without a gap.
    """
    with open_table(path) as table:
        lists = list(numbered_rows(table, "the table"))
    assert all(lists)
    found = [one for several in lists for one in several]
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    return [row for _, row in found]


def prompts(path):
    return [row["prompt"] for row in rows(path)]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a.csv", True),
        ("A.CSV", True),
        ("a.csv.gz", True),
        ("a.parquet", True),
        ("a.jsonl", False),
        ("a.gz", False),
        ("parquet", False),
        ("-", False),
    ],
)
def test_by_its_name(name, is_one):
    """
    The name tells; stdin is lines of JSON.
    """
    assert is_table(name) is is_one


def test_csv(tmp_path):
    """
    Quotes, commas and line feeds within cells; nothing is guessed, and columns of the data
    set's own are not read.
    """
    text = (
        "id,prompt,score,temperature\n"
        '007,"Say ""hi"",\nplease",1,0.5\n'
        "0x1F,NA,2,\n"
        "true,null,,1\n"
    )
    assert rows(write(tmp_path / "a.csv", text)) == [
        {"custom_id": "007", "prompt": 'Say "hi",\nplease', "temperature": 0.5},
        {"custom_id": "0x1F", "prompt": "NA"},
        {"custom_id": "true", "prompt": "null", "temperature": 1},
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfprompt,x\r\nhi,1\r\nyou,2\r\n",
        b"prompt;x\nhi;1\nyou;2",
        b"x\tprompt\n1\thi\n2\tyou\n",
        b'"prompt"\n\nhi\n\n"you"\n\n',
    ],
)
def test_the_ways_of_csv(tmp_path, content):
    """
    A byte order mark, the line ends of Windows, other delimiters, blank lines.
    """
    assert prompts(write(tmp_path / "a.csv", content)) == ["hi", "you"]


def test_gzipped(tmp_path):
    """
    Also what was appended to a gzipped file.
    """
    packed = gzip.compress(b"prompt\nhi\n") + gzip.compress(b"you\n")
    assert prompts(write(tmp_path / "a.csv.GZ", packed)) == ["hi", "you"]


def test_parquet(tmp_path):
    """
    Typed columns: lists of messages, missing values.
    """
    path = write(
        tmp_path / "a.parquet",
        {
            "question_id": [81, 82, 83],
            "messages": [[{"role": "user", "content": "a"}], None, None],
            "prompt": [None, "b", "c"],
            "max_tokens": [10.0, None, float("nan")],
            "reference": [[1.0], [2.0], None],
        },
    )
    assert rows(path) == [
        {
            "custom_id": "81",
            "messages": [{"role": "user", "content": "a"}],
            "max_tokens": 10,
        },
        {"custom_id": "82", "prompt": "b"},
        {"custom_id": "83", "prompt": "c"},
    ]


def test_texts_of_parquet(tmp_path):
    """
    However a writer keeps its texts.
    """
    for kind in (
        pa.large_string(),
        pa.binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ):
        texts = pa.array(["hé", "hé"]).cast(kind)
        assert prompts(write(tmp_path / "a.parquet", {"prompt": texts})) == ["hé", "hé"]


def test_batch_lines_as_a_table(tmp_path):
    """
    The columns of an OpenAI Batch file.
    """
    body = '"{""prompt"": ""a""}"'
    text = f"custom_id,method,url,body\n1,POST,/v1/completions,{body}\n"
    (row,) = rows(write(tmp_path / "a.csv", text))
    assert row == {
        "custom_id": "1",
        "method": "POST",
        "url": "/v1/completions",
        "body": {"prompt": "a"},
    }
    # Without a body they are the data set's own.
    (row,) = rows(write(tmp_path / "a.csv", "prompt,url\na,b\n"))
    assert row == {"custom_id": "row-1", "prompt": "a"}


def test_one_bad_row(tmp_path):
    """
    A cell that cannot be read is its row's mistake, and nobody else's.
    """
    found = rows(write(tmp_path / "a.csv", "id,messages\na,no\nb,[]\n"))
    assert isinstance(found[0], BadLine)
    assert (str(found[0])[:18], found[0].custom_id) == ("messages: not JSON", "a")
    assert found[1] == {"custom_id": "b", "messages": []}


@pytest.mark.parametrize("block", [1 << 19, 32])
def test_ragged_rows(tmp_path, block, monkeypatch):
    """
    A row with too many cells, or too few, is that row's mistake: the others have the numbers
    that they have.
    """
    monkeypatch.setattr("horay_async.cli._tables._BLOCKS", (block, 1 << 19))
    text = "prompt,x\n" + "a,1\n" * 20 + "b,2,3\nc\n\n" + "d,4\n" * 20 + "e,5,6\n"
    found = rows(write(tmp_path / "a.csv", text))
    assert len(found) == 43
    bad = {n: row for n, row in enumerate(found, 1) if isinstance(row, BadLine)}
    assert {n: (row.custom_id, str(row)) for n, row in bad.items()} == {
        21: ("row-21", "the row has 3 cells, expected 2"),
        22: ("row-22", "the row has 1 cell, expected 2"),
        43: ("row-43", "the row has 3 cells, expected 2"),
    }
    assert found[22] == {"custom_id": "row-23", "prompt": "d"}
    assert found[41] == {"custom_id": "row-42", "prompt": "d"}


@pytest.mark.parametrize("seed", range(3))
def test_csv_of_any_shape(tmp_path, seed, monkeypatch):
    """
    Wherever a block ends, rows are whole.
    """
    monkeypatch.setattr("horay_async.cli._tables._BLOCKS", (1 << 10, 1 << 13, 1 << 20))
    monkeypatch.setattr("horay_async.cli._tables._ROWS", 7)
    dice = random.Random(seed)
    texts = [
        "".join(dice.choices('ab ,"\nü\r;', k=dice.randrange(1, 60)))
        for _ in range(1000)
    ]
    # Longer than a first, and a second block.
    texts[700] = "long\n" * 500
    texts[800] = 'very "long"' * 5000
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(["n", "prompt"])
    writer.writerows(enumerate(texts))
    assert prompts(write(tmp_path / "a.csv", out.getvalue())) == texts


@pytest.mark.parametrize("size", range(2, 9))
def test_never_between_cr_and_lf(size):
    """
    A line end is in one block, and nothing is lost, not even at the end.
    """
    content = b"\r\na\r\n\rbc\n\r\r\nde\r"
    blocks = _Blocks(io.BytesIO(content))
    read = list(iter(lambda: blocks.read(size), b""))
    assert b"".join(read) == content
    for one, following in itertools.pairwise(read):
        assert (one[-1:], following[:1]) != (b"\r", b"\n")
    assert max(map(len, read)) <= size


def test_no_rows(tmp_path):
    """
    Columns alone are a table of no rows.
    """
    assert rows(write(tmp_path / "a.csv", "prompt,x\n")) == []
    assert rows(write(tmp_path / "a.parquet", {"prompt": []})) == []


# What is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "it is empty"),
        (
            "a.csv",
            "question,answer\na,b\n",
            "expected a column prompt, messages, turns or body, found 'question', 'answer'",
        ),
        (
            "a.csv",
            ",".join(f"c{i}" for i in range(20)) + "\n",
            "found 'c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7' and 12 more",
        ),
        (
            "a.csv",
            "prompt,temprature\na,1\n",
            "there is no option 'temprature'; did you mean 'temperature'?",
        ),
        (
            "a.parquet",
            {"prompt": ["a"], "Max-Tokens": [1]},
            "there is no option 'Max-Tokens'; did you mean 'max_tokens'?",
        ),
        ("a.csv", "prompt,sytem\na,b\n", "did you mean 'system'?"),
        ("a.csv", "prompt,x,prompt\na,b,c\n", "it has 2 columns 'prompt'"),
        ("a.csv", b"prompt\nh\xe9\n", "it is not text in UTF-8"),
        ("a.csv", "prompt\na\n".encode("utf-16"), "it is not text in UTF-8"),
        ("a.csv", "x" * 200_000, "its first line is no list of columns"),
        ("a.csv.gz", b"prompt\n", "it is not gzipped, as its name says"),
        ("a.csv.gz", b"", "it is empty"),
        (
            "a.csv.gz",
            gzip.compress(b"prompt\n")[:12],
            "damaged, or ends too early (gzip)",
        ),
        ("a.csv.gz", gzip.compress(b"a" * 99)[:10] + b"\xff" * 9, "damaged, or ends"),
        ("a.parquet", b"prompt\na\n", "magic bytes"),
        ("a.parquet", b"", "0 bytes"),
    ],
)
def test_refused(tmp_path, name, content, words):
    """
    What cannot be a table of prompts is refused before anything is asked.
    """
    path = write(tmp_path / name, content)
    with pytest.raises(Misuse) as caught:
        open_table(path)
    assert str(caught.value).startswith(f"cannot read {path}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b'prompt,x\na,1\n"b,2\nc,3\n',
            "row 2 has 1 cell, expected 2 (a quote that nobody closes?)",
        ),
        (b"prompt\n" + b"a\n" * 200_000 + b"h\xe9\n", "it is not text in UTF-8"),
    ],
)
def test_broken_off(tmp_path, content, words):
    """
    What turns out wrong later ends the reading, with the place of it.
    """
    with pytest.raises(Failure) as caught:
        rows(write(tmp_path / "a.csv", content))
    assert type(caught.value) is Failure
    assert str(caught.value).startswith("cannot read the table: ")
    assert words in str(caught.value)


def test_truncated(tmp_path):
    """
    A gzipped file that was not copied whole.
    """
    dice = random.Random(1)
    lines = "".join(f"{dice.random()}\n" for _ in range(100_000))
    packed = gzip.compress(f"prompt\n{lines}".encode())[:-1000]
    with pytest.raises(Failure, match=r"cannot read the table: .* ends too early"):
        rows(write(tmp_path / "a.csv.gz", packed))


def test_a_row_without_end(tmp_path, monkeypatch):
    """
    A row that no block holds.
    """
    monkeypatch.setattr("horay_async.cli._tables._BLOCKS", (1 << 10, 1 << 20))
    path = write(tmp_path / "a.csv", "prompt,x\n" + "a" * (5 << 20) + ",1\n")
    with pytest.raises(Failure, match="one of its rows is longer than 1 MB"):
        rows(path)


def test_no_file(tmp_path):
    """
    A table is a regular file: Parquet is read from its end.
    """
    with pytest.raises(Misuse, match="No such file"):
        open_table(str(tmp_path / "a.csv"))
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(Misuse, match="no regular file"):
        open_table(str(tmp_path / "b.csv"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows")
def test_a_pipe(tmp_path):
    """
    Refused without waiting for somebody to write.
    """
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(Misuse, match="no regular file"):
        open_table(str(tmp_path / "a.csv"))


def test_without_pyarrow(tmp_path, monkeypatch):
    """
    The sentence says what to install.
    """
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Misuse) as caught:
        open_table(write(tmp_path / "a.csv", "prompt\na\n"))
    assert str(caught.value).startswith(
        "CSV and Parquet are read and written by pyarrow"
    )
    assert str(caught.value).endswith("pip install 'horay-async[parquet]'")


# At work -----------------------------------------------------------------------------


async def test_as_a_reader(tmp_path):
    """
    Off the loop, as the lines of a file are read; the file is closed in the end.
    """
    path = write(tmp_path / "a.parquet", {"prompt": [str(i) for i in range(1000)]})
    table = await asyncio.to_thread(open_table, path)
    with LineReader(table, path, numbered_rows) as reader:
        assert await soon(reader.peek()) == (1, {"custom_id": "row-1", "prompt": "0"})
        found = [row["prompt"] async for _, row in reader]
    assert found == [str(i) for i in range(1000)]


@pytest.mark.parametrize(
    ("name", "content", "count"),
    [
        ("a.parquet", {"prompt": ["a"] * 300}, 300),
        ("a.csv", "prompt,x\na,1\nb,2\n", 2),
        ("a.csv", 'prompt,x\n"a\n""b""\n",1\r\nb,2', 2),
        ("a.csv", 'prompt\n"' + 'x"",\n' * 400_000 + '"\nb', 2),
        ("a.csv", "prompt\n", 0),
        ("a.csv", "prompt", 0),
        ("a.csv.gz", gzip.compress(b"prompt\na\nb\n"), 2),
    ],
)
async def test_how_many(tmp_path, name, content, count):
    """
    Rows are counted beside the reading; line feeds within cells are none.
    """
    path = write(tmp_path / name, content)
    with await asyncio.to_thread(open_table, path) as table:
        told = asyncio.get_running_loop().create_future()
        count_rows(table, told.set_result)
        assert await soon(told) == count


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_memory(tmp_path, name, monkeypatch):
    """
    A table of any length is held a few rows at a time, and a few blocks of it.
    """
    monkeypatch.setattr("horay_async.cli._tables._BLOCKS", (1 << 14, 1 << 20))
    many = 30_000
    texts = [f"{i}: " + "word " * 40 for i in range(many)]
    if name == "a.csv":
        path = write(tmp_path / name, "prompt\n" + "".join(f"{t}\n" for t in texts))
    else:
        path = write(tmp_path / name, {"prompt": texts})
    del texts
    with open_table(path) as table:
        tracemalloc.start()
        try:
            counts = [len(several) for several in numbered_rows(table, "t")]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert sum(counts) == many
    assert max(counts) <= 256
    assert peak < 1 << 20
