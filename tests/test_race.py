"""
Races: who wins, what is left of the others, and what they cost.
"""

import asyncio

import pytest

from deltas import choice, chunk
from horay_async import (
    HORAY,
    AsyncHoray,
    AuthenticationError,
    BadRequestError,
    CallEnded,
    ChatReply,
    ChatRequest,
    CompletionReply,
    CompletionRequest,
    HorayError,
    IncompleteStreamError,
    Outcome,
    StreamAbortedError,
    StreamConsumedError,
    Timeouts,
    Usage,
    user,
)
from horay_async.emulator import Answer
from racing import (
    HANG,
    PATIENCE,
    assert_over,
    connect,
    empty,
    in_flight,
    refusal,
    script,
    silent,
)


@pytest.fixture
async def racer(emulator):
    """
    A client that tries everything once.
    """
    async with connect(emulator) as client:
        yield client


@pytest.fixture
def offline():
    """
    A client that never sends.
    """
    return AsyncHoray(service=HORAY, base_url="http://localhost:9/v1", api_key="key")


# Who wins ----------------------------------------------------------------------------


async def test_the_first_token_wins(racer, emulator):
    """
    Before anybody sees it the others are gone: connections, leases and tasks.
    """
    script(emulator, {"slow": silent(), "fast": Answer.chat("a", "b", **HANG)})
    race = racer.race(["slow", "fast"])
    assert repr(race) == "<Race open>"
    async with race as stream:
        assert racer._line.session.stats().in_use == 1
        assert in_flight(racer) == 1
        assert [loser.outcome for loser in race.losers] == [Outcome.ABORTED]
        tokens = aiter(stream)
        assert (await anext(tokens)).text == "a"
        assert (await anext(tokens)).text == "b"
        assert repr(race) == "<Race won by 1>"
        await emulator.wait_for_disconnect()
        assert len(emulator.open_requests) == 1
    assert stream.outcome is Outcome.CLOSED
    assert race.winner == 1
    assert race.errors == ()
    assert_over(racer)


@pytest.mark.parametrize("status", [None, 200], ids=["no head", "a head"])
async def test_how_far_the_loser_was(racer, emulator, status):
    script(emulator, {"slow": silent(status), "fast": Answer.chat("a", **HANG)})
    async with racer.race(["fast", "slow"]) as stream:
        await emulator.wait_for_disconnect()
        assert (await anext(aiter(stream))).text == "a"
    assert_over(racer)


async def test_awaited(racer, emulator):
    script(emulator, {"slow": silent(), "fast": Answer.chat("al", "l")})
    race = racer.race(["slow", ChatRequest(messages=[user("fast")])])
    reply = await race
    assert isinstance(reply, ChatReply)
    assert reply.text == "all"
    assert race.winner == 1
    await emulator.wait_for_disconnect()
    assert_over(racer)


async def test_texts(racer, emulator):
    script(emulator, {"slow": silent(), "fast": None})
    one, other = (CompletionRequest(prompt=prompt) for prompt in ("fast", "slow"))
    reply = await racer.race([one, other], max_tokens=4)
    assert isinstance(reply, CompletionReply)
    assert reply.text == "fast"
    assert {seen.json["max_tokens"] for seen in emulator.requests} == {4}
    assert_over(racer)


async def test_first_tokens_in_the_same_turn(racer, emulator):
    """
    Exactly one is shown, and the others' leases are back before it is.
    """
    for _ in range(20):
        go = asyncio.Event()
        prompts = ["a", "b", "c"]
        script(emulator, {one: Answer.chat(go, one, **HANG) for one in prompts})
        race = racer.race(prompts)
        emulator_saw = len(emulator.requests)
        opening = asyncio.create_task(race.__aenter__())
        await emulator.wait_for_request(emulator_saw + 3, PATIENCE)
        go.set()
        stream = await asyncio.wait_for(opening, PATIENCE)
        assert in_flight(racer) == 1
        assert (await anext(aiter(stream))).text == prompts[race.winner]
        assert stream.partial.text == prompts[race.winner]
        assert {loser.index for loser in race.losers} == {0, 1, 2} - {race.winner}
        assert {loser.outcome for loser in race.losers} == {Outcome.ABORTED}
        stream.abort()
        await race.__aexit__(None, None, None)
        assert_over(racer)


THOUGHT = chunk(choice(delta={"reasoning_content": "hm"}))
CALL = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}
CALLED = chunk(choice(delta={"tool_calls": [CALL]}))


