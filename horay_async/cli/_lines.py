"""
One line of a batch: JSON, or a table's row, to what is asked.
"""

import difflib
import functools
import json

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from .._errors import InvalidRequestError
from .._requests import ChatRequest, CompletionRequest
from ..many import Conversation


Asked = ChatRequest | CompletionRequest | Conversation

# How an OpenAI Batch line names the two calls we have; vendors differ in the prefix.
_CHAT = "/chat/completions"
_COMPLETIONS = "/completions"

_ASKING = ("prompt", "messages", "turns", "body")

_SHAPE = 'expected one JSON object on each line, as in {"prompt": "…"}'

_KNOWN = frozenset(attrs.fields_dict(ChatRequest))

# Data sets carry keys of their own ("category", "reference", "score"), so only what can
# hardly be anything else counts as a misspelt option: "score" is as near as 0.8 to "store".
_MISSPELT = 0.81


# What JSON has beside objects.
_NAMES = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


class BadLine(Exception):
    """
    A line that asks for nothing we could send.
    """

    code = "bad_line"
    """
    What its result line calls it.
    """

    custom_id = ""
    """
    Whose line it was.
    """


Line = bytes | dict[str, Any] | BadLine
"""
A line of JSON; or a table's row: what a line would hold, or what is wrong with it.
"""


# A system message by another name: OpenAI's newer models have "developer".
_SYSTEM = frozenset({"system", "developer"})

# Two names of one bound: servers refuse them together, so a line's own one stands alone.
_BOUNDS = frozenset({"max_tokens", "max_completion_tokens"})


@attrs.frozen(kw_only=True)
class Entry:
    """
    What one line asks for.
    """

    custom_id: str

    steps: tuple[Sequence[Mapping[str, Any]], ...] = ()
    """
    Chat: the messages that each call of the conversation adds; empty for a text completion.
    """

    turns: bool = False
    """
    Whether all answers are wanted, and not only the last.
    """

    instruction: str | None = None
    """
    The system message, for a chat that has none.
    """

    fields: Mapping[str, Any]
    """
    The request's other fields, as the line gives them.
    """

    def request(
        self, options: Mapping[str, Any], instruction: str | None = None
    ) -> Asked:
        """
        What to send, *options* filling in where the line leaves something open.

        Args:
            instruction: A system message, for a chat that has none and says none.

        Raises:
            InvalidRequestError: It cannot be right.
        """
        fields = _filled(self.fields, options)
        if not self.steps:
            return _text_request(fields)
        opening, *follow_ups = self.steps
        if self.instruction is not None:
            instruction = self.instruction
        if instruction is not None and not _has_system(self.steps):
            opening = [{"role": "system", "content": instruction}, *opening]
        request = ChatRequest(messages=opening, **fields)
        return Conversation(request, follow_ups) if self.turns else request


