"""
`horay batch`: a file of prompts in, a file of answers out.
"""

import asyncio
import io
import os
import sys
import time

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from .. import AsyncHoray, InvalidRequestError, user
from ._failures import Exit, Failure, Misuse, reason, say
from ._lines import BadLine, Reply, Row, read_line, result_line
from ._reader import LineReader
from ._target import Asking, Target, answerer, open_client


# Enough to see what goes wrong; the rest stands in the output.
_FAILURES_SHOWN = 10


@attrs.define
class Tally:
    """
    What has become of the rows so far.
    """

    answered: int = 0

    failed: int = 0

    tokens: int = 0

    started: float = attrs.field(factory=time.monotonic)

    def __str__(self) -> str:
        rows = self.answered + self.failed
        seconds = time.monotonic() - self.started
        return (
            f"{rows} lines: {self.answered} answered, {self.failed} failed, "
            f"{self.tokens} tokens, {seconds:.1f} s"
        )


async def batch(
    source: str, output: str, *, concurrency: int, target: Target, asking: Asking
) -> Exit:
    """
    Answer every line of *source* into *output*, "-" being stdin and stdout.

    A result is written as soon as it is there: what was answered before an
    interruption is kept.
    """
    fields = asking.fields()
    with _open_input(source) as lines:
        async with open_client(target) as client:
            _refuse_same_file(source, output)
            await _try(client, lines, fields)
            with _open_output(output) as out:
                work = _Work(client=client, lines=lines, out=out, fields=fields)
                await work.run(concurrency)
    by = answerer(target)
    say(f"{work.tally}" + (f", by {by}" if by else ""))
    return Exit.FAILED if work.tally.failed else Exit.OK


@contextmanager
def _open_input(source: str) -> Iterator[LineReader]:
    if source == "-" and sys.stdin is None:
        raise Misuse("cannot read stdin: it is closed")
    try:
        # For stdin a file of its own: the reader's thread may outlive `sys.stdin`.
        file = open(os.dup(0) if source == "-" else source, "rb")  # noqa: PTH123, SIM115 -- a path or a descriptor; the reader closes it
    except OSError as error:
        raise Misuse(f"cannot read {source}: {reason(error)}") from None
    with LineReader(file) as lines:
        yield lines


def _open_output(output: str) -> io.FileIO:
    """
    The output, unbuffered: what is written is written, and closing it cannot fail.
    """
    if output == "-" and sys.stdout is None:
        raise Misuse("cannot write to stdout: it is closed")
    try:
        if output == "-":
            return io.FileIO(os.dup(sys.stdout.fileno()), "w")
        return io.FileIO(output, "w")
    except OSError as error:
        raise Misuse(f"cannot write {output}: {reason(error)}") from None


def _refuse_same_file(source: str, output: str) -> None:
    """
    Opening the output empties it: not if it is the input.
    """
    if "-" not in (source, output):
        paths = Path(source), Path(output)
        if paths[1].exists() and paths[0].samefile(paths[1]):
            raise Misuse(f"{output} is the input: answers would overwrite the prompts")


async def _try(client: AsyncHoray, lines: LineReader, fields: dict[str, Any]) -> None:
    """
    Refuse options that cannot work, before the output is emptied.

    Where they cannot for a chat, the first line has a say: it may ask for a text
    completion, or name the model that the options leave open.

    Raises:
        InvalidRequestError: Whatever else a line says, these options will not do.
    """
    try:
        # Not sent before somebody reads from it.
        client.chat.completions.stream(messages=[user("…")], **fields)
    except InvalidRequestError as problem:
        row = await _first(lines)
        open_model = problem.field == "model" and "model" not in fields
        if row is None or row.steps:
            if open_model and (row is None or "model" in row.fields):
                return
            raise
        if open_model and "model" in row.fields:
            fields = {**fields, "model": "…"}
        client.completions.stream(prompt="…", **fields)


async def _first(lines: LineReader) -> Row | None:
    """
    What the first line asks for, if it can be read; it stays the first.
    """
    async for number, line in lines:
        lines.put_back(number, line)
        with suppress(BadLine):
            return read_line(number, line)
        break
    return None


@attrs.define(kw_only=True)
class _Work:
    """
    One batch at work.
    """

    client: AsyncHoray

    lines: LineReader

    out: io.FileIO

    fields: dict[str, Any]
    """
    What the command line adds where a line leaves it open.
    """

    tally: Tally = attrs.field(factory=Tally)

    seen: set[str] = attrs.field(factory=set)
    """
    The ids so far.
    """

    twice: bool = False
    """
    Whether one came again.
    """

    async def run(self, concurrency: int) -> None:
        """
        Pull lines until there are no more, *concurrency* at a time.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._pull())
        except BaseExceptionGroup as group_error:
            # All workers share one file: its first error is the one to tell.
            raise group_error.exceptions[0] from None
        except asyncio.CancelledError:
            say(f"stopped; {self.tally}; what was answered is written")
            raise

    async def _pull(self) -> None:
        async for number, line in self.lines:
            await self._answer(number, line)

    async def _answer(self, number: int, line: bytes) -> None:
        replies: list[Reply] = []
        try:
            row = read_line(number, line)
        except BadLine as error:
            self._failed(number, error)
            self._write(result_line(error.custom_id, (), error, turns=False))
            return
        self._note(number, row.custom_id)
        problem = None
        try:
            await self._converse(row, replies)
        except Exception as error:  # noqa: BLE001 -- one line must not end the others
            problem = error
            self._failed(number, error)
        else:
            self.tally.answered += 1
        self._write(
            result_line(row.custom_id, replies, problem, turns=len(row.steps) > 1)
        )

    async def _converse(self, row: Row, replies: list[Reply]) -> None:
        """
        One call for each step, every answer going back in as history.
        """
        fields = self.fields | dict(row.fields)
        if not row.steps:
            self._count(replies, await self.client.completions.create(**fields))
            return
        history: list[Any] = []
        for step in row.steps:
            history += step
            reply = await self.client.chat.completions.create(
                messages=history, **fields
            )
            self._count(replies, reply)
            history.append(reply.message)

    def _note(self, number: int, custom_id: str) -> None:
        if custom_id in self.seen and not self.twice:
            self.twice = True
            say(f"line {number}: another line has the id {custom_id!r} too")
        self.seen.add(custom_id)

    def _count(self, replies: list[Reply], reply: Reply) -> None:
        replies.append(reply)
        if reply.usage is not None:
            self.tally.tokens += reply.usage.total_tokens

    def _failed(self, number: int, error: Exception) -> None:
        self.tally.failed += 1
        if self.tally.failed <= _FAILURES_SHOWN:
            say(f"line {number}: {error}")
        elif self.tally.failed == _FAILURES_SHOWN + 1:
            say("more lines failed; each has its error in the output")

    def _write(self, line: bytes) -> None:
        try:
            while line:
                line = line[self.out.write(line) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failure(f"cannot write the answers: {reason(error)}") from None
