"""
What a fault is: a way for a server or a network to go wrong, with a name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from .._report import Request
from .._script import Answer, At, End, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One way to go wrong, and what a client that can be trusted does about it.
    """

    name: str
    """Words joined by hyphens: "reset-mid-chunk"."""

    group: str
    """What goes wrong: the heading under which the fault is listed."""

    does: str
    """What the server does, in one line."""

    right: str
    """What a trustworthy client does, in one line."""

    answer: Callable[[Request], Answer] = field(repr=False)
    """
    The answer for a request: a stream's if it asked for a stream, else a plain one.

    Where it comes before a request (*at* of the answer "accept" or "listen"), the
    request that it is called with is empty.
    """

    at: At = "request"
    """When it strikes: as `Answer.at`, which it replaces where the two differ."""

    large: bool = False
    """It sends, or becomes when unpacked, a megabyte or more: it costs both sides time."""


def large(fault: Fault) -> Fault:
    """
    The same fault, known to be large.
    """
    return replace(fault, large=True)


def raw(
    name: str,
    does: str,
    right: str,
    body: Callable[[Request], Iterable[Step]],
    end: End = "finish",
    *,
    group: str,
    at: At = "request",
) -> Fault:
    """
    A fault whose answer is *body*, byte for byte, head and all, and then *end*.
    """
    return Fault(
        name=name,
        group=group,
        does=does,
        right=right,
        answer=lambda request: Answer(framing="raw", body=body(request), end=end),
        at=at,
    )
