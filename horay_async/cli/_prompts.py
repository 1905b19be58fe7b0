"""
Where prompts come from: the words of the command line, or stdin.
"""

import sys

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from ._failures import Misuse, reason


STDIN = "-"

Prompts = Annotated[
    str,
    Parameter(
        name="PROMPT",
        show_default=False,
        help='What to say, in quotes; "-" is all of stdin. Several are asked at once, '
        "and answered in this order.",
    ),
]


class _Hyphen(str):
    """
    A lone hyphen, which the command line's parser must not take for an option.
    """

    __slots__ = ()

    def startswith(self, *_: Any) -> bool:
        return False


def lone_hyphens(tokens: Sequence[str]) -> list[str]:
    """
    The command line's words, with a hyphen that stands alone as a word like any other.
    """
    return [_Hyphen(token) if token == STDIN else token for token in tokens]


def read_prompts(words: Sequence[str]) -> list[str]:
    """
    The prompts that are meant by *words*; stdin is read only where it is one of them.

    Raises:
        Misuse: One is empty, or cannot be read.
    """
    if words.count(STDIN) > 1:
        raise Misuse("stdin can be read only once: give - as one prompt")
    if not all(word.strip() for word in words):
        raise Misuse("a prompt is empty: say something in it")
    return [_stdin() if word == STDIN else word for word in words]


def is_typed(words: Sequence[str]) -> bool:
    """
    Whether nobody has said anything yet, and somebody sits there to do so.
    """
    return not words and sys.stdin is not None and sys.stdin.isatty()


def _stdin() -> str:
    if sys.stdin is None:
        raise Misuse("cannot read stdin: it is closed; give a prompt")
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misuse(f"stdin is no UTF-8 text: byte {error.start + 1}") from None
    except OSError as error:
        raise Misuse(f"cannot read stdin: {reason(error)}") from None
    if not text.strip():
        raise Misuse("stdin is empty: give a prompt, or pipe one in")
    return text.removesuffix("\n").removesuffix("\r")
