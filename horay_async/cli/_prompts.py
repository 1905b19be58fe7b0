"""
Where prompts come from: the words of the command line, or stdin.
"""

import os
import stat
import struct
import sys

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from ._failures import Misuse, reason, say


STDIN = "-"

Prompts = Annotated[
    str,
    Parameter(
        name="PROMPT",
        show_default=False,
        help="What to say, in quotes. Several are asked at once, and answered in this "
        'order. "-" is stdin: beside prompts, its text is put after each of them.',
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
    The prompts that are meant by *words*; stdin is read only where - is one of them.

    Its text goes after each of the others: "Summarise this:" stands before what it is about.

    Raises:
        Misuse: One is empty, or cannot be read.
    """
    if words.count(STDIN) > 1:
        raise Misuse("stdin can be read only once: give - once")
    if not all(word.strip() for word in words):
        raise Misuse("a prompt is empty: say something in it")
    prompts = [word for word in words if word != STDIN]
    if STDIN not in words:
        if _is_waiting():
            say("stdin was not read; add - to put it after the prompt")
        return prompts
    text = _stdin()
    return [f"{prompt}\n\n{text}" for prompt in prompts] or [text]


def is_typed(words: Sequence[str]) -> bool:
    """
    Whether nobody has said anything yet, and somebody sits there to do so.
    """
    return not words and sys.stdin is not None and sys.stdin.isatty()


def _is_waiting() -> bool:
    """
    Whether something to be read is in stdin; looks at a pipe or a file without taking any.

    A pipe's other end may not have written yet: to wait for it could take for ever.
    """
    if sys.stdin is None:
        return False
    try:
        file = sys.stdin.fileno()
        status = os.fstat(file)
        if stat.S_ISREG(status.st_mode):
            return status.st_size > os.lseek(file, 0, os.SEEK_CUR)
        return stat.S_ISFIFO(status.st_mode) and _in_pipe(file) > 0
    except (ImportError, OSError):
        return False


def _in_pipe(file: int) -> int:
    import fcntl  # noqa: PLC0415 -- not on Windows
    import termios  # noqa: PLC0415 -- not on Windows

    count = fcntl.ioctl(file, termios.FIONREAD, struct.pack("i", 0))
    return int.from_bytes(count, sys.byteorder)


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
