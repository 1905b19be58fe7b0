"""
A batch at work: its lines asked, their results written, counted and told.
"""

import asyncio
import contextlib
import os
import sys

from collections.abc import AsyncGenerator
from typing import Any

import attrs

from .. import (
    APIError,
    AsyncHoray,
    AuthenticationError,
    BudgetExceededError,
    DeadlineExceeded,
    Job,
    JournalError,
    Row,
    StreamAbortedError,
)
from .._values import counted
from ..many._faults import is_away, lacks_credit
from ..many._results import result_line
from ._answer_table import write_table
from ._closing import Closing
from ._earlier import refuse_others
from ._failures import Exit, Failure, Misuse, explained, say
from ._hints import add_hint
from ._lines import Asked, requested
from ._log import is_on
from ._plan import Plan
from ._progress import LineView, Showing, View, fitting_view
from ._reader import LineReader
from ._source import Numbers, Source
from ._tally import Tally
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

    earlier: list[str] = attrs.field(factory=list)
    """
    The files into which answers were put that are to be replaced.
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

    first: str = ""
    """
    What has to be done before the same command can go on.
    """

    last: str = ""
    """
    What has to be said of its going on.
    """

    waited: bool = False
    """
    Whether it was said that lines wait for our own limits longer than they may.
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
            await self._replace_earlier()
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
                if job._journal is not None and not self.plan.ask_changed:
                    await refuse_others(
                        job._journal, self.lines, self.source, self.plan, self.client
                    )
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
        except (BudgetExceededError, APIError) as error:
            # The money is spent; or the server was waited for in vain.
            self._stop(error)
            if isinstance(error, BudgetExceededError):
                self._judge_budget()
        except asyncio.CancelledError:
            # Of a pipe that takes nothing not for ever.
            with contextlib.suppress(CannotWrite, OSError):
                async with asyncio.timeout(PATIENCE):
                    await self._keep(job)
            raise
        await self._keep(job)

    def _judge_budget(self) -> None:
        """
        Say what it takes to go on: the next run has the same budget once more.
        """
        if self.job.progress.completion_tokens:
            self.last = ", with the same budget once more"
        else:
            self.first = "with a larger budget "

    async def _make_table(self) -> None:
        """
        Of a journal that is whole: one that goes on may have several lines for a row.
        """
        destination = self.plan.destination
        if destination.journal and destination.table and self.stopped is None:
            await asyncio.to_thread(write_table, destination.journal, destination.table)

    async def _replace_earlier(self) -> None:
        """
        Delete what was set aside, if all of it has a new answer.
        """
        if self.stopped is None and self.tally.is_whole():
            for path in self.earlier:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(os.remove, path)
            self.earlier = []

    def _lost(self, error: Exception) -> str:
        return f"{error}; {counted(self.tally.lost, 'result')} lost"

    # In ------------------------------------------------------------------------------

    async def _requests(self) -> AsyncGenerator[tuple[str, Asked | Exception]]:
        self._greet()
        try:
            async for number, line in self.lines:
                self.numbers.note(self.read, number)
                custom_id, request = requested(
                    number, line, self.plan.fields, self.plan.instruction
                )
                self.read += 1
                yield custom_id, request
                self._look_up(number, custom_id)
        except Failure:
            self.first = f"when {self.source.name} is mended, "
            raise
        if self.stopped is None:
            self.job.progress.total = self.read

    def _greet(self) -> None:
        """
        Say what an earlier run has left.
        """
        if (there := self.job.journal) is None:
            return
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
        journal, unit = self.job._journal, self.source.unit
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
            self.tally.add(error)
            self._failed(self.numbers.line(row.index), error)
        status = error.status_code if isinstance(error, APIError) else None
        if row.replies or status is not None:
            self.heard, self.unheard = True, 0
        elif _is_unheard(error):
            self.unheard += 1

    async def _keep(self, job: Job[Any]) -> None:
        """
        Write and count the results that have come, but were not waited for, and the answers
        of conversations that were cut off.
        """
        for row in job.unread:
            await self._deliver(row)

    def _failed(self, number: int, error: Exception) -> None:
        failed = self.tally.failed + self.tally.unanswered.total()
        if self._is_hopeless(error) or isinstance(error, StreamAbortedError):
            return  # it has been said, once, or is no news to who has cut it off
        if self.job.progress.away and is_away(error):
            return  # it will be said, once, when this was the last
        if _never_sent(error) and not self.waited:
            self.waited = True
            self._say(
                "lines wait longer for --rpm, --tpm and --concurrency than --timeout lets "
                "them: raise these, or leave --timeout out"
            )
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
        # The first line tells, or as many in a row that it can be no chance. Where the job
        # waits for the server it says itself when that has been in vain.
        enough = not self.heard or self.unheard + 1 >= _AWAY
        return enough and _is_unheard(error)

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
        closing = Closing(
            self.plan,
            self.tally,
            self.job,
            by=self.by,
            earlier=self.earlier,
            stopped=self.stopped,
            first=self.first,
            last=self.last,
        )
        if self.plan.as_json:
            _put_on_stderr(closing.to_json())
        elif self.plan.quiet:
            pass
        elif self.stopped is None and not self.read:
            say(f"no {self.source.unit}s in {self.source.name}")
        else:
            for sentence in closing.sentences():
                say(sentence)


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


def _is_unheard(error: Exception | None) -> bool:
    """
    Whether the server has said nothing at all.
    """
    return isinstance(error, APIError) and is_away(error) and error.status_code is None


def _never_sent(error: Exception) -> bool:
    """
    Whether a call has waited for our own limits, until its time was over.
    """
    return isinstance(error, DeadlineExceeded) and not error.meta.attempts


def _put_on_stderr(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
