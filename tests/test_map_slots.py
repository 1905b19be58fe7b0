"""
How many rows are asked at once, and which: slots, beside the governor's leases.
"""

import asyncio
import logging
import random

import pytest

from horay_async import (
    HORAY,
    Adaptive,
    AsyncHoray,
    Budget,
    Conversation,
    Governor,
    RateLimits,
    StreamAbortedError,
)
from horay_async.emulator import Answer
from horay_async.many._slots import QUEUE, Slots
from loopback import soon, until
from mapping import PATIENCE, Source, answers, assert_over, every, hold


KEY = ("http://localhost", "key", "model")


class Counter:
    """
    Slots, and what they tell.
    """

    def __init__(self, limit, governor=None):
        self.changes = self.retries = 0
        self.governor = governor or Governor()
        self.slots = Slots(
            self.governor, limit, changed=self.changed, retried=self.retried
        )

    def changed(self):
        self.changes += 1

    def retried(self):
        self.retries += 1

    def assert_free(self, limit):
        """
        No slot is taken, and no lease.
        """
        assert self.slots.leased == 0
        assert self.governor.snapshot() == {}
        taken = []
        while self.slots.open and len(taken) < limit:
            taken.append(self.slots.begin())
        assert len(taken) == min(limit, QUEUE)


@pytest.fixture
def two():
    return Counter(2)


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


# Alone -------------------------------------------------------------------------------


async def test_open_while_there_are_slots(two):
    first, second = two.slots.begin(), two.slots.begin()
    assert not two.slots.open
    first.leave()
    assert two.slots.open
    first.leave()
    second.leave()
    two.assert_free(2)


async def test_slot_and_lease_are_settled_together(two):
    """
    A row holds both or neither; and settled twice is settled once.
    """
    slot, other = two.slots.begin(), two.slots.begin()
    lease = await slot.lease(KEY)
    assert two.governor.snapshot()[KEY].in_flight == 1
    assert not two.slots.open
    lease.settle()
    assert two.governor.snapshot() == {}
    assert two.slots.open
    lease.settle()
    other.leave()
    two.assert_free(2)


async def test_whoever_comes_back_goes_first(two):
    """
    Those with more tries before those with fewer, then in the order of asking.
    """
    slots = [two.slots.begin() for _ in range(2)]
    leases = [await slot.lease(KEY) for slot in slots]
    for lease in leases:
        lease.settle()
    # Both wait for their retries; two more rows begin in their places.
    others = [two.slots.begin() for _ in range(2)]
    order = []

    async def again(name, slot, tries):
        lease = await slot.lease(KEY, tries=tries)
        order.append(name)
        await turns()
        lease.settle()

    tasks = [
        asyncio.create_task(again("once", slots[0], 1)),
        asyncio.create_task(again("twice", slots[1], 2)),
    ]
    await turns()
    assert order == []
    others[0].leave()
    await turns(3)
    assert order == ["twice"]
    # Whoever has not begun waits for those who have.
    assert not two.slots.open
    await soon(asyncio.gather(*tasks))
    assert order == ["twice", "once"]
    assert two.retries == 2
    others[1].leave()
    two.assert_free(2)


async def test_cancelled_in_the_queue(two):
    """
    The place is given up, be it that the slot has come in the same turn of the loop.
    """
    slot = two.slots.begin()
    (await slot.lease(KEY)).settle()
    others = [two.slots.begin() for _ in range(2)]
    for free_first in (False, True):
        waiting = asyncio.create_task(slot.lease(KEY, tries=1))
        await turns()
        if free_first:
            others.pop().leave()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert two.slots.open
    others.pop().leave()
    two.assert_free(2)


async def test_cancelled_at_the_gate(two):
    """
    The slot is not kept without a lease.
    """
    two.governor.close(KEY, PATIENCE)
    slot = two.slots.begin()
    waiting = asyncio.create_task(slot.lease(KEY))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert two.slots.leased == 0
    assert two.governor.snapshot()[KEY].waiting == 0
    two.slots.begin()
    assert two.slots.open
    two.slots.begin()
    assert not two.slots.open


