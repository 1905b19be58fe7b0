"""
One connection's bytes: what is an answer, what broke, and what nobody has asked for.
"""

from __future__ import annotations

import re

from typing import Any, Final

import aiohttp

from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from aiohttp.http_parser import HttpResponseParserPy
from aiohttp.streams import StreamReader


# Some servers end lines with LF alone, and the parser lets them.
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")

MAX_INTERIM: Final = 100
"""
Interim answers (1xx) before the last one. Each is read, and forgotten; of one every 20 s, as
RFC 2518 has it, that is half an hour.
"""

PIECE: Final = 1 << 14
"""
Bytes that the parser gets at once: what it finds in them it reads to the end, however many
answers it is.
"""


class Protocol(ResponseHandler):
    """
    aiohttp's side of one connection, which tells the reader of a body that it broke.
    """

    answered = False
    """
    A byte of the response has come, since the last request went out.
    """

    concluded = False
    """
    The head of the last answer has come: there is none after it.
    """

    interim = 0
    """
    Answers that only said that there will be one.
    """

    def depart(self) -> None:
        """
        A request goes out: what comes from now on is its answer.
        """
        self.answered = self.concluded = False
        self.interim = 0

    def data_received(self, data: bytes) -> None:
        """
        Bytes have come.

        A head goes to the parser by itself: of what comes with it and is not HTTP the parser
        tells the error alone, and not the answer before it. And so a flood of answers ends
        with the first that is too many.
        """
        body = self._payload is not None and not self._payload.is_eof()
        # Without data the parser goes on with what it has.
        if not data or (body and len(data) <= PIECE):
            super().data_received(data)
            return
        while data:
            end = len(data)
            if body:
                # Where the reader is behind, the parser only keeps the rest.
                end = end if self._reading_paused else PIECE
            elif self.concluded:
                self._refuse()
                return
            elif found := _END_OF_HEAD.search(data):
                end = found.end()
            super().data_received(data[:end])
            data = data[end:]
            if self.transport is None or self.transport.is_closing():
                return
            body = self._payload is not None and not self._payload.is_eof()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """
        The headers of a response are there.
        """
        self.answered = True
        if self.concluded:
            self._refuse()
            return
        code = data[0].code
        # 101 is a last answer, too.
        self.concluded = not 100 <= code < 200 or code == 101
        self.interim += not self.concluded
        if self.interim <= MAX_INTERIM:
            super().feed_data(data, size)
        elif self.exception() is None:
            self._buffer.clear()
            reason = f"more than {MAX_INTERIM} interim answers"
            self.set_exception(HttpProcessingError(code=400, message=reason))
            self._refuse()

    def _refuse(self) -> None:
        """
        Read no more.

        After a whole answer nobody has asked for anything: were it read, a server could
        fill the memory beside a pool that is idle.
        """
        self._should_close = True
        self._payload = None
        # Not our abort(), which would take the exception back.
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()

    def set_exception(
        self, exc: BaseException, exc_cause: BaseException | None = None
    ) -> None:
        """
        The connection is spoilt.

        After a bad chunk size aiohttp's C parser tells the connection and forgets the body,
        whose reader would wait for ever.
        """
        super().set_exception(exc, *(() if exc_cause is None else (exc_cause,)))
        if isinstance(exc, HttpProcessingError):
            self.answered = True
            exc.__cause__ = exc_cause
            _break(self._payload, exc)

    def close(self) -> None:
        """
        Close now: not after the rest of a request has gone out, nor after TLS's goodbyes,
        for both of which a server may let us wait for ever.
        """
        self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """
        The socket is closed.

        A body without a length ends with its connection: aiohttp takes a reset for such an
        end, too.
        """
        payload = self._payload
        if exc is not None:
            reason = exc if isinstance(exc, OSError) else aiohttp.ClientPayloadError()
            _break(payload, reason)
        if payload is not None and payload.exception() is not None:
            # Else aiohttp puts its own guess in the place of the reason.
            self._payload = None
        if not self.answered:
            self.answered = has_begun(self)
        super().connection_lost(exc)
        # Whatever the parser made of it, nothing more will come.
        _break(payload, aiohttp.ClientPayloadError())


def _break(payload: StreamReader | None, exc: BaseException) -> None:
    if payload is None or payload.is_eof() or payload.exception() is not None:
        return
    payload.set_exception(exc)


def has_begun(protocol: ResponseHandler) -> bool:
    """
    Whether the parser holds the beginning of a response.
    """
    parser = protocol._parser
    if parser is None:
        return False
    if type(parser) is HttpResponseParserPy:
        # Where aiohttp has no C parser.
        return bool(parser._tail or parser._lines)
    try:
        # The one question that the C parser answers about it. It does no harm: the next
        # request gets a new parser.
        return parser.feed_eof() is not None
    except Exception:  # noqa: BLE001 -- half a response, whichever half
        return True
