"""
AsyncHoray: the verbs, over one pool of connections and one governor.
"""

from __future__ import annotations

import ssl as tls

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import attrs

from ._codec import warm
from ._errors import ClientClosedError, ConfigurationError
from ._events import Hook, listen
from ._governor import Governor
from ._leases import Governing, Lane
from ._line import Line
from ._requests import Validate
from ._resources import Chat, Completions, Images, Models, User
from ._services import Service
from ._session import Session
from ._settings import (
    check_flag,
    check_headers,
    check_hook,
    check_lane,
    check_query,
    check_retries,
    check_timeouts,
    check_validate,
    own_headers,
    resolve,
)
from ._timeouts import Timeouts
from .many._verbs import Many


if TYPE_CHECKING:
    import aiohttp


_GOVERNS: Final = ("at_most", "lease", "close", "snapshot")
"""
What is asked of a governor: see `_leases.Governing`.
"""


class AsyncHoray(Many):
    """
    A client of Horay, of Empower, or of any server of the same shape.

    Make one for the life of the program and share it: it holds a pool of connections. Use
    it in `async with`, or `await client.close()` at the end.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        service: Service | None = None,
        base_url: str | None = None,
        timeouts: Timeouts | None = None,
        timeout: float | None = None,
        max_retries: int = 2,
        max_connections: int = 1000,
        governor: Governing | None = None,
        lane: Lane | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, str | float] | None = None,
        proxy: str | None = None,
        ssl: tls.SSLContext | bool | str | None = None,
        session: aiohttp.ClientSession | None = None,
        on_event: Hook | None = None,
        idempotency_keys: bool = False,
        validate: Validate = "documented",
        allow_insecure: bool | None = None,
    ) -> None:
        """
        Nothing is opened or looked up here: the first call does it, on its loop.

        Args:
            api_key: Default: the service's variable, `HORAY_API_KEY` or
                `EMPOWER_API_KEY`. Not needed for a server on this machine.
            service: `HORAY` (default), `EMPOWER`, or one of your own.
            base_url: With its version, as in `http://localhost:8000/v1`. Default:
                `HORAY_BASE_URL`, `EMPOWER_API_BASE`, or the vendor's own. An address of
                another host without `service` is taken as any compatible server.
            timeouts: The five clocks.
            timeout: Short for a deadline of so many seconds.
            max_retries: How often a failed call is tried again; 0 is never. A second try
                may be paid twice.
            max_connections: How many at once; further calls wait.
            governor: `Governor(rpm=..., tpm=..., concurrency=...)` keeps to limits of yours.
                Share one to share its limits between clients.
            lane: "batch" lets the calls of others go first where calls wait. Default:
                "batch" for `map`, "interactive" for all others.
            default_headers: Sent with every request, over ours.
            default_query: Sent with every request.
            proxy: `http://[user:password@]host:port`; "" for none. Default: the
                environment's, read once.
            ssl: A context, or the path of a file or directory of CA certificates, or False
                to check nothing.
            session: An aiohttp session of your own; it is never closed.
            on_event: Called with each `AttemptStarted`, `AttemptFailed`, `CallEnded`.
            idempotency_keys: Send an `Idempotency-Key` with each POST, a new one for each call
                and the same in all its attempts, so that a server that knows the header
                does not answer, and bill, twice. A header of your own of that name wins.
            validate: "documented" checks the documented ranges, "strict" refuses fields
                that the service does not document, "off" does neither.
            allow_insecure: Send the key over plain http to another machine. Default:
                `HORAY_ALLOW_INSECURE`.

        Raises:
            ConfigurationError: A setting with which no call can work.
        """
        settings = resolve(
            api_key=api_key,
            service=service,
            base_url=base_url,
            allow_insecure=allow_insecure,
        )
        if isinstance(max_connections, bool) or not isinstance(max_connections, int):
            raise ConfigurationError(
                f"max_connections is {max_connections!r}, expected a whole number"
            )
        if max_connections < 1:
            raise ConfigurationError(
                f"max_connections is {max_connections}, expected 1 or more"
            )
        settings = attrs.evolve(
            settings,
            headers=check_headers(default_headers, "default_headers"),
            query=check_query(default_query, "default_query"),
            timeouts=check_timeouts(timeouts, timeout, Timeouts()),
            max_retries=check_retries(max_retries),
            validate=check_validate(validate),
            hook=check_hook(on_event),
            idempotency_keys=check_flag("idempotency_keys", idempotency_keys),
            lane=None if lane is None else check_lane(lane),
        )
        lacking = [name for name in _GOVERNS if not hasattr(governor, name)]
        if governor is not None and lacking:
            raise ConfigurationError(
                f"governor is {governor!r}, expected a Governor, or what has its"
                f" {' and '.join(lacking)} as well"
            )
        http = Session(
            base_url=settings.base_url,
            headers=own_headers(settings.key),
            proxy=proxy,
            ssl=ssl,
            max_connections=max_connections,
            session=session,
        )
        self._join(
            Line(settings=settings, session=http, governor=governor or Governor())
        )
        warm()
        listen()

    def _join(self, line: Line) -> None:
        self._line = line
        self.chat: Chat = Chat(line)
        self.completions: Completions = Completions(line)
        self.images: Images = Images(line)
        self.models: Models = Models(line)
        self.user: User = User(line)

    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, str | float] | None = None,
        on_event: Hook | None = None,
        idempotency_keys: bool | None = None,
        validate: Validate | None = None,
        lane: Lane | None = None,
    ) -> Self:
        """
        The same client with other options: it shares the pool and the governor.

        What is not given stays. Headers and query are added to those there are. Closing
        either closes both.

        Args:
            lane: "interactive" calls go before "batch" calls where the governor makes calls
                wait. Default: `map` is batch, all else is interactive.
        """
        old = self._line.settings
        new = attrs.evolve(
            old,
            timeouts=check_timeouts(timeouts, timeout, old.timeouts),
            max_retries=old.max_retries
            if max_retries is None
            else check_retries(max_retries),
            headers={
                **old.headers,
                **check_headers(default_headers, "default_headers"),
            },
            query={**old.query, **check_query(default_query, "default_query")},
            hook=old.hook if on_event is None else check_hook(on_event),
            idempotency_keys=old.idempotency_keys
            if idempotency_keys is None
            else check_flag("idempotency_keys", idempotency_keys),
            validate=old.validate if validate is None else check_validate(validate),
            lane=old.lane if lane is None else check_lane(lane),
        )
        client = object.__new__(type(self))
        client._join(attrs.evolve(self._line, settings=new))
        return client

    copy = with_options

    # What it is ----------------------------------------------------------------------

    @property
    def governor(self) -> Governing:
        """
        Who may send when; its `snapshot()` shows every gate.
        """
        return self._line.governor

    @property
    def service(self) -> Service:
        """
        What the client speaks to.
        """
        return self._line.settings.service

    @property
    def base_url(self) -> str:
        """
        Where that is.
        """
        return self._line.settings.base_url

    def is_closed(self) -> bool:
        """
        Whether `close` was called.
        """
        return self._line.session.closed

    async def close(self) -> None:
        """
        Close every connection; streams that are still open end with an error.

        Twice is fine. A session that was given is left open.
        """
        await self._line.close()

    async def __aenter__(self) -> Self:
        if self.is_closed():
            raise ClientClosedError("this client was closed; make a new one")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service.name} at {self.base_url}>"
