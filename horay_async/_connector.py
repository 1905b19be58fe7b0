"""
How a connection is made, checked, timed and ended: what aiohttp's connector leaves open.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import select
import socket
import time

from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import aiohttp
import attrs

from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import AddrInfoType, Connection
from aiohttp.tracing import Trace

from ._errors import APIConnectionError, ConnectTimeoutError, PoolTimeoutError
from ._forks import watch
from ._protocol import Protocol, has_begun


KEEPALIVE: Final = 15.0
"""
Seconds that an idle connection stays in the pool.

Not below uvicorn's 5 s: a server's FIN takes an idle connection out of the pool when the loop
sees it, the check before reuse sees the FIN that the loop has not, and for the rest there is a
free retry; while a new TLS connection costs a far caller three round trips. But well below the
60 s of common proxies, and the minutes after which a NAT forgets in silence.
"""

_KEEPALIVE_PROBES: Final = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,
}


@attrs.frozen(kw_only=True)
class PoolStats:
    """
    How busy a pool is.
    """

    open: int
    """
    Connections: idle, in use, and being made.
    """

    in_use: int

    waiting: int
    """
    Exchanges that wait for one.
    """

    limit: int
    """
    `max_connections`; 0 is no limit.
    """

    @classmethod
    def of(cls, connector: aiohttp.BaseConnector) -> PoolStats:
        """
        Count them.
        """
        in_use = len(connector._acquired)
        return cls(
            open=in_use + sum(map(len, connector._conns.values())),
            in_use=in_use,
            waiting=sum(map(len, connector._waiters.values())),
            limit=connector.limit,
        )


class Trip(aiohttp.ClientTimeout):
    """
    One exchange's way to its connection: how long it may take, and what happened on it.

    aiohttp hands the timeout untouched from our call to our connector, so it can bring the
    facts back; a TraceConfig that did the same would cost 10 µs a request.
    """

    # aiohttp's other clocks stay off, and ours is not rounded up to whole seconds.
    total = sock_connect = sock_read = None
    ceil_threshold = math.inf

    # Frozen in the base class.
    __setattr__ = object.__setattr__

    began: float | None = None
    """
    When the exchange asked for a connection; None in a borrowed session, always.
    """

    making: float | None = None
    """
    When it had a slot and no connection, so that one was made.
    """

    ready: float | None = None
    """
    When it had its connection.
    """

    protocol: Protocol | None = None
    """
    What the request went out on.
    """

    def __init__(
        self, limit: float | None, departed: Callable[[], None] | None = None
    ) -> None:
        """
        Args:
            departed: Called when there is a connection, just before the request goes out.
        """
        self.departed = departed
        if limit is not None:
            # aiohttp takes 0 for no limit.
            limit = None if limit == math.inf else max(limit, 0.001)
        self.connect = limit  # type: ignore[misc]  # frozen no more

    def times(self) -> tuple[float, float, bool]:
        """
        Seconds waited for a slot; seconds spent on DNS, TCP and TLS, 0 for a connection
        that was there; and whether it was: the pool holds none but used ones.
        """
        began, making, ready = self.began, self.making, self.ready
        if began is None:
            return 0.0, 0.0, False
        if making is None:
            return (ready or time.monotonic()) - began, 0.0, ready is not None
        return making - began, (ready or time.monotonic()) - making, False

    @property
    def answered(self) -> bool:
        """
        At least one byte of a response came.
        """
        return self.protocol is not None and self.protocol.answered

    def too_late(self, where: str, limit: int) -> APIConnectionError:
        """
        The error for a connection that did not come in time.
        """
        pool, making, _ = self.times()
        waited = pool + making
        if self.began is not None and self.making is None:
            return PoolTimeoutError(
                f"all {limit} connections are in use; waited {waited:.1f} s:"
                " raise max_connections, or send less at once"
            )
        return ConnectTimeoutError(
            f"no connection to {where} within {waited:.1f} s"
            f" ({pool:.1f} s of it for a free slot)"
        )


class CheckedConnector(aiohttp.TCPConnector):
    """
    A pool that reuses no connection with bytes over, and knows what a connection cost.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            limit=limit,
            keepalive_timeout=KEEPALIVE,
            socket_factory=_socket,
        )
        self._factory = functools.partial(  # type: ignore[assignment]  # a narrower one
            Protocol, loop=self._loop
        )
        self._in_the_making: set[asyncio.Timeout] = set()

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> Connection:
        """
        A connection from the pool, or a new one; the trip notes which, and the time.
        """
        assert isinstance(timeout, Trip)
        timeout.began = time.monotonic()
        connection = await super().connect(req, traces, timeout)
        # Not one await from here: a cancellation would lose the connection.
        timeout.ready = time.monotonic()
        protocol = connection._protocol
        assert isinstance(protocol, Protocol)
        timeout.protocol = protocol
        protocol.depart()
        if timeout.departed is not None:
            timeout.departed()
        return connection

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            protocol = connection._protocol
            assert protocol is not None
            if not is_soiled(protocol):
                break
            connection.close()
        return connection

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> ResponseHandler:
        assert isinstance(timeout, Trip)
        timeout.making = time.monotonic()
        if self._closed:
            raise aiohttp.ClientConnectionError
        # aiohttp's close() does not stop what is being made: it could take minutes.
        async with asyncio.timeout(None) as scope:
            self._in_the_making.add(scope)
            try:
                return await super()._create_connection(req, traces, timeout)
            finally:
                self._in_the_making.discard(scope)

    def stop_making(self) -> None:
        """
        Break off the connections that are being made.
        """
        for scope in self._in_the_making:
            scope.reschedule(self._loop.time())

    def bury(self) -> None:
        """
        Close what a loop that is closed left open, without that loop.
        """
        for protocol in self._protocols():
            bury(protocol.transport)
            protocol.transport = None
        with contextlib.suppress(RuntimeError):
            # It marks itself closed, then tells those who wait: on a loop that is closed.
            self._close()

    def disown(self) -> None:
        """
        Let go of connections that are the parent process's, once `sever` has cut them off.
        """
        self._closed = True
        self._in_the_making.clear()
        for protocol in self._protocols():
            bury(protocol.transport)
        self._conns.clear()
        self._acquired.clear()

    def _protocols(self) -> list[ResponseHandler]:
        idle = [protocol for pool in self._conns.values() for protocol, _ in pool]
        return idle + list(self._acquired)


