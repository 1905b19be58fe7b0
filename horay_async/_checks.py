"""
What the value of a request's field must be, whoever the server is: types, finiteness, shape.

Each check takes a field's name and value and returns the value as the request keeps it:
copied, so that what the caller changes later changes nothing here. None passes where the
field may be null.
"""

from __future__ import annotations

import enum
import math
import numbers
import reprlib

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

import attrs

from ._errors import InvalidRequestError
from ._values import Message, Secret, ToolCall


Check = Callable[[str, Any], Any]

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60


def shown(value: object) -> str:
    """
    A value as an error shows it: short, whatever it is.
    """
    try:
        return _repr.repr(value)
    except Exception:  # noqa: BLE001 -- a repr of the caller's own may do anything
        return f"a {type(value).__name__}"


def refuse(field: str, value: object, expected: str) -> NoReturn:
    """
    Say what a field holds and what it should hold.
    """
    raise InvalidRequestError(
        f"{field} = {shown(value)}: expected {expected}", field=field
    )


def optional(check: Check) -> Check:
    """
    The same check for a field that may be null.
    """

    def checked(field: str, value: Any) -> Any:
        return None if value is None else check(field, value)

    return checked


# Scalars ---------------------------------------------------------------------------


def text(field: str, value: Any) -> str:
    """
    A string.
    """
    if not isinstance(value, str):
        refuse(field, value, "a string")
    return value


def model(field: str, value: Any) -> str:
    """
    A model's name; never null.
    """
    if not isinstance(value, str) or not value:
        refuse(field, value, "a model's name, or none given for the service's default")
    return value


def flag(field: str, value: Any) -> bool:
    """
    True or False, and nothing that merely counts as one.
    """
    if value is True or value is False:
        return value
    refuse(field, value, "True or False")


def integer(minimum: int | None = None) -> Check:
    """
    A whole number, neither a bool nor a float that happens to be whole.
    """
    expected = "an integer"
    if minimum is not None:
        expected += f" of at least {minimum}"

    def check(field: str, value: Any) -> int:
        number: int = value
        if type(value) is not int:
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                refuse(field, value, expected)
            number = int(value)
        if minimum is not None and number < minimum:
            refuse(field, value, expected)
        return number

    return check


def number(field: str, value: Any) -> float:
    """
    A finite number; numpy's scalars become Python's own.
    """
    found: float = value
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            refuse(field, value, "a number")
        if isinstance(value, numbers.Integral):
            return int(value)
        found = float(value)
    if not math.isfinite(found):
        refuse(field, value, "a finite number")
    return found


def flag_or_integer(field: str, value: Any) -> int:
    """
    How many log probabilities, or whether any.
    """
    return value if isinstance(value, bool) else integer(0)(field, value)


# Anything that can stand in JSON -----------------------------------------------------


class _Misfit(Exception):
    """
    A value that cannot stand in JSON; the path grows on the way out.
    """

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(value, expected)
        self.value = value
        self.expected = expected
        self.path = ""


def json_value(field: str, value: Any) -> Any:
    """
    A copy of anything that can stand in JSON, at any depth.
    """
    try:
        return _plain(value)
    except _Misfit as misfit:
        refuse(field + misfit.path, misfit.value, misfit.expected)
    except RecursionError:
        raise InvalidRequestError(
            f"{field}: nested too deeply, or holds itself", field=field
        ) from None


def _plain(value: Any) -> Any:
    kind = type(value)
    if value is None or kind is str or kind is bool or kind is int:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise _Misfit(value, "a finite number")
        return value
    if kind is list or kind is tuple:
        return _plain_list(value)
    if (mapping := as_mapping(value)) is not None:
        return _plain_dict(mapping)
    return _plain_other(value)


def _plain_list(value: Iterable[Any]) -> list[Any]:
    items = []
    for place, item in enumerate(value):
        try:
            items.append(_plain(item))
        except _Misfit as misfit:
            misfit.path = f"[{place}]{misfit.path}"
            raise
    return items


def _plain_dict(value: Mapping[Any, Any]) -> dict[str, Any]:
    items = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise _Misfit(key, "strings for keys")
        try:
            items[str.__str__(key)] = _plain(item)
        except _Misfit as misfit:
            misfit.path = f".{key}{misfit.path}"
            raise
    return items


