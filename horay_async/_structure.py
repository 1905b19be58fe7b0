"""
Plain JSON values to replies: tolerant of what servers leave out, strict where nothing is left.

cattrs generates one function a class. What cannot be read as an answer is an error that
names its place, `choices[0].message.content`.
"""

from __future__ import annotations

import json

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

import attrs
import cattrs

from cattrs.gen import make_dict_structure_fn, override

from ._checks import shown
from ._errors import APIResponseValidationError
from ._replies import (
    ChatChoice,
    ChatChunk,
    ChatReply,
    ChunkChoice,
    CompletionChoice,
    CompletionChunk,
    CompletionReply,
    Delta,
    FunctionDelta,
    Image,
    ImageReply,
    Model,
    ModelList,
    ToolCallDelta,
    UserInfo,
    no_usage,
)
from ._values import Function, Message, ToolCall, Usage
from ._wire import JsonObject, Record


W = TypeVar("W", bound=JsonObject)
Reader = Callable[[Any, Any], Any]

converter: Final = cattrs.Converter(detailed_validation=False)


MAX_ITEMS: Final = 1 << 14
"""
Choices of an answer, tool calls of a message, models of a list: each costs a hundred times
the memory of the two bytes that a server can send for it.
"""


class _Misfit(Exception):
    """
    A value of a type that nothing can be made of; the path grows on the way out.
    """

    def __init__(self, expected: str, value: Any, path: str = "") -> None:
        super().__init__(expected, value, path)
        self.expected = expected
        self.value = value
        self.path = path


def structure(kind: type[W], obj: Any, **aside: Any) -> W:
    """
    Make a value of JSON, with facts that did not stand in the JSON beside it.
    """
    try:
        made: W = converter.get_structure_hook(kind)(obj, aside)
    except _Misfit as misfit:
        where = misfit.path.lstrip(".") or "an answer"
        raise APIResponseValidationError(
            f"the server sent {where} = {shown(misfit.value)}, "
            f"expected {misfit.expected}",
            body=obj,
            meta=aside.get("meta"),
        ) from None
    return made


@converter.register_structure_hook_factory(
    lambda kind: isinstance(kind, type) and issubclass(kind, JsonObject)
)
def _wire_reader(kind: type[Any], converter: cattrs.Converter) -> Reader:
    fields = [one for one in attrs.fields(kind) if one.metadata.get("wire", True)]
    names = frozenset(one.metadata.get("alias", one.name) for one in fields)
    # These come out as null anyway, or never do.
    silent = frozenset(one.name for one in fields if "null" in one.metadata)
    readers = {**_TEXTS, **_PARTS.get(kind, {})}
    hooks = {
        one.name: override(
            rename=one.metadata.get("alias"),
            struct_hook=_located(one.name, readers.get(one.name, _as_it_came)),
        )
        for one in attrs.fields(kind)
    }
    make = make_dict_structure_fn(
        kind,
        converter,
        _cattrs_use_linecache=False,
        **hooks,  # type: ignore[arg-type]  # cattrs' own way, which it types otherwise
    )

    def read(obj: Any, aside: Any) -> Any:
        if type(obj) is not dict:
            raise _Misfit("an object", obj)
        given: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, value in obj.items():
            # A known field that is null takes its default, but is dumped as null again.
            if key in names and value is not None:
                given[key] = value
            elif key not in silent:
                extra[key] = value
        given["extra"] = extra
        if type(aside) is dict:
            given.update(aside)
        return make(given, kind)

    return read


def _located(name: str, reader: Reader) -> Reader:
    if reader is _as_it_came:
        return reader

    def located(value: Any, kind: Any) -> Any:
        try:
            return reader(value, kind)
        except _Misfit as misfit:
            misfit.path = f".{name}{misfit.path}"
            raise

    return located


def _as_it_came(value: Any, _: Any) -> Any:
    return value


def _one(kind: type[JsonObject]) -> Reader:
    def read(value: Any, _: Any) -> Any:
        return converter.get_structure_hook(kind)(value, kind)

    return read


