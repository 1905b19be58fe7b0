"""
Faults of a server that reports an error inside an answer that began well: status 200.

In as many shapes as there are servers; each comes before any content, and after three
pieces. A plain call gets the error in the place of an answer, and beside one.
"""

import itertools

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .. import _wire
from .._report import Request
from .._script import Answer
from . import _parts as parts
from ._fault import Fault
from ._spoiling import (
    WHOLE,
    Json,
    Reply,
    always,
    each_chunk,
    recut,
    replied,
    rows,
)


Event = Callable[[Request, Json], bytes]


def plainly(request: Request, error: Json) -> bytes:
    return parts.event(error)


def as_chunk(request: Request, error: Json) -> bytes:
    return parts.event(parts.chunk(request, "", "error") | error)


def named(request: Request, error: Json) -> bytes:
    return b"event: error\n" + parts.event(error)


def as_field(request: Request, error: Json) -> bytes:
    return b"error: " + _wire.dump(error["error"]) + b"\n\n"


def bare(request: Request, error: Json) -> bytes:
    return _wire.dump(error) + b"\n"


@dataclass(frozen=True, slots=True)
class Shape:
    """
    How one family of servers reports an error.
    """

    name: str

    who: str
    """What it is, or whose."""

    error: Json

    final: bool = False
    """Whether trying again is no use."""

    event: Event = plainly

    done: bool = True
    """Whether [DONE] follows."""


row = rows("stream errors")

FINAL = "Says what the server said, and does not try again."

PASSING = "Tries again where it may; else says what the server said."

SORRY = "the model fell over"

BUSY = "the model is overloaded"

SHAPES = (
    Shape(
        "openai",
        "an object under `error`, as OpenAI",
        {"error": {"message": SORRY, "type": "server_error", "code": "server_error"}},
    ),
    Shape(
        "rate-limit",
        "a rate limit under `error`, with 429 for its code",
        {"error": {"message": BUSY, "type": "rate_limit_exceeded", "code": 429}},
    ),
    Shape(
        "quota",
        "a quota that is used up, as OpenAI",
        {
            "error": {
                "message": "you exceeded your current quota",
                "type": "insufficient_quota",
                "code": "insufficient_quota",
            }
        },
        final=True,
    ),
    Shape(
        "tgi",
        "an HTTP status under `error`, as TGI",
        {"error": {"message": "inputs must be shorter", "http_status_code": 422}},
        final=True,
    ),
    # Of no known kind, so it may well be the request's own fault.
    Shape("string", "a text under `error`, as proxies", {"error": SORRY}, final=True),
    Shape(
        "error-type",
        "a text under `error` and its type beside it, as TGI",
        {"error": BUSY, "error_type": "overloaded"},
    ),
    Shape(
        "vllm",
        'an object that calls itself "error", as vLLM before 0.10.1',
        {
            "object": "error",
            "message": "the prompt is too long",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        final=True,
    ),
    Shape(
        "openrouter",
        'a chunk with `error` and the finish reason "error", as OpenRouter',
        {"error": {"code": 502, "message": "the provider hung up"}},
        event=as_chunk,
    ),
    Shape(
        "anthropic",
        'an event called "error", as Anthropic',
        {"type": "error", "error": {"type": "overloaded_error", "message": BUSY}},
        event=named,
        done=False,
    ),
    Shape(
        "llamacpp",
        "a line whose field is `error`, as llama.cpp in 2025",
        {"error": {"code": 500, "message": SORRY, "type": "server_error"}},
        event=as_field,
    ),
    Shape(
        "siliconflow",
        "a code and a message, as SiliconFlow",
        {"code": 50505, "message": BUSY, "data": None},
    ),
    Shape(
        "status-false",
        "a code, a message and `status: false`",
        {"code": 20012, "message": "model does not exist", "status": False},
        final=True,
    ),
    Shape(
        "raw",
        "JSON without `data:` before it",
        {"error": {"message": SORRY, "type": "server_error", "code": None}},
        event=bare,
        done=False,
    ),
)


def faults(shape: Shape) -> Iterator[Fault]:
    """
    The error before any content, and later.
    """
    end = [parts.DONE] if shape.done else []

    def first(request: Request) -> Answer:
        return parts.right(request, body=[shape.event(request, shape.error), *end])

    def later(request: Request) -> Answer:
        body = [*parts.start(request), shape.event(request, shape.error), *end]
        return parts.right(request, body=body)

    def beside(reply: Json) -> Json:
        return reply | shape.error if "error" in shape.error else shape.error

    yield row(
        f"error-first-{shape.name}",
        f"begins with an error, or answers with it: {shape.who}.",
        FINAL if shape.final else PASSING,
        first,
        always(_wire.dump(shape.error)),
    )
    yield row(
        f"error-later-{shape.name}",
        f"sends an error after three pieces, or beside an answer: {shape.who}.",
        "Says what the server said, keeps the three pieces, and does not send a"
        " stream's prompt again.",
        later,
        replied(beside),
    )


def silent(pieces: Callable[[Request], list[bytes]]) -> Reply:
    """
    Those, then plain text for an error, as mistral.rs sends it, and nothing more.
    """

    def answer(request: Request) -> Answer:
        return parts.right(request, body=[*pieces(request), REFUSED], end="hang")

    return answer


REFUSED = b"data: Number of choices must be 1\n\n"

HANGING: Reply = recut(
    always(b""), lambda _: [REFUSED[6:-2]], framing="chunked", end="hang"
)

FAULTS: tuple[Fault, ...] = (
    *itertools.chain.from_iterable(map(faults, SHAPES)),
    row(
        "error-first-plain-text-hang",
        "begins with an error in plain text, and falls silent.",
        "Says what came, and does not wait for more; a plain call's clock ends it.",
        silent(lambda _: []),
        HANGING,
    ),
    row(
        "error-later-plain-text-hang",
        "sends an error in plain text after three pieces, and falls silent.",
        "Says what came, keeps the three pieces, and does not wait for more.",
        silent(parts.start),
        HANGING,
    ),
    row(
        "error-null",
        "sends `error: null` in every chunk and answer, which is no error.",
        WHOLE,
        each_chunk(lambda chunk: chunk.update(error=None)),
        replied(lambda reply: reply.update(error=None)),
    ),
)
