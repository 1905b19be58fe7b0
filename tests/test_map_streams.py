"""
Rows that are asked as streams: their tokens merged, their ends told apart.
"""

import asyncio
import gc
import json
import weakref

import pytest

from horay_async import (
    ChatReply,
    ClientClosedError,
    CompletionReply,
    CompletionRequest,
    Conversation,
    IncompleteStreamError,
    Outcome,
    RowToken,
    StreamAbortedError,
    StreamStalledError,
    Timeouts,
)
from horay_async.emulator import Answer
from horay_async.many._asked import Asked
from horay_async.many._outlet import UNTOLD
from loopback import soon, until
from mapping import PATIENCE, Source, answers, assert_over, every, over, workers


def tokens(items):
    return [item for item in items if isinstance(item, RowToken)]


def rows(items):
    return [item for item in items if not isinstance(item, RowToken)]


# Rows --------------------------------------------------------------------------------


async def test_rows(client, emulator):
    """
    They are as those of plain calls, and know when their first token came.
    """
    asked = ["one two", CompletionRequest(prompt="three", max_tokens=9)]
    job = client.map(asked, stream="rows", order="input")
    chat, text = await every(job)
    assert [type(row.reply) for row in (chat, text)] == [ChatReply, CompletionReply]
    assert [row.reply.text for row in (chat, text)] == ["one two", "three"]
    assert all(request.json["stream"] is True for request in emulator.requests)
    for row in (chat, text):
        assert row.outcome == "finished"
        assert (row.attempts, row.calls) == (1, 1)
        assert 0 <= row.first_token <= row.seconds
        assert row.reply.meta.status == 200
    assert job.progress.first_token.count == job.progress.latency.count == 2
    assert_over(client)


async def test_connections_are_used_again(client, emulator):
    """
    A stream is read to the end of its body.
    """
    await every(client.map(Source(5), stream="rows", concurrency=1))
    assert len({request.connection for request in emulator.requests}) == 1


async def test_no_task_more_than_a_plain_row(client, emulator):
    """
    A stream's first content takes no task of its own.
    """
    go_on = asyncio.Event()
    emulator.script(*[Answer.chat(go_on, "a", go_on, "b")] * 3)
    async with client.map(["one", "two", "three"], stream="rows") as job:
        reading = asyncio.ensure_future(anext(aiter(job)))
        await emulator.wait_for_request(3)
        await asyncio.sleep(0)
        ours = [
            task.get_coro().__name__
            for task in asyncio.all_tasks() - {reading}
            if "/emulator/" not in task.get_coro().cr_code.co_filename
            and "/horay_async/" in task.get_coro().cr_code.co_filename
        ]
        assert ours == ["_work"] * 3
        go_on.set()
        await soon(reading)


async def test_retries_before_the_first_token(client, emulator):
    """
    And never after it: what was told once is not told again.
    """
    no = Answer.json({"error": {"message": "no"}}, 503, headers={"retry-after-ms": "1"})
    emulator.script(
        no, Answer.chat("half ", "of", end="close", finish=None, done=False)
    )
    async with client.map(["one"], stream=True) as job:
        items = [item async for item in job]
    assert [item.text for item in tokens(items)] == ["half ", "of"]
    (row,) = rows(items)
    assert isinstance(row.error, IncompleteStreamError)
    assert row.error.partial.text == "half of"
    assert row.outcome == "incomplete"
    assert (row.attempts, row.calls, len(emulator.requests)) == (2, 1, 2)
    assert job.progress.retried == 1


async def test_unconfirmed(client, emulator):
    """
    An answer that the server never said to be whole is an answer, and marked.
    """
    emulator.script(Answer.chat("all of it", finish=None))
    (row,) = await every(client.map(["one"], stream="rows"))
    assert row.error is None
    assert row.reply.text == "all of it"
    assert row.outcome == "unconfirmed"


async def test_stalls(client, emulator):
    """
    The clocks of streams hold, and what came is kept.
    """
    emulator.script(Answer.chat("half ", asyncio.Event()))
    job = client.map(["one"], stream="rows", timeouts=Timeouts(stall=0.05))
    (row,) = await every(job)
    assert isinstance(row.error, StreamStalledError)
    assert row.error.partial.text == "half "
    assert row.outcome == "timed_out"
    assert job.progress.completion_tokens == 1


