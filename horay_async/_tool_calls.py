"""
Tool calls put together from their fragments. No I/O.

Servers leave out the index, use one twice, send "" for absent, repeat id and name in every
fragment, or send the arguments first; each rule below is one of them.
"""

from __future__ import annotations

import json
import re

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ._codec import whole
from ._errors import APIResponseValidationError
from ._values import Function, ToolCall


MAX_CALLS: Final = 1 << 10
"""
Tool calls of one choice of a stream: each of their fragments may have to be looked for.
"""

_CALL: Final = frozenset({"index", "id", "type", "function"})
_FUNCTION: Final = frozenset({"name", "arguments"})
_MARKS: Final = re.compile(r'\\.|["{}]', re.DOTALL)


class ToolCalls:
    """
    The calls of one choice.
    """

    __slots__ = ("_by_id", "_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[OpenCall] = []
        self._by_index: dict[int, OpenCall] = {}
        self._by_id: dict[Any, OpenCall] = {}

    def extend(self, fragments: Iterable[Any]) -> None:
        """
        Add the fragments of one delta.

        Raises:
            APIResponseValidationError: One is of a type that cannot be read.
        """
        for fragment in fragments:
            if not isinstance(fragment, dict):
                raise unreadable("tool_calls[]", fragment, "an object")
            self.add(fragment)

    def add(self, fragment: Mapping[str, Any]) -> None:
        """
        Add one fragment to the call that it belongs to.

        Raises:
            APIResponseValidationError: It is of a type that cannot be read.
        """
        function = fragment.get("function") or {}
        if not isinstance(function, dict):
            raise unreadable("tool_calls[].function", function, "an object")
        index, ident = fragment.get("index"), fragment.get("id") or None
        if isinstance(index, int):
            call = self._by_index[index] = self._at(index, ident)
        else:
            call = self._without_index(ident, function.get("name") or None)
        call.take(fragment, function)
        if isinstance(call.id, (str, int)):
            self._by_id.setdefault(call.id, call)

    def _at(self, index: int, ident: str | None) -> OpenCall:
        call = self._by_index.get(index)
        if call is None:
            return self._open()
        if ident and call.id and ident != call.id:
            # Another id under a used index is another call that collides with it.
            return self._named(ident) or self._open()
        return call

    def _without_index(self, ident: str | None, name: str | None) -> OpenCall:
        if not self._calls:
            return self._open()
        last = self._calls[-1]
        if ident:
            # Arguments may have come before the id and the name.
            nameless = None if last.id or last.name else last
            return self._named(ident) or nameless or self._open()
        if name and last.name and (name != last.name or last.is_whole()):
            return self._open()
        return last

    def _named(self, ident: str) -> OpenCall | None:
        return self._by_id.get(ident) if isinstance(ident, (str, int)) else None

    def _open(self) -> OpenCall:
        if len(self._calls) >= MAX_CALLS:
            raise too_many("tool calls", MAX_CALLS)
        call = OpenCall(len(self._calls))
        self._calls.append(call)
        return call

    def values(self) -> list[ToolCall]:
        """
        The calls so far, in the order in which they were opened.
        """
        return [call.value() for call in self._calls]


class OpenCall:
    """
    One call, as far as it has come.
    """

    __slots__ = (
        "_arguments",
        "_begun",
        "_cut",
        "_depth",
        "_extra",
        "_function_extra",
        "_position",
        "_quoted",
        "_seen",
        "_type",
        "id",
        "name",
    )

    def __init__(self, position: int = 0) -> None:
        self._position = position
        self.id: str | None = None
        self._type: str | None = None
        self.name: str | None = None
        self._arguments: list[str] = []
        self._extra: dict[str, Any] = {}
        self._function_extra: dict[str, Any] = {}
        # How far the arguments have been looked at, and where in an object that is.
        self._seen = self._depth = 0
        self._begun = self._quoted = False
        self._cut = ""

    def take(self, fragment: Mapping[str, Any], function: Mapping[str, Any]) -> None:
        """
        Add a fragment: id, type and name once, the arguments piece by piece.
        """
        self.id = self.id or fragment.get("id") or None
        self._type = self._type or fragment.get("type") or None
        self.name = self.name or function.get("name") or None
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            self._arguments.append(arguments)
        elif arguments is not None:
            self._arguments.append(_dumped(arguments))
        keep_unknown(self._extra, fragment, _CALL)
        keep_unknown(self._function_extra, function, _FUNCTION)

    def is_whole(self) -> bool:
        """
        Whether the arguments are complete, so that the same name again is another call: an
        object whose braces are closed.

        Each piece is looked at once, as this may be asked for every fragment.
        """
        pieces = self._arguments[self._seen :]
        self._seen += len(pieces)
        text = self._cut + "".join(pieces)
        self._cut = ""
        if (len(text) - len(text.rstrip("\\"))) % 2:
            # What it escapes is in the next piece.
            text, self._cut = text[:-1], "\\"
        for mark in _MARKS.findall(text):
            if mark == '"':
                self._quoted = not self._quoted
            elif not self._quoted and mark in "{}":
                self._begun = True
                self._depth += 1 if mark == "{" else -1
        return self._begun and self._depth == 0 and not self._quoted

    def value(self) -> ToolCall:
        """
        The call; one that came without an id gets one, as its result must name it.
        """
        return ToolCall(
            id=self.id or f"call_{self._position}",
            type=self._type or "function",
            function=Function(
                name=self.name,
                arguments=whole("".join(self._arguments)),
                extra=self._function_extra.copy(),
            ),
            extra=self._extra.copy(),
        )


def _dumped(arguments: Any) -> str:
    """
    Arguments that came as an object, as the JSON text that they should have been.
    """
    try:
        return json.dumps(arguments, ensure_ascii=False)
    except RecursionError:
        raise unreadable("arguments", arguments, "fewer levels of it") from None


# What reading deltas has in common ---------------------------------------------------


def keep_unknown(
    into: dict[str, Any], source: Mapping[str, Any], known: frozenset[str]
) -> None:
    """
    Keep the fields that are not known; of one that comes again the last value counts.
    """
    for name, value in source.items():
        if name not in known and value is not None:
            into[name] = value  # noqa: PERF403 -- mostly there is nothing to keep


def too_many(what: str, limit: int) -> APIResponseValidationError:
    """
    The error for more parts of an answer than are kept.
    """
    return APIResponseValidationError(
        f"the server sent more than {limit} {what}, the most that are read of one answer"
    )


def unreadable(where: str, value: Any, expected: str) -> APIResponseValidationError:
    """
    The error for a part of a chunk that cannot be read.

    The value is not shown: a server may echo the key in it.
    """
    kind = type(value).__name__
    return APIResponseValidationError(
        f"the server sent {where} of type {kind}, expected {expected}"
    )
