"""
Faults of a server that refuses: every status, every shape of an error's body.
"""

import gzip
import itertools

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from .. import _wire
from .._report import Request
from .._script import Answer
from . import _parts as parts
from . import _waits
from ._encodings import gzipped
from ._fault import Fault, large
from ._malformed import LETTERS
from ._spoiling import BEYOND, DEEP, Body, apart, in_blocks, rows


Bodied = Callable[[int, Request], bytes]
"""The bytes of a refusal, for its status."""

row = rows("refusals")

JSON = parts.JSON_TYPE

SORRY = "the model fell over"

FINAL_SERVER_ERRORS = (501, 505)
"""
Statuses from 500 on that say something about the server, not about this moment.
"""


def passes(status: int) -> bool:
    """
    Whether it may be another answer in a moment.
    """
    passing = status in (408, 409, 429) or status >= 500
    return passing and status not in FINAL_SERVER_ERRORS


def what_is_right(status: int) -> str:
    if passes(status):
        return "Tries again where it may; else says what the server said."
    return "Says what the server said, and does not try again."


def kind(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def refusal(
    name: str, does: str, right: str, answer: Callable[[Request], Answer]
) -> Fault:
    """
    The same for a stream and for a plain call.
    """
    return row(name, does, right, answer, answer)


# Bodies ------------------------------------------------------------------------------


def json(value: Callable[[int], object]) -> Bodied:
    return lambda status, _: _wire.dump(value(status))


def page(status: int, request: Request) -> bytes:
    """
    What nginx sends.
    """
    title = f"{status} {HTTPStatus(status).phrase}"
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n"
        "</body>\r\n</html>\r\n"
    ).encode()


def deep(status: int, request: Request) -> bytes:
    return b'{"error":{"message":' + b"[" * DEEP + b"]" * DEEP + b"}}"


def echo(status: int, request: Request) -> bytes:
    """
    Some servers quote the key that they do not know.
    """
    key = request.headers.get("authorization", "")
    return _wire.dump({"error": {"message": f"what is {key}?", "type": kind(status)}})


def echo_escaped(status: int, request: Request) -> bytes:
    """
    The same as some serializers write it: each character by its number.
    """
    key = request.headers.get("authorization", "")
    escaped = "".join(f"\\u{ord(char):04x}" for char in key)
    return b'{"error":{"message":"what is %b?"}}' % escaped.encode()


def echo_in_page(status: int, request: Request) -> bytes:
    key = request.headers.get("authorization", "")
    escaped = "".join(f"&#{ord(char)};" for char in key)
    return f"<html><title>what is {escaped}?</title></html>".encode()


# SiliconFlow's documented codes; where there is none, the status.
CODES = {400: 20012, 503: 50505}

BODIES: dict[str, tuple[str, str, Bodied]] = {
    "openai": (
        "an object under `error`, as OpenAI's",
        JSON,
        json(
            lambda status: {
                "error": {
                    "message": SORRY,
                    "type": kind(status),
                    "param": None,
                    "code": None,
                }
            }
        ),
    ),
    "openai-int-code": (
        "an object under `error` whose code is a number",
        JSON,
        json(
            lambda status: {
                "error": {"message": SORRY, "type": kind(status), "code": status}
            }
        ),
    ),
    "vllm": (
        'an object that calls itself "error", as old vLLM\'s',
        JSON,
        json(
            lambda status: {
                "object": "error",
                "message": SORRY,
                "type": "BadRequestError" if status == 400 else "Error",
                "param": None,
                "code": status,
            }
        ),
    ),
    "openrouter": (
        "a code, a message and metadata under `error`, as OpenRouter's",
        JSON,
        json(
            lambda status: {
                "error": {
                    "code": status,
                    "message": SORRY,
                    "metadata": {"provider_name": "Provider"},
                }
            }
        ),
    ),
    "string": ("a text under `error`", JSON, json(lambda _: {"error": SORRY})),
    "error-type": (
        "a text under `error`, and its type beside it, as TGI's",
        JSON,
        json(lambda _: {"error": SORRY, "error_type": "incomplete_generation"}),
    ),
    "detail": (
        "a text under `detail`, as FastAPI's",
        JSON,
        json(lambda _: {"detail": SORRY}),
    ),
    "detail-list": (
        "a list of complaints under `detail`, as FastAPI's",
        JSON,
        json(
            lambda _: {
                "detail": [
                    {
                        "loc": ["body", "messages", 0],
                        "msg": SORRY,
                        "type": "value_error",
                    }
                ]
            }
        ),
    ),
    "message": ("a message alone", JSON, json(lambda _: {"message": SORRY})),
    "siliconflow": (
        "a code and a message, as SiliconFlow's",
        JSON,
        json(
            lambda status: {
                "code": CODES.get(status, status),
                "message": SORRY,
                "data": None,
            }
        ),
    ),
    "status-false": (
        "a code, a message and `status: false`",
        JSON,
        json(
            lambda status: {
                "code": CODES.get(status, status),
                "message": SORRY,
                "status": False,
            }
        ),
    ),
    "json-string": ("a JSON string", JSON, json(lambda _: SORRY)),
    "json-array": (
        "a list of one error, as Google's",
        JSON,
        json(lambda status: [{"error": {"code": status, "message": SORRY}}]),
    ),
    "plain-text": ("plain text", "text/plain", lambda *_: SORRY.encode()),
    "html": ("a page of HTML, as nginx's", "text/html", page),
    "empty": ("an empty body", JSON, lambda *_: b""),
    "deep": (f"{DEEP:,} nested lists for a message", JSON, deep),
    "invalid-utf8": (
        "a message in Latin-1",
        JSON,
        lambda *_: '{"error":{"message":"désolé"}}'.encode("latin-1"),
    ),
    "huge": (
        "a message of 5 MB",
        JSON,
        lambda *_: b'{"error":{"message":"' + b"a" * 5_000_000 + b'"}}',
    ),
    "echo-of-key": ("a message that repeats the key", JSON, echo),
    "echo-of-key-escaped": (
        "a message that repeats the key, its characters escaped",
        JSON,
        echo_escaped,
    ),
    "echo-of-key-in-page": (
        "a page of HTML that repeats the key, its characters escaped",
        "text/html",
        echo_in_page,
    ),
}
"""
What it is, its content type and its bytes.
"""


