"""
The emulator's language model: plausible text, quickly, and the same for the same seed.

A small n-gram model over the first half of a novel (CORPUS.md). What it says makes no
sense; that temperature, penalties, seeds and probabilities mean what they should, does.
"""

import functools
import math
import random
import re
import threading
import zlib

from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import resources

from ._ngrams import NONE, Ngrams
from ._sampling import Sampled, Sampler, Sampling
from ._vocabulary import Vocabulary, split


__all__ = ["Model", "Sampled", "Sampling", "load"]

_PAUSE = "\n\n"

_SENTENCE_ENDS = (".", "!", "?")

_LENGTH = 160
"""
Tokens after which every sentence would be the last.

The chance to end rises evenly up to there, so answers run from a sentence to a few
paragraphs.
"""

_HEED = 10.0
"""How much likelier the prompt's own words are made."""

_COMMON = 100
"""Of the most frequent words, these say nothing about the prompt."""

_MOOD = 8
"""
Tokens for which the answer's mood lasts.

The mood, which hangs on the whole prompt, makes each token a little more or less likely.
Without it greedy answers to most prompts would be the same one, and would run in
circles.
"""

_SWAYS = tuple(math.exp(step / 128 - 1) for step in range(257))
"""Factors from 1/e to e."""

_HEEDED = 4000
_FOLLOWED = 200
"""Characters at the end of the prompt that are searched, and that are continued."""

_WORD = re.compile(r"[^\W\d_]+")
_OPENING = re.compile(r'(?<![^\s(—-])"')
_LINE_BREAKS = re.compile(r"\s*\n\s*")
_SPACES = re.compile(r"[ \t]+")

_TRAINING = threading.Lock()


class Model:
    """
    A trained model. It holds no state of any answer: any number may run at once.
    """

    def __init__(self, text: str) -> None:
        tokens = split(text)
        self._vocabulary = Vocabulary(tokens)
        ids = self._vocabulary.encode(text)
        self._ngrams = Ngrams(self._vocabulary, ids)

    @property
    def vocab_size(self) -> int:
        """
        Ids are below this. (Not every one of them is a token.)
        """
        return self._vocabulary.size

    @property
    def eos_id(self) -> int:
        """
        The id that ends the text. Its text is shown as "<|end|>", and adds nothing.
        """
        return self._vocabulary.eos_id

    def tokenize(self, text: str) -> list[int]:
        """
        The ids of any text; :meth:`detokenize` gives exactly that text again.
        """
        return self._vocabulary.encode(text)

    def detokenize(self, ids: Iterable[int]) -> str:
        """
        The text of *ids*.

        Raises:
            ValueError: No token has one of these ids.
        """
        return self._vocabulary.decode(ids)

    def count(self, text: str) -> int:
        """
        How many tokens *text* is.
        """
        return len(self._vocabulary.encode(text))

    def score(self, text: str, top_logprobs: int = 0) -> Iterator[Sampled]:
        """
        The tokens of *text* as if they had been drawn, for a prompt's own logprobs.

        The text is taken for the beginning of a paragraph.
        """
        sampling = Sampling(top_logprobs=top_logprobs)
        rater = Sampler(self._vocabulary, sampling, (), random.Random(0))  # noqa: S311
        reader = _Reader(self._vocabulary, self._ngrams, "", fresh=True)
        for id_ in self._vocabulary.encode(text):
            yield rater.rate(id_, reader.expect(0))
            reader.follow(id_)

    def generate(
        self, prompt: str, sampling: Sampling, choice: int = 0, *, fresh: bool = False
    ) -> Iterator[Sampled]:
        """
        Go on from *prompt* until the model ends the text; with *ignore_eos*, for ever.

        Each step draws one token and takes some 30 to 150 microseconds, the first a
        little longer. The caller counts the tokens and looks for stop sequences.

        Args:
            prompt: What the text follows; any text, and possibly empty.
            sampling: How tokens are drawn.
            choice: With one seed, each choice is another text, always the same.
            fresh: Begin a paragraph, as an answer in a chat does. The prompt then
                sways the text and is not continued.
        """
        seed = None if sampling.seed is None else f"{sampling.seed}/{choice}"
        rng = random.Random(seed)  # noqa: S311  text, not secrets
        ids: list[int] = []
        if sampling.repetition_penalty != 1:
            ids = self._vocabulary.encode(prompt)
        sampler = Sampler(self._vocabulary, sampling, ids, rng)
        reader = _Reader(self._vocabulary, self._ngrams, prompt, fresh=fresh)
        bare = not fresh and prompt[-1:].isspace()
        written = 0
        while True:
            sampled = sampler.draw(reader.expect(written))
            if sampled.id == self.eos_id:
                return
            reader.follow(sampled.id)
            if bare:
                # The prompt brought the space between the words itself.
                sampled = replace(sampled, text=sampled.text.lstrip(" "))
                bare = False
            yield sampled
            written += 1


