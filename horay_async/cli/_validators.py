"""
What a word of the command line must be, where the parser itself is too kind.
"""

import math
import re

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from cyclopts import Token


_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kM]?)", re.ASCII | re.IGNORECASE)

_TIME = re.compile(r"(\d+(?:\.\d+)?)([smh]?)", re.ASCII)

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}

_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}


def whole(_: object, tokens: Sequence[Token]) -> int:
    """
    A whole number: of 1.5 the command line's parser would make 1, without a word.
    """
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("Expected a whole number.") from None


def amount(_: object, tokens: Sequence[Token]) -> float:
    """
    A number above 0, which may end in k or M: 600, 200k, 1.5M.
    """
    word = tokens[0].value
    if value := _amount(word):
        return float(value)
    raise ValueError(f'Expected a number as in 600, 200k or 1.5M, found "{word}".')


def token_count(_: object, tokens: Sequence[Token]) -> int:
    """
    A number of tokens; what may be meant as money is refused.
    """
    word = tokens[0].value
    value = _amount(word)
    # 5.00 is money. 2.5M are tokens, and 5 would be far too few of them to do harm.
    looks_like_money = "." in word and word[-1].isdigit()
    if value and value == int(value) and not looks_like_money:
        return int(value)
    raise ValueError(
        f'Expected a number of tokens as in 500k or 2M, found "{word}". '
        "(For money: --budget-cost.)"
    )


def money(_: object, tokens: Sequence[Token]) -> float:
    """
    A sum above 0, without a currency; what may be meant as tokens is refused.
    """
    word = tokens[0].value
    value = _amount(word)
    if value and word[-1].isdigit():
        return float(value)
    raise ValueError(
        f'Expected a sum of money as in 5 or 0.25, without a currency, found "{word}". '
        "(For tokens: --budget.)"
    )


def seconds(_: object, tokens: Sequence[Token]) -> float:
    """
    A length of time, 0 included: 90, 30s, 10m, 2h.
    """
    word = tokens[0].value
    if found := _TIME.fullmatch(word):
        return float(found[1]) * _SECONDS[found[2]]
    raise ValueError(
        f'Expected seconds, or a time as in 30s, 10m or 2h, found "{word}".'
    )


def _amount(word: str) -> Decimal | None:
    found = _AMOUNT.fullmatch(word)
    return Decimal(found[1]) * _TIMES[found[2].lower()] if found else None


def finite(_: object, value: Any) -> None:
    """
    Refuse what compares well, and is no length of time.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("Expected a finite number.")


def file_name(_: object, name: str) -> None:
    """
    Refuse a mistyped option in a file's place: both may begin with a hyphen.
    """
    if not name:
        raise ValueError('The name of a file is empty ("-" is stdin or stdout).')
    if name.startswith("-") and name != "-":
        raise ValueError(f'Unknown option "{name}". (A file: "./{name}".)')
