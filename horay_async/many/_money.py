"""
What models cost, and what a job may cost: prices and budgets, checked when they are made.
"""

from __future__ import annotations

import math

from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any, Final

import attrs

from .. import _checks as check
from .._errors import APIError, ConfigurationError
from .._values import Usage


ANY: Final = "*"
"""
The name in a price table that stands for all models it does not name.
"""

MILLION: Final = 1_000_000


def _price(price: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is None and field.default is None:
        return
    expected = "expected a number of 0 or more, for a million tokens"
    if not _is_amount(value):
        raise ConfigurationError(
            f"Price: {field.name} is {check.shown(value)}, {expected}"
        )


def _is_amount(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return math.isfinite(value) and float(value) >= 0


@attrs.frozen
class Price:
    """
    What a million tokens of a model cost, in whatever currency: `Price(0.15, 0.60)`.

    Raises:
        ConfigurationError: A price is negative, or no number.
    """

    prompt: float = attrs.field(validator=_price)

    completion: float = attrs.field(validator=_price)

    cached: float | None = attrs.field(default=None, validator=_price)
    """
    Prompt tokens out of the server's cache, where it says how many they were. None: the
    same as the others.
    """

    def of(self, usage: Usage) -> float:
        """
        What an answer cost.
        """
        return millionths(self, usage) / MILLION


def _tokens(budget: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(
            f"Budget: tokens is {check.shown(value)}, expected a whole number"
        )
    if value < 1:
        raise ConfigurationError(f"Budget: tokens is {value}, expected 1 or more")


def _cost(budget: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not _is_amount(value) or value == 0:
        raise ConfigurationError(
            f"Budget: cost is {check.shown(value)}, expected a number above 0, in the"
            " currency of the prices"
        )


@attrs.frozen
class Budget:
    """
    What a job may use at most: tokens, prompts and answers together; or money; or both.

    A call is sent only where what was used, what is under way and what it may use itself
    stay within the budget. Where others that are under way are in the way it waits for
    them: they mostly use less than they might. When it would not fit even without them,
    the job asks no more.

    An answer may use `max_tokens` for each of its choices. Where that is set, and the
    server keeps to it, answers never take a job over its budget. What a prompt uses is an
    estimate, from its length and from what those before it used: a job may end above its
    budget by as much as the estimates of its last calls (those under way together) were too
    low; they have a margin of a quarter. Without `max_tokens` nothing is certain: an answer
    then counts as twice the mean of those before it, and the very first as 1,000 tokens.

    Tokens count as the server counts them: of a refused or a broken call what it said, or
    what came. A call that broke before anything came counts for nothing, although some
    servers charge for it. What earlier runs of a journal used does not count.

    Raises:
        ConfigurationError: Neither is given, or one is no amount.
    """

    tokens: int | None = attrs.field(default=None, validator=_tokens)

    cost: float | None = attrs.field(default=None, validator=_cost)
    """
    In the currency of the prices.
    """

    def __attrs_post_init__(self) -> None:
        if self.tokens is None and self.cost is None:
            raise ConfigurationError(
                "Budget() limits nothing, expected tokens=… or cost=…"
            )


def millionths(price: Price, usage: Usage) -> float:
    """
    What an answer cost, so that prices like 0.1 add up without being divided first.
    """
    cached = cached_tokens(usage)
    fresh = usage.prompt_tokens - cached
    of_cached = price.prompt if price.cached is None else price.cached
    return float(
        fresh * price.prompt
        + cached * of_cached
        + usage.completion_tokens * price.completion
    )


def cached_tokens(usage: Usage) -> int:
    """
    How many of the prompt's tokens came out of a cache, as far as the server says so.
    """
    details = usage.extra.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    if isinstance(cached, bool) or not isinstance(cached, int):
        return 0
    return min(max(cached, 0), usage.prompt_tokens)


def usage_of(error: BaseException) -> Usage | None:
    """
    What came before something failed: it is charged, too. None where nothing is known.
    """
    usage = error.usage if isinstance(error, APIError) else None
    return None if usage is None or usage.source == "none" else usage


def money(amount: float) -> str:
    """
    Without its currency, which only the user knows; never as 1e-05.
    """
    return f"{Decimal(f'{amount:.6g}'):f}"


def checked_budget(budget: Any) -> Budget | None:
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigurationError(
            f"budget is {check.shown(budget)}, expected Budget(tokens=…) or"
            " Budget(cost=…)"
        )
    return budget


def checked_prices(prices: Any) -> Mapping[str, Price]:
    if prices is None:
        return {}
    if not isinstance(prices, Mapping):
        raise ConfigurationError(
            f"prices is {check.shown(prices)}, expected a mapping of models to Price"
        )
    for model, price in prices.items():
        if not isinstance(model, str):
            raise ConfigurationError(
                f"prices names {check.shown(model)}, expected a model's name or {ANY!r}"
            )
        if not isinstance(price, Price):
            raise ConfigurationError(
                f"prices[{model!r}] is {check.shown(price)}, expected a Price:"
                " Price(prompt=…, completion=…), per million tokens"
            )
    return dict(prices)
