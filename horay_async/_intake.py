"""
One stream's bytes in; its tokens, its verdict and its errors out. No I/O.

It judges what the bytes say: errors in the stream, events that cannot be read, and whether
the answer was finished when the server stopped. When and how to read is `_flow`'s.
"""

from __future__ import annotations

import json
import re

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from ._assembly import Assembly
from ._codec import (
    BODY_LIMIT,
    NestingError,
    check_nesting,
    describe,
    error_in,
    loads,
    says_something,
    status_error_of,
)
from ._errors import (
    APIError,
    APIResponseValidationError,
    APIStatusError,
    IncompleteStreamError,
    SSEDecodeError,
    UnconfirmedStreamError,
)
from ._sse import BOM, Event, SSEDecoder
from ._values import Meta, Outcome, Token, counted


Feed = Callable[[deque[Any], list[Token], Any], None]
"""
What is handed out of a chunk: put it into the queue.
"""


def feed_nothing(ready: deque[Any], tokens: list[Token], chunk: Any) -> None:
    """
    Only assemble: choices and the final reply need no queue.
    """


def feed_tokens(ready: deque[Any], tokens: list[Token], chunk: Any) -> None:
    """
    Hand out the tokens.
    """
    ready.extend(tokens)


def feed_chunks(ready: deque[Any], tokens: list[Token], chunk: Any) -> None:
    """
    Hand out the chunk as it came, decoded but not structured.
    """
    ready.append(chunk)


class Ahead:
    """
    Keep both for a reader who has not said yet which it wants. Once `sealed`, what is read
    before there is a reader is nobody's any more.
    """

    def __init__(self) -> None:
        self.sealed = False

    def __call__(self, ready: deque[Any], tokens: list[Token], chunk: Any) -> None:
        """
        Keep a chunk, and its tokens.
        """
        if self.sealed:
            ready.clear()
        else:
            ready.append((tokens, chunk))


