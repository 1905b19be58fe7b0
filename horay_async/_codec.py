"""
Requests to bytes; bytes to JSON; JSON to replies, chunks and errors.

orjson does the work, and the standard library's `json` gives a second opinion where orjson
refuses what servers do send: half a UTF-16 pair, NaN, a number of thousands of digits.
cattrs makes the values, one generated function a class.
"""

from __future__ import annotations

import contextlib
import json

from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs
import orjson

from cattrs.fns import identity
from cattrs.gen import make_dict_unstructure_fn, override

from ._checks import shown
from ._errors import APIResponseValidationError, InvalidRequestError
from ._fields import Request
from ._refusals import ErrorFacts, error_in, facts_of, facts_of_text, status_error_of
from ._replies import (
    ChatChunk,
    ChatReply,
    CompletionChunk,
    CompletionReply,
    ImageReply,
    ModelList,
    UserInfo,
)
from ._requests import ChatRequest, CompletionRequest, ImageRequest
from ._sse import SSEDecoder
from ._structure import converter, structure, usage_of
from ._structure import warm as warm_replies
from ._values import Message, Meta
from ._wire import JsonObject


__all__ = [
    "BODY_LIMIT",
    "MAX_NESTING",
    "ErrorFacts",
    "NestingError",
    "chat_chunk",
    "chat_reply",
    "check_nesting",
    "completion_chunk",
    "completion_reply",
    "describe",
    "error_in",
    "image_reply",
    "loads",
    "model_list",
    "pack",
    "says_something",
    "status_error_of",
    "usage_of",
    "user_info",
    "warm",
    "whole",
]

W = TypeVar("W", bound=JsonObject)

BODY_LIMIT: Final = 64 << 20
"""
Bytes of a plain answer, decompressed: far above any honest one.
"""

MAX_NESTING: Final = 100
"""
Levels of JSON. No answer needs ten; what is deeper than some hundred could be read, but not
pickled, copied or printed.
"""

# Out -------------------------------------------------------------------------------


def pack(request: Request, *, stream: bool) -> bytes:
    """
    The JSON body of a request that was bound to its service.

    Raises:
        InvalidRequestError: Some text or number in it cannot stand in JSON.
    """
    body: dict[str, Any] = converter.get_unstructure_hook(type(request))(request)
    if stream:
        body["stream"] = True
    else:
        body.pop("stream_options", None)
    if request.extra_body:
        body.update(request.extra_body)
    try:
        return orjson.dumps(body)
    except TypeError:
        return _second_dump(body)


@converter.register_unstructure_hook_factory(
    lambda kind: isinstance(kind, type) and issubclass(kind, Request)
)
def _packer(kind: type[Any]) -> Callable[[Any], dict[str, Any]]:
    # Values were checked and copied when the request was built: they go out as they are.
    hooks = {}
    for field in attrs.fields(kind):
        on_wire = field.metadata.get("wire", True)
        hook = _messages if field.name == "messages" else identity
        hooks[field.name] = override(omit=not on_wire, unstruct_hook=hook)
    return make_dict_unstructure_fn(
        kind,
        converter,
        _cattrs_omit_if_default=True,
        _cattrs_use_linecache=False,
        **hooks,  # type: ignore[arg-type]  # cattrs' own way, which it types otherwise
    )


def _messages(messages: tuple[Message | dict[str, Any], ...]) -> list[dict[str, Any]]:
    return [one if isinstance(one, dict) else one.to_dict() for one in messages]


