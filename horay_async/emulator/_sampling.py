"""
How one token is drawn: every sampling parameter, exactly and over the whole vocabulary.
"""

import math
import random

from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import accumulate, chain, islice
from operator import itemgetter

from ._vocabulary import Vocabulary


_FLOOR_SHARE = 1e-4
"""
Share of all words that the model does not expect.

At temperature 1 they stay away; at 2, where their share grows to a tenth or more, the
text comes apart as a hot model's does.
"""

_BAN = -100.0
"""A bias as low as this excludes the token outright (OpenAI, `logit_bias`)."""

_Rank = tuple[int, float, int]
"""
An id, the share of one token, and how many tokens there are.

A word of the rest has no entry of its own: -1 stands for all that were not said yet, -2
for all that were said once, and so on.
"""


@dataclass(frozen=True, slots=True)
class Sampling:
    """
    How to draw. The defaults draw from the model as it is.
    """

    temperature: float = 1.0
    """0 takes the likeliest token, always."""

    top_p: float = 1.0

    top_k: int = 0
    """0 or less: off."""

    min_p: float = 0.0
    """Least share of the likeliest token's probability."""

    frequency_penalty: float = 0.0
    """Taken off a token's logit for each time that the answer has it."""

    presence_penalty: float = 0.0
    """Taken off once, if the answer has the token at all."""

    repetition_penalty: float = 1.0
    """Divides the logit of every token that the prompt or the answer has."""

    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to a token's logit; -100 bans, +100 forces. Ids of no token are ignored."""

    seed: int | None = None
    """Same seed, prompt and parameters: same text. None: fresh randomness."""

    ignore_eos: bool = False
    """Never draw the end of the text."""

    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Sampled:
    """
    One token drawn.
    """

    text: str
    """What it adds, leading space included."""

    id: int

    logprob: float
    """By the model alone: no temperature, penalty or bias is in it."""

    top: tuple[tuple[str, int, float], ...] = ()
    """Text, id and logprob of the likeliest tokens, best first."""


