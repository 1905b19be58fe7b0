"""
What faults are made of: the bytes of a right answer, whole and in parts.

All right answers say "one two three": a stream in three pieces, of choice 0.
"""

from typing import Any

from .. import _wire
from .._report import Request
from .._script import Answer


PIECES = ("one", " two", " three")

TEXT = "".join(PIECES)

DONE = b"data: [DONE]\n\n"

STREAM_TYPE = "text/event-stream; charset=utf-8"

JSON_TYPE = "application/json"

PAUSE = 0.05
"""
Seconds between the last bytes and the break of a connection.

So long that a client has read the bytes before it hears of the break: some drop what
they have not read when a reset comes.
"""


def is_text(request: Request) -> bool:
    """
    Whether the request is one for completions, whose answers have a shape of their own.
    """
    return request.path.endswith("/completions") and not _is_chat(request)


def _is_chat(request: Request) -> bool:
    return request.path.endswith("/chat/completions")


def chunk(
    request: Request,
    piece: str | None = None,
    finish: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    One chunk of a stream, in the shape the path wants; no *piece* is an empty delta.

    *more* are fields of the chunk, in addition or in the place of its own.
    """
    choice: dict[str, Any] = {"index": 0}
    if is_text(request):
        choice["text"] = piece or ""
    else:
        choice["delta"] = {} if piece is None else {"content": piece}
    choice["finish_reason"] = finish
    kind = "text_completion" if is_text(request) else "chat.completion.chunk"
    return _frame(request, kind, choice) | more


def reply(request: Request, text: str = TEXT, **more: Any) -> dict[str, Any]:
    """
    A whole reply, in the shape the path wants.
    """
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    if is_text(request):
        choice["text"] = text
    else:
        choice["message"] = {"role": "assistant", "content": text}
    kind = "text_completion" if is_text(request) else "chat.completion"
    usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    return _frame(request, kind, choice) | {"usage": usage} | more


def _frame(request: Request, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    model = request.json.get("model") if isinstance(request.json, dict) else None
    return {
        "id": "cmpl-fault" if is_text(request) else "chatcmpl-fault",
        "object": kind,
        "created": 1_700_000_000,
        "model": model if isinstance(model, str) else "fault",
        "choices": [choice],
    }


def event(value: Any) -> bytes:
    """
    One event whose data is *value* as JSON.
    """
    return _wire.event(_wire.dump(value))


def piece(request: Request, text: str) -> bytes:
    """
    The event that brings one more piece of the text.
    """
    return event(chunk(request, text))


def start(request: Request) -> list[bytes]:
    """
    The events of a stream up to its third piece: a role where there is one, the pieces.
    """
    events = [piece(request, text) for text in PIECES]
    if not is_text(request):
        role = chunk(request)
        role["choices"][0]["delta"] = {"role": "assistant", "content": ""}
        events.insert(0, event(role))
    return events


def finish(request: Request, reason: str = "stop") -> bytes:
    """
    The event that brings the finish reason.
    """
    return event(chunk(request, finish=reason))


def stream(request: Request) -> list[bytes]:
    """
    All events of a right stream.
    """
    return [*start(request), finish(request), DONE]


def whole(request: Request) -> bytes:
    """
    The JSON of a right plain answer.
    """
    return _wire.dump(reply(request))


def halves(request: Request) -> tuple[bytes, bytes]:
    """
    The JSON of a right plain answer, cut within its text: "one tw" and "o three".
    """
    data = whole(request)
    cut = data.index(TEXT.encode()) + len("one tw")
    return data[:cut], data[cut:]


def begun(request: Request) -> list[bytes]:
    """
    Half the body of an answer: a stream's first three pieces, or a plain one's half.
    """
    return start(request) if request.streaming else [halves(request)[0]]


def body(request: Request) -> list[bytes]:
    """
    The body of a right answer: the events of a stream, or the JSON of a plain one.
    """
    return stream(request) if request.streaming else [whole(request)]


def content_type(request: Request) -> tuple[str, str]:
    """
    The header that a right answer's body needs.
    """
    return ("content-type", STREAM_TYPE if request.streaming else JSON_TYPE)


def right(request: Request, *headers: tuple[str, str], **options: Any) -> Answer:
    """
    A right answer: a chunked stream, or JSON with its length.

    *headers* come in addition; *options* are the answer's, in the place of its own.
    """
    options.setdefault("body", body(request))
    options.setdefault("framing", "chunked" if request.streaming else "length")
    return Answer(headers=[content_type(request), *headers], **options)


def framed(request: Request) -> bytes:
    """
    The body of a right answer with its framing: chunks, or the JSON as it is.
    """
    if not request.streaming:
        return whole(request)
    return b"".join(map(_wire.chunk, stream(request))) + _wire.LAST_CHUNK


def framing(request: Request) -> tuple[str, str]:
    """
    The header that tells how `framed` is delimited.
    """
    if request.streaming:
        return ("transfer-encoding", "chunked")
    return ("content-length", str(len(whole(request))))


def head(request: Request, *headers: tuple[str, str], status: int = 200) -> bytes:
    """
    The head of a right answer whose body is `framed`, with more headers if you like.
    """
    named = [content_type(request), framing(request), *headers]
    return _wire.head(status, named)


def wire(request: Request, *headers: tuple[str, str]) -> bytes:
    """
    A right answer as it goes over the wire, head and all: for *framing* "raw".
    """
    return head(request, *headers) + framed(request)
