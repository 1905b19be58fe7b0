"""
Prices and budgets: what they are made of, and what an answer cost.
"""

import math

import pytest

from horay_async import (
    APITimeoutError,
    ConfigurationError,
    IncompleteStreamError,
    Partial,
    Usage,
)
from horay_async.many._money import (
    Budget,
    Price,
    cached_tokens,
    checked_budget,
    checked_prices,
    millionths,
    usage_of,
)


WRONG = [-1, -0.5, math.nan, math.inf, "0.15", True, [1], 1j]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("name", ["prompt", "completion", "cached"])
def test_no_price(name, value):
    """
    A price is a number of 0 or more; the error names it, and what it is.
    """
    with pytest.raises(ConfigurationError) as caught:
        Price(**{"prompt": 1, "completion": 2, name: value})
    assert str(caught.value) == (
        f"Price: {name} is {value!r}, expected a number of 0 or more, for a million tokens"
    )


def test_price_needs_a_number():
    """
    Only the cached price may be left open.
    """
    with pytest.raises(ConfigurationError, match="prompt is None"):
        Price(None, 1)
    assert Price(0, 0).cached is None


@pytest.mark.parametrize("value", [0, *WRONG])
def test_no_cost(value):
    """
    A budget of nothing would send nothing.
    """
    with pytest.raises(ConfigurationError, match=r"Budget: cost is .*above 0"):
        Budget(cost=value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "1 or more"),
        (-5, "1 or more"),
        (2e6, "a whole number"),
        ("2M", "a whole number"),
        (True, "a whole number"),
    ],
)
def test_no_tokens(value, expected):
    """
    Tokens are counted in whole numbers.
    """
    with pytest.raises(ConfigurationError) as caught:
        Budget(tokens=value)
    assert str(caught.value) == f"Budget: tokens is {value!r}, expected {expected}"


def test_no_budget():
    """
    A budget that limits nothing is a mistake.
    """
    with pytest.raises(ConfigurationError, match="limits nothing"):
        Budget()


@pytest.mark.parametrize("given", [5, 2.0, "2M", {"tokens": 5}, Price(1, 2)])
def test_a_budget(given):
    """
    A bare number could be tokens or money.
    """
    with pytest.raises(ConfigurationError, match=r"expected Budget\(tokens=…\)"):
        checked_budget(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Price(1, 2), "expected a mapping of models to Price"),
        ([("a", Price(1, 2))], "expected a mapping of models to Price"),
        ({1: Price(1, 2)}, r"prices names 1, expected a model's name or '\*'"),
        ({"a": (1, 2)}, r"prices\['a'\] is \(1, 2\), expected a Price"),
        ({"a": 0.5}, r"prices\['a'\] is 0.5, expected a Price"),
    ],
)
def test_a_price_table(given, words):
    """
    The error shows which entry is no price.
    """
    with pytest.raises(ConfigurationError, match=words):
        checked_prices(given)


def test_a_table_is_copied():
    """
    What the caller changes later changes nothing here.
    """
    given = {"a": Price(1, 2)}
    kept = checked_prices(given)
    given.clear()
    assert kept == {"a": Price(1, 2)}
    assert checked_prices(None) == {}


def test_what_an_answer_cost():
    """
    Prompt and answer at their own prices; a free model is free.
    """
    usage = Usage(prompt_tokens=1000, completion_tokens=200)
    assert Price(2, 10).of(usage) == 4000 / 1e6
    assert Price(0, 0).of(usage) == 0


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        ({"cached_tokens": 600}, 600),
        ({"cached_tokens": 0}, 0),
        # More than there were, fewer than none, nothing, nonsense.
        ({"cached_tokens": 1200}, 1000),
        ({"cached_tokens": -5}, 0),
        ({"cached_tokens": None}, 0),
        ({"cached_tokens": "600"}, 0),
        ({"cached_tokens": True}, 0),
        ({}, 0),
        (None, 0),
        ("many", 0),
    ],
)
def test_cached_tokens(details, cached):
    """
    Cached prompt tokens have a price of their own, where the server tells them.
    """
    usage = Usage(
        prompt_tokens=1000,
        completion_tokens=10,
        extra={"prompt_tokens_details": details},
    )
    assert cached_tokens(usage) == cached
    assert (
        millionths(Price(2, 10, cached=0.5), usage)
        == (1000 - cached) * 2 + cached / 2 + 100
    )
    # Where it is not known they cost what the others do: never too little.
    assert millionths(Price(2, 10), usage) == 2100
    assert millionths(Price(2, 10, cached=0), usage) == (1000 - cached) * 2 + 100


def test_usage_of_an_error():
    """
    What came before something failed; of what is not ours nothing is known.
    """
    usage = Usage(prompt_tokens=5, completion_tokens=2, source="estimated")
    broken = IncompleteStreamError("gone", partial=Partial(usage=usage))
    assert usage_of(broken) is usage
    assert usage_of(APITimeoutError("late")) is None
    assert usage_of(ValueError("theirs")) is None
