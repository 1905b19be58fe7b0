"""
Clients that live side by side, one loop after another, and end.
"""

import asyncio
import contextlib
import threading

import aiohttp
import pytest

from horay_async import (
    HORAY,
    APIConnectionError,
    AsyncHoray,
    AttemptFailed,
    ClientClosedError,
    ConfigurationError,
    Governor,
    StreamAbortedError,
    WrongLoopError,
    user,
)
from horay_async.emulator import Answer, Emulator


HELLO = [user("Hello, you.")]
KEY = "sk-secret-0123456789"


def connect(server, **options):
    options = {"service": HORAY, "api_key": KEY, "max_retries": 0} | options
    return AsyncHoray(base_url=server.base_url, **options)


async def ask(client, **more):
    return await client.chat.completions.create(messages=HELLO, **more)


# Several clients ---------------------------------------------------------------------


@pytest.mark.parametrize("copied", [False, True])
async def test_a_shared_governor(emulator, copied):
    """
    One client's 429 makes the other wait as well: both have the same key.

    A copy shares its original's governor; other clients share the one that they are given.
    """
    governor = Governor()
    wait = 0.6
    emulator.script(
        Answer.json({"error": "busy"}, 429, headers={"retry-after": str(wait)})
    )
    failed = asyncio.Event()
    async with (
        connect(
            emulator,
            governor=governor,
            max_retries=1,
            on_event=lambda event: isinstance(event, AttemptFailed) and failed.set(),
        ) as first,
        connect(emulator, governor=governor) as other,
        connect(emulator) as alone,
        asyncio.TaskGroup() as group,
    ):
        second = first.with_options(max_retries=0) if copied else other
        group.create_task(ask(first))
        await failed.wait()
        await ask(alone)
        await ask(second)
    refused, free, *governed = emulator.requests
    assert free.arrival - refused.arrival < wait
    assert [one.arrival - refused.arrival >= wait for one in governed] == [True] * 2


class HalfGovernor:
    """
    Leases, and nothing else that is asked of a governor.
    """

    at_most = None
    lease = Governor.lease


def test_what_is_no_governor():
    """
    It is refused when the client is made, and not by its first refusal.
    """
    with pytest.raises(ConfigurationError, match="its close and snapshot as well"):
        AsyncHoray(api_key="k", governor=HalfGovernor())


def test_a_lane_for_all_calls():
    lane = AsyncHoray(api_key="k", lane="batch")._line.settings.lane
    assert lane == "batch"
    with pytest.raises(ConfigurationError, match="lane"):
        AsyncHoray(api_key="k", lane="fast")


async def test_a_hundred_calls_on_one_connection(emulator):
    async with connect(emulator) as client:
        replies = [await ask(client) for _ in range(100)]
    assert emulator.connections == 1
    assert [reply.meta.reused for reply in replies] == [False] + [True] * 99
    assert replies[-1].meta.timings.connect == 0


async def test_as_many_connections_as_allowed(emulator):
    async with connect(emulator, max_connections=3) as client:
        await asyncio.gather(*(ask(client) for _ in range(20)))
    assert emulator.connections <= 3


# The end -----------------------------------------------------------------------------


async def test_close_twice(emulator):
    async with connect(emulator) as client:
        await ask(client)
        await client.close()
        assert client.is_closed()
        await client.close()
    await client.close()
    await emulator.wait_until(lambda: emulator.open_connections == 0)


async def test_use_after_close(emulator):
    client = connect(emulator)
    await client.close()
    chat = client.chat.completions
    for call in (
        lambda: ask(client),
        lambda: ask(client, stream=True),
        lambda: chat.stream(messages=HELLO).get_final_completion(),
        lambda: client.completions.create(prompt="Hi"),
        lambda: client.images.generate(prompt="a boat"),
        client.models.list,
        client.user.info,
    ):
        with pytest.raises(ClientClosedError, match="closed"):
            await call()
    assert emulator.requests == []


async def test_closing_ends_what_is_under_way(emulator):
    """
    A plain call and a stream: both end at once, and neither is tried again.
    """
    emulator.script(Answer(before=[asyncio.Event()]), Answer.chat("a", end="hang"))
    client = connect(emulator, max_retries=5)
    plain = asyncio.create_task(ask(client))
    await emulator.wait_for_request()
    async with client.chat.completions.stream(messages=HELLO) as stream:
        await anext(aiter(stream))
        await client.close()
        with pytest.raises((ClientClosedError, APIConnectionError, StreamAbortedError)):
            async for _ in stream:
                pass
    with pytest.raises((ClientClosedError, APIConnectionError)):
        await plain
    assert len(emulator.requests) == 2
    await emulator.wait_until(lambda: emulator.open_connections == 0)


async def test_a_borrowed_session(emulator):
    """
    It is used, and left open.
    """
    async with aiohttp.ClientSession() as session:
        async with connect(emulator, session=session) as client:
            assert (await ask(client)).text == "Hello, you."
        assert client.is_closed()
        assert not session.closed
        with pytest.raises(ClientClosedError):
            await ask(client)


# Loops -------------------------------------------------------------------------------


@contextlib.contextmanager
def emulator_thread():
    """
    An emulator on a loop and a thread of its own.
    """
    ready, ends = threading.Event(), []

    def run():
        async def serve():
            done = asyncio.Event()
            async with Emulator(mode="echo") as server:
                ends.extend([server, asyncio.get_running_loop(), done])
                ready.set()
                await done.wait()

        asyncio.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    server, loop, done = ends
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)


def test_one_loop_after_another():
    """
    `asyncio.run` again and again, with one client: as Celery and pytest do.
    """
    with emulator_thread() as server:
        client = connect(server)

        async def main():
            reply = await ask(client)
            texts = [
                token.text
                async for token in client.chat.completions.stream(messages=HELLO)
            ]
            return reply.text, "".join(texts)

        for _ in range(3):
            assert asyncio.run(main()) == ("Hello, you.",) * 2
        asyncio.run(client.close())
        assert client.is_closed()


def test_two_loops_at_once():
    """
    The second is refused while the first still runs.
    """
    with emulator_thread() as server:
        client = connect(server)

        async def main():
            await ask(client)
            with pytest.raises(WrongLoopError, match="loop"):
                await asyncio.to_thread(asyncio.run, ask(client))
            reply = await ask(client)
            await client.close()
            return reply.text

        assert asyncio.run(main()) == "Hello, you."
