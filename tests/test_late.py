"""
What the error of a clock says, in every state that a call can be in when it rings.
"""

import asyncio
import pickle

import pytest

from calling import GATE, calling
from horay_async import (
    HORAY,
    AsyncHoray,
    ConnectTimeoutError,
    DeadlineExceeded,
    FirstTokenTimeoutError,
    PoolTimeoutError,
    StreamSilentError,
    StreamStalledError,
    Timeouts,
    user,
)
from horay_async._errors import InternalServerError
from horay_async._late import tell
from horay_async._values import Meta, Partial, Timings
from horay_async.emulator import Answer
from loopback import serve, soon, until


HELLO = [user("hello")]

SHORT = 0.15

SILENT = Answer(before=[3600.0])


# The sentence ----------------------------------------------------------------------


def test_all_of_it():
    """
    Each phase that took time has its place; what was cut off says how far it was.
    """
    timings = Timings(
        governor=0.2, pool=0.0, connect=0.1, headers=0.3, first_token=0.5, body=120.0
    )
    error = StreamStalledError(
        "",
        meta=Meta(attempts=1, timings=timings),
        partial=Partial(tokens=5),
        pings=3,
        elapsed=121.25,
    )
    assert tell(error, "no content for 120 s (stall)") is error
    assert str(error) == error.message == error.args[0]
    assert str(error) == (
        "no content for 120 s (stall): 5 pieces and 3 pings before;"
        " 1 attempt in 121.2 s, 0.20 s waiting to send, 0.10 s to connect,"
        " 0.50 s to the first token; raise Timeouts(stall=...) to wait longer"
    )


def test_nothing_of_it():
    """
    What is not known is left out.
    """
    error = tell(DeadlineExceeded("", meta=Meta(attempts=2)), "too late", unanswered=3)
    assert str(error) == (
        "too late; 2 attempts, 3.0 s without an answer;"
        " raise timeout= or Timeouts(deadline=...) to wait longer"
    )


# Each state ------------------------------------------------------------------------


def checked(error, clock, seconds, phase="", attempts=1):
    """
    Look at what every error of a clock must have; this phase is among the sentence's. (A
    slow machine may add another.)
    """
    said = str(error)
    assert error.clock == clock
    assert f"{seconds:g} s" in said
    assert clock in said
    assert error.attempts == attempts
    assert error.elapsed >= seconds * 0.9
    assert f"{attempts} attempt" in said
    head, facts, remedy = said.rsplit("; ", 2)
    phases = [one.partition(" s ")[2] for one in facts.split(", ")[1:]]
    assert not phase or phase in phases
    assert "raise " in remedy
    other = pickle.loads(pickle.dumps(error))
    assert str(other) == said
    assert other.__dict__ == error.__dict__
    return head


async def late(call, kind):
    """
    The error of this kind that the call ends with.
    """
    with pytest.raises(kind) as caught:
        await soon(call)
    return caught.value


@pytest.fixture
async def caller(emulator):
    """
    A caller of the emulator.
    """
    async with calling(emulator.base_url) as caller:
        yield caller


DEADLINE = Timeouts(deadline=SHORT)


async def test_behind_a_closed_gate(caller):
    """
    The deadline, while it queues: nothing was sent.
    """
    caller.governor.close(GATE, 60)
    error = await late(caller.run(timeouts=DEADLINE), DeadlineExceeded)
    checked(error, "deadline", SHORT, "waiting to send", attempts=0)
    times = error.meta.timings
    assert times.governor >= SHORT * 0.9
    assert (times.pool, times.connect, times.headers) == (None, None, None)


async def test_between_two_attempts(caller, monkeypatch):
    """
    The deadline, while it waits to try again.
    """

    async def oversleep(seconds):
        await asyncio.Event().wait()

    attempts = caller.call(timeouts=DEADLINE)
    attempts.count = 1
    monkeypatch.setattr("random.random", lambda: 0.0)
    monkeypatch.setattr("horay_async._attempts.asyncio.sleep", oversleep)
    busy = InternalServerError("busy").with_facts(status=500)
    error = await late(attempts.judge(busy), DeadlineExceeded)
    checked(error, "deadline", SHORT, "waiting to send")
    # The error of the attempt before keeps its own times.
    assert busy.meta.timings.governor == 0


@pytest.mark.parametrize(
    ("kind", "clocks"),
    [
        (DeadlineExceeded, DEADLINE),
        (PoolTimeoutError, Timeouts(connect=SHORT, deadline=60)),
    ],
)
async def test_waiting_for_a_slot(emulator, kind, clocks):
    """
    All connections are in use, and both clocks say so.
    """
    emulator.script(Answer.chat("word", end="hang", done=False, finish=None))
    async with (
        AsyncHoray(
            service=HORAY,
            base_url=emulator.base_url,
            api_key="k",
            max_connections=1,
            max_retries=0,
        ) as client,
        client.chat.completions.stream(messages=HELLO),
    ):
        call = client.chat.completions.create(messages=HELLO, timeouts=clocks)
        error = await late(call, kind)
    head = checked(error, kind.clock, SHORT, "for a free connection")
    assert "all 1 connection in use" in head
    assert error.meta.timings.pool >= SHORT * 0.9
    assert error.meta.timings.connect == 0


