"""
The server: a listening socket, and what everybody behind it shares.
"""

import asyncio
import secrets

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self

from . import _limits, _wire
from ._connection import BadRequest, Connection
from ._door import Door
from ._exchange import Exchange
from ._families import HORAY, Refusal
from ._report import Report, Request
from ._routes import Desk, refuse, service_of
from ._script import Answer, Step, greet, play, wait
from ._text import load
from ._turns import ChoiceError, Script, Scripted
from ._voices import Echo, Ngram, Voice
from ._writing import Pace
from .faults import Fault


# Raised in a task, but not by what it does.
_PASSING = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)


class Emulator:
    """
    A local Horay and Empower.

    With *mode* "ngram" it answers with text that a small model makes of the prompt;
    with "echo" it says what the user said last (or the prompt), byte for byte, in words
    that carry the white space before them. An echo is not cut by the documented default
    of `max_tokens`, only by a limit that the request itself sets.

    *api_keys* of None takes every key but "bad-key". *time_to_first_token* (seconds)
    and *tokens_per_second* (of each choice) set the pace of streams, and of whole answers
    as well; beyond *requests_per_second* comes a 429. *models* are names that Horay's
    endpoints take beside the documented ones. *keep_requests* bounds the list of
    requests seen: a server that runs for days needs it.

    *newline* ("\\n", "\\r\\n" or "\\r") ends the lines of event streams; with *ping_every*
    (seconds) a silent stream carries comments.

    *faults* are names of `FAULTS` and their shares: with {"reset-mid-chunk": 0.05} one
    POST request in twenty gets that answer instead of its own, at random; a fault that
    strikes before a request gets its share of the connections. *seed* repeats the
    sequence. Besides, a request can choose a fault for itself, with the header
    `x-emulator-fault: reset-mid-chunk`, and `script` writes down what comes next.

    *log* is given a line for each request when it is over, and for each connection that a
    fault struck before there was one.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        mode: Literal["ngram", "echo"] = "ngram",
        api_keys: Collection[str] | None = None,
        models: Collection[str] = (),
        time_to_first_token: float = 0.0,
        tokens_per_second: float | None = None,
        requests_per_second: float | None = None,
        newline: str = "\n",
        ping_every: float | None = None,
        max_body: int = 10 << 20,
        keep_requests: int | None = None,
        backlog: int = 4096,
        faults: Mapping[str, float] | None = None,
        seed: int | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        if mode not in {"ngram", "echo"}:
            raise ValueError(f'mode must be "ngram" or "echo", not {mode!r}')
        self.host = host
        self.port: int = port
        self.mode = mode
        self.max_body = max_body
        self.errors: list[Exception] = []
        """What went wrong in the emulator itself, or in a script's callables."""
        self.struck: Counter[str] = Counter()
        """How often each named fault has struck so far."""
        self._models = models
        self._api_keys = api_keys
        self._pace = Pace(
            time_to_first_token=time_to_first_token,
            tokens_per_second=tokens_per_second,
            ping_every=ping_every,
        )
        self._rate = requests_per_second
        self._newline = newline.encode()
        self._report = Report(keep_requests, log)
        self._script = Script(faults, seed)
        self._nonce = secrets.token_hex(4)
        self._open: set[Connection] = set()
        self._desk: Desk
        self._door = Door(lambda: Connection(self), backlog)
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._greeted: set[Connection] = set()
        self._closing = False

    # Its life.

    async def start(self) -> None:
        """
        Load the model and listen.
        """
        if self.started:
            raise RuntimeError("the emulator has been started already")
        self._desk = Desk(
            voice=await _voice(self.mode),
            pace=self._pace,
            api_keys=self._api_keys,
            models=self._models,
            bucket=None if self._rate is None else _limits.Bucket(self._rate),
        )
        self.port = await self._door.open(self.host, self.port)
        self._started = True
        self._desk.address = self.address
        self._report.wake()
        self._look_ahead()

    async def aclose(self) -> None:
        """
        Stop listening and drop all connections, whatever they are doing. Twice is fine.
        """
        if not self._started:
            return
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._door.close()
        for request in list(self._report.open):
            self._report.end(request, "dropped", self._now())
        tasks = [connection.task for connection in self._open if connection.task]
        for connection in list(self._open):
            connection.drop()
        await asyncio.gather(*tasks, return_exceptions=True)
        # An aborted connection is told of its loss in the loop's next turn.
        await self._report.until(lambda: not self._open, 5, "end of the connections")
        await self._door.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
        if error is None and self.errors:
            raise self.errors[0]

    # Where it is.

    @property
    def started(self) -> bool:
        return self._started

    @property
    def listening(self) -> bool:
        """
        Whether connections are accepted: not while an answer *at* listen refuses them.
        """
        return self._door.is_open

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """
        Where Horay is.
        """
        return f"{self.address}/v1"

    @property
    def empower_base_url(self) -> str:
        """
        Where Empower is.
        """
        return f"{self.address}/api/v1"

    # What it does next.

    def script(self, *answers: Scripted, method: str = "POST") -> None:
        """
        Give each of the next requests of a method its answer; then service goes on.

        An answer can be an `Answer`, a fault or its name ("reset-mid-chunk"), or None for
        the normal one. A function is given the request and returns any of these; it
        may be async.
        Scripted answers ask for no key and count towards no rate.

        Where an answer strikes before a request (*at* accept or listen), successive
        calls still get them in order: while it is the next in line no connection is
        kept, so that the next call has to make one, which meets it. Requests on other
        connections get the normal service meanwhile.

        Call it on the emulator's event loop.

        Raises:
            TypeError: One is no answer; nothing was added.
            ValueError: No fault has that name; nothing was added.
        """
        self._script.add(method, answers)
        if self._started:
            self._look_ahead()

    # What it saw.

    @property
    def requests(self) -> list[Request]:
        """
        All requests, in the order of their arrival.
        """
        return self._report.requests

    @property
    def connections(self) -> int:
        """
        How many connections were accepted so far.
        """
        return self._report.connections

    @property
    def open_connections(self) -> int:
        return self._report.open_connections

    @property
    def open_requests(self) -> list[Request]:
        """
        The requests that are being answered.
        """
        return sorted(self._report.open, key=lambda request: request.number)

    @property
    def open_streams(self) -> int:
        """
        How many of the requests being answered asked for a stream.
        """
        return sum(request.streaming for request in self._report.open)

    @property
    def disconnects(self) -> list[Request]:
        """
        The requests whose client left before its answer was finished.
        """
        return [item for item in self.requests if item.fate == "disconnected"]

    async def wait_for_request(self, count: int = 1, timeout: float = 5) -> Request:
        """
        Wait until so many requests have arrived in all. Returns the last of them.

        Raises:
            TimeoutError: They have not; the message says what was seen.
        """
        report = self._report
        what = f"{count} requests"
        await report.until(lambda: report.arrived >= count, timeout, what)
        return self.requests[count - 1 - report.arrived]

    async def wait_for_disconnect(self, count: int = 1, timeout: float = 5) -> Request:
        """
        Wait until so many clients in all have left early. Returns the last's request.

        Raises:
            TimeoutError: They have not; the message says what was seen.
        """
        report = self._report
        what = f"{count} disconnects"
        await report.until(lambda: report.left >= count, timeout, what)
        return self.disconnects[count - 1 - report.left]

    async def wait_until_idle(self, timeout: float = 5) -> None:
        """
        Wait until no request is being answered.

        Raises:
            TimeoutError: One still is; the message says what was seen.
        """
        await self._report.until(lambda: not self._report.open, timeout, "idleness")

    async def wait_until(
        self,
        predicate: Callable[[], bool],
        timeout: float = 5,
    ) -> None:
        """
        Wait until something is so: it is asked after every connection, request and end.

        Raises:
            TimeoutError: It is not; the message says what was seen.
        """
        await self._report.until(predicate, timeout, "such thing")

    # What connections call.

    def connected(self, connection: Connection) -> int:
        self._open.add(connection)
        if self._closing:  # accepted just before we stopped listening
            connection.drop()
        return self._report.connect()

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._report.disconnect()

    def arrived(self, request: Request) -> None:
        try:
            request.json = _wire.load(request.body) if request.body else None
        except ValueError:
            request.json = None
        self._report.arrive(request, self._now())
        request.id = f"{self._nonce}-{request.number}"

    def left(self, request: Request) -> None:
        self._report.end(request, "disconnected", self._now())
        self._look_ahead()

    async def welcome(self, connection: Connection) -> bool:
        turn = self._script.take("accept") or self._script.roll()
        if turn is None:
            return True
        answer = self._strike(turn, connection.number)
        if answer.at == "listen":  # by chance: this connection has been accepted
            self._refuse_connections(answer)
            return True
        connection.deaf = True
        self._greeted.add(connection)
        try:
            await greet(answer, connection)
        except _PASSING:
            raise
        except BaseException as error:  # noqa: BLE001 -- kept for aclose
            self.errors.append(_failure(error))
            connection.close()
        finally:
            self._greeted.discard(connection)
            self._look_ahead()
        return False

    def is_early(self, request: Request) -> bool:
        return self._script.is_early(request)

    async def serve(self, connection: Connection, request: Request) -> bool:
        try:
            keep = await self._serve(connection, request)
        except _PASSING:
            raise
        except BaseException as error:  # noqa: BLE001 -- kept for aclose
            self.errors.append(_failure(error))
            if request.status is None:
                exchange = self._exchange(connection, request)
                exchange.keep = False
                words = f"the emulator failed: {error!r}"
                # Trying again would bring what the script has for the next call.
                final = {"x-should-retry": "false"}
                await refuse(exchange, Refusal(500, words, headers=final))
            keep = False
        self._report.end(request, "finished", self._now())
        self._look_ahead()
        return keep and self._script.ahead is None

    async def refuse(
        self, connection: Connection, request: Request, bad: BadRequest
    ) -> None:
        request.id = f"{self._nonce}-{secrets.token_hex(4)}"
        exchange = self._exchange(connection, request)
        exchange.keep = False
        await refuse(exchange, Refusal(bad.status, bad.reason))

    async def _serve(self, connection: Connection, request: Request) -> bool:
        try:
            answer = await self._script.next(request)
        except ChoiceError as error:
            exchange = self._exchange(connection, request)
            await refuse(exchange, Refusal(400, str(error)))
            return exchange.keep
        if self._script.ahead is not None:
            connection.keeps_alive = False
        if answer is not None:
            self.struck[request.fault] += bool(request.fault)
            return await play(answer, connection, request)
        exchange = self._exchange(connection, request)
        await self._desk.answer(exchange)
        return exchange.keep

    # Faults that strike before a request.

    def _look_ahead(self) -> None:
        """
        Make ready for what strikes before a request, if that is next in line.
        """
        ahead = self._script.ahead
        if ahead is None or self._closing:
            return
        for connection in list(self._open):
            connection.close_if_idle()
        busy = self._report.open or self._greeted
        if ahead == "listen" and self._door.is_open and not busy:
            turn = self._script.take("listen")
            assert turn is not None
            self._refuse_connections(self._strike(turn))

    def _strike(self, turn: Answer | Fault, connection: int = 0) -> Answer:
        """
        The answer that strikes before there is a request.
        """
        if isinstance(turn, Answer):
            return turn
        self.struck[turn.name] += 1
        where = f"connection {connection}" if connection else "the port"
        self._report.tell(where, turn.name)
        nothing = Request(connection, "", "", "", {}, b"")
        return replace(turn.answer(nothing), at=turn.at)

    def _refuse_connections(self, answer: Answer) -> None:
        if not self._door.is_open:
            return
        self._door.shut()
        self._report.wake()
        task = asyncio.get_running_loop().create_task(self._reopen(answer.before))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reopen(self, before: Iterable[Step]) -> None:
        """
        Listen again when the steps are done.
        """
        try:
            await wait(before)
        except _PASSING:
            raise
        except BaseException as error:  # noqa: BLE001 -- kept for aclose
            self.errors.append(_failure(error))
        await self._door.reopen()
        self._report.wake()
        self._look_ahead()

    # Answers.

    def _exchange(self, connection: Connection, request: Request) -> Exchange:
        service = service_of(request.path)
        exchange = Exchange(connection, request, service, self._newline)
        exchange.headers.append(("x-request-id", request.id))
        trace = (service or HORAY).trace_header
        if trace is not None:
            exchange.headers.append((trace, f"ti_{request.id}"))
        return exchange

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _failure(error: BaseException) -> Exception:
    """
    An error to keep: what pytest.fail and sys.exit raise would end the loop instead.
    """
    if isinstance(error, Exception):
        return error
    failure = RuntimeError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


async def _voice(mode: str) -> Voice:
    if mode == "echo":
        return Echo()
    # In a thread: training takes a while the first time.
    return Ngram(await asyncio.to_thread(load))


async def serve_forever(emulator: Emulator) -> None:
    """
    Run an emulator until cancelled, then close it. It may have been started already.
    """
    if not emulator.started:
        await emulator.start()
    try:
        await asyncio.Event().wait()
    finally:
        await emulator.aclose()
