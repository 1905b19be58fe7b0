"""
What word comes next: an interpolated n-gram model of order 4.
"""

from collections import Counter
from collections.abc import Iterable
from typing import cast

from ._vocabulary import Vocabulary


Counts = tuple[tuple[int, ...], tuple[int, ...], int]
"""Successors, most frequent first; how often each; the sum."""

NONE = -1
"""In a context, where there is no token yet."""

_BITS = 21
"""Of one token in a key: enough for every id of a vocabulary."""

_KEPT = 64
"""Successors kept of one context, the most frequent ones."""

_DOUBTS = (0.6, 1.5)
"""
How many observations the shorter context weighs, after three words and after two.

Small, because the text is small: the sentences hold together and still wander.
"""

_ENOUGH = 0.01
"""A share too small to be worth asking a shorter context."""


class Ngrams:
    """
    The counts of one text.

    Speech and narration are counted apart, so a quotation mark that was opened is
    closed again, and none is closed that was not opened.
    """

    def __init__(self, vocabulary: Vocabulary, ids: Iterable[int]) -> None:
        self._opening = {vocabulary.id(mark) for mark in ("“", " “")}
        self._closing = {vocabulary.id("”")}
        # A value is one token, or a list of them in the order seen, or, from the
        # first question on, their counts: most contexts are never asked for.
        self._seen = cast("dict[int, int | list[int] | Counts]", self._train(ids))

    def in_speech(self, speech: bool, token: int) -> bool:
        """
        Whether we are within quotation marks once *token* has followed.
        """
        return (speech or token in self._opening) and token not in self._closing

    def weigh(self, speech: bool, context: tuple[int, int, int]) -> dict[int, float]:
        """
        The successors of three tokens, and their shares of about 1.
        """
        weights: dict[int, float] = {}
        share = 1.0
        three, two, one, nothing = _keys(speech, *context)
        for key, doubt in zip((three, two), _DOUBTS, strict=True):
            counts = self._counts(key)
            if counts is not None:
                share = _add(weights, share, counts, doubt)
                if share < _ENOUGH:
                    return weights
        counts = self._counts(one) or self._counts(nothing)
        if counts is not None:
            _add(weights, share, counts, 0.0)
        return weights

    def _train(self, ids: Iterable[int]) -> dict[int, int | list[int]]:
        seen: dict[int, int | list[int]] = {}
        speech = False
        a = b = c = NONE
        for id_ in ids:
            for key in _keys(speech, a, b, c):
                before = seen.get(key)
                if before is None:
                    seen[key] = id_
                elif isinstance(before, list):
                    before.append(id_)
                else:
                    seen[key] = [before, id_]
            speech = self.in_speech(speech, id_)
            a, b, c = b, c, id_
        return seen

    def _counts(self, key: int) -> Counts | None:
        seen = self._seen.get(key)
        if isinstance(seen, int):
            return (seen,), (1,), 1
        if isinstance(seen, list):
            # Two threads may both do this; they arrive at the same counts.
            ids, counts = zip(*Counter(seen).most_common(_KEPT), strict=True)
            seen = self._seen[key] = (ids, counts, sum(counts))
        return seen


def _keys(speech: bool, a: int, b: int, c: int) -> tuple[int, int, int, int]:
    """
    The contexts "a b c", "b c", "c" and nothing, one integer each.
    """
    none = int(speech)
    one = none | (c + 1) << 1
    two = one | (b + 1) << (1 + _BITS)
    return two | (a + 1) << (1 + 2 * _BITS), two, one, none


def _add(
    weights: dict[int, float], share: float, counts: Counts, doubt: float
) -> float:
    """
    Give out *share* by *counts*; what is returned is left for a shorter context.
    """
    ids, times, total = counts
    each = share / (total + doubt)
    for id_, n in zip(ids, times, strict=True):
        weights[id_] = weights.get(id_, 0.0) + n * each
    return doubt * each
