"""
Faults of an event stream's lines and of its end: WHATWG HTML, 9.2 "Server-sent events".

Each stands for servers that do so; most of it is legal, and some of it is the end of an
answer that was never finished.
"""

from collections.abc import Iterator

from . import _chunks, _malformed, _odd_json
from . import _parts as parts
from ._fault import Fault
from ._spoiling import (
    BROKEN,
    WHOLE,
    Json,
    Reply,
    always,
    apart,
    between,
    choice,
    each,
    events,
    laid_out,
    replied,
    rows,
    written,
)


BOM = b"\xef\xbb\xbf"

# Servers that keep a plain call's connection alive do so by blank lines: JSON may begin
# with them.
PADDED: Reply = written(lambda whole: [b"\n", b"\r\n", b"\n", whole])


def crlf(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


def cut_crlf(data: bytes) -> Iterator[bytes | float]:
    """
    The lines of data that end in CRLF, cut between the two.
    """
    return apart(data.replace(b"\r\n", b"\r\0\n").split(b"\0"))


def in_two_lines(event: bytes) -> bytes:
    return event.replace(b',"', b',\ndata: "')


def unended(reply: Json) -> None:
    choice(reply)["finish_reason"] = None


row = rows("events")

LINES = (
    row(
        "crlf",
        "ends every line with CRLF.",
        WHOLE,
        each(crlf),
        laid_out("\r\n"),
    ),
    row(
        "cr",
        "ends every line with CR alone.",
        WHOLE,
        each(lambda event: event.replace(b"\n", b"\r")),
        laid_out("\r"),
    ),
    row(
        "split-crlf",
        "ends lines with CRLF, and sends CR and LF apart.",
        WHOLE,
        events(lambda stream: cut_crlf(crlf(b"".join(stream)))),
        written(lambda whole: cut_crlf(whole.replace(b",", b",\r\n"))),
    ),
    row(
        "bom",
        "begins with a byte order mark.",
        WHOLE,
        events(lambda stream: [BOM, *stream]),
        written(lambda whole: BOM + whole),
    ),
    row(
        "no-space-after-colon",
        'writes "data:" without a space after it.',
        WHOLE,
        each(lambda event: event.replace(b"data: ", b"data:")),
    ),
    row(
        "multi-line-data",
        "spreads the JSON of an event over many lines of data.",
        WHOLE,
        each(in_two_lines),
        laid_out("\n"),
    ),
    row(
        "comments",
        'sends comments between events and within them (": ping", ":").',
        WHOLE,
        between(b": ping\n\n", b":\n\n", b": OPENROUTER PROCESSING\n\n", b": within\n"),
        PADDED,
    ),
    row(
        "comment-as-data",
        'wraps comments into events ("data: : OPENROUTER PROCESSING").',
        WHOLE,
        between(b"data: : OPENROUTER PROCESSING\n\n"),
        PADDED,
    ),
    row(
        "retry-field",
        "names a time to wait before a new connection, in blocks of their own.",
        WHOLE,
        between(b"retry: 3000\n\n", b"retry: soon\n\n"),
    ),
    row(
        "id-field",
        "gives events an id, and sends blocks that have nothing else.",
        WHOLE,
        between(b"id: 6\n\n", b"id: 7\n: ping\n\n", b"id: 8\n"),
    ),
    row(
        "unknown-field",
        "sends lines whose field the standard does not know.",
        WHOLE,
        between(b"trace: 1f\n", b"nonsense\n"),
    ),
    row(
        "event-name",
        'calls every event "message", which is what one without a name is.',
        WHOLE,
        between(b"event: message\n"),
    ),
    row(
        "empty-data",
        "sends events without data between the others.",
        WHOLE,
        between(b"data:\n\n", b"data\n\n"),
    ),
)

ENDS = (
    row(
        "done-without-newline",
        "ends right behind [DONE], without a line end.",
        WHOLE,
        events(lambda stream: [*stream[:-1], b"data: [DONE]"]),
    ),
    row(
        "done-spaces",
        "puts spaces around [DONE].",
        WHOLE,
        events(lambda stream: [*stream[:-1], b"data:  [DONE] \n\n"]),
        written(lambda whole: b"  " + whole + b" \n"),
    ),
    row(
        "done-twice",
        "sends [DONE] twice.",
        WHOLE,
        events(lambda stream: [*stream, parts.DONE]),
    ),
    row(
        "no-done",
        "ends after the finish reason, without [DONE].",
        WHOLE,
        events(lambda stream: stream[:-1]),
    ),
    row(
        "last-event-cut",
        "ends with the finish reason, whose event has no blank line after it.",
        WHOLE,
        events(lambda stream: [*stream[:-2], stream[-2].rstrip(b"\n") + b"\n"]),
    ),
    row(
        "events-after-done",
        "sends another piece after [DONE].",
        "Gives the whole text, and nothing of what comes after its end.",
        events(
            lambda stream: [*stream, stream[-3].replace(b" three", b" four"), *stream]
        ),
    ),
    row(
        "finish-then-cut",
        "breaks the connection after the finish reason, or a plain call's whole JSON.",
        "Gives the whole text of a stream, and refuses a body that was not ended.",
        events(lambda stream: [*stream[:-1], parts.PAUSE], end="close"),
        written(lambda whole: [whole, parts.PAUSE], end="close"),
    ),
    row(
        "done-without-finish",
        "sends [DONE] without a finish reason; a plain answer has none either.",
        "Gives the text, and says of a stream that its end is unconfirmed.",
        events(lambda stream: [*stream[:-2], parts.DONE]),
        replied(unended),
    ),
    row(
        "done-then-cut",
        # As llama-cpp-python does to a stream when another request comes.
        "sends [DONE] without a finish reason, and breaks the connection.",
        "Gives a stream's text as unconfirmed, and refuses a body that was not ended.",
        events(lambda stream: [*stream[:-2], parts.DONE, parts.PAUSE], end="close"),
        written(lambda whole: [whole, parts.PAUSE], end="close"),
    ),
    row(
        "no-finish-no-done",
        "ends cleanly without a finish reason or [DONE]; a plain answer has no reason.",
        "Says that the stream broke off, and keeps its three pieces.",
        events(lambda stream: stream[:-2]),
        replied(unended),
    ),
    row(
        "last-event-cut-mid-json",
        "ends cleanly in the middle of its last event, or of a plain answer.",
        BROKEN,
        events(lambda stream: [*stream[:-2], stream[-2][: len(stream[-2]) // 2]]),
        written(lambda whole: iter([whole[: len(whole) // 2]])),
    ),
    row(
        "done-only",
        "sends [DONE] and nothing else.",
        "Says that no answer came.",
        events(lambda stream: stream[-1:]),
        always(b"[DONE]"),
    ),
)

# One group in several files.
FAULTS: tuple[Fault, ...] = (
    *LINES,
    *ENDS,
    *_chunks.FAULTS,
    *_odd_json.FAULTS,
    *_malformed.FAULTS,
)
