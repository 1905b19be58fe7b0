"""
Errors as code written for openai's AsyncOpenAI catches them, on both clients.
"""

import asyncio

import pytest

from horay_async.emulator import Answer
from porting import both


ASKED = {
    "model": "meta-llama/Meta-Llama-3.1-8B-Instruct",
    "messages": [{"role": "user", "content": "Name three seas, please."}],
}
ERROR = {
    "message": "slow down, please",
    "type": "requests",
    "param": "messages",
    "code": "rate_limit_exceeded",
}


STATUSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: None,
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "InternalServerError",
}
KNOWN = {
    *filter(None, STATUSES.values()),
    "APIError",
    "APIStatusError",
    "APIConnectionError",
    "APITimeoutError",
    "APIResponseValidationError",
}


def names(package, error):
    """
    Which of openai's exceptions would catch it.
    """
    return {name for name in KNOWN if isinstance(error, getattr(package, name))}


async def failure(client, package, **more):
    """
    The error of a call, with the names that would catch it.
    """
    try:
        await client.chat.completions.create(**ASKED, **more)
    except package.APIError as error:
        return error, names(package, error)
    pytest.fail("it went well")


@pytest.mark.parametrize("status", STATUSES)
async def test_status(emulator, status):
    async def snippet(client, package):
        error, caught_by = await failure(client, package)
        assert ERROR["message"] in error.message
        assert ERROR["message"] in str(error)
        return (
            caught_by,
            error.status_code,
            error.body,
            error.code,
            error.type,
            error.param,
            error.request_id,
            error.response.status_code,
            error.response.headers.get("Retry-After"),
            error.response.headers["x-request-id"],
            error.response.json(),
        )

    headers = {"x-request-id": "req-1", "retry-after": "1"}
    answer = Answer.json({"error": ERROR}, status, headers=headers)
    given = await both(emulator, snippet, answer)
    expected = {"APIError", "APIStatusError", STATUSES[status]} - {None}
    assert given[0] == expected
    assert given[1:7] == (status, ERROR, ERROR["code"], "requests", "messages", "req-1")


BODIES = {
    "flat": Answer.json({"code": "x1", "message": "no such sea", "data": None}, 400),
    "text": Answer.text("no such sea", 400),
    "string": Answer.json("no such sea", 400),
    "empty": Answer.text("", 400),
    "detail": Answer.json({"detail": "no such sea"}, 400),
}


@pytest.mark.parametrize("answer", BODIES.values(), ids=BODIES)
async def test_other_bodies(emulator, answer):
    async def snippet(client, package):
        error, caught_by = await failure(client, package)
        return caught_by, error.status_code, error.response.text

    given = await both(emulator, snippet, answer)
    assert given[:2] == ({"APIError", "APIStatusError", "BadRequestError"}, 400)


async def test_the_emulator_s_own_refusals(emulator):
    """
    An unknown model, as Horay's family says it.
    """

    async def snippet(client, package):
        with pytest.raises(package.BadRequestError) as caught:
            await client.chat.completions.create(**ASKED | {"model": "x"})
        error = caught.value
        assert error.request_id
        return error.status_code, error.body, str(error.code)

    status, body, code = await both(emulator, snippet)
    assert (status, body["code"], code) == (400, 20012, "20012")


async def test_by_the_order_of_except_clauses(emulator):
    """
    The clauses of openai's README.
    """

    async def snippet(client, package):
        said = []
        for _ in range(3):
            try:
                await client.chat.completions.create(**ASKED)
            except package.APIConnectionError:
                said.append("not reached")
            except package.RateLimitError:
                said.append("back off")
            except package.APIStatusError as error:
                said.append(error.status_code)
        return said

    given = await both(
        emulator,
        snippet,
        Answer(framing="raw", end="close"),
        Answer.json({"error": ERROR}, 429),
        Answer.json({"error": ERROR}, 418),
    )
    assert given == ["not reached", "back off", 418]


async def test_base_of_all(emulator):
    """
    `OpenAIError` is the one name that changes: here it is `HorayError`.
    """

    async def snippet(client, package):
        base = getattr(package, "OpenAIError", None) or package.HorayError
        try:
            await client.chat.completions.create(**ASKED)
        except base as error:
            return isinstance(error, package.AuthenticationError)

    assert await both(emulator, snippet, Answer.json({"error": ERROR}, 401))


async def test_timeout(emulator):
    async def snippet(client, package):
        error, caught_by = await failure(client, package, timeout=0.05)
        assert error.message
        return caught_by, error.body, error.code

    caught_by, *_ = await both(emulator, snippet, Answer(before=[asyncio.Event()]))
    assert caught_by == {"APIError", "APIConnectionError", "APITimeoutError"}


async def test_nobody_there(emulator):
    async def snippet(client, package):
        nowhere = type(client)(
            base_url="http://127.0.0.1:9/v1", api_key="key", max_retries=0
        )
        async with nowhere:
            error, caught_by = await failure(nowhere, package)
        assert error.__cause__ is not None
        return caught_by, error.body, error.code, error.type, error.param

    caught_by, *_ = await both(emulator, snippet)
    assert caught_by == {"APIError", "APIConnectionError"}


async def test_in_a_stream(emulator):
    """
    An error event: what came before it is read, then it is raised.
    """
    answer = Answer.sse(
        {"choices": [{"index": 0, "delta": {"content": "Bl"}}]}, {"error": ERROR}
    )

    async def snippet(client, package):
        stream = await client.chat.completions.create(**ASKED, stream=True)
        text = ""
        with pytest.raises(package.APIError, match=ERROR["message"]) as caught:
            async for chunk in stream:
                text += chunk.choices[0].delta.content
        error = caught.value
        return text, error.body, error.code, error.type, error.param

    given = await both(emulator, snippet, answer)
    assert given == ("Bl", ERROR, ERROR["code"], "requests", "messages")


async def test_before_a_stream(emulator):
    """
    A refusal is raised where the stream is made, not where it is read.
    """

    async def snippet(client, package):
        error, caught_by = await failure(client, package, stream=True)
        return caught_by, error.status_code, error.body

    given = await both(emulator, snippet, Answer.json({"error": ERROR}, 429))
    assert given[1:] == (429, ERROR)


async def test_tries_again(emulator):
    """
    Both try again by themselves, and say how often.
    """

    async def snippet(client, _):
        patient = client.with_options(max_retries=2)
        raw = await patient.chat.completions.with_raw_response.create(**ASKED)
        return raw.status_code, raw.retries_taken

    headers = {"retry-after-ms": "1"}
    refusal = Answer.json({"error": ERROR}, 429, headers=headers)
    assert await both(emulator, snippet, refusal, refusal) == (200, 2)


async def test_wrong_arguments(emulator):
    """
    A misspelt name is a TypeError of the call itself.
    """

    async def snippet(client, _):
        with pytest.raises(TypeError, match="temprature"):
            await client.chat.completions.create(**ASKED, temprature=1)
        return emulator.requests

    assert await both(emulator, snippet) == []
