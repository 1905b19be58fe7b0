"""
The cancel storm of the benchmarks, smaller; and that it would see what it looks for.
"""

import asyncio
import socket

from pathlib import Path

import pytest


HOUSE = Path(__file__).parents[1]

TASKS = 500

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="the storm reads /proc"
)


@pytest.fixture(scope="module")
def bench():
    """
    The storm, however pytest was started; and two servers.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HOUSE)
        from benchmarks import cancel_storm
        from benchmarks._load_server import running

        taking, refusing = cancel_storm.OPEN, cancel_storm.FULL
        with running(taking) as first, running(refusing) as second:
            patch.setattr(cancel_storm, "servers", [first, second], raising=False)
            yield cancel_storm


@pytest.mark.timeout(60)
async def test_a_small_storm(bench):
    """
    Cancelled at random turns, nothing leaves a lease, a connection or a task behind.
    """
    # Debugging takes three quarters of the time, and complains of slow turns.
    asyncio.get_running_loop().set_debug(False)
    outcomes, ways, wrong = await bench.storm(bench.servers, tasks=TASKS, seed=1)
    assert wrong == []
    assert outcomes["cancelled"] == TASKS
    assert len(ways) == len(bench.WAYS)


# What it would see -------------------------------------------------------------------

LEFT = []
"""
What the ways below leave behind; only what somebody holds on to stays.
"""


async def leases(client):
    """
    Leave a lease.
    """
    LEFT.append(await client._line.governor.lease("key"))


async def sockets(client):
    """
    Leave a socket.
    """
    LEFT.append(socket.socket())


async def tasks(client):
    """
    Leave a task.
    """
    LEFT.append(asyncio.create_task(asyncio.sleep(60)))
    await asyncio.sleep(60)


async def swallowed(client):
    """
    Go on as if nobody had asked to stop.
    """
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return


async def raised(client):
    """
    Fail in a way that no call may.
    """
    raise KeyError("key")


@pytest.mark.parametrize(
    ("way", "told"),
    [
        (leases, "leases are held, and no task is left"),
        (sockets, "more descriptors than before"),
        (tasks, "tasks are left"),
        (swallowed, "swallowed was cancelled, and went on"),
        (raised, "raised raised KeyError('key')"),
    ],
)
async def test_it_sees_what_is_left_over(bench, monkeypatch, way, told):
    """
    One way among the others that leaves something behind, or hides that it was cancelled.
    """
    from benchmarks import soak

    monkeypatch.setattr(soak, "SETTLE", 0.2)
    monkeypatch.setitem(bench.WAYS, way, 4)
    asyncio.get_running_loop().set_debug(False)
    try:
        *_, wrong = await bench.storm(bench.servers, tasks=40, at_once=20, seed=1)
    finally:
        for left in LEFT:
            if way is tasks:
                left.cancel()
            elif way is sockets:
                left.close()
        LEFT.clear()
    assert any(told in words for words in wrong), wrong
