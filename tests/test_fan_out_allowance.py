"""
Servers that refuse `n`, or ignore it: found out once, made up for, and remembered.
"""

import asyncio
import json

import pytest

from fanning import (
    CHAT,
    MODEL,
    PATIENCE,
    asked,
    connect,
    limited,
    numbered,
    refusing,
    said,
    sparing,
    sparing_stream,
    streamed,
    whole,
)
from horay_async import (
    COMPATIBLE,
    APIStatusError,
    BadRequestError,
    CompletionRequest,
    IncompleteStreamError,
    InternalServerError,
    InvalidRequestError,
    UnprocessableEntityError,
)
from horay_async._codec import describe
from horay_async._refusals import status_error_of
from horay_async.emulator import Answer
from horay_async.many._allowance import allowed


def told(message, param=None):
    """
    OpenAI's shape of an error.
    """
    inside = {"message": message, "type": "invalid_request_error", "param": param}
    return {"error": inside}


ONLY_ONE = told("n != 1 is not supported")


@pytest.fixture
async def open_end(emulator):
    """
    A client of a server that documents no limit.
    """
    async with connect(emulator) as client:
        yield client


async def use(client, way, n, **arguments):
    """
    The texts of a fan-out, awaited or looped over.
    """
    fan = client.fan_out(CHAT, n=n, seed=0, **arguments)
    if way == "await":
        return [choice.text for choice in (await fan).choices]
    async with fan:
        async for _ in fan:
            pass
    return [choice.text for choice in fan.choices]


def texts(n):
    """
    What each choice says: its seed.
    """
    return [str(at) for at in range(n)]


# What a refusal says -----------------------------------------------------------------


def refusal(body, status=400):
    """
    The error that a body becomes.
    """
    facts = describe(json.dumps(body).encode(), status=status)
    return status_error_of(facts, status=status, in_stream=False).with_facts(
        status=status
    )


@pytest.mark.parametrize(
    ("body", "most"),
    [
        # OpenAI
        (
            told(
                "Invalid 'n': integer above maximum value. Expected a value <= 8, but"
                " got 16 instead.",
                "n",
            ),
            8,
        ),
        (told("Unknown parameter: 'n'.", "n"), 0),
        (
            told(
                "Unsupported value: 'n' does not support 16 with this model. Only the"
                " default (1) value is supported.",
                "n",
            ),
            0,
        ),
        (told("Unrecognized request argument supplied: n"), 0),
        # Groq
        (told("'n' : number must be at most 1"), 0),
        # vLLM
        (told("n must be 1 when using greedy sampling, got 16."), 0),
        (
            {
                "object": "error",
                "message": "[{'type': 'less_than_equal', 'loc': ('body', 'n'), 'msg':"
                " 'Input should be less than or equal to 8', 'input': 16}]",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
            8,
        ),
        # llama.cpp
        (told("Only one completion choice is allowed"), 0),
        (
            told(
                "n_cmpl cannot be greater than the number of slots, please increase -np"
            ),
            0,
        ),
        # DeepSeek
        (told("Invalid n value (currently only n = 1 is supported)"), 0),
        # Alibaba Cloud
        (
            {
                "code": "InvalidParameter",
                "message": "<400> InternalError.Algo.InvalidParameter: Range of n"
                " should be [1, 4]",
            },
            4,
        ),
        # Gemini
        ([told("Multiple candidates is not enabled for this model")], 0),
        # LiteLLM
        (told("groq does not support parameters: ['n'], for model=llama3"), 0),
        # kserve, Rapid-MLX, llmgateway, Anyscale
        ({"error": "n != 1 is not supported"}, 0),
        (told("n must equal 1 (multi-choice is not supported)"), 0),
        (told("Send n separate requests instead.", "n"), 0),
        (told("The current system does not support n>1."), 0),
        # FastAPI
        (
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "n"],
                        "msg": "Extra inputs are not permitted",
                        "input": 16,
                    }
                ]
            },
            0,
        ),
        (told("n must be at most 4"), 4),
        (told("too many", "body.n"), 0),
        (told("n must be between 1 and 12, got 16"), 12),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_allowed(body, most, status):
    """
    What servers say of an `n` of 16; 0: they take none at all, or only 1.
    """
    assert allowed(refusal(body, status), 16) == most


