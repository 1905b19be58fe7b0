"""
What is tried again, how long it waits, and who is told: over real sockets.
"""

import asyncio
import itertools
import math

import pytest

from calling import KEY, calling, read
from horay_async._attempts import Attempts
from horay_async._errors import (
    APIConnectionError,
    APIResponseValidationError,
    BadRequestError,
    ClientClosedError,
    IncompleteStreamError,
    InternalServerError,
    ServiceUnavailableError,
)
from horay_async._events import AttemptFailed, AttemptStarted, CallEnded
from horay_async._timeouts import Timeouts
from horay_async._values import Meta, Outcome, Usage
from horay_async.emulator import Answer
from loopback import answer, once, serve


OK = Answer.json({"ok": True})
BUSY = Answer.json({"message": "busy"}, 503)


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


# Once ------------------------------------------------------------------------------


async def test_a_good_answer(caller, emulator):
    """
    One request, its answer, and nothing left behind.
    """
    emulator.script(OK)
    attempts = caller.call(headers={"X-A": "1"}, query={"q": "2"})
    assert await attempts.run(read) == b'{"ok":true}'
    (request,) = emulator.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert (request.headers["x-a"], request.query) == ("1", "q=2")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert caller.told == [1]
    assert caller.governor.snapshot() == {}


async def test_the_connection_is_used_again(caller, emulator):
    """
    After an answer, and after a refusal that was read to its end.
    """
    emulator.script(OK, BUSY, OK)
    await caller.run()
    await caller.run()
    assert emulator.connections == 1


async def test_meta(caller, emulator):
    """
    Status, headers, limits and times of the last exchange.
    """
    headers = {
        "X-Request-Id": "r-1",
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1m2.5s",
        "x-ratelimit-limit-tokens": "None",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "17ms",
    }
    emulator.script(BUSY, Answer.json({}, headers=list(headers.items())))
    attempts = caller.call()

    async def keep(body):
        return attempts.meta(body)

    meta = await attempts.run(keep)
    assert (meta.status, meta.service, meta.attempts) == (200, "Horay", 2)
    assert (meta.request_id, meta.reused) == ("r-1", True)
    limits = meta.rate_limits
    assert (limits.limit_requests, limits.remaining_requests) == (60, 59)
    assert (limits.reset_requests, limits.reset_tokens) == (62.5, 0.017)
    assert (limits.limit_tokens, limits.remaining_tokens) == (None, 149984)
    times = meta.timings
    assert times.pool >= 0
    assert times.connect == 0
    assert times.headers >= 0
    assert times.total is None


async def test_ended(caller, emulator):
    """
    The end settles, notes the times, and tells the hook.
    """
    emulator.script(Answer.chat("a"))
    attempts = caller.call(stream=True)
    body = await attempts.send()
    assert caller.in_flight == 1
    meta = attempts.meta(body)
    await read(body)
    usage = Usage(total_tokens=3)
    attempts.ended(Outcome.FINISHED, meta, usage=usage)
    assert caller.governor.snapshot() == {}
    times = meta.timings
    assert times.total >= times.headers + times.body
    assert caller.events[-1] == CallEnded(
        path="/chat/completions",
        outcome=Outcome.FINISHED,
        meta=meta,
        usage=usage,
        call=caller.events[0].call,
    )


async def test_ended_before_it_was_sent(caller):
    """
    There is a whole time, but none of a body.
    """
    attempts = caller.call()
    meta = attempts.meta(None)
    attempts.ended(Outcome.CANCELLED, meta)
    assert (meta.attempts, meta.status, meta.timings.body) == (0, None, None)
    assert meta.timings.total >= 0


# Again -----------------------------------------------------------------------------


async def test_tried_again(caller, emulator):
    """
    As often as it takes, and the hook hears why.
    """
    emulator.script(BUSY, Answer.json({}, 500), OK)
    assert await caller.run() == b'{"ok":true}'
    assert caller.told == [
        1,
        (1, 0.0, "status 503"),
        2,
        (2, 0.0, "status 500"),
        3,
    ]
    first = caller.events[0]
    assert (first.method, first.path) == ("POST", "/chat/completions")
    assert isinstance(caller.events[1].error, ServiceUnavailableError)
    assert caller.governor.snapshot() == {}


