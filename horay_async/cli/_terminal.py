"""
What a terminal can show, and what it must not be sent.
"""

import os

from typing import Any


SHOW_CURSOR = b"\x1b[?25h"

# All control characters but tab and line feed: an answer could move the cursor, change the
# window's title, or worse.
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)]) | {9: 9, 10: 10}


def is_terminal(stream: Any) -> bool:
    """
    Whether a person reads *stream*, on a terminal that knows escape sequences.
    """
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """
    The text without what would control a terminal.
    """
    return text.translate(_CONTROLS)


def dim(text: str, stream: Any) -> str:
    """
    Set the text back, where *stream* can show it.
    """
    return _styled("2", text, stream)


def bold(text: str, stream: Any) -> str:
    """
    Set the text off, where *stream* can show it.
    """
    return _styled("1", text, stream)


def _styled(code: str, text: str, stream: Any) -> str:
    # https://no-color.org: set and not empty.
    if os.environ.get("NO_COLOR") or not is_terminal(stream):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"
