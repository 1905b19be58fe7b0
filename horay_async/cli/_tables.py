"""
Rows from a CSV or Parquet file, a few at a time: the file may be larger than the memory.

pyarrow reads them. It is imported where a table is opened: few batches come as tables.
"""

import asyncio
import contextlib
import csv
import gzip
import os
import re
import stat
import threading
import zlib

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Self, cast

import attrs

from .._values import counted
from ._cells import ASKING, IDS, OPTIONS, row_of
from ._failures import Failure, Misuse, reason
from ._lines import BadLine, refuse_misspelt


Row = tuple[int, dict[str, Any] | BadLine]

_CSV, _PARQUET = (".csv", ".csv.gz"), ".parquet"

# What a misspelt column may have been meant for. "prompts" may be a data set's own.
_MEANT = OPTIONS | {"messages", "system"}

# Excel writes the second where commas are for decimals.
_DELIMITERS = ",;\t"

# Bytes of CSV that are parsed at a time: no row may be longer. pyarrow reads 32 of them
# ahead, so it begins with small ones; what has longer rows is begun anew with the next.
_BLOCKS = 1 << 19, 1 << 23, 1 << 27

# A thread's turn costs as much as a few dozen rows, and rows with long prompts add up.
_ROWS = 256

_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")

_NO_TEXT = "it is not text in UTF-8 (spreadsheets save that as 'CSV UTF-8')"

_QUOTE, _FEED = b'"', b"\n"


def is_table(path: str) -> bool:
    """
    Whether a file is a table, by its name. stdin is none: nothing tells CSV from other text,
    and Parquet is read from its end.
    """
    return path.lower().endswith((*_CSV, _PARQUET))


def import_arrow() -> Any:
    """
    pyarrow, with its rooms for CSV and Parquet.

    Raises:
        Misuse: It is not installed.
    """
    try:
        # Here, as it takes 0.2 s; and it is an extra.
        pyarrow = import_module("pyarrow")
        for room in ("csv", "parquet"):
            import_module(f"pyarrow.{room}")
    except ImportError as error:
        raise Misuse(
            "CSV and Parquet are read and written by pyarrow, which cannot be imported"
            f" ({error}): pip install 'horay-async[parquet]'"
        ) from None
    return pyarrow


@attrs.define
class Table:
    """
    A table that can be read: it has the columns, and owns the file.
    """

    path: str

    columns: Sequence[str]
    """
    Those that are ours; the others are the data set's own, and are not read.
    """

    delimiter: str | None
    """
    What stands between two cells of CSV; None for Parquet.
    """

    rows: int | None
    """
    How many there are, where the file says so.
    """

    file: Any

    stat: os.stat_result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def open_table(path: str) -> Table:
    """
    Open a table and look at its columns. This blocks.

    Raises:
        Misuse: It cannot be read, or has no columns that ask for something.
    """
    arrow = import_arrow()
    delimiter = rows = None
    with _told(arrow, path, Misuse), contextlib.ExitStack() as stack:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise Misuse(
                f"cannot read {path}: it is no regular file, as a table must be"
            )
        if path.lower().endswith(_PARQUET):
            file = stack.enter_context(arrow.OSFile(path))
            table = arrow.parquet.ParquetFile(file)
            names, rows = table.schema_arrow.names, table.metadata.num_rows
        else:
            file = stack.enter_context(_unpacked(path))
            names, delimiter = _header(path, file)
        columns = _ours(path, names)
        stack.pop_all()
    return Table(path, columns, delimiter, rows, file, status)


def numbered_rows(table: Table, name: str) -> Iterator[list[Row]]:
    """
    Lists, none of them empty, of rows with their numbers, from 1. This blocks.

    Raises:
        Failure: It cannot be read on.
    """
    arrow = import_arrow()
    # Rows that pyarrow skips, as they have too many cells or too few, by their numbers.
    ragged: dict[int, BadLine] = {}
    if table.delimiter:
        batches = _csv_batches(arrow, table, ragged)
    else:
        batches = _parquet_batches(arrow, table)
    number = 1
    with _told(arrow, name, Failure):
        for batch in batches:
            names = batch.schema.names
            columns = [batch.column(i).to_pylist() for i in range(len(names))]
            found: list[Row] = []
            for cells in zip(*columns, strict=True):
                while number in ragged:
                    found.append((number, ragged.pop(number)))
                    number += 1
                row = row_of(number, zip(names, cells, strict=True))
                found.append((number, row))
                number += 1
            yield found
    rest: list[Row] = [(last, ragged[last]) for last in sorted(ragged)]
    if rest := [row for row in rest if row[0] >= number]:
        yield rest


