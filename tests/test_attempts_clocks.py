"""
Every wait of a call has an end: its clocks, an abort, a cancellation; and no lease is lost.
"""

import asyncio
import contextlib

import pytest

from calling import GATE, calling, read
from horay_async._call import ERROR_BODY_LIMIT
from horay_async._errors import (
    DeadlineExceeded,
    FirstTokenTimeoutError,
    InternalServerError,
    StreamAbortedError,
)
from horay_async._events import AttemptFailed
from horay_async._timeouts import Timeouts
from horay_async._values import user
from horay_async.emulator import Answer
from loopback import soon, until


OK = Answer.json({"ok": True})

LONG = Timeouts(first_token=None)
"""
No clock that a test would live to see.
"""


def never(*body, **options):
    """
    A good answer that stops after these bytes.
    """
    return Answer(
        headers={"content-type": "application/json"}, body=body, end="hang", **options
    )


SILENT = Answer(before=[3600.0])
"""
No answer at all.
"""


@pytest.fixture
def dice(monkeypatch):
    """
    The luck of the waits: none unless a test says otherwise.
    """
    luck = {"now": 0.0}
    monkeypatch.setattr("random.random", lambda: luck["now"])
    return luck


@pytest.fixture
async def caller(emulator, dice):
    """
    A caller of the emulator.
    """
    async with calling(emulator.base_url) as caller:
        yield caller


async def broken(awaitable, error):
    """
    Await what must fail so.
    """
    with pytest.raises(error) as caught:
        await soon(awaitable)
    return caught.value


# The deadline ----------------------------------------------------------------------


async def test_the_deadline_covers_the_queue(caller):
    """
    Nothing was sent, and no attempt failed.
    """
    caller.governor.close(GATE, 60)
    error = await broken(caller.run(timeouts=Timeouts(deadline=0.05)), DeadlineExceeded)
    assert str(error).startswith("the call took longer than its deadline of 0.05 s")
    assert "; 0 attempts in " in str(error)
    assert "Timeouts(deadline=...)" in str(error)
    assert (error.attempts, error.clock, caller.told) == (0, "deadline", [])
    assert error.elapsed > 0.04
    assert (caller.gate.in_flight, caller.gate.waiting) == (0, 0)


async def test_the_deadline_covers_the_answer(caller, emulator):
    """
    Its headers, and its body.
    """
    for scripted in (SILENT, never(b'{"a":')):
        emulator.script(scripted)
        timeouts = Timeouts(deadline=0.3)
        error = await broken(caller.run(timeouts=timeouts), DeadlineExceeded)
        assert (error.attempts, caller.told[-1][1:]) == (
            1,
            (None, "trying again cannot help"),
        )
        assert error.elapsed > 0.25
        assert caller.in_flight == 0
    assert error.meta.status == 200
    await emulator.wait_for_disconnect(2)


async def test_the_deadline_covers_all_attempts(caller, emulator):
    """
    It does not begin anew.
    """
    emulator.script(*[Answer.json({}, 503, before=[0.1])] * 9)
    timeouts = Timeouts(deadline=0.25)
    error = await broken(caller.run(retries=8, timeouts=timeouts), DeadlineExceeded)
    assert error.attempts < 4


async def test_the_deadline_covers_the_waits(caller, monkeypatch):
    """
    Should a wait take longer than was planned, the error is as complete as any.
    """

    async def oversleep(seconds):
        await asyncio.Event().wait()

    attempts = caller.call(timeouts=Timeouts(deadline=0.05))
    monkeypatch.setattr("horay_async._attempts.asyncio.sleep", oversleep)
    busy = InternalServerError("busy").with_facts(status=500)
    error = await broken(attempts.judge(busy), DeadlineExceeded)
    assert (error.attempts, error.meta.service) == (0, "Horay")
    assert error.elapsed > 0.04


# The first token -------------------------------------------------------------------


async def test_the_first_token_before_the_headers(caller, emulator):
    """
    A server that does not answer; another try may have more luck.
    """
    emulator.script(SILENT, Answer.chat("a"))
    attempts = caller.call(stream=True, timeouts=Timeouts(first_token=0.3))
    body = await soon(attempts.send())
    assert attempts.count == 2
    failed = next(one for one in caller.events if isinstance(one, AttemptFailed))
    assert isinstance(failed.error, FirstTokenTimeoutError)
    assert "no content within 0.3 s of sending" in str(failed.error)
    assert failed.error.elapsed > 0.04
    await read(body)
    attempts.settle()
    await emulator.wait_for_disconnect()


