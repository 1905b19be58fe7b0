"""
Which rows a journal has: some thirty bytes for each, however long its line is.
"""

from __future__ import annotations

import hashlib

from array import array
from collections.abc import Iterator
from typing import Final, Literal

import attrs


State = Literal["new", "answered", "failed", "changed", "again"]
"""
What a row is to a journal: it has no line; it has an answer; it failed; its line is that of
another request; or it is asked again, as it was cut off or as failed rows are.
"""

Kept = Literal["answered", "failed", "again"]
"""
What a line says of its row. "again": it was cut off.
"""

_SKIPPED: Final = frozenset[State]({"answered", "failed"})

UNKNOWN: Final = bytes(8)
"""
The digest of a line that does not say which request it answers: it is taken for any.
"""


@attrs.frozen
class Entry:
    """
    What one line of a journal tells.
    """

    id: str

    state: Kept

    digest: bytes = UNKNOWN

    nth: int | None = None
    """
    Which of the rows with this id; None where the line does not say so.
    """


@attrs.frozen(kw_only=True)
class Counts:
    """
    What a journal held when it was opened.
    """

    answered: int = 0

    failed: int = 0

    again: int = 0
    """
    Rows that were cut off.
    """

    damaged: int = 0
    """
    Lines that cannot be read.
    """


@attrs.define
class Claim:
    """
    One row's place in a journal: treat it as frozen.
    """

    index: int

    nth: int
    """
    How many rows before it had the same id.
    """

    digest: bytes

    state: State

    entry: int

    @property
    def skip(self) -> bool:
        """
        Whether the journal has what there is to know, so that nobody asks.
        """
        return self.state in _SKIPPED


# A row's word: where its last line begins (+ 1, as 0 means nowhere), what that says, and
# whether a row of this run is the one.
_WHERE: Final = (1 << 56) - 1
_STATES: Final[tuple[Kept, ...]] = ("answered", "failed", "again")
_CLAIMED: Final = 1 << 63
_ANY: Final = (1 << 64) - 1

# Small tables that grow one by one: to build one large table anew would hold up the loop for
# as long as a hundred thousand rows take.
_TABLES: Final = 256

_OFTEN: Final = 8
"""
From here on the rows of one id are counted, and no more looked for one by one.
"""


class Index:
    """
    Rows by id, as a journal's lines have them and as a run claims them.

    A row has 8 bytes each for its key and for its word, 8 more for its digest if the file
    had a line of it, 4 for the order of the claims, and 6 to 12 in a table of open
    addresses. A dict of objects takes ten times as much.
    """

    __slots__ = (
        "_claims",
        "_dead",
        "_digests",
        "_keys",
        "_often",
        "_sizes",
        "_tables",
        "_words",
    )

    def __init__(self) -> None:
        self._keys = array("Q")
        self._words = array("Q")
        # Of the first entries only: what is new in this run need not be compared.
        self._digests = array("Q")
        self._claims = array("I")
        self._dead = array("Q")
        self._sizes = array("I", bytes(4 * _TABLES))
        self._tables = [array("I", bytes(4 * 8)) for _ in range(_TABLES)]
        self._often: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    # The file's lines ----------------------------------------------------------------

    def add(self, found: Entry, offset: int) -> None:
        """
        Take up a line that begins at *offset*; a row's last line wins.

        Lines that do not say which of several rows they are for are for one after the
        other. All are added before the first claim.
        """
        if found.nth is None:
            _, key, entry = self._free(found.id, _ANY)
        else:
            key = _key(found.id, found.nth)
            entry = self._find(key)
        word = offset + 1 | _STATES.index(found.state) << 56
        digest = int.from_bytes(found.digest, "big")
        if entry < 0:
            self._insert(key, word)
            self._digests.append(digest)
        else:
            self._dead.append((self._words[entry] & _WHERE) - 1)
            self._words[entry] = word
            self._digests[entry] = digest

    def sealed(self) -> dict[Kept, int]:
        """
        No more lines come; how many rows there are of each state.
        """
        self._often.clear()
        counts = dict.fromkeys(_STATES, 0)
        for word in self._words:
            counts[_STATES[word >> 56 & 3]] += 1
        return counts

    # This run's rows -----------------------------------------------------------------

    def claim(
        self, index: int, name: str, digest: bytes, *, retry_failed: bool
    ) -> Claim:
        """
        Find a row's place; called once for each, in the order of the input.
        """
        nth, key, entry = self._free(name, _CLAIMED)
        state: State = "new"
        if entry < 0:
            entry = self._insert(key, _CLAIMED)
        else:
            word = self._words[entry]
            state = _STATES[word >> 56 & 3]
            known = self._digests[entry]
            if known and known != int.from_bytes(digest, "big"):
                state = "changed"
            elif state == "failed" and retry_failed:
                state = "again"
            self._words[entry] = word | _CLAIMED
        self._claims.append(entry)
        return Claim(index, nth, digest, state, entry)

    def written(self, claim: Claim, offset: int) -> None:
        """
        A row has a new line, which begins at *offset*.
        """
        word = self._words[claim.entry]
        if former := word & _WHERE:
            self._dead.append(former - 1)
        self._words[claim.entry] = word & ~_WHERE | offset + 1

    # For the compaction --------------------------------------------------------------

    @property
    def dead(self) -> array[int]:
        """
        Where the lines begin that others have superseded, in no order.
        """
        return self._dead

    def claimed(self) -> Iterator[int]:
        """
        Where the last lines of this run's rows begin, in the order of the input.
        """
        for entry in self._claims:
            if where := self._words[entry] & _WHERE:
                yield where - 1

    def unclaimed(self) -> Iterator[int]:
        """
        Where the last lines begin of rows that this run did not have.
        """
        for word in self._words:
            if not word & _CLAIMED:
                yield (word & _WHERE) - 1

    # Small print ---------------------------------------------------------------------

    def _free(self, name: str, busy: int) -> tuple[int, int, int]:
        """
        The first row of this id whose word has none of the bits *busy*: which one it is,
        its key, and its entry, or -1.
        """
        first = _key(name, 0)
        nth = self._often.get(first, 0) if self._often else 0
        while True:
            key = _key(name, nth) if nth else first
            entry = self._find(key)
            if entry < 0 or not self._words[entry] & busy:
                break
            nth += 1
        if nth >= _OFTEN:
            self._often[first] = nth + 1
        return nth, key, entry

    def _find(self, key: int) -> int:
        table = self._tables[key % _TABLES]
        mask = len(table) - 1
        at = key // _TABLES & mask
        while entry := table[at]:
            if self._keys[entry - 1] == key:
                return entry - 1
            at = at + 1 & mask
        return -1

    def _insert(self, key: int, word: int) -> int:
        entry = len(self._keys)
        self._keys.append(key)
        self._words.append(word)
        number = key % _TABLES
        self._sizes[number] += 1
        table = self._tables[number]
        if self._sizes[number] * 3 > len(table) * 2:
            table = self._tables[number] = self._grown(table)
        _put(table, key, entry)
        return entry

    def _grown(self, table: array[int]) -> array[int]:
        grown = array("I", bytes(4 * 2 * len(table)))
        for entry in table:
            if entry:
                _put(grown, self._keys[entry - 1], entry - 1)
        return grown


def _put(table: array[int], key: int, entry: int) -> None:
    mask = len(table) - 1
    at = key // _TABLES & mask
    while table[at]:
        at = at + 1 & mask
    table[at] = entry + 1


def _key(name: str, nth: int) -> int:
    # Not hash(): of two rows with one key a line would be lost, and it has 32 bits where
    # pointers have.
    said = f"{nth} {name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")
