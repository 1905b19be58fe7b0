"""
The pool, and one exchange over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import warnings

from collections.abc import AsyncGenerator, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakSet

import aiohttp

from multidict import CIMultiDict
from yarl import URL

from ._body import BROKEN, Body
from ._connector import (
    CheckedConnector,
    PoolStats,
    Trip,
    cut,
    disown,
    open_pool,
)
from ._errors import (
    APIConnectionError,
    ClientClosedError,
    HorayError,
    WrongLoopError,
)
from ._forks import in_child, inherit, inherited
from ._network import (
    TLS,
    Proxy,
    a_session,
    a_tls,
    cause_of,
    explain,
    headers_of,
    route,
)
from ._secrets import secrets_in


__all__ = ["NOTHING", "Body", "Session"]

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

LARGE_BODY: Final = 1 << 20
"""
Bytes above which a request's body goes out in blocks: written at once it would hold up the
loop, and aiohttp would say so in a ResourceWarning.
"""

CLOSE_SECONDS: Final = 2.0
"""
How long `Session.close` waits for transports that it has already aborted.
"""


class Session:
    """
    Connections to one base URL, made on first use in the running loop.

    It belongs to that loop until the loop is closed; then it starts anew, and so it does in
    a process that was forked.
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
        _sessions.add(self)

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

        Cancelled: the connection is closed. The error carries `pool` and `connect`, the
        seconds that went by before there was one.

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
        if http.closed:
            raise self._closed_below(http)
        url = self._address(path, query)
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
            # In a query there may be a key, too, which a redirect repeats. (Not in locals: an
            # error's traceback holds this frame.)
            return Body(
                response,
                trip,
                self.where,
                self._responses,
                (*secrets_in(sent), *secrets_in(self._query), *secrets_in(query)),
            )
        except HorayError:
            raise
        except asyncio.CancelledError as error:
            # aiohttp's close() cancels whoever waits for a slot or for DNS.
            task = asyncio.current_task()
            if not http.closed or task is None or task.cancelling():
                pool, making, _ = trip.times()
                error.__dict__.update(pool=pool, connect=making)
                raise
            failure = _closed() if self.closed else self._closed_below(http)
        except BROKEN as error:
            failure = self._failure(error, trip)
        # Out here nothing is being handled, so the error gets no __context__: aiohttp's
        # exceptions and their frames hold the request, headers and all.
        try:
            raise failure
        finally:
            # Else this frame, which the error's traceback holds, would hold the error.
            del failure

    def _address(self, path: str, query: Mapping[str, str]) -> URL:
        url = URL(self._base + path, encoded=True)
        if self._query or query:
            url = url.update_query({**self._query, **query})
        return url

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
            if inherited(loop):
                raise WrongLoopError(
                    "this event loop was made before os.fork() and is the parent process's:"
                    " make a new one here, as asyncio.run() does"
                )
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
            (stream, sends): headers_of(extra, own, stream=stream, sends=sends)
            for stream in (False, True)
            for sends in (False, True)
        }

    def check_loop(self) -> None:
        """
        See whether the running loop may use the connections.

        Raises:
            WrongLoopError: They live on another one, which is not closed.
        """
        if self._loop is None or self._loop is asyncio.get_running_loop():
            return
        if not self._loop.is_closed():
            raise WrongLoopError(
                "this client's connections belong to another event loop, which is not"
                " closed: make a client for each loop, or close() it there first"
            )

    def _leave(self) -> None:
        """
        Forget the loop that the connections live on.

        Raises:
            WrongLoopError: It is not closed.
        """
        self.check_loop()
        if self._loop is None:
            return
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

    def _disown(self) -> None:
        """
        Begin anew in a child process; the connections, the loop and what waits on it are
        the parent's.
        """
        for response in self._responses:
            disown(response)
        self._responses = set()
        inherit(self._loop)
        http, self._http = self._http, None
        keeper, self._keeper = self._keeper, None
        if http is not None and isinstance(http.connector, CheckedConnector):
            http.connector.disown()
            http.detach()
        if keeper is not None:
            # By hand, for it has nothing to wait for; else its loop would be asked to.
            with contextlib.suppress(RuntimeError, StopIteration):
                keeper.aclose().send(None)
        self._loop = None
        self._opening = asyncio.Lock()

    def __reduce_ex__(self, _: Any) -> str:
        raise TypeError(
            "a client is not pickled: it holds connections and a key; make one in each"
            " process"
        )

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

    def _closed_below(self, http: aiohttp.ClientSession) -> ClientClosedError:
        if http is self._borrowed:
            return ClientClosedError("the aiohttp session given as session= is closed")
        return ClientClosedError(
            "the event loop is being shut down, and has closed this client's connections"
        )

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


_sessions: Final[WeakSet[Session]] = WeakSet()


def _after_fork() -> None:
    for session in list(_sessions):
        session._disown()


in_child(_after_fork)


def _closed() -> ClientClosedError:
    return ClientClosedError("this client is closed; make a new one, or close it later")