async def test_the_first_token_does_not_count_the_queue(caller, emulator):
    """
    It runs from sending; queueing is the deadline's.
    """
    caller.governor.close(GATE, 0.4)
    emulator.script(Answer.chat("a"))
    attempts = caller.call(stream=True, retries=0, timeouts=Timeouts(first_token=0.3))
    body = await soon(attempts.send())
    assert attempts.timings.governor > 0.35
    body.drop()


async def test_a_deadline_before_the_first_token(caller, emulator):
    """
    The clock that runs out first is the one that is named.
    """
    emulator.script(SILENT)
    timeouts = Timeouts(first_token=0.2, deadline=0.1)
    attempts = caller.call(stream=True, timeouts=timeouts)
    await broken(attempts.send(), DeadlineExceeded)


async def test_no_first_token_for_a_plain_call(caller, emulator):
    """
    It sends nothing until it is done.
    """
    emulator.script(Answer.json({}, before=[0.1]))
    timeouts = Timeouts(first_token=0.02, deadline=5)
    assert await caller.run(timeouts=timeouts) == b"{}"


# Aborted ---------------------------------------------------------------------------


STOPPED = "the user pressed stop"


async def aborted(caller, attempts, ready):
    """
    Abort a call as soon as it is so far; its error.
    """
    task = asyncio.create_task(attempts.send())
    await until(ready)
    error = StreamAbortedError(STOPPED)
    attempts.abort(error)
    assert await broken(task, StreamAbortedError) is error
    assert caller.in_flight == 0
    assert error.elapsed >= 0
    # Later waits get it, too.
    assert await broken(attempts.send(), StreamAbortedError) is error
    return error


async def test_aborted_in_the_queue(caller):
    """
    Nothing is sent.
    """
    caller.governor.close(GATE, 60)
    attempts = caller.call(stream=True, timeouts=LONG)
    await aborted(caller, attempts, lambda: caller.gate.waiting)
    assert caller.gate.waiting == 0
    assert caller.told == []


async def test_aborted_while_the_server_thinks(caller, emulator):
    """
    The connection is closed.
    """
    emulator.script(SILENT)
    attempts = caller.call(stream=True, timeouts=LONG)
    error = await aborted(caller, attempts, lambda: emulator.requests)
    assert error.attempts == 1
    assert caller.told == [1, (1, None, "trying again cannot help")]
    await emulator.wait_for_disconnect()


async def test_aborted_between_two_attempts(caller, emulator):
    """
    The wait is over at once, and no attempt failed once more.
    """
    emulator.script(Answer.json({}, 503, headers=[("retry-after", "60")]))
    attempts = caller.call(stream=True, timeouts=LONG)
    await aborted(caller, attempts, lambda: len(caller.told) == 2)
    assert len(caller.told) == 2
    assert len(emulator.requests) == 1


async def test_aborted_before_it_began(caller):
    """
    It does not begin.
    """
    attempts = caller.call(stream=True)
    attempts.abort(StreamAbortedError(STOPPED))
    await broken(attempts.send(), StreamAbortedError)
    assert caller.told == []
    assert caller.governor.snapshot() == {}


async def test_settled_by_an_end_from_elsewhere(caller, emulator):
    """
    The answer may come in the same moment.
    """
    go = asyncio.Event()
    emulator.script(Answer.json({}, before=[go]))
    attempts = caller.call()
    task = asyncio.create_task(attempts.send())
    await until(lambda: emulator.requests)
    attempts.settle()
    go.set()
    body = await soon(task)
    assert caller.in_flight == 0
    await read(body)


# Cancelled -------------------------------------------------------------------------


STALLED = [b'{"message": "slow down"']

# name: (what the server sends, how far the call is when it is cancelled)
STATES = {
    "in the queue": (None, lambda caller: caller.gate and caller.gate.waiting),
    "no headers yet": (SILENT, lambda caller: caller.told),
    "in the body": (never(b"{"), lambda caller: caller.reading),
    "in a refusal": (
        never(*STALLED, status=503),
        lambda caller: caller.in_flight and caller.told,
    ),
    "between two attempts": (
        Answer.json({}, 503, headers=[("retry-after", "60")]),
        lambda caller: len(caller.told) == 2,
    ),
    "behind the gate": (
        Answer.json({}, 429, headers=[("retry-after", "60")]),
        lambda caller: len(caller.told) == 2 and caller.gate.closed_for,
    ),
}


