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
    st.booleans(),
)


class Model:
    """
    The same with dicts: of each row where its last line begins, what that says, and whether
    it has been paid for; of each former answer where it begins.
    """

    def __init__(self):
        self.rows = {}
        self.answers = {}
        self.claims = []
        self.recalled = []
        self.dead = []
        self.former = []

    def add_former(self, entry, offset):
        if entry.state == "answered" and entry.digest != UNKNOWN:
            self.answers[entry.id, entry.nth or 0, entry.digest] = (offset, True)

    def add(self, entry, offset):
        nth = entry.nth
        if nth is None:
            nth = 0
            while (entry.id, nth) in self.rows:
                nth += 1
        key = (entry.id, nth)
        is_former = self.supersede(key, entry.digest)
        if is_former and self.rows[key][1] == "answered":
            before, _, known, _ = self.rows[key]
            self.answers[*key, known] = (before, False)
        paid = entry.state == "answered" or entry.partial
        self.rows[key] = (offset, entry.state, entry.digest, paid)

    def supersede(self, key, asked):
        if key not in self.rows:
            return False
        offset, _, known, paid = self.rows[key]
        self.dead.append(offset)
        _, elsewhere = self.answers.get((*key, known), (0, False))
        is_former = paid and (known == UNKNOWN or (known != asked and not elsewhere))
        if is_former:
            self.former.append(offset)
        return is_former

    def look(self, key, asked):
        if key not in self.rows:
            return "new"
        _, state, known, _ = self.rows[key]
        if known not in (UNKNOWN, asked):
            state = "changed"
        return "answered" if (*key, asked) in self.answers else state

    def claim(self, name, asked, *, retry_failed):
        key = name, Counter(one for one, _ in self.claims)[name]
        self.claims.append(key)
        state = self.look(key, asked)
        if state == "answered":
            _, was, known, _ = self.rows[key]
            if was != "answered" or known not in (UNKNOWN, asked):
                self.recalled.append((key, asked))
        return key[1], "again" if state == "failed" and retry_failed else state

    def written(self, key, asked, offset):
        self.supersede(key, asked)
        self.rows[key] = (offset, "answered", asked, False)


@given(
    st.lists(ENTRIES, max_size=10),
    st.lists(ENTRIES, max_size=30),
    st.lists(st.tuples(FEW, st.sampled_from("xyz"), st.booleans()), max_size=30),
    st.booleans(),
)
def test_a_dict_does_the_same(formers, entries, rows, retry_failed):
    """
    Lines of both files, then rows that claim their places, some of them written, and some
    that take former answers back.
    """
    index, model = Index(), Model()
    for number, entry in enumerate(formers):
        index.add_former(entry, number)
        model.add_former(entry, number)
    offset = 0
    for entry in entries:
        index.add(entry, offset)
        model.add(entry, offset)
        offset += 100
    states = Counter(state for _, state, *_ in model.rows.values())
    assert {state: n for state, n in index.sealed().items() if n} == states
    for name, said, _ in rows:
        for nth in range(3):
            looked = index.look(name, nth, digest(said))
            assert looked == model.look((name, nth), digest(said))
    for number, (name, said, is_written) in enumerate(rows):
        claim = index.claim(number, name, digest(said), retry_failed=retry_failed)
        expected = model.claim(name, digest(said), retry_failed=retry_failed)
        assert (claim.nth, claim.state) == expected
        assert claim.skip == (claim.state in {"answered", "failed"})
        if is_written and not claim.skip:
            index.written(claim, offset)
            model.written((name, claim.nth), digest(said), offset)
            offset += 100

    recalled = iter(model.recalled)

    def copy(begin, elsewhere, digest):
        nonlocal offset
        key, asked = next(recalled)
        assert digest == asked
        assert model.answers[*key, asked] == (begin, elsewhere)
        model.written(key, asked, offset)
        offset += 100
        return offset - 100

    assert index.recalls == bool(model.recalled)
    index.recall(copy)
    assert next(recalled, None) is None
    assert not index.recalls
    assert sorted(index.dead) == sorted(model.dead)
    assert sorted(index.former) == sorted(model.former)
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
    rows = index._rows
    arrays = [rows.keys, rows.words, rows._sizes, *rows._tables]
    arrays += [index._digests, index._claims, index._dead, index._former]
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
