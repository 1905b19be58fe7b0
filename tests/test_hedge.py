"""
Hedges: when the second call is sent, how often at most, and who wins.
"""

import asyncio

import pytest

from horay_async import (
    HORAY,
    AsyncHoray,
    BadRequestError,
    ChatReply,
    ChatRequest,
    CompletionReply,
    CompletionRequest,
    ConfigurationError,
    DeadlineExceeded,
    GateState,
    InvalidRequestError,
    Outcome,
    StreamConsumedError,
    user,
)
from horay_async.emulator import Answer
from horay_async.many._hedging import (
    ENOUGH,
    GATES,
    MOST,
    Hedges,
    has_room,
    hedges_of,
)
from racing import (
    HANG,
    PATIENCE,
    assert_over,
    connect,
    in_flight,
    refusal,
    silent,
)


SOON = 0.01
"""
A delay that runs out while a test waits for what follows.
"""

LATE = 600
"""
One that no test sits out.
"""


@pytest.fixture
async def hedger(emulator):
    """
    A client that tries everything once.
    """
    async with connect(emulator) as client:
        yield client


# Who wins ----------------------------------------------------------------------------


async def test_a_fast_answer_is_asked_for_once(hedger, emulator):
    hedge = hedger.hedge("hello", after=LATE)
    assert repr(hedge) == "<Hedge open>"
    reply = await hedge
    assert isinstance(reply, ChatReply)
    assert reply.text == "hello"
    assert (hedge.winner, hedge.losers, hedge.hedged) == (0, (), False)
    assert hedge.usage == reply.usage
    assert len(emulator.requests) == 1
    assert_over(hedger)


async def test_the_second_wins(hedger, emulator):
    """
    The same request, under a key of its own; the first is gone before a token is shown.
    """
    emulator.script(silent(), Answer.chat("a", "b", **HANG))
    client = hedger.with_options(idempotency_keys=True)
    async with client.hedge("hello", after=SOON, seed=7) as stream:
        assert in_flight(client) == 1
        assert (await anext(aiter(stream))).text == "a"
        await emulator.wait_for_disconnect()
    first, second = emulator.requests
    assert first.body == second.body
    assert second.json["seed"] == 7
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    assert_over(client)


async def test_the_first_wins_all_the_same(hedger, emulator):
    go = asyncio.Event()
    emulator.script(Answer.chat(go, "all"), silent())
    hedge = hedger.hedge("hello", after=SOON)
    reading = asyncio.ensure_future(hedge)
    await emulator.wait_for_request(2, PATIENCE)
    go.set()
    assert (await reading).text == "all"
    assert (hedge.winner, hedge.hedged) == (0, True)
    (loser,) = hedge.losers
    assert (loser.index, loser.outcome) == (1, Outcome.ABORTED)
    assert loser.usage.prompt_tokens == 2
    assert_over(hedger)


async def test_several_choices_of_a_text(hedger, emulator):
    emulator.script(silent(), None)
    request = CompletionRequest(prompt="Once")
    reply = await hedger.hedge(request, after=SOON, n=3)
    assert isinstance(reply, CompletionReply)
    assert [choice.text for choice in reply.choices] == ["Once"] * 3


@pytest.mark.parametrize(
    "asked", [{"prompt": "Once"}, {"messages": [user("Once")]}], ids=["text", "chat"]
)
async def test_keywords_alone(hedger, asked):
    assert (await hedger.hedge(after=LATE, **asked)).text == "Once"


# Failures ----------------------------------------------------------------------------


async def test_the_first_fails_in_time(hedger, emulator):
    """
    As any call: retries are its own, and a hedge is none.
    """
    emulator.script(refusal("what?"))
    hedge = hedger.hedge("hello", after=LATE)
    with pytest.raises(BadRequestError, match="what"):
        await hedge
    assert not hedge.hedged
    assert hedge._alarm is None
    assert len(emulator.requests) == 1
    assert_over(hedger)


@pytest.mark.parametrize("which", [0, 1])
async def test_one_of_both_fails(hedger, emulator, which):
    refused, answered = asyncio.Event(), asyncio.Event()

    async def refuse(request):
        await refused.wait()
        return refusal("what?")

    script = [refuse, Answer.chat(answered, "all")]
    emulator.script(*(script if which == 0 else reversed(script)))
    hedge = hedger.hedge("hello", after=SOON)
    reading = asyncio.ensure_future(hedge)
    await emulator.wait_for_request(2, PATIENCE)
    refused.set()
    await emulator.wait_until(lambda: emulator.requests[which].fate == "finished")
    answered.set()
    assert (await reading).text == "all"
    assert isinstance(hedge.errors[0], BadRequestError)
    assert hedge.winner == 1 - which


