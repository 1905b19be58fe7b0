"""
HTTP gone wrong in an answer's head: status lines and headers.
"""

import itertools

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from .._report import Request
from .._script import Step
from . import _parts as parts
from ._fault import Fault, large, raw


_fault = partial(raw, group="framing")

_WHOLE = "Has the whole answer."

_MALFORMED = "Says that the answer is no HTTP; never takes it for one."

_EITHER = "Has the whole answer, or says that its head is malformed; never hangs."

_TOO_MUCH = (
    "Says that the answer's head is too large, with bounded memory, and hangs up."
)

_LINE = b"HTTP/1.1 200 OK\r\n"


def _needed(request: Request) -> bytes:
    """
    The two header lines that the body needs.
    """
    pairs = (parts.content_type(request), parts.framing(request))
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in pairs)


# Status lines.


def _lined(line: bytes) -> Callable[[Request], Iterable[Step]]:
    """
    A right answer under this status line.
    """
    return lambda request: [line + _needed(request) + b"\r\n" + parts.framed(request)]


def _alone(line: bytes) -> Callable[[Request], Iterable[Step]]:
    return lambda _: [line]


def _lines() -> Iterator[Fault]:
    bad = {
        "malformed-status-line": ('is "HTP/1.1 200 OK"', b"HTP/1.1 200 OK\r\n"),
        "status-line-garbage": ("is binary", bytes(range(128, 200)) + b"\x00\r\n"),
        "status-not-a-number": ('is "HTTP/1.1 OK OK"', b"HTTP/1.1 OK OK\r\n"),
        "status-99": ('is "HTTP/1.1 99 Low"', b"HTTP/1.1 99 Low\r\n"),
        "status-1000": ('is "HTTP/1.1 1000 High"', b"HTTP/1.1 1000 High\r\n"),
        "wrong-http-version": ('is "HTTP/3.7 200 OK"', b"HTTP/3.7 200 OK\r\n"),
        "tls-instead": ("is TLS: the port wants it", b"\x15\x03\x01\x00\x02\x02\x46"),
    }
    for name, (is_what, line) in bad.items():
        # After a TLS alert there is nothing more.
        alone = name == "tls-instead"
        yield _fault(
            name,
            f"The status line of an answer {is_what}.",
            _MALFORMED,
            _alone(line) if alone else _lined(line),
            "close" if alone else "hang",
        )


def _endless_line(request: Request) -> Iterator[Step]:
    yield b"HTTP/1.1 200 "
    yield from itertools.repeat(b"OK" * 5_000)


_STATUS_LINES = (
    *_lines(),
    large(
        _fault(
            "status-line-endless",
            "The status line of an answer never ends.",
            _TOO_MUCH,
            _endless_line,
        )
    ),
    _fault(
        "no-reason-phrase",
        'The status line is "HTTP/1.1 200", without a phrase, which is legal.',
        _WHOLE,
        _lined(b"HTTP/1.1 200 \r\n"),
    ),
    _fault(
        "http-0.9",
        "An answer's body comes without any head, then the connection is closed.",
        _MALFORMED,
        lambda request: [b"".join(parts.body(request))],
        "close",
    ),
    _fault(
        "http-1.0",
        "A right answer comes in HTTP/1.0, and ends where the connection is closed.",
        _WHOLE,
        lambda request: [
            b"HTTP/1.0 200 OK\r\ncontent-type: %b\r\n\r\n"
            % parts.content_type(request)[1].encode(),
            *parts.body(request),
        ],
        "close",
    ),
    _fault(
        "http-2-preface",
        "The server speaks HTTP/2 without having been asked: it sends its settings.",
        _MALFORMED,
        # RFC 9113, 4.1: a SETTINGS frame of one setting; then a GOAWAY (6.8).
        lambda _: [
            b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
            b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
        ],
        "hang",
    ),
)


# Headers.


def _headed(*lines: bytes) -> Callable[[Request], Iterable[Step]]:
    """
    A right answer with these header lines in addition.
    """
    more = b"".join(line + b"\r\n" for line in lines)
    return lambda request: [
        _LINE + _needed(request) + more + b"\r\n" + parts.framed(request)
    ]


def _huge_header(request: Request) -> Iterable[Step]:
    return _headed(b"x-huge: " + b"x" * 1_000_000)(request)


def _many_headers(request: Request) -> Iterable[Step]:
    return _headed(*(b"x-%d: y" % number for number in range(100_000)))(request)


def _endless_headers(request: Request) -> Iterator[Step]:
    yield _LINE + _needed(request)
    for number in itertools.count():
        yield b"".join(b"x-%d-%d: y\r\n" % (number, other) for other in range(500))


def _bare_lines(request: Request) -> Iterator[Step]:
    head = _LINE + _needed(request) + b"\r\n"
    yield head.replace(b"\r\n", b"\n") + parts.framed(request)


_HEADERS = (
    _fault(
        "header-without-colon",
        "A right answer has a header line without a colon.",
        _EITHER,
        _headed(b"nonsense"),
    ),
    _fault(
        "header-with-nul",
        "A header of a right answer holds a NUL byte.",
        _EITHER,
        _headed(b"x-nul: a\x00b"),
    ),
    _fault(
        "header-folded",
        "A header of a right answer goes on in a second line, as was legal once.",
        _EITHER,
        _headed(b"x-folded: one", b" two"),
    ),
    _fault(
        "header-empty-name",
        "A header of a right answer has no name.",
        _EITHER,
        _headed(b": value"),
    ),
    _fault(
        "header-space-before-colon",
        "A header of a right answer has a space before its colon.",
        _EITHER,
        _headed(b"x-space : value"),
    ),
    _fault(
        "header-latin1",
        "A header of a right answer holds bytes that are no UTF-8.",
        _WHOLE,
        _headed("x-name: Zoë".encode("latin-1")),
    ),
    large(
        _fault(
            "header-huge",
            "A header of the answer is 1 MB long.",
            _TOO_MUCH,
            _huge_header,
        )
    ),
    large(
        _fault(
            "headers-many",
            "The answer has 100,000 headers.",
            _TOO_MUCH,
            _many_headers,
        )
    ),
    large(
        _fault(
            "headers-endless",
            "The answer's headers never end, and come as fast as they can.",
            _TOO_MUCH,
            _endless_headers,
        )
    ),
    _fault(
        "lf-only-head",
        "The lines of a right answer's head end in LF instead of CRLF.",
        _EITHER,
        _bare_lines,
    ),
)


FAULTS: tuple[Fault, ...] = (*_STATUS_LINES, *_HEADERS)
