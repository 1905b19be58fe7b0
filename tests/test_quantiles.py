"""
Quantiles in constant memory, and how near they are to the true ones.
"""

import math
import random

import pytest

from hypothesis import given
from hypothesis import strategies as st

from horay_async.many._quantiles import ERROR, Quantiles


def of(values):
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    return quantiles


def test_none_yet():
    """
    Of nothing there is no median, and nothing fails over it.
    """
    quantiles = Quantiles()
    assert (quantiles.count, quantiles.p50, quantiles.p95) == (0, None, None)
    assert quantiles.to_dict() == {"count": 0, "p50": None, "p95": None}
    assert repr(quantiles) == "<Quantiles: none yet>"


def test_one():
    """
    A single value is its own median, and its own 95th percentile.
    """
    quantiles = of([0.25])
    assert quantiles.p50 == quantiles.p95 == pytest.approx(0.25, rel=ERROR)


@given(
    st.lists(st.floats(1e-5, 1e7), min_size=1, max_size=200),
    st.floats(0, 1),
)
def test_error(values, share):
    """
    Every quantile is within the stated error of the value at its rank.
    """
    rank = max(math.ceil(share * len(values) - 1e-9), 1)
    truth = sorted(values)[rank - 1]
    assert of(values).quantile(share) == pytest.approx(truth, rel=ERROR * 1.0001)


def test_ranks():
    """
    The 95th percentile of 100 values is the 95th of them, and not the 96th.
    """
    quantiles = of([1.0] * 95 + [1000.0] * 5)
    assert quantiles.p95 == pytest.approx(1, rel=ERROR)
    quantiles.add(1000)
    assert quantiles.p95 == pytest.approx(1000, rel=ERROR)


@pytest.mark.parametrize(
    ("value", "counts_as"), [(0.0, 1e-5), (-3.0, 1e-5), (1e300, 1e7), (math.inf, 1e7)]
)
def test_beyond(value, counts_as):
    """
    What no answer takes counts as the nearest that one may.
    """
    assert of([value]).p50 == pytest.approx(counts_as, rel=ERROR)


def test_memory():
    """
    A hundred thousand values over all magnitudes leave no more than the buckets there are.
    """
    dice = random.Random(1)
    quantiles = of(10 ** dice.uniform(-7, 9) for _ in range(100_000))
    assert quantiles.count == 100_000
    assert len(quantiles._buckets) < 1500


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_no_share(share):
    """
    95 is no share: 0.95 is.
    """
    with pytest.raises(ValueError, match="expected 0 to 1"):
        of([1.0]).quantile(share)


def test_in_words():
    """
    The repr is for people, `to_dict` for programs.
    """
    quantiles = of([2.0] * 19 + [8.0])
    assert repr(quantiles) == "<Quantiles of 20: p50 1.99 s, p95 1.99 s>"
    assert quantiles.to_dict()["count"] == 20
    assert quantiles.to_dict()["p50"] == pytest.approx(2, rel=ERROR)
