"""
`horay chat`: one prompt, its answer streamed to stdout.
"""

import sys

from .. import Outcome, user
from ._failures import Exit, Misuse, put, say
from ._target import Asking, Target, answerer, open_client


async def chat(prompt: str, *, target: Target, asking: Asking) -> Exit:
    """
    Print the answer to *prompt* as it comes.
    """
    if sys.stdout is None:
        raise Misuse("stdout is closed: there is nowhere to write the answer")
    last = "\n"
    async with open_client(target) as client:
        try:
            async with client.chat.completions.stream(
                messages=[user(prompt)], **asking.fields()
            ) as stream:
                if by := answerer(target):
                    say(f"answered by {by}")
                async for text in stream.text_stream:
                    put(text)
                    last = text or last
        finally:
            # The terminal's next line, or our own sentence, begins on a line of its own.
            if not last.endswith("\n"):
                put("\n")
    if stream.outcome is Outcome.UNCONFIRMED:
        say("the server did not say whether the answer is whole")
    return Exit.OK