def _plain_other(value: Any) -> Any:
    """
    Subclasses, enumerations and numpy's scalars as the plain values that they stand for.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return _plain(float(value))
    if isinstance(value, Sequence) and not isinstance(
        value, (bytes, bytearray, memoryview)
    ):
        return _plain_list(value)
    raise _Misfit(value, "something that JSON can hold")


def as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """
    A mapping, or what an attrs or pydantic value says of itself; else None.
    """
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    for name in ("to_dict", "model_dump"):
        if callable(method := getattr(value, name, None)):
            found = method()
            if isinstance(found, Mapping):
                return found
    return None


def json_object(field: str, value: Any) -> dict[str, Any]:
    """
    A mapping, copied at every depth.
    """
    if (mapping := as_mapping(value)) is None:
        refuse(field, value, "a mapping")
    copied: dict[str, Any] = json_value(field, mapping)
    return copied


def object_list(field: str, value: Any) -> tuple[dict[str, Any], ...]:
    """
    A sequence of mappings.
    """
    items = _items(field, value, "a list of mappings")
    return tuple(json_object(f"{field}[{i}]", item) for i, item in enumerate(items))


def _items(field: str, value: Any, expected: str) -> Iterable[Any]:
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(
        value, Iterable
    ):
        refuse(field, value, expected)
    return value


# The fields that have a shape of their own -------------------------------------------


def stop(field: str, value: Any) -> tuple[str, ...]:
    """
    One string or several; a list on the wire, as no document names a bare string.
    """
    if isinstance(value, str):
        return (value,)
    items = _items(field, value, "a string or a list of strings")
    return tuple(text(f"{field}[{place}]", item) for place, item in enumerate(items))


def logit_bias(field: str, value: Any) -> dict[str, float]:
    """
    Token ids to numbers; the ids are strings on the wire.
    """
    if not isinstance(value, Mapping):
        refuse(field, value, "a mapping of token ids to numbers")
    biases = {}
    for key, bias in value.items():
        known = isinstance(key, numbers.Integral) and not isinstance(key, bool)
        if not known and not (isinstance(key, str) and key.strip().isdecimal()):
            raise InvalidRequestError(
                f"{field}: the key {shown(key)} is no token id; expected integers, or"
                " strings of digits",
                field=field,
            )
        biases[str(int(key))] = number(f"{field}.{key}", bias)
    return biases


def tool_choice(field: str, value: Any) -> str | dict[str, Any]:
    """
    A word, or the object that names a function.
    """
    return value if isinstance(value, str) else json_object(field, value)


def prompt(field: str, value: Any) -> str | tuple[Any, ...]:
    """
    A string; or, for servers that take them, several, token ids, or lists of token ids.
    """
    if isinstance(value, str):
        return value
    expected = "a string, or a list of strings or token ids"
    items = tuple(_items(field, value, expected))
    if not items:
        raise InvalidRequestError(f"{field}: the list is empty", field=field)
    if all(isinstance(item, str) for item in items):
        return items
    return tuple(_token_ids(f"{field}[{i}]", one) for i, one in enumerate(items))


def _token_ids(field: str, value: Any) -> int | list[int]:
    token = integer(0)
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [token(f"{field}[{place}]", item) for place, item in enumerate(value)]
    found: int = token(field, value)
    return found


# Messages --------------------------------------------------------------------------


def messages(field: str, value: Any) -> tuple[Message | dict[str, Any], ...]:
    """
    A conversation: at least one message, each a `Message` or a mapping.
    """
    if isinstance(value, str):
        raise InvalidRequestError(
            f"{field}: expected a list of messages, got a string; "
            f"pass [user({shown(value)})]",
            field=field,
        )
    if isinstance(value, Message):
        raise InvalidRequestError(
            f"{field}: expected a list of messages, got one; pass [message]",
            field=field,
        )
    items = _items(field, value, "a list of messages")
    checked = tuple(_message(f"{field}[{i}]", one) for i, one in enumerate(items))
    if not checked:
        raise InvalidRequestError(f"{field}: the list is empty", field=field)
    return checked


def _message(field: str, value: Any) -> Message | dict[str, Any]:
    if isinstance(value, Message):
        return _own_message(field, value)
    if isinstance(value, str) or (mapping := as_mapping(value)) is None:
        refuse(field, value, "a Message or a mapping with a role")
    # openai's values dump every null that they have a field for.
    if mapping is not value:
        mapping = {
            key: item
            for key, item in mapping.items()
            if item is not None or key == "content"
        }
    message: dict[str, Any] = json_value(field, mapping)
    _role(field, message.get("role"))
    _content(f"{field}.content", message.get("content"))
    _said(field, message.get("role"), message.get("content"))
    return message


def _own_message(field: str, value: Message) -> Message:
    _role(field, value.role)
    _said(field, value.role, value.content)
    changes: dict[str, Any] = {}
    if not (value.content is None or isinstance(value.content, str)):
        content = json_value(f"{field}.content", value.content)
        _content(f"{field}.content", content)
        changes["content"] = content
    if value.extra:
        kept = {key: item for key, item in value.extra.items() if item is not None}
        changes["extra"] = json_value(field, kept)
    if value.tool_calls is not None:
        # vLLM answers with an empty list, which OpenAI refuses in a request.
        changes["tool_calls"] = _tool_calls(f"{field}.tool_calls", value.tool_calls)
    return attrs.evolve(value, **changes) if changes else value


def _said(field: str, role: Any, content: Any) -> None:
    # Only a model says nothing: it calls tools.
    if content is None and role in ("system", "developer", "user", "tool"):
        raise InvalidRequestError(
            f"{field}.content: a message of the {role} needs content",
            field=f"{field}.content",
        )


def _tool_calls(field: str, value: Any) -> tuple[Any, ...] | None:
    plain = object_list(field, value := tuple(_items(field, value, "a list of calls")))
    pairs = zip(value, plain, strict=True)
    return (
        tuple(one if isinstance(one, ToolCall) else copy for one, copy in pairs) or None
    )


def _role(field: str, role: Any) -> None:
    if not isinstance(role, str) or not role:
        refuse(f"{field}.role", role, 'a role: "user", "assistant", "system", …')


def _content(field: str, content: Any) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        refuse(field, content, "a string, a list of parts (mappings) or None")
    for place, part in enumerate(content):
        if not isinstance(part, dict):
            refuse(f"{field}[{place}]", part, "a mapping")


# Call options ------------------------------------------------------------------------


_BREAKS: Final = frozenset("\r\n\0")


def headers(field: str, value: Any) -> dict[str, str]:
    """
    Header names and values; the values are masked in every repr, for one may be a key.
    """
    if not isinstance(value, Mapping):
        refuse(field, value, "a mapping of strings")
    checked: dict[str, str] = {}
    for name, item in value.items():
        if not isinstance(name, str) or not name or _BREAKS & set(name):
            refuse(field, name, "header names without line breaks")
        # The value is not shown: it may be a key.
        where = f"{field}.{name}"
        if not isinstance(item, str):
            raise InvalidRequestError(f"{where}: expected a string", field=where)
        if _BREAKS & set(item):
            raise InvalidRequestError(
                f"{where}: a header cannot hold a line break or NUL", field=where
            )
        checked[name] = Secret(item)
    return checked


def query(field: str, value: Any) -> dict[str, str]:
    """
    Names and values of a query string; numbers become text.
    """
    if not isinstance(value, Mapping):
        refuse(field, value, "a mapping of strings")
    checked = {}
    for name, item in value.items():
        if not isinstance(name, str):
            refuse(field, name, "strings for names")
        where = f"{field}.{name}"
        if not isinstance(item, (str, numbers.Real)) or isinstance(item, bool):
            refuse(where, item, "a string or a number")
        checked[name] = item if isinstance(item, str) else str(number(where, item))
    return checked


def extra_body(field: str, value: Any) -> dict[str, Any]:
    """
    Fields of the vendor's own; `stream` is the verb's.
    """
    body = json_object(field, value)
    if "stream" in body:
        raise InvalidRequestError(
            f"{field}.stream: the verb decides: use stream(...) or create(stream=True)",
            field=f"{field}.stream",
        )
    return body