class Intake:
    """
    What one answer's body has said so far. `take` every block, then `end`.
    """

    __slots__ = (
        "_held",
        "_left",
        "_limit",
        "_meta",
        "_redact",
        "_sse",
        "_strict_end",
        "_whole",
        "assembly",
        "feed",
        "outcome",
        "ready",
        "reason",
    )

    def __init__(
        self,
        n: int = 1,
        *,
        strict_end: bool = False,
        meta: Meta | None = None,
        streamed: bool | None = True,
        redact: Callable[[bytes], bytes] = bytes,
        feed: Feed = feed_nothing,
    ) -> None:
        """
        Args:
            streamed: Whether the answer is a stream; None: its first bytes tell.
            redact: Cuts the key out of bytes before an error carries them.
        """
        self.assembly = Assembly(n)
        self.ready: deque[Any] = deque()
        """
        What waits to be handed out.
        """
        self.feed = feed
        self.outcome: Outcome | None = None
        """
        `FINISHED` or `UNCONFIRMED`, once the answer has ended; errors are raised.
        """
        self.reason = ""
        """
        Why it is `UNCONFIRMED`.
        """
        self._sse = SSEDecoder()
        self._limit = self._left = max(n, 4) * BODY_LIMIT
        self._strict_end = strict_end
        self._meta = meta or Meta()
        self._redact = redact
        # The first bytes, until they have told what this is.
        self._held: bytearray | None = bytearray() if streamed is None else None
        # A whole reply in place of a stream, as far as it has come.
        self._whole: bytearray | None = bytearray() if streamed is False else None

    @property
    def pings(self) -> int:
        """
        Comment lines so far: most servers send them to keep the connection alive.
        """
        return self._sse.comments

    def take(self, block: bytes) -> None:
        """
        Read one block of the body. What comes after the answer's end is not looked at.

        Raises:
            APIStatusError: The server reported an error inside the stream.
            SSEDecodeError: An event is no chunk, or is longer than its ceiling, or all that
                came is longer than `BODY_LIMIT` for each choice, and than four of it.
            IncompleteStreamError: `[DONE]` without any answer.
            UnconfirmedStreamError: `[DONE]` too early, and `strict_end`.
            APIResponseValidationError: What came in place of a stream is too long.
        """
        if self.outcome is not None:
            return
        if self._held is not None:
            block = self._sniff(block)
        if self._whole is None:
            self._left -= len(block)
            if self._left < 0:
                raise SSEDecodeError(
                    f"the stream is longer than {self._limit} bytes, the most that is"
                    f" read of one with {counted(self.assembly.n, 'choice')}"
                )
            self._read(self._sse.feed(block))
        elif len(self._whole) + len(block) <= BODY_LIMIT:
            self._whole += block
        else:
            raise APIResponseValidationError(
                f"the answer is longer than {BODY_LIMIT} bytes"
            )

    def end(self, cause: APIError | None = None) -> None:
        """
        The body has ended, cleanly or by `cause`: judge what there is.

        Raises:
            APIError: As `take`.
            IncompleteStreamError: The answer was not finished.
            APIResponseValidationError: What came in place of a stream is no reply.
        """
        if self.outcome is not None:
            return
        if self._held is not None:
            # All of it could be the first word of something.
            held, self._held = self._held, None
            self._whole = held if held.strip() else None
        if self._whole is None:
            # The last blank line is often forgotten; an event that was cut is not JSON.
            last = self._sse.flush()
            self._read([last] if last and _is_whole(last) else [])
        elif cause is None:
            whole, self._whole = self._whole, bytearray()
            self._take_whole(bytes(whole.lstrip()))
        if self.outcome is not None:
            return
        if not self.assembly.finished:
            if cause is None and not self.assembly.started and _strange(self._meta):
                raise misfit("a stream", b"", self._meta)
            raise self._hung_up(cause) from cause
        self.outcome = Outcome.FINISHED

    def _sniff(self, block: bytes) -> bytes:
        """
        Tell a stream by how it begins, whatever the headers say; what does not begin like
        one is a whole reply, or nothing of use. Returns the bytes to read now.

        Some servers send streams as text/plain, or do not name a type at all.
        """
        assert self._held is not None
        self._held += block
        is_stream = _begins_a_stream(self._held)
        if is_stream is None:
            return b""
        held, self._held = bytes(self._held), None
        if not is_stream:
            self._whole = bytearray()
        return held

    # Events ------------------------------------------------------------------------------

    def _read(self, events: Sequence[Event]) -> None:
        bare = self._sse.bare
        for place, event in enumerate(events):
            if bare and bare[0][0] <= place:
                self._look_at_bare(place)
            # The length is looked at first, as this is asked for every token.
            if len(event.data) > 16 or not _is_done(event.data):
                if event.data or event.event:
                    self._event(event)
            else:
                self._conclude("[DONE]")
                return
        if bare:
            self._look_at_bare(len(events))

    def _look_at_bare(self, place: int) -> None:
        """
        Raise the error in the lines before an event, if there is one: `error: {…}` (llama.cpp
        in 2025), or a JSON body without a field's name (gateways).
        """
        bare = self._sse.bare
        while bare and bare[0][0] <= place:
            _, line = bare.popleft()
            if line.startswith(b"error:"):
                raise self._reported(line[6:])
            if _is_error(line):
                raise self._reported(line)

    def _event(self, event: Event) -> None:
        data, odd, chunk = event.data, False, None
        try:
            chunk = orjson.loads(data)
            check_nesting(data, chunk)
        except ValueError:
            odd = True
        if odd:
            # Blanks in a flood are not worth a second look.
            chunk = _NOTHING if _is_blank(data) else _second_opinion(data)
            if chunk is _NOTHING:
                self._no_json(event)
                return
        if error_in(chunk, event.event) is not None:
            raise self._reported(data)
        self._chunk(chunk, data, odd=odd)

    def _no_json(self, event: Event) -> None:
        # Raised where nothing is being handled: the decoder's error holds what it read.
        if event.event == "error":
            raise self._reported(event.data)
        if not _is_blank(event.data):
            raise self._malformed(event.data)

    def _chunk(self, chunk: Any, data: bytes, *, odd: bool) -> None:
        if not isinstance(chunk, dict):
            raise self._malformed(data)
        tokens: list[Token] = []
        wrong = ""
        try:
            self.assembly.add(chunk, odd=odd, into=tokens)
        except APIResponseValidationError as error:
            wrong = error.message
        if wrong:
            if self.feed is feed_tokens:
                self.ready.extend(tokens)
            raise SSEDecodeError(wrong, content=self._redact(data))
        self.feed(self.ready, tokens, chunk)

    def _malformed(self, data: bytes) -> SSEDecodeError:
        why = _why_not(data)
        data = self._redact(data)
        shown = data[:200].decode("utf-8", "replace")
        return SSEDecodeError(
            f"an event of the stream is no chunk: {why and why + ': '}{shown!r}",
            content=data,
        )

    def _reported(self, data: bytes) -> APIStatusError:
        """
        The error that the server tells in these bytes.
        """
        content = self._redact(data)
        error = status_error_of(
            describe(content, status=self._meta.status or 0),
            status=self._meta.status,
            in_stream=True,
            service=self._meta.service,
        )
        return error.with_facts(meta=self._meta, content=content)

    # The end -------------------------------------------------------------------------

    def _take_whole(self, content: bytes) -> None:
        """
        Something else came in place of a stream: a whole reply will do, as one chunk.
        """
        try:
            reply = loads(content, halves=True)
        except ValueError:
            reply = None
        if error_in(reply) is not None:
            raise self._reported(content)
        if not isinstance(reply, dict) or not says_something(reply.get("choices")):
            raise misfit("a stream", self._redact(content), self._meta)
        self._chunk(reply, content, odd=True)
        self._conclude("the whole reply")

    def _conclude(self, what: str) -> None:
        """
        The server says that this was all: it is, if every choice has said why it stopped.
        """
        assembly = self.assembly
        if assembly.finished:
            self.outcome = Outcome.FINISHED
            return
        if not assembly.started:
            raise IncompleteStreamError("the server ended the stream without an answer")
        self.reason = (
            f"{what} came, but a finish reason for only {assembly.ended}"
            f" of {assembly.n} choices"
        )
        if self._strict_end:
            raise UnconfirmedStreamError(self.reason)
        self.outcome = Outcome.UNCONFIRMED

    def _hung_up(self, cause: APIError | None) -> IncompleteStreamError:
        pieces = counted(self.assembly.pieces, "piece")
        return IncompleteStreamError(
            "the server hung up before the answer was finished,"
            f" after {pieces} of it" + (f": {cause}" if cause else "")
        )


