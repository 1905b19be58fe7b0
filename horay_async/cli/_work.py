"""
A batch at work: its lines asked, their results written, counted and told.
"""

import asyncio
import contextlib
import json
import sys

from collections.abc import AsyncGenerator
from typing import Any, Literal

import attrs

from .. import (
    APIConnectionError,
    APIError,
    AsyncHoray,
    AuthenticationError,
    ConnectTimeoutError,
    InvalidRequestError,
    Job,
    Row,
    StreamAbortedError,
)
from .._values import counted
from ._failures import Exit, Failure, explained, say
from ._hints import add_hint
from ._lines import Asked, BadLine, read_line, result_line
from ._log import is_on
from ._progress import LineView, Progress, View, fitting_view
from ._reader import LineReader, count_lines
from ._tally import Tally, lacks_credit
from ._terminal import is_terminal
from ._writer import PATIENCE, CannotWrite, LineWriter


# Enough to see what goes wrong; the rest stands in the output.
_FAILURES_SHOWN = 10


@attrs.frozen(kw_only=True)
class Plan:
    """
    What the command line says about one batch.
    """

    source: str

    output: str

    overwrite: bool

    order: Literal["done", "input"]

    concurrency: int

    instruction: str | None
    """
    The system message for chats that have none.
    """

    fields: dict[str, Any]
    """
    What goes into a request where a line leaves it open.
    """

    quiet: bool

    as_json: bool

    @property
    def name(self) -> str:
        """
        The input's name, for sentences.
        """
        return "stdin" if self.source == "-" else self.source


