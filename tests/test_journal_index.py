"""
The index of a journal beside a plain dict.
"""

import sys

from collections import Counter

import pytest

from hypothesis import given
from hypothesis import strategies as st

from horay_async.many import _index
from horay_async.many._index import UNKNOWN, Entry, Index
from journaling import digest


FEW = st.sampled_from(["", "a", "b", "0", "1", "0 a", "\ud83d"])

ENTRIES = st.builds(
    Entry,
    FEW,
    st.sampled_from(["answered", "failed", "again"]),
    st.sampled_from([UNKNOWN, digest("x"), digest("y")]),
    st.none() | st.integers(0, 3),
)


class Model:
    """
    The same with a dict: where each row's last line begins, and what it says.
    """

    def __init__(self):
        self.rows = {}
        self.claims = []
        self.dead = []

    def add(self, entry, offset):
        nth = entry.nth
        if nth is None:
            nth = 0
            while (entry.id, nth) in self.rows:
                nth += 1
        if (entry.id, nth) in self.rows:
            self.dead.append(self.rows[entry.id, nth][0])
        self.rows[entry.id, nth] = (offset, entry.state, entry.digest)

    def claim(self, name, asked, *, retry_failed):
        nth = Counter(one for one, _ in self.claims)[name]
        self.claims.append((name, nth))
        _, state, known = self.rows.get((name, nth), (None, "new", UNKNOWN))
        if known not in (UNKNOWN, asked):
            state = "changed"
        elif state == "failed" and retry_failed:
            state = "again"
        return nth, state

    def written(self, key, offset):
        if key in self.rows:
            self.dead.append(self.rows[key][0])
        self.rows[key] = (offset, "answered", UNKNOWN)


@given(
    st.lists(ENTRIES, max_size=30),
    st.lists(st.tuples(FEW, st.sampled_from("xyz"), st.booleans()), max_size=30),
    st.booleans(),
)
def test_a_dict_does_the_same(entries, rows, retry_failed):
    """
    Lines of a file, then rows that claim their places, some of them written.
    """
    index, model = Index(), Model()
    offset = 0
    for entry in entries:
        index.add(entry, offset)
        model.add(entry, offset)
        offset += 100
    states = Counter(state for _, state, _ in model.rows.values())
    assert {state: n for state, n in index.sealed().items() if n} == states
    for number, (name, said, is_written) in enumerate(rows):
        claim = index.claim(number, name, digest(said), retry_failed=retry_failed)
        expected = model.claim(name, digest(said), retry_failed=retry_failed)
        assert (claim.nth, claim.state) == expected
        assert claim.skip == (claim.state in {"answered", "failed"})
        if is_written:
            index.written(claim, offset)
            model.written((name, claim.nth), offset)
            offset += 100
    assert sorted(index.dead) == sorted(model.dead)
    claimed = [model.rows[key][0] for key in model.claims if key in model.rows]
    assert list(index.claimed()) == claimed
    others = [row[0] for key, row in model.rows.items() if key not in model.claims]
    assert sorted(index.unclaimed()) == sorted(others)
    assert len(index) == len(model.rows.keys() | set(model.claims))


def test_many_rows():
    """
    Tables grow, and nothing gets lost; some forty bytes a row are enough.
    """
    size = 20_000
    index = Index()
    for number in range(size):
        index.add(Entry(f"row-{number}", "answered", digest("x"), 0), number)
    index.sealed()
    for number in range(size):
        claim = index.claim(number, f"row-{number}", digest("x"), retry_failed=False)
        assert claim.state == "answered"
        new = index.claim(number, f"new-{number}", digest("x"), retry_failed=False)
        assert new.state == "new"
    assert list(index.claimed()) == list(range(size))
    arrays = [getattr(index, name) for name in index.__slots__]
    arrays += arrays.pop(index.__slots__.index("_tables"))
    assert sum(map(sys.getsizeof, arrays)) < 40 * 2 * size


@pytest.mark.timeout(10)
def test_one_id_for_all():
    """
    Rows are told apart by their number, and finding it does not take longer each time.
    """
    size = 20_000
    index = Index()
    for number in range(size):
        index.add(Entry("", "answered"), number)
    index.sealed()
    for number in range(size):
        claim = index.claim(number, "", digest("x"), retry_failed=False)
        assert (claim.nth, claim.state) == (number, "answered")
    assert index.claim(size, "", digest("x"), retry_failed=False).state == "new"
    assert not index.dead


def test_rows_that_share_a_table(monkeypatch):
    """
    Keys that begin alike are told apart all the same.
    """
    keys = iter(range(0, 1 << 60, _index._TABLES << 20))
    known = {}

    def key(name, nth):
        return known.setdefault((name, nth), next(keys))

    monkeypatch.setattr(_index, "_key", key)
    index = Index()
    claims = [
        index.claim(n, str(n), digest("x"), retry_failed=False) for n in range(40)
    ]
    assert [claim.state for claim in claims] == ["new"] * 40
    assert len({claim.entry for claim in claims}) == 40
