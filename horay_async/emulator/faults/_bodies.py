"""
Faults of a body that is not what was due: of another type or shape, or without an end.

Where nothing else is said a stream gets the same body as a plain call.
"""

import dataclasses
import itertools

from typing import Any

from .. import _wire
from .._report import Request
from .._script import Answer
from . import _parts as parts
from . import _stream_errors
from ._fault import Fault, large
from ._malformed import BLANKS, LETTERS, huge_text, nested
from ._odd_json import HALF, REPLACED, UNCOUNTED, no_numbers, numbered
from ._spoiling import (
    BEYOND,
    DEEP,
    WHOLE,
    Json,
    Reply,
    always,
    before_text,
    choice,
    replied,
    rows,
    text,
    written,
)


row = rows("bodies")

NO_ANSWER = "Says what came in place of an answer."

SAID = "Says what the server said."

TOO_LONG = "Says which ceiling it is over, and holds no more than that."

CEILING_OR_CLOCK = "Gives up at a ceiling or when a clock runs out."

PAGE = (
    "<!doctype html><html><head><title>Sign in</title></head><body>Who?</body></html>"
)

ERROR = {"message": "the model fell over", "type": "server_error", "code": None}

ENVELOPE = {"code": 20012, "message": "model does not exist", "status": False}


def body(name: str, does: str, right: str, reply: Reply) -> Fault:
    """
    The same for a stream and for a plain call.
    """
    return row(name, does, right, reply, reply)


def typed(kind: str, data: str) -> Reply:
    """
    A body that is no JSON.
    """
    return lambda _: Answer.text(data, 200, kind)


def json(value: Any) -> Reply:
    return always(_wire.dump(value))


def right_as(kind: str | None) -> Reply:
    """
    A right answer of another content type; None: of none.
    """

    def answer(request: Request) -> Answer:
        headers = [] if kind is None else [("content-type", kind)]
        return dataclasses.replace(parts.right(request), headers=headers)

    return answer


def told_apart(stream: str, plain: str) -> tuple[Reply, Reply]:
    return right_as(stream), right_as(plain)


def streamed(request: Request) -> Answer:
    """
    A stream, whatever was asked for.
    """
    headers = [("content-type", parts.STREAM_TYPE)]
    return Answer(headers=headers, body=parts.stream(request))


def in_utf16(request: Request) -> Answer:
    right = parts.right(request)
    kind = parts.content_type(request)[1].partition(";")[0] + "; charset=utf-16"
    data = b"".join(parts.body(request)).decode().encode("utf-16")
    return dataclasses.replace(right, headers=[("content-type", kind)], body=[data])


def of_the_other_kind(request: Request) -> Answer:
    path = "/chat/completions" if parts.is_text(request) else "/completions"
    return parts.right(dataclasses.replace(request, path=path))


def no_words(request: Request) -> Answer:
    if not request.streaming:
        return text("")(request)
    return parts.right(request, body=[parts.finish(request), parts.DONE])


def no_message(reply: Json) -> None:
    for name in ("message", "text"):
        choice(reply).pop(name, None)


TYPES = (
    body(
        "html",
        "sends a page of HTML with status 200.",
        NO_ANSWER,
        typed("text/html; charset=utf-8", PAGE),
    ),
    body(
        "plain-text",
        "sends plain text with status 200.",
        NO_ANSWER,
        typed(
            "text/plain", "upstream connect error or disconnect/reset before headers"
        ),
    ),
    row(
        "json-for-stream",
        "sends a whole JSON answer where a stream was asked for.",
        WHOLE,
        written(lambda whole: whole),
    ),
    row(
        "stream-for-json",
        "streams where JSON was asked for; calls a stream JSON where it was not.",
        WHOLE,
        right_as(parts.JSON_TYPE),
        streamed,
    ),
    body(
        "no-content-type",
        "does not say of what type its right answer is.",
        WHOLE,
        right_as(None),
    ),
    body(
        "stream-as-text-plain",
        "sends a right answer as text/plain.",
        WHOLE,
        right_as("text/plain"),
    ),
    body(
        "stream-as-octet-stream",
        "sends a right answer as application/octet-stream.",
        WHOLE,
        right_as("application/octet-stream"),
    ),
    row(
        "charset-parameter",
        "adds a charset to the type of its answer, in capitals and quotes.",
        WHOLE,
        *told_apart(
            'Text/Event-Stream;Charset="UTF-8"', 'Application/JSON;Charset="UTF-8"'
        ),
    ),
    body(
        "charset-utf16",
        "sends its answer in UTF-16, and says so.",
        "Refuses it: JSON and event streams are UTF-8 (RFC 8259, 8.1).",
        in_utf16,
    ),
    body(
        "wrong-kind",
        "answers a chat in the shape of a text completion, or the reverse.",
        "Says so, or gives the whole text; never takes it for an empty answer.",
        of_the_other_kind,
    ),
    body(
        "empty-answer",
        "sends no text, and a finish reason.",
        "Gives the empty text: the server says that it is finished.",
        no_words,
    ),
)

