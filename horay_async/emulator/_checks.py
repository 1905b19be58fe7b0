"""
The parameters of each endpoint: their types, ranges and defaults, as a strict server's.
"""

import math

from collections.abc import Callable
from typing import Any

from ._families import Refusal


Check = Callable[[Any], Any]
"""Returns the value as the rest wants it, or raises Unfit with what was expected."""

Fields = dict[str, tuple[Check, Any]]
"""
For each parameter its check and its default.

A default of ... is none: the parameter is required. A null counts as left out.
"""

_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}


class Unfit(Exception):
    """
    A value is not what it must be; the message says what that is.
    """


def read(body: Any, fields: Fields) -> dict[str, Any]:
    """
    Check a request's parameters and fill in the defaults.

    Parameters without a check pass unseen: these services hand on what they do not know.
    """
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be a JSON object")
    values: dict[str, Any] = {}
    for name, (check, default) in fields.items():
        value = body.get(name)
        if value is None:
            if default is ...:
                raise Refusal(400, f"{name} is required", param=name)
            values[name] = default
            continue
        try:
            values[name] = check(value)
        except Unfit as unfit:
            raise Refusal(400, f"{name} must be {unfit}", param=name) from None
    return values


def number(low: float, high: float = math.inf, *, above: bool = False) -> Check:
    """
    A number in a range, both ends included; *above* leaves out the lower one.
    """
    wanted = f"a number {'above' if above else 'from'} {low:g}"
    if high != math.inf:
        wanted += f" to {high:g}"

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Unfit(wanted)
        if not low <= value <= high or value == math.inf or (above and value == low):
            raise Unfit(wanted)
        return float(value)

    return check


def integer(low: int, high: float = math.inf) -> Check:
    wanted = f"an integer from {low}" + (f" to {high:.0f}" if high != math.inf else "")

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit(wanted)
        if not low <= value <= high:
            raise Unfit(wanted)
        return value

    return check


