"""
Which rows a journal has: some thirty bytes for each, however long its line is.
"""

from __future__ import annotations

import hashlib

from array import array
from collections.abc import Callable, Iterator
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

    partial: bool = False
    """
    Whether a part of the answer had come, where that is all there is.
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


# A row's word: where its last line begins (+ 1, as 0 means nowhere), what that says, whether
# something in it has been paid for, and whether a row of this run is the one. A former
# answer's: where it begins, and whether in the file of those.
_WHERE: Final = (1 << 56) - 1
_STATES: Final[tuple[Kept, ...]] = ("answered", "failed", "again")
_PAID: Final = 1 << 58
_ELSEWHERE: Final = 1 << 59
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

    Former answers, those to other requests, are found by row and digest: whoever goes back
    to a request has not to pay again.
    """

    __slots__ = (
        "_answers",
        "_claims",
        "_dead",
        "_digests",
        "_former",
        "_often",
        "_recalled",
        "_rows",
    )

    def __init__(self) -> None:
        self._rows = _Table()
        # Of the first entries only: what is new in this run need not be compared.
        self._digests = array("Q")
        self._answers = _Table()
        self._claims = array("I")
        self._recalled = array("I")
        self._dead = array("Q")
        self._former = array("Q")
        self._often: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._rows.keys)

    # The files' lines ----------------------------------------------------------------

    def add_former(self, found: Entry, offset: int) -> None:
        """
        Take up a line of the file of former answers. All are added before the first of the
        journal's own.
        """
        if found.state == "answered" and found.digest != UNKNOWN:
            key = _key(found.id, found.nth or 0) ^ _number(found.digest)
            self._answers.put(key, offset + 1 | _ELSEWHERE)

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
            entry = self._rows.find(key)
        word = offset + 1 | _STATES.index(found.state) << 56
        if found.state == "answered" or found.partial:
            word |= _PAID
        digest = _number(found.digest)
        if entry < 0:
            self._rows.insert(key, word)
            self._digests.append(digest)
        else:
            former, known = self._rows.words[entry], self._digests[entry]
            if (
                self._supersede(entry, digest)
                and known
                and _state(former) == "answered"
            ):
                self._answers.put(key ^ known, former & _WHERE)
            self._rows.words[entry] = word
            self._digests[entry] = digest

    def sealed(self) -> dict[Kept, int]:
        """
        No more lines come; how many rows there are of each state.
        """
        self._often.clear()
        counts = dict.fromkeys(_STATES, 0)
        for word in self._rows.words:
            counts[_state(word)] += 1
        return counts

    # This run's rows -----------------------------------------------------------------

    def look(self, name: str, nth: int, digest: bytes) -> State:
        """
        What the *nth* row of an id would be, if it were claimed with others before it.
        """
        entry = self._rows.find(_key(name, nth))
        return "new" if entry < 0 else self._known(entry, digest)[0]

    def claim(
        self, index: int, name: str, digest: bytes, *, retry_failed: bool
    ) -> Claim:
        """
        Find a row's place; called once for each, in the order of the input.
        """
        nth, key, entry = self._free(name, _CLAIMED)
        state: State = "new"
        if entry < 0:
            entry = self._rows.insert(key, _CLAIMED)
        else:
            state, answer = self._known(entry, digest)
            if answer >= 0:
                self._recalled.extend((entry, answer))
            if state == "failed" and retry_failed:
                state = "again"
            self._rows.words[entry] |= _CLAIMED
        self._claims.append(entry)
        return Claim(index, nth, digest, state, entry)

    def _known(self, entry: int, digest: bytes) -> tuple[State, int]:
        """
        What a row's line is to a request; and which former answer is one to it, or -1.
        """
        asked, known = _number(digest), self._digests[entry]
        state: State = _state(self._rows.words[entry])
        if known and known != asked:
            state = "changed"
        if state != "answered" and self._answers.keys:
            answer = self._answers.find(self._rows.keys[entry] ^ asked)
            if answer >= 0:
                return "answered", answer
        return state, -1

    def written(self, claim: Claim, offset: int) -> None:
        """
        A row has a new line, which begins at *offset*.
        """
        self._rewritten(claim.entry, _number(claim.digest), offset)

    def _rewritten(self, entry: int, digest: int, offset: int) -> None:
        self._supersede(entry, digest)
        word = self._rows.words[entry]
        self._rows.words[entry] = word & ~(_WHERE | _PAID) | offset + 1

    def _supersede(self, entry: int, digest: int) -> bool:
        """
        A row gets another line; whether the last one is to be kept, and nowhere else.
        """
        word = self._rows.words[entry]
        if word & _WHERE:
            self._dead.append((word & _WHERE) - 1)
        if not word & _PAID:
            return False
        # One that does not say which request it answers counts as one to another.
        if known := self._digests[entry]:
            answer = self._answers.find(self._rows.keys[entry] ^ known)
            there = answer >= 0 and self._answers.words[answer] & _ELSEWHERE
            if known == digest or there:
                return False
        self._former.append((word & _WHERE) - 1)
        return True

    # For the compaction --------------------------------------------------------------

    @property
    def recalls(self) -> bool:
        """
        Whether rows of this run have claimed former answers.
        """
        return bool(self._recalled)

    def recall(self, copy: Callable[[int, bool, bytes], int]) -> None:
        """
        Take them back.

        Args:
            copy: Adds a line to the journal that begins at some place there, or (true) in
                the file of former ones, and has that digest; returns where it begins now.
        """
        recalled = iter(self._recalled)
        for entry, answer in zip(recalled, recalled, strict=True):
            word = self._answers.words[answer]
            digest = self._answers.keys[answer] ^ self._rows.keys[entry]
            said = digest.to_bytes(len(UNKNOWN), "big")
            begin = copy((word & _WHERE) - 1, bool(word & _ELSEWHERE), said)
            self._rewritten(entry, digest, begin)
        del self._recalled[:]

    @property
    def dead(self) -> array[int]:
        """
        Where the lines begin that others have superseded, in no order.
        """
        return self._dead

    @property
    def former(self) -> array[int]:
        """
        Those of them that have answers to other requests, and are nowhere else: somebody
        has paid for them.
        """
        return self._former

    def claimed(self) -> Iterator[int]:
        """
        Where the last lines of this run's rows begin, in the order of the input.
        """
        for entry in self._claims:
            if where := self._rows.words[entry] & _WHERE:
                yield where - 1

    def unclaimed(self) -> Iterator[int]:
        """
        Where the last lines begin of rows that this run did not have.
        """
        for word in self._rows.words:
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
            entry = self._rows.find(key)
            if entry < 0 or not self._rows.words[entry] & busy:
                break
            nth += 1
        if nth >= _OFTEN:
            self._often[first] = nth + 1
        return nth, key, entry