@pytest.mark.parametrize("way", ["run", "send"])
@pytest.mark.parametrize(("scripted", "ready"), STATES.values(), ids=STATES)
async def test_cancelled(caller, emulator, scripted, ready, way):
    """
    At whatever point: it goes straight through, the lease is back, the connection closed.
    """
    if scripted is None:
        caller.governor.close(GATE, 60)
    else:
        emulator.script(scripted)
    caller.reading = False

    async def reading(body):
        caller.reading = True
        return await read(body)

    async def send():
        body = await attempts.send()
        try:
            return await reading(body)
        finally:
            body.drop()
            attempts.settle()

    attempts = caller.call(timeouts=LONG)
    task = asyncio.create_task(attempts.run(reading) if way == "run" else send())
    await until(lambda: ready(caller))
    await asyncio.sleep(0.01)
    task.cancel()
    await broken(task, asyncio.CancelledError)
    assert caller.in_flight == 0
    assert caller.gate is None or caller.gate.waiting == 0
    if scripted is not None:
        await emulator.wait_until_idle()
    assert caller.session.stats().in_use == 0


async def test_cancelled_and_out_of_time_at_once(caller, emulator):
    """
    A cancellation is never turned into an error.
    """
    emulator.script(SILENT)
    attempts = caller.call(timeouts=Timeouts(deadline=0.1))
    task = asyncio.create_task(attempts.run(read))
    asyncio.get_running_loop().call_at(attempts.deadline, task.cancel)
    with contextlib.suppress(DeadlineExceeded):
        await broken(task, asyncio.CancelledError)
    assert caller.in_flight == 0


# Refusals that do not come whole ---------------------------------------------------


def refusal(*body, **options):
    """
    A 503 with a body that is sent as it is.
    """
    return Answer(
        status=503, headers={"content-type": "text/plain"}, body=body, **options
    )


async def test_a_refusal_that_stalls(caller, emulator, monkeypatch):
    """
    The status has said the most important; what came of the rest is told.
    """
    monkeypatch.setattr("horay_async._call.ERROR_BODY_SECONDS", 0.3)
    emulator.script(refusal(b"half an expl", end="hang"))
    error = await broken(caller.run(retries=0), InternalServerError)
    assert error.message.endswith("half an expl")
    assert error.content == b"half an expl"
    await emulator.wait_for_disconnect()


@pytest.mark.parametrize(
    "clocks", [Timeouts(first_token=0.2, deadline=0.4), Timeouts(deadline=0.4)]
)
async def test_a_clock_inside_a_refusal(caller, emulator, clocks):
    """
    The status says more than a clock would; the deadline ends the waiting all the same.
    """
    for stream in (True, False):
        emulator.script(refusal(b"half an expl", end="hang"))
        attempts = caller.call(stream=stream, retries=0, timeouts=clocks)
        call = attempts.send() if stream else attempts.run(read)
        error = await broken(call, InternalServerError)
        assert error.content == b"half an expl"
        assert error.elapsed > 0.35
        assert caller.in_flight == 0
        await emulator.wait_for_disconnect()


async def test_a_refusal_that_breaks_off(caller, emulator):
    """
    It is a refusal all the same, not a broken connection.
    """
    for end in ("close", "reset"):
        emulator.script(refusal(b"half an expl", 0.05, b"x", end=end))
        error = await broken(caller.run(retries=0), InternalServerError)
        assert error.content.startswith(b"half an expl")


async def test_a_refusal_without_end(caller, emulator):
    """
    Only so much of it is read.
    """

    def endless():
        while True:
            yield b"no " * 10_000

    emulator.script(refusal())
    emulator._script.waiting["POST"][0] = Answer(status=503, body=endless())
    error = await broken(caller.run(retries=0), InternalServerError)
    assert len(error.content) == ERROR_BODY_LIMIT
    assert len(error.message) < 2000
    await emulator.wait_for_disconnect()


async def test_the_deadline_names_the_crowd(emulator):
    """
    Who waited only for a connection is told so.
    """
    from horay_async import AsyncHoray

    emulator.script(Answer.chat("word", end="hang", done=False, finish=None))
    async with (
        AsyncHoray(
            base_url=emulator.base_url, api_key="k", max_connections=1
        ) as client,
        client.chat.completions.stream(messages=[user("a")], model="m"),
    ):
        with pytest.raises(DeadlineExceeded, match="all 1 connection in use"):
            await client.chat.completions.create(
                messages=[user("b")], model="m", timeout=0.1
            )


async def test_one_error(client, emulator):
    """
    The deadline of a stream, while a refusal's body hangs: one error, told in order.
    """
    emulator.script(refusal(b"half an expl", end="hang"))
    told = []
    watched = client.with_options(max_retries=0, on_event=told.append)
    stream = watched.chat.completions.stream(
        messages=[user("a")], timeouts=Timeouts(deadline=0.3, first_token=None)
    )
    error = await broken(stream.open(), InternalServerError)
    assert stream.error is error
    assert [type(event).__name__ for event in told] == [
        "AttemptStarted",
        "AttemptFailed",
        "CallEnded",
    ]
    assert told[-1].error is told[-2].error is error
    await emulator.wait_for_disconnect()
