"""
What goes to stdout: text for people, JSON for programs.
"""

import json
import sys

from typing import Annotated, Any

from cyclopts import Group, Parameter

from .. import HorayError
from ._failures import Misuse, end_line, explained, put
from ._terminal import printable


OUTPUT = Group("Output", sort_key=3)

AsJson = Annotated[
    bool,
    Parameter(
        name="--json",
        negative="",
        group=OUTPUT,
        show_default=False,
        help="For programs: JSON in the place of text.",
    ),
]


def need_stdout() -> None:
    """
    Refuse to ask where the answer could not be written.

    Raises:
        Misuse: The shell has closed stdout.
    """
    if sys.stdout is None:
        raise Misuse("stdout is closed: there is nowhere to write the answer")


def put_json(value: Any) -> None:
    """
    Write one JSON text, on a line of its own.
    """
    # Where the encoding could not hold every character, JSON's escapes can.
    plain = sys.stdout.encoding.lower() != "utf-8"
    put(json.dumps(value, ensure_ascii=plain) + "\n")


def error_object(error: HorayError) -> dict[str, Any]:
    """
    An error in the shape in which OpenAI's servers send theirs.
    """
    return {
        "error": {
            "message": explained(error),
            "type": getattr(error, "type", None) or type(error).__name__,
            "code": getattr(error, "code", None),
        }
    }


class Writer:
    """
    Answers on stdout, each ended by a line feed, with a heading where there are several.
    """

    def __init__(self) -> None:
        self._clean = sys.stdout.isatty()
        self._begun = False

    def head(self, heading: str) -> None:
        """
        Begin an answer, under *heading*.
        """
        put(("\n" if self._begun else "") + heading + "\n")
        self._begun = True

    def write(self, text: str) -> None:
        """
        Write a piece of an answer.
        """
        self._begun = True
        put(printable(text) if self._clean else text)

    def end(self) -> None:
        """
        Let whatever comes next begin on a line of its own.
        """
        end_line()