def _many(kind: type[JsonObject], *, numbered: bool = False) -> Reader:
    """
    A list of objects, each with its place for an index where the server sends none.
    """

    def read(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise _Misfit("a list", value)
        if len(value) > MAX_ITEMS:
            raise _Misfit(f"at most {MAX_ITEMS} of them", value)
        hook = converter.get_structure_hook(kind)
        items = []
        for place, item in enumerate(value):
            bare = (
                numbered and type(item) is dict and type(item.get("index")) is not int
            )
            try:
                items.append(hook({**item, "index": place} if bare else item, kind))
            except _Misfit as misfit:
                misfit.path = f"[{place}]{misfit.path}"
                raise
        return tuple(items)

    return read


def _role(value: Any, _: Any) -> Any:
    return value or "assistant"


def _filled(value: Any, _: Any) -> Any:
    """
    TGI sends "" for a finish reason that is not there yet.
    """
    return value or None


def _text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _Misfit("a string", value)
    return value


def _content(value: Any, _: Any) -> Any:
    """
    A string, or a list of parts; a bare string among these becomes a part.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _Misfit("a string or a list of parts", value)
    parts = []
    for place, part in enumerate(value):
        if isinstance(part, str):
            parts.append({"type": "text", "text": part})
        elif isinstance(part, dict):
            parts.append(part)
        else:
            raise _Misfit("an object", part, f"[{place}]")
    return parts


def _arguments(value: Any, _: Any) -> str:
    """
    JSON text; some local servers send the object itself.
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _money(value: Any, _: Any) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise _Misfit("an amount of money", value) from None
    if isinstance(value, bool) or not amount.is_finite():
        raise _Misfit("an amount of money", value)
    return amount


def _reply_usage(value: Any, _: Any) -> Usage:
    # A reply that was put together from a stream has its usage already.
    return value if isinstance(value, Usage) else usage_of(value) or no_usage()


def _chunk_usage(value: Any, _: Any) -> Usage | None:
    return usage_of(value)


def _logprobs(value: Any, _: Any) -> Any:
    return Record(value) if isinstance(value, dict) else value


_TEXTS: Final[Mapping[str, Reader]] = {
    "arguments": _arguments,
    "content": _content,
    "finish_reason": _filled,
    "logprobs": _logprobs,
    "text": _text,
}
_PARTS: Final[Mapping[type[JsonObject], Mapping[str, Reader]]] = {
    ChatReply: {"choices": _many(ChatChoice, numbered=True), "usage": _reply_usage},
    ChatChoice: {"message": _one(Message)},
    Message: {"role": _role, "tool_calls": _many(ToolCall)},
    ToolCall: {"function": _one(Function)},
    Function: {},
    ChatChunk: {"choices": _many(ChunkChoice, numbered=True), "usage": _chunk_usage},
    ChunkChoice: {"delta": _one(Delta)},
    Delta: {"tool_calls": _many(ToolCallDelta, numbered=True)},
    ToolCallDelta: {"function": _one(FunctionDelta)},
    FunctionDelta: {},
    CompletionReply: {
        "choices": _many(CompletionChoice, numbered=True),
        "usage": _reply_usage,
    },
    CompletionChunk: {
        "choices": _many(CompletionChoice, numbered=True),
        "usage": _chunk_usage,
    },
    CompletionChoice: {},
    ModelList: {"data": _many(Model)},
    Model: {},
    ImageReply: {"images": _many(Image)},
    Image: {},
    UserInfo: {
        "balance": _money,
        "charge_balance": _money,
        "total_balance": _money,
    },
}


# Usage -----------------------------------------------------------------------------


def usage_of(obj: Any) -> Usage | None:
    """
    A `usage` value as the server sent it; None where it counts nothing.
    """
    if type(obj) is not dict or not obj:
        return None
    prompt = _count(obj.get("prompt_tokens"))
    completion = _count(obj.get("completion_tokens"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_count(obj.get("total_tokens")) or prompt + completion,
        extra={key: obj[key] for key in obj if key not in _COUNTS},
    )


_COUNTS: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


def _count(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:20])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def warm() -> None:
    """
    Generate all code now that the first reply would otherwise wait for.
    """
    for kind in _PARTS:
        converter.get_structure_hook(kind)
