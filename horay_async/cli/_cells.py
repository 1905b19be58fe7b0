"""
One row of a table to what a JSON line would be: text and typed cells to a request's fields.
"""

import json
import math

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import attrs

from .._fields import COUNT, INTEGER, MODEL, SIZE, TEXT
from .._requests import ChatRequest
from ._lines import BadLine


IDS = ("custom_id", "id", "question_id")
"""
The columns that say whose a row is; of several the first.
"""

ASKING = ("prompt", "messages", "turns", "body")
"""
The columns of which each row needs one.
"""

_FIELDS = attrs.fields_dict(ChatRequest)

OPTIONS = frozenset(_FIELDS) - {"messages"}
"""
The columns that are options of a request.
"""


def _checked_by(*metadata: Mapping[str, Any]) -> frozenset[str]:
    checks = [one["check"] for one in metadata]
    return frozenset(
        name for name, field in _FIELDS.items() if field.metadata["check"] in checks
    )


# Cells of text: "007" and "null" stand for themselves.
_TEXTS = _checked_by(TEXT, MODEL) | {"prompt", "system", "method", "url"}

# pandas writes whole numbers as 256.0 as soon as one of them is missing.
_INTEGERS = _checked_by(INTEGER, SIZE, COUNT)

# A text, or JSON: only what begins like a list or an object is.
_EITHER = frozenset({"stop", "tool_choice"})

_JSON = frozenset({"messages", "turns", "body"})


def row_of(number: int, cells: Iterable[tuple[str, Any]]) -> dict[str, Any] | BadLine:
    """
    What row *number* would be as a JSON line, its `custom_id` included, or what is wrong
    with it.

    What a cell leaves empty is not said; what cannot be an option's value stays as it is,
    for the request to refuse.
    """
    custom_id = f"row-{number}"
    said = [(name, cell) for name, cell in cells if not _is_empty(cell)]
    own = {name: cell for name, cell in said if name in IDS}
    data: dict[str, Any] = {}
    try:
        custom_id = _id(own) or custom_id
        for name, cell in said:
            if name not in IDS:
                data[name] = _value(name, cell)
    except BadLine as error:
        error.custom_id = custom_id
        # Nobody raises it here, and its traceback would keep this frame.
        return error.with_traceback(None)
    return {"custom_id": custom_id, **data}


def _is_empty(cell: Any) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def _id(own: Mapping[str, Any]) -> str | None:
    for name in IDS:
        if name in own:
            cell = _text(name, own[name])
            return str(int(cell) if _is_whole(cell) else cell)
    return None


def _value(name: str, cell: Any) -> Any:
    cell = _text(name, cell)
    if name in _TEXTS:
        return cell
    cell = _parsed(name, cell) if isinstance(cell, str) else _plain(cell)
    return int(cell) if name in _INTEGERS and _is_whole(cell) else cell


def _text(name: str, cell: Any) -> Any:
    """
    Some writers of Parquet do not mark texts as such.
    """
    if not isinstance(cell, bytes):
        return cell
    try:
        return cell.decode()
    except UnicodeDecodeError as error:
        raise BadLine(f"{name}: not UTF-8 at byte {error.start + 1}") from None


def _is_whole(cell: Any) -> bool:
    return isinstance(cell, (float, Decimal)) and cell % 1 == 0


def _parsed(name: str, cell: str) -> Any:
    bare = cell.strip()
    if name in _EITHER and not bare.startswith(("[", "{")):
        return cell
    if bare in ("TRUE", "FALSE"):  # spreadsheets shout
        return bare == "TRUE"
    try:
        return json.loads(cell)
    except json.JSONDecodeError as error:
        if name in _JSON:
            raise BadLine(
                f"{name}: not JSON at character {error.pos + 1}: {error.msg}"
            ) from None
    except (ValueError, RecursionError):
        if name in _JSON:
            raise BadLine(f"{name}: not JSON that can be read") from None
    return cell


def _plain(value: Any) -> Any:
    """
    What Parquet has and JSON has not.

    All objects of a column have the same keys there, null where somebody said nothing. Only
    a message's `content` may be meant so.
    """
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {
            key: _plain(one)
            for key, one in value.items()
            if one is not None or key == "content"
        }
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
