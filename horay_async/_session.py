"""
The one room that talks to aiohttp: the pool, one exchange, the response's body.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import warnings

from collections.abc import AsyncGenerator, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import aiohttp

from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from ._connector import CheckedConnector, PoolStats, Trip, cut, open_pool
from ._errors import (
    APIConnectionError,
    APIResponseValidationError,
    ClientClosedError,
    HorayError,
    WrongLoopError,
)
from ._network import TLS, Proxy, a_session, a_tls, cause_of, explain, route


NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

DRAIN_BYTES: Final = 1 << 16
"""
What a server may still send after a normal end, for its connection to be worth keeping.
"""

LARGE_BODY: Final = 1 << 20
"""
Bytes above which a request's body goes out in blocks: written at once it would hold up the
loop, and aiohttp would say so in a ResourceWarning.
"""

CLOSE_SECONDS: Final = 2.0
"""
How long `Session.close` waits for transports that it has already aborted.
"""

# RuntimeError is what aiohttp raises for a body whose connection is gone.
_BROKEN: Final = (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError)


class Session:
    """
    Connections to one base URL, made on first use in the running loop.

    It belongs to that loop until the loop is closed; then it starts anew.
    """

    # For an instance that its constructor refused.
    _http: aiohttp.ClientSession | None = None

    def __init__(
        self,
        *,
        base_url: str,
        headers: Mapping[str, str],
        query: Mapping[str, str] = NOTHING,
        proxy: str | None = None,
        ssl: TLS | None = None,
        max_connections: int = 1000,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        """
        Nothing is opened, read or looked up here.

        Args:
            base_url: Without a slash at its end: paths are appended as they are.
            proxy: Wins over the environment; "" is none, whatever the environment says.
            ssl: A context, a file or directory of CA certificates, or False to trust anyone.
            session: Used as it is, and never closed.

        Raises:
            ConfigurationError: One of them cannot be used.
        """
        self.closed: bool = False
        self._base = base_url
        self._url = URL(base_url, encoded=True)
        self.where: str = f"{self._url.host}:{self._url.port}"
        """
        The server, for messages.
        """
        self._own_headers = headers
        self._query = dict(query)
        self._proxy = Proxy.parse(proxy, "proxy=") if proxy else None
        self._asks_environment = proxy is None and session is None
        self._ssl = a_tls(ssl)
        self._limit = max_connections
        self._borrowed = a_session(session)
        self._keeper: AsyncGenerator[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._responses: set[aiohttp.ClientResponse] = set()
        # Chosen when the pool is opened; the headers by (stream, sends a body).
        self._headers: dict[tuple[bool, bool], CIMultiDict[str]] = {}
        self._options: dict[str, Any] = {}

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] = NOTHING,
        query: Mapping[str, str] = NOTHING,
        stream: bool = False,
        connect: float | None = 10.0,
        departed: Callable[[], None] | None = None,
    ) -> Body:
        """
        Send one request; return when the headers of its answer are there.

        Any status is an answer. Redirects are not followed, cookies not kept.

        Args:
            body: JSON.
            stream: The answer is wanted as server-sent events.
            connect: Seconds for a free slot, DNS, TCP and TLS together; None: no limit.
            departed: Called when there is a connection, just before the request goes out;
                in a borrowed session, which does not tell, at once.

        Cancelled: the connection is closed.

        Raises:
            APIConnectionError: No answer came. It carries `reused` (the connection had been
                used before) and `answered` (some byte of an answer came).
            PoolTimeoutError: All connections were in use for `connect` seconds.
            ConnectTimeoutError: No connection within `connect` seconds.
            ClientClosedError: `close` was called, before or meanwhile.
            WrongLoopError: The connections live on another loop.
        """
        http = self._http
        if http is None or self._loop is not asyncio.get_running_loop():
            http = await self._open()
        if http is self._borrowed and http.closed:
            raise ClientClosedError("the aiohttp session given as session= is closed")
        url = URL(self._base + path, encoded=True)
        if self._query or query:
            url = url.update_query({**self._query, **query})
        sent = self._headers[stream, body is not None]
        if headers:
            sent = sent.copy()
            sent.update(headers)
        data: bytes | io.BytesIO | None = body
        if body is not None and len(body) > LARGE_BODY:
            data = io.BytesIO(body)
        trip = Trip(connect, departed)
        if http is self._borrowed and departed is not None:
            departed()
        failure: HorayError
        try:
            response = await http.request(
                method, url, data=data, headers=sent, timeout=trip, **self._options
            )
            return Body(self, response, trip)
        except asyncio.CancelledError:
            # aiohttp's close() cancels whoever waits for a slot or for DNS.
            task = asyncio.current_task()
            if not self.closed or task is None or task.cancelling():
                raise
            failure = _closed()
        except (aiohttp.ClientError, OSError) as error:
            failure = self._failure(error, trip)
        # Out here nothing is being handled, so the error gets no __context__: aiohttp's
        # exceptions and their frames hold the request, headers and all.
        raise failure

    async def close(self) -> None:
        """
        Close every connection; who reads a body or waits for one gets `ClientClosedError`.

        Returns when the transports are closed, at the latest after two seconds. Twice is
        fine. A borrowed session stays open.

        Cancelled: all is closed, but not waited for.

        Raises:
            WrongLoopError: The connections live on another loop, which is not closed.
        """
        if self._loop is not asyncio.get_running_loop():
            self._leave()
        self.closed = True
        self._http = None
        for response in list(self._responses):
            response.content.set_exception(_closed())
            cut(response)
        self._responses.clear()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await keeper.aclose()

    def stats(self) -> PoolStats:
        """
        How busy the pool is now. Of a borrowed session it counts others' connections, too.
        """
        if self._http is None or self._http.connector is None:
            return PoolStats(open=0, in_use=0, waiting=0, limit=self._limit)
        return PoolStats.of(self._http.connector)

    # Opening -------------------------------------------------------------------------

    async def _open(self) -> aiohttp.ClientSession:
        if self.closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._leave()
            if self._borrowed is not None and self._borrowed._loop is not loop:
                raise WrongLoopError(
                    "the aiohttp session given as session= belongs to another event loop:"
                    " make it in the loop that uses it"
                )
            self._loop = loop
        async with self._opening:
            if self._http is None:
                await self._choose()
                if self.closed:
                    raise _closed()
                self._http = self._borrowed
            if self._http is None:
                self._http, self._keeper = await open_pool(self._limit)
            return self._http

    async def _choose(self) -> None:
        proxy = self._proxy
        if self._asks_environment:
            proxy = Proxy.from_environment(self._url)
        options, extra = await route(self._url, proxy, self._ssl)
        own = self._own_headers
        # Kept, should the session start anew on another loop.
        self._ssl = options["ssl"]
        self._options = {**options, "allow_redirects": False, "raise_for_status": False}
        # Not aiohttp's session headers: it would send those, the key with them, to the
        # proxy as well, in the CONNECT that asks for a tunnel.
        self._headers = {
            (stream, sends): _headers(extra, own, stream=stream, sends=sends)
            for stream in (False, True)
            for sends in (False, True)
        }

    def _leave(self) -> None:
        """
        Forget the loop that the connections live on.

        Raises:
            WrongLoopError: It is not closed.
        """
        if self._loop is None:
            return
        if not self._loop.is_closed():
            raise WrongLoopError(
                "this client's connections belong to another event loop, which is not"
                " closed: make a client for each loop, or close() it there first"
            )
        # While this set holds them, aiohttp's responses are not collected before ours.
        for response in list(self._responses):
            cut(response)
        self._responses.clear()
        self._bury()
        self._loop = self._keeper = None
        self._opening = asyncio.Lock()

    def _bury(self) -> None:
        http, self._http = self._http, None
        # A loop that asyncio.run closed has closed the pool before, as it does with all
        # async generators.
        if http is not None and isinstance(http.connector, CheckedConnector):
            http.connector.bury()
            http.detach()

    def __del__(self) -> None:
        http = self._http
        if http is None or http is self._borrowed or http.closed:
            return
        if self._loop is None or self._loop.is_closed():
            self._bury()
        # Else the loop closes the pool, as it finalises async generators that nobody holds.
        warnings.warn(
            f"a client for {self.where} was not closed: use `async with`, or close()",
            ResourceWarning,
            source=self,
            stacklevel=1,
        )

    # Failing -------------------------------------------------------------------------

    def _failure(self, error: BaseException, trip: Trip) -> HorayError:
        if self.closed:
            return _closed()
        failure: APIConnectionError
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            failure = trip.too_late(self.where, self._limit)
        else:
            failure = APIConnectionError(explain(error, self.where))
            failure.__cause__ = cause_of(error)
        pool, making, reused = trip.times()
        answered = trip.answered or isinstance(error, aiohttp.ClientResponseError)
        return failure.with_facts(
            reused=reused, answered=answered, pool=pool, connect=making
        )


class Body:
    """
    A response: its head, and its body as it comes.

    Read it to its end, or `drop` it.
    """

    __slots__ = (
        "_content",
        "_error",
        "_response",
        "_session",
        "connect",
        "content_type",
        "headers",
        "pool",
        "reason",
        "reused",
        "status",
    )

    def __init__(
        self, session: Session, response: aiohttp.ClientResponse, trip: Trip
    ) -> None:
        self._session = session
        self._response = response
        self._content = response.content
        self._error: BaseException | None = None
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: CIMultiDict[str] = CIMultiDict(response.headers)
        content_type = self.headers.get("Content-Type", "")
        self.content_type = content_type.partition(";")[0].strip().lower()
        """
        In lower case and without parameters; "" where there is none.
        """
        self.pool, self.connect, self.reused = trip.times()
        """
        Seconds waited for a free slot; seconds spent on DNS, TCP and TLS; and whether it
        came over a connection that had been used before, for which the latter are 0.
        """
        session._responses.add(response)

    @property
    def at_end(self) -> bool:
        """
        The whole body has come, though it may not be read; the connection is returned.
        """
        return self._content.is_eof() and self._content.exception() is None

    async def read(self) -> bytes:
        """
        The next bytes, as they came; b"" at the end of a whole body.

        Cancelling loses none: the next call continues.

        Raises:
            APIConnectionError: The body broke off. What had come before is read first.
            ClientClosedError: The session was closed.
        """
        if self._error is not None:
            raise self._error
        failure = None
        try:
            block = await self._content.readany()
        except _BROKEN as error:
            ours = isinstance(error, HorayError) or error is self._error
            if ours or self._content._waiter is not None:
                raise
            if self._content._buffer:
                # aiohttp would throw away what came before the break.
                return self._content._read_nowait(-1)
            block, failure = b"", self._failure(error)
        if failure is not None:
            raise failure
        if not block:
            self._finish()
        return block

    async def read_all(self, limit: int) -> bytes:
        """
        The whole body, decompressed.

        Raises:
            APIResponseValidationError: It is longer than `limit` bytes; no more than that,
                and half a megabyte, is ever in memory.
        """
        blocks, size = [], 0
        while block := await self.read():
            size += len(block)
            if size > limit:
                self.drop()
                raise APIResponseValidationError(
                    f"the body of the answer is longer than {limit} bytes"
                )
            blocks.append(block)
        return b"".join(blocks)

    def interrupt(self, error: BaseException) -> None:
        """
        Make whoever waits in `read` get this error at the loop's next turn, and later reads.

        Nothing is closed, no task is cancelled. Only from the loop's own thread.
        """
        self._error = error
        if not self._response._loop.is_closed():
            self._content.set_exception(error)

    def drop(self) -> None:
        """
        Close the connection now, unless it is returned already. Twice is fine.

        A body that had not come whole cannot be read after that. Only from the loop's own
        thread; the loop may be closed.
        """
        if self._error is None and not self.at_end:
            self.interrupt(APIConnectionError("the connection was closed on our side"))
        self._finish()

    async def drain(self, seconds: float = 0.1) -> bool:
        """
        Read what is left, so that the connection returns to the pool; else drop it.

        It waits no longer than `seconds`, and reads no more than 64 KiB.

        Returns:
            Whether the connection has returned.

        Cancelled: the connection is dropped.
        """
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(seconds):
                while left > 0 and not self.at_end:
                    left -= len(await self.read())
        except (HorayError, TimeoutError):
            pass
        finally:
            self.drop()
        return self.at_end

    def _finish(self) -> None:
        self._session._responses.discard(self._response)
        # It has none after a whole body, unless the server answered before it had the
        # whole request, or wants to speak another protocol.
        if self._response._connection is not None:
            cut(self._response)

    def _failure(self, error: BaseException) -> APIConnectionError:
        failure = APIConnectionError(explain(error, self._session.where))
        failure.__cause__ = cause_of(error)
        self._error = failure.with_facts(
            reused=self.reused, answered=True, pool=self.pool, connect=self.connect
        )
        self._finish()
        return failure

    def __del__(self) -> None:
        # The connection must not stay leased. Whose mistake it is, the room above tells.
        self._session._responses.discard(self._response)
        if self._response.connection is not None:
            try:
                # Collected on any thread, and in the middle of anything.
                self._response._loop.call_soon_threadsafe(cut, self._response)
            except RuntimeError:
                cut(self._response)


def _headers(*more: Mapping[str, str], stream: bool, sends: bool) -> CIMultiDict[str]:
    accept = "text/event-stream" if stream else "application/json"
    headers = CIMultiDict({"Accept": accept})
    if stream:
        # What is compressed comes in blocks, not token by token.
        headers["Accept-Encoding"] = "identity"
    if sends:
        headers["Content-Type"] = "application/json"
    for one in more:
        headers.update(one)
    return headers


def _closed() -> ClientClosedError:
    return ClientClosedError("this client is closed; make a new one, or close it later")