FAILURES = {
    "broken": lambda: Answer.chat("half ", end="close", finish=None, done=False),
    "refused": lambda: Answer.json({"error": {"message": "no"}}, 400),
    "no token": lambda: Answer.chat(asyncio.Event()),
    "no answer": lambda: Answer(before=[asyncio.Event()]),
    "stalled": lambda: Answer.chat("half ", asyncio.Event()),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("stream", [False, "rows", True])
async def test_a_failed_row_is_in_no_cycle(client, emulator, stream, failure):
    """
    Rows are kept by the thousand: nothing of one that failed waits for the collector.
    """
    emulator.script(FAILURES[failure]())
    clocks = Timeouts(first_token=0.05, stall=0.05, deadline=0.1)
    client = client.with_options(max_retries=0)
    async with client.map(["one"], stream=stream, timeouts=clocks) as job:
        (row,) = rows([item async for item in job])
    assert row.error is not None
    gone = [weakref.ref(row), weakref.ref(row.error)]
    if failure == "broken":
        # aiohttp keeps such an error where it comes from.
        gone.pop()
    gc.disable()
    try:
        del row
        assert {ref() for ref in gone} == {None}
    finally:
        gc.enable()


# Tokens ------------------------------------------------------------------------------


async def test_tokens_of_many(client, emulator):
    """
    Each tagged with its row, in the row's order, and its row after the last.
    """
    asked = [(f"row {i}", " ".join(f"{i}.{j}" for j in range(40))) for i in range(12)]
    async with client.map(asked, stream=True, concurrency=4) as job:
        items = [item async for item in job]
    assert len(rows(items)) == 12
    for row in rows(items):
        mine = [item for item in items if item.id == row.id]
        assert mine[-1] is row
        assert {item.index for item in mine} == {row.index}
        text = "".join(item.text for item in mine[:-1])
        assert text == row.reply.text == asked[row.index][1]
    # They come side by side.
    seen = [item.index for item in items[: len(items) // 4]]
    assert len(set(seen)) > 1
    assert_over(client)


async def test_several_choices_and_turns(client):
    """
    The token says which choice, and the row's token which turn.
    """
    talk = Conversation("one two", ["three"])
    async with client.map([talk], stream=True, n=2) as job:
        items = [item async for item in job]
    said = {}
    for item in tokens(items):
        key = (item.turn, item.token.index)
        said[key] = said.get(key, "") + item.text
    assert said == {
        (0, 0): "one two",
        (0, 1): "one two",
        (1, 0): "three",
        (1, 1): "three",
    }
    (row,) = rows(items)
    assert [reply.text for reply in row.replies] == ["one two", "three"]


async def test_a_conversation_that_fails_half_way(client, emulator):
    """
    What was answered is kept, and what came of the answer that broke off.
    """
    emulator.script(None, Answer.chat("half ", end="close", finish=None, done=False))
    talk = Conversation("one", ["two", "three"])
    job = client.map([talk], stream="rows")
    (row,) = await every(job)
    assert [reply.text for reply in row.replies] == ["one"]
    assert row.error.partial.text == "half "
    assert (row.outcome, row.calls, row.attempts) == ("incomplete", 2, 2)
    assert len(emulator.requests) == 2
    usages = [row.replies[0].usage, row.error.usage]
    assert job.progress.completion_tokens == sum(
        one.completion_tokens for one in usages
    )


def test_a_turn_that_cannot_be_asked():
    """
    The outcome is that of the row, not of the call that went well before.
    """
    row = Asked(0, "0", "one", outcome=Outcome.FINISHED, error=TypeError("no")).told()
    assert row.outcome == "failed"


async def test_rows_in_the_order_of_the_input(client, emulator):
    """
    Tokens come as they are sent; only rows wait for those before them.
    """
    late = asyncio.Event()
    answers(emulator, 2, one=Answer.chat("a", late, "b"), two=Answer.chat("c"))
    async with client.map(["one", "two"], stream=True, order="input") as job:
        items = []
        async for item in job:
            items.append(item)
            if getattr(item, "text", "") == "c":
                late.set()
    assert [row.index for row in rows(items)] == [0, 1]
    first = [item.text for item in tokens(items)]
    assert first.index("c") < first.index("b")


async def test_a_slow_reader(client, emulator):
    """
    Who does not read is not read for: the server cannot send on, and nothing is lost.
    """
    sent = [0, 0]

    def endless(index):
        while sent[index] < 100_000:
            sent[index] += 1
            yield f"{sent[index]} " + "x" * 2000

    def event(text):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        return f"data: {json.dumps({'choices': [choice]})}\n\n"

    for index in range(2):
        emulator.script(
            Answer(
                headers={"content-type": "text/event-stream"},
                body=map(event, endless(index)),
            )
        )
    async with client.map(["one", "two"], stream=True) as job:
        items = aiter(job)
        first = await anext(items)
        for _ in range(20):
            # Nothing changes any more, however often the loop turns.
            before = list(sent)
            for _ in range(200):
                await asyncio.sleep(0)
            if sent == before and min(sent) > 0:
                break
        assert max(sent) < 50_000
        waiting = len(job._outlet._ready)
        assert waiting <= 2 * UNTOLD + 2
        texts = {0: [], 1: []}
        texts[first.index].append(first.text)
        for _ in range(500):
            item = await anext(items)
            texts[item.index].append(item.text)
        for told in texts.values():
            numbers = [int(text.split()[0]) for text in told]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) > 100
    assert_over(client)


async def test_a_row_is_cancelled_while_it_waits_for_its_reader(client, emulator):
    """
    Somebody may do that. What it had told is read, and then that it was cut off.
    """
    emulator.script(Answer.chat(*["x"] * 3 * UNTOLD, asyncio.Event()))
    async with client.map(["one"], stream=True) as job:
        items = aiter(job)
        first = await anext(items)
        await until(lambda: len(job._outlet._ready) >= UNTOLD - 1)
        (task,) = (task for task in workers() if task.get_coro().__name__ == "_work")
        task.cancel()
        rest = [item async for item in items]
    assert first.text == "x"
    assert UNTOLD - 1 <= len(tokens(rest)) <= UNTOLD
    assert isinstance(rest[-1].error, StreamAbortedError)
    assert rest[-1].error.partial.text.startswith("x" * UNTOLD)


async def test_waits_that_are_given_up(client):
    """
    A wait for a token that is cancelled loses none.
    """
    asked = [" ".join(str(j) for j in range(30)) for _ in range(5)]
    texts = {}
    async with client.map(asked, stream=True) as job:
        items = aiter(job)
        dice = 0
        while True:
            wait = asyncio.ensure_future(anext(items))
            dice = (dice + 1) % 3
            for _ in range(dice):
                await asyncio.sleep(0)
            if not wait.done():
                wait.cancel()
            try:
                item = await wait
            except asyncio.CancelledError:
                continue
            except StopAsyncIteration:
                break
            if isinstance(item, RowToken):
                texts[item.index] = texts.get(item.index, "") + item.text
    assert texts == dict(enumerate(asked))


# Leaving -----------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [False, True])
async def test_break(client, emulator, bare):
    """
    All streams are closed at once, those that wait for their reader among them.
    """
    emulator.script(*[Answer.chat(*["x"] * 100, asyncio.Event())] * 4)
    job = client.map(Source(4), stream=True)
    if bare:
        async for _ in job:
            break
        await over(client)
    else:
        async with job:
            async for _ in job:
                await emulator.wait_for_request(4)
                break
        assert_over(client)
    await emulator.wait_until_idle(PATIENCE)
    assert emulator.open_requests == []
    gc.collect()


async def test_what_came_is_kept(client, emulator):
    """
    A stream that was cut off was paid for as well.
    """
    hangs = asyncio.Event()
    answers(
        emulator,
        4,
        one=Answer.chat("half ", "of it", hangs),
        three=Answer.chat(hangs),
        four=Answer.chat(hangs),
    )
    async with client.map(
        [("a", "one"), ("b", Conversation("two", ["three"])), ("c", "four")],
        stream=True,
        concurrency=3,
    ) as job:
        told = []
        async for item in job:
            told.append(item.text)
            if {"of it", "two"} <= set(told):
                break
        await emulator.wait_for_request(4)
    cut = {row.id: row for row in job.unread}
    assert cut.keys() == {"a", "b"}
    assert [reply.text for reply in cut["b"].replies] == ["two"]
    assert cut["a"].error.partial.text == "half of it"
    assert cut["a"].outcome == "cancelled"
    assert isinstance(cut["a"].error, StreamAbortedError)
    assert "before it was answered and 2 pieces of the next" in str(cut["a"].error)
    assert job.progress.completion_tokens >= 2


async def test_closing_the_client(client, emulator):
    """
    Streams under way fail, each row for itself.
    """
    emulator.script(*[Answer.chat("half ", asyncio.Event())] * 2)
    items = []
    async with client.map(["one", "two"], stream=True) as job:
        async for item in job:
            items.append(item)
            if len(items) == 2:
                await client.close()
    assert len(tokens(items)) == 2
    assert [type(row.error) for row in rows(items)] == [ClientClosedError] * 2
