"""
A server that goes away in the middle of a job, and a job that waits for it.
"""

import asyncio
import logging

import pytest

from horay_async import (
    APIConnectionError,
    Budget,
    ConfigurationError,
    Conversation,
    IncompleteStreamError,
    InternalServerError,
    RateLimitError,
    ServiceUnavailableError,
    StreamAbortedError,
)
from horay_async.emulator import Answer
from horay_async.many import _away
from horay_async.testing import instant_retries
from loopback import soon, until
from mapping import Source, assert_over, every, workers


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(_away, "FIRST_PAUSE", 0.01)


@pytest.fixture
def client(client):
    """
    A call that fails has failed: what is tried again, the job tries.
    """
    return client.with_options(max_retries=0)


def refusal(status, **fields):
    return Answer.json({"error": {"message": "no", **fields}}, status)


GONE = {
    "502": refusal(502),
    "503": refusal(503),
    "504": refusal(504),
    "429": refusal(429),
    "hung up": Answer(at="accept", end="close"),
}


def said(request):
    return request.json["messages"][-1]["content"]


class Outage:
    """
    A server that is there for so many requests, then gone, and there again.
    """

    def __init__(self, emulator, there=1):
        self.left = there
        self.asked = 0
        # What comes in place of refusals.
        self.then = []
        emulator.script(*[self.choose] * 500)

    def choose(self, _):
        if self.left > 0:
            self.left -= 1
            return None
        self.asked += 1
        return self.then.pop() if self.then else refusal(503)

    def end(self):
        self.left = 1000


async def begun(job):
    """
    A job that has had its first answer, and its reader.
    """
    items = aiter(job)
    return items, [await anext(items)]


# Waiting -----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, "rows", True])
async def test_it_is_waited_for(client, emulator, stream, caplog):
    """
    Rows that it did not answer are kept, no new one is begun, one of them asks; and when it
    is back all are answered.
    """
    outage, source = Outage(emulator), Source(30)
    job = client.map(source, concurrency=4, patience=60, stream=stream)
    with caplog.at_level(logging.WARNING, "horay_async"):
        async with job:
            items, rows = await begun(job)
            reading = asyncio.ensure_future(anext(items))
            await until(lambda: outage.asked > 8)
            assert job.progress.away > 0
            sent = len(emulator.requests)
            # One asks, and one new one after it.
            assert len(emulator.open_requests) <= 2
            assert 0 <= job.in_flight - len(job._away._absent) <= 1
            assert job.in_flight <= 8
            assert source.taken == job.in_flight + 1
            outage.end()
            rows += [await soon(reading)] + [row async for row in items]
    rows = [row for row in rows if hasattr(row, "request")]
    assert sorted(row.index for row in rows) == list(range(30))
    assert all(row.error is None for row in rows)
    assert job.progress.away == 0
    assert job._away._absent == set()
    assert job.progress.retried == len(emulator.requests) - 30 >= 4
    assert sum(row.attempts for row in rows) == len(emulator.requests) > sent
    assert sum(row.calls for row in rows) == 30
    first, last = [record.message for record in caplog.records]
    assert "the server is away (ServiceUnavailableError 503): waiting for it" in first
    assert "the server is there again after" in last
    assert_over(client)


@pytest.mark.parametrize("gone", GONE)
async def test_what_being_away_is(client, emulator, gone):
    """
    No connection, or no server behind the gateway, or one that takes nothing.
    """
    emulator.script(None, GONE[gone], GONE[gone])
    rows = await every(client.map(["one", "two"], concurrency=1, patience=60))
    assert [row.error for row in rows] == [None, None]


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400),
        refusal(401),
        refusal(500),
        refusal(402),
        refusal(429, code="insufficient_quota"),
        Answer.text("half a body", headers={"content-length": "100"}, end="close"),
    ],
    ids=["400", "401", "500", "402", "no credit", "half"],
)
async def test_what_it_is_not(client, emulator, answer):
    """
    A server that says no is there, and so is one that began to answer.
    """
    emulator.script(None, answer)
    job = client.map(["one", "two"], concurrency=1, patience=60)
    rows = await every(job)
    assert [row.error is None for row in rows] == [True, False]
    assert len(emulator.requests) == 2


