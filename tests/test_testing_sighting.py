"""
What was seen, or not in time, as something to assert.

Nothing here depends on how long a wait takes: what does not happen is given no time, and
what happens has plenty.
"""

import asyncio
import threading

import pytest

from horay_async.testing import LiveEmulator, reply
from live import asked, connected, post, server


__all__ = ["server"]


def later(function):
    """
    Do it in another thread, while this one waits.
    """
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


# Requests --------------------------------------------------------------------------


def test_a_request(server):
    """
    By its path, its fields, or whatever a function says of it.
    """
    asked(server, "A sea?", n=2)
    asked(server, "A lake?", temperature=0)
    first, second = server.requests

    def seen(*path, **like):
        return server.saw_request(*path, within=0, **like).requests

    assert seen() == [first, second]
    assert seen("/chat/completions") == [first, second]
    assert seen("/v1/completions") == []
    assert seen(n=2) == [first]
    assert seen(n=2, temperature=0) == []
    assert seen(temperature=0, model="gpt-4o-mini") == [second]
    assert seen(where=lambda request: b"lake" in request.body) == [second]
    assert seen(where=lambda request: "authorization" in request.headers, n=2) == [
        first
    ]
    # What is not there is not None.
    assert seen(stop=None) == []


def test_so_many(server):
    """
    At least.
    """
    for _ in range(2):
        asked(server)
    assert server.saw_request(count=1, within=0)
    assert server.saw_request(count=2, within=0)
    assert not server.saw_request(count=3, within=0)


def test_one_that_comes_while_we_wait(server):
    sighting = server.saw_request(n=2, within=10)
    assert repr(sighting) == "<saw_request(n=2, within=10)>"
    thread = later(lambda: asked(server, n=2))
    assert sighting
    thread.join(10)
    assert repr(sighting).startswith("<request with n=2 seen: 1 request (")


def test_what_a_failure_says(server):
    """
    What was looked for, and what was seen of it instead.
    """
    asked(server)
    sighting = server.saw_request("/x", model="a", where=bool, count=2, within=0)
    assert not sighting
    said = repr(sighting)
    assert said.startswith(
        "<no 2 requests with path '/x', model='a', where=... within 0 s; seen: 1 request"
    )
    assert said.endswith("with [{'model': 'gpt-4o-mini'}]>")


def test_a_function_that_fails(server):
    """
    Its error is told where it was asked.
    """
    asked(server)
    with pytest.raises(ZeroDivisionError):
        server.saw_request(where=lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        later_request = server.saw_request(n=2, where=lambda _: 1 / 0, within=10)
        asked(server, n=2)
        bool(later_request)


# Leaving, and idleness -------------------------------------------------------------


def test_a_disconnect(server):
    """
    It is seen when it has happened, and no longer waited for.
    """
    server.script(*[reply("Black", server.hold())] * 2)
    with connected(server) as connection:
        response = post(connection, stream=True)
        assert not server.saw_disconnect(within=0)
        assert not server.is_idle(within=0.01)
        assert server.is_idle(within=0).requests == server.requests
        response.close()
        connection.close()
        assert server.saw_disconnect()
        assert server.is_idle()
    assert not server.saw_disconnect(count=2, within=0)
    with connected(server) as connection:
        post(connection, stream=True).close()
    sighting = server.saw_disconnect(count=2)
    assert sighting.requests == server.requests
    assert repr(sighting).startswith("<2 disconnects seen: 2 requests (0 open, 2 left")


def test_one_that_does_not_happen(server):
    """
    The wait has an end, and says so.
    """
    sighting = server.saw_disconnect(within=0.01)
    assert not sighting
    assert repr(sighting).startswith("<no disconnect within 0.01 s; seen: 0 requests")


def test_the_end_of_the_emulator():
    """
    Who waits then is told.
    """
    with LiveEmulator() as server:
        waiting = server.saw_disconnect(within=60)
    assert not waiting
    assert "closed" in repr(waiting)


# In async tests --------------------------------------------------------------------


async def test_awaited(server):
    """
    The loop goes on meanwhile.
    """
    thread = asyncio.create_task(asyncio.to_thread(asked, server, n=2))
    sighting = await server.saw_request(n=2, within=10)
    assert sighting
    assert len(sighting.requests) == 1
    await thread
    assert await server.is_idle()
    assert not await server.saw_disconnect(within=0.01)


async def test_not_awaited(server):
    """
    What is so already is no wait. What would be one is an error: the loop would stand.
    """
    assert server.is_idle()
    sighting = server.saw_disconnect(within=60)
    for look in (bool, lambda sighting: sighting.requests):
        with pytest.raises(RuntimeError, match=r"put `await` before it"):
            look(sighting)


async def test_what_was_not_awaited(server):
    """
    It is told as it was asked.
    """
    asked_for = {
        "saw_request('/chat', n=2, where=..., count=3, within=60)": server.saw_request(
            "/chat", n=2, where=bool, count=3, within=60
        ),
        "saw_request(within=60)": server.saw_request(within=60),
        "saw_disconnect(count=2, within=5)": server.saw_disconnect(count=2),
    }
    for call, sighting in asked_for.items():
        with pytest.raises(RuntimeError) as caught:
            bool(sighting)
        assert str(caught.value).startswith(f"{call} has to wait")
        assert repr(sighting) == f"<{call}>"


async def test_given_up(server):
    """
    Cancelling gives up the wait; the sighting can be asked again.
    """
    sighting = server.saw_request(within=60)

    async def wait():
        return await sighting

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(asked, server)
    assert await sighting
