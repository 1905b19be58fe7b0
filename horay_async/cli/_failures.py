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
    print(f"horay: {sentence}", file=sys.stderr, flush=True)


def reason(error: OSError) -> str:
    """
    An operating system's error without its number and file name.
    """
    return error.strerror or str(error)


def mute_stdout() -> None:
    """
    Let nothing more go to a stdout that is gone: Python's last flush would complain.
    """
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