SHAPES = (
    body(
        "empty-json-body",
        "sends nothing, and calls it JSON.",
        "Says that the body is empty.",
        always(b""),
    ),
    body("json-invalid", "sends what is no JSON.", NO_ANSWER, always(b'{"id": oops}')),
    body(
        "json-cut",
        "sends half of its JSON, and the length of that half.",
        NO_ANSWER,
        written(lambda whole: whole[: len(whole) // 2]),
    ),
    body(
        "json-two-values",
        "sends its JSON twice, one behind the other.",
        NO_ANSWER,
        written(lambda whole: whole + whole),
    ),
    body(
        "json-array",
        "sends its answer in a list.",
        NO_ANSWER,
        replied(lambda reply: [reply]),
    ),
    body("json-number", "sends a number.", NO_ANSWER, json(7)),
    body(
        "json-string", "sends its text as a JSON string.", NO_ANSWER, json(parts.TEXT)
    ),
    body("json-null", "sends null.", NO_ANSWER, json(None)),
    body("json-empty-object", "sends an empty object.", NO_ANSWER, json({})),
    body(
        "json-no-choices",
        "leaves out the choices.",
        NO_ANSWER,
        replied(
            lambda reply: {name: reply[name] for name in reply if name != "choices"}
        ),
    ),
    body(
        "json-null-choices",
        "sends null for the choices.",
        NO_ANSWER,
        replied(lambda reply: reply | {"choices": None}),
    ),
    body(
        "json-empty-choices",
        "sends an empty list of choices.",
        NO_ANSWER,
        replied(lambda reply: reply | {"choices": []}),
    ),
    body(
        "json-choice-without-message",
        "sends a choice with neither message nor text.",
        NO_ANSWER,
        replied(no_message),
    ),
    body(
        "json-with-bom",
        "sends a byte order mark before its JSON.",
        WHOLE,
        written(lambda whole: b"\xef\xbb\xbf" + whole),
    ),
    body(
        "json-nan",
        "sends NaN and -Infinity, which are no JSON, for log probabilities.",
        WHOLE,
        replied(no_numbers),
    ),
    body(
        "json-5000-digits",
        "sends integers of 5,000 digits for the time and the usage.",
        UNCOUNTED,
        written(numbered(b"9" * 5000)),
    ),
    body(
        "json-lone-surrogate",
        r"sends half a character at the end of the text: \ud83d.",
        REPLACED,
        text("".join(HALF)),
    ),
    body(
        "json-deep",
        f"adds a field of {DEEP:,} nested lists.",
        "Says that it is nested too deeply.",
        nested(b"[", b"]")[1],
    ),
)

SIZES = (
    large(
        body(
            "json-huge",
            f"sends a text of {BEYOND // 10**6} MB.",
            TOO_LONG,
            written(huge_text),
        )
    ),
    large(
        body(
            "json-endless",
            "sends a text that never ends.",
            TOO_LONG,
            written(
                lambda whole: itertools.chain(
                    before_text(whole)[:1], itertools.repeat(LETTERS)
                )
            ),
        )
    ),
    large(
        body("whitespace-endless", "sends blanks for ever.", CEILING_OR_CLOCK, BLANKS)
    ),
)

ERRORS = (
    body(
        "error-in-200",
        "sends an error with status 200.",
        SAID,
        json({"error": ERROR}),
    ),
    body(
        "envelope-in-200",
        "sends an envelope that says `status: false`, with status 200.",
        SAID,
        json(ENVELOPE),
    ),
    body(
        "detail-in-200",
        "sends `detail` and nothing else, with status 200.",
        SAID,
        json({"detail": "Not Found"}),
    ),
)

FAULTS: tuple[Fault, ...] = (
    *TYPES,
    *SHAPES,
    *SIZES,
    *ERRORS,
    *_stream_errors.FAULTS,
)
