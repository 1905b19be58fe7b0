"""
What every test stands on: the event loops, the watch for blocking calls, the emulator.
"""

import asyncio
import gc
import importlib.util
import os
import sys

import pytest

from blockbuster import blockbuster_ctx


# The fixtures `llama`, a real llama.cpp server; `governor` with its `clock`; and `say`, the
# command against the emulator `server`.
pytest_plugins = ["llama_server", "gating", "saying"]


def eager_loop():
    """
    A loop whose tasks start at once.
    """
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


LOOPS = {"plain": {"debug": True}}
if sys.version_info >= (3, 12):
    LOOPS["eager"] = {"debug": True, "loop_factory": eager_loop}

# Not in debug mode: from Python 3.12 on, uvloop 0.23 then walks a stack that is not there
# any more, and crashes the process.
UVLOOP = {"uvloop": {"use_uvloop": True}}
if importlib.util.find_spec("uvloop") is None:  # no uvloop on Windows
    UVLOOP = {}

ONLY = os.environ.get("TEST_LOOPS", "plain,eager,uvloop").split(",")
"""
Which of the loops to run on: who tests on several Pythons need not repeat all of them.
"""


def pytest_collection_finish():
    """
    Keep what stays for the whole run out of the collector's way.

    Some tests collect garbage dozens of times; beside thousands of collected tests and
    their modules each would take a tenth of a second.
    """
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc):
    """
    Give every async test its loops.

    uvloop differs from asyncio in its sockets, so only tests that open some pay for a
    third run: those that use the emulator, and those marked `uvloop`. What is slow runs on
    one: a real model, and what is marked `loop` with the name of its own.
    """
    if "anyio_backend" not in metafunc.fixturenames:
        return
    loops, alone = LOOPS, metafunc.definition.get_closest_marker("loop")
    marked = metafunc.definition.get_closest_marker("uvloop")
    if "llama" in metafunc.fixturenames:
        loops = {"plain": LOOPS["plain"]}
    elif "emulator" in metafunc.fixturenames or marked:
        loops = LOOPS | UVLOOP
    if alone:
        (name,) = alone.args
        name = name if name in loops else "plain"
        loops = {name: loops[name]}
    # What runs on one loop only runs on that, whoever asked for others.
    loops = {name: loops[name] for name in loops if name in ONLY} or loops
    metafunc.parametrize(
        "anyio_backend",
        [("asyncio", options) for options in loops.values()],
        ids=loops,
        indirect=True,
    )


@pytest.fixture
def anyio_backend(request):
    """
    The loop of this run; in the place of anyio's own fixture, which would add trio.
    """
    return request.param


@pytest.fixture(autouse=True)
def _blockbuster():
    """
    A call of ours that blocks the loop fails its test.
    """
    with blockbuster_ctx("horay_async") as bb:
        yield bb


@pytest.fixture
async def emulator(anyio_backend):
    """
    A started local Horay and Empower that answers with its input, byte for byte.
    """
    from horay_async.emulator import Emulator

    async with Emulator(mode="echo") as server:
        yield server


@pytest.fixture
async def client(emulator):
    """
    A client of the emulator, as of Horay.
    """
    from horay_async import HORAY, AsyncHoray

    async with AsyncHoray(
        service=HORAY, base_url=emulator.base_url, api_key="key-of-the-tests"
    ) as client:
        yield client
