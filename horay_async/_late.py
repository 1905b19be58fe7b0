"""
What the error of a clock says: which one, how far the call was, and where its time went.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar

from ._errors import APITimeoutError, StreamError
from ._values import Timings, counted


LateT = TypeVar("LateT", bound=APITimeoutError)

_SHOWN: Final = 0.005
"""
Seconds below which a phase is not worth a word.
"""


def tell(error: LateT, what: str, *, unanswered: float = 0.0) -> LateT:
    """
    Make the sentence of an error that has its facts; returns the same error.

    Args:
        what: What has run out: the sentence's beginning.
        unanswered: Seconds since the request was sent, where not even headers have come.
    """
    pieces, pings = error.partial.tokens, error.pings
    if pieces or pings or isinstance(error, StreamError):
        what += f": {counted(pieces, 'piece')} and {counted(pings, 'ping')} before"
    tries = counted(error.attempts, "attempt")
    if error.elapsed is not None:
        tries += f" in {_rounded(error.elapsed)} s"
    phases = _phases(error.meta.timings, unanswered)
    error.reworded("; ".join([what, ", ".join([tries, *phases]), error.remedy]))
    return error


def _phases(timings: Timings, unanswered: float) -> Iterator[str]:
    phases = {
        "waiting to send": timings.governor,
        "for a free connection": timings.pool,
        "to connect": timings.connect,
        "without an answer": unanswered,
    }
    if timings.first_token is not None:
        phases["to the first token"] = timings.first_token
    else:
        phases |= {"to the headers": timings.headers, "in the body": timings.body}
    for phase, seconds in phases.items():
        if seconds is not None and seconds >= _SHOWN:
            yield f"{_rounded(seconds)} s {phase}"


def _rounded(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2f}"
