"""
Where the results of a batch go: a pipe as they come, a journal, or a table made of one.
"""

import asyncio
import io
import os
import stat
import sys

from pathlib import Path

import attrs

from .. import JournalError
from ..many._journal import Journal
from ._answer_table import check_table_output, is_table_output, journal_of
from ._failures import Misuse, reason


def _journal(name: str) -> str | None:
    # What is no regular file cannot be read again, or be put in order.
    if name == "-" or (Path(name).exists() and not Path(name).is_file()):
        return None
    return journal_of(name)


@attrs.frozen
class Destination:
    """
    Where results go.
    """

    name: str
    """
    A file, as the command line names it; "-" is stdout.
    """

    journal: str | None = attrs.field(init=False)
    """
    The file that is written line by line, and that a second run goes on with; None for
    stdout, a pipe, a device.
    """

    _folder: Path = attrs.field(init=False)
    """
    Where that is, whatever links are named.
    """

    def __attrs_post_init__(self) -> None:
        """
        Look what is there, once: this blocks.
        """
        object.__setattr__(self, "journal", _journal(self.name))
        folder = Path(os.path.realpath(self.journal or self.name)).parent
        object.__setattr__(self, "_folder", folder)

    @property
    def table(self) -> str | None:
        """
        The table that is made of the journal in the end, if one is wanted.
        """
        return self.name if is_table_output(self.name) else None

    @property
    def shown(self) -> str | None:
        """
        Its name for sentences, where the results are not seen anyway.
        """
        return None if self.name == "-" else self.name

    def named(self, path: str) -> str:
        """
        A file that the journal has beside it, named as the command line names that.
        """
        place = Path(path)
        if place.parent == self._folder:
            place = Path(self.journal or self.name).with_name(place.name)
        return str(place)

    def check(self, source: os.stat_result, *, overwrite: bool) -> None:
        """
        Refuse what cannot be meant, before anything is opened.

        Args:
            source: The input.
            overwrite: Whether what is there may be replaced.

        Raises:
            Misuse: It is closed, a folder, the input, or would have to be packed; or it is a
                table that cannot be made, or was not made by us.
        """
        if self.name == "-" and sys.stdout is None:
            raise Misuse("cannot write to stdout: it is closed")
        if self.name.lower().endswith(".gz"):
            raise Misuse(
                f"cannot write {self.name}: answers are written as plain text, a line as "
                "soon as it is there; gzip them afterwards"
            )
        if self.table is not None:
            check_table_output(self.table, overwrite=overwrite)
        for name in {self.name, self.journal or self.name}:
            _check(name, source)

    async def set_aside(self) -> list[str]:
        """
        Move the earlier answers out of the way, and those before them; to where, if there
        are any.

        Raises:
            Misuse: Somebody else is writing there, it is no journal, or cannot be moved.
        """
        if self.journal is None or not await asyncio.to_thread(
            _has_lines, self.journal
        ):
            return []
        try:
            journal = await Journal.open(self.journal)
            await journal.aclose()
        except JournalError as error:
            raise Misuse(str(error)) from None
        try:
            return await asyncio.to_thread(
                _set_aside, journal.path, journal.former_path
            )
        except OSError as error:
            raise Misuse(f"cannot set {self.journal} aside: {reason(error)}") from None

    def open_pipe(self) -> io.FileIO:
        """
        What has no journal, unbuffered: what is written is written.

        Raises:
            Misuse: It cannot be written.
        """
        if self.name == "-":
            return io.FileIO(os.dup(sys.stdout.fileno()), "w")
        try:
            return io.FileIO(self.name, "w")
        except OSError as error:
            raise Misuse(f"cannot write {self.name}: {reason(error)}") from None


def _has_lines(path: str) -> bool:
    try:
        return Path(path).stat().st_size > 0
    except OSError:
        return False  # whoever opens it says why


def _set_aside(*paths: str) -> list[str]:
    """
    Give files names that nothing else has; where they are then.
    """
    places = []
    for path in filter(os.path.exists, paths):
        place = Path(f"{path}.old")
        number = 2
        while place.exists():
            place = Path(f"{path}.old-{number}")
            number += 1
        Path(path).rename(place)
        places.append(str(place))
    return places


def _check(name: str, source: os.stat_result) -> None:
    try:
        target = os.fstat(sys.stdout.fileno()) if name == "-" else os.stat(name)  # noqa: PTH116 -- a descriptor or a path
    except OSError:
        return  # opening it will say what is wrong, if anything is
    if stat.S_ISDIR(target.st_mode):
        raise Misuse(f"cannot write {name}: Is a directory")
    if stat.S_ISREG(target.st_mode) and os.path.samestat(source, target):
        name = "stdout" if name == "-" else name
        raise Misuse(f"{name} is the input: answers would overwrite the prompts")
