"""
How many calls at once a server bears, found out from how soon it answers.

As long as a server has places left, an answer takes as long with more calls under way as with
fewer. Beyond that they queue, there or here: twice as many wait twice as long, and nothing is
gained. So the number doubles, round by round, until the answers come later, and then it is held
near that point: raised a little while that costs nothing, lowered where less would do.

Answers differ in length, so no single one is compared: the mean of a round is, with that of
another round. And a mean that has risen proves nothing by itself, because the questions may have
become harder: when fewer calls at once are not answered sooner, it was not their number.
"""

from __future__ import annotations

import math

from typing import Final

import attrs

from ._chance import Chance
from ._errors import ConfigurationError


FIRST: Final = 32
"""
Calls in flight in the first round.
"""

_LEAST_ROUND: Final = 32
"""
Answers in a round: the mean of fewer says too little.
"""

_CLEAN: Final = 1.3
"""
A round that takes so many times the usual, and no longer, has met no queue.
"""

_QUEUED: Final = 2.0
"""
One that takes longer than so many times the usual has.
"""

_STEP: Final = 0.1
"""
The part of the number by which it is raised, after a round that met no queue.
"""

_LESS: Final = 0.7
"""
What it is lowered by: after a refusal, and to see whether less would do.
"""

_CHANCE: Final = 1.5
"""
How far the mean of one answer may be off, as a part of it; that of more by the root less.
"""

_GAIN: Final = 0.4
"""
The part by which twice the number must have given more, to be doubled though answers come later.
"""

_SETTLED: Final = 20
"""
Rounds from one such look to the next.
"""


@attrs.frozen(kw_only=True)
class Adaptive:
    """
    As many calls at once as the server turns out to bear, between these two.

    Found out from how soon it answers: the number is doubled until answers come later, and
    lowered when the server refuses (429, 503, 529).
    """

    low: int = attrs.field(default=4)

    high: int = attrs.field(default=1024)

    def __attrs_post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(
                    f"Adaptive({name}={value!r}): expected a whole number from 1"
                )
        if self.low > self.high:
            raise ConfigurationError(
                f"Adaptive(low={self.low}, high={self.high}): low is above high"
            )


class Climb:
    """
    One gate's way to the number.
    """

    __slots__ = (
        "_bounds",
        "_chance",
        "_count",
        "_doubted",
        "_from",
        "_last",
        "_peak",
        "_rounds",
        "_starting",
        "_steps",
        "_sum",
        "_usual",
        "_usual_of",
        "limit",
        "round",
    )

    def __init__(self, bounds: Adaptive) -> None:
        self._bounds = bounds
        self.limit: float = float(min(max(bounds.low, FIRST), bounds.high))
        """
        How many may be in flight.
        """
        self.round = 0
        """
        The number of this round: a call's answer counts in the one in which it was sent.
        """
        self._chance = Chance()
        self._sum = 0.0
        self._count = self._peak = self._rounds = 0
        self._starting = True
        # Whether the start was ended by a round that may have been slow by chance.
        self._doubted = False
        # How many larger steps there were in a row.
        self._steps = 0
        # The mean of rounds that met no queue.
        self._usual: float | None = None
        # Of how many answers.
        self._usual_of = 0
        # The number and the mean of the last round of the start.
        self._last = (self.limit, math.inf)
        # What the number was before it was lowered to see what that does, and the mean then.
        self._from: tuple[float, float] | None = None

    def sent(self, in_flight: int) -> None:
        """
        One more is under way.
        """
        self._peak = max(self._peak, in_flight)

    def answered(self, seconds: float, number: int) -> None:
        """
        An answer has begun.

        Args:
            seconds: After it was sent.
            number: The round's in which that was.
        """
        self._chance.taken()
        if number != self.round:
            return
        self._sum += seconds
        self._count += 1
        if self._count >= max(int(self.limit), _LEAST_ROUND):
            self._judge(self._sum / self._count)

    def refused(self, number: int) -> None:
        """
        The server has too much to do. The refusals of one round count once, and such as come
        by chance not at all.
        """
        if number == self.round and self._chance.refused():
            self._starting, self._from = False, None
            self._next(self.limit * _LESS)

    def _next(self, limit: float) -> None:
        self.limit = min(max(limit, self._bounds.low), self._bounds.high)
        self._sum, self._count, self._peak = 0.0, 0, 0
        self.round += 1

    def _judge(self, mean: float) -> None:
        """
        A round is over.
        """
        full = self._peak >= 0.9 * int(self.limit)
        usual = self._usual = mean if self._usual is None else self._usual
        if self._from is not None:
            self._compare(mean, *self._from)
        elif (self._starting or self._doubted) and mean <= usual * _CLEAN:
            # Slow only while it grew: that takes new connections.
            self._starting, self._doubted = True, False
            # Where there is no sign of a queue, its end is far.
            self._last = (self.limit, mean)
            far = self._usual_of > 0 and mean <= usual * (1 + _STEP)
            self._average(mean)
            self._next(self.limit * (4 if far else 2) if full else self.limit)
        elif self._starting and self._gained(mean):
            # They come later, but many more of them: it is our own processor that is busy.
            self._last = (self.limit, mean)
            self._next(self.limit * 2 if full else self.limit)
        elif self._starting:
            # Once more as it is: in a round that grew, not all had the whole queue before
            # them. And then a look: the round may have been slow by chance.
            self._starting, self._doubted, self._rounds = False, True, _SETTLED
            self._next(self.limit)
        elif mean > usual * _QUEUED:
            self._look(max(0.5, usual / mean * _CLEAN), mean)
        else:
            self._rounds += 1
            clean = mean <= usual * _CLEAN
            if clean:
                self._usual = usual + 0.1 * (mean - usual)
            if self._rounds >= _SETTLED and full:
                self._look(_LESS, mean)
            elif clean and full:
                # Ever larger steps, as long as none meets anything.
                self._next(self.limit * (1 + _STEP * 2**self._steps) + 0.5)
                self._steps = min(self._steps + 1, 3)
            else:
                self._steps = 0
                self._next(self.limit)

    def _gained(self, mean: float) -> bool:
        """
        Whether a larger number gave a good deal more answers than the one before it.
        """
        limit, before = self._last
        times = self.limit / limit
        gain: float = times * before / mean
        return times > 1 and gain >= 1.0 + _GAIN * math.log2(times)

    def _look(self, part: float, mean: float) -> None:
        """
        Lower the number to see what that does.
        """
        self._rounds = self._steps = 0
        self._from = (self.limit, mean)
        self._next(self.limit * part)

    def _compare(self, mean: float, limit: float, before: float) -> None:
        """
        The number was lowered: if there had been a queue, it is shorter by as much.
        """
        self._from = None
        part = self.limit / limit
        # What fewer calls gave, as a part of what more gave. The queue may be our own
        # processor's, which does more when it has more to do at once.
        gave = part * before / mean
        if gave >= max(2 * part / (1 + part), 1 - _CHANCE / self._count**0.5):
            # There had. There may still be one.
            self._doubted = False
            self._usual = min(mean, self._usual or mean)
            self._look(_LESS, mean)
        else:
            self._starting, self._doubted = self._doubted, False
            self._usual, self._usual_of = mean, self._count
            # It cost something: there may be more to gain.
            self._steps = 2
            self._next(limit)

    def _average(self, mean: float) -> None:
        """
        One more round was usual: together they are less a matter of chance.
        """
        before, self._usual_of = self._usual_of, self._usual_of + self._count
        rest = (self._usual or mean) * before
        self._usual = (rest + mean * self._count) / self._usual_of
