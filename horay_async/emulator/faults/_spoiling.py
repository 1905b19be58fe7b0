"""
How a fault of contents is written: what spoils a right answer, by its bytes or its JSON.

Each builder makes the `answer` of a fault, for streams or for plain calls.
"""

import dataclasses
import json

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .. import _wire
from .._report import Request
from .._script import Answer, Step
from . import _parts as parts
from ._fault import Fault


Reply = Callable[[Request], Answer]

Body = Iterable[Step | str]

Json = dict[str, Any]

WHOLE = "Gives the whole text."

BROKEN = "Says that the answer broke off, and keeps the three pieces."

UNREADABLE = "Says what came in place of an answer, and keeps the three pieces."

DEEP = 100_000
"""
Levels of nesting: a hundred times what Python's own stack allows.
"""

TICK = 0.002
"""
Seconds between two writes, so that they arrive as two.
"""

BLOCK = 1 << 16
"""
Bytes that a flood sends at a time.
"""

BEYOND = 300_000_000
"""
Bytes that nobody should take for one answer.
"""

Row = Callable[..., Fault]


def rows(group: str) -> Row:
    """
    What makes the faults of a group: name, does, right, for a stream, for a plain call.

    *does* goes on after "The server".

    Without the last a plain call gets a right answer: the fault is one of streams only.
    """

    def row(
        name: str,
        does: str,
        right: str,
        streamed: Reply,
        plain: Reply = parts.right,
    ) -> Fault:
        def answer(request: Request) -> Answer:
            return streamed(request) if request.streaming else plain(request)

        return Fault(
            name=name,
            group=group,
            does=f"The server {does}",
            right=right,
            answer=answer,
        )

    return row


# Streams -----------------------------------------------------------------------------


def recut(reply: Reply, change: Callable[[list[bytes]], Body], **options: Any) -> Reply:
    """
    An answer whose bytes are changed.
    """

    def answer(request: Request) -> Answer:
        right = reply(request)
        body = [part for part in right.body if isinstance(part, bytes)]
        return dataclasses.replace(right, body=change(body), **options)

    return answer


def events(change: Callable[[list[bytes]], Body], **options: Any) -> Reply:
    """
    The events of a right stream, changed; the last two are the finish reason and [DONE].
    """
    return recut(parts.right, change, **options)


def each(change: Callable[[bytes], bytes]) -> Reply:
    """
    Each event of a right stream, changed.
    """
    return events(lambda stream: map(change, stream))


def between(*what: bytes) -> Reply:
    """
    All of that before each event of a right stream.
    """
    return each(lambda event: b"".join(what) + event)


def later(*what: Step, rest: bool = True, **options: Any) -> Reply:
    """
    Three pieces, then that, then the rest of a right stream, unless it has none.
    """
    return then(lambda _: what, rest=rest, **options)


def then(
    what: Callable[[Request], Body], *, rest: bool = True, **options: Any
) -> Reply:
    """
    As `later`, but that depends on the request, and may be endless.
    """

    def answer(request: Request) -> Answer:
        return parts.right(request, body=steps(request), **options)

    def steps(request: Request) -> Body:
        yield from parts.start(request)
        yield from what(request)
        if rest:
            yield from (parts.finish(request), parts.DONE)

    return answer


def chunks(change: Callable[[Request, list[Json]], Iterable[Json]]) -> Reply:
    """
    The chunks of a right stream, changed; the last has the finish reason.
    """

    def answer(request: Request) -> Answer:
        stream = [json.loads(event[6:]) for event in parts.stream(request)[:-1]]
        body = [*map(parts.event, change(request, stream)), parts.DONE]
        return parts.right(request, body=body)

    return answer


def each_chunk(change: Callable[[Json], object]) -> Reply:
    """
    Each chunk of a right stream, changed in its place.
    """
    return numbered(lambda chunk, _: change(chunk))


def numbered(change: Callable[[Json, int], object]) -> Reply:
    """
    As `each_chunk`; the number counts them from 0.
    """

    def all_of_them(request: Request, stream: list[Json]) -> list[Json]:
        for number, chunk in enumerate(stream):
            change(chunk, number)
        return stream

    return chunks(all_of_them)


def pieces(*texts: str) -> Reply:
    """
    A right stream of other pieces.
    """

    def said(request: Request, stream: list[Json]) -> list[Json]:
        told = [parts.chunk(request, text) for text in texts]
        return [*stream[: -1 - len(parts.PIECES)], *told, stream[-1]]

    return chunks(said)


def fourth(change: Callable[[Json], object]) -> Reply:
    """
    A right stream with a fourth piece, whose chunk is changed in its place.
    """

    def piece(request: Request) -> Body:
        chunk = parts.chunk(request, " four")
        change(chunk)
        return [parts.event(chunk)]

    return then(piece)


# Plain calls -------------------------------------------------------------------------


def replied(change: Callable[[Json], Any]) -> Reply:
    """
    The JSON of a right plain answer, changed in its place or returned anew.
    """

    def answer(request: Request) -> Answer:
        reply = parts.reply(request)
        changed = change(reply)
        return as_json(_wire.dump(reply if changed is None else changed))

    return answer


def written(change: Callable[[bytes], bytes | Body], **options: Any) -> Reply:
    """
    The bytes of a right plain answer, changed, and maybe endless.
    """

    def answer(request: Request) -> Answer:
        return as_json(change(parts.whole(request)), **options)

    return answer


def always(body: bytes | Body) -> Reply:
    """
    A plain answer of these bytes, whatever was asked.
    """
    return written(lambda _: body)


def as_json(body: bytes | Body, **options: Any) -> Answer:
    """
    Bytes with their length, or what goes on for long in chunks, as JSON.
    """
    headers = [("content-type", parts.JSON_TYPE)]
    if isinstance(body, bytes):
        return Answer(headers=headers, body=[body], framing="length", **options)
    return Answer(headers=headers, body=body, **options)


def text(text: str) -> Reply:
    """
    A right plain answer of another text.
    """
    return replied(lambda reply: say(reply, text))


def laid_out(newline: str) -> Reply:
    """
    A right plain answer, its JSON spread over lines.
    """
    return written(
        lambda whole: (
            json.dumps(json.loads(whole), indent=1).replace("\n", newline).encode()
        )
    )


# Chunks and replies ------------------------------------------------------------------


def choice(value: Json) -> Json:
    """
    The one choice of a chunk or a reply.
    """
    first: Json = value["choices"][0]
    return first


def say(value: Json, text: Any) -> None:
    """
    Put *text*, whatever it is, where the text of a chunk or a reply stands.
    """
    one = choice(value)
    if "text" in one:
        one["text"] = text
    else:
        one["delta" if "delta" in one else "message"]["content"] = text


def before_text(data: bytes) -> tuple[bytes, bytes]:
    """
    The JSON of a chunk or a reply, cut where its text begins.
    """
    cut = data.index(b'"' + parts.PIECES[0].encode()) + 1
    return data[:cut], data[cut:]


def apart(data: Iterable[bytes], tick: float = TICK) -> Iterator[bytes | float]:
    """
    Each in a chunk and a write of its own.
    """
    for part in data:
        yield part
        yield tick


def in_blocks(byte: bytes, size: int) -> Iterable[bytes]:
    """
    So many of that byte, in blocks.
    """
    block = byte * BLOCK
    for _ in range(size // BLOCK):
        yield block
    yield byte * (size % BLOCK)
