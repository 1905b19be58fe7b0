"""
Faults of what stands in the chunks of a stream: fields too many, too few, or odd.

None of it is a reason to lose a word of the answer. Most of it was seen at servers that
many people use.
"""

from typing import Any

from .._report import Request
from . import _parts as parts
from ._fault import Fault
from ._spoiling import (
    WHOLE,
    Json,
    Reply,
    choice,
    chunks,
    each_chunk,
    numbered,
    replied,
    rows,
    say,
)


USAGE = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}

# Azure's first chunk.
NO_CHOICES = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "choices": [],
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
}

# The choice of Azure's asynchronous filter.
FILTERED = {
    "index": 0,
    "finish_reason": None,
    "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}},
    "content_filter_offsets": {"check_offset": 44, "start_offset": 44},
}

UNKNOWN = {"x_odd": {"a": [1, None, {"b": "c"}]}, "x_more": "\u2029"}


# Fields ------------------------------------------------------------------------------


def inside(value: Json) -> Json:
    """
    The delta or the message of a choice; the choice itself where texts have neither.
    """
    one = choice(value)
    inner: Json = next((one[name] for name in ("delta", "message") if name in one), one)
    return inner


def more(request: Request, **fields: Any) -> Json:
    """
    A chunk that adds nothing to the text.
    """
    return parts.chunk(request) | fields


def null(request: Request) -> Json:
    chunk = parts.chunk(request, "")
    say(chunk, None)
    return chunk


def thoughts(request: Request, stream: list[Json]) -> list[Json]:
    """
    What the model thinks, under both names that servers use; texts have none.
    """
    if parts.is_text(request):
        return stream
    chunks = [null(request), null(request)]
    inside(chunks[0])["reasoning_content"] = "Three?"
    inside(chunks[1])["reasoning"] = " Three."
    return [stream[0], *chunks, *stream[1:]]


def with_thoughts(reply: Json) -> None:
    inside(reply)["reasoning_content"] = "Three? Three."


def usage_so_far(chunk: Json, number: int) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": number}
    chunk["usage"] = usage | {"total_tokens": number + 1}


def finished_with_text(request: Request, stream: list[Json]) -> list[Json]:
    choice(stream[-2])["finish_reason"] = "stop"
    return stream[:-1]


def no_reason_yet(chunk: Json) -> None:
    choice(chunk)["finish_reason"] = choice(chunk)["finish_reason"] or ""


def other_reason(chunk: Json) -> None:
    if choice(chunk)["finish_reason"]:
        choice(chunk)["finish_reason"] = "eos_token"


def unknown_fields(value: Json) -> None:
    for level in (value, choice(value), inside(value)):
        level.update(UNKNOWN)


def without_index(value: Json) -> None:
    del choice(value)["index"]


def second_choice(value: Json) -> None:
    value["choices"].append(choice(value) | {"index": 1})


row = rows("events")

FIELDS = (
    row(
        "empty-choices-first",
        "begins with a chunk of no choices, as Azure does.",
        WHOLE,
        chunks(lambda _, stream: [NO_CHOICES, *stream]),
        replied(lambda reply: NO_CHOICES | reply),
    ),
    row(
        "delta-less-chunk",
        "sends a choice with neither delta nor text, as Azure's filter does.",
        WHOLE,
        chunks(
            lambda request, stream: [
                *stream[:-1],
                more(request, id="", choices=[FILTERED]),
                stream[-1],
            ]
        ),
        replied(lambda reply: choice(reply).update(FILTERED | choice(reply))),
    ),
    row(
        "content-null",
        "sends null for text in chunks that add none.",
        WHOLE,
        chunks(
            lambda request, stream: [
                null(request),
                *stream[:-1],
                null(request),
                stream[-1],
            ]
        ),
        replied(lambda reply: inside(reply).update(refusal=None, tool_calls=None)),
    ),
    row(
        "role-in-every-chunk",
        "repeats the role in every chunk.",
        WHOLE,
        each_chunk(lambda chunk: inside(chunk).update(role="assistant")),
    ),
    row(
        "reasoning",
        "sends what the model thinks, beside text that is null.",
        "Gives the whole text, and keeps the thoughts apart from it.",
        chunks(thoughts),
        replied(with_thoughts),
    ),
    row(
        "finish-empty-string",
        "sends an empty finish reason until the last, as TGI does.",
        WHOLE,
        each_chunk(no_reason_yet),
    ),
    row(
        "finish-unknown",
        'ends with a finish reason of its own, "eos_token".',
        WHOLE,
        each_chunk(other_reason),
        replied(other_reason),
    ),
    row(
        "text-in-finish-chunk",
        "sends the last piece together with the finish reason, as vLLM may.",
        WHOLE,
        chunks(finished_with_text),
    ),
    row(
        "chunk-after-finish",
        "sends an empty delta after the finish reason, with the usage.",
        WHOLE,
        chunks(lambda request, stream: [*stream, more(request, usage=USAGE)]),
    ),
    row(
        "usage-with-empty-choices",
        "sends the usage in a last chunk of no choices.",
        WHOLE,
        chunks(
            lambda request, stream: [*stream, more(request, choices=[], usage=USAGE)]
        ),
    ),
    row(
        "usage-every-chunk",
        "sends the usage so far in every chunk.",
        "Gives the whole text, and the last usage, not the sum.",
        numbered(usage_so_far),
    ),
    row(
        "usage-null",
        "sends null for the usage.",
        WHOLE,
        each_chunk(lambda chunk: chunk.update(usage=None)),
        replied(lambda reply: reply.update(usage=None)),
    ),
    row(
        "unknown-fields",
        "adds fields that no document names, at every level.",
        WHOLE,
        each_chunk(unknown_fields),
        replied(unknown_fields),
    ),
    row(
        "changing-created",
        "sends another time of creation in every chunk; null in a plain answer.",
        WHOLE,
        numbered(lambda chunk, number: chunk.update(created=number)),
        replied(lambda reply: reply.update(created=None)),
    ),
    row(
        "missing-index",
        "leaves out the index of the choice.",
        WHOLE,
        each_chunk(without_index),
        replied(without_index),
    ),
    row(
        "wrong-index",
        "numbers the chunks where the index of the choice stands.",
        WHOLE,
        numbered(lambda chunk, number: choice(chunk).update(index=number)),
        replied(lambda reply: choice(reply).update(index=7)),
    ),
    row(
        "index-huge",
        "numbers its only choice 1,000,000,000.",
        WHOLE,
        each_chunk(lambda chunk: choice(chunk).update(index=10**9)),
        replied(lambda reply: choice(reply).update(index=10**9)),
    ),
    row(
        "event-float-index",
        "sends the index of the choice as 0.0.",
        WHOLE,
        each_chunk(lambda chunk: choice(chunk).update(index=0.0)),
        replied(lambda reply: choice(reply).update(index=0.0)),
    ),
    row(
        "extra-choice",
        "sends a second choice that nobody asked for.",
        "Gives the whole text, and does not mix the other choice into it.",
        each_chunk(second_choice),
        replied(second_choice),
    ),
)


