"""
What a command says when it cannot go on, and the exit code it leaves.
"""

import os
import sys

from enum import IntEnum


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
    print(f"horay: {sentence}", file=sys.stderr, flush=True)


def reason(error: OSError) -> str:
    """
    An operating system's error without its number and file name.
    """
    return error.strerror or str(error)


def mute_stdout() -> None:
    """
    Let nothing more go to a stdout that is gone or full: Python's last flush would complain.
    """
    if sys.stdout is None:
        return
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def put(text: str) -> None:
    """
    Write to stdout, at once.

    Raises:
        BrokenPipeError: Its reader has left.
        Failure: It takes no more.
    """
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        mute_stdout()
        raise Failure(f"cannot write the answer: {reason(error)}") from None