def _filled(own: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    left_out = _BOUNDS if _BOUNDS & own.keys() else ()
    fields = {key: value for key, value in options.items() if key not in left_out}
    fields |= own
    extra = own.get("extra_body")
    if isinstance(extra, dict) and "extra_body" in options:
        fields["extra_body"] = {**options["extra_body"], **extra}
    return fields


def _text_request(fields: dict[str, Any]) -> CompletionRequest:
    if "prompt" not in fields:
        raise InvalidRequestError("body: expected a prompt", field="prompt")
    for key in fields.keys() - attrs.fields_dict(CompletionRequest).keys():
        raise InvalidRequestError(f"a text completion has no {key}", field=key)
    return CompletionRequest(**fields)


def _has_system(steps: Iterable[Iterable[Any]]) -> bool:
    messages = (message for step in steps for message in step)
    return any(isinstance(one, dict) and one.get("role") in _SYSTEM for one in messages)


def requested(
    number: int, line: Line, options: Mapping[str, Any], instruction: str | None
) -> tuple[str, Asked | BadLine | InvalidRequestError]:
    """
    Whose line *number* is, and what it asks for, or why nothing can be asked.
    """
    try:
        entry = read_line(number, line)
    except BadLine as error:
        return error.custom_id, error
    try:
        return entry.custom_id, entry.request(options, instruction)
    except InvalidRequestError as error:
        return entry.custom_id, error


def read_line(number: int, line: Line) -> Entry:
    """
    Understand line *number*, counted from 1.

    Raises:
        BadLine: It is not JSON, or not one of the four shapes.
    """
    if isinstance(line, BadLine):
        raise line
    custom_id = f"line-{number}"
    try:
        data = _checked(_load(line) if isinstance(line, bytes) else line)
        custom_id = _id(data, custom_id)
        return _row(custom_id, data)
    except BadLine as error:
        error.custom_id = custom_id
        raise


def _load(line: bytes) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        if not line.lstrip().startswith(b"{"):
            raise BadLine(f"not JSON: {_SHAPE}") from None
        # Its own words count lines from the beginning of this one.
        raise BadLine(f"not JSON at character {error.pos + 1}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8 at byte {error.start + 1}") from None
    except ValueError as error:  # an integer of thousands of digits
        raise BadLine(f"not JSON that can be read: {error}") from None
    except RecursionError:
        raise BadLine("not JSON that can be read: nested too deeply") from None


def _checked(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise BadLine(f"found {_NAMES[type(data)]}: {_SHAPE}")
    if not isinstance(data.get("custom_id", ""), str):
        raise BadLine("custom_id: expected a string")
    return data


def _id(data: dict[str, Any], otherwise: str) -> str:
    """
    Whose line it is: data sets number theirs as `id` or, MT-Bench, as `question_id`.
    """
    if "custom_id" in data:
        return str(data["custom_id"])
    for key in ("id", "question_id"):
        value = data.get(key)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value) or otherwise
    return otherwise


def _row(custom_id: str, data: dict[str, Any]) -> Entry:
    asking = [key for key in _ASKING if key in data]
    if len(asking) != 1:
        found = " and ".join(asking) or "none of them"
        raise BadLine(f"expected one of prompt, messages, turns or body, found {found}")
    if asking == ["body"]:
        return _batch_row(custom_id, data)
    steps = _steps(asking[0], data[asking[0]])
    for key in data:
        if key not in _KNOWN and key not in _ASKING:
            refuse_misspelt(key, _KNOWN)
    fields = {key: value for key, value in data.items() if key in _KNOWN}
    fields.pop("messages", None)
    system = data.get("system")
    if not isinstance(system, (str, type(None))):
        raise BadLine("system: expected a string")
    return Entry(
        custom_id=custom_id,
        steps=steps,
        turns=asking == ["turns"],
        instruction=system,
        fields=fields,
    )


def refuse_misspelt(key: str, known: frozenset[str]) -> None:
    """
    Refuse a key that is hardly anything else than one of those that are known.

    Raises:
        BadLine: It is.
    """
    if meant := _meant(key.lower().replace("-", "_"), known):
        raise BadLine(f"there is no option {key!r}; did you mean {meant!r}?")


@functools.lru_cache(1024)
def _meant(key: str, known: frozenset[str]) -> str | None:
    # A data set has the same keys in each line, and a look takes as long as all the rest.
    return next(iter(difflib.get_close_matches(key, known, 1, _MISSPELT)), None)


def _steps(key: str, value: Any) -> tuple[list[dict[str, Any]], ...]:
    """
    The messages that each call adds to its conversation.
    """
    if key == "messages":
        if not isinstance(value, list) or not value:
            raise BadLine("messages: expected a list of messages")
        return (value,)
    turns = [value] if key == "prompt" else value
    if not isinstance(turns, list) or not turns:
        raise BadLine("turns: expected a list of strings")
    if not all(isinstance(turn, str) for turn in turns):
        raise BadLine(f"{key}: expected {'a string' if key == 'prompt' else 'strings'}")
    return tuple([{"role": "user", "content": turn}] for turn in turns)


def _batch_row(custom_id: str, data: dict[str, Any]) -> Entry:
    """
    A line of the OpenAI Batch format.
    """
    body = data["body"]
    if not isinstance(body, dict):
        raise BadLine("body: expected a JSON object")
    if (method := data.get("method", "POST")) != "POST":
        raise BadLine(f"method: expected POST, found {method}")
    url = data.get("url", _CHAT)
    # A batch line has one answer, so `stream` could only change how it travels.
    fields = {key: value for key, value in body.items() if key != "stream"}
    if isinstance(url, str) and url.endswith(_CHAT):
        steps = _steps("messages", fields.pop("messages", None))
        return Entry(
            custom_id=custom_id, steps=steps, fields=_sorted_out(fields, ChatRequest)
        )
    if isinstance(url, str) and url.endswith(_COMPLETIONS):
        return Entry(custom_id=custom_id, fields=_sorted_out(fields, CompletionRequest))
    raise BadLine(f"url: expected …{_CHAT} or …{_COMPLETIONS}, found {url}")


def _sorted_out(fields: dict[str, Any], request: type[Any]) -> dict[str, Any]:
    """
    Fields that our builder does not have travel in `extra_body`.
    """
    known = attrs.fields_dict(request)
    extra = {key: value for key, value in fields.items() if key not in known}
    kept = {key: value for key, value in fields.items() if key in known}
    return {**kept, "extra_body": extra} if extra else kept
