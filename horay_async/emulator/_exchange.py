"""
One request being answered over HTTP.
"""

from typing import Any

from . import _wire
from ._connection import Connection
from ._families import Service
from ._report import Request


class Exchange:
    """
    Writes one answer: a body with its length, or a stream of events.
    """

    def __init__(
        self,
        connection: Connection,
        request: Request,
        service: Service | None,
        newline: bytes = b"\n",
    ) -> None:
        self.connection = connection
        self.request = request
        self.service = service
        self.keep = connection.keeps_alive
        self.headers: list[tuple[str, str]] = []
        self._newline = newline
        self._chunked = request.http_version != "1.0"

    async def reply(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: _wire.Headers = (),
    ) -> None:
        """
        Send a whole answer.
        """
        named = [
            ("content-type", content_type),
            ("content-length", str(len(body))),
            *_wire.pairs(headers),
        ]
        silent = self.request.method == "HEAD"
        self._head(status, named, b"" if silent else body)
        await self.connection.drain()

    async def reply_json(
        self, status: int, value: Any, headers: _wire.Headers = ()
    ) -> None:
        await self.reply(status, _wire.dump(value), headers=headers)

    async def begin(self) -> None:
        """
        Open a stream of events.
        """
        headers = [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
        ]
        if self._chunked:
            headers.append(("transfer-encoding", "chunked"))
        else:
            self.keep = False
        self._head(200, headers, b"")
        await self.connection.drain()

    async def send(self, *values: Any) -> None:
        """
        Send events, each its own chunk, and wait until the client has room for more.
        """
        for value in values:
            self._write(_wire.event(_wire.dump(value), self._newline))
            await self.connection.drain()

    async def ping(self) -> None:
        self._write(_wire.comment(b"ping", self._newline))
        await self.connection.drain()

    async def end(self) -> None:
        """
        Close a stream of events.
        """
        # In one write: who stops reading at [DONE] has then read all there was.
        last = self._frame(_wire.event(b"[DONE]", self._newline))
        self.connection.write(last + (_wire.LAST_CHUNK if self._chunked else b""))
        await self.connection.drain()

    def _write(self, data: bytes) -> None:
        self.connection.write(self._frame(data))

    def _frame(self, data: bytes) -> bytes:
        return _wire.chunk(data) if self._chunked else data

    def _head(self, status: int, headers: _wire.Headers, body: bytes) -> None:
        self.request.status = status
        named = [
            ("date", _wire.date()),
            ("server", "horay-emulator"),
            *_wire.pairs(headers),
            *self.headers,
        ]
        if not self.keep:
            named.append(("connection", "close"))
        self.connection.write(_wire.head(status, named) + body)