@pytest.mark.parametrize("retries", [0, 1])
async def test_no_end_of_trying(caller, emulator, retries):
    """
    The last one's error is raised, with their number.
    """
    emulator.script(*[BUSY] * 3)
    with pytest.raises(ServiceUnavailableError, match="busy") as caught:
        await caller.run(retries=retries)
    assert caught.value.attempts == retries + 1 == len(emulator.requests)
    assert caught.value.elapsed >= 0
    assert caught.value.retry_after is None
    wait, reason = caller.told[-1][1:]
    assert wait is None
    assert reason == ("tried 2 times" if retries else "no retries allowed")
    assert caller.in_flight == 0


async def test_not_tried_again(caller, emulator):
    """
    What the server calls wrong stays wrong.
    """
    emulator.script(Answer.json({"message": "no"}, 400))
    with pytest.raises(BadRequestError, match="400 from Horay: no"):
        await caller.run()
    assert caller.told == [1, (1, None, "status 400 is final")]


async def test_send_is_tried_again_as_well(caller, emulator):
    """
    A stream is: until its headers are there.
    """
    emulator.script(BUSY, Answer.chat("a"))
    attempts = caller.call(stream=True)
    body = await attempts.send()
    assert (body.status, attempts.count) == (200, 2)
    assert caller.in_flight == 1
    assert b"[DONE]" in await read(body)
    attempts.settle()
    attempts.settle()
    assert caller.in_flight == 0


async def test_what_reading_finds_is_judged(caller, emulator):
    """
    An answer that broke off is worth another try; one that makes no sense is not.
    """
    emulator.script(OK, OK, OK)
    errors = [IncompleteStreamError("cut"), APIResponseValidationError("nonsense")]
    attempts = caller.call()

    async def complain(body):
        await read(body)
        raise errors.pop(0)

    with pytest.raises(APIResponseValidationError) as caught:
        await attempts.run(complain)
    assert caught.value.meta.status == 200
    assert caught.value.attempts == 2
    assert caller.told == [
        1,
        (1, 0.0, "no answer"),
        2,
        (2, None, "trying again cannot help"),
    ]
    assert caller.in_flight == 0


async def test_no_connection(dice):
    """
    Nobody listens: tried again, and the error says where the time went.
    """
    async with serve(once()) as server:
        url = server.url
    async with calling(url) as caller:
        with pytest.raises(APIConnectionError, match="cannot connect") as caught:
            await caller.run(retries=1)
    error = caught.value
    assert (error.attempts, error.meta.status, error.meta.reused) == (2, None, False)
    assert error.meta.timings.connect > 0
    assert error.meta.timings.headers is None
    assert error.elapsed >= 0
    assert caller.in_flight == 0


async def test_a_closed_client(caller):
    """
    No attempt, so there is nothing to judge.
    """
    await caller.session.close()
    with pytest.raises(ClientClosedError):
        await caller.run()
    assert caller.told == [1]
    assert caller.in_flight == 0


async def test_times_are_the_attempts_own(caller, emulator):
    """
    An error tells of its exchange, not of the one before, nor of the one after.
    """
    emulator.script(BUSY, Answer(before=[asyncio.Event()]))
    with pytest.raises(APIConnectionError) as caught:
        await caller.run(timeouts=Timeouts(deadline=0.5))
    assert caught.value.meta.timings.headers is None
    failed = next(one for one in caller.events if isinstance(one, AttemptFailed))
    assert failed.error.meta.timings.headers is not None
    assert failed.error.meta.attempts == 1


async def test_an_error_in_a_stream_is_judged_by_its_body(caller, emulator):
    """
    A stream hands in what it found before its first token.
    """
    emulator.script(Answer.chat("a"))
    attempts = caller.call(stream=True, retries=0)
    body = await attempts.send()
    error = InternalServerError("in the stream")
    with pytest.raises(InternalServerError):
        await attempts.judge(error, body)
    assert error.meta.status == 200
    assert caller.told[-1] == (1, None, "status 200 is final")
    body.drop()