@pytest.mark.parametrize(
    "body",
    [
        told("max_tokens must be at most 4096, got 5000"),
        told("This model's maximum context length is 8 tokens, but you asked for 9"),
        told("temperature must be at most 2", "temperature"),
        told("n is not what is wrong: must be a string", "messages"),
        told("best_of must be greater than or equal to n, got n=16 and best_of=4."),
        told(
            "[{'type': 'missing', 'loc': ('body', 'model'), 'msg': 'must be given',"
            " 'input': {'messages': [], 'n': 16}}]"
        ),
        told("Unsupported value: 'n-gram' must be at most 4"),
        told("Invalid \\n in the prompt"),
        told("unknown model: n_7"),
        told("N must be small"),
        told(""),
        {"detail": "not found"},
    ],
)
def test_something_else(body):
    """
    Another refusal is not taken for one of `n`.
    """
    assert allowed(refusal(body), 16) is None


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 503])
def test_another_status(status):
    assert allowed(refusal(ONLY_ONE, status), 16) is None


# Refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["await", "loop"])
async def test_it_refuses(open_end, emulator, way):
    """
    At the cost of one refused call, once; then each choice has a call, without `n`.
    """
    emulator.script(*[refusing(1, ONLY_ONE)] * 10)
    assert await use(open_end, way, 4) == texts(4)
    assert asked(emulator, "seed") == [(0,), (0,), (1,), (2,), (3,)]
    assert [seen.json.get("n") for seen in emulator.requests] == [4] + [None] * 4
    assert await use(open_end, way, 3) == texts(3)
    assert [seen.json.get("n") for seen in emulator.requests[5:]] == [None] * 3


async def test_the_rest_is_asked_side_by_side(open_end, emulator):
    held = asyncio.Event()

    async def wait(request):
        await held.wait()
        return numbered(request)

    emulator.script(refusing(1, ONLY_ONE), *[wait] * 5)
    reading = asyncio.ensure_future(use(open_end, "await", 5))
    await emulator.wait_for_request(6)
    held.set()
    assert await reading == texts(5)


@pytest.mark.parametrize("way", ["await", "loop"])
async def test_it_names_a_limit(open_end, emulator, way):
    emulator.script(*[refusing(4, told("n must be at most 4"))] * 10)
    assert await use(open_end, way, 10) == texts(10)
    assert await use(open_end, way, 10) == texts(10)
    ns = [seen.json["n"] for seen in emulator.requests]
    assert ns[0] == 10
    assert sorted(ns[1:]) == [2, 2, 4, 4, 4, 4]


async def test_a_limit_below_the_documented_one(emulator):
    """
    Only what was under way is refused: what still waited asks for less.
    """
    async with connect(emulator, 2) as client:
        emulator.script(*[refusing(1, ONLY_ONE)] * 400)
        assert await use(client, "await", 200) == texts(200)
    ns = [seen.json.get("n") for seen in emulator.requests]
    assert ns.count(2) == 64
    assert ns.count(None) == 200


@pytest.mark.parametrize("way", ["await", "loop"])
async def test_it_takes_no_n_at_all(open_end, emulator, way):
    """
    Not even one of 1.
    """
    extra = {"loc": ["body", "n"], "msg": "Extra inputs are not permitted"}
    emulator.script(*[refusing(0, {"detail": [extra]}, 422)])
    emulator.script(streamed("0") if way == "loop" else Answer.json(whole("0")))
    assert await use(open_end, way, 1) == ["0"]
    assert [seen.json.get("n") for seen in emulator.requests] == [1, None]


async def test_it_says_so_with_500(open_end, emulator):
    """
    As llama.cpp did.
    """
    words = {"error": {"code": 500, "message": "Only one completion choice is allowed"}}
    emulator.script(*[refusing(1, words, 500)] * 4)
    assert await use(open_end, "await", 3) == texts(3)


async def test_attempts_and_usage(open_end, emulator):
    """
    What was refused counts as a try, and costs nothing.
    """
    emulator.script(*[refusing(1, ONLY_ONE)] * 3)
    reply = await open_end.fan_out(CHAT, n=2, seed=0)
    assert reply.meta.attempts == 3
    assert reply.usage.prompt_tokens == 2 * 3
    assert reply.usage.source == "server"


