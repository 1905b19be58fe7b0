"""
Faults of JSON's own corners: characters that are easily broken, numbers no program has.
"""

import math
import re

from collections.abc import Callable, Iterator

from .._report import Request
from . import _parts as parts
from ._fault import Fault
from ._spoiling import (
    WHOLE,
    Json,
    Reply,
    apart,
    choice,
    chunks,
    each,
    each_chunk,
    pieces,
    recut,
    replied,
    rows,
    text,
    written,
)


row = rows("events")


# Characters --------------------------------------------------------------------------


# Line ends for Python's str.splitlines, and for nobody else.
SEPARATORS = ("one\u2028", " two\u0085", " three")

WIDE = ("één", " twéé", " 🌊")

NUL = ("one\0", " two", " three")

HALVES = ("one", " two", " three \ud83d", "\ude00")

HALF = ("one", " two", " three\ud83d")

REPLACED = "Gives the whole text, with U+FFFD for what is no character."


def cut_characters(body: list[bytes]) -> Iterator[bytes | float]:
    """
    Every byte of a wide character apart from the others.
    """
    return apart(re.findall(rb"[\x00-\x7f]+|[^\x00-\x7f]", b"".join(body)))


def odd_byte(data: bytes) -> bytes:
    return data.replace(b' three"', b' three\xff"')


CHARACTERS = (
    row(
        "u2028",
        r'sends line separators as they are: "one\u2028 two\u0085 three".',
        WHOLE,
        pieces(*SEPARATORS),
        text("".join(SEPARATORS)),
    ),
    row(
        "split-utf8",
        'sends the bytes of wide characters apart: "één twéé 🌊".',
        WHOLE,
        recut(pieces(*WIDE), cut_characters),
        recut(text("".join(WIDE)), cut_characters),
    ),
    row(
        "split-surrogates",
        'sends "one two three 😀", the last character in halves, one in each piece.',
        WHOLE,
        pieces(*HALVES),
        text("".join(HALVES)),
    ),
    row(
        "lone-surrogate",
        r"sends half a character at the end of the text: \ud83d.",
        REPLACED,
        pieces(*HALF),
        text("".join(HALF)),
    ),
    row(
        "invalid-utf8",
        "sends a byte at the end of the text that is no UTF-8: FF.",
        REPLACED,
        each(odd_byte),
        written(odd_byte),
    ),
    row(
        "nul-in-text",
        r'sends a NUL in the text: "one\u0000 two three".',
        WHOLE,
        pieces(*NUL),
        text("".join(NUL)),
    ),
)


# Numbers -----------------------------------------------------------------------------


UNCOUNTED = "Gives the whole text, and does without the number."


def with_usage(request: Request, stream: list[Json]) -> list[Json]:
    usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    return [*stream, parts.chunk(request, choices=[], usage=usage)]


def numbered(number: bytes) -> Callable[[bytes], bytes]:
    """
    Put this number where a time and the size of the prompt stand.
    """

    def change(data: bytes) -> bytes:
        return re.sub(rb'"(created|prompt_tokens)":\d+', rb'"\1":' + number, data)

    return change


def no_numbers(value: Json) -> None:
    """
    Log probabilities as they are where nothing was likely.
    """
    token = {"token": "one", "logprob": -math.inf, "bytes": None, "top_logprobs": []}
    lists = {"tokens": ["one"], "token_logprobs": [math.nan]}
    choice(value)["logprobs"] = {"content": [token]} | lists
    value["score"] = math.nan


def twice(data: bytes) -> bytes:
    return re.sub(rb'("content"|"text"):', rb'\1:"wrong",\1:', data)


def odd_number(name: str, does: str, number: bytes) -> Fault:
    change = numbered(number)
    streamed: Reply = recut(chunks(with_usage), lambda body: map(change, body))
    return row(name, does, UNCOUNTED, streamed, written(change))


NUMBERS = (
    odd_number(
        "event-5000-digits",
        "sends integers of 5,000 digits for the time and the usage.",
        b"9" * 5000,
    ),
    odd_number(
        "event-big-exponent",
        "sends 1e999 for the time and the usage, more than a float holds.",
        b"1e999",
    ),
    row(
        "event-nan",
        "sends NaN and -Infinity, which are no JSON, for log probabilities.",
        WHOLE,
        each_chunk(no_numbers),
        replied(no_numbers),
    ),
    row(
        "event-duplicate-keys",
        "names the text twice in one object, first a wrong one.",
        "Gives the whole text: of equal keys the last counts, as in JavaScript.",
        each(twice),
        written(twice),
    ),
)

FAULTS: tuple[Fault, ...] = (*CHARACTERS, *NUMBERS)
