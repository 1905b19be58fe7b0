"""
Status codes that are no answer: 1xx, 204, 304, redirects; and answers without a body.
"""

import itertools

from collections.abc import Callable, Iterator
from functools import partial

from .. import _wire
from .._report import Request
from .._script import Answer
from . import _parts as parts
from ._fault import Fault, large, raw


_fault = partial(raw, group="framing")

_WHOLE = "Has the whole answer."

_NONE = (
    "Says that the answer is empty, and with which status; never returns an empty one."
)


# What comes before an answer (RFC 9110, 15.2).

_CONTINUE = _wire.CONTINUE
_PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
_HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
)


_INFORMATIONAL = (
    _fault(
        "continue-100",
        "Before a right answer comes a 100 Continue that nobody asked for.",
        _WHOLE,
        lambda request: [_CONTINUE, parts.wire(request)],
    ),
    _fault(
        "continue-100-many",
        "Before a right answer comes 100 Continue a hundred times.",
        _WHOLE,
        lambda request: [_CONTINUE * 100, parts.wire(request)],
    ),
    large(
        _fault(
            "continue-100-endless",
            "Instead of an answer comes 100 Continue, for ever.",
            "Gives up when a clock of its own has run out, or sooner, and hangs up.",
            lambda _: itertools.repeat(_CONTINUE * 100),
        )
    ),
    _fault(
        "processing-102",
        "Before a right answer comes a 102 Processing.",
        _WHOLE,
        lambda request: [_PROCESSING, parts.wire(request)],
    ),
    _fault(
        "early-hints-103",
        "Before a right answer come 103 Early Hints.",
        _WHOLE,
        lambda request: [_HINTS, parts.wire(request)],
    ),
    _fault(
        "switching-101",
        "Instead of answering, the server switches to another protocol.",
        "Says that the server did what nobody had asked for; never waits for more.",
        lambda _: [_SWITCHING],
        "hang",
    ),
)


# What has no body.


def _empty(name: str, does: str, status: int, *headers: tuple[str, str]) -> Fault:
    return _fault(name, does, _NONE, lambda _: [_wire.head(status, headers)])


_ZERO = ("content-length", "0")

_EMPTY = (
    _empty("no-content-204", "The answer is 204, without a body.", 204),
    _empty("reset-content-205", "The answer is 205, without a body.", 205, _ZERO),
    _empty("not-modified-304", "The answer is 304, without a body.", 304),
    Fault(
        name="empty-body",
        group="framing",
        does="The answer is 200, and its body is empty.",
        right=_NONE,
        answer=lambda request: parts.right(request, framing="length", body=()),
    ),
    Fault(
        name="empty-stream",
        group="framing",
        does="The answer is 200, and its chunked body ends before an event has come.",
        right=_NONE,
        answer=lambda request: Answer(headers=[parts.content_type(request)]),
    ),
)


# Redirects.

_STAYS = "Says where the redirect points, and never goes there."


def _host(request: Request) -> str:
    """
    The host that the client called, without its port.
    """
    return request.headers.get("host", "127.0.0.1").rpartition(":")[0] or "127.0.0.1"


def _redirect(
    name: str, does: str, place: Callable[[Request], str | None], status: int = 307
) -> Fault:
    def answer(request: Request) -> Answer:
        location = place(request)
        headers = [] if location is None else [("location", location)]
        return Answer.text("", status, headers=headers)

    return Fault(name=name, group="framing", does=does, right=_STAYS, answer=answer)


def _redirects() -> Iterator[Fault]:
    for status in 301, 302, 303, 307, 308:
        yield _redirect(
            f"redirect-{status}",
            f"The answer is a {status} to another path of the same server.",
            lambda request: request.path + "/elsewhere",
            status,
        )
    yield _redirect(
        "redirect-other-host",
        "The answer is a 307 to another host.",
        lambda request: f"http://127.0.0.2:9{request.path}",
    )
    yield _redirect(
        "redirect-other-port",
        "The answer is a 307 to another port of the same host.",
        lambda request: f"http://{_host(request)}:9{request.path}",
    )
    yield _redirect(
        "redirect-loop",
        "The answer is a 307 to where it came from.",
        lambda request: request.path,
    )
    yield _redirect(
        "redirect-file",
        "The answer is a 307 to a file of the client's machine.",
        lambda _: "file:///etc/passwd",
    )
    yield _redirect(
        "redirect-no-location",
        "The answer is a 307 that does not say where to.",
        lambda _: None,
    )


FAULTS: tuple[Fault, ...] = (*_INFORMATIONAL, *_EMPTY, *_redirects())
