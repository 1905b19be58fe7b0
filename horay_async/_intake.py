"""
One stream's bytes in; its tokens, its verdict and its errors out. No I/O.

It judges what the bytes say: errors in the stream, events that cannot be read, and whether
the answer was finished when the server stopped. When and how to read is `_stream`'s.
"""

from __future__ import annotations

import contextlib

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import orjson

from ._assembly import Assembly
from ._codec import ErrorFacts, describe, error_in, loads, status_error_of
from ._errors import (
    APIError,
    APIResponseValidationError,
    IncompleteStreamError,
    SSEDecodeError,
    UnconfirmedStreamError,
)
from ._sse import Event, SSEDecoder
from ._values import Meta, Outcome, Token


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
        self._sse = SSEDecoder()
        self._strict_end = strict_end
        self._meta = meta or Meta()
        self._redact = redact
        self._whole: bytearray | bool | None = None
        if streamed is not None:
            self._whole = False if streamed else bytearray()

    @property
    def pings(self) -> int:
        """
        Comment lines so far: most servers send them to keep the connection alive.
        """
        return self._sse.comments

    def take(self, block: bytes) -> None:
        """
        Read one block of the body.

        Raises:
            APIStatusError: The server reported an error inside the stream.
            SSEDecodeError: An event is no chunk, or is longer than the ceiling.
            IncompleteStreamError: `[DONE]` without any answer.
            UnconfirmedStreamError: `[DONE]` too early, and `strict_end`.
        """
        if self._whole is not False:
            block = self._sniff(block)
        for event in self._sse.feed(block):
            self._event(event)
            if self.outcome is not None:
                return
        if self._sse.stray:
            self._judge_stray()

    def _sniff(self, block: bytes) -> bytes:
        """
        Tell a whole reply from a stream, and gather it; returns what is a stream's.
        """
        if self._whole is None:
            # Some servers send streams as text/plain, or do not name a type at all.
            begins = block.lstrip()[:1]
            if not begins:
                return block
            self._whole = bytearray() if begins in (b"{", b"<") else False
        if isinstance(self._whole, bytearray):
            self._whole += block
            if len(self._whole) > BODY_LIMIT:
                msg = f"the answer is longer than {BODY_LIMIT} bytes"
                raise APIResponseValidationError(msg)
            return b""
        return block

    def end(self, cause: APIError | None = None) -> None:
        """
        The body has ended, cleanly or by `cause`: judge what there is.

        Raises:
            IncompleteStreamError: The answer was not finished.
        """
        if isinstance(self._whole, bytearray):
            if cause is None:
                self._take_whole(bytes(self._whole))
        elif (event := self._sse.flush()) is not None:
            # The last blank line is often forgotten; an event that was cut is not JSON.
            with contextlib.suppress(SSEDecodeError):
                self._event(event)
        if self._sse.stray:
            self._judge_stray()
        if self.outcome is None:
            self._hung_up(cause)

    def _hung_up(self, cause: APIError | None) -> None:
        if self.assembly.finished:
            self.outcome = Outcome.FINISHED
            return
        pieces = self.assembly.pieces
        raise IncompleteStreamError(
            "the server hung up before the answer was finished,"
            f" after {pieces} piece{'s' * (pieces != 1)} of it"
            + (f": {cause}" if cause else "")
        ) from cause

    def _take_whole(self, content: bytes) -> None:
        """
        Something else came in place of a stream: a whole reply will do, as one chunk.
        """
        try:
            reply = loads(content)
        except ValueError:
            kind = self._meta.headers.get("content-type", "")
            facts = describe(
                self._redact(content), status=self._meta.status or 0, content_type=kind
            )
            raise APIResponseValidationError(
                f"expected a stream, but the server sent {kind or 'this'}:"
                f" {facts.message}",
                content=self._redact(content),
            ) from None
        self._chunk(reply, "", odd=True)

    def _event(self, event: Event) -> None:
        data = event.data
        if len(data) < 16 and data.strip() == b"[DONE]":
            self._done()
            return
        odd = False
        try:
            chunk = orjson.loads(data)
        except ValueError:
            if data.startswith(b":") or not data.strip():
                # A gateway has wrapped a keep-alive comment into an event.
                return
            try:
                chunk = loads(data)
            except ValueError:
                raise self._malformed(data) from None
            odd = True
        self._chunk(chunk, event.event, odd=odd)

    def _chunk(self, chunk: Any, name: str, *, odd: bool) -> None:
        if (facts := error_in(chunk, name)) is not None:
            raise self._reported(facts)
        if not isinstance(chunk, dict):
            raise self._malformed(repr(chunk).encode("utf-8", "replace"))
        self.feed(self.ready, self.assembly.add(chunk, odd=odd), chunk)

    def _malformed(self, data: bytes) -> SSEDecodeError:
        data = self._redact(data)
        shown = data[:200].decode("utf-8", "replace")
        return SSEDecodeError(
            f"an event of the stream is no chunk: {shown!r}", content=data
        )

    def _reported(self, facts: ErrorFacts) -> APIError:
        error = status_error_of(
            facts,
            status=self._meta.status,
            in_stream=True,
            service=self._meta.service,
        )
        return error.with_facts(meta=self._meta)

    def _judge_stray(self) -> None:
        """
        Lines that the standard ignores may be an error: `error: {…}` (llama.cpp in 2025),
        or a JSON body without a field's name (gateways).
        """
        stray = list(self._sse.stray)
        self._sse.stray.clear()
        for line in stray:
            named = line.startswith(b"error:")
            if not named and not line.startswith(b"{"):
                continue
            with contextlib.suppress(ValueError):
                data = loads(line[6:] if named else line)
                if (facts := error_in(data, "error" if named else "")) is not None:
                    raise self._reported(facts)

    def _done(self) -> None:
        """
        `[DONE]` came: the answer is whole if every choice has said why it stopped.
        """
        assembly = self.assembly
        if assembly.finished:
            self.outcome = Outcome.FINISHED
        elif not assembly.started:
            raise IncompleteStreamError("the server ended the stream without an answer")
        else:
            self.reason = (
                f"[DONE] came, but a finish reason for only {assembly.ended}"
                f" of {assembly.n} choices"
            )
            if self._strict_end:
                raise UnconfirmedStreamError(self.reason)
            self.outcome = Outcome.UNCONFIRMED
