"""
Where the prompts of a batch come from: lines of a file or of stdin, or a table.
"""

import os
import stat
import sys

from array import array
from bisect import bisect_right
from collections.abc import Callable
from io import BufferedReader

import attrs

from ._failures import Misuse, reason
from ._reader import LineReader, count_lines, numbered
from ._tables import Table, count_rows, is_table, numbered_rows, open_table


@attrs.frozen
class Source:
    """
    An input that is open.
    """

    path: str
    """
    As the command line has it: "-" is stdin.
    """

    file: BufferedReader | Table

    @property
    def name(self) -> str:
        """
        Its name, for sentences.
        """
        return "stdin" if self.path == "-" else self.path

    @property
    def unit(self) -> str:
        """
        What it is made of.
        """
        return "row" if isinstance(self.file, Table) else "line"

    @property
    def stat(self) -> os.stat_result:
        """
        Which file it is.
        """
        if isinstance(self.file, Table):
            return self.file.stat
        return os.fstat(self.file.fileno())

    @property
    def is_file(self) -> bool:
        """
        Whether all of it is there.
        """
        return stat.S_ISREG(self.stat.st_mode)

    def close(self) -> None:
        """
        Where nobody reads it, close it.
        """
        with self.file:
            pass

    def reader(self) -> LineReader:
        """
        What reads it, and closes it.
        """
        if isinstance(self.file, Table):
            # C++ must not be left in the middle when the process ends.
            return LineReader(self.file, self.name, numbered_rows, daemon=False)
        return LineReader(self.file, self.name, numbered)

    def count(self, tell: Callable[[int], object]) -> None:
        """
        Have *tell* called with the number of its lines, some time, where that can be known.
        """
        if isinstance(self.file, Table):
            count_rows(self.file, tell)
        elif self.path != "-":
            count_lines(self.path, tell)


def open_source(path: str) -> Source:
    """
    Open a file, or take stdin.

    Raises:
        Misuse: It cannot be read, or is a table without a prompt.
    """
    if is_table(path):
        return Source(path, open_table(path))
    if path == "-" and sys.stdin is None:
        raise Misuse("cannot read stdin: it is closed")
    try:
        # For stdin a file of its own: the reader's thread may outlive `sys.stdin`.
        file = open(os.dup(0) if path == "-" else path, "rb")  # noqa: PTH123, SIM115 -- a path or a descriptor; the reader closes it
    except OSError as error:
        raise Misuse(f"cannot read {path}: {reason(error)}") from None
    return Source(path, file)


class Numbers:
    """
    The line that each row was: a blank line has a number, and no row.
    """

    def __init__(self) -> None:
        # From which row on lines are how far ahead: hardly ever more than a few.
        self._rows = array("Q")
        self._ahead = array("Q")

    def note(self, row: int, line: int) -> None:
        """
        So it is for the next row, and for those after it.
        """
        if not self._rows or self._ahead[-1] != line - row:
            self._rows.append(row)
            self._ahead.append(line - row)

    def line(self, row: int) -> int:
        """
        The number of a row's line.
        """
        return row + self._ahead[bisect_right(self._rows, row) - 1]