@pytest.mark.parametrize("first", [THOUGHT, CALLED], ids=["thought", "tool call"])
async def test_what_counts_as_a_token(racer, emulator, first):
    answer = Answer.sse(first, done=False, end="hang")
    script(emulator, {"slow": silent(), "fast": answer})
    async with racer.race(["fast", "slow"]) as stream:
        assert stream.partial.tokens == 1
        assert stream.partial.text == ""


@pytest.mark.parametrize("how", ["tokens", "texts", "chunks", "choice", "reply"])
async def test_the_first_token_is_not_lost(racer, emulator, how):
    script(emulator, {"slow": silent(), "fast": Answer.chat("a", "b", "c")})
    async with racer.race(["fast", "slow"]) as stream:
        match how:
            case "tokens":
                texts = [token.text async for token in stream]
            case "texts":
                texts = [text async for text in stream.text_stream]
            case "chunks":
                chunks = [chunk async for chunk in stream.chunks()]
                assert [len(one.choices) for one in chunks] == [1] * 5
                texts = [one.choices[0].delta.content or "" for one in chunks]
            case "choice":
                texts = [token.text async for token in stream.choices[0]]
            case "reply":
                texts = [(await stream.get_final_completion()).text]
    assert "".join(texts) == "abc"
    assert stream.outcome is Outcome.FINISHED
    assert_over(racer)


async def test_read_in_several_loops(racer, emulator):
    """
    As any stream in `async with`: leaving a loop does not close it.
    """
    script(emulator, {"slow": silent(), "fast": Answer.chat("a", "b")})
    texts = []
    async with racer.race(["fast", "slow"]) as stream:
        async for token in stream:
            texts.append(token.text)
            break
        texts += [token.text async for token in stream]
    assert "".join(texts) == "ab"
    assert stream.outcome is Outcome.FINISHED


@pytest.mark.parametrize("how", ["tokens", "chunks"])
async def test_a_second_way_of_reading(racer, emulator, how):
    """
    What was read ahead is kept for the first reader only: tokens may follow, chunks not.
    """
    held = asyncio.Event()
    script(emulator, {"slow": silent(), "fast": Answer.chat("a", held, "b")})
    async with racer.race(["fast", "slow"]) as stream:
        choice = stream.choices[0]
        assert (await anext(choice)).text == "a"
        held.set()
        assert (await anext(choice)).text == "b"
        if how == "tokens":
            assert [token.text async for token in stream] == ["ab"]
        else:
            with pytest.raises(StreamConsumedError, match="as tokens or as chunks"):
                stream.chunks()


async def test_several_choices(racer, emulator):
    script(emulator, {"slow": silent(), "fast": None})
    reply = await racer.race(["fast", "slow"], n=3)
    assert [choice.text for choice in reply.choices] == ["fast"] * 3


async def test_one_alone(racer):
    race = racer.race(["hello"])
    assert (await race).text == "hello"
    assert race.losers == ()


async def test_several_clients(emulator):
    """
    Streams of other services, beside requests of the client's own.
    """
    async with connect(emulator) as one, connect(emulator) as other:
        script(emulator, {"slow": silent(), "fast": Answer.chat("all")})
        stream = other.chat.completions.stream(messages=[user("fast")])
        race = one.race(["slow", stream], temperature=0.5)
        async with race as winner:
            assert winner is stream
        asked = {seen.json.get("temperature") for seen in emulator.requests}
        assert asked == {0.5, None}
        await emulator.wait_for_disconnect()
        assert_over(one, other)


# An answer without a token -----------------------------------------------------------


async def test_an_empty_answer_waits_for_a_better_one(racer, emulator):
    go = asyncio.Event()
    script(emulator, {"empty": empty(), "late": Answer.chat(go, "all")})
    race = racer.race(["empty", "late"])
    reading = asyncio.ensure_future(race)
    await emulator.wait_until(
        lambda: any(seen.fate == "finished" for seen in emulator.requests), PATIENCE
    )
    go.set()
    assert (await reading).text == "all"
    assert race.winner == 1
    (loser,) = race.losers
    assert (loser.outcome, loser.error) == (Outcome.FINISHED, None)
    assert_over(racer)


@pytest.mark.parametrize("other", [refusal, empty], ids=["refused", "empty"])
async def test_an_empty_answer_is_better_than_none(racer, emulator, other):
    script(emulator, {"empty": empty(), "other": other()})
    race = racer.race(["other", "empty"])
    assert (await race).text == ""
    assert race.winner in ((1,) if other is refusal else (0, 1))
    assert_over(racer)


# Failures ----------------------------------------------------------------------------


