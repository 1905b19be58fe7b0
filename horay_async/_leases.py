"""
What a governor is to those who ask it: leases, lanes, and what a call is likely to cost.

`Governor` is the one of this process. Whatever else has these methods does as well: a wrapper
that counts, or one whose limits are shared between machines.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, Literal, Protocol

import attrs

from ._values import RateLimits, Usage


Lane = Literal["interactive", "batch"]
"""
Somebody waits for the answer, or nobody does.
"""


@attrs.frozen(kw_only=True)
class Asks:
    """
    What a call is going to ask of the server, as far as it can be known before.
    """

    prompt_bytes: int = 0
    """
    The length of the prompt's text in UTF-8.
    """

    max_tokens: int | None = None
    """
    The most tokens that one choice may have; None: the request does not say.
    """

    choices: int = 1
    """
    How many answers to how many prompts: *n* for each of them.
    """


NOTHING_ASKED: Final = Asks()


@attrs.frozen(kw_only=True)
class GateState:
    """
    One gate, as `Governor.snapshot` shows it. Seconds are from now.
    """

    in_flight: int
    """
    Leases that are out: calls that have been sent and are not over.
    """

    interactive: int = 0
    """
    How many wait in this lane.
    """

    batch: int = 0
    """
    How many wait in that one.
    """

    closed_for: float = 0.0
    """
    Seconds until the gate opens; 0 while it is open.
    """

    rate: float | None = None
    """
    Calls a second that are let through after a refusal; None: as many as come.
    """

    concurrency: int | None = None
    """
    How many may be in flight at the moment; None: any number.
    """

    requests_left: int | None = None
    """
    Calls that could go at once by `rpm` or by the server's word; None: nothing limits them.
    """

    tokens_left: int | None = None
    """
    Tokens that could, likewise by `tpm`; below 0 is a debt.
    """

    learnt: RateLimits | None = None
    """
    What the server's headers said last of its limits; None: nothing.
    """

    @property
    def waiting(self) -> int:
        """
        How many wait, in both lanes.
        """
        return self.interactive + self.batch


class Leased(Protocol):
    """
    Leave to send one exchange. Whoever has it settles it, whatever happens.
    """

    def admitted(self, limits: RateLimits) -> None:
        """
        The server took the request: the headers of a 2xx are there. Twice counts once.

        Args:
            limits: What they say of rate limits.
        """

    def answering(self, seconds: float) -> None:
        """
        The answer has begun: its first content is there, or a plain call's headers.

        Args:
            seconds: Since it was sent.
        """

    def refused(self, status: int) -> None:
        """
        The server has too much to do: 429, 503 or 529.
        """

    def settle(self, usage: Usage | None = None) -> None:
        """
        The exchange is over. Twice is fine; only the first time counts.

        Args:
            usage: What it cost, if that is known.
        """


class Governing(Protocol):
    """
    Gives leases. It is asked on one event loop at a time.
    """

    @property
    def at_most(self) -> int | None:
        """
        How many leases of one gate are ever out at once; None: that has no fixed bound.
        """

    async def lease(
        self,
        key: Hashable,
        *,
        tries: int = 0,
        lane: Lane = "interactive",
        asks: Asks = NOTHING_ASKED,
    ) -> Leased:
        """
        Wait for leave to send.

        Args:
            key: What shares a limit: origin, API key and model.
            tries: Exchanges that this call has had.
            lane: Who goes first where not all can.
            asks: What it will cost.

        Cancelling gives the place in the queue back.
        """
        ...

    def close(self, key: Hashable, wait: float, *, lease: Leased | None = None) -> None:
        """
        The server answered 429: nobody sends for `wait` seconds.

        Args:
            key: As for `lease`.
            wait: Seconds.
            lease: Of the call that was refused, as this governor gave it.
        """

    def snapshot(self) -> Mapping[Hashable, GateState]:
        """
        Every gate that is in use, or that has something to remember.
        """
        ...
