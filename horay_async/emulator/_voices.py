"""
Who speaks: an echo, byte for byte, or the n-gram model.
"""

import itertools
import re

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

from ._text import Model, Sampling


class Token(Protocol):
    """
    One token as generated, with the likeliest others in its place.
    """

    @property
    def text(self) -> str: ...
    @property
    def id(self) -> int: ...
    @property
    def logprob(self) -> float: ...
    @property
    def top(self) -> Sequence[tuple[str, int, float]]: ...


@dataclass(frozen=True, slots=True)
class Said:
    """
    What a request gives to speak about.
    """

    whole: str
    """Everything that counts as prompt."""

    last: str
    """What the user said last."""

    chat: bool


class Voice(Protocol):
    """
    Something that answers.
    """

    limits: bool
    """Whether the documented default of `max_tokens` ends an answer."""

    def speak(
        self, said: Said, settings: Mapping[str, Any], choice: int, top: int, /
    ) -> Iterator[Token]:
        """
        An answer, with so many of the likeliest tokens beside each of its own.
        """
        ...

    def split(self, text: str) -> list[str]:
        """
        A text in tokens; joined they are the text again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Word:
    """
    A token of the echo: certain of itself, and without rivals.
    """

    text: str
    id: int
    logprob: float = 0.0
    top: tuple[tuple[str, int, float], ...] = ()


def words(text: str) -> list[str]:
    """
    Words, each with the white space before it; white space at the end is the last.
    """
    return re.findall(r"\s*\S+|\s+", text)


def tokens(texts: list[str]) -> Iterator[Word]:
    """
    Ready-made texts as tokens; the id of each is a checksum, so it does not change.
    """
    for text in texts:
        number = crc32(text.encode("utf-8", "surrogatepass"))
        yield Word(text, number, 0.0, ((text, number, 0.0),))


class Echo:
    """
    Says what the user said last.

    Sampling parameters change nothing. `ignore_eos` says it over and over.
    """

    # A long prompt comes back whole unless the request itself sets a limit.
    limits = False

    def speak(
        self, said: Said, settings: Mapping[str, Any], _choice: int, _top: int, /
    ) -> Iterator[Token]:
        spoken = list(tokens(words(said.last)))
        return itertools.cycle(spoken) if settings["ignore_eos"] else iter(spoken)

    def split(self, text: str) -> list[str]:
        return words(text)


class Ngram:
    """
    The small model. Every sampling parameter does what it should.
    """

    limits = True

    def __init__(self, model: Model) -> None:
        self._model = model

    def speak(
        self, said: Said, settings: Mapping[str, Any], choice: int, top: int, /
    ) -> Iterator[Token]:
        sampling = Sampling(
            **{name: settings[name] for name in _SAMPLING}, top_logprobs=top
        )
        return self._model.generate(said.whole, sampling, choice, fresh=said.chat)

    def split(self, text: str) -> list[str]:
        ids = self._model.tokenize(text)
        return [self._model.detokenize([number]) for number in ids]


_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "seed",
    "ignore_eos",
)