# In one thread both, and as it is wanted: reading is not what takes long, and reading ahead
# takes memory.


def _parquet_batches(arrow: Any, table: Table) -> Iterator[Any]:
    file = arrow.parquet.ParquetFile(table.file, buffer_size=1 << 20)
    return cast(
        Iterator[Any],
        file.iter_batches(_ROWS, columns=list(table.columns), use_threads=False),
    )


def _csv_batches(arrow: Any, table: Table, ragged: dict[int, BadLine]) -> Iterator[Any]:
    given = 0
    for size in _BLOCKS:  # pragma: no branch -- the last returns, or raises
        skip = given
        ragged.clear()  # what no block held may have looked like one
        try:
            for block in _csv_blocks(arrow, table, size, ragged):
                begin = min(skip, block.num_rows)
                skip -= begin
                for first in range(begin, block.num_rows, _ROWS):
                    batch = block.slice(first, _ROWS)
                    given += batch.num_rows
                    yield batch
        except arrow.ArrowInvalid as error:
            if not _is_too_long(str(error)) or size == _BLOCKS[-1]:
                raise
        else:
            return


def _csv_blocks(
    arrow: Any, table: Table, size: int, ragged: dict[int, BadLine]
) -> Iterator[Any]:
    def skip(row: Any) -> str:
        if row.text.count('"') % 2:
            return "error"  # all that follows may be in it
        number = row.number - 1  # the header is the first
        ragged[number] = _ragged(number, row.actual_columns, row.expected_columns)
        return "skip"

    table.file.seek(0)
    return cast(
        Iterator[Any],
        arrow.csv.open_csv(
            _Blocks(table.file),
            read_options=arrow.csv.ReadOptions(use_threads=False, block_size=size),
            parse_options=arrow.csv.ParseOptions(
                delimiter=table.delimiter,
                newlines_in_values=True,
                invalid_row_handler=skip,
            ),
            # Nothing is guessed: "007" is no number, and "NA" may be what is asked about.
            convert_options=arrow.csv.ConvertOptions(
                include_columns=table.columns,
                column_types=dict.fromkeys(table.columns, arrow.string()),
                strings_can_be_null=False,
            ),
        ),
    )


def _ragged(number: int, cells: int, columns: int) -> BadLine:
    error = BadLine(f"the row has {counted(cells, 'cell')}, expected {columns}")
    error.custom_id = f"row-{number}"
    return error


class _Blocks:
    """
    A file that is never cut between CR and LF.

    pyarrow (20 to 26) takes an LF that begins a block for the rest of a line's end and skips
    it; within quotes it is a part of the prompt.
    """

    closed = False

    def __init__(self, file: Any) -> None:
        self._file = file
        self._kept = b""

    def read(self, size: int) -> bytes:
        """
        At most *size* bytes, which is 2 or more; none at the end.
        """
        block = self._file.read(size - len(self._kept))
        whole = cast(bytes, self._kept + block)
        # An end alone is the last: nothing would be the end of the file.
        cut = len(whole) > 1 and bool(block) and whole.endswith(b"\r")
        self._kept = b"\r" if cut else b""
        return whole[:-1] if cut else whole


@contextlib.contextmanager
def _told(arrow: Any, name: str, kind: type[Failure]) -> Iterator[None]:
    """
    What cannot be read, in a sentence.
    """
    try:
        yield
    except arrow.ArrowException as error:
        raise kind(f"cannot read {name}: {_problem(str(error))}") from None
    except gzip.BadGzipFile:
        raise kind(f"cannot read {name}: it is not gzipped, as its name says") from None
    except (EOFError, zlib.error):
        raise kind(
            f"cannot read {name}: it is damaged, or ends too early (gzip)"
        ) from None
    except OSError as error:
        raise kind(f"cannot read {name}: {reason(error)}") from None


