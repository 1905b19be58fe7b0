"""
`horay batch`: a file of prompts in, a file of answers out.
"""

import asyncio
import os
import sys

from contextlib import ExitStack, suppress
from io import BufferedReader
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from .. import (
    AsyncHoray,
    CompletionRequest,
    Conversation,
    InvalidRequestError,
    user,
)
from ._asking import ChatAsking, System
from ._failures import Exit, Misuse, reason, say
from ._lines import Asked, BadLine, read_line
from ._output import OUTPUT
from ._reader import LineReader
from ._signals import run_async
from ._target import WHO, Target, answerer, open_client
from ._validators import file_name, whole
from ._work import Plan, Work
from ._writer import LineWriter, check_output, open_output


# Of lines at a time: what a service takes well, and what keeps a model on this machine busy
# without a long queue before it.
_CONCURRENCY, _LOCAL_CONCURRENCY = 32, 8


def batch(
    source: Annotated[
        str,
        Parameter(
            help="JSON Lines, plain or gzipped, each a prompt, messages, turns, or an "
            'OpenAI Batch line; "-" is stdin.',
            allow_leading_hyphen=True,
            validator=file_name,
        ),
    ],
    /,
    *,
    output: Annotated[
        str,
        Parameter(
            name=["--output", "-o"],
            group=OUTPUT,
            help='Where result lines go; "-" is stdout. Former answers are kept beside '
            "it: answers.jsonl becomes answers.1.jsonl.",
            allow_leading_hyphen=True,
            validator=file_name,
        ),
    ] = "-",
    overwrite: Annotated[
        bool,
        Parameter(
            negative="",
            group=OUTPUT,
            show_default=False,
            help="Replace former answers.",
        ),
    ] = False,
    order: Annotated[
        Literal["done", "input"],
        Parameter(
            group=OUTPUT, help="Results as they come, or in the order of the lines."
        ),
    ] = "done",
    concurrency: Annotated[
        int | None,
        Parameter(
            group=WHO,
            help=f"Lines answered at a time. Default: {_CONCURRENCY}; "
            f"{_LOCAL_CONCURRENCY} with --local.",
            converter=whole,
            validator=Number(gte=1),
        ),
    ] = None,
    system: System = None,
    quiet: Annotated[
        bool,
        Parameter(
            name=["--quiet", "-q"],
            negative="",
            group=OUTPUT,
            show_default=False,
            help="Say nothing but errors.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        Parameter(
            name="--json",
            negative="",
            group=OUTPUT,
            show_default=False,
            help="For programs: the summary as one JSON object, the last line on stderr.",
        ),
    ] = False,
    target: Target = Target(),  # noqa: B008 -- frozen
    asking: ChatAsking = ChatAsking(),  # noqa: B008 -- frozen
) -> Exit:
    """
    Answer a file of prompts, one OpenAI Batch result line for each.

    What a line says itself goes before the options given here. custom_id tells whose a
    result is: it is a line's custom_id, id or question_id, or "line-7" for a seventh line
    that has none. The speed shown on the way is that of the last minute.
    """
    local = _LOCAL_CONCURRENCY if target.is_local else _CONCURRENCY
    plan = Plan(
        source=source,
        output=output,
        overwrite=overwrite,
        order=order,
        concurrency=concurrency or local,
        instruction=system,
        fields=asking.fields(),
        quiet=quiet,
        as_json=as_json,
    )
    return run_async(_answer_file(plan, target, _open_input(source, output)))


def _open_input(source: str, output: str) -> BufferedReader:
    """
    The input, once it is clear that the output is another file.
    """
    if source == "-" and sys.stdin is None:
        raise Misuse("cannot read stdin: it is closed")
    try:
        # For stdin a file of its own: the reader's thread may outlive `sys.stdin`.
        file = open(os.dup(0) if source == "-" else source, "rb")  # noqa: PTH123, SIM115 -- a path or a descriptor; the reader closes it
    except OSError as error:
        raise Misuse(f"cannot read {source}: {reason(error)}") from None
    with ExitStack() as stack:
        stack.enter_context(file)
        check_output(output, os.fstat(file.fileno()))
        stack.pop_all()
    return file


async def _answer_file(plan: Plan, target: Target, file: BufferedReader) -> Exit:
    """
    Answer every line of *file*.

    A result is written as soon as it is there: what was answered before an interruption is
    kept.
    """
    with LineReader(file, plan.name) as lines:
        async with open_client(target) as client:
            await _try(client, lines, plan)
            out, former = await asyncio.to_thread(
                open_output, plan.output, overwrite=plan.overwrite
            )
            if former is not None and not (plan.quiet or plan.as_json):
                say(f"{plan.output}: the former answers are kept, in {former}")
            async with LineWriter(out) as writer:
                by = answerer(target) or _served_by(client)
                return await Work(plan, client, lines, writer, by).run()


def _served_by(client: AsyncHoray) -> str:
    service = client.service
    if client.base_url == service.base_url:
        return service.name
    return f"{service.name} at {client.base_url}"


async def _try(client: AsyncHoray, lines: LineReader, plan: Plan) -> None:
    """
    Refuse an input that has no lines and options that cannot work, before the output is
    touched.

    Where options cannot work for a chat, the first line has a say: it may ask for a text
    completion, or name the model that the options leave open.

    Raises:
        InvalidRequestError: Whatever else a line says, these options will not do.
    """
    if plan.source != "-":
        await lines.peek()
    try:
        # Not sent before somebody reads from it.
        client.chat.completions.stream(messages=[user("…")], **plan.fields)
    except InvalidRequestError as problem:
        request = await _first(lines, plan)
        if request is None and problem.field == "model":
            return
        if request is None:
            raise
        if isinstance(request, CompletionRequest):
            client.completions.stream(request)
        else:
            chat = request.opening if isinstance(request, Conversation) else request
            client.chat.completions.stream(chat)


async def _first(lines: LineReader, plan: Plan) -> Asked | None:
    """
    What the first line asks for, if it can be read.
    """
    if (first := await lines.peek()) is None:
        return None
    with suppress(BadLine):
        return read_line(*first).request(plan.fields)
    return None
