"""
HORAY_LOG: what happens underneath, on stderr, for whoever asks.
"""

import contextlib
import logging
import sys
import traceback

from collections.abc import Iterator

from .._events import listen, log_level, logger
from ._failures import say


class _Sayer(logging.Handler):
    """
    Puts the library's records among what the command itself says.
    """

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """
    Be quiet, or log, as the environment says.

    Without a handler of ours Python would print the warnings of every library to stderr.
    """
    if not logging.root.handlers:
        others = logging.StreamHandler() if _debugs() else logging.NullHandler()
        others.addFilter(lambda record: record.name != logger.name)
        logging.root.addHandler(others)
    sayer, level = _Sayer(), logger.level
    try:
        listen(sayer)
        yield
    finally:
        logger.removeHandler(sayer)
        logger.setLevel(level)


def is_on() -> bool:
    """
    Whether each call's end is told.
    """
    return log_level() is not None


def show(error: BaseException) -> None:
    """
    Show where an error came from, at `debug`.
    """
    if _debugs() and sys.stderr is not None:
        traceback.print_exception(error)


def _debugs() -> bool:
    return log_level() == logging.DEBUG