async def test_both_fail(hedger, emulator):
    go = asyncio.Event()

    async def refuse(request):
        await go.wait()
        return refusal("what?")

    emulator.script(refuse, refusal("no"))
    hedge = hedger.hedge("hello", after=SOON)
    reading = asyncio.ensure_future(hedge)
    await emulator.wait_for_request(2, PATIENCE)
    await emulator.wait_until(lambda: emulator.requests[1].fate == "finished")
    go.set()
    with pytest.raises(BadRequestError, match="what") as caught:
        await reading
    assert caught.value.__notes__ == [
        "call 1 of the hedge failed, too: BadRequestError: 400 from Horay: no"
    ]


async def test_the_deadline_is_for_both(hedger, emulator):
    emulator.script(silent(), silent())
    hedge = hedger.hedge("hello", after=SOON, timeout=0.2)
    reading = asyncio.ensure_future(hedge)
    await emulator.wait_for_request(2, PATIENCE)
    first, second = (stream._attempts for stream in hedge._streams.values())
    assert second.deadline == pytest.approx(first.deadline, abs=0.01)
    with pytest.raises(DeadlineExceeded, match=r"0\.2 s"):
        await reading
    assert hedge.hedged
    assert_over(hedger)


@pytest.mark.parametrize("asked", [1, 2])
async def test_cancelled(hedger, emulator, asked):
    emulator.script(silent(), silent())
    hedge = hedger.hedge("hello", after=SOON if asked == 2 else LATE)
    reading = asyncio.ensure_future(hedge)
    await emulator.wait_for_request(asked, PATIENCE)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert_over(hedger)
    assert hedge._alarm is None
    await emulator.wait_for_disconnect(asked)


async def test_it_runs_once(hedger):
    hedge = hedger.hedge("hello", after=LATE)
    await hedge
    with pytest.raises(StreamConsumedError, match="this hedge has been used"):
        await hedge


# How often ---------------------------------------------------------------------------


async def test_an_outage_is_not_doubled(hedger, emulator):
    """
    When all calls are slow, few are sent twice: the one of the beginning, and the share of
    those that were answered. The copies of a client have one account.
    """
    go = asyncio.Event()

    async def slow(request):
        await go.wait()
        return Answer.chat("all")

    emulator.script(*[slow] * 50)
    copy = hedger.with_options(max_retries=1)
    hedges = [one.hedge("hello", after=SOON) for one in (hedger, copy) * 10]
    tasks = [asyncio.ensure_future(hedge) for hedge in hedges]
    await emulator.wait_for_request(21, PATIENCE)
    for hedge in hedges:
        if not hedge._streams.get(1):
            # Each has come to its moment by now, or comes to it here.
            hedge._ring(0.0)
    go.set()
    await asyncio.gather(*tasks)
    assert sum(hedge.hedged for hedge in hedges) == 1
    assert len(emulator.requests) == 21
    assert_over(hedger)


def test_the_share():
    """
    Of a thousand slow calls that are answered one in twenty is sent twice.
    """
    hedges = Hedges()
    sent = 0
    for _ in range(1000):
        sent += hedges.spend(0.05)
        hedges.answered(9, 0.05)
    assert sent == 50
    # Nothing is answered any more: what was saved, and no more.
    assert sum(hedges.spend(0.05) for _ in range(1000)) <= 1


def test_what_is_saved_is_bounded():
    hedges = Hedges()
    for _ in range(1000):
        hedges.answered(0.1, 0.05)
    assert sum(hedges.spend(0.05) for _ in range(1000)) == MOST


def test_a_share_of_nothing():
    assert not Hedges().spend(0)


def test_whole_parts_of_a_share():
    """
    Ten tenths are one, whatever floats make of them.
    """
    hedges = Hedges()
    assert hedges.spend(0.1)
    for _ in range(10):
        assert not hedges.spend(0.1)
        hedges.answered(1, 0.1)
    assert hedges.spend(0.1)


def test_each_model_has_its_own():
    known = {}
    one = hedges_of(known, "one")
    assert hedges_of(known, "one") is one
    assert hedges_of(known, "other") is not one
    for number in range(GATES):
        hedges_of(known, number)
    assert len(known) == GATES
    assert hedges_of(known, "one") is not one


@pytest.mark.parametrize(
    ("state", "room"),
    [
        (None, True),
        ({}, True),
        ({"closed_for": 1.0}, False),
        ({"interactive": 1}, False),
        ({"batch": 1}, False),
        ({"rate": 20.0}, False),
        ({"concurrency": 4}, True),
        ({"concurrency": 3}, False),
        ({"requests_left": 1}, True),
        ({"requests_left": 0}, False),
        ({"tokens_left": -5}, False),
    ],
)
def test_room_at_a_gate(state, room):
    """
    It goes at once or not at all: never into a queue, nor to a server that has just said
    that it has too much to do.
    """
    given = None if state is None else GateState(in_flight=3, **state)
    assert has_room(given) is room


