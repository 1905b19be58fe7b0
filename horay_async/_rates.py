"""
So many a minute: the user's own limits, what a call will cost, and what a server says is left.

No clock of its own: `now` is in seconds, of a clock that never goes back.
"""

from __future__ import annotations

import math

from typing import Final

from ._leases import Asks
from ._values import Usage


MINUTE: Final = 60.0

_BURST: Final = 1.0
"""
Seconds whose worth may go at once after a pause.
"""

_CELL: Final = 0.5
"""
Seconds: how finely a minute is remembered. So much longer than a minute it counts.
"""


class Meter:
    """
    A limit a minute that is never exceeded, in whichever minute one looks.

    Two things together: what goes is spread over the minute, but for a second's worth; and the
    last minute's sum is kept, as spreading alone would let that second's worth go on top.
    """

    __slots__ = ("_cells", "_full_at", "_sum", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        # When all that went has been paid for at an even speed (GCRA's arrival time).
        self._full_at = 0.0
        # What went in each cell of the last minute, the oldest first.
        self._cells: dict[int, float] = {}
        self._sum = 0.0

    def wait(self, amount: float, now: float) -> float:
        """
        Seconds until so much more may go; not above 0 if it may now.

        More than the limit goes alone, when nothing else has gone for a minute.
        """
        self._forget(now)
        spread = amount * MINUTE / self.limit
        wait = self._full_at - now - max(0.0, _BURST - spread)
        over = self._sum + min(amount, self.limit) - self.limit
        for cell, went in self._cells.items():
            # A grain of dust is no token: sums of floats have some.
            if over <= 1e-6:
                break
            over -= went
            wait = max(wait, (cell + 1) * _CELL + MINUTE - now)
        return wait

    def take(self, amount: float, now: float) -> None:
        """
        So much goes.
        """
        self._full_at = max(self._full_at, now) + amount * MINUTE / self.limit
        self._add(now, amount)

    def correct(self, guess: float, real: float, sent: float, now: float) -> None:
        """
        What went at `sent` was more or less than was thought.

        More is a debt from now on. Less is taken off where it was put: taken off anywhere
        else it would let too much go once the guess itself is a minute old.
        """
        more = real - guess
        self._full_at += more * MINUTE / self.limit
        if more > 0:
            self._add(now, more)
            return
        cell = int(sent / _CELL)
        if cell in self._cells:
            less = min(-more, self._cells[cell])
            self._cells[cell] -= less
            self._sum -= less

    def left(self, now: float) -> int:
        """
        How much may go at this moment; below 0 is a debt.
        """
        self._forget(now)
        spread = (now + _BURST - self._full_at) * self.limit / MINUTE
        spread = min(spread, self.limit * _BURST / MINUTE)
        return math.floor(min(self.limit - self._sum, max(spread, 1.0)))

    def used(self, now: float) -> bool:
        """
        Whether anything went in the last minute.
        """
        self._forget(now)
        return bool(self._cells)

    def _add(self, now: float, amount: float) -> None:
        cell = int(now / _CELL)
        self._cells[cell] = self._cells.get(cell, 0.0) + amount
        self._sum += amount

    def _forget(self, now: float) -> None:
        while self._cells:
            cell = next(iter(self._cells))
            if (cell + 1) * _CELL + MINUTE > now:
                return
            self._sum -= self._cells.pop(cell)
        self._sum = 0.0


# What a call will cost -----------------------------------------------------------------

_TOKENS_PER_BYTE: Final = 0.25
"""
Of English, until the server has said better.
"""

_OVERHEAD: Final = 8.0
"""
Tokens that a chat's template puts around its messages.
"""

_UNSAID: Final = 256.0
"""
Tokens of an answer of which nothing is known.
"""

_KNOWN: Final = 8
"""
Answers after which their lengths are known.
"""

_WEIGHT: Final = 0.1
"""
Of the last answer in a running mean.
"""


class Estimate:
    """
    How many tokens a call will cost, learnt from what the last ones did.
    """

    __slots__ = ("_answers", "_length", "_per_byte", "_spread")

    def __init__(self) -> None:
        self._per_byte = _TOKENS_PER_BYTE
        self._answers = 0
        # Tokens of one choice: their mean, and how far they are from it.
        self._length = self._spread = 0.0

    def of(self, asks: Asks) -> float:
        """
        Tokens of the prompt and of all choices.
        """
        length = math.inf if asks.max_tokens is None else float(asks.max_tokens)
        if self._answers >= _KNOWN:
            # Rather too long, as most are not all.
            length = min(length, self._length + 2 * self._spread)
        elif math.isinf(length):
            length = _UNSAID
        prompt = asks.prompt_bytes * self._per_byte + _OVERHEAD
        return prompt + asks.choices * length

    def learn(self, asks: Asks, usage: Usage) -> None:
        """
        It was so many.
        """
        if asks.prompt_bytes and usage.prompt_tokens > 0:
            ratio = max(usage.prompt_tokens - _OVERHEAD, 1.0) / asks.prompt_bytes
            self._per_byte += _WEIGHT * (min(ratio, 4.0) - self._per_byte)
        length = max(usage.completion_tokens, 0) / asks.choices
        if not self._answers:
            self._length = length
        off = length - self._length
        self._answers += 1
        self._length += _WEIGHT * off
        self._spread += _WEIGHT * (abs(off) - self._spread)


# What a server says is left ------------------------------------------------------------

_LONGEST_HINT: Final = 5.0
"""
Seconds. A header alone holds no call back for longer: it may be nonsense, and a server that means
it says so again, with a 429.
"""

_TELLING: Final = 3.0
"""
A refill of fewer than so many is not told from none.
"""


class Left:
    """
    One limit as the server's headers tell of it: how many are left, and when all are there
    again.

    Between two answers it is taken for a bucket that fills evenly. Some limits are windows
    instead, which fill all at once: that shows when what is left does not grow meanwhile.
    """

    __slots__ = (
        "_at",
        "_even",
        "_full_at",
        "_heard",
        "_last",
        "_level",
        "_limit",
        "_refill",
        "_report",
    )

    def __init__(self) -> None:
        self._limit = self._level = self._refill = 0.0
        self._at = self._full_at = self._last = -math.inf
        self._even = True
        # What had gone with the latest call of which an answer was heard.
        self._heard = -1.0
        # What the next answers are compared with: likewise, how many were left, and when.
        self._report = (0.0, 0.0, -math.inf)

    def tell(
        self,
        limit: int | None,
        remaining: int | None,
        reset: float | None,
        *,
        sent: float,
        total: float,
        now: float,
    ) -> None:
        """
        The headers of one answer.

        Args:
            limit: How many there are when all are there.
            remaining: How many were left.
            reset: Seconds until all are there.
            sent: How much had gone in all with its call.
            total: How much has gone by now: the server has not counted the rest yet.
            now: When it came.
        """
        if limit is None or remaining is None or reset is None or sent < self._heard:
            return
        if not 0 <= remaining <= limit or limit < 1 or reset <= 0:
            # Nonsense, or all are there.
            self._full_at = -math.inf
            return
        self._heard = sent
        refill = max((limit - remaining) / reset, self._seen(sent, remaining, now))
        self._limit, self._refill = float(limit), refill
        self._level, self._at = remaining - (total - sent), now
        self._full_at = now + reset
        self._last = max(self._last, now)

    def _seen(self, sent: float, remaining: int, now: float) -> float:
        """
        How many came back a second, as far as two answers show it.
        """
        before, left, at = self._report
        known, seconds = now < self._full_at, now - at
        if known and seconds < _CELL:
            return 0.0
        self._report = (sent, float(remaining), now)
        if not known:
            self._even = True
            return 0.0
        came, due = remaining - left + sent - before, self._refill * seconds
        if due > _TELLING:
            self._even = came > 0.3 * due
        return came / seconds if came > due else 0.0

    def wait(self, amount: float, now: float) -> float:
        """
        Seconds until so much may go; not above 0 if it may now.
        """
        if now >= self._full_at:
            return 0.0
        missing = min(amount, self._limit) - self._now(now)
        if missing <= 0:
            return 0.0
        wait = self._full_at - now
        if self._even and self._refill:
            wait = min(wait, missing / self._refill)
        return min(wait, self._last + _LONGEST_HINT - now)

    def take(self, amount: float, now: float) -> None:
        """
        So much goes; below 0 it comes back.
        """
        self._last = now
        if now < self._full_at:
            self._level, self._at = self._now(now) - amount, now

    def left(self, now: float) -> int | None:
        """
        How much is left; None: the server has not said.
        """
        return math.floor(self._now(now)) if now < self._full_at else None

    def _now(self, now: float) -> float:
        filled = self._refill * (now - self._at) if self._even else 0.0
        return min(self._level + filled, self._limit)


class Supply:
    """
    Requests, or tokens: as many as the user allows, and as many as the server says are left.
    """

    __slots__ = ("_left", "_meter", "gone", "limited")

    def __init__(self, limit: float | None) -> None:
        self._meter = None if limit is None else Meter(limit)
        self._left: Left | None = None
        self.limited = limit is not None
        """
        Whether anything limits it: most gates have nothing to ask here.
        """
        self.gone = 0.0
        """
        How much has gone in all.
        """

    def wait(self, amount: float, now: float) -> float:
        """
        Seconds until so much may go; not above 0 if it may now.
        """
        wait = 0.0 if self._left is None else self._left.wait(amount, now)
        return wait if self._meter is None else max(wait, self._meter.wait(amount, now))

    def take(self, amount: float, now: float) -> None:
        """
        So much goes.
        """
        self.gone += amount
        if self._meter is not None:
            self._meter.take(amount, now)
        if self._left is not None:
            self._left.take(amount, now)

    def correct(self, guess: float, real: float, sent: float, now: float) -> None:
        """
        What went at `sent` was more or less than was thought.
        """
        if self._meter is not None:
            self._meter.correct(guess, real, sent, now)

    def tell(
        self,
        limit: int | None,
        remaining: int | None,
        reset: float | None,
        *,
        sent: float,
        now: float,
    ) -> None:
        """
        What the headers of an answer say; `sent`: what `gone` was after its call.
        """
        if limit is None:
            return
        if self._left is None:
            self._left, self.limited = Left(), True
        self._left.tell(limit, remaining, reset, sent=sent, total=self.gone, now=now)

    def left(self, now: float) -> int | None:
        """
        How much may go at this moment; None: nothing limits it.
        """
        told = None if self._left is None else self._left.left(now)
        allowed = None if self._meter is None else self._meter.left(now)
        return min((n for n in (told, allowed) if n is not None), default=None)

    def used(self, now: float) -> bool:
        """
        Whether the user's limit has been used in the last minute.
        """
        return self._meter is not None and self._meter.used(now)
