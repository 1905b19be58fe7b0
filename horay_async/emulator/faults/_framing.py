"""
HTTP gone wrong in a body's framing: lengths and chunks. Heads are next door.
"""

import itertools

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from .. import _wire
from .._report import Request
from .._script import Step
from . import _heads, _informal
from . import _parts as parts
from ._fault import Fault, large, raw


_fault = partial(raw, group="framing")

_WHOLE = "Has the whole answer."

_CUT = (
    "Keeps the text that came and says that the stream broke off; "
    "tries a plain call again where it may, else says that its answer broke off."
)
_MALFORMED_HEAD = "Says that the answer is malformed."
_STUCK = (
    "Says that the answer is malformed, or gives up when a clock of its own has run out; "
    "either way it hangs up and keeps the text of the stream."
)

_Body = Callable[[Request], Iterable[Step]]


def _head(request: Request, *headers: tuple[str, str]) -> bytes:
    return _wire.head(200, [parts.content_type(request), *headers])


_CHUNKED = ("transfer-encoding", "chunked")


def _length(value: object) -> tuple[str, str]:
    return ("content-length", str(value))


# Lengths.


def _too_short(request: Request) -> Iterator[Step]:
    data = b"".join(parts.begun(request))
    yield _head(request, _length(len(data) + 100)) + data
    yield parts.PAUSE


def _too_long(request: Request) -> Iterator[Step]:
    data = b"".join(parts.body(request))
    yield _head(request, _length(len(data))) + data + b"and more"


def _measured(*values: object) -> _Body:
    """
    A right answer, closed at its end, with these for lengths; None is its real one.
    """

    def body(request: Request) -> Iterator[Step]:
        data = b"".join(parts.body(request))
        lengths = [_length(len(data) if value is None else value) for value in values]
        yield _head(request, *lengths) + data

    return body


def _both(request: Request) -> Iterator[Step]:
    chunks = b"".join(map(_wire.chunk, parts.body(request))) + _wire.LAST_CHUNK
    yield _head(request, _length(10), _CHUNKED) + chunks


_LENGTHS = (
    _fault(
        "truncated-length",
        "The connection is closed 100 bytes before the Content-Length is reached, "
        "after three pieces of a stream, or half a plain answer.",
        _CUT,
        _too_short,
        "close",
    ),
    _fault(
        "excess-length",
        "After a right answer of the given Content-Length come more bytes.",
        "Has the whole answer, and never uses that connection again.",
        _too_long,
    ),
    _fault(
        "two-lengths",
        "The answer has two Content-Lengths that differ.",
        _MALFORMED_HEAD,
        _measured(None, 7),
        "hang",
    ),
    _fault(
        "bad-length",
        'The Content-Length is "12abc".',
        _MALFORMED_HEAD,
        _measured("12abc"),
        "hang",
    ),
    _fault(
        "negative-length",
        "The Content-Length is -5.",
        _MALFORMED_HEAD,
        _measured(-5),
        "hang",
    ),
    _fault(
        "huge-length",
        "The Content-Length is a number of 31 digits; "
        "a right answer comes, and nothing more.",
        "Says that the answer is malformed, or does not wait for what cannot come: "
        "a stream is whole at [DONE], a plain call ends at its deadline.",
        _measured(10**30),
        "hang",
    ),
    _fault(
        "length-and-chunked",
        "The answer has both a Content-Length, of 10 bytes, and chunks.",
        "Goes by the chunks and has the whole answer, or says that it is malformed; "
        "never goes by the length.",
        _both,
    ),
)


# Chunks.


def _chunks(request: Request, body: Iterable[bytes]) -> bytes:
    return _head(request, _CHUNKED) + b"".join(map(_wire.chunk, body))


def _after_pieces(*blocks: bytes) -> _Body:
    """
    Half an answer in good chunks, then these bytes.
    """

    def body(request: Request) -> Iterator[Step]:
        yield _chunks(request, parts.begun(request))
        yield parts.PAUSE
        yield from blocks

    return body


