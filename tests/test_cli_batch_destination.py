"""
Where the results of a batch go.
"""

import os

import pytest

from horay_async.cli._destination import Destination
from horay_async.cli._failures import Misuse


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("name", "journal", "table"),
    [
        ("-", None, None),
        (os.devnull, None, None),
        ("out.jsonl", "out.jsonl", None),
        ("out", "out", None),
        ("out.csv", "out.csv.jsonl", "out.csv"),
        ("OUT.Parquet", "OUT.Parquet.jsonl", "OUT.Parquet"),
    ],
)
def test_names(name, journal, table):
    """
    A file is a journal, a table has one beside it, and a device has none.
    """
    destination = Destination(name)
    assert destination.journal == journal
    assert destination.table == table
    assert destination.shown == (None if name == "-" else name)


def test_beside(tmp_path, monkeypatch):
    """
    What lies beside a journal is named as that is; what a link leads to by its path.
    """
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to("far")
    monkeypatch.chdir(tmp_path)
    beside = str(tmp_path / "far" / "out.jsonl.old")
    for name in "far", "near":
        destination = Destination(f"{name}/out.jsonl")
        assert destination.named(beside) == f"{name}/out.jsonl.old"
    assert Destination("out.jsonl").named(beside) == beside
    assert Destination("out.jsonl").named(str(tmp_path / "x")) == "x"


def test_pipes(tmp_path):
    """
    Nor has a pipe.
    """
    os.mkfifo(path := tmp_path / "pipe")
    assert Destination(str(path)).journal is None


@pytest.mark.parametrize("name", ["out.jsonl.gz", "OUT.GZ"])
def test_packed(name, source):
    """
    A name that promises gzip is not written as plain text.
    """
    with pytest.raises(Misuse, match="gzip them afterwards"):
        Destination(name).check(source.stat(), overwrite=False)


def test_folders(tmp_path, source):
    """
    A folder takes no answers.
    """
    with pytest.raises(Misuse, match="Is a directory"):
        Destination(str(tmp_path)).check(source.stat(), overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_input(tmp_path, source, overwrite):
    """
    The input is not written over, neither by another name of it, nor beside a table.
    """
    other = tmp_path / "other"
    other.hardlink_to(source)
    beside = tmp_path / "out.csv.jsonl"
    beside.hardlink_to(source)
    for name, said in [(other, "other"), (tmp_path / "out.csv", "out.csv.jsonl")]:
        with pytest.raises(Misuse, match=f"{said} is the input"):
            Destination(str(name)).check(source.stat(), overwrite=overwrite)
    new = Destination(str(tmp_path / "new"))
    new.check(source.stat(), overwrite=overwrite)


def test_somebody_elses_table(tmp_path, source):
    """
    A table is replaced where it was made by us: its answers are beside it then.
    """
    table = tmp_path / "out.csv"
    destination = Destination(str(table))
    destination.check(source.stat(), overwrite=False)
    table.write_text("mine")
    with pytest.raises(Misuse, match="is there already, and was not made of a journal"):
        destination.check(source.stat(), overwrite=False)
    destination.check(source.stat(), overwrite=True)
    (tmp_path / "out.csv.jsonl").touch()
    destination.check(source.stat(), overwrite=False)
