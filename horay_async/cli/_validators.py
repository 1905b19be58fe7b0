"""
What a word of the command line must be, where the parser itself is too kind.
"""

import math

from collections.abc import Sequence
from typing import Any

from cyclopts import Token


def whole(_: object, tokens: Sequence[Token]) -> int:
    """
    A whole number: of 1.5 the command line's parser would make 1, without a word.
    """
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("Expected a whole number.") from None


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