@pytest.mark.parametrize("seed", range(5))
async def test_a_storm(seed):
    """
    Wherever rows are cancelled, no slot and no lease is left, and never are too many out.
    """
    dice = random.Random(seed)
    counter = Counter(5)
    slots, out, most = counter.slots, 0, 0

    async def row(slot):
        nonlocal out, most
        try:
            for tries in range(dice.randrange(1, 4)):
                lease = await slot.lease(KEY, tries=tries)
                out += 1
                most = max(most, out)
                try:
                    await turns(dice.randrange(4))
                finally:
                    out -= 1
                    lease.settle()
                await turns(dice.randrange(4))
        finally:
            slot.leave()

    tasks = []
    for _ in range(200):
        await until(lambda: slots.open)
        tasks.append(asyncio.create_task(row(slots.begin())))
        # Not before its first turn: what is not begun nobody leaves.
        await asyncio.sleep(0)
        dice.choice(tasks).cancel(dice.choice(["now", "then"]))
        await turns(dice.randrange(3))
    await soon(asyncio.gather(*tasks, return_exceptions=True))
    assert 1 < most <= 5
    counter.assert_free(5)


async def test_what_a_slot_knows(two):
    """
    Attempts are leases; seconds are from the first one; the governor gets its own lease.
    """
    slot = two.slots.begin()
    assert slot.attempts == 0
    assert slot.seconds is None
    assert slot.at_most is None
    lease = await slot.lease(KEY)
    lease.admitted(RateLimits())
    lease.answering(0.1)
    lease.refused(503)
    slot.close(KEY, 0.0, lease=lease)
    slot.close(KEY, 0.0)
    assert slot.snapshot().keys() == {KEY}
    lease.settle()
    (await slot.lease(KEY, tries=1)).settle()
    assert slot.attempts == 2
    slot.leave()
    assert slot.seconds >= 0


async def test_few_wait_at_a_closed_gate():
    """
    Rows are no use where nobody is let through.
    """
    counter = Counter(10_000)
    counter.governor.close(KEY, PATIENCE)
    tasks = []
    while counter.slots.open:
        tasks.append(asyncio.create_task(counter.slots.begin().lease(KEY)))
        await asyncio.sleep(0)
    assert len(tasks) == QUEUE
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# In a job ----------------------------------------------------------------------------


def busy(seconds=PATIENCE):
    """
    A refusal that asks to come back later.
    """
    return Answer.json(
        {"error": {"message": "busy"}}, 503, headers={"retry-after": str(seconds)}
    )


def said(request):
    return request.json["messages"][-1]["content"]


async def test_a_wait_gives_its_place_away(client, emulator):
    """
    Three rows wait for their retries; meanwhile all others are answered.
    """
    answers(emulator, 20, prompt_0=busy(), prompt_1=busy(), prompt_2=busy())
    async with client.map(Source(20), concurrency=4) as job:
        rows = []
        async for row in job:
            rows.append(row.index)
            assert len(emulator.open_requests) <= 4
            if len(rows) == 17:
                break
    assert sorted(rows) == list(range(3, 20))
    assert job.progress.retried == 0
    assert_over(client)


async def test_waits_are_bounded(client, emulator):
    """
    No more rows are under way than the reader's bound, though each of them only waits.
    """
    emulator.script(*[busy()] * 50)
    source = Source()
    async with client.map(source, concurrency=3) as job:
        reading = asyncio.ensure_future(anext(aiter(job)))
        await emulator.wait_for_request(6)
        await emulator.wait_until_idle()
        await turns(50)
        assert source.taken == job.in_flight == 6
        reading.cancel()
    assert_over(client)


async def test_a_retry_goes_before_new_rows(client, emulator):
    """
    The second row has the only slot when the first one's wait is over.
    """
    emulator.script(
        Answer.json({"error": {"message": "no"}}, 503, headers={"retry-after-ms": "1"})
    )
    (gate,) = hold(emulator, 1)
    async with client.map(Source(5), concurrency=1) as job:
        reading = asyncio.ensure_future(every(job))
        await emulator.wait_for_request(2)
        await until(lambda: job._slots._waiting)
        assert len(emulator.open_requests) == 1
        gate.set()
        await soon(reading)
    order = [said(request) for request in emulator.requests]
    assert order[:4] == ["prompt 0", "prompt 1", "prompt 0", "prompt 2"]
    assert job.progress.retried == 1


