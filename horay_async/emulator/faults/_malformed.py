"""
Faults of events that are no chunks, and of those that are too large or never end.

A plain call's answer is spoilt in the nearest way.
"""

import itertools

from collections.abc import Callable, Iterator

from .._report import Request
from . import _parts as parts
from ._fault import Fault, large
from ._spoiling import (
    BEYOND,
    BLOCK,
    DEEP,
    UNREADABLE,
    Body,
    Json,
    Reply,
    always,
    before_text,
    choice,
    fourth,
    in_blocks,
    later,
    replied,
    rows,
    say,
    then,
    written,
)


row = rows("events")

TOO_DEEP = "Says that it is nested too deeply, and keeps the three pieces."

TOO_LARGE = "Says which ceiling it is over, keeps the three pieces, and holds no more than that."

RUN_OUT = (
    "Gives up when a clock runs out or a ceiling is met, and keeps the three pieces."
)

HUGE = 20_000_000
"""
Bytes of one event: beyond what an honest server sends, and below what hurts.
"""


# What is no chunk --------------------------------------------------------------------


def event(data: bytes) -> Reply:
    """
    An event of that data after three pieces, then the rest of the stream.
    """
    return later(b"data: " + data + b"\n\n")


def spoilt(change: Callable[[Json], object]) -> tuple[Reply, Reply]:
    """
    A fourth chunk with that change, or a plain answer with it.
    """

    def changed(reply: Json) -> None:
        change(reply)

    return fourth(change), replied(changed)


def no_choices(value: Json) -> None:
    value["choices"] = {"0": choice(value)}


def strings(value: Json) -> None:
    value["choices"] = [" four"]


def no_delta(value: Json) -> None:
    one = choice(value)
    for name in ("delta", "message"):
        if name in one:
            one[name] = " four"
    if "text" in one:
        one["text"] = {"content": " four"}


def nested(opening: bytes, closing: bytes) -> tuple[Reply, Reply]:
    """
    A chunk, or a plain answer, with a field of that nesting.
    """
    field = b'"deep":' + opening * DEEP + b"0" + closing * DEEP + b"}"

    def deepen(data: bytes) -> bytes:
        head, _, tail = data.rpartition(b"}")
        return head + b"," + field + tail

    def chunk(request: Request) -> Body:
        return [deepen(parts.piece(request, " four"))]

    return then(chunk), written(deepen)


UNREAD = (
    row(
        "choices-not-a-list",
        "sends an object where the list of choices stands.",
        UNREADABLE,
        *spoilt(no_choices),
    ),
    row(
        "choices-of-strings",
        "sends text where the first of the choices stands.",
        UNREADABLE,
        *spoilt(strings),
    ),
    row(
        "delta-a-string",
        "sends text where a delta or a message stands, or an object for the text.",
        UNREADABLE,
        *spoilt(no_delta),
    ),
    row(
        "content-a-number",
        "sends a number where the text stands.",
        UNREADABLE,
        *spoilt(lambda value: say(value, 4)),
    ),
    row(
        "event-invalid-json",
        "sends an event that is no JSON.",
        UNREADABLE,
        event(b'{"id": oops}'),
        always(b'{"id": oops}'),
    ),
    row(
        "event-not-object",
        "sends an event that is a number.",
        UNREADABLE,
        event(b"7"),
        always(b"7"),
    ),
    row(
        "event-array",
        "sends a list of chunks as one event, or a list of answers.",
        UNREADABLE,
        then(lambda request: [parts.event([parts.chunk(request, " four")])]),
        replied(lambda reply: [reply]),
    ),
    row(
        "event-string",
        "sends a text as an event.",
        UNREADABLE,
        event(b'" four"'),
        always(b'"one two three"'),
    ),
    row(
        "event-null",
        "sends null as an event.",
        UNREADABLE,
        event(b"null"),
        always(b"null"),
    ),
    row(
        "event-deep",
        f"sends a field of {DEEP:,} nested lists.",
        TOO_DEEP,
        *nested(b"[", b"]"),
    ),
    row(
        "event-deep-objects",
        f"sends a field of {DEEP:,} nested objects.",
        TOO_DEEP,
        *nested(b'{"a":', b"}"),
    ),
)


# What never ends ---------------------------------------------------------------------


def huge_event(request: Request) -> Iterator[bytes]:
    before, after = before_text(parts.piece(request, "one"))
    yield before
    yield from in_blocks(b"a", HUGE)
    yield after


def endless(opening: bytes, block: bytes) -> Reply:
    """
    Three pieces, then that, then the other for ever.
    """
    return then(lambda _: itertools.chain([opening], itertools.repeat(block)))


def flood(line: bytes) -> Reply:
    return endless(b"", line * (BLOCK // len(line)))


def huge_text(whole: bytes) -> Iterator[bytes]:
    """
    A plain answer whose text is larger than anybody takes.
    """
    before, after = before_text(whole)
    yield before
    yield from in_blocks(b"a", BEYOND)
    yield after


def endless_text(block: bytes) -> Reply:
    """
    A plain answer whose text never ends.
    """
    return written(
        lambda whole: itertools.chain(before_text(whole)[:1], itertools.repeat(block))
    )


LETTERS = b"a" * BLOCK

BLANKS = always(itertools.repeat(b" " * BLOCK))

BLANK_LINES = always(itertools.repeat(b"\n" * BLOCK))

UNENDED = (
    large(
        row(
            "event-huge",
            f"sends an event of {HUGE // 10**6} MB, or a text of {BEYOND // 10**6} MB.",
            TOO_LARGE,
            then(huge_event),
            written(huge_text),
        )
    ),
    large(
        row(
            "event-endless",
            "sends lines of data for ever, and never the blank line that ends an event.",
            TOO_LARGE,
            endless(b'data: "\n', b"data: " + LETTERS + b"\n"),
            written(
                lambda _: itertools.chain([b"["], itertools.repeat(b"1,\n" * 9999))
            ),
        )
    ),
    large(
        row(
            "line-endless",
            "sends a line that never ends, or a text that never ends.",
            TOO_LARGE,
            endless(b'data: {"choices": "', LETTERS),
            endless_text(LETTERS),
        )
    ),
    large(
        row(
            "comment-endless",
            "sends a comment that never ends, or blanks for ever.",
            TOO_LARGE,
            endless(b": ", LETTERS),
            BLANKS,
        )
    ),
    large(
        row(
            "comment-flood",
            "sends comments for ever, as fast as they go, or blank lines.",
            RUN_OUT,
            flood(b": ping\n\n"),
            BLANK_LINES,
        )
    ),
    large(
        row(
            "empty-events-flood",
            "sends events without data for ever, as fast as they go, or blank lines.",
            RUN_OUT,
            flood(b"data:\n\n"),
            BLANK_LINES,
        )
    ),
)

FAULTS: tuple[Fault, ...] = (*UNREAD, *UNENDED)
