"""
What a command says when it cannot go on, and the exit code it leaves.
"""

import contextlib
import os
import re
import sys

from enum import IntEnum
from typing import TextIO

import attrs

from .. import HorayError
from ._terminal import printable


# The library speaks to programmers: what it says of its arguments, in our options.
_ARGUMENTS = (
    (re.compile(r"raise timeout= or Timeouts\(deadline=\.\.\.\)"), "raise --timeout"),
    (re.compile(r"; raise Timeouts\(\w+=\.\.\.\) to wait longer"), ""),
    (re.compile(r'; validate="off" lifts this check'), ""),
    (re.compile(r"pass allow_insecure=True, or "), ""),
    (re.compile(r"gguf=\.\.\.( \(--gguf\))?"), "--gguf PATH"),
    (
        re.compile(r"model: (.+) has no default model, so name one"),
        r"\1 has no default model: name one with --model",
    ),
)


class Exit(IntEnum):
    """
    The exit codes; a process killed by signal *n* counts as 128 + *n*, as in the shell.
    """

    OK = 0

    FAILED = 1
    """
    A call, or at least one line of a batch, was not answered.
    """

    MISUSE = 2
    """
    The command, its files or its settings cannot work; nothing was sent.
    """

    INTERRUPTED = 130

    PIPE_CLOSED = 141

    TERMINATED = 143


class Failure(Exception):
    """
    One sentence for stderr, and the command ends.
    """

    code = Exit.FAILED


class Misuse(Failure):
    """
    The user can mend it before anything is sent.
    """

    code = Exit.MISUSE


def say(sentence: str) -> None:
    """
    Tell the person at the terminal; stdout is kept for answers.
    """
    if sys.stderr is None:  # closed by the shell; print would then take stdout
        return
    # What a server said may have lines, and be anything.
    line = printable(" ".join(sentence.split()))
    if sys.stderr.isatty() and sys.stdout is not None and sys.stdout.isatty():
        # Both are one screen: a sentence would go on where an answer has stopped.
        with contextlib.suppress(OSError, Failure):
            end_line()
    try:
        print(f"horay: {line}", file=sys.stderr, flush=True)
    except OSError:
        # It takes nothing, being on a full disk say: that must not end what is at work.
        _mute(sys.stderr)


def explained(error: BaseException) -> str:
    """
    An error in words, with the hints that were noted on it.
    """
    if isinstance(error, OSError) and not isinstance(error, HorayError):
        return reason(error)
    sentence = str(error)
    for argument, option in _ARGUMENTS:
        sentence = argument.sub(option, sentence)
    notes = "; ".join(getattr(error, "__notes__", ()))
    return f"{sentence} ({notes})" if notes else sentence


def reason(error: OSError) -> str:
    """
    An operating system's error without its number and file name.
    """
    return error.strerror or str(error)


def mute_stdout() -> None:
    """
    Let nothing more go to a stdout that is gone or full: Python's last flush would complain.
    """
    if sys.stdout is not None:
        _mute(sys.stdout)


def _mute(stream: TextIO) -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)


@attrs.define
class _Unfinished:
    stream: TextIO | None = None
    """
    The stdout whose last line is not ended; None: there is none.
    """


_unfinished = _Unfinished()


def put(text: str) -> None:
    """
    Write to stdout, at once.

    Raises:
        BrokenPipeError: Its reader has left.
        Failure: It takes no more.
    """
    try:
        print(text, end="", flush=True)
        if text:
            _unfinished.stream = None if text.endswith("\n") else sys.stdout
    except BrokenPipeError:
        raise
    except OSError as error:
        mute_stdout()
        raise Failure(f"cannot write the answer: {reason(error)}") from None


def end_line() -> None:
    """
    Let whatever comes next on stdout begin on a line of its own.
    """
    if sys.stdout is not None and _unfinished.stream is sys.stdout:
        put("\n")