def whole(low: int) -> Check:
    """
    An integer that the document calls a number: 50.0 is one, too.
    """

    def check(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return int(integer(low)(value))

    return check


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit("a boolean")
    return value


def string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Unfit("a string that is not empty")
    return value


def one_of(*allowed: str) -> Check:
    def check(value: Any) -> str:
        if value not in allowed:
            raise Unfit(f"one of {', '.join(allowed)}")
        return str(value)

    return check


def stops(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise Unfit("a string or an array of strings")
    if not all(isinstance(item, str) and item for item in values):
        raise Unfit("a string or an array of strings, none of them empty")
    return tuple(values)


def bias(value: Any) -> dict[int, float]:
    wanted = "an object of token ids with numbers from -100 to 100"
    if not isinstance(value, dict):
        raise Unfit(wanted)
    check = number(-100, 100)
    try:
        return {int(token): check(amount) for token, amount in value.items()}
    except (ValueError, Unfit):
        raise Unfit(wanted) from None


def stream_options(value: Any) -> bool:
    """
    Whether usage is wanted.
    """
    wanted = "an object with a boolean include_usage"
    if not isinstance(value, dict):
        raise Unfit(wanted)
    if not isinstance(value.get("include_usage", False), bool):
        raise Unfit(wanted)
    return bool(value.get("include_usage", False))


def response_format(value: Any) -> dict[str, Any] | None:
    """
    The schema that the answer must fit; None where it may be any text.
    """
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {}
    if kind != "json_schema":
        raise Unfit("an object of type text, json_object or json_schema")
    named = value.get("json_schema")
    named = named if isinstance(named, dict) else {}
    schema = named.get("schema", {})
    if not isinstance(schema, dict) or not isinstance(named.get("name"), str):
        raise Unfit("given with a json_schema that has a name and a schema")
    return schema


def prompts(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise Unfit("a string or an array of strings")
    if not all(isinstance(item, str) for item in values):
        raise Unfit("a string or an array of strings")
    return values


def tools(value: Any) -> list[dict[str, Any]]:
    """
    The functions offered.
    """
    wanted = "an array of at most 128 functions, each with a name"
    if not isinstance(value, list) or len(value) > 128:
        raise Unfit(wanted)
    functions = []
    for tool in value:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            raise Unfit(wanted)
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise Unfit(wanted)
        if not isinstance(function.get("parameters") or {}, dict):
            raise Unfit("an array of functions whose parameters are objects")
        functions.append(function)
    return functions


def tool_choice(value: Any) -> str | dict[str, str]:
    """
    One of the words, or the function that is named.
    """
    if value in ("auto", "none", "required", "any"):
        return str(value)
    function = value.get("function") if isinstance(value, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return {"name": function["name"]}
    raise Unfit('"auto", "none", "required", "any" or a named function')


def messages(value: Any) -> list[dict[str, Any]]:
    """
    Messages with their content as text.
    """
    if not isinstance(value, list) or not value:
        raise Unfit("an array of messages that is not empty")
    return [_message(number, message) for number, message in enumerate(value)]


def _message(number: int, message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise Unfit(f"an array of objects; number {number} is not one")
    if message.get("role") not in _ROLES:
        raise Unfit(f"an array of messages with a known role; number {number}'s is not")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part(number, part) for part in content)
    if content is None and message.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise Unfit(f"an array of messages with content; number {number} has none")
    return message | {"content": content}


def _part(number: int, part: Any) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise Unfit(f"made of parts with a type; message {number} has another")
    text = part.get("text", "")
    if not isinstance(text, str):
        raise Unfit(f"made of parts whose text is a string; message {number}'s is not")
    return text


_COMMON: Fields = {
    "n": (integer(1, 128), 1),
    "stream": (boolean, False),
    "stream_options": (stream_options, False),
    "stop": (stops, ()),
    "presence_penalty": (number(-2, 2), 0.0),
    "repetition_penalty": (number(0, above=True), 1.0),
    "min_p": (number(0, 1), 0.0),
    "seed": (integer(-(2**63), 2**63 - 1), None),
    "logit_bias": (bias, {}),
    "ignore_eos": (boolean, False),
}

_CHAT: Fields = _COMMON | {
    "messages": (messages, ...),
    "max_completion_tokens": (integer(1), None),
    "logprobs": (boolean, False),
    "top_logprobs": (integer(0, 20), 0),
    "response_format": (response_format, None),
    "tools": (tools, []),
    "tool_choice": (tool_choice, "auto"),
    "parallel_tool_calls": (boolean, True),
    "include_thinking": (boolean, False),
}

_DEFAULT_MODEL = "meta-llama/Meta-Llama-3.1-8B-Instruct"

HORAY_CHAT: Fields = _CHAT | {
    "model": (string, _DEFAULT_MODEL),
    "max_tokens": (integer(1, 4096), None),
    "temperature": (number(0, 2), 0.7),
    "top_p": (number(0, 1, above=True), 0.7),
    "top_k": (whole(-1), 50),
    "frequency_penalty": (number(-2, 2), 0.5),
}
"""Horay, POST /chat/completions. It documents no range for temperature and top_p."""

HORAY_TEXT: Fields = _COMMON | {
    "model": (string, _DEFAULT_MODEL),
    "prompt": (prompts, ...),
    "max_tokens": (integer(1), None),
    "temperature": (number(0, 1), 1.0),
    "top_p": (number(0, 1, above=True), 1.0),
    "top_k": (integer(-1), 0),
    "frequency_penalty": (number(-2, 2), 0.0),
    "logprobs": (integer(0, 20), None),
    "echo": (boolean, False),
}
"""Horay, POST /completions. It documents no defaults; these change nothing."""

EMPOWER_CHAT: Fields = _CHAT | {
    "model": (string, ...),
    "max_tokens": (integer(1), None),
    "temperature": (number(0, 2), 1.0),
    "top_p": (number(0, 1, above=True), 1.0),
    "top_k": (whole(-1), 0),
    "frequency_penalty": (number(-2, 2), 0.0),
}
"""Empower, POST /chat/completions."""

HORAY_IMAGE: Fields = {
    "model": (string, ...),
    "prompt": (string, ...),
    "image_size": (
        one_of("1024x1024", "1536x1536", "768x512", "768x1024", "1024x576", "576x1024"),
        ...,
    ),
    "seed": (integer(0, 9999999999), None),
}
"""Horay, POST /image/generations."""
