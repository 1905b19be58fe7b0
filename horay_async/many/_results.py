"""
A row as a line of a file: OpenAI's Batch output, with one key of ours; and a line, read.
"""

from __future__ import annotations

import hashlib
import json
import os

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from .._codec import pack
from .._errors import (
    APIError,
    APIStatusError,
    InvalidRequestError,
)
from .._replies import ChatReply, CompletionReply
from .._requests import ChatRequest, CompletionRequest
from .._values import Outcome
from ._faults import never_answered
from ._index import UNKNOWN, Claim, Entry, Kept
from ._rows import Conversation, Row, Turn


_SAID: Final = (Outcome.FINISHED, Outcome.FAILED)
"""
What *error* says already.
"""


# Out ---------------------------------------------------------------------------------


def result_line(row: Row[Any], *, claim: Claim | None = None) -> bytes:
    """
    What became of a row, as a line of JSON; its newline included.

    *response* is the last answer, or the refusal; *error* is not null if the row was not
    answered to its end. A conversation has all its answers in *turns*. What an OpenAI Batch
    line has no place for is in *horay*; with *claim* also what a journal needs.
    """
    error = row.error
    bodies = [reply.to_dict() for reply in row.replies]
    line: dict[str, Any] = {
        "id": f"batch_req_{os.urandom(16).hex()}",
        "custom_id": row.id,
        "response": None,
        "error": None,
    }
    if error is None:
        line["response"] = _answer(row.replies[-1], bodies[-1])
    else:
        line["response"] = _refusal(error)
        line["error"] = {"code": _code(error), "message": str(error)}
    if isinstance(row.request, Conversation):
        line["turns"] = bodies
    line["horay"] = _ours(row, claim)
    return _json(line) + b"\n"


def _answer(reply: ChatReply | CompletionReply, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "status_code": reply.meta.status,
        "request_id": reply.meta.request_id,
        "body": body,
    }


def _refusal(error: Exception) -> dict[str, Any] | None:
    if not isinstance(error, APIStatusError):
        return None
    names = ("message", "type", "param", "code")
    return {
        "status_code": error.status_code,
        "request_id": error.request_id,
        "body": {"error": {name: getattr(error, name) for name in names}},
    }


def _code(error: Exception) -> str:
    return str(getattr(error, "code", None) or type(error).__name__)


def _ours(row: Row[Any], claim: Claim | None) -> dict[str, Any]:
    ours: dict[str, Any] = {"index": row.index}
    if claim is not None:
        ours["hash"] = claim.digest.hex()
        if claim.nth:
            ours["nth"] = claim.nth
    ours["attempts"] = row.attempts
    if row.seconds is not None:
        ours["seconds"] = round(row.seconds, 4)
    if row.first_token is not None:
        ours["first_token"] = round(row.first_token, 4)
    if counts := _estimate(row):
        ours["estimate"] = counts
    if row.outcome not in _SAID:
        ours["outcome"] = row.outcome
    if row.error is not None:
        if row.outcome is Outcome.CANCELLED or never_answered(row.error):
            ours["cut_off"] = True
        if partial := _partial(row.error):
            ours["partial"] = partial
    return ours


def _estimate(row: Row[Any]) -> dict[str, int]:
    """
    What a row's answers cost, as far as the server did not say so.
    """
    usages = [one.usage for one in row.replies if one.usage.source == "estimated"]
    if not usages:
        return {}
    return {
        "prompt_tokens": sum(one.prompt_tokens for one in usages),
        "completion_tokens": sum(one.completion_tokens for one in usages),
    }


def _partial(error: Exception) -> str | list[str]:
    """
    The text that had come; of several choices a list.
    """
    if not isinstance(error, APIError):
        return ""
    texts = [choice.text for choice in error.partial.choices]
    return texts if len(texts) > 1 and any(texts) else "".join(texts)


def _json(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line)
    except TypeError:
        # orjson refuses half a surrogate pair and very long integers; servers send both.
        return json.dumps(line).encode()


# In ----------------------------------------------------------------------------------


def read_result(line: bytes) -> Entry | None:
    """
    What a line says of its row; None if it is no line of an OpenAI Batch output.

    Raises:
        ValueError: It is not JSON.
    """
    data = _load(line)
    if not isinstance(data, dict) or not {"response", "error"} <= data.keys():
        return None
    custom_id, ours = data.get("custom_id"), data.get("horay")
    if not isinstance(custom_id, str):
        return None
    state = _state(data)
    if not isinstance(ours, dict):
        return Entry(custom_id, state)
    if state == "failed" and ours.get("cut_off") is True:
        state = "again"
    partial = state != "answered" and bool(data.get("turns") or ours.get("partial"))
    nth = ours.get("nth", 0)
    if not isinstance(nth, int):
        nth = None
    return Entry(custom_id, state, _digest(ours.get("hash")), nth, partial)


def _load(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        try:
            return json.loads(line)
        except RecursionError:
            msg = "nested too deeply"
            raise ValueError(msg) from None


def _state(data: dict[str, Any]) -> Kept:
    response = data["response"]
    if data["error"] is not None or not isinstance(response, dict):
        return "failed"
    # OpenAI's file of errors has its refusals as responses alone.
    status = response.get("status_code")
    return "failed" if isinstance(status, int) and status >= 400 else "answered"


def _digest(value: Any) -> bytes:
    try:
        digest = bytes.fromhex(value)
    except (TypeError, ValueError):
        return UNKNOWN
    return digest if len(digest) == len(UNKNOWN) else UNKNOWN


# Which request it was ----------------------------------------------------------------


def digest_of(item: Any) -> bytes:
    """
    8 bytes that tell one request from another, by what is sent of it.

    Args:
        item: A request that was bound to its service, or a conversation whose opening was;
            of what cannot be asked the error that says so, or itself.
    """
    said = [type(item).__name__.encode()]
    turns: Sequence[Turn] = ()
    if isinstance(item, Conversation):
        item, turns = item.opening, item.turns
    try:
        said.append(
            pack(item, stream=False)
            if isinstance(item, (ChatRequest, CompletionRequest))
            else _bytes(str(item))
        )
    except InvalidRequestError as error:
        said.append(_bytes(str(error)))
    said += (_packed(turn) for turn in turns)
    return hashlib.blake2b(b"\n".join(said), digest_size=len(UNKNOWN)).digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _packed(turn: Turn) -> bytes:
    said = [one if isinstance(one, Mapping) else one.to_dict() for one in turn]
    return _json({"messages": said})
