"""
How far a job is: what it counts, how fast it goes, and when it may be done.
"""

from __future__ import annotations

import time

from collections.abc import Callable
from typing import Any, Final, final

from .._values import counted
from ._faults import never_answered
from ._ledger import Ledger
from ._quantiles import Quantiles
from ._rows import Row


RECENT: Final = 60
"""
Seconds. What rows cost changes along a job and with the server's load, so speed is that of
the last minute: long enough for slow answers, short enough to be of use.
"""


@final
class Progress:
    """
    How far a job is. It is live: read it when you like, keep `to_dict()`.
    """

    __slots__ = (
        "_away_since",
        "_began",
        "_clock",
        "_ended_at",
        "_ledger",
        "_pace",
        "_peak",
        "_tokens",
        "changed",
        "done",
        "failed",
        "first_token",
        "in_flight",
        "latency",
        "retried",
        "skipped",
        "skipped_failed",
        "total",
        "unanswered",
    )

    def __init__(
        self,
        ledger: Ledger | None = None,
        *,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Made by a job.

        Args:
            clock: Seconds, from any beginning.
        """
        self.total: int | None = total
        """
        How many requests there are, where that is known. Whoever learns it later sets it.
        """
        self.done: int = 0
        """
        Rows that are finished, those that failed included.
        """
        self.failed: int = 0
        """
        Rows that ended in an error.
        """
        self.unanswered: int = 0
        """
        How many of these went without an answer through no fault of their own, as no server
        was there, say: another run with the same journal asks them again.
        """
        self.skipped: int = 0
        """
        Rows that the journal had already, and that were not asked again.
        """
        self.skipped_failed: int = 0
        """
        How many of these had failed.
        """
        self.changed: int = 0
        """
        Rows that the journal had with another request, and that were asked again.
        """
        self.retried: int = 0
        """
        Attempts beyond each call's first.
        """
        self.in_flight: int = 0
        """
        Rows that were begun and are not finished.
        """
        self.latency: Quantiles = Quantiles()
        """
        Seconds that rows took, of those that were answered.
        """
        self.first_token: Quantiles = Quantiles()
        """
        Seconds to the first token, of those that were answered as streams.
        """
        self._ledger = ledger or Ledger()
        self._clock = clock
        self._away_since: float | None = None
        self._began: float | None = None
        self._ended_at: float | None = None
        self._pace = _Pace()
        # Those that the pace has heard of.
        self._tokens = 0
        # The most rows that were in flight together: so many make a round.
        self._peak = 0

    @property
    def answered(self) -> int:
        """
        Rows that are finished and did not fail.
        """
        return self.done - self.failed

    @property
    def left(self) -> int | None:
        """
        Rows that are not finished; None where their number is not known.
        """
        if self.total is None:
            return None
        return max(self.total - self.done - self.skipped, 0)

    # What it cost --------------------------------------------------------------------

    @property
    def prompt_tokens(self) -> int:
        """
        Tokens of the prompts, those of rows that failed later included.
        """
        return self._ledger.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """
        Generated tokens, those of rows that failed later included.
        """
        return self._ledger.completion_tokens

    @property
    def cached_tokens(self) -> int:
        """
        How many of the prompts' tokens came out of the server's cache, where it says so.
        """
        return self._ledger.cached_tokens

    @property
    def estimated(self) -> int:
        """
        Calls of which the server did not count the tokens: they are estimated then.
        """
        return self._ledger.estimated

    @property
    def cost(self) -> float | None:
        """
        What it cost so far, by the prices and in their currency; None without prices.
        """
        return self._ledger.cost

    @property
    def unpriced(self) -> int:
        """
        Answers whose model has no price, and which `cost` leaves out.
        """
        return self._ledger.unpriced

    # How fast it goes ----------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """
        Since the first row was asked for; until the end, once the job is over.
        """
        return 0.0 if self._began is None else self._now() - self._began

    @property
    def away(self) -> float:
        """
        Seconds for which the job has been waiting for a server that is not there; 0 while it
        is there.
        """
        return 0.0 if self._away_since is None else self._now() - self._away_since

    @property
    def rows_per_second(self) -> float:
        """
        Of the last minute; where none was finished in that, and once the job is over, of
        all its time.
        """
        return self._speed()[0]

    @property
    def tokens_per_second(self) -> float:
        """
        Generated tokens, of the same time.
        """
        return self._speed()[1]

    @property
    def eta(self) -> float | None:
        """
        Seconds that are left, at the pace of the last minute.

        None where nobody knows: without `total`, and in the first round, of which the
        quickest rows come first while all the others are still being asked.
        """
        left = self.left
        if left == 0:
            return 0.0
        rows = self.rows_per_second
        if left is None or not rows or self.done < self._peak:
            return None
        return left / rows

    def _speed(self) -> tuple[float, float]:
        if self._began is None:
            return 0.0, 0.0
        rows, tokens, seconds = self.done, self._tokens, self.seconds
        if self._ended_at is None:
            recent = self._pace.recent(self._began, self._clock())
            if recent[0]:
                rows, tokens, seconds = recent
        seconds = max(seconds, 1e-9)
        return rows / seconds, tokens / seconds

    def _now(self) -> float:
        return self._clock() if self._ended_at is None else self._ended_at

    # What the job tells --------------------------------------------------------------

    def _begin(self) -> None:
        """
        The first row is asked for. Twice is fine.
        """
        if self._began is None:
            self._began = self._clock()

    def _started(self) -> None:
        """
        A row is under way.
        """
        self._begin()
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def _retried(self) -> None:
        """
        A call is tried once more.
        """
        self.retried += 1

    def _finished(self, row: Row[Any]) -> None:
        """
        A row is over, and what it used is settled.
        """
        self.in_flight -= 1
        self.done += 1
        if row.error is not None:
            self.failed += 1
            self.unanswered += never_answered(row.error)
        else:
            if row.seconds is not None:
                self.latency.add(row.seconds)
            if row.first_token is not None:
                self.first_token.add(row.first_token)
        tokens = self._ledger.completion_tokens
        self._pace.note(self._clock(), tokens - self._tokens)
        self._tokens = tokens

    def _dropped(self) -> None:
        """
        A row that was begun will be none.
        """
        self.in_flight -= 1

    def _skipped(self, *, failed: bool = False) -> None:
        """
        The journal has it.
        """
        self.skipped += 1
        self.skipped_failed += failed

    def _changed(self) -> None:
        """
        The journal has it for another request.
        """
        self.changed += 1

    def _away(self, away: bool) -> None:
        """
        The server is away and is waited for, or it is not. Twice is fine.
        """
        if not away:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = self._clock()

    def _ended(self) -> None:
        """
        The job is over, and time stands still. Twice is fine.
        """
        if self._ended_at is None:
            self._ended_at = self._clock()

    # For programs, and in words ------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """
        All of it as it is now, for programs; seconds to the millisecond.
        """
        eta = self.eta
        return {
            "total": self.total,
            "done": self.done,
            "answered": self.answered,
            "failed": self.failed,
            "unanswered": self.unanswered,
            "skipped": self.skipped,
            "skipped_failed": self.skipped_failed,
            "changed": self.changed,
            "retried": self.retried,
            "in_flight": self.in_flight,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "estimated": self.estimated,
            "cost": self.cost,
            "unpriced": self.unpriced,
            "seconds": round(self.seconds, 3),
            "away": round(self.away, 3),
            "rows_per_second": round(self.rows_per_second, 3),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "eta": None if eta is None else round(eta, 3),
            "latency": self.latency.to_dict(),
            "first_token": self.first_token.to_dict(),
        }

    def __repr__(self) -> str:
        of_all = "" if self.total is None else f" of {self.total}"
        facts = [f"{self.done}{of_all} done", f"{self.failed} failed"]
        for number, name in (
            (self.skipped, "in the journal before"),
            (self.in_flight, "in flight"),
        ):
            if number:
                facts.append(f"{number} {name}")
        if self.retried:
            times = "retry" if self.retried == 1 else "retries"
            facts.append(f"{self.retried} {times}")
        about = "about " if self.estimated else ""
        tokens = counted(self.prompt_tokens + self.completion_tokens, "token")
        facts.append(f"{about}{tokens}")
        if self.cost is not None:
            facts.append(f"cost {self.cost:.6g}")
        if (eta := self.eta) is not None and self._ended_at is None:
            facts.append(f"{eta:.0f} s left")
        return f"<{type(self).__name__}: {', '.join(facts)}>"


class _Pace:
    """
    How many rows and tokens came in each of the last seconds.
    """

    __slots__ = ("_rows", "_second", "_tokens")

    def __init__(self) -> None:
        self._rows = [0] * RECENT
        self._tokens = [0] * RECENT
        # The last of which something came.
        self._second = 0

    def note(self, now: float, tokens: int) -> None:
        """
        One row more.
        """
        self._turn(int(now))
        self._rows[self._second % RECENT] += 1
        self._tokens[self._second % RECENT] += tokens

    def recent(self, began: float, now: float) -> tuple[int, int, float]:
        """
        Rows and tokens, and the seconds in which they came: a minute at most.
        """
        self._turn(int(now))
        first = max(began, float(self._second - RECENT + 1))
        return sum(self._rows), sum(self._tokens), now - first

    def _turn(self, second: int) -> None:
        """
        Forget the seconds that are too long ago.
        """
        if second > self._second:
            for passed in range(max(self._second, second - RECENT) + 1, second + 1):
                self._rows[passed % RECENT] = self._tokens[passed % RECENT] = 0
            self._second = second