async def test_none_while_the_gate_is_closed(hedger, emulator):
    """
    The first was let through; what was refused since holds for the second.
    """
    go = asyncio.Event()
    emulator.script(Answer.chat(go, "all"))
    hedge = hedger.hedge("hello", after=LATE)
    reading = asyncio.ensure_future(hedge)
    await emulator.wait_for_request()
    hedger.governor.close(hedge._gate, 60)
    hedge._ring(0.0)
    go.set()
    assert (await reading).text == "all"
    assert not hedge.hedged
    assert len(emulator.requests) == 1
    # It cost nothing, either.
    assert hedge._hedges.spend(1)


async def test_none_while_the_first_waits_for_its_turn(hedger, emulator):
    """
    It is not the server that is slow.
    """
    hedge = hedger.hedge("hello", after=LATE)
    hedger.governor.close(hedge._gate, 60)
    reading = asyncio.ensure_future(hedge)
    await asyncio.sleep(0)
    for _ in range(3):
        hedge._ring(SOON)
        await asyncio.sleep(0)
    assert list(hedge._streams) == [0]
    assert hedge._alarm is not None
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert emulator.requests == []


async def test_none_before_the_first_is_sent(hedger, emulator):
    """
    Nor while it has no connection yet; and not before it has been out for so long.
    """
    go = asyncio.Event()
    emulator.script(Answer.chat(go, "all"))
    hedge = hedger.hedge("hello", after=LATE)
    reading = asyncio.ensure_future(hedge)
    await asyncio.sleep(0)
    hedge._ring(LATE)
    assert list(hedge._streams) == [0]
    await emulator.wait_for_request()
    hedge._ring(LATE)
    assert list(hedge._streams) == [0]
    go.set()
    assert (await reading).text == "all"
    # After the end it does nothing.
    hedge._ring(0.0)
    assert len(emulator.requests) == 1


# The 95th percentile -----------------------------------------------------------------


def test_the_percentile():
    hedges = Hedges()
    assert hedges.delay(1.5) == 1.5
    for number in range(ENOUGH):
        assert hedges.delay("p95") is None
        hedges.answered(number, 0.05)
    assert hedges.delay("p95") == ENOUGH - 2
    assert hedges.delay(1.5) == 1.5


def test_the_percentile_forgets():
    hedges = Hedges()
    for seconds in [9] * 1000 + [1] * 200:
        hedges.answered(seconds, 0.05)
    assert hedges.delay("p95") == 1


async def test_hedged_by_the_percentile(hedger, emulator):
    """
    Never before enough was seen. Where the second wins, the first counts with what it took
    so far.
    """
    for _ in range(ENOUGH):
        hedge = hedger.hedge("hello", after="p95")
        await hedge
        assert hedge._alarm is None
    seen = hedge._hedges._seen
    assert len(seen) == ENOUGH
    assert all(0 <= seconds < PATIENCE for seconds in seen)
    emulator.script(silent(), Answer.chat("all"))
    hedge = hedger.hedge("hello", after="p95")
    expected = hedge._hedges.delay("p95")
    assert (await hedge).text == "all"
    assert hedge.winner == 1
    assert len(seen) == ENOUGH + 1
    assert seen[-1] >= expected


# What cannot be ----------------------------------------------------------------------


def test_what_is_no_hedge():
    """
    Refused where it is written; nothing was sent.
    """
    client = AsyncHoray(service=HORAY, base_url="http://localhost:9/v1", api_key="key")
    chat = ChatRequest(messages=[user("a")])
    for after in (0, -1, float("nan"), float("inf"), True, "p99", None):
        with pytest.raises(ConfigurationError, match="after is"):
            client.hedge(chat, after=after)
    for at_most in (-0.1, 1.1, float("nan"), True, "5 %"):
        with pytest.raises(ConfigurationError, match="at_most is"):
            client.hedge(chat, after=1, at_most=at_most)
    stream = client.chat.completions.stream(chat)
    for request, said_so in [
        (None, "needs a request"),
        (stream, "a stream is sent once, pass the request"),
        ([chat], "got list$"),
    ]:
        with pytest.raises(TypeError, match=said_so):
            client.hedge(request, after=1)
    with pytest.raises(TypeError, match="messages is what a request brings"):
        client.hedge(chat, after=1, messages=[user("b")])
    with pytest.raises(InvalidRequestError, match="n = 300"):
        client.hedge(CompletionRequest(prompt="a"), after=1, n=300)
    with pytest.raises(TypeError):
        client.hedge(chat)
