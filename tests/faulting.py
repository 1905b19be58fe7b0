"""
What a user of the client meets when a fault strikes, and what must hold whichever it is.
"""

import asyncio
import contextlib
import pickle
import socket
import traceback
import tracemalloc

from types import SimpleNamespace
from unittest import mock

import attrs

from horay_async import (
    HORAY,
    AsyncHoray,
    HorayError,
    Outcome,
    Timeouts,
    _attempts,
    _call,
    _clocks,
    user,
)
from horay_async._events import AttemptFailed, AttemptStarted, CallEnded
from horay_async.emulator import Emulator
from horay_async.testing import instant_retries


KEY = "key-of-the-fault-table-5d41402a"

BOUND = 15.0
"""
Seconds after which a case has failed, whatever it does: far more than any needs.
"""

LONG = 10.0
"""
Seconds on the clocks that must not run out.
"""

SHORT = 0.4
"""
Seconds on the clock that must.
"""


class Unruly(Exception):
    """
    Something came out of the client that its user does not expect.
    """


@attrs.define
class Case:
    """
    One call to a server that goes wrong, and one after it.
    """

    fault: object
    """
    What `Emulator.script` takes.
    """

    mode: str
    """
    "stream" or "plain".
    """

    expected: object
    """
    An `End`.
    """

    retries: int = 0

    chat: bool = True

    unseen: int = 0

    after: int = 1

    patient: bool = False

    host: str = "127.0.0.1"

    # What came of it.

    error: Exception | None = None

    text: str = ""

    pieces: list = attrs.field(factory=list)

    stream: object = None

    reply: object = None

    meta: object = None

    seen: int = 0

    events: list = attrs.field(factory=list)

    server: Emulator = None

    client: AsyncHoray = None

    @property
    def name(self):
        """
        For messages, and what is asked.
        """
        kind = "chat" if self.chat else "text"
        name = getattr(self.fault, "name", "a fault")
        return f"{name}, {kind} {self.mode}, {self.retries} retries"

    @property
    def answered(self):
        """
        Whether the fault is made good by a second attempt.
        """
        return bool(self.retries and self.expected.again)

    def told(self, kind):
        """
        What the hook heard of one kind.
        """
        return [event for event in self.events if isinstance(event, kind)]

    # The calls -----------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def open(self):
        """
        A server whose next answer is the fault, and a client with the clocks for it.
        """
        clocks = dict.fromkeys(("connect", "first_token", "stall", "silence"), LONG)
        clocks["deadline"] = LONG
        if self.expected.clock:
            clocks[self.expected.clock] = SHORT
        async with (
            Emulator(mode="echo") as self.server,
            AsyncHoray(
                api_key=KEY,
                service=HORAY,
                base_url=self.server.base_url.replace("127.0.0.1", self.host),
                timeouts=Timeouts(**clocks),
                max_retries=self.retries,
                on_event=self.events.append,
                proxy="",
            ) as self.client,
        ):
            self.server.script(self.fault)
            yield self

    async def strike(self):
        """
        The call that meets the fault.
        """
        try:
            async with asyncio.timeout(BOUND) as bound:
                try:
                    await (self.read() if self.mode == "stream" else self.ask())
                except HorayError as error:
                    self.error = error
                except Exception as error:
                    raise Unruly(f"{self.name}: not one of our errors") from error
                # Only now is it sure that all is let go of.
                await self.server.wait_until_idle(BOUND)
        except TimeoutError:
            assert bound.expired()
            raise Unruly(f"{self.name}: it did not end") from None
        self.seen = len(self.server.requests)

    async def read(self):
        """
        As a stream.
        """
        if self.chat:
            self.stream = self.client.chat.completions.stream(
                messages=[user(self.name)]
            )
        else:
            self.stream = self.client.completions.stream(prompt=self.name)
        try:
            async with self.stream:
                async for token in self.stream:
                    self.pieces.append(token.text)
        finally:
            self.text = "".join(self.pieces)
            self.reply, self.meta = self.stream.reply, self.stream.meta

    async def ask(self):
        """
        As a plain call.
        """
        self.reply = reply = await self.question(self.client, self.name)
        self.text, self.meta = reply.text, reply.meta

    async def question(self, client, text):
        """
        A plain call that is answered with its own words.
        """
        if self.chat:
            return await client.chat.completions.create(messages=[user(text)])
        return await client.completions.create(prompt=text)

    async def go_on(self):
        """
        The next call: it gets its own answer, and gives nothing back of what came before.
        """
        asked = f"after {self.name}"
        # Nothing is wrong now, so no clock may run out, however slow the machine.
        patient = self.client.with_options(timeouts=Timeouts(deadline=LONG))
        reply = await self.question(patient, asked)
        assert reply.text == asked
        assert reply.meta.attempts <= self.after
        for request in self.server.requests:
            assert "cookie" not in request.headers
        last = self.server.requests[-1]
        assert asked.encode() in last.body

    # What must hold ------------------------------------------------------------------

    def check(self):
        """
        That it ended as expected, and what holds for every end.
        """
        expected = self.expected
        told = (
            f"{type(self.error).__name__}: {self.error}" if self.error else "no error"
        )
        if self.answered:
            assert self.error is None, told
            assert self.text == self.name, self.text
        elif expected.error:
            assert type(self.error).__name__ == expected.error, f"{told}, {self.text!r}"
            self.check_error(self.error)
        else:
            assert self.error is None, told
            assert self.text == expected.text, repr(self.text)
            assert self.text.encode().decode() == self.text
            if expected.holds and self.chat:
                assert expected.holds(self.reply), self.reply
        self.check_attempts()
        if self.mode == "stream":
            self.check_stream()
        self.check_hook()
        self.check_let_go()

    def check_error(self, error):
        """
        It says what is expected, keeps what came, and holds no key.
        """
        expected, told = self.expected, str(error)
        self.meta = error.meta
        assert error.partial.text == expected.text, told
        if expected.status is not None:
            assert error.status_code == expected.status, told
        assert expected.says in told, told
        assert told.strip(), "an error without a sentence"
        assert "\n" not in told, told
        assert len(told) < 1200, told
        assert told.encode()
        self.check_wait(error.retry_after, expected.retry_after, told)
        assert error.elapsed is not None
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
        assert again.partial == error.partial
        found = list(holders(error))
        assert not found, f"the key is in {found}"

    def check_wait(self, seconds, bounds, told):
        """
        The seconds lie where they should, or there are none.
        """
        if bounds is None:
            assert seconds is None, told
        else:
            shortest, longest = bounds
            assert shortest <= seconds <= longest, told

    def check_attempts(self):
        """
        As many as the server saw.
        """
        started = len(self.told(AttemptStarted))
        if self.error is None:
            assert self.meta.attempts == started
        else:
            assert self.error.attempts == started
        if self.unseen is not None:
            assert started == self.seen + self.unseen
            # On a slow machine a short clock may run out of a good attempt, too.
            most = 2 + bool(self.expected.clock) if self.answered else 1
            assert 1 + self.answered <= started <= most
        if self.answered and self.expected.wait is not None:
            failed = self.told(AttemptFailed)[0]
            self.check_wait(failed.wait, self.expected.wait, failed.reason)

    def check_stream(self):
        """
        Outcome, error and pieces agree with each other.
        """
        stream, expected = self.stream, self.expected
        assert stream.error is self.error
        assert stream.outcome is (
            Outcome.FINISHED if self.answered else expected.outcome
        )
        assert self.reply.text == self.text
        if not self.answered:
            assert sum(map(bool, self.pieces)) == expected.pieces
        if self.error is not None:
            assert self.error.partial.text == self.text
            assert self.error.partial.tokens == len(self.pieces)

    def check_hook(self):
        """
        The call ended once, and each failed attempt was told.
        """
        ended = self.told(CallEnded)
        assert len(ended) == 1
        assert ended[0].error is self.error
        if self.stream is not None:
            assert ended[0].outcome is self.stream.outcome
        assert ended[0].meta.attempts == self.meta.attempts

    def check_let_go(self):
        """
        Nothing is held: no lease, no connection, no place in a queue.
        """
        line = self.client._line
        for gate in line.governor.snapshot().values():
            assert (gate.in_flight, gate.waiting) == (0, 0)
        pool = line.session.stats()
        assert (pool.in_use, pool.waiting) == (0, 0)
        if self.error is not None:
            assert pool.open <= 1


