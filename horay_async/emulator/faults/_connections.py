"""
Connections that break, hang, crawl, or outlive the answer they carried.
"""

import itertools

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from .. import _wire
from .._report import Request
from .._script import Answer, End, Step
from . import _parts as parts
from ._fault import Fault, large, raw


_fault = partial(raw, group="connections")

# Between the bytes of what is slow, and between pings: well below every client's clocks.
_TICK = 0.02

# How long a port that refuses connections does so.
_REFUSED = 0.5

_HOW: dict[End, str] = {
    "reset": "resets the connection",
    "close": "closes the connection",
    "hang": "falls silent, the connection open,",
}

_Body = Callable[[Request], Iterable[Step]]


# What has been sent when the connection breaks.


def _nothing(request: Request) -> list[Step]:
    return []


def _half_a_head(request: Request) -> list[Step]:
    data = _chunked_head(request)
    return [data[: len(data) // 2], parts.PAUSE]


def _a_head(request: Request) -> list[Step]:
    return [_chunked_head(request), parts.PAUSE]


def _half_a_chunk(request: Request) -> list[Step]:
    streaming = request.streaming
    rest = parts.piece(request, " four") if streaming else parts.halves(request)[1]
    next_chunk = _wire.chunk(rest)
    return [
        *_sent(request, parts.begun(request)),
        parts.PAUSE,
        next_chunk[: len(next_chunk) // 2],
        parts.PAUSE,
    ]


def _half_an_event(request: Request) -> list[Step]:
    next_event = parts.piece(request, " four")
    half = next_event[: len(next_event) // 2] if request.streaming else b""
    return _sent(request, [*parts.begun(request), half])


def _half_an_answer(request: Request) -> list[Step]:
    return [*_sent(request, parts.begun(request)), parts.PAUSE]


def _all_but_done(request: Request) -> list[Step]:
    if request.streaming:
        return _sent(request, [*parts.start(request), parts.finish(request)])
    return _sent(request, [parts.whole(request)[:-1]])


def _all_but_the_last_chunk(request: Request) -> list[Step]:
    return [*_sent(request, parts.body(request)), parts.PAUSE]


def _sent(request: Request, body: Iterable[bytes]) -> list[Step]:
    return [_chunked_head(request), *map(_wire.chunk, body)]


def _chunked_head(request: Request) -> bytes:
    chunked = ("transfer-encoding", "chunked")
    return _wire.head(200, [parts.content_type(request), chunked])


_UNANSWERED = "Tries again where it may; else says that no answer came."
_WAITS = "Gives up when a clock of its own has run out, says which, and hangs up."
_LOST = (
    "Keeps the text that came and says that the stream broke off; "
    "tries a plain call again where it may, else says that its answer broke off."
)
_STALLED = (
    "Gives up when a clock of its own has run out, says which, "
    "hangs up, and keeps the text of the stream."
)
_DONE = (
    "Has the whole stream, which is finished; a plain answer without its end is none: "
    "it tries again where it may, else says that the answer broke off."
)
_DONE_WAITS = (
    "Has the whole stream, which is finished, and waits no longer; "
    "for the end of a plain answer it waits until its deadline."
)

_BREAKS: tuple[tuple[str, str, _Body, dict[End, str]], ...] = (
    (
        "before-headers",
        "before it answers",
        _nothing,
        {"reset": _UNANSWERED, "close": _UNANSWERED, "hang": _WAITS},
    ),
    (
        "in-headers",
        "in the middle of the answer's head",
        _half_a_head,
        {"reset": _UNANSWERED, "close": _UNANSWERED, "hang": _WAITS},
    ),
    (
        "after-headers",
        "after the answer's head",
        _a_head,
        {"reset": _UNANSWERED, "close": _UNANSWERED, "hang": _WAITS},
    ),
    (
        "mid-chunk",
        "in the middle of a chunk, after three pieces of a stream",
        _half_a_chunk,
        {"reset": _LOST, "close": _LOST, "hang": _STALLED},
    ),
    (
        "mid-event",
        "in the middle of an event, after three pieces of a stream",
        _half_an_event,
        {"hang": _STALLED},
    ),
    (
        "mid-stream",
        "after three pieces of a stream, or half a plain answer",
        _half_an_answer,
        {"reset": _LOST, "close": _LOST, "hang": _STALLED},
    ),
    (
        "after-finish",
        "after the finish reason, without [DONE]",
        _all_but_done,
        {"hang": _DONE_WAITS},
    ),
    (
        "after-done",
        "after [DONE], but the chunked body has no end",
        _all_but_the_last_chunk,
        {"reset": _DONE, "close": _DONE, "hang": _DONE_WAITS},
    ),
)


def _breaks() -> Iterator[Fault]:
    for place, when, body, ends in _BREAKS:
        for end, right in ends.items():
            does = f"The server {_HOW[end]} {when}."
            yield _fault(f"{end}-{place}", does, right, body, end)


# Connections that break before there is a request.


def _accepts() -> Iterator[Fault]:
    yield Fault(
        name="refused",
        group="connections",
        does="The port refuses connections for half a second.",
        right="Tries again where it may; else says that nobody listens there.",
        answer=lambda _: Answer(before=[_REFUSED]),
        at="listen",
    )
    accepted: dict[End, tuple[str, str]] = {
        "reset": ("resets it at once", _UNANSWERED),
        "close": ("closes it at once", _UNANSWERED),
        "hang": ("then neither reads nor answers", _WAITS),
    }
    for end, (does, right) in accepted.items():
        yield _fault(
            f"{end}-at-accept",
            f"The server accepts a connection, and {does}.",
            right,
            _nothing,
            end,
            at="accept",
        )


# What goes on for ever, or all but.


def _by_bytes(data: bytes, pause: float | None = None) -> Iterator[Step]:
    for at in range(len(data)):
        yield data[at : at + 1]
        if pause is not None:
            yield pause


def _slow_head(request: Request) -> Iterator[Step]:
    yield from _by_bytes(b"HTTP/1.1 200 OK\r\n", _TICK)
    for number in itertools.count():
        yield from _by_bytes(b"x-slow-%d: slow\r\n" % number, _TICK)


def _slow_body(request: Request) -> Iterator[Step]:
    if not request.streaming:
        length = ("content-length", str(10**9))
        yield _wire.head(200, [parts.content_type(request), length])
        yield parts.halves(request)[0]
        while True:
            yield from _by_bytes(b" on", _TICK)
    yield from _sent(request, parts.start(request))
    while True:
        yield from _by_bytes(_wire.chunk(parts.piece(request, " on")), _TICK)


def _pings(request: Request, body: Iterable[bytes] = ()) -> Iterator[Step]:
    yield _chunked_head(request)
    yield from map(_wire.chunk, body)
    # What servers send into a plain answer to keep a connection: JSON's white space.
    ping = _wire.comment(b"ping") if request.streaming else b"\n"
    while True:
        yield _wire.chunk(ping)
        yield _TICK


def _pings_after_content(request: Request) -> Iterator[Step]:
    return _pings(request, parts.begun(request) if request.streaming else ())


_ENDLESS = (
    _fault(
        "slow-headers",
        "The server sends header lines for ever, a byte every 20 ms.",
        _WAITS,
        _slow_head,
    ),
    _fault(
        "slow-body",
        "After three pieces of a stream, or half a plain answer, "
        "the server sends a byte every 20 ms for ever.",
        _STALLED,
        _slow_body,
    ),
    _fault(
        "pings-for-ever",
        "The server sends comments for ever, or white space for a plain answer, "
        "and no content.",
        "Takes a ping for no token, and gives up when its clock for the first token, "
        "or a plain call's deadline, has run out.",
        _pings,
    ),
    _fault(
        "pings-mid-stream",
        "The server sends three pieces of a stream, then comments for ever; "
        "for a plain answer white space only.",
        "Takes a ping for no token, gives up when its clock for a stall, "
        "or a plain call's deadline, has run out, and keeps the text of the stream.",
        _pings_after_content,
    ),
    _fault(
        "one-byte-at-a-time",
        "The server sends a right answer, head and all, each byte by itself.",
        "Has the whole answer.",
        lambda request: _by_bytes(parts.wire(request)),
    ),
)


# What outlives its answer, or comes before the request is there.


def _stray(request: Request) -> bytes:
    """
    A second answer that nobody asked for.
    """
    return parts.wire(request).replace(b"three", b"stray")


def _seen(request: Request) -> Request:
    """
    A request of which there is only the head, as what its head says that it will be.
    """
    if "event-stream" in request.headers.get("accept", ""):
        return replace(request, json={"stream": True})
    return request


_TOO_LARGE = {
    "error": {
        "message": "The request is too large.",
        "type": "invalid_request_error",
        "param": None,
        "code": "request_too_large",
    }
}

_ITS_OWN = "Has the whole answer; its next call gets its own, on another connection."

_KEPT = (
    _fault(
        "stale-connection",
        "After a right answer the server closes the connection that it promised to keep.",
        _ITS_OWN,
        lambda request: [parts.wire(request)],
        "close",
    ),
    Fault(
        name="stale-reset",
        group="connections",
        does="After a right answer the server keeps the connection, "
        "and resets it when the next request arrives.",
        right="Has the whole answer; sends its next call again, on another connection, "
        "without counting that as a retry.",
        answer=lambda request: parts.right(request, end="stale"),
    ),
    _fault(
        "stray-bytes",
        "After a right answer comes a second one at once, that nobody asked for.",
        _ITS_OWN,
        lambda request: [parts.wire(request) + _stray(request)],
    ),
    _fault(
        "stray-bytes-late",
        "After a right answer comes a second one a moment later, that nobody asked for.",
        "Has the whole answer; its next call gets its own, on another connection, if it "
        "comes after that second one. Before it nobody can tell that one from its own.",
        lambda request: [parts.wire(request), parts.PAUSE, _stray(request)],
    ),
    large(
        _fault(
            "stray-answers-endless",
            "After a right answer come others that nobody asked for, as fast as they can.",
            _ITS_OWN,
            lambda request: itertools.chain(
                [parts.wire(request) + _stray(request)],
                itertools.repeat(_stray(request) * 100),
            ),
        )
    ),
    Fault(
        name="cookie",
        group="connections",
        does="A right answer sets a cookie.",
        right="Has the whole answer, and never sends the cookie back.",
        answer=lambda request: parts.right(
            request, ("set-cookie", "session=secret; Path=/")
        ),
    ),
)

_EARLY = (
    Fault(
        name="early-413",
        group="connections",
        does="The server answers 413 before it has read the request's body.",
        right="Says that the request is too large, and does not send it again.",
        answer=lambda _: Answer.json(_TOO_LARGE, 413),
        at="head",
    ),
    Fault(
        name="early-413-reset",
        group="connections",
        does="The server answers 413 before it has read the request's body, "
        "then resets the connection.",
        right="Says that the request is too large, or that the connection was lost; "
        "never hangs.",
        answer=lambda _: replace(
            Answer.json(_TOO_LARGE, 413),
            body=[_wire.dump(_TOO_LARGE), parts.PAUSE],
            end="reset",
        ),
        at="head",
    ),
    _fault(
        "early-200-close",
        "The server sends a right answer before it has read the request's body, "
        "then closes the connection.",
        "Has the whole answer, or says that the connection was lost; never hangs.",
        lambda request: [parts.wire(_seen(request))],
        "close",
        at="head",
    ),
)


FAULTS: tuple[Fault, ...] = (
    *_accepts(),
    *_breaks(),
    *_ENDLESS,
    *_KEPT,
    *_EARLY,
)
