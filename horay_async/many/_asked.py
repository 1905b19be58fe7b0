"""
One row on its way: what was given for it, what is known of it so far, and how it is told.
"""

from __future__ import annotations

import asyncio

from typing import Any

import attrs

from .._errors import StreamAbortedError
from .._flow import WHOLE
from .._line import _outcome_of
from .._stream import TokenStream
from .._values import Outcome, Partial, counted
from ._index import Claim
from ._ledger import Reservation
from ._rows import Row
from ._slots import Slot


@attrs.define(eq=False, repr=False)
class Asked:
    """
    One thing that the source gave.
    """

    index: int

    id: str

    item: Any

    request: Any = None
    """
    Its first request, bound to its service.
    """

    error: Exception | None = None
    """
    Why it was not answered, as far as that is known.
    """

    claim: Claim | None = None
    """
    Its place in the journal, where there is one.
    """

    place: int = 0
    """
    Its place among the rows that are asked, from 0: the journal may have others already.
    """

    slot: Slot | None = None

    reservation: Reservation | None = None
    """
    What its next call may cost.
    """

    replies: list[Any] = attrs.field(factory=list)
    """
    The answers so far.
    """

    calls: int = 0

    returns: int = 0
    """
    How often it came back from waiting for a server, and was asked again.
    """

    stream: TokenStream[Any, Any] | None = None
    """
    What its last call is read from; None: a plain call.
    """

    outcome: Outcome | None = None
    """
    How that ended.
    """

    row: Row[Any] | None = None
    """
    What became of it, while that is being written.
    """

    unwritten: bool = False
    """
    Whether the journal could not take it.
    """

    untold: int = 0
    """
    Tokens that wait for the reader.
    """

    held_back: asyncio.Future[None] | None = None
    """
    Where it waits for that.
    """

    @property
    def partial(self) -> Partial | None:
        """
        What came of an answer that is not whole.
        """
        stream = self.stream
        if stream is None or len(self.replies) == self.calls:
            return None
        partial = stream.partial
        return partial if partial.tokens else None

    @property
    def came(self) -> bool:
        """
        Whether there is something to tell of it, although it is not over.
        """
        return bool(self.replies) or self.partial is not None

    def release(self) -> None:
        """
        Give back what a call that was never made might have cost.
        """
        reservation, self.reservation = self.reservation, None
        if reservation is not None:
            reservation.settle()

    def told(self, outcome: Outcome | None = None) -> Row[Any]:
        """
        What became of it.
        """
        # Its traceback holds frames that hold us: we must not hold the error.
        error, self.error = self.error, None
        slot, stream = self.slot, self.stream
        outcome = outcome or self.outcome
        if error is None:
            outcome = outcome or Outcome.FINISHED
        elif outcome is None or outcome in WHOLE:
            outcome = _outcome_of(error)
        first_token = None if stream is None else stream.meta.timings.first_token
        return Row(
            id=self.id,
            index=self.index,
            request=self.item,
            replies=tuple(self.replies),
            error=error,
            outcome=outcome,
            attempts=0 if slot is None else slot.attempts,
            calls=self.calls,
            seconds=None if slot is None else slot.seconds,
            first_token=first_token,
        )

    def cut_off(self) -> Row[Any]:
        """
        What became of it when it was cancelled, with the answers that it has.
        """
        when = "before it was answered"
        if self.replies:
            when = f"after {counted(len(self.replies), 'answer')}"
        partial = self.partial
        if partial is not None:
            when += f" and {counted(partial.tokens, 'piece')} of the next"
        self.error = StreamAbortedError(
            f"this row was cancelled {when}", partial=partial
        )
        return self.told(Outcome.CANCELLED)
