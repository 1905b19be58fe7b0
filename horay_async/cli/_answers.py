"""
Several calls at once, and their answers on stdout in the order of their prompts.
"""

import asyncio
import sys

from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs

from .. import (
    APIError,
    AsyncHoray,
    ChatReply,
    ChatRequest,
    CompletionReply,
    CompletionRequest,
    HorayError,
    Outcome,
    Range,
    TokenStream,
)
from ..many import shares
from ._failures import Exit, explained, say
from ._hints import add_hint
from ._output import Writer, error_object, put_json
from ._terminal import bold


T = TypeVar("T")

Ask = ChatRequest | CompletionRequest

Reply = ChatReply | CompletionReply

# Calls of one command at a time: servers stay friendly, and a person reads no faster.
_AT_ONCE = 16

# The most characters of a prompt that its heading repeats.
_HEADING = 60

UNCONFIRMED = "the server did not say whether the answer is whole"

CUT = "the answer was cut at its longest; --max-tokens allows more"

_INTERRUPTED = {"error": {"message": "interrupted", "type": "cancelled", "code": None}}


# Text, for people ------------------------------------------------------------------


@attrs.define(eq=False, kw_only=True)
class _Call:
    """
    One streamed call, which is heard to its end whether or not somebody prints it.
    """

    ask: Ask

    stream: TokenStream[Any, Any]

    label: str
    """
    What our sentences about it begin with, where there are several.
    """

    opened: asyncio.Event = attrs.field(factory=asyncio.Event)

    told: bool = False
    """
    Whether its error has been.
    """

    async def run(self, slots: asyncio.Semaphore) -> None:
        """
        Send it and hear all of it; what goes wrong is raised to whoever reads its choices.
        """
        try:
            async with slots, self.stream as stream:
                self.opened.set()
                await stream.get_final_completion()
        except HorayError:
            pass
        finally:
            self.opened.set()


@attrs.define(eq=False, kw_only=True)
class _Answer:
    """
    One choice of a call.
    """

    call: _Call

    index: int

    heading: str
    """
    "" where there is only one answer.
    """

    begun: bool = False
    """
    Whether it is being printed, or has been.
    """


async def print_answers(
    client: AsyncHoray, asks: Sequence[tuple[str, Ask]], *, by: str | None
) -> Exit:
    """
    Send every prompt's request at once; print each answer as it comes, in its turn.

    Interrupted, it prints what is whole already.

    Raises:
        HorayError: The only call was not answered. (Of several, each is told on stderr.)
    """
    answers = list(_answers(client, asks))
    calls = dict.fromkeys(answer.call for answer in answers)
    printing = _Printing(client=client, answers=answers, only=len(calls) == 1, by=by)
    slots = asyncio.Semaphore(_AT_ONCE)
    try:
        async with _together([call.run(slots) for call in calls]):
            await printing.run()
    except asyncio.CancelledError:
        printing.finish()
        raise
    return Exit.FAILED if printing.failed else Exit.OK


def _answers(client: AsyncHoray, asks: Sequence[tuple[str, Ask]]) -> Iterator[_Answer]:
    """
    The answers to come, in order.
    """
    for number, (prompt, ask) in enumerate(asks, 1):
        several = len(asks) > 1
        label = f"prompt {number}: " if several else ""
        calls = [
            _Call(ask=share, stream=_stream(client, share), label=label)
            for share in _split(client, ask)
        ]
        choices = [
            (call, at) for call in calls for at in range(len(call.stream.choices))
        ]
        for count, (call, index) in enumerate(choices, 1):
            part = f"{count} of {len(choices)}" if len(choices) > 1 else ""
            if several:
                part = f"{number} of {len(asks)}" + (part and f", answer {part}")
            title = f" {_title(prompt)}" if several else ""
            heading = f"[{part}]{title}" if part else ""
            yield _Answer(call=call, index=index, heading=heading)