# Remembered --------------------------------------------------------------------------


async def test_for_the_model_and_all_copies(open_end, emulator):
    """
    Not for another model, nor by another client.
    """
    emulator.script(*[refusing(1, ONLY_ONE)] * 3)
    await use(open_end, "await", 2)
    copy = open_end.with_options(timeout=60)
    emulator.script(*[refusing(1, ONLY_ONE)] * 2)
    await use(copy, "await", 2)
    assert [seen.json.get("n") for seen in emulator.requests[3:]] == [None] * 2
    emulator.script(*[refusing(9, ONLY_ONE)] * 2)
    await use(copy, "await", 2, model="another")
    async with connect(emulator) as other:
        await use(other, "await", 2)
    assert [seen.json.get("n") for seen in emulator.requests[5:]] == [2, 2]


async def test_a_refusal_is_remembered_for_plain_calls_and_streams(open_end, emulator):
    emulator.script(*[refusing(1, ONLY_ONE)] * 5)
    await use(open_end, "await", 2)
    await use(open_end, "loop", 2)
    assert [seen.json.get("n") for seen in emulator.requests] == [2] + [None] * 4


async def test_one_of_streams_is_remembered_for_streams(open_end, emulator):
    words = told("Streaming with n > 1 is currently not supported")
    emulator.script(*[refusing(1, words)] * 3, numbered)
    await use(open_end, "loop", 2)
    await use(open_end, "await", 2)
    assert [seen.json.get("n") for seen in emulator.requests] == [2, None, None, 2]


async def test_a_condition_is_not_remembered(open_end, emulator):
    """
    At another temperature the same model takes it.
    """
    words = told("n must be 1 when using greedy sampling, got 2.")
    emulator.script(*[refusing(1, words)] * 3, numbered)
    assert await use(open_end, "await", 2, temperature=0) == texts(2)
    assert await use(open_end, "await", 2, temperature=1) == texts(2)
    assert [seen.json.get("n") for seen in emulator.requests] == [2, None, None, 2]


@pytest.mark.parametrize("way", ["await", "loop"])
async def test_it_was_not_the_n(open_end, emulator, way):
    """
    What was made of it is refused as well: that is what is raised, and nothing is learnt.
    """
    emulator.script(*[refusing(-1, ONLY_ONE)] * 3)
    with pytest.raises(BadRequestError, match="not supported"):
        await use(open_end, way, 2)
    assert 2 <= len(emulator.requests) <= 3
    await emulator.wait_until_idle()
    assert open_end._line.learned == {}


async def test_one_that_takes_it_now_and_then(emulator):
    """
    A call that asked for more than a refusal allows does not confirm it.
    """
    refused = asyncio.Event()

    async def answer(request):
        if request.json["seed"] == 2:
            await refused.wait()
            return numbered(request)
        if "n" not in request.json:
            refused.set()
            await asked_on.wait()
        return Answer.json(ONLY_ONE, 400)

    asked_on = asyncio.Event()
    emulator.script(*[answer] * 4)
    async with connect(emulator, 2) as client:
        fan = client.fan_out(CHAT, n=4, seed=0)
        reading = asyncio.ensure_future(fan)
        async with asyncio.timeout(PATIENCE):
            while not fan.choices:  # noqa: ASYNC110 -- there is no event to wait for
                await asyncio.sleep(0)
        asked_on.set()
        with pytest.raises(BadRequestError):
            await reading
        assert client._line.learned == {}


async def test_a_refusal_after_the_beginning(open_end, emulator):
    """
    Of an answer that has begun to come nothing is asked again.
    """
    emulator.script(Answer.sse(said(0, "a", None), told("n must be at most 1", "n")))
    with pytest.raises(APIStatusError, match="n must be at most 1") as caught:
        await use(open_end, "loop", 2)
    assert caught.value.partial.text == "a"
    assert len(emulator.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(400, BadRequestError), (422, UnprocessableEntityError)]
)
async def test_another_refusal_is_raised(open_end, emulator, status, error):
    emulator.script(Answer.json(told("no such model", "model"), status))
    with pytest.raises(error, match="no such model"):
        await use(open_end, "await", 4)
    assert len(emulator.requests) == 1