async def test_without_patience(client, emulator):
    emulator.script(None, refusal(503), None)
    rows = await every(client.map(["one", "two", "three"], concurrency=1))
    assert [type(row.error) for row in rows] == [
        type(None),
        ServiceUnavailableError,
        type(None),
    ]


async def test_one_that_was_never_there(client, emulator):
    """
    Who mistypes an address hears of it at once.
    """
    port = Answer(at="accept", end="close")
    emulator.script(*[port] * 3)
    rows = await every(client.map(["one", "two", "three"], patience=600))
    assert [type(row.error) for row in rows] == [APIConnectionError] * 3


@pytest.mark.parametrize("patience", [-1, float("nan"), "10m", True, None])
async def test_no_patience(client, patience):
    with pytest.raises(ConfigurationError, match=r"patience is .*, expected seconds"):
        client.map([], patience=patience)


async def test_for_ever(client, emulator):
    """
    Patience may have no end.
    """
    emulator.script(None, refusal(503), refusal(503))
    job = client.map(["one", "two"], concurrency=1, patience=float("inf"))
    assert [row.error for row in await every(job)] == [None, None]


# Its end -----------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True])
async def test_patience_ends(client, emulator, tmp_path, caplog, slow):
    """
    Then those that waited fail, nobody new is asked, and the reader hears why; the journal
    keeps all that was not answered to be asked again.
    """
    outage, path = Outage(emulator), tmp_path / "run.jsonl"
    asked = [(f"row {i}", f"prompt {i}") for i in range(40)]

    async def source():
        for one in asked:
            if slow and outage.asked:
                # It has nothing to give for hours.
                await asyncio.Event().wait()
            yield one

    rows = []
    job = client.map(source(), concurrency=3, patience=0.1, journal=path)
    caplog.set_level(logging.WARNING, "horay_async")
    with pytest.raises(ServiceUnavailableError) as caught:
        async with job:
            async for row in job:
                rows.append(row)  # noqa: PERF401 -- it fails, and what came must stay
    assert "away for 0.1 s, so no more is asked" in str(caught.value)
    assert 1 < len(rows) <= 12
    assert sum(row.error is None for row in rows) == 1
    assert {type(row.error) for row in rows if row.error} == {ServiceUnavailableError}
    assert "has been away for 0.1 s" in caplog.records[1].message
    assert len(caplog.records) == 2
    assert_over(client)
    outage.end()
    again = client.map(asked, journal=path)
    assert len(await every(again)) == 39
    assert (again.progress.skipped, again.progress.skipped_failed) == (1, 0)


async def test_a_row_that_fails_by_itself(client, emulator):
    """
    Where others are answered meanwhile, it is its prompt that the gateway does not bear.
    """

    def choose(request):
        return refusal(504) if said(request) == "prompt 3" else None

    emulator.script(*[choose] * 500)
    job = client.map(Source(40), concurrency=4, patience=60)
    rows = await every(job)
    assert [row.index for row in rows if row.error] == [3]
    (row,) = (row for row in rows if row.error)
    assert isinstance(row.error, InternalServerError)
    assert_over(client)


@pytest.mark.parametrize("then", ["refused", "slow"])
async def test_the_one_that_asks_may_fail_otherwise(client, emulator, then):
    """
    Then the server is there; or nobody knows, and another row asks.
    """
    outage = Outage(emulator)
    job = client.map(Source(3), concurrency=2, patience=60, timeout=0.2)
    async with job:
        items, rows = await begun(job)
        reading = asyncio.ensure_future(anext(items))
        await until(lambda: len(job._away._absent) == 2)
        answer = refusal(400)
        if then == "slow":
            answer = Answer(before=[asyncio.Event()])
        outage.then = [answer]
        await until(lambda: not outage.then)
        outage.end()
        rows += [await soon(reading)] + [row async for row in items]
    assert len(rows) == 3
    assert sum(row.error is not None for row in rows) == 1
    assert_over(client)


