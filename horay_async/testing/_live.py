"""
The emulator on a thread of its own.
"""

import asyncio

from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import Future
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

from ..emulator import Answer, Emulator, Fault, Request
from ..emulator._turns import Scripted
from ._replies import check_steps
from ._sighting import Seen, Sighting
from ._threads import LoopThread


_TELLING: Final = 5
"""
As many of the last requests are described in words.
"""


class LiveEmulator:
    """
    An `Emulator` that runs on a thread and an event loop of its own.

    So it serves tests of any framework, sync or async, on any loop, and any client. All of
    it may be used from any thread. It echoes what it is asked, unless *mode* or a script
    says otherwise; *options* are those of `Emulator`. As Horay does, the echo refuses a
    model that it does not know: `models=["my-model"]` makes it known.

    `with LiveEmulator() as server:` starts it and closes it. Leaving the block without an
    error raises what `close` does.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("mode", "echo")
        self._emulator = Emulator(**options)
        self._thread = LoopThread(self._served)

    # Its life.

    def start(self) -> None:
        """
        Start the thread; returns when the server listens. Blocks for some milliseconds.
        """
        self._thread.start()

    def close(self, *, check: bool = True) -> None:
        """
        Drop all connections, whatever they are doing, and end the thread. Twice is fine.

        It takes milliseconds. It blocks for up to 10 s where a function of the script
        keeps the thread.

        Args:
            check: Whether to raise what a test should not pass with, after closing.

        Raises:
            RuntimeError: Something went wrong in the emulator, or in a function of the
                script, or keeps its thread: what it was is the cause.
            AssertionError: Scripted answers were never asked for: the test did not do
                what its script expects. `clear_script` says that it was meant so.
        """
        if self._thread.stop() and check:
            self._check()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(check=error is None)

    def __repr__(self) -> str:
        return f"<LiveEmulator {self._emulator.address}: {self._emulator._report}>"

    # Where it is.

    @property
    def address(self) -> str:
        self._need_start()
        return self._emulator.address

    @property
    def base_url(self) -> str:
        """
        Where Horay is: what any client of OpenAI's API takes as its base URL.
        """
        self._need_start()
        return self._emulator.base_url

    @property
    def empower_base_url(self) -> str:
        """
        Where Empower is.
        """
        self._need_start()
        return self._emulator.empower_base_url

    # What it does next.

    def script(self, *answers: Scripted, method: str = "POST") -> None:
        """
        Give each of the next requests of a method its answer; then service goes on.

        An answer is an `Answer`, the name of a fault, a `Fault`, None for the normal one,
        or a function that is given the request and returns any of these: `reply(...)`
        is one. It may be async. Functions run on the emulator's thread, so they must
        not block, and what they raise is raised again by `close`.

        Raises:
            TypeError: One is no answer; nothing was added.
            ValueError: No fault has that name; nothing was added.
        """
        if self._thread.ended:
            raise RuntimeError("the emulator is closed: it answers nothing any more")
        for answer in answers:
            if isinstance(answer, Answer):
                check_steps(answer.before)
                check_steps(answer.body)
        self._thread.do(lambda: self._emulator.script(*answers, method=method))

    def clear_script(self) -> None:
        """
        Forget the scripted answers that nobody has asked for yet.
        """
        self._thread.do(self._emulator._script.waiting.clear)

    def hold(self) -> "Hold":
        """
        A step for answers, and pieces of a `reply`, that waits until it is released.
        """
        return Hold(self)

    # What it saw.

    @property
    def requests(self) -> list[Request]:
        """
        All requests so far, in the order of their arrival.
        """
        return self._thread.do(lambda: list(self._emulator.requests))

    @property
    def connections(self) -> int:
        """
        How many connections were accepted so far.
        """
        return self._thread.do(lambda: self._emulator.connections)

    @property
    def open_connections(self) -> int:
        return self._thread.do(lambda: self._emulator.open_connections)

    @property
    def open_requests(self) -> list[Request]:
        """
        The requests that are being answered.
        """
        return self._thread.do(lambda: self._emulator.open_requests)

    @property
    def open_streams(self) -> int:
        """
        How many of the requests being answered asked for a stream.
        """
        return self._thread.do(lambda: self._emulator.open_streams)

    @property
    def disconnects(self) -> list[Request]:
        """
        The requests whose client left before its answer was finished.
        """
        return self._thread.do(lambda: self._emulator.disconnects)

    @property
    def errors(self) -> list[Exception]:
        """
        What went wrong in the emulator, or in a function of the script.
        """
        return self._thread.do(lambda: list(self._emulator.errors))

    def saw_request(
        self,
        path: str | None = None,
        *,
        where: Callable[[Request], object] | None = None,
        count: int = 1,
        within: float = 5.0,
        **fields: Any,
    ) -> Sighting:
        """
        Whether so many requests have arrived that are like this, or do so in time.

        Args:
            path: What their path ends in, such as "/chat/completions".
            where: Is given a request, and says whether it counts; on the emulator's
                thread.
            count: At least so many.
            within: Seconds, from now.
            fields: Of their JSON body: `model="m", stream=True`.
        """

        def alike(request: Request) -> bool:
            return (
                (path is None or request.path.endswith(path))
                and _has(request, fields) == fields
                and (where is None or bool(where(request)))
            )

        def matching() -> list[Request]:
            return [request for request in self._emulator.requests if alike(request)]

        like = [f"{name}={value!r}" for name, value in fields.items()]
        like += ["where=..."] if where is not None else []
        wanted = [f"path {path!r}", *like] if path is not None else like
        what = "request" if count == 1 else f"{count} requests"
        return self._sight(
            _call("saw_request", path, like, count, within),
            f"{what} with {', '.join(wanted)}" if wanted else what,
            matching,
            lambda found: len(found) >= count,
            within=within,
            fields=fields,
        )

    def saw_disconnect(self, *, count: int = 1, within: float = 5.0) -> Sighting:
        """
        Whether a client has left before its answer was finished, or does so in time.

        Args:
            count: At least so many requests, in all.
            within: Seconds, from now.
        """
        return self._sight(
            _call("saw_disconnect", None, [], count, within),
            "disconnect" if count == 1 else f"{count} disconnects",
            lambda: self._emulator.disconnects,
            lambda found: len(found) >= count,
            within=within,
        )

    def is_idle(self, *, within: float = 5.0) -> Sighting:
        """
        Whether no request is being answered, or soon none is: no stream is open.

        Args:
            within: Seconds, from now.
        """
        return self._sight(
            f"is_idle(within={within:g})",
            "idleness",
            lambda: self._emulator.open_requests,
            lambda found: not found,
            within=within,
        )

    # Small print.

    def _sight(
        self,
        call: str,
        what: str,
        look: Callable[[], list[Request]],
        enough: Callable[[list[Request]], bool],
        *,
        within: float,
        fields: Collection[str] = (),
    ) -> Sighting:
        """
        Args:
            call: How the test has asked.
            what: What it has asked for.
            fields: Of the requests' bodies, to be told when it was not seen.
        """

        def seen(*, so: bool) -> Seen:
            report = str(self._emulator._report)
            if so:
                return Seen(True, f"{what} seen: {report}", look())
            if fields:
                last = self._emulator.requests[-_TELLING:]
                report += f" with {[_has(request, fields) for request in last]}"
            return Seen(False, f"no {what} within {within:g} s; seen: {report}", look())

        async def watch() -> Seen:
            try:
                await self._emulator.wait_until(lambda: enough(look()), within)
            except TimeoutError:
                return seen(so=False)
            return seen(so=True)

        def begin() -> Future[Seen]:
            # What is so already, or has no time to become so, needs no waiting.
            so = enough(look())
            if self._thread.runs and not so and within > 0:
                return self._thread.submit(watch())
            future: Future[Seen] = Future()
            future.set_result(seen(so=so))
            return future

        self._need_start()
        return Sighting(call, self._thread.do(begin))

    def _need_start(self) -> None:
        if not self._emulator.started:
            raise RuntimeError(
                "the emulator has not been started: with LiveEmulator() as server"
            )

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        await self._emulator.start()
        try:
            yield
        finally:
            await self._emulator.aclose()

    def _check(self) -> None:
        if errors := self._emulator.errors:
            more = f" (and {len(errors) - 1} more)" if errors[1:] else ""
            raise RuntimeError(
                f"the emulator, or a function of the script, failed: {errors[0]!r}{more}"
            ) from errors[0]
        unasked = [
            f"{method}: {_name(answer)}"
            for method, answers in self._emulator._script.waiting.items()
            for answer in answers
        ]
        if unasked:
            raise AssertionError(
                f"nobody asked for what the script still has ({', '.join(unasked)});"
                " where that is meant, call clear_script() at the end."
                f" Seen: {self._emulator._report}"
            )


class Hold:
    """
    Makes an answer wait until the test releases it: `reply("Black", hold, " Sea")`.

    It does what an event does, between threads.
    """

    def __init__(self, server: LiveEmulator) -> None:
        self._server = server
        self._event = asyncio.Event()

    def release(self) -> None:
        """
        Let the answer go on. From then on it holds nothing.
        """
        self._server._thread.do(self._event.set)

    async def __call__(self) -> None:
        """
        Wait; the emulator calls it.
        """
        if asyncio.get_running_loop() is not self._server._thread._loop:
            raise RuntimeError("this hold belongs to another emulator, and waits there")
        await self._event.wait()


def _call(
    name: str, path: str | None, like: list[str], count: int, within: float
) -> str:
    """
    A question as the test has asked it.
    """
    words = [repr(path)] if path is not None else []
    words += like
    words += [f"count={count}"] if count != 1 else []
    return f"{name}({', '.join([*words, f'within={within:g}'])})"


def _has(request: Request, fields: Collection[str]) -> dict[str, Any]:
    """
    What a request's body has of these fields.
    """
    body = request.json if isinstance(request.json, dict) else {}
    return {name: body[name] for name in fields if name in body}


def _name(answer: Scripted) -> str:
    if isinstance(answer, Fault):
        return f'the fault "{answer.name}"'
    if isinstance(answer, Answer):
        return f"an answer with status {answer.status}"
    return "the normal answer" if answer is None else "a function"