def _second_dump(body: dict[str, Any]) -> bytes:
    """
    The body as the standard library writes it: numbers of any length, any depth.
    """
    try:
        text = json.dumps(
            body, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
    except (RecursionError, TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"the request cannot be sent as JSON: {error}"
        ) from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        field = _unencodable(body)
        raise InvalidRequestError(
            f"{field}: the text holds half a UTF-16 pair (a lone surrogate), which "
            "cannot be sent; nothing was sent",
            field=field,
        ) from None


def _unencodable(value: Any, path: str = "") -> str:
    """
    Where the text stands that cannot be encoded; "" if nowhere.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return path or "the request"
        return ""
    items: Any = ()
    if isinstance(value, dict):
        items = ((f"{path}.{key}" if path else str(key), value[key]) for key in value)
        for key in value:
            if _unencodable(key):
                return f"{path}: a key" if path else "a key"
    elif isinstance(value, (list, tuple)):
        items = ((f"{path}[{index}]", item) for index, item in enumerate(value))
    for where, item in items:
        if found := _unencodable(item, where):
            return found
    return ""


# In --------------------------------------------------------------------------------


def loads(data: bytes | bytearray, *, halves: bool = False) -> Any:
    """
    Read JSON, also such as only lenient readers take.

    An integer of thousands of digits stays a string. Bytes that are not UTF-8 become U+FFFD.

    Args:
        halves: Leave a half of a UTF-16 pair in a string, as the other may come in the next
            event; else it becomes U+FFFD, for it could not be printed.

    Raises:
        ValueError: It is not JSON, or nested deeper than `MAX_NESTING`.
    """
    try:
        value = orjson.loads(data)
    except ValueError:
        value = _second_load(data)
        check_nesting(data, value)
        return value if halves else _encodable(value)
    check_nesting(data, value)
    return value


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else whole(value)
    if isinstance(value, list):
        return [_encodable(one) for one in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    return value


def whole(text: str) -> str:
    """
    The text with its UTF-16 pairs joined; a half without its other becomes U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


_SMALL: Final = 4 * MAX_NESTING


def check_nesting(data: bytes | bytearray, value: Any) -> None:
    """
    Look how deep the value of some JSON goes.

    Raises:
        NestingError: Deeper than `MAX_NESTING`, or than twice that in a few hundred bytes.
    """
    # Nearly all JSON has too few brackets to be deep. A token's is not even asked: what goes
    # into so few bytes is bearable, and counting would cost a fifth of all that it costs.
    if len(data) < _SMALL or data.count(b"{") + data.count(b"[") <= MAX_NESTING:
        return
    level = [value]
    for _ in range(MAX_NESTING):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise NestingError


class NestingError(ValueError):
    """
    JSON that is nested too deeply.
    """

    def __init__(self) -> None:
        super().__init__(f"the JSON is nested deeper than {MAX_NESTING} levels")


def _second_load(data: bytes | bytearray) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig", "replace"), parse_int=_integer)
    except RecursionError:
        raise NestingError from None


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:  # beyond sys.set_int_max_str_digits
        return digits


_LONGEST_STREAMED: Final = 1 << 20


def describe(content: bytes, *, status: int, content_type: str = "") -> ErrorFacts:
    """
    What the body of a refusal says, whatever it is. Never raises.
    """
    try:
        body = loads(content)
    except ValueError:
        text = content.decode("utf-8", "replace")
        if text.lstrip().startswith(("data:", "event:")):
            # Some servers refuse a stream with a stream.
            for event in SSEDecoder().feed(content[:_LONGEST_STREAMED] + b"\n\n"):
                with contextlib.suppress(ValueError):
                    return facts_of(loads(event.data), status=status)
        return facts_of_text(text, content_type=content_type, status=status)
    return facts_of(body, status=status)


# Values ----------------------------------------------------------------------------


def chat_reply(obj: Any, meta: Meta) -> ChatReply:
    """
    The answer to a plain chat call.

    Raises:
        APIResponseValidationError: It is none; the message names the place.
    """
    return _answer(ChatReply, obj, meta)


def completion_reply(obj: Any, meta: Meta) -> CompletionReply:
    """
    The answer to a plain text completion.

    Raises:
        APIResponseValidationError: It is none; the message names the place.
    """
    return _answer(CompletionReply, obj, meta)


def _answer(kind: type[W], obj: Any, meta: Meta) -> W:
    if isinstance(obj, dict):
        choices = obj.get("choices")
        if not choices:
            raise _no_answer("choices", obj, meta)
        if not says_something(choices):
            raise _no_answer("a message or a text in its choices", obj, meta)
        if isinstance(choices, list):
            as_asked = _with_message if kind is ChatReply else _with_text
            obj = {**obj, "choices": [as_asked(one) for one in choices]}
    return structure(kind, obj, meta=meta)


def says_something(choices: Any) -> bool:
    """
    Whether there is anything that could be an answer; whether it can be read is not asked.
    """
    if not isinstance(choices, list):
        return bool(choices)
    return any(
        not isinstance(one, dict)
        or any(one.get(name) is not None for name in ("message", "delta", "text"))
        for one in choices
    )


def _with_message(choice: Any) -> Any:
    """
    A chat's choice; some servers answer a chat as they would continue a text.
    """
    if not isinstance(choice, dict) or choice.get("message") is not None:
        return choice
    text = choice.get("text")
    if not isinstance(text, str):
        return choice
    return {**choice, "message": {"role": "assistant", "content": text}}


def _with_text(choice: Any) -> Any:
    """
    A text's choice; some servers answer as they would a chat.
    """
    if not isinstance(choice, dict) or choice.get("text") is not None:
        return choice
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    return {**choice, "text": text} if isinstance(text, str) else choice


def chat_chunk(obj: Any) -> ChatChunk:
    """
    One event of a chat's stream.

    Raises:
        APIResponseValidationError: It is none; the message names the place.
    """
    return structure(ChatChunk, obj)


def completion_chunk(obj: Any) -> CompletionChunk:
    """
    One event of a text completion's stream.

    Raises:
        APIResponseValidationError: It is none; the message names the place.
    """
    return structure(CompletionChunk, obj)


def model_list(obj: Any, meta: Meta | None = None) -> ModelList:
    """
    The models of a service; some servers send the bare list.

    Raises:
        APIResponseValidationError: It is none; the message names the place.
    """
    body = {"object": "list", "data": obj} if isinstance(obj, list) else obj
    return structure(ModelList, body, meta=meta or Meta())


def image_reply(obj: Any, meta: Meta | None = None) -> ImageReply:
    """
    The pictures that were made; OpenAI-like servers call them `data`.

    Raises:
        APIResponseValidationError: It is none; the message names the place.
    """
    if isinstance(obj, dict) and obj.get("images") is None:
        if obj.get("data") is None:
            raise _no_answer("images", obj, meta)
        obj = {**obj, "images": obj["data"]}
    return structure(ImageReply, obj, meta=meta or Meta())


def user_info(obj: Any, meta: Meta | None = None) -> UserInfo:
    """
    Horay's account, out of its envelope.

    Raises:
        APIResponseValidationError: It is none; the message names the place.
    """
    envelope: dict[str, Any] = {}
    if isinstance(obj, dict) and "data" in obj:
        if not isinstance(obj["data"], dict):
            raise _no_answer("data", obj, meta)
        envelope = {key: obj[key] for key in obj if key != "data"}
        obj = obj["data"]
    return structure(UserInfo, obj, meta=meta or Meta(), envelope=envelope)


def _no_answer(missing: str, obj: Any, meta: Meta | None) -> APIResponseValidationError:
    return APIResponseValidationError(
        f"the server sent {shown(obj)}, expected an answer with {missing}",
        body=obj,
        meta=meta,
    )


def warm() -> None:
    """
    Generate all code now that the first call would otherwise wait for.
    """
    warm_replies()
    for request in (ChatRequest, CompletionRequest, ImageRequest):
        converter.get_unstructure_hook(request)