async def test_who_fails_does_not_win(racer, emulator):
    go = asyncio.Event()

    script(emulator, {"bad": refusal("not you"), "good": Answer.chat(go, "all")})
    race = racer.race(["bad", "good"])
    reading = asyncio.ensure_future(race)
    await emulator.wait_until(
        lambda: any(seen.fate == "finished" for seen in emulator.requests), PATIENCE
    )
    go.set()
    assert (await reading).text == "all"
    (loser,) = race.losers
    assert loser.index == 0
    assert loser.outcome is Outcome.FAILED
    assert loser.usage == Usage(source="none")
    assert isinstance(loser.error, BadRequestError)
    assert race.errors == (loser.error,)


async def test_a_token_and_an_error_at_once(racer, emulator):
    """
    Who is known to be broken when its first token is looked at does not win.
    """
    go = asyncio.Event()
    both = b"".join(
        b"data: %s\n\n" % part
        for part in (b'{"choices":[{"delta":{"content":"a"}}]}', b'{"error":"broken"}')
    )
    broken = Answer.sse(both, done=False)
    script(emulator, {"broken": broken, "good": Answer.chat(go, "all")})
    race = racer.race(["broken", "good"])
    reading = asyncio.ensure_future(race)
    await emulator.wait_until(
        lambda: any(seen.fate == "finished" for seen in emulator.requests), PATIENCE
    )
    go.set()
    assert (await reading).text == "all"
    assert "broken" in str(race.errors[0])
    assert race.losers[0].usage.completion_tokens == 1


async def test_all_fail(racer, emulator):
    """
    The error of the first in the list; the others' are in its notes.
    """
    answers = {
        "a": refusal("who?", 401),
        "b": refusal("what?"),
        "c": Answer.sse(done=False, end="close"),
    }
    script(emulator, answers)
    race = racer.race(["a", "b", "c"])
    with pytest.raises(AuthenticationError, match="who") as caught:
        await race
    first, second = caught.value.__notes__
    assert (
        first
        == "call 1 of the race failed, too: BadRequestError: 400 from Horay: what?"
    )
    assert second.startswith("call 2 of the race failed, too: IncompleteStreamError: ")
    assert race.winner is None
    assert repr(race) == "<Race lost>"
    assert race.errors[0] is caught.value
    assert [type(error).__name__ for error in race.errors] == [
        "AuthenticationError",
        "BadRequestError",
        "IncompleteStreamError",
    ]
    assert_over(racer)


async def test_a_winner_that_breaks(racer, emulator):
    """
    Nobody is left to take its place.
    """
    broken = Answer.chat("half", finish=None, done=False, end="close")
    script(emulator, {"broken": broken, "slow": silent()})
    race = racer.race(["broken", "slow"])
    with pytest.raises(IncompleteStreamError) as caught:
        await race
    assert caught.value.partial.text == "half"
    assert race.winner == 0
    assert len(emulator.requests) == 2
    assert_over(racer)


async def test_a_closed_client(racer):
    await racer.close()
    with pytest.raises(HorayError, match="closed"):
        await racer.race(["a", "b"])


async def test_closed_while_it_runs(racer, emulator):
    script(emulator, {"a": silent(), "b": silent(200)})
    reading = asyncio.ensure_future(racer.race(["a", "b"]))
    await emulator.wait_for_request(2, PATIENCE)
    await racer.close()
    with pytest.raises(HorayError, match="closed"):
        await reading
    assert_over(racer)


async def test_somebody_cancels_a_call(racer, emulator):
    """
    It failed; the others go on.
    """
    go = asyncio.Event()
    script(emulator, {"a": silent(), "b": Answer.chat(go, "all")})
    race = racer.race(["a", "b"])
    reading = asyncio.ensure_future(race)
    await emulator.wait_for_request(2, PATIENCE)
    mine = [
        task for task in race._tasks if task.get_coro().cr_frame.f_locals["index"] == 0
    ]
    mine[0].cancel()
    await emulator.wait_for_disconnect()
    go.set()
    assert (await reading).text == "all"
    assert isinstance(race.errors[0], StreamAbortedError)
    assert_over(racer)


# What it cost ------------------------------------------------------------------------