class Sampler:
    """
    Draws the tokens of one answer, and remembers them for the penalties.

    The model says which tokens it expects, and their shares (of any sum). All other
    words are "the rest": each has the same small share, so they need not be listed.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        sampling: Sampling,
        prompt: Iterable[int],
        rng: random.Random,
    ) -> None:
        self._vocabulary = vocabulary
        self._sampling = sampling
        self._rng = rng
        self._words = vocabulary.words
        self._floor = _FLOOR_SHARE / self._words
        self._bias, self._banned = _sides(vocabulary, sampling)
        # A piece of a word or a character is no word of the rest, but a bias may
        # ask for it: it then counts as one.
        self._joined = [id_ for id_ in self._bias if id_ >= self._words]
        self._repeated = {*prompt} if sampling.repetition_penalty != 1 else set[int]()
        self._said: dict[int, int] = {}
        # How many words were said how often, to know what the rest is made of.
        self._said_times = Counter({0: self._words})
        self._penalised = bool(sampling.frequency_penalty or sampling.presence_penalty)
        self._cuts = sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0
        self._plain = not (
            self._penalised
            or self._cuts
            or self._banned
            or self._bias
            or sampling.repetition_penalty != 1
            or sampling.temperature != 1
        )

    def draw(self, shares: dict[int, float]) -> Sampled:
        """
        Draw the next token, which may be the end of the text.

        Keeps *shares*, and may add to it.
        """
        for id_ in self._joined:
            shares.setdefault(id_, self._floor)
        if self._plain:
            ranks = [(id_, share, 1) for id_, share in shares.items()]
            ranks.append((-1, self._floor, self._count_rest(shares)))
            return self.rate(self._pick(ranks, shares), shares)
        id_ = self._shape(shares)
        self._remember(id_)
        return self.rate(id_, shares)

    def rate(self, id_: int, shares: Mapping[int, float]) -> Sampled:
        """
        Say how likely a token was, and which others were likely in its place.
        """
        total = sum(shares.values()) + self._count_rest(shares) * self._floor
        text = "" if id_ == self._vocabulary.eos_id else self._vocabulary.text(id_)
        logprob = _log(shares.get(id_, self._floor) / total)
        return Sampled(text, id_, logprob, self._top(shares, total))

    def _top(
        self, shares: Mapping[int, float], total: float
    ) -> tuple[tuple[str, int, float], ...]:
        wanted = self._sampling.top_logprobs
        if wanted <= 0:
            return ()
        rest = ((i, self._floor) for i in range(self._words) if i not in shares)
        best = nlargest(
            wanted, chain(shares.items(), islice(rest, wanted)), key=itemgetter(1)
        )
        text = self._vocabulary.text
        return tuple((text(id_), id_, _log(share / total)) for id_, share in best)

    def _count_rest(self, named: Collection[int]) -> int:
        return self._words - sum(map(self._words.__gt__, named))

    def _remember(self, id_: int) -> None:
        self._repeated.add(id_)
        if self._penalised:
            times = self._said.get(id_, 0)
            self._said[id_] = times + 1
            if id_ < self._words:
                self._said_times[times] -= 1
                self._said_times[times + 1] += 1

    def _shape(self, shares: Mapping[int, float]) -> int:
        """
        Draw after bias, penalties, temperature and cuts, in vLLM's order.
        """
        logits = self._logits(shares)
        named = {*logits, *self._banned}
        sizes = self._add_rest(logits, named)
        if not logits:
            # Everything was banned. There is nothing to say.
            return self._vocabulary.eos_id
        best = max(logits, key=logits.__getitem__)
        temperature = self._sampling.temperature
        if temperature <= 0:
            return self._pick([(best, 1.0, 1)], named)
        top = logits[best]
        if self._cuts:
            # Ranked before they are heated: a low temperature makes ties of them.
            logits = dict(sorted(logits.items(), key=itemgetter(1), reverse=True))
        ranks = [
            (id_, math.exp((logit - top) / temperature), sizes.get(id_, 1))
            for id_, logit in logits.items()
        ]
        return self._pick(_cut(ranks, self._sampling) if self._cuts else ranks, named)

    def _logits(self, shares: Mapping[int, float]) -> dict[int, float]:
        """
        Logits above that of a word of the rest, which is 0, bias and penalties applied.
        """
        floor = self._floor
        logits = {id_: math.log(share / floor) for id_, share in shares.items()}
        for id_, bias in self._bias.items():
            logits[id_] = logits.get(id_, 0.0) + bias
        if (by := self._sampling.repetition_penalty) != 1:
            for id_ in self._repeated.intersection(logits):
                logit = logits[id_]
                logits[id_] = logit / by if logit > 0 else logit * by
        if self._penalised:
            for id_ in logits:
                logits[id_] -= self._penalty(self._said.get(id_, 0))
        for id_ in self._banned:
            logits.pop(id_, None)
        return logits

    def _add_rest(
        self, logits: dict[int, float], named: Collection[int]
    ) -> dict[int, int]:
        """
        Add the rest to *logits*, and say how many words each entry stands for.
        """
        left = self._said_times.copy()
        for id_ in named:
            if id_ < self._words:
                left[self._said.get(id_, 0)] -= 1
        sizes = {-1 - times: size for times, size in left.items() if size}
        for id_ in sizes:
            logits[id_] = -self._penalty(-1 - id_)
        return sizes

    def _penalty(self, times: int) -> float:
        if not times:
            return 0.0
        sampling = self._sampling
        return sampling.frequency_penalty * times + sampling.presence_penalty

    def _pick(self, ranks: Sequence[_Rank], named: Collection[int]) -> int:
        """
        Draw by the shares. Of the rest, a word that is not *named* is taken.
        """
        sums = [*accumulate(share * size for _, share, size in ranks)]
        at = bisect(sums, self._rng.random() * sums[-1], hi=len(sums) - 1)
        id_, _, size = ranks[at]
        if id_ >= 0:
            return id_
        nth = int(self._rng.random() * size)
        if id_ == -1:
            for known in sorted({*named, *self._said}):
                nth += known <= nth
            return nth
        same = (word for word, times in self._said.items() if times == -1 - id_)
        free = (word for word in same if word < self._words and word not in named)
        return next(islice(free, nth, None))


def _sides(
    vocabulary: Vocabulary, sampling: Sampling
) -> tuple[dict[int, float], set[int]]:
    """
    The biases to add, and the tokens that are out.
    """
    bias = {
        id_: bias
        for id_, bias in sampling.logit_bias.items()
        if vocabulary.writable(id_)
    }
    banned = {id_ for id_ in bias if bias[id_] <= _BAN}
    if sampling.ignore_eos:
        banned.add(vocabulary.eos_id)
    return {id_: bias[id_] for id_ in bias if id_ not in banned}, banned


def _cut(ranks: list[_Rank], sampling: Sampling) -> list[_Rank]:
    """
    Keep what *min_p*, *top_k* and *top_p* keep of a ranking, best first.
    """
    if sampling.min_p > 0:
        least = sampling.min_p * ranks[0][1]
        ranks = [rank for rank in ranks if rank[1] >= least] or ranks[:1]
    if sampling.top_k > 0:
        ranks = _best(ranks, sampling.top_k)
    if sampling.top_p < 1:
        ranks = _nucleus(ranks, sampling.top_p)
    return ranks


def _best(ranks: list[_Rank], top_k: int) -> list[_Rank]:
    kept: list[_Rank] = []
    for id_, share, size in ranks:
        kept.append((id_, share, min(size, top_k)))
        top_k -= size
        if top_k <= 0:
            break
    return kept


def _nucleus(ranks: list[_Rank], top_p: float) -> list[_Rank]:
    kept: list[_Rank] = []
    wanted = top_p * sum(share * size for _, share, size in ranks)
    for id_, share, size in ranks:  # pragma: no branch -- only rounding gets to the end
        if share * size >= wanted:
            kept.append((id_, share, max(1, min(size, math.ceil(wanted / share)))))
            break
        kept.append((id_, share, size))
        wanted -= share * size
    return kept


def _log(share: float) -> float:
    # Rounding may lift the only token that is expected above 1.
    return min(0.0, math.log(share))