@pytest.mark.parametrize(
    ("kind", "clocks"),
    [
        (DeadlineExceeded, DEADLINE),
        (ConnectTimeoutError, Timeouts(connect=SHORT, deadline=60)),
    ],
)
@pytest.mark.parametrize("limit", [1, 1000])
async def test_connecting(kind, clocks, limit):
    """
    A peer that takes the connection and never greets; being alone is no crowd.
    """

    async def silent(peer):
        await peer.gone()

    async with (
        serve(silent) as server,
        AsyncHoray(
            base_url=server.url.replace("http:", "https:"),
            api_key="k",
            max_retries=0,
            max_connections=limit,
            ssl=False,
        ) as client,
    ):
        call = client.chat.completions.create(
            model="m", messages=HELLO, timeouts=clocks
        )
        error = await late(call, kind)
    head = checked(error, kind.clock, SHORT, "to connect")
    assert "in use" not in head
    if kind is ConnectTimeoutError:
        assert f"127.0.0.1:{server.port}" in head
    assert error.meta.timings.connect >= SHORT * 0.9
    assert error.meta.timings.headers is None


@pytest.mark.parametrize("stream", [False, True])
async def test_no_headers(client, emulator, stream):
    """
    The request is sent, and nothing comes.
    """
    emulator.script(SILENT)
    clocks = Timeouts(deadline=2 * SHORT)
    if stream:
        opened = client.chat.completions.stream(messages=HELLO, timeouts=clocks)
        call = opened.open()
    else:
        call = client.chat.completions.create(messages=HELLO, timeouts=clocks)
    error = await late(call, DeadlineExceeded)
    checked(error, "deadline", 2 * SHORT, "without an answer")
    assert error.meta.timings.headers is None
    assert error.meta.status is None


async def test_in_the_body(caller, emulator):
    """
    A plain answer that stops.
    """
    emulator.script(
        Answer(
            headers={"content-type": "application/json"}, body=[b'{"a":'], end="hang"
        )
    )
    error = await late(caller.run(timeouts=DEADLINE), DeadlineExceeded)
    checked(error, "deadline", SHORT, "in the body")
    assert error.meta.timings.body > 0
    assert error.meta.status == 200


def stream_of(*body):
    """
    An event stream of exactly this, which then hangs.
    """
    kind = {"content-type": "text/event-stream"}
    return Answer(headers=kind, body=body, end="hang")


PING = b": ping\n\n"

WORD = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n'


async def read_all(client, timeouts, **options):
    """
    Read a stream to its end.
    """
    patient = client.with_options(max_retries=0)
    async with patient.chat.completions.stream(
        messages=HELLO, timeouts=timeouts, **options
    ) as stream:
        async for _ in stream:
            pass


async def test_first_token_without_headers(client, emulator):
    """
    It waits in `open`.
    """
    emulator.script(SILENT)
    call = read_all(client, Timeouts(first_token=SHORT))
    error = await late(call, FirstTokenTimeoutError)
    checked(error, "first_token", SHORT, "without an answer")
    assert ": 0 pieces and 0 pings before; " in str(error)


async def test_first_token_after_pings(client, emulator):
    """
    The server lives, and does not speak.
    """
    emulator.script(stream_of(PING, PING, PING))
    call = read_all(client, Timeouts(first_token=2 * SHORT))
    error = await late(call, FirstTokenTimeoutError)
    checked(error, "first_token", 2 * SHORT, "in the body")
    assert error.pings == 3
    assert ": 0 pieces and 3 pings before; " in str(error)
    assert error.meta.status == 200


@pytest.mark.parametrize(
    ("clocks", "kind"),
    [
        (Timeouts(stall=SHORT), StreamStalledError),
        (Timeouts(silence=SHORT), StreamSilentError),
        (Timeouts(deadline=2 * SHORT), DeadlineExceeded),
    ],
)
async def test_after_the_first_token(client, emulator, clocks, kind):
    """
    What had come is in the error, and counted in its sentence.
    """
    emulator.script(stream_of(WORD, WORD, PING, PING, PING))
    error = await late(read_all(client, clocks), kind)
    seconds = getattr(clocks, kind.clock)
    checked(error, kind.clock, seconds)
    assert ": 2 pieces and 3 pings before; " in str(error)
    assert (error.pings, error.partial.tokens) == (3, 2)
    assert error.partial.text == "wordword"
    assert error.meta.timings.first_token is not None
    assert error.meta.timings.body is not None


async def test_the_deadline_without_a_reader(client, emulator):
    """
    It rings while nobody waits, before the first content has been asked for.
    """
    emulator.script(stream_of(PING))
    stream = client.chat.completions.stream(messages=HELLO, timeouts=DEADLINE)
    await stream.open()
    await until(lambda: stream.outcome)
    error = await late(anext(stream.__aiter__()), DeadlineExceeded)
    checked(error, "deadline", SHORT, "in the body")


async def test_an_attempt_after_others(client, emulator):
    """
    All attempts count, and the phases are the last one's.
    """
    refusal = Answer.json({}, 503, headers=[("retry-after", "0.01")])
    emulator.script(refusal, refusal, SILENT)
    call = client.chat.completions.create(
        messages=HELLO, timeouts=Timeouts(deadline=1.0)
    )
    error = await late(call, DeadlineExceeded)
    assert "3 attempts in 1." in str(error)
    phases = str(error).rsplit("; ", 2)[1]
    assert "without an answer" in phases
    assert "to the headers" not in phases
