"""
`horay chat`: one prompt, its answer streamed to stdout.
"""

import sys

from .. import Outcome, user
from ._failures import Exit, say
from ._target import Asking, Target, answerer, open_client


async def chat(prompt: str, *, target: Target, asking: Asking) -> Exit:
    """
    Print the answer to *prompt* as it comes.
    """
    last = "\n"
    async with open_client(target) as client:
        if by := answerer(target):
            say(f"answered by {by}")
        try:
            async with client.chat.completions.stream(
                messages=[user(prompt)], **asking.fields()
            ) as stream:
                async for text in stream.text_stream:
                    sys.stdout.write(text)
                    sys.stdout.flush()
                    last = text or last
        finally:
            # The terminal's next line, or our own sentence, begins on a line of its own.
            if not last.endswith("\n"):
                print(flush=True)
    if stream.outcome is Outcome.UNCONFIRMED:
        say("the server did not say whether the answer is whole")
    return Exit.OK
