"""
What a job tells of itself while it works, and what it may cost.
"""

import asyncio

import pytest

from horay_async import (
    Budget,
    BudgetExceededError,
    ChatRequest,
    ConfigurationError,
    Conversation,
    Price,
    StreamAbortedError,
    user,
)
from horay_async.emulator import Answer
from horay_async.many import _ticker
from loopback import soon, until
from mapping import Generated, Source, assert_over, every, hold


MODEL = "meta-llama/Meta-Llama-3.1-8B-Instruct"


async def collected(job):
    """
    The rows of a job that ends in an error, and the error.
    """
    rows = []
    with pytest.raises(Exception) as caught:
        async with job:
            async for row in job:
                rows.append(row)  # noqa: PERF401 -- it fails, and what came must stay
    return rows, caught.value


# Progress ----------------------------------------------------------------------------


async def test_it_is_live(client, emulator):
    """
    What is under way, what is done, what failed; the attributes of the job are the same.
    """
    first, second = hold(emulator, 2)
    emulator.script(Answer.json({"error": {"message": "no"}}, 400))
    job = client.map(["one", "two", "three"], concurrency=2)
    assert job.progress.total == 3
    async with job:
        items = aiter(job)
        wait = asyncio.ensure_future(anext(items))
        await emulator.wait_for_request(2)
        assert (job.progress.in_flight, job.progress.done) == (2, 0)
        first.set()
        second.set()
        rows = [await soon(wait)] + [row async for row in items]
    assert len(rows) == 3
    progress = job.progress
    assert (progress.in_flight, progress.done, progress.failed) == (0, 3, 1)
    assert (job.in_flight, job.done, job.failed) == (0, 3, 1)
    assert progress.prompt_tokens > 0
    assert progress.completion_tokens == 2
    assert progress.latency.count == 2
    assert progress.cost is None
    seconds = progress.seconds
    assert seconds > 0
    await asyncio.sleep(0.01)
    assert progress.seconds == seconds


@pytest.mark.parametrize(
    ("given", "options", "total"),
    [
        (["a", "b"], {}, 2),
        (("a",), {}, 1),
        ({"x": "a"}.items(), {}, 1),
        (iter(["a"]), {}, None),
        (iter(["a"]), {"total": 1}, 1),
        (["a"], {"total": 5}, 5),
    ],
)
async def test_how_many_there_are(client, given, options, total):
    assert client.map(given, **options).progress.total == total


async def test_cost(client):
    """
    By the prices, as the server counts.
    """
    prices = {MODEL: Price(1_000_000, 2_000_000)}
    job = client.map(["one two", "three"], prices=prices)
    await every(job)
    progress = job.progress
    assert progress.cost == progress.prompt_tokens + 2 * progress.completion_tokens
    assert progress.unpriced == 0


# on_progress -------------------------------------------------------------------------


async def test_told_now_and_then(client, emulator, monkeypatch):
    """
    While something changes, and at the end; not for each row.
    """
    monkeypatch.setattr(_ticker, "SECONDS", 0.02)
    told = []
    gates = hold(emulator, 2)

    def tell(progress):
        told.append((progress.done, progress.in_flight))

    async with client.map(Source(200), on_progress=tell, concurrency=2) as job:
        items = aiter(job)
        wait = asyncio.ensure_future(anext(items))
        await until(lambda: told)
        assert told == [(0, 2)]
        # Nothing changes.
        await asyncio.sleep(0.1)
        assert told == [(0, 2)]
        for gate in gates:
            gate.set()
        await soon(wait)
        async for _ in items:
            pass
        assert told[-1] == (200, 0)
    assert len(told) < 200


async def test_told_at_an_early_end(client, monkeypatch):
    """
    The last call is the last word, however the job ended.
    """
    monkeypatch.setattr(_ticker, "SECONDS", 0.02)
    told = []
    async with client.map(
        Source(), on_progress=lambda progress: told.append(progress.in_flight)
    ) as job:
        async for _ in job:
            break
    assert told[-1:] == [0]
    count = len(told)
    await job.aclose()
    await asyncio.sleep(0.05)
    assert len(told) == count


async def test_never_begun(client):
    told = []
    async with client.map(["one"], on_progress=told.append):
        pass
    assert told == []


async def test_what_it_raises_ends_the_job(client, emulator, monkeypatch):
    """
    As what the source raises: nothing more is asked, and what is under way is told first.
    """
    monkeypatch.setattr(_ticker, "SECONDS", 0)
    gates = hold(emulator, 2)
    given, calls = Generated(), []

    def tell(progress):
        calls.append(progress)
        raise ZeroDivisionError("a mistake")

    job = client.map(given.waited(), on_progress=tell, concurrency=2)
    reading = asyncio.create_task(collected(job))
    await emulator.wait_for_request(2)
    await until(lambda: calls)
    for gate in gates:
        gate.set()
    rows, error = await soon(reading)
    assert isinstance(error, ZeroDivisionError)
    assert all(row.error is None for row in rows)
    assert len(rows) == 2
    assert len(calls) == 1
    assert given.closed
    assert_over(client)