async def test_what_the_losers_cost(racer, emulator):
    """
    The prompt of what was sent; nothing of what waited for its turn, or was refused.
    """
    go = asyncio.Event()
    counted = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    answers = {
        "sent, unanswered": silent(),
        "winner": Answer.chat(go, "a", usage=counted),
        "refused": refusal(),
    }
    script(emulator, answers)
    racer.governor.close(gate_of(racer, "m"), PATIENCE)
    unsent = ChatRequest(messages=[user("not sent at all")], model="m")
    race = racer.race([*answers, unsent])
    opening = asyncio.create_task(race.__aenter__())
    await emulator.wait_until(
        lambda: any(seen.status == 400 for seen in emulator.requests), PATIENCE
    )
    await emulator.wait_for_request(3, PATIENCE)
    go.set()
    stream = await opening
    usages = {loser.index: loser.usage for loser in race.losers}
    assert usages == {
        0: Usage(prompt_tokens=4, total_tokens=4, source="estimated"),
        2: Usage(source="none"),
        3: Usage(source="none"),
    }
    assert (await stream.get_final_completion()).usage.total_tokens == 6
    await race.__aexit__(None, None, None)
    assert race.usage == Usage(
        prompt_tokens=9, completion_tokens=1, total_tokens=10, source="estimated"
    )


def gate_of(client, model):
    return (client.base_url, client._line.settings.key, model)


async def test_the_usage_of_a_race_that_nobody_paid(racer, emulator):
    script(emulator, {"a": refusal(), "b": refusal()})
    race = racer.race(["a", "b"])
    assert race.usage == Usage(source="none")
    with pytest.raises(BadRequestError):
        await race
    assert race.usage == Usage(source="none")


async def test_events(emulator):
    """
    Every call ends once, and says how.
    """
    events = []
    async with connect(emulator, on_event=events.append) as client:
        script(emulator, {"slow": silent(), "fast": Answer.chat("all")})
        await client.race(["slow", "fast"])
    ends = [event.outcome for event in events if isinstance(event, CallEnded)]
    assert ends == [Outcome.ABORTED, Outcome.FINISHED]


async def test_idempotency_keys(emulator):
    """
    Each call has its own: one server must not answer one with the other's answer.
    """
    async with connect(emulator, idempotency_keys=True) as client:
        script(emulator, {"slow": silent(), "fast": Answer.chat("all")})
        await client.race(["slow", "fast"])
    keys = {seen.headers["idempotency-key"] for seen in emulator.requests}
    assert len(keys) == 2


# What cannot be ----------------------------------------------------------------------


def test_what_is_no_race(offline):
    """
    Refused where it is written; nothing was sent.
    """
    chat, text = ChatRequest(messages=[user("a")]), CompletionRequest(prompt="a")
    stream = offline.chat.completions.stream(chat)
    for given in ("a", chat, text, stream, {"a": 1}, 7):
        with pytest.raises(TypeError, match="takes a list of requests or streams"):
            offline.race(given)
    for given, said_so in [
        ([], "needs a request"),
        ([chat, 7], r"requests\[1\] = 7: expected a string"),
        ([chat, text], r"requests\[1\] is a text completion, and requests\[0\] a chat"),
        ([text, "a"], r"requests\[1\] is a chat, and requests\[0\] a text completion"),
        ([stream, chat, stream], r"requests\[2\] is a stream that came before"),
        ([text.evolve(n=300)], "n = 300"),
    ]:
        with pytest.raises(HorayError, match=said_so):
            offline.race(given)
    for arguments, said_so in [
        ({"messages": []}, "messages is what a request brings"),
        ({"temprature": 1}, "temprature"),
    ]:
        with pytest.raises(TypeError, match=said_so):
            offline.race([chat], **arguments)
    with pytest.raises(TypeError, match="'timeout', which changes requests"):
        offline.race([stream], timeout=3)


async def test_a_stream_that_is_open(racer, emulator):
    """
    A race opens its streams itself; nothing was sent for the others.
    """
    stream = racer.chat.completions.stream(messages=[user("a")])
    async with stream:
        with pytest.raises(
            StreamConsumedError, match=r"requests\[1\] is a stream that"
        ):
            await racer.race(["b", stream])
    with pytest.raises(StreamConsumedError):
        await racer.race([stream, "b"])
    chunks = await racer.chat.completions.create(messages=[user("a")], stream=True)
    with pytest.raises(HorayError, match="makes a stream that is not open yet"):
        racer.race([chunks])
    await chunks.close()
    assert len(emulator.requests) == 2


async def test_it_runs_once(racer):
    race = racer.race(["a"])
    await race
    with pytest.raises(StreamConsumedError, match="this race has been used"):
        await race


async def test_clocks(racer, emulator):
    """
    They are each call's.
    """
    script(emulator, {"a": silent(), "b": silent()})
    with pytest.raises(TimeoutError, match="first_token") as caught:
        await racer.race(["a", "b"], timeouts=Timeouts(first_token=0.01))
    assert "FirstTokenTimeoutError" in caught.value.__notes__[0]
    assert_over(racer)