@attrs.define
class Work:
    """
    One batch at work.
    """

    plan: Plan

    client: AsyncHoray

    lines: LineReader

    writer: LineWriter

    by: str
    """
    Who answers, for people.
    """

    tally: Tally = attrs.field(factory=Tally)

    progress: Progress = attrs.field(init=False)

    under_way: dict[int, tuple[int, bool]] = attrs.field(factory=dict)
    """
    For the place of each row among the others: its line's number, and whether that has
    turns.
    """

    read: int = 0
    """
    The lines that were taken from the input.
    """

    ids: set[str] = attrs.field(factory=set)
    """
    The ids that lines gave themselves.
    """

    twice: bool = False
    """
    Whether one came again.
    """

    heard: bool = False
    """
    Whether the server has said anything at all.
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
        self.tally.at_once = self.plan.concurrency
        self.progress = Progress(self.tally, _view(self.plan))

    async def run(self) -> Exit:
        """
        Answer all lines, and say what has become of them.
        """
        failure: Failure | None = None
        try:
            with self.progress:
                await self._answer_all()
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
        return Exit.FAILED if self.tally.failed or self.stopped else Exit.OK

    async def _answer_all(self) -> None:
        plan = self.plan
        if plan.source != "-":
            count_lines(plan.source, self._know_total)
        job = self.client.map(
            self._requests(), concurrency=plan.concurrency, order=plan.order
        )
        try:
            async with job:
                async for row in job:
                    await self._deliver(row)
                    if self.hopeless:
                        break
        except CannotWrite as error:
            lost = 1 + len(job.unread)
            raise Failure(f"{error}; {counted(lost, 'result')} lost") from None
        except asyncio.CancelledError:
            # Of a pipe that takes nothing not for ever.
            with contextlib.suppress(CannotWrite, OSError):
                async with asyncio.timeout(PATIENCE):
                    await self._keep(job)
            raise
        await self._keep(job)

    # In ------------------------------------------------------------------------------

    async def _requests(self) -> AsyncGenerator[tuple[str, Asked | Exception]]:
        async for number, line in self.lines:
            custom_id, turns, request = self._request(number, line)
            self.under_way[self.read] = number, turns
            self.read += 1
            yield custom_id, request
        if self.stopped is None:
            self.tally.total = self.read

    def _request(
        self, number: int, line: bytes
    ) -> tuple[str, bool, Asked | BadLine | InvalidRequestError]:
        try:
            entry = read_line(number, line)
        except BadLine as error:
            return error.custom_id, False, error
        self._note(number, entry.custom_id)
        try:
            request = entry.request(self.plan.fields, self.plan.instruction)
        except InvalidRequestError as error:
            return entry.custom_id, entry.turns, error
        return entry.custom_id, entry.turns, request

    def _note(self, number: int, custom_id: str) -> None:
        if custom_id == f"line-{number}":
            return
        if custom_id in self.ids and not self.twice:
            self.twice = True
            self._say(f"line {number}: another line has the id {custom_id!r} too")
        self.ids.add(custom_id)

    def _know_total(self, total: int) -> None:
        # What has been read to its end is known better.
        if self.tally.total is None:
            self.tally.total = total

    # Out -----------------------------------------------------------------------------

    async def _deliver(self, row: Row[Any]) -> None:
        """
        Write one result, count it, and judge whether to go on.
        """
        number, turns = self.under_way.pop(row.index)
        if row.error is not None and self._is_hopeless(row.error):
            self._stop(row.error)
        line = result_line(row.id, row.replies, row.error, turns=turns)
        try:
            await self.writer.write(line)
        except asyncio.CancelledError:
            self.tally.add(row.replies, row.error)  # the thread writes it all the same
            raise
        self.tally.add(row.replies, row.error)
        if row.error is not None:
            self._failed(number, row.error)
        status = row.error.status_code if isinstance(row.error, APIError) else None
        self.heard = self.heard or bool(row.replies) or status is not None

    async def _keep(self, job: Job[Any]) -> None:
        """
        Write the results that have come, but were not waited for, and the answers of
        conversations that were cut off.
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
            self._say(f"line {number}: {explained(error)}")
        elif failed == _FAILURES_SHOWN + 1:
            self._say("more lines failed; each has its error in the output")

    def _is_hopeless(self, error: Exception) -> bool:
        """
        Whether all other lines would fare the same.
        """
        if isinstance(error, AuthenticationError) or lacks_credit(error):
            return True
        return not self.heard and _cannot_connect(error)

    def _stop(self, error: Exception) -> None:
        """
        Ask no more. What is under way may have been paid for: it is given up only where
        no answer has come, and for another reason than that the money has run out.
        """
        if self.stopped is None:
            answered = self.tally.answered or self.tally.tokens_out
            self.hopeless = not (answered or lacks_credit(error))
            if isinstance(error, APIError):
                add_hint(error, self.client)
            self.stopped = explained(error)
            self.lines.end()
            self.progress.say(self.stopped)

    # In words ------------------------------------------------------------------------

    def _say(self, sentence: str) -> None:
        if not self.plan.as_json:
            self.progress.say(sentence)

    def _sum_up(self) -> None:
        plan, tally = self.plan, self.tally
        whole = self.stopped is None
        output = None if plan.output == "-" else plan.output
        if plan.as_json:
            facts = {
                **tally.to_dict(),
                "not_answered": 0 if whole else tally.left,
                "stopped": self.stopped,
                "answered_by": self.by,
                "output": output,
            }
            _put_on_stderr(json.dumps(facts))
        elif plan.quiet:
            pass
        elif whole and not tally.done:
            say(f"no lines in {plan.name}")
        else:
            place = f"; results in {output}" if output else ""
            begin = "stopped; " if not whole else ""
            say(f"{begin}{tally.lines(whole=whole)}{place}")
            say(f"{tally.cost()}, by {self.by}")


def _view(plan: Plan) -> View | None:
    if plan.quiet or plan.as_json:
        return None
    if plan.output == "-" and is_terminal(sys.stdout) and is_terminal(sys.stderr):
        return None  # the results themselves show how far it is
    # What HORAY_LOG has to say would go through a bar.
    return LineView() if is_on() else fitting_view()


def _cannot_connect(error: Exception) -> bool:
    if isinstance(error, ConnectTimeoutError):
        return True
    # So the sentences begin that speak of a connection that was never made.
    return isinstance(error, APIConnectionError) and str(error).startswith("cannot ")


def _put_on_stderr(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