def of_body(name: str, status: int) -> Fault:
    what, content_type, body = BODIES[name]
    suffix = "" if status == 400 else f"-{status}"

    def answer(request: Request) -> Answer:
        return Answer.text(body(status, request), status, content_type)

    right = what_is_right(status)
    if name.startswith("echo-of-key"):
        right = right.replace("server said", "server said, without the key")
    does = f"refuses with {status} and {what}."
    fault = refusal(f"refusal-{name}{suffix}", does, right, answer)
    return large(fault) if name == "huge" else fault


# Statuses ----------------------------------------------------------------------------


STATUSES = (
    *(400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 421),
    *(422, 423, 424, 425, 426, 428, 429, 431, 451, 499),
    *(500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 521, 522, 524, 529),
)

OVERLOADED = (
    b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
)

# What usually comes with these.
USUAL = {502: ("text/html", page), 529: (JSON, lambda *_: OVERLOADED)}


def of_status(status: int) -> Fault:
    content_type, body = USUAL.get(status, BODIES["openai"][1:])

    def answer(request: Request) -> Answer:
        return Answer.text(body(status, request), status, content_type)

    right = what_is_right(status)
    return refusal(f"status-{status}", f"refuses with {status}.", right, answer)


# Ways to refuse ----------------------------------------------------------------------


HALF = b'{"error":{"message":"the model '

WHOLE = HALF + b'fell over","type":"server_error"}}'

REFUSED = b'{"error":{"message":"no such model","type":"invalid_request_error"}}'

SLOW = 0.005
"""
Seconds between two bytes.
"""


def refused(
    status: int, body: Body, *headers: tuple[str, str], kind: str = JSON, **options: Any
) -> Callable[[Request], Answer]:
    named = [("content-type", kind), *headers]
    return lambda _: Answer(status=status, headers=named, body=body, **options)


def bomb(request: Request) -> Answer:
    headers = [("content-type", JSON), ("content-encoding", "gzip")]
    message = itertools.chain([HALF], in_blocks(b"a", BEYOND), [b'"}}'])
    return Answer(status=500, headers=headers, body=gzipped(message))


def endless(request: Request) -> Answer:
    body = itertools.chain([HALF], itertools.repeat(LETTERS))
    return Answer(status=500, headers=[("content-type", JSON)], body=body)


def echo_in_head(request: Request) -> Answer:
    """
    The key in the reason phrase and in a header.
    """
    key = request.headers.get("authorization", "")
    head = (
        f"HTTP/1.1 400 What is {key}?\r\ncontent-type: {JSON}\r\nx-your-key: {key}\r\n"
        f"content-length: {len(REFUSED)}\r\n\r\n"
    )
    return Answer(framing="raw", body=[head.encode("latin-1") + REFUSED])


PASSING, FINAL = what_is_right(500), what_is_right(400)

WAYS = (
    refusal(
        "refusal-hang",
        "refuses with 500, sends half of the error's body and falls silent.",
        "Tries again where it may; else says what it has, when a clock runs out.",
        refused(500, [HALF], end="hang"),
    ),
    refusal(
        "refusal-cut",
        "refuses with 500 and breaks the connection in the middle of the error's body.",
        "Tries again where it may; else says the status and what had come.",
        refused(
            500,
            [HALF, parts.PAUSE],
            ("content-length", str(len(WHOLE))),
            framing="length",
            end="close",
        ),
    ),
    refusal(
        "refusal-slow",
        "refuses with 400, and sends the error's body byte by byte.",
        FINAL,
        refused(400, list(apart((bytes([one]) for one in REFUSED), SLOW))),
    ),
    refusal(
        "refusal-stream",
        "refuses with 400 and an event stream.",
        FINAL,
        refused(
            400, [b"data: " + REFUSED + b"\n\n", parts.DONE], kind=parts.STREAM_TYPE
        ),
    ),
    refusal(
        "refusal-gzip",
        "refuses with 400 and a body in gzip.",
        FINAL,
        refused(400, [gzip.compress(REFUSED)], ("content-encoding", "gzip")),
    ),
    large(
        refusal(
            "refusal-gzip-bomb",
            f"refuses with 500 and gzip that becomes {BEYOND // 10**6} MB.",
            "Tries again where it may; else says the status; reads no more than a ceiling.",
            bomb,
        )
    ),
    large(
        refusal(
            "refusal-endless",
            "refuses with 500 and a body that never ends.",
            "Tries again where it may; else says the status; reads no more than a ceiling.",
            endless,
        )
    ),
    refusal(
        "refusal-echo-in-head",
        "refuses with 400, and repeats the key in the reason phrase and in a header.",
        "Says what the server said, without the key, and does not try again.",
        echo_in_head,
    ),
)

FAULTS: tuple[Fault, ...] = (
    *map(of_status, STATUSES),
    *(of_body(name, status) for status in (400, 429, 500, 503) for name in BODIES),
    *WAYS,
    *_waits.FAULTS,
)