async def test_a_failure_is_raised(open_end, emulator):
    emulator.script(Answer.json(told("Internal: n workers died"), 500))
    with pytest.raises(InternalServerError, match="workers died"):
        await use(open_end, "await", 4)
    assert len(emulator.requests) == 1


async def test_best_of_has_no_other_way(open_end, emulator):
    """
    The server's own words are the better ones.
    """
    emulator.script(*[Answer.json(told("n must be at most 1"), 400)] * 2)
    request = CompletionRequest(prompt="Once", n=2, best_of=4)
    with pytest.raises(BadRequestError, match="n must be at most 1"):
        await open_end.fan_out(request)
    assert len(emulator.requests) == 1


async def test_best_of_where_it_is_known(open_end, emulator):
    """
    Then it is refused before anything is sent.
    """
    emulator.script(sparing(1), sparing(1))
    await open_end.fan_out(prompt="", n=2, seed=0)
    with pytest.raises(InvalidRequestError, match="best_of = 4"):
        await open_end.fan_out(prompt="", n=2, best_of=4)
    assert len(emulator.requests) == 2


# Ignored -----------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("way", ["await", "loop"])
async def test_it_gives_fewer(open_end, emulator, way, most):
    """
    The next fan-out asks in the right way from the beginning.
    """
    server = sparing(most) if way == "await" else sparing_stream(most)
    emulator.script(*[server] * 20)
    assert await use(open_end, way, 6) == texts(6)
    calls = -(-6 // most)
    assert len(emulator.requests) == calls
    assert await use(open_end, way, 6) == texts(6)
    assert len(emulator.requests) == 2 * calls
    assert {seen.json["n"] for seen in emulator.requests[1:]} == {most}


async def test_streams_and_plain_calls_differ(open_end, emulator):
    """
    A server that streams one choice may give more in a plain answer.
    """
    emulator.script(*[sparing_stream(1)] * 3, numbered)
    await use(open_end, "loop", 3)
    await use(open_end, "await", 3)
    assert emulator.requests[-1].json["n"] == 3


async def test_one_that_leaves_out_what_it_said_before(open_end, emulator):
    """
    Now three of four, now two: that must not become one in the end.
    """
    emulator.script(sparing(3), sparing(1), sparing(2), numbered)
    emulator.script(sparing(2), sparing(1), numbered)
    assert await use(open_end, "await", 4) == texts(4)
    assert await use(open_end, "await", 6) == texts(6)
    assert list(open_end._line.learned.values()) == [3]


@pytest.mark.parametrize("done", [True, False])
async def test_streams_of_one_choice(open_end, emulator, done):
    """
    With or without a last word of the server's.
    """

    def answer(request):
        text = str(request.json["seed"])
        return Answer.sse(said(0, text, None), said(0, "!"), done=done)

    emulator.script(*[answer] * 4)
    async with open_end.fan_out(CHAT, n=4, seed=0, stream=True) as choices:
        items = [(item.index, item.text) async for item in choices]
    assert [choice.text for choice in choices.choices] == ["0!", "1!", "2!", "3!"]
    assert sorted(items) == sorted(
        [(at, text) for at in range(4) for text in (str(at), "!", f"{at}!")]
    )


async def test_a_choice_that_was_cut_is_no_choice_too_few(open_end, emulator):
    """
    A server that hangs up in the middle of one is not asked for others.
    """
    emulator.script(Answer.sse(said(0, "a"), said(1, "b", None), done=False))
    with pytest.raises(IncompleteStreamError):
        await use(open_end, "loop", 3)
    assert len(emulator.requests) == 1


async def test_prompts_share_what_is_found_out(emulator):
    """
    What a call of one prompt tells holds for those of the others that still wait.
    """
    async with connect(emulator, service=limited(2)) as client:
        emulator.script(*[sparing(1)] * 200)
        fan = client.fan_out(prompt=[str(at) for at in range(70)], n=2, seed=0)
        reply = await fan
    assert [choice.text for choice in reply.choices] == [
        f"{prompt}{at}" for prompt in range(70) for at in range(2)
    ]
    assert len(emulator.requests) == 140


async def test_any_compatible_server(emulator):
    emulator.script(*[refusing(1, ONLY_ONE)] * 4)
    async with connect(emulator, service=COMPATIBLE) as client:
        assert await use(client, "await", 3, model=MODEL) == texts(3)
