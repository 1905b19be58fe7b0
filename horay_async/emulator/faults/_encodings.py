"""
Faults of a body's encoding: compressed right, wrong, or beyond all measure.
"""

import codecs
import gzip
import itertools
import zlib

from collections.abc import Callable, Iterable, Iterator

from .._report import Request
from .._script import Answer
from . import _parts as parts
from ._fault import Fault, large
from ._malformed import huge_text
from ._spoiling import BEYOND, WHOLE, Body, Reply, before_text, in_blocks, rows


row = rows("encodings")

READS = "Gives the whole text, or says what it cannot read."

SLOW = 0.01
"""
Seconds between two writes.
"""

Packer = Callable[[Iterable[bytes]], Iterable[bytes]]
"""Bytes compressed as they go: what belongs to one part can be read at once."""


def fault(name: str, does: str, right: str, reply: Reply) -> Fault:
    """
    The same for a stream and for a plain call.
    """
    return row(name, does, right, reply, reply)


# Encoding ----------------------------------------------------------------------------


GZIP, ZLIB, RAW = 31, 15, -15
"""
The containers of deflate, as zlib counts them.
"""


def deflated(container: int) -> Packer:
    def pack(data: Iterable[bytes]) -> Iterator[bytes]:
        packer = zlib.compressobj(9, zlib.DEFLATED, container)
        for part in data:
            yield packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)
        yield packer.flush()

    return pack


gzipped = deflated(GZIP)


def in_members(data: Iterable[bytes]) -> Iterator[bytes]:
    """
    Each part gzipped for itself, one behind the other (RFC 1952, 2.2).
    """
    return (gzip.compress(part, mtime=0) for part in data)


def brotli(data: Iterable[bytes]) -> Iterator[bytes]:
    """
    Brotli without compression (RFC 7932, 9.2): each part is a meta-block of plain bytes.
    """
    begun = 1  # The first bit: a window of 64 KiB.
    for part in data:
        # Not the last; a length of four nibbles, less 1; not compressed.
        bits = (len(part) - 1) << 3 | 1 << 19
        yield (bits << begun).to_bytes(3, "little") + part
        begun = 0
    yield b"\x03"


def zstd(data: Iterable[bytes]) -> Iterator[bytes]:
    """
    Zstandard without compression (RFC 8878, 3.1.1): each part is a raw block.
    """
    yield b"\x28\xb5\x2f\xfd\x00\x50"  # A window of 1 MiB, no length, no checksum.
    for part in data:
        yield (len(part) << 3).to_bytes(3, "little") + part
    yield b"\x01\x00\x00"


def rot13(data: Iterable[bytes]) -> Iterator[bytes]:
    return (codecs.encode(part.decode(), "rot13").encode() for part in data)


# Answers -----------------------------------------------------------------------------


def encoded(name: str, body: Callable[[Request], Body]) -> Reply:
    """
    A right answer's head with this encoding, and that body.
    """

    def answer(request: Request) -> Answer:
        headers = [parts.content_type(request), ("content-encoding", name)]
        return Answer(headers=headers, body=body(request))

    return answer


def packed(name: str, pack: Packer) -> Reply:
    """
    A right answer, in this encoding.
    """
    return encoded(name, lambda request: pack(parts.body(request)))


def unfinished(request: Request) -> Body:
    """
    The gzip of three pieces, or of half an answer, without its end.
    """
    begun = parts.start(request) if request.streaming else parts.halves(request)[:1]
    return list(gzipped(begun))[:-1]


def spoilt_checksum(request: Request) -> Body:
    *data, end = gzipped(parts.body(request))
    return [*data, end[:-8] + bytes(4) + end[-4:]]


def bomb(request: Request) -> Body:
    """
    A right answer but for its size: one event, or one reply, of one letter.
    """
    if not request.streaming:
        return gzipped(huge_text(parts.whole(request)))
    before, after = before_text(parts.piece(request, "one"))
    letters = in_blocks(b"a", BEYOND)
    rest = [after, parts.finish(request), parts.DONE]
    return gzipped(itertools.chain(parts.start(request), [before], letters, rest))


def slowly(request: Request) -> Body:
    for part in gzipped(parts.body(request)):
        middle = len(part) // 2
        yield from (part[:middle], SLOW, part[middle:], SLOW)


FAULTS: tuple[Fault, ...] = (
    fault(
        "gzip",
        "sends a right answer in gzip, asked for or not.",
        WHOLE,
        packed("gzip", gzipped),
    ),
    fault(
        "x-gzip",
        "calls gzip x-gzip, which is the same (RFC 9110, 8.4.1.3).",
        READS,
        packed("x-gzip", gzipped),
    ),
    fault(
        "gzip-slow",
        "sends a right answer in gzip, each part of it in two halves.",
        WHOLE,
        encoded("gzip", slowly),
    ),
    fault(
        "gzip-members",
        "sends a right answer in several gzip members (RFC 1952, 2.2).",
        WHOLE,
        packed("gzip", in_members),
    ),
    fault(
        "gzip-twice",
        "sends a right answer in gzip in gzip, and says so.",
        READS,
        packed("gzip, gzip", lambda data: gzipped(gzipped(data))),
    ),
    large(
        fault(
            "gzip-bomb",
            f"sends a few hundred KB of gzip that become {BEYOND // 10**6} MB.",
            "Says which ceiling it is over, and holds no more than that.",
            encoded("gzip", bomb),
        )
    ),
    fault(
        "gzip-lie",
        "says gzip, and sends its answer plain.",
        "Says that it is no gzip.",
        encoded("gzip", parts.body),
    ),
    fault(
        "gzip-empty",
        "says gzip, and sends nothing.",
        "Says that no answer came.",
        encoded("gzip", lambda _: []),
    ),
    fault(
        "gzip-cut",
        "ends cleanly in the middle of its gzip.",
        "Says that the answer broke off, and keeps the three pieces.",
        encoded("gzip", unfinished),
    ),
    fault(
        "gzip-bad-checksum",
        "sends a right answer in gzip, with a wrong checksum.",
        "Refuses a plain answer as damaged; a stream was finished before.",
        encoded("gzip", spoilt_checksum),
    ),
    fault(
        "gzip-trailing",
        "sends garbage behind its gzip.",
        "Gives the whole text, or says that the body is damaged.",
        encoded("gzip", lambda request: [*gzipped(parts.body(request)), b"garbage"]),
    ),
    fault(
        "deflate",
        "sends a right answer in deflate, asked for or not.",
        WHOLE,
        packed("deflate", deflated(ZLIB)),
    ),
    fault(
        "deflate-raw",
        "sends a right answer in deflate without the container it needs.",
        WHOLE,
        packed("deflate", deflated(RAW)),
    ),
    fault(
        "brotli-unasked",
        "sends a right answer in brotli, which nobody asked for.",
        READS,
        packed("br", brotli),
    ),
    fault(
        "zstd-unasked",
        "sends a right answer in Zstandard, which nobody asked for.",
        READS,
        packed("zstd", zstd),
    ),
    fault(
        "encoding-unknown",
        "sends its answer in an encoding of its own, rot13.",
        "Says what it cannot read.",
        packed("rot13", rot13),
    ),
    fault(
        "encoding-identity",
        "says that its right answer is not encoded.",
        WHOLE,
        encoded("identity", parts.body),
    ),
)