# Tool calls --------------------------------------------------------------------------


OSLO = '{"city":"Oslo"}'
ROME = '{"city":"Rome"}'


def call(arguments: Any, **more: Any) -> Json:
    """
    A tool call, or what is known of one.
    """
    return {"function": {"arguments": arguments}} | more


def opened(number: int, arguments: Any, **more: Any) -> Json:
    """
    The beginning of a tool call: with the name of what is called.
    """
    function = {"name": "weather", "arguments": arguments}
    one = {"index": number, "id": f"call_{number}", "type": "function"}
    return one | {"function": function} | more


def calling(*calls: Json) -> Reply:
    """
    A right stream with fragments of tool calls after its text; texts have none.
    """

    def told(request: Request, stream: list[Json]) -> list[Json]:
        if parts.is_text(request):
            return stream
        fragments = [more(request) for _ in calls]
        for fragment, one in zip(fragments, calls, strict=True):
            inside(fragment)["tool_calls"] = [one]
        choice(stream[-1])["finish_reason"] = "tool_calls"
        return [*stream[:-1], *fragments, stream[-1]]

    return chunks(told)


def called(*calls: Json) -> Reply:
    """
    A right plain answer with tool calls beside its text; texts have none.
    """

    def told(reply: Json) -> None:
        if "message" in choice(reply):
            inside(reply)["tool_calls"] = list(calls)
            choice(reply)["finish_reason"] = "tool_calls"

    return replied(told)


def left(one: Json, *names: str) -> Json:
    return {name: value for name, value in one.items() if name not in names}


CALLS = "Gives the whole text, and two calls, each with its own arguments."

ONE_CALL = "Gives the whole text, and one call with its arguments."

ONE = called(opened(0, OSLO))

TOOLS = (
    row(
        "tool-missing-index",
        "sends two tool calls without an index.",
        CALLS,
        calling(
            left(opened(0, OSLO[:7]), "index"),
            call(OSLO[7:]),
            left(opened(1, ROME[:7]), "index"),
            call(ROME[7:]),
        ),
        called(left(opened(0, OSLO), "index"), left(opened(1, ROME), "index")),
    ),
    row(
        "tool-colliding-index",
        "sends two tool calls under one index.",
        CALLS,
        calling(
            opened(0, OSLO[:7]),
            call(OSLO[7:], index=0),
            opened(1, ROME[:7], index=0),
            call(ROME[7:], index=0),
        ),
        called(opened(0, OSLO), opened(1, ROME, index=0)),
    ),
    row(
        "tool-empty-id",
        "sends an empty id and name after the first fragment of a tool call.",
        ONE_CALL,
        calling(
            opened(0, OSLO[:7]),
            {"index": 0, "id": "", "function": {"name": "", "arguments": OSLO[7:]}},
        ),
        ONE,
    ),
    row(
        "tool-repeated-id",
        "repeats the id and the name in every fragment of a tool call, as TGI does.",
        ONE_CALL,
        calling(opened(0, OSLO[:7]), opened(0, OSLO[7:])),
        ONE,
    ),
    row(
        "tool-no-id",
        "sends a tool call without an id, as Ollama does.",
        ONE_CALL,
        calling(left(opened(0, OSLO[:7]), "id"), call(OSLO[7:], index=0)),
        called(left(opened(0, OSLO), "id")),
    ),
    row(
        "tool-object-arguments",
        "sends a tool call's arguments as an object, not as text.",
        ONE_CALL,
        calling(opened(0, {"city": "Oslo"})),
        called(opened(0, {"city": "Oslo"})),
    ),
    row(
        "tool-index-huge",
        "numbers its only tool call 1,000,000,000.",
        ONE_CALL,
        calling(opened(10**9, OSLO[:7]), call(OSLO[7:], index=10**9)),
        called(opened(10**9, OSLO)),
    ),
    row(
        "tool-cut-arguments",
        "ends a tool call's arguments in the middle, and says that it has finished.",
        "Gives the whole text and the arguments as they came, which are no JSON.",
        calling(opened(0, OSLO[:7])),
        called(opened(0, OSLO[:7])),
    ),
)

FAULTS: tuple[Fault, ...] = (*FIELDS, *TOOLS)
