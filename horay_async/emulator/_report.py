"""
What the emulator saw, and how to wait until it has seen it.
"""

import asyncio

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal


Fate = Literal["open", "finished", "disconnected", "dropped"]


@dataclass(slots=True, eq=False)
class Request:
    """
    One request as it came off the wire, and what became of it.
    """

    connection: int
    """The number of the TCP connection, from 1, in the order of acceptance."""

    method: str

    path: str
    """Without the query."""

    query: str

    headers: dict[str, str]
    """Names in lower case; where one came twice, the values joined by a comma."""

    body: bytes

    number: int = 0
    """
    From 1, in the order in which requests arrived whole.

    One that an answer struck *at* head counts with its head, and has no body.
    """

    arrival: float = 0.0
    """When it had arrived whole, in the event loop's time."""

    json: Any = None
    """The parsed body; None where there is none or it does not parse."""

    id: str = ""
    """The `x-request-id` of the answer, where the answer is not a scripted one."""

    status: int | None = None
    """The status that was sent; None before, and where a script wrote raw bytes."""

    fate: Fate = "open"
    """
    *open* until the answer's last byte is with the kernel, then *finished*.

    *disconnected*: the client left before. *dropped*: the emulator was closed before. A
    scripted answer that ends in `close` or `reset` is *finished* when it has done so.
    """

    ended: float | None = None
    """When it stopped being open, in the event loop's time."""

    http_version: str = "1.1"

    fault: str = ""
    """The name of the fault that it got, where that has one."""

    @property
    def streaming(self) -> bool:
        """
        Whether the body asked for a stream.
        """
        return isinstance(self.json, dict) and self.json.get("stream") is True

    def __repr__(self) -> str:
        return (
            f"<Request {self.number} {self.method} {self.path} on connection "
            f"{self.connection}: {self.fate}>"
        )


@dataclass(slots=True)
class Report:
    """
    The book of everything seen; whoever waits is woken by every new line in it.
    """

    keep: int | None = None

    log: Callable[[str], None] | None = None

    requests: list[Request] = field(default_factory=list)

    connections: int = 0

    open_connections: int = 0

    arrived: int = 0

    left: int = 0

    open: set[Request] = field(default_factory=set)

    _waiters: set[asyncio.Future[None]] = field(default_factory=set)

    def connect(self) -> int:
        """
        Note a new connection. Returns its number.
        """
        self.connections += 1
        self.open_connections += 1
        self.wake()
        return self.connections

    def disconnect(self) -> None:
        self.open_connections -= 1
        self.wake()

    def arrive(self, request: Request, now: float) -> None:
        """
        Note a request, and give it its number.
        """
        self.arrived += 1
        request.number = self.arrived
        request.arrival = now
        self.requests.append(request)
        if self.keep is not None:
            del self.requests[: max(0, len(self.requests) - self.keep)]
        self.open.add(request)
        self.wake()

    def end(self, request: Request, fate: Fate, now: float) -> None:
        """
        Settle what became of a request. Only the first verdict counts.
        """
        if request.fate != "open":
            return
        request.fate = fate
        request.ended = now
        self.open.discard(request)
        self.left += fate == "disconnected"
        self.tell(f"{request.method} {request.path}", _verdict(request))
        self.wake()

    def tell(self, what: str, became: str) -> None:
        """
        Tell whoever wants a log.
        """
        if self.log is not None:
            self.log(f"{what}: {became}")

    async def until(
        self, predicate: Callable[[], bool], seconds: float, what: str
    ) -> None:
        """
        Wait until the predicate holds; it is asked again whenever something happened.

        Raises:
            TimeoutError: It did not in time; the message says what was seen instead.
        """
        try:
            async with asyncio.timeout(seconds):
                while not predicate():
                    await self._change()
        except TimeoutError:
            message = f"no {what} within {seconds} s; seen: {self}"
            raise TimeoutError(message) from None

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def wake(self) -> None:
        """
        Have all who wait look again.
        """
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def __str__(self) -> str:
        last = ", ".join(map(repr, self.requests[-5:])) or "none"
        return (
            f"{_counted(self.arrived, 'request')} ({len(self.open)} open, {self.left} "
            f"left by their client), {_counted(self.connections, 'connection')} "
            f"({self.open_connections} open); the last requests: {last}"
        )


def _verdict(request: Request) -> str:
    """
    What became of a request, and why.
    """
    facts = [request.fault] if request.fault else []
    facts += [f"status {request.status}"] if request.status is not None else []
    facts += [request.fate] if request.fate != "finished" or not facts else []
    return ", ".join(facts)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
