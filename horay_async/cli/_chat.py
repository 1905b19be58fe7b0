"""
`horay chat`: prompts, their answers streamed to stdout; without a prompt, a conversation.
"""

from .. import ChatRequest, system, user
from ._answers import print_answers, print_json
from ._asking import ChatAsking, System
from ._conversation import converse
from ._failures import Exit, Misuse
from ._output import AsJson, need_stdout
from ._prompts import Prompts, is_typed, read_prompts
from ._signals import run_async
from ._target import Target, answerer, open_client


def chat(
    *prompt: Prompts,
    system: System = None,
    target: Target = Target(),  # noqa: B008 -- frozen
    asking: ChatAsking = ChatAsking(),  # noqa: B008 -- frozen
    as_json: AsJson = False,
) -> Exit:
    """
    Stream the answer to each prompt; without one, hold a conversation.

    Without a prompt and a terminal the prompt is read from stdin; with one, stdin is left
    alone unless - asks for it. With --json each reply is a line in OpenAI's shape, or
    {"error": …}.
    """
    need_stdout()
    if is_typed(prompt):
        _refuse_for_conversations(asking, as_json=as_json)
        return converse(target, asking.fields(), system)
    prompts = read_prompts(prompt or ("-",))
    return run_async(_chat(prompts, system, target, asking, as_json=as_json))


async def _chat(
    prompts: list[str],
    instructions: str | None,
    target: Target,
    asking: ChatAsking,
    *,
    as_json: bool,
) -> Exit:
    fields = asking.fields()
    before = [] if instructions is None else [system(instructions)]
    asks = [
        (prompt, ChatRequest(messages=[*before, user(prompt)], **fields))
        for prompt in prompts
    ]
    async with open_client(target) as client:
        show = print_json if as_json else print_answers
        return await show(client, asks, by=answerer(target))


def _refuse_for_conversations(asking: ChatAsking, *, as_json: bool) -> None:
    if as_json:
        raise Misuse("--json needs a prompt: a conversation is for people")
    if asking.n is not None and asking.n != 1:
        raise Misuse("-n needs a prompt: a conversation goes on from one answer")