def _title(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= _HEADING else line[: _HEADING - 1] + "…"


@attrs.define(eq=False, kw_only=True)
class _Printing:
    """
    All answers on their way to stdout.
    """

    client: AsyncHoray

    answers: Sequence[_Answer]

    only: bool

    by: str | None
    """
    Who answers, until it has been said.
    """

    out: Writer = attrs.field(factory=Writer)

    noted: set[str] = attrs.field(factory=set)
    """
    What was said of answers, so that it is not said of each choice.
    """

    failed: bool = False

    async def run(self) -> None:
        """
        Print one after the other, each from its first word as it comes.
        """
        for answer in self.answers:
            await answer.call.opened.wait()
            try:
                await self._print(answer)
            except HorayError as error:
                self._tell(answer.call, error)
            finally:
                self.out.end()

    async def _print(self, answer: _Answer) -> None:
        async for token in answer.call.stream.choices[answer.index]:
            self._begin(answer)
            self.out.write(token.text)
        self._begin(answer)  # an empty one
        self.out.end()
        self._note_end(answer)

    def _begin(self, answer: _Answer) -> None:
        if answer.begun:
            return
        answer.begun = True
        if self.by is not None:
            say(f"answered by {self.by}")
            self.by = None
        if answer.heading:
            self.out.head(bold(answer.heading, sys.stdout))

    def _note_end(self, answer: _Answer) -> None:
        call, note = answer.call, ""
        if call.stream.outcome is Outcome.UNCONFIRMED:
            note = call.label + UNCONFIRMED
        elif is_cut(call.ask, call.stream.reply, answer.index):
            note = call.label + CUT
        if note and note not in self.noted:
            self.noted.add(note)
            say(note)

    def _tell(self, call: _Call, error: HorayError) -> None:
        self.failed = True
        if call.told:
            return
        call.told = True
        if self.only:
            raise error
        if isinstance(error, APIError):
            add_hint(error, self.client)
        self.out.end()
        say(f"{call.label}{explained(error)}")

    def finish(self) -> None:
        """
        Print the answers whose turn has not come, but which are whole.
        """
        for answer in self.answers:
            stream = answer.call.stream
            whole = stream.outcome in {Outcome.FINISHED, Outcome.UNCONFIRMED}
            if whole and not answer.begun:
                self._begin(answer)
                self.out.write(stream.reply.choices[answer.index].text)
                self.out.end()


def is_cut(ask: Ask, reply: Any, index: int) -> bool:
    """
    Whether an answer ends where nobody here wanted it to.
    """
    if isinstance(ask.max_tokens, int):
        return False
    if isinstance(getattr(ask, "max_completion_tokens", None), int):
        return False
    reasons = [choice.finish_reason for choice in reply.choices]
    return index < len(reasons) and reasons[index] == "length"


# JSON, for programs ----------------------------------------------------------------


async def print_json(
    client: AsyncHoray, asks: Sequence[tuple[str, Ask]], *, by: str | None
) -> Exit:
    """
    Send all at once; print each reply, or error, as a line of JSON, in its turn.

    Interrupted, it still prints a line for each.

    Raises:
        HorayError: The only call was not answered. (Of several, each is told on stderr.)
    """
    for _, ask in asks:
        check(client, ask)
    if by is not None:
        say(f"answered by {by}")
    slots = asyncio.Semaphore(_AT_ONCE)
    failed, printed = False, 0
    tasks: list[asyncio.Task[Reply | HorayError]] = []
    try:
        async with _together([_reply(client, ask, slots) for _, ask in asks]) as tasks:
            for number, task in enumerate(tasks, 1):
                result = await task
                printed += 1
                put_json(_object(result))
                if isinstance(result, HorayError):
                    failed = True
                    _tell(result, number, len(tasks))
    except asyncio.CancelledError:
        for task in tasks[printed:]:
            cut_off = not task.done() or task.cancelled()
            put_json(_INTERRUPTED if cut_off else _object(task.result()))
        raise
    return Exit.FAILED if failed else Exit.OK


def _object(result: Reply | HorayError) -> dict[str, Any]:
    if isinstance(result, HorayError):
        return error_object(result)
    return result.to_dict()


def _tell(error: HorayError, number: int, of: int) -> None:
    if of == 1:
        raise error
    say(f"prompt {number}: {explained(error)}")


async def _reply(
    client: AsyncHoray, ask: Ask, slots: asyncio.Semaphore
) -> Reply | HorayError:
    async with slots:
        try:
            if len(_split(client, ask)) > 1:
                return await _fan_out(client, ask)
            return await _create(client, ask)
        except HorayError as error:
            if isinstance(error, APIError):
                add_hint(error, client)
            return error


# Asking ----------------------------------------------------------------------------


def check(client: AsyncHoray, ask: Ask) -> None:
    """
    Refuse a request that cannot be right, before anything is sent.

    Raises:
        InvalidRequestError: It cannot.
    """
    for share in _split(client, ask):
        # Not sent before somebody reads from it.
        _stream(client, share)


def _split(client: AsyncHoray, ask: Ask) -> Sequence[Ask]:
    """
    The calls that one request takes, as a service may limit `n`.
    """
    endpoint = getattr(client.service, ask.endpoint)
    limit = endpoint.limits.get("n") if endpoint else None
    if not isinstance(ask.n, int) or not isinstance(limit, Range):
        return [ask]
    if limit.high is None or ask.n <= limit.high:
        return [ask]
    return shares(ask, ask.n, int(limit.high))


async def _fan_out(client: AsyncHoray, ask: Ask) -> Reply:
    assert isinstance(ask.n, int)
    return await client.fan_out(ask, n=ask.n)


def _stream(client: AsyncHoray, ask: Ask) -> TokenStream[Any, Any]:
    if isinstance(ask, ChatRequest):
        return client.chat.completions.stream(ask)
    return client.completions.stream(ask)


async def _create(client: AsyncHoray, ask: Ask) -> Reply:
    if isinstance(ask, ChatRequest):
        return await client.chat.completions.create(ask)
    return await client.completions.create(ask)


@asynccontextmanager
async def _together(
    work: Sequence[Coroutine[Any, Any, T]],
) -> AsyncIterator[list[asyncio.Task[T]]]:
    """
    Tasks that end with the block; none of them raises.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield [group.create_task(each) for each in work]
    except BaseExceptionGroup as group_error:
        failure = group_error.exceptions[0]
    else:
        return
    # The block's own. Not inside of `except`: it would lose its cause to the group.
    raise failure
