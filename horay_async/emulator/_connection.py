"""
One TCP connection: requests read by h11, answers written as bytes.
"""

import asyncio
import socket
import struct
import sys

from typing import Protocol

import h11

from . import _wire
from ._report import Request


# What a client may send ahead, while its last request is being answered.
_AHEAD = 1 << 20

# How long we let a client finish sending a body that was refused before its end: a
# connection closed with unread bytes is reset, and the answer would be lost with it.
_LINGER = 2.0

# l_onoff and l_linger: closing with a linger time of zero sends a reset (socket(7)). The
# two are ints, on Windows shorts.
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class BadRequest(Exception):
    """
    What came is no request that can be served.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class Host(Protocol):
    """
    What a connection needs of the server that accepted it.
    """

    max_body: int

    def connected(self, connection: "Connection") -> int:
        """
        Note a new connection. Returns its number.
        """
        ...

    def arrived(self, request: Request) -> None:
        """
        Note a request that has arrived whole.
        """
        ...

    def left(self, request: Request) -> None:
        """
        Note that a request's client is gone.
        """
        ...

    def lost(self, connection: "Connection") -> None:
        """
        Forget a connection: its socket is about to be closed.
        """
        ...

    async def welcome(self, connection: "Connection") -> bool:
        """
        Receive a new connection. Returns whether requests are to be read from it.
        """
        ...

    def is_early(self, request: Request) -> bool:
        """
        Whether a request is to be answered as soon as its head has arrived.
        """
        ...

    async def serve(self, connection: "Connection", request: Request) -> bool:
        """
        Answer. Returns whether the connection can serve another request.
        """
        ...

    async def refuse(
        self, connection: "Connection", request: Request, bad: BadRequest
    ) -> None:
        """
        Answer what is no request that can be served.
        """
        ...


class Connection(asyncio.Protocol):
    """
    A client's connection, from its acceptance to its loss.

    One task serves its requests, one after the other. The end of the connection
    cancels the task at once, whatever it is doing: that is how a client's leaving ends
    the answer that it no longer wants.
    """

    def __init__(self, host: Host) -> None:
        self.number: int = 0
        self.keeps_alive: bool = True
        self.task: asyncio.Task[None] | None = None
        self.request: Request | None = None
        self.stale: bool = False
        """Whether the next byte that arrives is answered with a reset."""
        self.deaf: bool = False
        """Whether what arrives is thrown away."""
        self._host = host
        self._transport: asyncio.Transport
        self._parser = h11.Connection(h11.SERVER)
        self._head: Request | None = None
        self._kept = False
        self._ahead = 0
        self._more: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports do not derive from asyncio's.
        self._transport = transport  # type: ignore[assignment]
        # No buffer of ours: drain() then means that the kernel has everything.
        self._transport.set_write_buffer_limits(high=0)
        self.number = self._host.connected(self)
        self.task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            return
        if self.stale:
            self._leave()
            self.reset()
            return
        if self.request is not None:
            self._ahead += len(data)
            if self._ahead > _AHEAD:
                self._leave()
                self._transport.abort()
                return
        self._parser.receive_data(data)
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def eof_received(self) -> None:
        # A client that shuts down its sending half cannot be told from one that closed
        # its socket. Clients of this kind of API do only the latter.
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's name
        self._leave()
        self._host.lost(self)

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # What those who answer call.

    def write(self, data: bytes) -> None:
        # Nobody reads what follows a failed write, and asyncio would log each attempt.
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """
        Wait until everything written has been handed to the kernel.
        """
        if self._room is not None:
            await self._room
        if self._transport.is_closing():
            # The loop tells of a loss in its next turn, and that cancels this task.
            await asyncio.sleep(0)

    def close(self) -> None:
        """
        Hang up, once everything written has been sent.
        """
        self._transport.close()

    def reset(self) -> None:
        """
        Hang up with a TCP reset.
        """
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def drop(self) -> None:
        """
        Hang up at once. What is lost with the connection ends with it: see _leave.
        """
        self._transport.abort()

    def close_if_idle(self) -> None:
        """
        Hang up if the connection is kept for a request that has not begun to arrive.
        """
        begun = self._head is not None or self._parser.trailing_data[0]
        if self._kept and not begun and not self._transport.is_closing():
            # Now, not in the loop's next turn: the client should notice before it calls.
            self._transport.write_eof()
            self.close()

    # The task.

    async def _run(self) -> None:
        if not await self._host.welcome(self):
            return
        try:
            while await self._host.serve(self, await self._read()):
                self._renew()
            if self.deaf and not self._transport.is_closing():
                await self._linger()
        except BadRequest as bad:
            nothing = Request(self.number, "", "", "", {}, b"")
            await self._host.refuse(self, self._head or nothing, bad)
            await self._linger()
        self.close()

    async def _read(self) -> Request:
        """
        Wait for a whole request, or for the head of one that is answered without more.
        """
        body = bytearray()
        told = False
        while True:
            event = self._next_event()
            if event is h11.NEED_DATA:
                if self._parser.they_are_waiting_for_100_continue and not told:
                    self.write(_wire.CONTINUE)
                    told = True
                await self._data()
            elif isinstance(event, h11.Request):
                self._head = head = self._beginning(event)
                if self._host.is_early(head):
                    self.deaf = True
                    return self._arrived(head)
                self._measure(int(head.headers.get("content-length", 0)))
            elif isinstance(event, h11.Data):
                body += event.data
                self._measure(len(body))
            else:
                assert self._head is not None
                self._head.body = bytes(body)
                return self._arrived(self._head)

    def _next_event(self) -> object:
        try:
            return self._parser.next_event()
        except h11.RemoteProtocolError as error:
            raise BadRequest(error.error_status_hint, str(error)) from None

    def _measure(self, size: int) -> None:
        if size > self._host.max_body:
            reason = f"the body is larger than {self._host.max_body} bytes"
            raise BadRequest(413, reason)

    async def _data(self) -> None:
        self._more = asyncio.get_running_loop().create_future()
        await self._more

    def _arrived(self, request: Request) -> Request:
        self.request = request
        self.keeps_alive = (
            not self.deaf
            and request.http_version == "1.1"
            and "close" not in request.headers.get("connection", "").lower()
        )
        self._host.arrived(request)
        return request

    def _beginning(self, head: h11.Request) -> Request:
        """
        What is known of a request by its head.
        """
        headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        path, _, query = head.target.decode("latin-1").partition("?")
        method, version = head.method.decode(), head.http_version.decode()
        return Request(
            self.number, method, path, query, headers, b"", http_version=version
        )

    def _renew(self) -> None:
        """
        Make ready for the next request: h11 would have to write our answers to do it.
        """
        ahead, _ = self._parser.trailing_data
        self._parser = h11.Connection(h11.SERVER)
        if ahead:
            self._parser.receive_data(ahead)
        self.request = None
        self._head = None
        self._kept = True
        self._ahead = 0

    async def _linger(self) -> None:
        self.deaf = True
        await self.drain()
        self._transport.write_eof()
        try:
            async with asyncio.timeout(_LINGER):
                await asyncio.Event().wait()  # the client's leaving cancels this task
        except TimeoutError:
            pass

    def _leave(self) -> None:
        if self.request is not None:
            self._host.left(self.request)
        if self.task is not None:
            self.task.cancel()
