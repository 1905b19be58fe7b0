"""
One stream's bytes in; its tokens, its verdict and its errors out. No I/O.

It judges what the bytes say: errors in the stream, events that cannot be read, and whether
the answer was finished when the server stopped. When and how to read is `_stream`'s.
"""

from __future__ import annotations

import json

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from ._assembly import Assembly
from ._codec import describe, error_in, loads, status_error_of
from ._errors import (
    APIError,
    APIResponseValidationError,
    APIStatusError,
    IncompleteStreamError,
    SSEDecodeError,
    UnconfirmedStreamError,
)
from ._sse import Event, SSEDecoder
from ._values import Meta, Outcome, Token, counted


BODY_LIMIT: Final = 64 << 20
"""
Bytes of a whole JSON answer, where one comes in place of a stream.
"""

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


class Intake:
    """
    What one answer's body has said so far. `take` every block, then `end`.
    """

    __slots__ = (
        "_meta",
        "_redact",
        "_sniffing",
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
        self._strict_end = strict_end
        self._meta = meta or Meta()
        self._redact = redact
        self._sniffing = streamed is None
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
            SSEDecodeError: An event is no chunk, or is longer than the ceiling.
            IncompleteStreamError: `[DONE]` without any answer.
            UnconfirmedStreamError: `[DONE]` too early, and `strict_end`.
            APIResponseValidationError: What came in place of a stream is too long.
        """
        if self.outcome is not None:
            return
        if self._sniffing:
            self._sniff(block)
        if self._whole is None:
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
        if self._whole is None:
            # The last blank line is often forgotten; an event that was cut is not JSON.
            last = self._sse.flush()
            self._read([last] if last and _is_whole(last) else [])
        elif cause is None:
            self._take_whole(bytes(self._whole.lstrip()))
        if self.outcome is not None:
            return
        if not self.assembly.finished:
            raise self._hung_up(cause) from cause
        self.outcome = Outcome.FINISHED

    def _sniff(self, block: bytes) -> None:
        """
        Tell a whole reply from a stream by the first byte, whatever the headers say.

        Some servers send streams as text/plain, or do not name a type at all.
        """
        begins = block.lstrip()[:1]
        if begins:
            self._sniffing = False
            if begins in b'{[<"':
                self._whole = bytearray()

    # Events ------------------------------------------------------------------------------

    def _read(self, events: Iterable[Event]) -> None:
        # Whether a bare line stood before the events that came with it nobody knows. A
        # server that reports an error so has nothing more to say: it counts as the last
        # thing before the end.
        refusal = self._bare_error() if self._sse.stray else None
        for event in events:
            # The length is looked at first, as this is asked for every token.
            if len(event.data) > 16 or not _is_done(event.data):
                self._event(event)
            elif refusal is None:
                self._conclude("[DONE]")
                return
        if refusal is not None:
            raise refusal

    def _event(self, event: Event) -> None:
        data, odd = event.data, False
        try:
            chunk = orjson.loads(data)
        except ValueError:
            try:
                chunk = loads(data)
            except ValueError:
                if event.event == "error":
                    raise self._reported(data) from None
                if data.startswith(b":") or not data.strip():
                    # A gateway has wrapped a keep-alive comment into an event.
                    return
                raise self._malformed(data) from None
            odd = True
        if error_in(chunk, event.event) is not None:
            raise self._reported(data)
        self._chunk(chunk, data, odd=odd)

    def _chunk(self, chunk: Any, data: bytes, *, odd: bool) -> None:
        if not isinstance(chunk, dict):
            raise self._malformed(data)
        try:
            tokens = self.assembly.add(chunk, odd=odd)
        except APIResponseValidationError as error:
            raise SSEDecodeError(error.message, content=self._redact(data)) from None
        self.feed(self.ready, tokens, chunk)

    def _bare_error(self) -> APIStatusError | None:
        """
        The error in the lines that the standard ignores, if there is one: `error: {…}`
        (llama.cpp in 2025), or a JSON body without a field's name (gateways).
        """
        stray = self._sse.stray.copy()
        self._sse.stray.clear()
        for line in stray:
            if line.startswith(b"error:"):
                return self._reported(line[6:])
            if line.startswith(b"{") and _is_error(line):
                return self._reported(line)
        return None

    def _malformed(self, data: bytes) -> SSEDecodeError:
        data = self._redact(data)
        shown = data[:200].decode("utf-8", "replace")
        return SSEDecodeError(
            f"an event of the stream is no chunk: {shown!r}", content=data
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
            reply = loads(content)
        except ValueError:
            reply = None
        if error_in(reply) is not None:
            raise self._reported(content)
        if not isinstance(reply, dict) or not reply.get("choices"):
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
    kind = meta.headers.get("content-type", "")
    said = "an empty body"
    if content.strip():
        said = describe(content, status=meta.status or 0, content_type=kind).message
    return APIResponseValidationError(
        f"expected {expected} from {meta.service or 'the server'}, but it sent"
        f" {kind or 'no content type'}: {said}",
        content=content,
        meta=meta,
    )


SHORTEST_SECRET: Final = 8
"""
A key of fewer characters is a test's, and cutting it out would maim any text.
"""


def redacted(content: bytes, secret: str | None) -> bytes:
    """
    The bytes without the key, plain or as JSON spells it: some servers echo it.
    """
    if secret and len(secret) >= SHORTEST_SECRET:
        quoted = json.dumps(secret)[1:-1]
        for spelling in (secret, quoted, quoted.replace("/", r"\/")):
            content = content.replace(spelling.encode(), b"***")
    return content


def _is_done(data: bytes) -> bool:
    return data.strip() == b"[DONE]"


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