def _problem(words: str) -> str:
    """
    What pyarrow says, in our words where it is the file that is wrong.
    """
    if _is_too_long(words):
        most = f"{_BLOCKS[-1] >> 20} MB"
        return f"one of its rows is longer than {most} (a quote that nobody closes?)"
    if "invalid UTF8" in words:
        return _NO_TEXT
    if ragged := _RAGGED.search(words):
        line, columns, cells = map(int, ragged.groups())
        return (
            f"row {line - 1} has {counted(cells, 'cell')}, expected {columns} (a quote"
            " that nobody closes?)"
        )
    # The first line says it; what follows may be pages.
    return (words.splitlines() or ["it is damaged"])[0][:300]


def _is_too_long(words: str) -> bool:
    """
    Whether there is a row that no block holds. An empty file was refused before.
    """
    return "straddling" in words or "Empty CSV file or block" in words


# Columns -----------------------------------------------------------------------------


def _unpacked(path: str) -> Any:
    return gzip.open(path) if path.lower().endswith(".gz") else Path(path).open("rb")


def _header(path: str, file: Any) -> tuple[list[str], str]:
    """
    The columns of a CSV file, and what stands between them.
    """
    found: list[str] = []
    for delimiter in _DELIMITERS:
        names = _first_row(path, file, delimiter)
        if not set(ASKING).isdisjoint(names):
            return names, delimiter
        found = found or names
    return found, ","


def _first_row(path: str, file: Any, delimiter: str) -> list[str]:
    file.seek(0)
    text = TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        rows = csv.reader(text, delimiter=delimiter)
        return next((row for row in rows if row), [])
    except UnicodeDecodeError:
        problem = _NO_TEXT
    except csv.Error:
        problem = "its first line is no list of columns"
    finally:
        text.detach()
    raise Misuse(f"cannot read {path}: {problem}")


def _ours(path: str, names: Sequence[str]) -> list[str]:
    """
    The columns that say what is asked for, and how.

    Raises:
        Misuse: None asks for anything, or one is misspelt, or comes twice.
    """
    if not names:
        raise Misuse(f"cannot read {path}: it is empty")
    if set(ASKING).isdisjoint(names):
        raise Misuse(
            f"cannot read {path}: expected a column {', '.join(ASKING[:-1])} or"
            f" {ASKING[-1]}, found {_listed(names)}"
        )
    known = {*IDS, *ASKING, *OPTIONS, "system"}
    if "body" in names:
        known |= {"method", "url"}
    for name, times in Counter(names).items():
        if name in known and times > 1:
            raise Misuse(f"cannot read {path}: it has {times} columns {name!r}")
        if name not in known:
            try:
                refuse_misspelt(name, _MEANT)
            except BadLine as error:
                raise Misuse(f"cannot read {path}: {error}") from None
    return [name for name in names if name in known]


def _listed(names: Sequence[str]) -> str:
    """
    Columns for a sentence; of very many the first.
    """
    shown = ", ".join(repr(name[:40]) for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


# How many ----------------------------------------------------------------------------


def count_rows(table: Table, tell: Callable[[int], object]) -> None:
    """
    Have a thread tell how many rows there are; where the file says so it is told at once.

    *tell* is called on the loop that runs now, if at all. CSV's blank lines, which are no
    rows, may be among them.
    """
    if table.rows is not None:
        tell(table.rows)
        return
    threading.Thread(
        target=_count,
        args=(table.path, tell, asyncio.get_running_loop()),
        name="horay-count",
        daemon=True,
    ).start()


def _count(
    path: str, tell: Callable[[int], object], loop: asyncio.AbstractEventLoop
) -> None:
    """
    Not by pyarrow: the process may end in the middle of this.
    """
    # Whoever reads the file says what is wrong with it; a closed loop wants no number.
    gone = contextlib.suppress(OSError, EOFError, zlib.error, RuntimeError)
    with gone, _unpacked(path) as file:
        loop.call_soon_threadsafe(tell, max(_feeds(file) - 1, 0))


def _feeds(file: Any) -> int:
    """
    Lines, of which those within quotes are none.
    """
    lines, quoted, last = 0, False, _FEED
    while block := file.read(1 << 20):
        # What is between two quotes is quoted, and "" within it is twice a quote.
        for part in block.split(_QUOTE):
            lines += 0 if quoted else part.count(_FEED)
            quoted = not quoted
        quoted = not quoted
        last = block[-1:]
    return lines + (last != _FEED)