# Leaving -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["leave", "stranger"])
async def test_cancelled_meanwhile(client, emulator, how):
    """
    Nothing is left of it; and where somebody cancels the row that asks, another one does.
    """
    outage = Outage(emulator)
    job = client.map(Source(6), concurrency=3, patience=60)
    async with job:
        items, rows = await begun(job)
        reading = asyncio.ensure_future(anext(items))
        await until(lambda: len(job._away._absent) >= 2)
        if how == "leave":
            await job.aclose()
            with pytest.raises(StreamAbortedError):
                await reading
        else:
            await until(lambda: job._away._probe is not None)
            probe = job._away._probe
            (task,) = (
                task
                for task in workers()
                if task.get_coro().cr_frame
                and task.get_coro().cr_frame.f_locals.get("one") is probe
            )
            task.cancel()
            rows.append(await soon(reading))
            assert isinstance(rows[-1].error, StreamAbortedError)
            outage.end()
            rows += [row async for row in items]
            assert len(rows) == 6
    assert_over(client)


# What else a row is ------------------------------------------------------------------


async def test_a_conversation(client, emulator):
    """
    The turn is asked again, not those before it.
    """
    emulator.script(None, refusal(503), refusal(503))
    talk = Conversation("one", ["two", "three"])
    (row,) = await every(client.map([talk], patience=60))
    assert [reply.text for reply in row.replies] == ["one", "two", "three"]
    assert (row.calls, row.attempts) == (3, 5)
    assert [said(request) for request in emulator.requests] == [
        "one",
        "two",
        "two",
        "two",
        "three",
    ]


@pytest.mark.parametrize("end", ["broken", "503"])
async def test_not_after_the_first_token(client, emulator, end):
    """
    What was told once is not told again.
    """
    broken = Answer.chat("half ", end="close", finish=None, done=False)
    if end == "503":
        choice = {"index": 0, "delta": {"content": "half "}, "finish_reason": None}
        error = {"message": "no", "code": 503}
        broken = Answer.sse({"choices": [choice]}, {"error": error})
    emulator.script(None, broken)
    async with client.map(
        ["one", "two"], stream=True, concurrency=1, patience=60
    ) as job:
        items = [item async for item in job]
    assert [item.text for item in items if hasattr(item, "token")][-1] == "half "
    error = items[-1].error
    if end == "503":
        assert isinstance(error, ServiceUnavailableError)
    else:
        assert isinstance(error, IncompleteStreamError)
    assert error.partial.text == "half "
    assert len(emulator.requests) == 2


async def test_a_budget(client, emulator):
    """
    Who waits holds nothing of it.
    """
    outage = Outage(emulator)
    job = client.map(
        Source(5), concurrency=2, patience=60, budget=Budget(tokens=200), max_tokens=9
    )
    async with job:
        items, rows = await begun(job)
        reading = asyncio.ensure_future(anext(items))
        await until(lambda: len(job._away._absent) == 2 and not emulator.open_requests)
        outage.end()
        rows += [await soon(reading)] + [row async for row in items]
    assert [row.error for row in rows] == [None] * 5
    assert job._asking.ledger._under_way == 0


async def test_a_server_that_says_how_long(client, emulator, caplog):
    """
    A wait that the retries would not take is waited for here.
    """
    emulator.script(
        None,
        Answer.json({"error": {"message": "no"}}, 503, headers={"retry-after": "500"}),
    )
    with instant_retries(), caplog.at_level(logging.WARNING, "horay_async"):
        rows = await every(client.map(["one", "two"], concurrency=1, patience=600))
    assert [row.error for row in rows] == [None, None]
    assert "there again after 500 s" in caplog.records[-1].message


async def test_in_tests_of_apps(client, emulator):
    """
    Where retries are instant, so is this; and patience ends.
    """
    emulator.script(None, *[refusal(429)] * 200)
    rows = []
    with instant_retries(), pytest.raises(RateLimitError):
        async with client.map(["one", "two"], concurrency=1, patience=600) as job:
            async for row in job:
                rows.append(row)  # noqa: PERF401 -- it fails, and what came must stay
    assert isinstance(rows[1].error, RateLimitError)
    assert len(emulator.requests) < 100