class _Reader:
    """
    Where one answer has got to, and what is expected next.
    """

    def __init__(
        self, vocabulary: Vocabulary, ngrams: Ngrams, prompt: str, *, fresh: bool
    ) -> None:
        self._ngrams = ngrams
        self._eos = vocabulary.eos_id
        self._ends = {vocabulary.id(mark) for mark in _SENTENCE_ENDS}
        self._closing = vocabulary.id("”")
        self._heeded = _heeded(vocabulary, prompt)
        self._mood = zlib.crc32(prompt.encode(errors="surrogatepass"))
        self._speech = False
        self._context = (NONE, NONE, NONE)
        before = "" if fresh else _typeset(prompt[-_FOLLOWED:])
        for id_ in vocabulary.encode(before or _PAUSE):
            self.follow(id_)

    def follow(self, id_: int) -> None:
        """
        Take in the next token.
        """
        self._speech = self._ngrams.in_speech(self._speech, id_)
        self._context = (self._context[1], self._context[2], id_)

    def expect(self, written: int) -> dict[int, float]:
        """
        The tokens that may well be next, after *written* of the answer, and their shares.
        """
        shares = self._ngrams.weigh(self._speech, self._context)
        for id_ in self._heeded.intersection(shares):
            shares[id_] *= _HEED
        mood = self._mood + written // _MOOD
        for id_ in shares:
            shares[id_] *= _SWAYS[(id_ * 0x9E3779B1 ^ mood) * 0x85EBCA6B >> 24 & 0xFF]
        if written and self._sentence_ended():
            chance = min(written / _LENGTH, 0.99)
            shares[self._eos] = chance / (1 - chance) * sum(shares.values())
        return shares

    def _sentence_ended(self) -> bool:
        _, before, last = self._context
        if last == self._closing:
            return before in self._ends
        return last in self._ends and not self._speech


def _heeded(vocabulary: Vocabulary, prompt: str) -> frozenset[int]:
    """
    The prompt's words that the model knows, but for those that every text has.
    """
    words = {word.lower() for word in _WORD.findall(prompt[-_HEEDED:])}
    forms = (f" {form}" for word in words for form in (word, word.capitalize()))
    ids = {vocabulary.id(form) for form in forms}
    return frozenset(id_ for id_ in ids if id_ is not None and id_ >= _COMMON)


def _typeset(text: str) -> str:
    """
    Text as a person types it, with the quotation marks and paragraphs of the novel.
    """
    text = _OPENING.sub("“", text).replace('"', "”")
    text = _LINE_BREAKS.sub(_PAUSE, text)
    return _SPACES.sub(" ", text).rstrip(" ")


def load() -> Model:
    """
    The model over the bundled text, trained on the first call: about 0.2 s.

    May be called from any thread; all calls give the same model.
    """
    with _TRAINING:
        return _load()


@functools.cache
def _load() -> Model:
    corpus = resources.files("horay_async.emulator").joinpath("corpus.txt")
    return Model(corpus.read_text("utf-8"))
