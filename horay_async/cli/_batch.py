"""
`horay batch`: a file of prompts in, a file of answers out.
"""

from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from .. import (
    AsyncHoray,
    ChatRequest,
    CompletionRequest,
    Conversation,
    InvalidRequestError,
    user,
)
from ..many._money import ANY
from ._asking import ChatAsking, System
from ._destination import Destination
from ._failures import Exit, Failure, Misuse
from ._limits import Limits
from ._lines import BadLine, read_line
from ._output import OUTPUT
from ._plan import Plan
from ._reader import LineReader
from ._signals import run_async
from ._source import Source, open_source
from ._target import Target, answerer, open_client
from ._validators import file_name
from ._work import Work
from ._writer import LineWriter


_RESULTS = Group("Results", sort_key=0)


def batch(
    source: Annotated[
        str,
        Parameter(
            help="JSON Lines, plain or gzipped, each a prompt, messages, turns, or an "
            'OpenAI Batch line; a table (.csv, .csv.gz, .parquet); "-" is stdin.',
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
            group=_RESULTS,
            metavar="FILE",
            help="Where results go, each as soon as it is there. The same command goes on "
            "where an earlier run of it has stopped. answers.csv or .parquet is a table, "
            'made of answers.csv.jsonl in the end. "-" is stdout.',
            allow_leading_hyphen=True,
            validator=file_name,
        ),
    ] = "-",
    retry_failed: Annotated[
        bool,
        Parameter(
            negative="",
            group=_RESULTS,
            show_default=False,
            help="Ask again the lines that failed in an earlier run.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        Parameter(
            negative="",
            group=_RESULTS,
            show_default=False,
            help="Begin anew: earlier answers are set aside, and deleted when all is "
            "answered.",
        ),
    ] = False,
    ask_changed: Annotated[
        bool,
        Parameter(
            negative="",
            group=_RESULTS,
            show_default=False,
            help="Go on although all lines ask for something else than in an earlier run.",
        ),
    ] = False,
    order: Annotated[
        Literal["done", "input"],
        Parameter(
            group=_RESULTS, help="Results as they come, or in the order of the lines."
        ),
    ] = "done",
    stream: Annotated[
        bool,
        Parameter(
            negative="",
            group=_RESULTS,
            show_default=False,
            help="Ask for answers token by token: what a line that breaks off has got "
            "is kept, and the summary has the time to the first token.",
        ),
    ] = False,
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
    limits: Limits = Limits(),  # noqa: B008 -- frozen
    target: Target = Target(),  # noqa: B008 -- frozen
    asking: ChatAsking = ChatAsking(),  # noqa: B008 -- frozen
) -> Exit:
    """
    Answer a file of prompts, one OpenAI Batch result line for each.

    What a line says itself goes before the options given here. custom_id tells whose a
    result is: it is a line's custom_id, id or question_id, or "line-7" for a seventh line
    that has none.

    However a run has ended, the same command goes on with what is not answered. A line that
    has changed since, or that other options would change, is asked again; if that is true of
    all lines, it is taken for a mistake (see --ask-changed).
    """
    plan = Plan(
        destination=Destination(output),
        overwrite=overwrite,
        retry_failed=retry_failed,
        ask_changed=ask_changed,
        order=order,
        stream=stream,
        of_job=limits.of_job(is_local=target.is_local),
        instruction=system,
        fields=asking.fields(),
        quiet=quiet,
        as_json=as_json,
    )
    if plan.destination.journal is None and (retry_failed or overwrite):
        option = "--retry-failed" if retry_failed else "--overwrite"
        raise Misuse(
            f"{option} is about the results of an earlier run: name them with -o"
        )
    opened = _open_input(source, plan)
    return run_async(_answer_file(opened, plan, target, limits))


def _open_input(path: str, plan: Plan) -> Source:
    """
    The input, once it is clear that the output is another file.
    """
    source = open_source(path)
    with ExitStack() as stack:
        stack.callback(source.close)
        plan.destination.check(source.stat, overwrite=plan.overwrite)
        stack.pop_all()
    return source


async def _answer_file(
    source: Source, plan: Plan, target: Target, limits: Limits
) -> Exit:
    """
    Answer every line of *source*.

    A result is written as soon as it is there: what was answered before an interruption is
    kept.
    """
    with source.reader() as lines:
        async with (
            open_client(target, governor=limits.governor()) as client,
            AsyncExitStack() as stack,
        ):
            await _try(client, lines, plan, ahead=source.path != "-")
            earlier: list[str] = []
            if plan.overwrite:
                earlier = await plan.destination.set_aside()
            writer = None
            if plan.destination.journal is None:
                writer = LineWriter(plan.destination.open_pipe())
                await stack.enter_async_context(writer)
            by = answerer(target) or _served_by(client)
            work = Work(plan, client, source, lines, writer, by, earlier)
            return await work.run()


def _served_by(client: AsyncHoray) -> str:
    service = client.service
    if client.base_url == service.base_url:
        return service.name
    return f"{service.name} at {client.base_url}"


async def _try(
    client: AsyncHoray, lines: LineReader, plan: Plan, *, ahead: bool
) -> None:
    """
    Refuse an input that has no lines and options that cannot work, before the output is
    touched.

    Where options cannot work for a chat, the first line has a say: it may ask for a text
    completion, or name the model that the options leave open.

    Args:
        ahead: Whether the first line is waited for anyway: it is there.

    Raises:
        Misuse: Not even the first line can be read, or there is no price.
        InvalidRequestError: Whatever else a line says, these options will not do.
    """
    if ahead:
        try:
            await lines.peek()
        except Failure as error:
            raise Misuse(str(error)) from None
    request: Any = None
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
            client.chat.completions.stream(request)
    if plan.needs_prices:
        _check_price(client, request or await _first(lines, plan), plan)


def _check_price(
    client: AsyncHoray, request: ChatRequest | CompletionRequest | None, plan: Plan
) -> None:
    """
    Refuse a budget of money for a model without a price: no line of it could be asked.
    """
    if request is None:
        return
    model = client._line.bind(type(request), request, {})[0].model
    prices = plan.of_job["prices"]
    if isinstance(model, str) and model not in prices and ANY not in prices:
        raise Misuse(
            f"--budget-cost needs a price for {model}: --price {model}=IN,OUT, or one for "
            "all with --price IN,OUT"
        )


async def _first(
    lines: LineReader, plan: Plan
) -> ChatRequest | CompletionRequest | None:
    """
    What the first line asks for (of a conversation its opening), if it can be read.
    """
    if (first := await lines.peek()) is None:
        return None
    with suppress(BadLine):
        asked = read_line(*first).request(plan.fields)
        return asked.opening if isinstance(asked, Conversation) else asked
    return None