@pytest.mark.parametrize("left", [False, True])
async def test_a_retry_while_the_source_is_slow(client, emulator, left):
    """
    It takes the place that was free for a request that has not come; which then waits.
    """
    more = asyncio.Event()

    async def source():
        yield "one"
        await more.wait()
        yield "two"

    emulator.script(
        Answer.json({"error": {"message": "no"}}, 503, headers={"retry-after-ms": "1"})
    )
    gates = hold(emulator, 2)
    async with client.map(
        source(), concurrency=1, budget=Budget(tokens=1000), max_tokens=9
    ) as job:
        reading = asyncio.ensure_future(every(job))
        await emulator.wait_for_request(2)
        more.set()
        await turns(50)
        assert (job.in_flight, len(emulator.requests)) == (1, 2)
        if left:
            await job.aclose()
            with pytest.raises(StreamAbortedError):
                await reading
        else:
            for gate in gates:
                gate.set()
            assert len(await soon(reading)) == 2
            order = [said(request) for request in emulator.requests]
            assert order == ["one", "one", "two"]
        # What is begun no more costs nothing.
        assert job._asking.ledger._under_way == 0
    assert_over(client)


async def test_turns_of_a_conversation(client, emulator):
    """
    A conversation holds one slot at a time, and attempts are counted over its turns.
    """
    emulator.script(
        None,
        Answer.json({"error": {"message": "no"}}, 503, headers={"retry-after-ms": "1"}),
    )
    talk = Conversation("one", ["two", "three"])
    (row,) = await every(client.map([talk], concurrency=1))
    assert [reply.text for reply in row.replies] == ["one", "two", "three"]
    assert (row.attempts, row.calls) == (4, 3)
    assert_over(client)


@pytest.mark.parametrize(
    ("governor", "at_once"),
    [
        (Governor(), 64),
        (Governor(concurrency=7), 7),
        (Governor(concurrency=Adaptive(low=2, high=70)), 70),
    ],
    ids=["open", "fixed", "adaptive"],
)
async def test_the_default(emulator, governor, at_once):
    """
    As many as the governor lets, or 64.
    """
    async with AsyncHoray(
        service=HORAY, base_url=emulator.base_url, api_key="key", governor=governor
    ) as client:
        assert client.map([])._slots._limit == at_once


async def test_the_lane(client):
    """
    Nobody waits for a job's single rows, unless the client says so.
    """
    assert client.map([])._asking.line.settings.lane == "batch"
    client = client.with_options(lane="interactive")
    assert client.map([])._asking.line.settings.lane == "interactive"


async def test_a_narrow_governor(emulator):
    """
    A job that may ask a thousand at once does not line them up before a governor of two.
    """
    hold(emulator, 2)
    source = Source()
    async with (
        AsyncHoray(
            service=HORAY,
            base_url=emulator.base_url,
            api_key="key",
            governor=Governor(concurrency=2),
        ) as client,
        client.map(source, concurrency=1000) as job,
    ):
        reading = asyncio.ensure_future(anext(aiter(job)))
        await emulator.wait_for_request(2)
        await turns(50)
        assert source.taken == 2 + QUEUE
        reading.cancel()


async def test_what_a_row_tells(client, emulator):
    """
    How often it was sent, and how long it took, whether or not it was answered.
    """
    problem = ValueError("no line")
    emulator.script(
        Answer.json({"error": {"message": "no"}}, 503, headers={"retry-after-ms": "1"}),
        # The second row, which has the first one's place.
        None,
        Answer.json({"error": {"message": "no"}}, 400),
    )
    asked = ["one", "two", problem]
    rows = await every(client.map(asked, concurrency=1, order="input"))
    assert [row.outcome for row in rows] == ["failed", "finished", "failed"]
    assert [row.attempts for row in rows] == [2, 1, 0]
    assert [row.calls for row in rows] == [1, 1, 0]
    assert rows[0].seconds >= rows[1].seconds >= 0
    assert rows[2].seconds is None
    assert all(row.first_token is None for row in rows)


async def test_the_log_names_the_row(client, emulator, caplog):
    """
    Who reads the log of a job sees whose call failed.
    """
    emulator.script(Answer.json({"error": {"message": "no"}}, 400))
    with caplog.at_level(logging.DEBUG, "horay_async"):
        await every(client.map([("line 7", "one")]))
    assert {record.horay["row"] for record in caplog.records} == {"line 7"}
    assert all("row 'line 7'" in record.message for record in caplog.records)