# A kept connection that died -------------------------------------------------------


def dies_on(*numbers):
    """
    A server that hangs up, without a byte, on these of its requests.
    """
    seen = itertools.count(1)

    async def script(peer):
        while True:
            await peer.request()
            if next(seen) in numbers:
                return
            peer.send(answer())

    return script


@pytest.mark.uvloop
async def test_a_free_retry(dice):
    """
    The server closed it while it was idle: one more try, even where there are no retries.
    """
    async with serve(dies_on(2)) as server, calling(server.url) as caller:
        await caller.run(retries=0)
        assert await caller.run(retries=0) == b"{}"
        assert len(server.requests) == 3
        assert caller.told[-3:] == [
            1,
            (1, 0.0, "a connection kept from before was closed"),
            2,
        ]


@pytest.mark.uvloop
async def test_it_is_free_once(dice):
    """
    A server that hangs up on everybody is no accident.
    """
    async with serve(dies_on(2, 3, 4)) as server, calling(server.url) as caller:
        await caller.run(retries=0)
        with pytest.raises(APIConnectionError, match="hung up") as caught:
            await caller.run(retries=1)
        assert caught.value.attempts == 3
        assert [told[2] for told in caller.told if isinstance(told, tuple)] == [
            "a connection kept from before was closed",
            "no answer",
            "tried 2 times",
        ]
        assert caller.in_flight == 0


@pytest.mark.uvloop
async def test_a_new_connection_is_no_excuse(dice):
    """
    Nothing was kept, so nothing is free; the error knows what it was.
    """
    async with serve(dies_on(1)) as server, calling(server.url) as caller:
        with pytest.raises(APIConnectionError):
            await caller.run(retries=0)


@pytest.mark.uvloop
async def test_reused_is_a_fact_of_the_error(dice):
    """
    Where no response came as well.
    """
    async with serve(dies_on(2, 3)) as server, calling(server.url) as caller:
        await caller.run()
        with pytest.raises(APIConnectionError):
            await caller.run(retries=0)
        failures = [one for one in caller.events if isinstance(one, AttemptFailed)]
        assert [one.error.meta.reused for one in failures] == [True, False]


# Hooks -----------------------------------------------------------------------------


async def test_a_hook_that_raises(caller, emulator, caplog):
    """
    It breaks nothing.
    """

    def hook(event):
        raise ZeroDivisionError

    emulator.script(BUSY, OK)
    attempts = caller.call(hook=hook)
    assert await attempts.run(read) == b'{"ok":true}'
    attempts.ended(Outcome.FINISHED, Meta())
    assert len(caplog.records) == 4
    assert caller.in_flight == 0


async def test_no_hook(caller, emulator):
    """
    Nobody has to listen.
    """
    emulator.script(BUSY, OK)
    call = caller.call()
    attempts = Attempts(
        call._call,
        session=caller.session,
        governor=caller.governor,
        policy=call._policy,
        timeouts=call.timeouts,
    )
    assert await attempts.run(read) == b'{"ok":true}'
    assert caller.events == []


async def test_every_attempt_is_told(caller, emulator):
    """
    One start each, and one end each that failed.
    """
    emulator.script(BUSY, BUSY, BUSY)
    with pytest.raises(ServiceUnavailableError):
        await caller.run()
    kinds = [type(event) for event in caller.events]
    assert kinds == [AttemptStarted, AttemptFailed] * 3


# Clocks at the beginning -----------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "deadline", "seconds"),
    [
        (False, None, 600),
        (False, 5, 5),
        (False, math.inf, None),
        (True, None, None),
        (True, 5, 5),
    ],
)
async def test_the_deadline(caller, stream, deadline, seconds):
    """
    A plain call has one anyway; a stream only if somebody sets it.
    """
    now = asyncio.get_running_loop().time()
    attempts = caller.call(stream=stream, timeouts=Timeouts(deadline=deadline))
    if seconds is None:
        assert attempts.deadline is None
    else:
        assert attempts.deadline - now == pytest.approx(seconds, abs=1)
