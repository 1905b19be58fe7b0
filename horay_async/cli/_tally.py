"""
What has become of a batch's lines, in numbers and in words.
"""

import time

from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

from .. import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    AuthenticationError,
    InternalServerError,
    InvalidRequestError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    StreamAbortedError,
)
from .._values import counted
from ._lines import BadLine, Reply


# The first that fits: our errors inherit from each other. Our clocks' are a TimeoutError.
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (BadLine, "bad line"),
    (InvalidRequestError, "invalid request"),
    (AuthenticationError, "refused key"),
    (PermissionDeniedError, "forbidden request"),
    (RateLimitError, "rate limit"),
    (InternalServerError, "server error"),
    (APIStatusError, "refused request"),
    (TimeoutError, "timeout"),
    (APIConnectionError, "lost connection"),
    (APIResponseValidationError, "unreadable answer"),
    (StreamAbortedError, "interrupted conversation"),
)


# Some services say so with a 429, where waiting would look sensible.
_NO_CREDIT = frozenset(
    {
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "exceeded_current_quota_error",
        "insufficient_quota",
    }
)


def lacks_credit(error: Exception) -> bool:
    """
    Whether the account has nothing left to pay with.
    """
    if isinstance(error, APIStatusError) and not _NO_CREDIT.isdisjoint(
        {str(error.code).lower(), str(error.type).lower()}
    ):
        return True
    return isinstance(error, PaymentRequiredError)


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
    What has become of the lines so far.
    """

    answered: int = 0

    failures: Counter[str] = attrs.field(factory=Counter)
    """
    How often each kind of failure came.
    """

    tokens_in: int = 0

    tokens_out: int = 0
    """
    Generated tokens; those of a conversation that failed later count as well.
    """

    total: int | None = None
    """
    How many lines there are, where that is known.
    """

    at_once: int = 1
    """
    How many lines are answered at a time: what the first of them took says little of all.
    """

    started: float = attrs.field(factory=time.monotonic)

    @property
    def failed(self) -> int:
        """
        The lines that failed, of any kind.
        """
        return self.failures.total()

    @property
    def done(self) -> int:
        """
        The lines whose result is written.
        """
        return self.answered + self.failed

    @property
    def seconds(self) -> float:
        """
        Since the beginning.
        """
        return time.monotonic() - self.started

    @property
    def left(self) -> int | None:
        """
        The lines without a result, where their number is known.
        """
        return None if self.total is None else max(self.total - self.done, 0)

    def add(self, replies: Sequence[Reply], error: Exception | None) -> None:
        """
        Count a line whose result is written.
        """
        if error is None:
            self.answered += 1
        else:
            self.failures[kind_of(error)] += 1
        for reply in replies:
            self.tokens_in += reply.usage.prompt_tokens
            self.tokens_out += reply.usage.completion_tokens

    def lines(self, *, whole: bool) -> str:
        """
        The lines in words.

        Args:
            whole: Whether the input came to its end.
        """
        facts = [f"{self.answered} answered", f"{self.failed} failed"]
        if self.failures:
            kinds = (counted(n, kind) for kind, n in self.failures.most_common())
            facts[1] += f" ({', '.join(kinds)})"
        lines = self.done
        if not whole and self.left != 0:
            lines += self.left or 0
            rest = "the others" if self.left is None else self.left
            facts.append(f"{rest} not answered")
        return f"{counted(lines, 'line')}: {', '.join(facts)}"

    def cost(self) -> str:
        """
        Tokens and time in words.
        """
        seconds = self.seconds
        return (
            f"{self.tokens_in} tokens in, {self.tokens_out} out, {duration(seconds)}, "
            f"{self.tokens_out / max(seconds, 1e-9):.0f} tokens/s"
        )

    def to_dict(self) -> dict[str, Any]:
        """
        The same for programs.
        """
        seconds = self.seconds
        kinds = {kind.replace(" ", "_"): n for kind, n in self.failures.items()}
        return {
            "lines": self.done if self.total is None else max(self.total, self.done),
            "answered": self.answered,
            "failed": self.failed,
            "failures": kinds,
            "prompt_tokens": self.tokens_in,
            "completion_tokens": self.tokens_out,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(self.tokens_out / max(seconds, 1e-9), 1),
        }


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
