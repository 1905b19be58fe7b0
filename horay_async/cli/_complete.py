"""
`horay complete`: texts, their continuations streamed to stdout.
"""

from .. import CompletionRequest
from ._answers import print_answers, print_json
from ._asking import Asking
from ._failures import Exit, Misuse
from ._output import AsJson, need_stdout
from ._prompts import Prompts, is_typed, read_prompts
from ._signals import run_async
from ._target import Target, answerer, open_client


def complete(
    *prompt: Prompts,
    target: Target = Target(),  # noqa: B008 -- frozen
    asking: Asking = Asking(),  # noqa: B008 -- frozen
    as_json: AsJson = False,
) -> Exit:
    """
    Stream the continuation of each text; without one, of stdin's.

    With a text, stdin is left alone unless - asks for it. With --json each reply is a
    line in OpenAI's shape, or {"error": …}.
    """
    need_stdout()
    if is_typed(prompt):
        raise Misuse('no prompt: give a text to be continued, or pipe one in ("-")')
    prompts = read_prompts(prompt or ("-",))
    return run_async(_complete(prompts, target, asking, as_json=as_json))


async def _complete(
    prompts: list[str], target: Target, asking: Asking, *, as_json: bool
) -> Exit:
    fields = asking.fields()
    asks = [(prompt, CompletionRequest(prompt=prompt, **fields)) for prompt in prompts]
    async with open_client(target) as client:
        show = print_json if as_json else print_answers
        return await show(client, asks, by=answerer(target))