def _no_last_chunk(request: Request) -> Iterator[Step]:
    yield _chunks(request, parts.body(request))
    yield parts.PAUSE


def _no_crlf(request: Request) -> Iterator[Step]:
    yield _chunks(request, parts.begun(request))
    yield parts.PAUSE
    data = parts.piece(request, " four")
    yield (b"%x\r\n%b" % (len(data), data)) * 2


def _extended(request: Request) -> Iterator[Step]:
    chunks = [
        b'%x;name="a value";other\r\n%b\r\n' % (len(data), data)
        for data in parts.body(request)
    ]
    yield _head(request, _CHUNKED) + b"".join(chunks) + _wire.LAST_CHUNK


def _flood(first: bytes, block: bytes) -> _Body:
    """
    Half an answer in good chunks, then something that never ends.
    """

    def body(request: Request) -> Iterator[Step]:
        yield _chunks(request, parts.begun(request))
        yield parts.PAUSE
        yield from itertools.chain([first], itertools.repeat(block))

    return body


def _trailers(request: Request) -> Iterator[Step]:
    last = b"0\r\nx-trailer: one\r\nx-other: two\r\n\r\n"
    yield _chunks(request, parts.body(request)) + last


def _endless_trailers(request: Request) -> Iterator[Step]:
    yield _chunks(request, parts.body(request)) + b"0\r\n"
    yield from itertools.repeat(b"x-trailer: one more\r\n" * 500)


_CHUNKS = (
    _fault(
        "truncated-chunked",
        "All of a right answer comes in chunks, "
        "but the connection is closed without the last one.",
        "Has the whole stream, which is finished; a plain answer without its end is "
        "none: it tries again where it may, else says that the answer broke off.",
        _no_last_chunk,
        "close",
    ),
    _fault(
        "bad-chunk-size",
        'After half an answer the size of a chunk is "zz".',
        _STUCK,
        _after_pieces(b"zz\r\nnonsense\r\n"),
        "hang",
    ),
    _fault(
        "huge-chunk-size",
        "After half an answer a chunk says that it has 2**64 - 1 bytes, and none come.",
        _STUCK,
        _after_pieces(b"ffffffffffffffff\r\n"),
        "hang",
    ),
    _fault(
        "negative-chunk-size",
        "After half an answer the size of a chunk is -5.",
        _STUCK,
        _after_pieces(b"-5\r\nhello\r\n"),
        "hang",
    ),
    large(
        _fault(
            "chunk-size-endless",
            "After half an answer the size of a chunk is a number whose digits never end.",
            _STUCK,
            _flood(b"0", b"0" * 10_000),
        )
    ),
    _fault(
        "chunk-extension",
        "Every chunk of a right answer has an extension, which is legal.",
        _WHOLE,
        _extended,
    ),
    large(
        _fault(
            "chunk-extension-flood",
            "After half an answer comes a chunk whose extension never ends.",
            _STUCK,
            _flood(b"5;name=", b"x" * 10_000),
        )
    ),
    _fault(
        "missing-chunk-crlf",
        "After half an answer come chunks without the line end that closes a chunk.",
        _STUCK,
        _no_crlf,
        "hang",
    ),
    _fault(
        "trailers",
        "After the last chunk of a right answer come trailers, which are legal.",
        _WHOLE,
        _trailers,
    ),
    large(
        _fault(
            "trailers-endless",
            "After the last chunk of a right answer come trailers that never end.",
            "Has the whole stream, which is finished; says that a plain answer is malformed, "
            "or gives up at its deadline.",
            _endless_trailers,
        )
    ),
)


FAULTS: tuple[Fault, ...] = (
    *_LENGTHS,
    *_CHUNKS,
    *_heads.FAULTS,
    *_informal.FAULTS,
)
