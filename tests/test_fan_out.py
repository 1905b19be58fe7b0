"""
Many answers to one request: how it is split, put together, and ended early.
"""

import asyncio

import attrs
import pytest

from fanning import (
    CHAT,
    MODEL,
    PATIENCE,
    asked,
    connect,
    limited,
    numbered,
    seeded,
    sparing,
    whole,
)
from horay_async import (
    COMPATIBLE,
    HORAY,
    UNSET,
    APIResponseValidationError,
    ChatReply,
    ChatRequest,
    CompletionReply,
    CompletionRequest,
    ConfigurationError,
    ImageRequest,
    InvalidRequestError,
    Range,
    StreamConsumedError,
)
from horay_async.emulator import Answer
from horay_async.many._shares import shares


TEXT = CompletionRequest(prompt="Once")


@pytest.fixture
async def four(emulator):
    """
    A client of a server that gives at most four choices a call.
    """
    async with connect(emulator, 4) as client:
        yield client


# Shares ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "limit", "sizes"),
    [
        (1, None, [1]),
        (16, None, [16]),
        (16, 16, [16]),
        (16, 128, [16]),
        (16, 5, [5, 5, 5, 1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_shares(n, limit, sizes):
    """
    Each share has its n, and its seed, so that no two choices are the same.
    """
    parts = shares(CHAT.evolve(seed=100, temperature=0.5), n, limit)
    assert [part.n for part in parts] == sizes
    assert [part.seed for part in parts] == [
        100 + sum(sizes[:at]) for at in range(len(sizes))
    ]
    assert {part.temperature for part in parts} == {0.5}


@pytest.mark.parametrize("seed", [UNSET, None])
def test_shares_without_a_seed(seed):
    parts = shares(TEXT.evolve(seed=seed), 3, 1)
    assert [part.seed for part in parts] == [seed] * 3


# One reply ---------------------------------------------------------------------------


async def test_a_chat(four, emulator):
    """
    One reply, its choices numbered, its usage summed, its meta the first call's.
    """
    emulator.script(*[numbered] * 4)
    request = ChatRequest(messages=CHAT.messages, seed=10, temperature=0.5)
    fan = four.fan_out(request, n=14)
    assert repr(fan) == "<FanOut of 14 choices, 0 there>"
    reply = await fan
    assert isinstance(reply, ChatReply)
    assert [choice.index for choice in reply.choices] == list(range(14))
    assert [choice.text for choice in reply.choices] == [str(10 + i) for i in range(14)]
    assert reply.text == "10"
    assert reply.usage.prompt_tokens == 4 * 3
    assert reply.usage.completion_tokens == 14
    assert reply.usage.total_tokens == 4 * 3 + 14
    assert reply.usage.source == "server"
    assert reply.meta.status == 200
    assert reply.meta.attempts == 4
    assert asked(emulator, "n", "seed") == [(2, 22), (4, 10), (4, 14), (4, 18)]
    assert {seen.json["temperature"] for seen in emulator.requests} == {0.5}
    assert fan.choices == reply.choices


async def test_a_text(emulator):
    """
    Horay documents 128 choices of a text at most.
    """
    async with connect(emulator, service=HORAY) as client:
        reply = await client.fan_out(prompt="Once", n=300, max_tokens=2)
    assert isinstance(reply, CompletionReply)
    assert [choice.index for choice in reply.choices] == list(range(300))
    assert {choice.text for choice in reply.choices} == {"Once"}
    assert asked(emulator, "n", "seed") == [(44, None), (128, None), (128, None)]
    assert reply.usage.completion_tokens == 300


async def test_one_choice_is_a_plain_call(four, emulator):
    reply = await four.fan_out(CHAT, n=1)
    assert reply.text == "Hello, you."
    assert asked(emulator, "n", "seed", "stream") == [(1, None, None)]


@pytest.mark.parametrize(
    ("request_n", "arguments", "n"),
    [(3, {}, 3), (3, {"n": 2}, 2), (UNSET, {"n": 2}, 2)],
)
async def test_whose_n(four, emulator, request_n, arguments, n):
    """
    The argument's, else the request's.
    """
    reply = await four.fan_out(CHAT.evolve(n=request_n), **arguments)
    assert len(reply.choices) == n
    assert asked(emulator, "n") == [(n,)]


async def test_keywords_change_the_request(four, emulator):
    emulator.script(numbered)
    await four.fan_out(CHAT, n=2, seed=5, max_tokens=7, timeout=PATIENCE)
    assert asked(emulator, "n", "seed", "max_tokens") == [(2, 5, 7)]


async def test_a_string(four, emulator):
    """
    It is what the user says, as in a job.
    """
    reply = await four.fan_out("Hello, you.", n=2, max_tokens=9)
    assert reply.text == "Hello, you."
    assert asked(emulator, "n", "max_tokens") == [(2, 9)]
    assert emulator.requests[0].json["messages"] == [
        {"role": "user", "content": "Hello, you."}
    ]


async def test_no_documented_limit(emulator):
    async with connect(emulator, service=COMPATIBLE) as client:
        reply = await client.fan_out(CHAT, n=100, model=MODEL)
    assert len(reply.choices) == 100
    assert len(emulator.requests) == 1


async def test_a_limit_is_no_check(emulator):
    """
    Where no check is wanted the calls are split all the same.
    """
    async with connect(emulator, 4, validate="off") as client:
        assert len((await client.fan_out(CHAT, n=6)).choices) == 6
    assert asked(emulator, "n") == [(2,), (4,)]


async def test_nothing_is_sent_before(four, emulator):
    """
    One that nobody awaits is no mistake.
    """
    four.fan_out(CHAT, n=16)
    await asyncio.sleep(0)
    assert emulator.requests == []


@pytest.mark.parametrize("again", ["await", "first"])
@pytest.mark.parametrize("how", ["await", "first"])
async def test_used_once(four, emulator, how, again):
    def use(fan, how):
        return fan.first(bool) if how == "first" else fan._all()

    fan = four.fan_out(CHAT, n=2)
    await use(fan, how)
    with pytest.raises(StreamConsumedError, match="this fan-out has been used"):
        await use(fan, again)
    assert len(emulator.requests) == 1


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((CHAT, {}), InvalidRequestError, r"n: how many choices are wanted\? pass n="),
        ((CHAT, {"n": None}), InvalidRequestError, "n: how many choices"),
        ((CHAT, {"n": 0}), InvalidRequestError, "n = 0: expected an integer of at"),
        ((CHAT, {"n": 2.0}), InvalidRequestError, "n = 2.0: expected an integer"),
        ((CHAT, {"n": 2, "extra_body": {"n": 3}}), InvalidRequestError, "pass n=..."),
        (
            (CHAT, {"n": 2, "extra_body": {"seed": 3}}),
            InvalidRequestError,
            "pass seed=",
        ),
        ((CHAT, {"n": 2, "prompt": "a"}), TypeError, "no field 'prompt'"),
        (
            (None, {"n": 2}),
            TypeError,
            r"needs a request, or messages=\[...\], or prompt",
        ),
        (
            (None, {"n": 2, "messages": [], "prompt": ""}),
            TypeError,
            "no field 'prompt'",
        ),
        ((ImageRequest(prompt="a"), {"n": 2}), TypeError, "got ImageRequest"),
        ((b"Hello?", {"n": 2}), TypeError, "expected a string, a Chat.* got bytes"),
        (
            ("Hello?", {"n": 2, "messages": CHAT.messages}),
            TypeError,
            "a string and messages",
        ),
        (("Hello?", {}), InvalidRequestError, "n: how many choices"),
        ((CHAT, {"n": 2, "stream": "yes"}), ConfigurationError, "stream is 'yes'"),
        ((TEXT, {"n": 5, "best_of": 9}), InvalidRequestError, "5 choices take 2 calls"),
        ((CHAT, {"n": 2, "timeout": "soon"}), ConfigurationError, "timeout is 'soon'"),
    ],
)
async def test_refused_at_once(four, emulator, given, error, words):
    with pytest.raises(error, match=words):
        four.fan_out(given[0], **given[1])
    assert emulator.requests == []


async def test_a_range_is_checked_at_once(emulator):
    async with connect(emulator, service=HORAY) as client:
        with pytest.raises(InvalidRequestError, match=r"temperature = 1\.5: Horay"):
            client.fan_out(TEXT, n=2, temperature=1.5)


@pytest.mark.parametrize(
    ("seed", "highest"), [(2**63 - 3, 2**63 - 1), (97, 99), (98, 99)]
)
async def test_the_last_ones_seed(emulator, seed, highest):
    """
    It must be one as well; what the first share alone would pass is not sent.
    """
    service = limited(2)
    if highest == 99:
        limits = {**service.chat.limits, "seed": Range(0, 99)}
        chat = attrs.evolve(service.chat, limits=limits)
        service = attrs.evolve(service, chat=chat)
    async with connect(emulator, service=service) as client:
        n = highest - seed + 1
        client.fan_out(CHAT, seed=seed, n=n)
        with pytest.raises(InvalidRequestError, match=f"at most {highest}") as caught:
            client.fan_out(CHAT, seed=seed, n=n + 1)
    assert caught.value.field == "seed"
    assert f"seed = {seed}" in str(caught.value)
    assert emulator.requests == []


async def test_best_of_one_call(four, emulator):
    """
    It means what it says as long as there is one call.
    """
    emulator.script(Answer.json(whole("a", "b")))
    reply = await four.fan_out(TEXT, n=2, best_of=4)
    assert [choice.text for choice in reply.choices] == ["a", "b"]
    assert asked(emulator, "n", "best_of") == [(2, 4)]


# Several prompts ---------------------------------------------------------------------


PROMPTS = CompletionRequest(prompt=["a", "b", "c"], seed=0)


async def test_several_prompts(four, emulator):
    """
    So many choices for each; the index is the choice's number + the prompt's * n. Each has
    calls of its own: no answer could be anybody else's.
    """
    emulator.script(*[numbered] * 6)
    reply = await four.fan_out(PROMPTS, n=6)
    assert [choice.index for choice in reply.choices] == list(range(18))
    assert [choice.text for choice in reply.choices] == [
        f"{prompt}{at}" for prompt in "abc" for at in range(6)
    ]
    assert asked(emulator, "prompt", "n", "seed") == [
        (prompt, n, seed) for prompt in "abc" for n, seed in [(2, 4), (4, 0)]
    ]


@pytest.mark.parametrize("index", [[0, 1, 2], [0, 0, 0], None])
async def test_however_they_are_numbered(four, emulator, index):
    """
    By their place, by the prompt as TGI does, or not at all.
    """

    def answer(request):
        body = whole(*seeded(request), numbered=False)
        for at, choice in enumerate(body["choices"]):
            if index is not None:
                choice["index"] = index[at]
        return Answer.json(body)

    emulator.script(*[answer] * 3)
    reply = await four.fan_out(PROMPTS, n=3)
    assert [choice.text for choice in reply.choices] == [
        f"{prompt}{at}" for prompt in "abc" for at in range(3)
    ]
    assert [choice.index for choice in reply.choices] == list(range(9))


async def test_in_whatever_order_they_come(four, emulator):
    """
    llama.cpp names the last choice first.
    """
    body = whole("a", "b", "c")
    body["choices"].reverse()
    emulator.script(Answer.json(body))
    reply = await four.fan_out(CHAT, n=3)
    assert [choice.text for choice in reply.choices] == ["a", "b", "c"]


async def test_the_first_call_answers_last(four, emulator):
    """
    The reply is that of the first choices, whichever comes first.
    """
    others = asyncio.Event()

    async def answer(request):
        if request.json["seed"] == 0:
            await others.wait()
        others.set()
        return Answer.json({**whole(*"abcd"), "id": f"c{request.json['seed']}"})

    emulator.script(answer, answer)
    reply = await four.fan_out(CHAT, n=8, seed=0)
    assert reply.id == "c0"


async def test_token_ids_are_one_prompt(four, emulator):
    emulator.script(Answer.json(whole(*"abcd")), Answer.json(whole(*"ef")))
    reply = await four.fan_out(prompt=[1, 2, 3], n=6)
    assert len(reply.choices) == 6
    assert asked(emulator, "n") == [(2,), (4,)]


# A server that gives less, or more ---------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_a_server_that_gives_fewer(emulator, most):
    """
    It is asked for the rest, at what it does give, and no choice comes twice.
    """
    emulator.script(*[sparing(most)] * 20)
    async with connect(emulator, service=COMPATIBLE) as client:
        reply = await client.fan_out(CHAT, n=8, seed=100, model=MODEL)
    assert [choice.text for choice in reply.choices] == [str(100 + i) for i in range(8)]
    assert [choice.index for choice in reply.choices] == list(range(8))
    assert len(emulator.requests) == -(-8 // most)
    assert emulator.requests[0].json["n"] == 8
    assert max(seen.json["n"] for seen in emulator.requests[1:]) == most


async def test_the_rest_is_asked_for_at_once(emulator):
    """
    Not one after the other.
    """
    held = asyncio.Event()

    async def wait(request):
        await held.wait()
        return numbered(request)

    emulator.script(sparing(1), *[wait] * 7)
    async with connect(emulator, service=COMPATIBLE) as client:
        reading = asyncio.ensure_future(client.fan_out(CHAT, n=8, seed=0, model=MODEL))
        await emulator.wait_for_request(8)
        held.set()
        assert len((await reading).choices) == 8


async def test_several_prompts_and_fewer_choices(four, emulator):
    """
    One a call, whatever was asked for.
    """
    emulator.script(*[sparing(1)] * 9)
    reply = await four.fan_out(PROMPTS, n=3)
    assert [choice.text for choice in reply.choices] == [
        f"{prompt}{at}" for prompt in "abc" for at in range(3)
    ]
    assert asked(emulator, "n", "seed") == [(1, 1)] * 3 + [(1, 2)] * 3 + [(3, 0)] * 3


async def test_a_server_that_gives_none(four, emulator):
    emulator.script(Answer.json({"id": "c", "choices": []}))
    words = "expected an answer with choices"
    with pytest.raises(APIResponseValidationError, match=words):
        await four.fan_out(CHAT, n=3)


async def test_a_server_that_gives_more(four, emulator):
    """
    There are as many as were asked for.
    """
    emulator.script(Answer.json(whole("a", "b", "c", "d")))
    reply = await four.fan_out(CHAT, n=2)
    assert [choice.text for choice in reply.choices] == ["a", "b"]


async def test_best_of_and_fewer_choices(four, emulator):
    """
    The rest would be the best of other ones: that is said, and what came is there.
    """
    emulator.script(Answer.json(whole("a")))
    fan = four.fan_out(TEXT, n=2, best_of=4)
    with pytest.raises(InvalidRequestError, match="best_of = 4"):
        await fan
    assert [choice.text for choice in fan.choices] == ["a"]


# What it cost ------------------------------------------------------------------------


async def test_the_vendors_own_counts(four, emulator):
    """
    They are summed as deep as they go.
    """
    counts = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "completion_tokens_details": {"reasoning_tokens": 1},
        "cost": 0.5,
        "tier": "a",
        "cached": True,
    }
    emulator.script(*[Answer.json(whole(*"abcd", **counts))] * 2)
    usage = (await four.fan_out(CHAT, n=8)).usage
    assert usage.completion_tokens_details.reasoning_tokens == 2
    assert usage.extra["cached"] is True
    assert usage.extra["cost"] == 1.0
    assert usage.extra["tier"] == "a"
    assert usage.to_dict()["total_tokens"] == 10


async def test_a_call_that_was_not_counted(four, emulator):
    """
    A sum with a part missing is an estimate.
    """
    uncounted = whole(*"abcd")
    del uncounted["usage"]
    emulator.script(Answer.json(whole(*"abcd")), Answer.json(uncounted))
    assert (await four.fan_out(CHAT, n=8)).usage.source == "estimated"
