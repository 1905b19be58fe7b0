"""
A batch at work: its lines asked, their results written, counted and told.
"""

import asyncio
import contextlib
import json
import sys

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import attrs

from .. import (
    APIConnectionError,
    APIError,
    AsyncHoray,
    AuthenticationError,
    BudgetExceededError,
    ConnectTimeoutError,
    InvalidRequestError,
    Job,
    JournalError,
    Row,
    StreamAbortedError,
)
from .._values import counted
from ..many._results import lacks_credit, result_line
from ._answer_table import write_table
from ._failures import Exit, Failure, Misuse, explained, say
from ._hints import add_hint
from ._lines import Asked, BadLine, Line, read_line
from ._log import is_on
from ._plan import Plan
from ._progress import LineView, Showing, View, fitting_view
from ._reader import LineReader
from ._source import Numbers, Source
from ._tally import Tally, kind_of
from ._terminal import is_terminal
from ._writer import PATIENCE, CannotWrite, LineWriter


# Enough to see what goes wrong; the rest stands in the output.
_FAILURES_SHOWN = 10

# Lines in a row that got no connection: then it is the server that is away, and no chance.
_AWAY = 20


@attrs.define
class Work:
    """
    One batch at work.
    """

    plan: Plan

    client: AsyncHoray

    source: Source

    lines: LineReader

    writer: LineWriter | None
    """
    Takes the results, where no journal does.
    """

    by: str
    """
    Who answers, for people.
    """

    job: Job[Any] = attrs.field(init=False)

    tally: Tally = attrs.field(init=False)

    showing: Showing = attrs.field(init=False)

    numbers: Numbers = attrs.field(factory=Numbers)

    read: int = 0
    """
    The lines that were taken from the input.
    """

    ids: set[str] = attrs.field(factory=set)
    """
    The ids of lines, where no journal keeps them.
    """

    twice: bool = False
    """
    Whether one came again.
    """

    changed: bool = False
    """
    Whether it was said that lines have changed since they were answered.
    """

    heard: bool = False
    """
    Whether the server has said anything at all.
    """

    unheard: int = 0
    """
    The lines that got no connection since it has.
    """

    stopped: str | None = None
    """
    Why the rest is not asked any more.
    """

    hopeless: bool = False
    """
    Whether what is under way is not waited for either.
    """

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        self.job = self.client.map(
            self._requests(),
            order=plan.order,
            stream="rows" if plan.stream else False,
            journal=plan.destination.journal,
            retry_failed=plan.retry_failed,
            **plan.of_job,
        )
        self.tally = Tally(self.job.progress)
        self.showing = Showing(self.job.progress, _view(plan))

    async def run(self) -> Exit:
        """
        Answer all lines, and say what has become of them.

        Raises:
            Misuse: Nothing was sent.
        """
        failure: Failure | None = None
        try:
            with self.showing:
                await self._answer_all()
            await self._make_table()
        except Misuse:
            raise
        except Failure as error:
            failure = error
            self.stopped = str(error)
            say(self.stopped)
        except asyncio.CancelledError:
            self.stopped = "interrupted"
            self._sum_up()
            raise
        self._sum_up()
        if failure is not None:
            return failure.code
        return Exit.OK if self.tally.is_whole() and not self.stopped else Exit.FAILED

    async def _answer_all(self) -> None:
        job = self.job
        self.source.count(self._know_total)
        try:
            async with job:
                async for row in job:
                    await self._deliver(row)
                    if self.hopeless:
                        break
        except CannotWrite as error:
            self.tally.lost = 1 + len(job.unread)
            raise Failure(self._lost(error)) from None
        except JournalError as error:
            if job.journal is None:  # it was never opened
                raise Misuse(str(error)) from None
            self.tally.lost = len(job.unread)
            raise Failure(self._lost(error)) from None
        except BudgetExceededError as error:
            self._stop(error)
        except asyncio.CancelledError:
            # Of a pipe that takes nothing not for ever.
            with contextlib.suppress(CannotWrite, OSError):
                async with asyncio.timeout(PATIENCE):
                    await self._keep(job)
            raise
        await self._keep(job)

    async def _make_table(self) -> None:
        """
        Of a journal that is whole: one that goes on may have several lines for a row.
        """
        destination = self.plan.destination
        if destination.journal and destination.table and self.stopped is None:
            await asyncio.to_thread(write_table, destination.journal, destination.table)

    def _lost(self, error: Exception) -> str:
        return f"{error}; {counted(self.tally.lost, 'result')} lost"

    # In ------------------------------------------------------------------------------

    async def _requests(self) -> AsyncGenerator[tuple[str, Asked | Exception]]:
        self._greet()
        async for number, line in self.lines:
            self.numbers.note(self.read, number)
            custom_id, request = self._request(number, line)
            self.read += 1
            yield custom_id, request
            self._look_up(number, custom_id)
        if self.stopped is None:
            self.job.progress.total = self.read

    def _greet(self) -> None:
        """
        Say what an earlier run has left.
        """
        if (journal := self.job.journal) is None:
            return
        there = journal.counts
        facts = []
        if there.answered:
            facts.append(f"{counted(there.answered, 'line')} answered already")
        if there.failed:
            again = self.plan.retry_failed
            how = "asked again" if again else "--retry-failed asks again"
            facts.append(f"{there.failed} failed ({how})")
        if there.again:
            facts.append(f"{there.again} cut off (asked again)")
        if there.damaged:
            facts.append(f"{counted(there.damaged, 'line')} that cannot be read")
        if facts:
            self._tell(f"{self.plan.destination.journal}: {', '.join(facts)}")

    def _look_up(self, number: int, custom_id: str) -> None:
        """
        Say, once each, what is odd about a line that was taken.
        """
        journal, unit = self.job.journal, self.source.unit
        if not self.changed and self.job.progress.changed:
            self.changed = True
            self._tell(
                f"{unit} {number} asks for something else than when it was answered: it "
                "is asked again, as is all that has changed"
            )
        if self.twice or custom_id == f"{unit}-{number}":
            return
        if journal.repeated if journal else self._has(custom_id):
            self.twice = True
            self._say(f"{unit} {number}: another {unit} has the id {custom_id!r} too")

    def _has(self, custom_id: str) -> bool:
        """
        Whether an id came before; a journal knows that by itself.
        """
        before = len(self.ids)
        self.ids.add(custom_id)
        return len(self.ids) == before

    def _request(
        self, number: int, line: Line
    ) -> tuple[str, Asked | BadLine | InvalidRequestError]:
        try:
            entry = read_line(number, line)
        except BadLine as error:
            return error.custom_id, error
        try:
            request = entry.request(self.plan.fields, self.plan.instruction)
        except InvalidRequestError as error:
            return entry.custom_id, error
        return entry.custom_id, request

    def _know_total(self, total: int) -> None:
        # What has been read to its end is known better.
        if self.job.progress.total is None:
            self.job.progress.total = total

    # Out -----------------------------------------------------------------------------

    async def _deliver(self, row: Row[Any]) -> None:
        """
        Write one result, if no journal has done so, count it, and judge whether to go on.
        """
        if row.error is not None and self._is_hopeless(row.error):
            self._stop(row.error)
        if self.writer is not None:
            try:
                await self.writer.write(result_line(row))
            except asyncio.CancelledError:
                self._count(row)  # the thread writes it all the same
                raise
        self._count(row)

    def _count(self, row: Row[Any]) -> None:
        error = row.error
        if error is not None:
            self.tally.failures[kind_of(error)] += 1
            self._failed(self.numbers.line(row.index), error)
        status = error.status_code if isinstance(error, APIError) else None
        if row.replies or status is not None:
            self.heard, self.unheard = True, 0
        elif _cannot_connect(error):
            self.unheard += 1

    async def _keep(self, job: Job[Any]) -> None:
        """
        Write and count the results that have come, but were not waited for, and the answers
        of conversations that were cut off.
        """
        for row in job.unread:
            await self._deliver(row)

    def _failed(self, number: int, error: Exception) -> None:
        failed = self.tally.failed
        if self._is_hopeless(error) or isinstance(error, StreamAbortedError):
            return  # it has been said, once, or is no news to who has cut it off
        if failed == 1 and isinstance(error, APIError):
            add_hint(error, self.client)
        if failed <= _FAILURES_SHOWN:
            self._say(f"{self.source.unit} {number}: {explained(error)}")
        elif failed == _FAILURES_SHOWN + 1:
            self._say("more lines failed; each has its error in the output")

    def _is_hopeless(self, error: Exception) -> bool:
        """
        Whether all other lines would fare the same.
        """
        if isinstance(error, AuthenticationError) or lacks_credit(error):
            return True
        # The first line tells, or as many in a row that it can be no chance.
        enough = self.unheard + 1 >= _AWAY if self.heard else True
        return enough and _cannot_connect(error)

    def _stop(self, error: Exception) -> None:
        """
        Ask no more. What is under way may have been paid for: it is given up only where
        no answer has come, and for another reason than that the money has run out.
        """
        if self.stopped is None:
            now = self.job.progress
            answered = now.answered or now.completion_tokens
            self.hopeless = not (answered or lacks_credit(error))
            if isinstance(error, APIError):
                add_hint(error, self.client)
            self.stopped = explained(error)
            self.lines.end()
            self.showing.say(self.stopped)

    # In words ------------------------------------------------------------------------

    def _say(self, sentence: str) -> None:
        if not self.plan.as_json:
            self.showing.say(sentence)

    def _tell(self, sentence: str) -> None:
        """
        Say what is no error.
        """
        if not self.plan.quiet:
            self._say(sentence)

    def _sum_up(self) -> None:
        plan, tally = self.plan, self.tally
        whole = self.stopped is None
        if plan.as_json:
            facts = {
                **tally.to_dict(),
                "not_answered": 0 if whole else self.job.progress.left,
                "stopped": self.stopped,
                "answered_by": self.by,
                "output": plan.destination.shown,
            }
            _put_on_stderr(json.dumps(facts))
        elif plan.quiet:
            pass
        elif whole and not self.read:
            say(f"no {self.source.unit}s in {self.source.name}")
        else:
            for sentence in self._sentences(whole=whole):
                say(sentence)

    def _sentences(self, *, whole: bool) -> Iterator[str]:
        tally, destination = self.tally, self.plan.destination
        begin = "" if whole else "stopped; "
        place = destination.shown if whole else destination.journal or destination.shown
        place = f"; results in {place}" if place else ""
        yield f"{begin}{tally.lines(whole=whole)}{place}"
        if self.job.progress.done:
            yield f"{tally.cost()}, by {self.by}"
        if times := tally.times():
            yield times
        if destination.journal and not whole:
            yield "the same command goes on from there"
        elif destination.journal and not tally.is_whole():
            yield "with --retry-failed the same command asks again what failed"


def _view(plan: Plan) -> View | None:
    if plan.quiet or plan.as_json:
        return None
    if (
        plan.destination.shown is None
        and is_terminal(sys.stdout)
        and is_terminal(sys.stderr)
    ):
        return None  # the results themselves show how far it is
    # What HORAY_LOG has to say would go through a bar.
    return LineView() if is_on() else fitting_view()


def _cannot_connect(error: Exception | None) -> bool:
    if isinstance(error, ConnectTimeoutError):
        return True
    # So the sentences begin that speak of a connection that was never made.
    return isinstance(error, APIConnectionError) and str(error).startswith("cannot ")


def _put_on_stderr(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