def is_soiled(protocol: ResponseHandler) -> bool:
    """
    Whether an idle connection has said something after its answer, or has ended.

    What came with the answer is in the parser, what came since is in the protocol, and what
    the loop has not read yet is in the socket.
    """
    return protocol.should_close or has_begun(protocol) or _is_readable(protocol)


def _is_readable(protocol: ResponseHandler) -> bool:
    assert protocol.transport is not None
    sock = protocol.transport.get_extra_info("socket")
    if not hasattr(select, "poll"):  # pragma: no cover -- Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _socket(address: AddrInfoType) -> socket.socket:
    # aiohttp sets TCP_NODELAY. Keep-alive is for the answer that takes minutes to begin:
    # a NAT in between must not forget the connection, and a dead peer must show.
    family, kind, proto, *_ = address
    sock = socket.socket(family, kind, proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in _KEEPALIVE_PROBES.items():
        # macOS and Windows lack some of them.
        if (option := getattr(socket, name, None)) is not None:  # pragma: no branch
            sock.setsockopt(socket.IPPROTO_TCP, option, seconds)
    watch(sock)
    return sock


async def open_pool(
    limit: int,
) -> tuple[aiohttp.ClientSession, AsyncGenerator[None]]:
    """
    An aiohttp session in the running loop, and its keeper: `aclose` that to close both.

    `asyncio.run` closes its loop's async generators before it closes the loop. So a client
    that is used in one run after another leaves no connection behind in any.
    """
    connector = CheckedConnector(limit)
    http = aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar()
    )
    # aiohttp would send a GET again by itself, unseen by whoever counts attempts.
    http._retry_connection = False
    keeper = _keep(http, connector)
    await anext(keeper)
    return http, keeper


async def _keep(
    http: aiohttp.ClientSession, connector: CheckedConnector
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        connector.stop_making()
        await http.close()


# Ending ----------------------------------------------------------------------------


def cut(response: aiohttp.ClientResponse) -> None:
    """
    Close a response's connection now. Twice is fine, and so is a closed loop.
    """
    connection = response.connection
    if connection is None:
        return
    if response._loop.is_closed():
        bury(connection.transport)
        disown(response)
        return
    if connection.transport is not None:
        # In a borrowed session, its protocol's close() would not do.
        connection.transport.abort()
    response.close()


def disown(response: aiohttp.ClientResponse) -> None:
    """
    Part a response from its connection, which stays as it is. Twice is fine.

    aiohttp's own close() would wake who waits for it, and keep what then warns.
    """
    connection, response._connection = response._connection, None
    response._closed = True
    if connection is not None:
        connection._protocol = None


def bury(transport: Any) -> None:
    """
    Close a transport whose loop is closed, quietly.

    Its own `close` would leave the last step to that loop.
    """
    # TLS stands on another transport, which has the socket. uvloop closes its own.
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    with contextlib.suppress(AttributeError, RuntimeError):
        below._call_connection_lost(None)