class _Table:
    """
    Words by keys, both of 64 bits, numbered as they come: open addresses.
    """

    __slots__ = ("_sizes", "_tables", "keys", "words")

    def __init__(self) -> None:
        self.keys = array("Q")
        self.words = array("Q")
        self._sizes = array("I", bytes(4 * _TABLES))
        self._tables = [array("I", bytes(4 * 8)) for _ in range(_TABLES)]

    def find(self, key: int) -> int:
        """
        The number of a key's entry, or -1.
        """
        table = self._tables[key % _TABLES]
        mask = len(table) - 1
        at = key // _TABLES & mask
        while entry := table[at]:
            if self.keys[entry - 1] == key:
                return entry - 1
            at = at + 1 & mask
        return -1

    def insert(self, key: int, word: int) -> int:
        """
        Add a key that is not there; returns its entry's number.
        """
        entry = len(self.keys)
        self.keys.append(key)
        self.words.append(word)
        number = key % _TABLES
        self._sizes[number] += 1
        table = self._tables[number]
        if self._sizes[number] * 3 > len(table) * 2:
            table = self._tables[number] = self._grown(table)
        _put(table, key, entry)
        return entry

    def put(self, key: int, word: int) -> None:
        """
        Add a key, or give it another word.
        """
        entry = self.find(key)
        if entry < 0:
            self.insert(key, word)
        else:
            self.words[entry] = word

    def _grown(self, table: array[int]) -> array[int]:
        grown = array("I", bytes(4 * 2 * len(table)))
        for entry in table:
            if entry:
                _put(grown, self.keys[entry - 1], entry - 1)
        return grown


def _put(table: array[int], key: int, entry: int) -> None:
    mask = len(table) - 1
    at = key // _TABLES & mask
    while table[at]:
        at = at + 1 & mask
    table[at] = entry + 1


def _state(word: int) -> Kept:
    return _STATES[word >> 56 & 3]


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "big")


def _key(name: str, nth: int) -> int:
    # Not hash(): of two rows with one key a line would be lost, and it has 32 bits where
    # pointers have.
    said = f"{nth} {name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")