def misfit(expected: str, content: bytes, meta: Meta) -> APIResponseValidationError:
    """
    The error for a body that is something else than was asked for.

    Args:
        content: What came, without the key.
    """
    kind = meta.headers.get("content-type", "")[:100]
    said = "an empty body"
    if encoding := _strange(meta):
        said = f"a body with the content encoding {encoding!r}, which cannot be read"
    elif content.strip():
        facts = describe(content, status=meta.status or 0, content_type=kind)
        said = ": ".join(filter(None, [_why_not(content), facts.message]))
    return APIResponseValidationError(
        f"expected {expected} from {meta.service or 'the server'}, but it sent"
        f" {kind or 'no content type'}: {said}",
        content=content,
        meta=meta,
    )


_NOTHING: Final = object()


def _second_opinion(data: bytes) -> Any:
    """
    The value of JSON that orjson refuses; `_NOTHING` where it is none.
    """
    try:
        return loads(data, halves=True)
    except ValueError:
        return _NOTHING


def _why_not(content: bytes) -> str:
    """
    What is wrong with what looks like JSON at its beginning; "" where nothing is.
    """
    try:
        loads(content)
    except NestingError as error:
        return str(error)
    except json.JSONDecodeError as error:
        if content.lstrip()[:1] in (b"{", b"["):
            return f"no JSON ({error.msg.lower()}, at character {error.pos})"
    except ValueError:
        pass
    return ""


SNIFFED: Final = 1 << 10
"""
Bytes after which a body that has said nothing yet is taken as a stream.
"""

_WORD: Final = re.compile(rb"[\w-]{0,32}")


def _begins_a_stream(held: bytearray) -> bool | None:
    """
    Whether the first line has a field's name, known or not; None if that cannot be told yet.
    """
    text = bytes(held).lstrip()
    if BOM.startswith(text):
        return True if len(held) > SNIFFED else None
    text = text.removeprefix(BOM).lstrip()
    found = _WORD.match(text)
    assert found is not None
    after = text[found.end() : found.end() + 1]
    if not after:
        return None
    if after in (b"\r", b"\n"):
        # A name alone is a field with an empty value.
        return found[0] in (b"data", b"event", b"id", b"retry")
    return after == b":"


def _strange(meta: Meta) -> str:
    """
    The encoding of a body that nothing here can decode; "" where there is none.
    """
    encoding = meta.headers.get("content-encoding", "").strip().lower()
    return "" if encoding in _DECODED else encoding[:40]


_DECODED: Final = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})


def _is_done(data: bytes) -> bool:
    return data.strip() == b"[DONE]"


def _is_blank(data: bytes) -> bool:
    """
    Whether an event says nothing: a gateway may have wrapped a comment into it.
    """
    return data.startswith(b":") or not data.strip()


def _is_whole(event: Event) -> bool:
    """
    Whether an event that no blank line ended is not a part of one.
    """
    if event.event == "error" or _is_done(event.data):
        return True
    try:
        loads(event.data)
    except ValueError:
        return False
    return True


def _is_error(line: bytes) -> bool:
    try:
        return error_in(loads(line)) is not None
    except ValueError:
        return False
