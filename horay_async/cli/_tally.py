"""
What has become of a batch's lines, in numbers and in words.
"""

from collections import Counter
from typing import Any

import attrs

from .. import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InternalServerError,
    InvalidRequestError,
    PermissionDeniedError,
    Progress,
    RateLimitError,
    StreamAbortedError,
)
from .._values import counted
from ..many._faults import lacks_credit, never_answered
from ._lines import BadLine


# The first that fits: our errors inherit from each other. Our clocks' are a TimeoutError.
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (BadLine, "bad line"),
    (InvalidRequestError, "invalid request"),
    (ConfigurationError, "unusable setting"),
    (AuthenticationError, "refused key"),
    (PermissionDeniedError, "forbidden request"),
    (RateLimitError, "rate limit"),
    (InternalServerError, "server error"),
    (APIStatusError, "refused request"),
    (TimeoutError, "timeout"),
    (APIConnectionError, "lost connection"),
    (APIResponseValidationError, "unreadable answer"),
    (StreamAbortedError, "interrupted line"),
    (BudgetExceededError, "interrupted line"),
)


def kind_of(error: Exception) -> str:
    """
    What sort of failure it is: a noun that takes an "s".
    """
    if lacks_credit(error):
        return "empty account"
    return next((name for kind, name in _KINDS if isinstance(error, kind)), "error")


@attrs.define
class Tally:
    """
    What has become of a batch's lines: a job's progress, and what the command alone knows.
    """

    progress: Progress

    failures: Counter[str] = attrs.field(factory=Counter)
    """
    How often each kind of failure came.
    """

    unanswered: Counter[str] = attrs.field(factory=Counter)
    """
    Why lines went without an answer through no fault of their own, and how often.
    """

    lost: int = 0
    """
    Results that came, and could not be written.
    """

    @property
    def failed(self) -> int:
        """
        The lines that failed, of any kind.
        """
        return self.failures.total()

    @property
    def answered(self) -> int:
        """
        The lines whose answer is written.
        """
        failed = self.failed + self.unanswered.total() + self.lost
        return max(self.progress.done - failed, 0)

    def add(self, error: Exception) -> None:
        """
        One line more that has no answer.
        """
        kinds = self.unanswered if never_answered(error) else self.failures
        kinds[kind_of(error)] += 1

    def not_answered(self, *, whole: bool) -> int | None:
        """
        The lines that neither failed nor have an answer; None where nobody knows how many.
        """
        left = 0 if whole else self.progress.left
        return None if left is None else self.unanswered.total() + left

    def is_whole(self) -> bool:
        """
        Whether every line so far is answered, now or in an earlier run.
        """
        unanswered = self.unanswered.total()
        return not (
            self.failed or unanswered or self.lost or self.progress.skipped_failed
        )

    def lines(self, *, whole: bool) -> str:
        """
        The lines in words.

        Args:
            whole: Whether the input came to its end.
        """
        now, rest = self.progress, self.not_answered(whole=whole)
        facts = [f"{self.answered} answered", f"{self.failed} failed"]
        if self.failures:
            facts[1] += f" ({_kinds(self.failures)})"
        if self.lost:
            facts.append(f"{self.lost} lost")
        if before := now.skipped - now.skipped_failed:
            facts.append(f"{before} answered before")
        if now.skipped_failed:
            facts.append(f"{now.skipped_failed} failed before")
        lines = now.done + now.skipped
        if not whole:
            lines += now.left or 0
        if rest != 0:
            facts.append(f"{'the others' if rest is None else rest} not answered")
            if whole:  # or else it was said why
                facts[-1] += f" ({_kinds(self.unanswered)})"
        return f"{counted(lines, 'line')}: {', '.join(facts)}"

    def cost(self) -> str:
        """
        Tokens, money and time in words.
        """
        now = self.progress
        about = "about " if now.estimated else ""
        facts = [
            f"{about}{now.prompt_tokens} tokens in",
            f"{now.completion_tokens} out",
        ]
        unpriced = counted(now.unpriced, "answer")
        if now.unpriced and not now.cost:
            facts.append(f"no price for {unpriced}")
        elif now.cost is not None:
            without = f" ({unpriced} without a price)" if now.unpriced else ""
            facts.append(f"cost {amount(now.cost)}{without}")
        facts.append(duration(now.seconds))
        facts.append(f"{now.tokens_per_second:.0f} tokens/s")
        return ", ".join(facts)

    def times(self) -> str:
        """
        How long answers took, and what was asked again; empty if there is nothing to say.
        """
        facts = [
            f"{name} p50 {_seconds(times.p50)}, p95 {_seconds(times.p95)}"
            for name, times in (
                ("latency", self.progress.latency),
                ("first token", self.progress.first_token),
            )
            if times.count
        ]
        if retried := self.progress.retried:
            facts.append(f"{retried} {'retry' if retried == 1 else 'retries'}")
        if changed := self.progress.changed:
            facts.append(f"{counted(changed, 'line')} had changed")
        return "; ".join(facts)

    def to_dict(self, *, whole: bool) -> dict[str, Any]:
        """
        The same for programs.

        Args:
            whole: Whether the input came to its end.
        """
        now = self.progress
        lines = now.done + now.skipped
        return {
            "lines": lines if now.total is None else max(now.total, lines),
            "answered": self.answered,
            "failed": self.failed,
            "failures": _counts(self.failures),
            "not_answered": self.not_answered(whole=whole),
            "not_answered_because": _counts(self.unanswered),
            "skipped": now.skipped,
            "skipped_failed": now.skipped_failed,
            "changed": now.changed,
            "lost": self.lost,
            "retried": now.retried,
            "prompt_tokens": now.prompt_tokens,
            "completion_tokens": now.completion_tokens,
            "cached_tokens": now.cached_tokens,
            "estimated": now.estimated,
            "cost": now.cost,
            "unpriced": now.unpriced,
            "seconds": round(now.seconds, 3),
            "tokens_per_second": round(now.tokens_per_second, 1),
            "latency": now.latency.to_dict(),
            "first_token": now.first_token.to_dict(),
        }


def _kinds(counts: Counter[str]) -> str:
    return ", ".join(counted(n, kind) for kind, n in counts.most_common())


def _counts(kinds: Counter[str]) -> dict[str, int]:
    return {kind.replace(" ", "_"): n for kind, n in kinds.items()}


def amount(money: float) -> str:
    """
    A sum whose currency only the user knows: "12.34", "0.0012".
    """
    return f"{money:.2f}" if money >= 10 else f"{money:.4f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "?"
    # To a hundredth it is not known.
    return f"{value:.2g} s" if value < 100 else clock(value)


def duration(seconds: float) -> str:
    """
    "42.1 s", "1:03" or "2:01:03".
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return clock(seconds)


def clock(seconds: float) -> str:
    """
    "0:42" or "2:01:03".
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
