"""
Waits that take no time, and change nothing else.

The waits here are minutes long: a test that sat one out would run into its timeout.
"""

import asyncio

import pytest

from horay_async import (
    HORAY,
    AsyncHoray,
    AttemptFailed,
    RateLimitError,
    ServiceUnavailableError,
    _policy,
    user,
)
from horay_async.testing import instant_retries, refusal, reply
from live import server


__all__ = ["server"]

MESSAGES = [user("A sea?")]


def client_of(server, **options):
    return AsyncHoray(service=HORAY, base_url=server.base_url, api_key="any", **options)


async def ask(client, **options):
    return await client.chat.completions.create(messages=MESSAGES, **options)


async def test_a_retry(server):
    """
    As often as without; what is told of the wait is the wait, as if it had been.
    """
    server.script(refusal(429, retry_after=60), refusal(503, retry_after=100), None)
    failed = []

    def note(event):
        if isinstance(event, AttemptFailed):
            failed.append(event)

    with instant_retries():
        async with client_of(server, on_event=note) as client:
            answer = await ask(client)
    assert (answer.text, answer.meta.attempts) == ("A sea?", 3)
    first, second = [event.wait for event in failed]
    assert 60 <= first <= 66
    assert 100 <= second <= 110
    assert answer.meta.timings.governor == pytest.approx(first + second, abs=5)
    assert len(server.requests) == 3


async def test_a_stream(server):
    """
    Before its first token it is tried again, too.
    """
    server.script("reset-before-headers", refusal(503), reply("Black"))
    with instant_retries():
        async with client_of(server) as client:
            stream = client.chat.completions.stream(messages=MESSAGES)
            assert [token.text async for token in stream] == ["Black"]


async def test_giving_up(server):
    """
    After as many attempts, with the same error.
    """
    server.script(*[refusal(503, retry_after=100)] * 3)
    with instant_retries():
        async with client_of(server) as client:
            with pytest.raises(ServiceUnavailableError) as caught:
                await ask(client)
    error = caught.value
    assert (error.meta.attempts, error.retry_after) == (3, 100)
    assert error.elapsed >= 200


async def test_a_wait_too_long(server):
    """
    What is too long to wait for is not waited for here either.
    """
    server.script(refusal(503, retry_after=121))
    with instant_retries():
        async with client_of(server) as client:
            with pytest.raises(ServiceUnavailableError):
                await ask(client)
    assert len(server.requests) == 1


async def test_a_deadline(server):
    """
    The waits use it up, though no time goes by.
    """
    server.script(*[refusal(503, retry_after=60)] * 2)
    with instant_retries():
        async with client_of(server, max_retries=5) as client:
            with pytest.raises(ServiceUnavailableError):
                await ask(client, timeout=100)
    assert len(server.requests) == 2


async def test_everybody_else(server):
    """
    Who shares the limit does not wait for it: neither now nor for what was given up.
    """
    server.script(refusal(429, retry_after=100))
    with instant_retries():
        async with client_of(server, max_retries=0) as client:
            with pytest.raises(RateLimitError):
                await ask(client)
            answers = await asyncio.gather(*[ask(client) for _ in range(5)])
    assert [answer.text for answer in answers] == ["A sea?"] * 5


async def test_another_thread(server):
    """
    The app may run anywhere in the process.
    """
    server.script(refusal(503, retry_after=100))

    async def app():
        async with client_of(server) as client:
            return await ask(client)

    with instant_retries():
        answer = await asyncio.to_thread(asyncio.run, app())
    assert answer.text == "A sea?"


def test_nested_and_overlapping():
    """
    The last to leave ends it.
    """
    first, second = instant_retries(), instant_retries()
    first.__enter__()
    with second:
        first.__exit__(None, None, None)
        assert _policy.INSTANT
        with second:
            pass
        assert _policy.INSTANT
    assert not _policy.INSTANT


async def test_without(server):
    """
    The gate holds, once nobody asks for the opposite.
    """
    server.script(refusal(429, retry_after=100))
    with instant_retries():
        pass
    async with client_of(server) as client:
        task = asyncio.create_task(ask(client))
        await asyncio.to_thread(bool, server.saw_request())
        assert await server.is_idle()
        assert not await server.saw_request(count=2, within=0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