def holders(error):
    """
    Where the key is found in an error, its chain, and the frames that it came through.
    """
    frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    headers = getattr(getattr(error, "meta", None), "headers", {})
    places = {
        "str": str(error),
        "repr": repr(error),
        "args": repr(error.args),
        "vars": repr(vars(error)),
        "headers": repr(list(headers.items())),
        "pickle": pickle.dumps(error),
        "traceback": "".join(frames.format()),
    }
    for place, held in places.items():
        if (KEY.encode() if isinstance(held, bytes) else KEY) in held:
            yield place


def tasks_left():
    """
    Tasks that are still there, the servers' own left out.
    """
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    return [
        task
        for task in rest
        if "emulator" not in getattr(task.get_coro(), "cr_code", "").co_filename
    ]


async def play(cases):
    """
    Play cases side by side, and hold them to what is expected.
    """
    complaints = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with contextlib.AsyncExitStack() as stack:
        called = stack.enter_context(_calls())
        stack.enter_context(_brisk(patient=any(case.patient for case in cases)))
        for case in cases:
            await stack.enter_async_context(case.open())
        await _each(cases, Case.strike)
        async with asyncio.timeout(BOUND):
            while tasks_left():  # noqa: ASYNC110 -- nobody sets an event for it
                await asyncio.sleep(0)
        for case in cases:
            with _named(case):
                case.check()
        await _each(cases, Case.go_on)
        for case in cases:
            with _named(case):
                case.check_let_go()
    assert not tasks_left()
    assert not complaints
    assert called <= {case.server.port for case in cases}


@contextlib.contextmanager
def _named(case):
    """
    A complaint names the case.
    """
    try:
        yield
    except BaseException as error:
        error.add_note(case.name)
        raise


@contextlib.contextmanager
def _brisk(*, patient):
    """
    Less time for what nobody need wait for: other attempts, the body of an error, what may
    follow an answer.
    """
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        if patient:
            # As long as the dice can make it.
            dice = SimpleNamespace(random=lambda: 0.99)
            enter(mock.patch.object(_attempts, "random", dice))
        else:
            enter(instant_retries())
            enter(mock.patch.object(_clocks, "TAIL", 0.2))
            enter(mock.patch.object(_call, "ERROR_BODY_SECONDS", 0.3))
        yield


@contextlib.contextmanager
def _calls():
    """
    The ports that somebody connects to, meanwhile. (uvloop's sockets do not tell.)
    """
    called = set()
    connect = socket.socket.connect

    def noted(self, address):
        called.add(address[1])
        return connect(self, address)

    with mock.patch.object(socket.socket, "connect", noted):
        yield called


@contextlib.contextmanager
def frugal(most):
    """
    Fail where more than so many bytes are held at once, client and server together.
    """
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak >> 20} MiB"


async def _each(cases, step):
    """
    One step of all; the first that fails tells, once all are over.
    """
    ends = await asyncio.gather(*map(step, cases), return_exceptions=True)
    for case, end in zip(cases, ends, strict=True):
        with _named(case):
            if isinstance(end, BaseException):
                raise end
