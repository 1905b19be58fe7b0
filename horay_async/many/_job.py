"""
A job: many requests in, a row for each out. What its user holds; `_working` moves underneath.
"""

from __future__ import annotations

import asyncio
import contextlib

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, final

import attrs

from .._errors import StreamConsumedError, WrongLoopError
from .._line import Line
from ._arguments import Terms
from ._journal import Journal
from ._ledger import Ledger
from ._loop import Loop
from ._rows import ReplyT, Row, RowToken
from ._working import Work


OneT = TypeVar("OneT")
"""
What a job gives its reader.
"""


@attrs.frozen(kw_only=True)
class JournalFacts:
    """
    What a job's journal holds.
    """

    path: str
    """
    The file itself, where a link was named.
    """

    answered: int
    """
    Rows that it had an answer of when it was opened.
    """

    failed: int
    """
    Rows that it had a failure of.
    """

    again: int
    """
    Rows that it had as never answered, and which are asked again.
    """

    damaged: int
    """
    Lines of it that nobody can read.
    """

    repeated: int
    """
    Rows of this run with an id that a row before them had.
    """

    former: int
    """
    Answers to other requests, which its clean end has set aside.
    """

    former_path: str
    """
    Where it keeps those.
    """


class _Job(Work, Generic[ReplyT, OneT]):
    """
    What is the same whether a job gives rows, or tokens as well.
    """

    __slots__ = ("_taken",)

    def __init__(
        self,
        line: Line,
        requests: Iterable[Any] | AsyncIterable[Any],
        *,
        terms: Terms,
        ledger: Ledger,
        arguments: Mapping[str, Any],
    ) -> None:
        """
        Made by `client.map(...)`.
        """
        super().__init__(
            line, requests, terms=terms, ledger=ledger, arguments=arguments
        )
        self._taken = False

    @property
    def done(self) -> int:
        """
        Rows that are finished, those that failed included.
        """
        return self.progress.done

    @property
    def failed(self) -> int:
        """
        Rows that ended in an error.
        """
        return self.progress.failed

    @property
    def in_flight(self) -> int:
        """
        Rows that were begun and are not finished.
        """
        return self.progress.in_flight

    @property
    def journal(self) -> JournalFacts | None:
        """
        What the journal holds, once it is open.
        """
        journal = self._journal
        if journal is None:
            return None
        counts = journal.counts
        return JournalFacts(
            path=journal.path,
            answered=counts.answered,
            failed=counts.failed,
            again=counts.again,
            damaged=counts.damaged,
            repeated=journal.repeated,
            former=journal.former,
            former_path=journal.former_path,
        )

    @property
    def _journal(self) -> Journal | None:
        return None if self._keeping is None else self._keeping.journal

    @property
    def unread(self) -> Sequence[Row[ReplyT]]:
        """
        What was paid for and not read: the rows that are finished, those that the journal
        could not take among them.

        Once the job is closed also the rows that were cut off in the middle, with what came:
        a conversation's answers, and the text of a stream. Their error is a
        `StreamAbortedError`.
        """
        return self._outlet.unread

    # Reading -------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[OneT]:
        """
        The one loop over the job; leaving it closes the job, in `async with` or out of it.

        Waiting for an item may be cancelled, and loses none.

        Raises:
            ClientClosedError: The client was closed; some requests were never sent.
            BudgetExceededError: Further rows would take the job over its budget.
            JournalError: The journal cannot be had, or took no more; `unread` has what was
                answered all the same.
            StreamAbortedError: The job was closed.
            Exception: The source's own or that of `on_progress`, after the rows of all that
                was asked.
        """
        if self._taken:
            raise StreamConsumedError(
                "this job has been read, or is being read: a job is read by one loop"
            )
        self._taken = True
        return Loop(self)

    # Leaving -------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        End the job: what is under way is cancelled, and its connections are closed.

        Returns when all of it has ended and the source, if it is a generator, is closed.
        Twice is fine. Whoever still reads gets `StreamAbortedError`.

        Called by the source itself it returns when all else has ended.

        Cancelled: it all ends nevertheless; what hesitates is cancelled once more.

        Raises:
            JournalError: The journal's last lines may be lost.
            Exception: What the source raised when it was closed, or `on_progress`.
        """
        if self._loop not in (None, asyncio.get_running_loop()):
            raise WrongLoopError(
                "this job was begun on another event loop: close it there"
            )
        await self._end()

    def _abandon(self) -> None:
        """
        The reader is gone without a word; this may run on any thread, in the middle of
        anything, so all is left to the loop's next turn.
        """
        if self._loop is not None:
            # Of a loop that is closed all tasks have ended.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._close)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self.done} done, {self.failed} of them failed,"
            f" {self.in_flight} in flight>"
        )


@final
class Job(_Job[ReplyT, Row[ReplyT]]):
    """
    Many requests at work: `async for row in job`.

    Use it in `async with`: whatever ends the loop or the block cancels what is under way and
    closes its connections before the block is left, and closes the source if it is a
    generator. A bare `async for` does the same soon after its loop is left. A job is read by
    one loop.

    Nothing is sent before the first row is asked for. Cancelling the wait for a row loses
    none: the next wait goes on. What was answered when the job was left is in `unread`.

    A job that was closed before its end raises `StreamAbortedError` to whoever reads on; a
    second loop over one that is read, or was read to its end, `StreamConsumedError`.
    """

    __slots__ = ()


@final
class TokenJob(_Job[ReplyT, RowToken | Row[ReplyT]]):
    """
    Many streams as one: `async for item in job` gives every row's tokens as they come, and
    the row itself after its last.

    A row's tokens come in their order, those of several rows interleaved, as they were sent;
    `order` is that of the rows. Where the reader is slow the streams are read as slowly. For
    the rest it is as `Job`.
    """

    __slots__ = ()