@pytest.mark.parametrize("deaf", [False, True])
async def test_what_it_raises_while_the_source_waits(
    client, emulator, monkeypatch, deaf
):
    """
    Nobody waits for a request that may come in hours; nor is it asked then.
    """
    monkeypatch.setattr(_ticker, "SECONDS", 0)

    class Slow:
        taken = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.taken += 1
            if self.taken > 1:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if not deaf:
                        raise
            return "one"

    def tell(progress):
        raise ZeroDivisionError("a mistake")

    rows, error = await soon(collected(client.map(Slow(), on_progress=tell)))
    assert isinstance(error, ZeroDivisionError)
    assert len(rows) == len(emulator.requests) == 1
    assert_over(client)


async def test_what_it_raises_at_the_end(client):
    """
    Then that is the end's error; and of a job that was left, its closing's.
    """

    def tell(progress):
        raise ZeroDivisionError("a mistake")

    rows, error = await collected(client.map(["one"], on_progress=tell))
    assert isinstance(error, ZeroDivisionError)
    assert len(rows) == 1
    with pytest.raises(ZeroDivisionError):
        async with client.map(Source(), on_progress=tell) as job:
            async for _ in job:
                break
    assert_over(client)


# Budget ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["done", "input"])
@pytest.mark.parametrize("stream", [False, "rows"])
async def test_a_budget(client, emulator, order, stream):
    """
    No row is begun that may go over it; what is under way is answered and told, then why.
    """
    source = Source(100)
    rows, error = await collected(
        client.map(
            source,
            budget=Budget(tokens=120),
            max_tokens=10,
            order=order,
            stream=stream,
            concurrency=4,
        )
    )
    assert isinstance(error, BudgetExceededError)
    assert "the budget of 120 tokens" in str(error)
    assert all(row.error is None for row in rows)
    assert 5 < len(rows) == len(emulator.requests) < 100
    used = sum(row.reply.usage.total_tokens for row in rows)
    assert used <= 120
    # The one that did not fit was taken from the source, and is no row.
    assert source.taken == len(rows) + 1
    if order == "input":
        assert [row.index for row in rows] == list(range(len(rows)))
    assert_over(client)


async def test_bad_lines_behind_a_budget(client):
    """
    Rows that cost nothing do not hide that others were not asked.
    """
    problem = ValueError("no JSON")
    asked = ["x" * 4000, problem, problem]
    rows, error = await collected(
        client.map(asked, budget=Budget(tokens=100), max_tokens=10, order="input")
    )
    assert rows == []
    assert isinstance(error, BudgetExceededError)


async def test_a_conversation_that_grows_over_its_budget(client, emulator):
    """
    It is cut off between two turns, with its answers; though nothing more was to be asked.
    """
    talk = Conversation("x", ["y" * 4000])
    rows, error = await collected(
        client.map([talk], budget=Budget(tokens=200), max_tokens=10)
    )
    assert isinstance(error, BudgetExceededError)
    (row,) = rows
    assert isinstance(row.error, BudgetExceededError)
    assert row.outcome == "cancelled"
    assert [reply.text for reply in row.replies] == ["x"]
    assert len(emulator.requests) == 1
    assert_over(client)


async def test_left_while_the_budget_makes_it_wait(client, emulator):
    """
    The next row waits for those under way, and the job can be left.
    """
    hold(emulator, 1)
    budget = Budget(tokens=60)
    async with client.map(Source(), budget=budget, max_tokens=40) as job:
        reading = asyncio.ensure_future(anext(aiter(job)))
        await emulator.wait_for_request(1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert job.in_flight == 1
        reading.cancel()
    assert_over(client)


async def test_left_before_a_rows_first_turn(client, emulator):
    """
    What it might have cost is given back.
    """

    def source():
        yield "one"
        job._close()
        yield "two"

    job = client.map(source(), budget=Budget(tokens=60), max_tokens=40)
    with pytest.raises(StreamAbortedError):
        await every(job)
    assert job._asking.ledger._under_way == 0
    assert_over(client)


async def test_no_price(client, emulator):
    """
    A budget in money can only be kept where every model has a price.
    """
    told = {"prices": {"other": Price(1, 1)}, "budget": Budget(cost=5)}
    with pytest.raises(ConfigurationError, match="a price for 'mine'"):
        client.map([], model="mine", **told)
    with pytest.raises(ConfigurationError, match="prices"):
        client.map([], budget=Budget(cost=5))
    # Of one request it is that row's error; of strings it is true of all.
    request = ChatRequest(messages=[user("hi")])
    named = ChatRequest(messages=[user("hi")], model=MODEL)
    (row,) = await every(client.map([request], **told))
    assert isinstance(row.error, ConfigurationError)
    rows, error = await collected(client.map([named, "hi", "ho"], **told))
    assert isinstance(error, ConfigurationError)
    assert len(rows) == 1
    assert emulator.requests == []
