"""
Tool calls: which functions an answer calls, and arguments that fit their schemas.
"""

import json
import re

from typing import Any

from ._families import Refusal
from ._writing import Piece


# A schema may refer to itself. What is nested deeper than this is left out, and so is
# what comes after so many values.
_DEPTH = 8
_VALUES = 1000


def choose(values: dict[str, Any]) -> list[dict[str, Any]]:
    """
    The functions that the answer calls, in the order of the call.

    A named function is called. Otherwise those are whose names stand in the user's last
    message, if it is the last of all; where a call is required and none is named, the
    first function offered.
    """
    functions, choice = values["tools"], values["tool_choice"]
    if isinstance(choice, dict):
        chosen = [tool for tool in functions if tool["name"] == choice["name"]]
        if not chosen:
            message = (
                f"tool_choice names {choice['name']}, which is not among the tools"
            )
            raise Refusal(400, message, param="tool_choice")
        return chosen[:1]
    required = choice in {"required", "any"}
    if required and not functions:
        message = f'tool_choice "{choice}" needs tools'
        raise Refusal(400, message, param="tool_choice")
    if choice == "none":
        return []
    chosen = _named(functions, values["messages"][-1])
    if required and not chosen:
        chosen = functions[:1]
    return chosen if values["parallel_tool_calls"] else chosen[:1]


def _named(
    functions: list[dict[str, Any]], message: dict[str, Any]
) -> list[dict[str, Any]]:
    if message["role"] != "user":
        return []
    places: list[tuple[int, dict[str, Any]]] = []
    for function in functions:
        name = rf"(?<![\w-]){re.escape(function['name'])}(?![\w-])"
        if found := re.search(name, message["content"]):
            places.append((found.start(), function))
    return [function for _, function in sorted(places, key=lambda place: place[0])]


def pieces(calls: list[tuple[str, dict[str, Any]]], thinking: str) -> list[Piece]:
    """
    The deltas of some calls, given as ids with functions: each name whole, with the id,
    then the arguments in fragments, white space and all.
    """
    result = [Piece(word) for word in re.findall(r"\s*\S+", thinking)]
    for index, (call_id, function) in enumerate(calls):
        opening = {"name": function["name"], "arguments": ""}
        call = {"index": index, "id": call_id, "type": "function", "function": opening}
        result.append(Piece(call=call))
        arguments = json.dumps(
            example(function.get("parameters") or {"type": "object"}),
            ensure_ascii=False,
        )
        for fragment in re.findall(r"\s+|\w+|[^\w\s]+", arguments):
            delta = {"index": index, "function": {"arguments": fragment}}
            result.append(Piece(call=delta))
    return result


def merge(calls: dict[int, dict[str, Any]], delta: dict[str, Any]) -> None:
    """
    Add a delta to the calls of a whole answer.
    """
    fragment = delta["function"]
    if "id" in delta:
        function = {"name": fragment["name"], "arguments": ""}
        call = {"id": delta["id"], "type": "function", "function": function}
        calls[delta["index"]] = call
    calls[delta["index"]]["function"]["arguments"] += fragment["arguments"]


def example(schema: Any, name: str = "value") -> Any:
    """
    A value that fits a JSON schema; always the same for the same schema.

    It knows the words that describe functions (types, enum, const, default, required,
    ranges and sizes, local references, the first of anyOf and its kin), not the others.
    """
    return _Example(schema).of(schema, name, 0)


class _Example:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = _VALUES

    def of(self, schema: Any, name: str, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, dict) or depth > _DEPTH or self._left < 0:
            return None
        other = self._elsewhere(schema)
        if other is not None:
            return self.of(other, name, depth + 1)
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        given = [schema[word] for word in ("const", "default") if word in schema]
        return given[0] if given else self._typed(schema, name, depth)

    def _elsewhere(self, schema: dict[str, Any]) -> Any:
        """
        The schema that stands in for this one, if one does.
        """
        if isinstance(schema.get("$ref"), str):
            return self._resolve(schema["$ref"])
        for word in ("anyOf", "oneOf", "allOf"):
            if isinstance(schema.get(word), list) and schema[word]:
                return schema[word][0]
        return None

    def _typed(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = kind[0] if kind else "null"
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            items = [
                self.of(schema.get("items", {"type": "string"}), name, depth + 1)
                for _ in range(_size(schema, "minItems", 1))
            ]
            return items[: _size(schema, "maxItems", len(items))]
        if kind == "string":
            text = name.ljust(_size(schema, "minLength", 0), "x")
            return text[: _size(schema, "maxLength", len(text))]
        if kind in {"integer", "number"}:
            return _number(schema, whole=kind == "integer")
        return True if kind == "boolean" else None

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            properties = {}
        required = schema.get("required")
        names = dict.fromkeys(properties)
        if depth >= _DEPTH // 2:  # a schema that refers to itself: only what must be
            names = {}
        if isinstance(required, list):
            names |= dict.fromkeys(item for item in required if isinstance(item, str))
        return {
            name: self.of(properties.get(name, {"type": "string"}), name, depth + 1)
            for name in names
        }

    def _resolve(self, reference: str) -> Any:
        found = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        return found


def _size(schema: dict[str, Any], word: str, otherwise: int) -> int:
    size = schema.get(word, otherwise)
    # A ceiling: nobody wants a million items for an example.
    return min(size, 1000) if isinstance(size, int) and size >= 0 else otherwise


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    step = 1 if whole else 0.5
    value: Any = schema.get("minimum")
    if not isinstance(value, (int, float)):
        above = schema.get("exclusiveMinimum")
        value = above + step if isinstance(above, (int, float)) else step
    highest = schema.get("maximum", value)
    if isinstance(highest, (int, float)) and highest < value:
        value = highest
    return int(value) if whole else value
