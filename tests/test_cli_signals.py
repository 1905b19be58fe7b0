"""
How a command ends when it is told to: Ctrl-C, SIGTERM, once or twice, and at once.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from batching import emulating
from horay_async.cli import _signals
from horay_async.cli._signals import Loop, Stopped, run_async
from horay_async.emulator import Answer
from shell import WAIT, start


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def tell(number):
    """
    Send a signal to this process.
    """
    os.kill(os.getpid(), number)


# A loop ----------------------------------------------------------------------------


@BOTH
def test_work_is_cancelled(number):
    """
    The work hears of it and may clean up; afterwards signals are as they were.
    """
    before = signal.getsignal(number)
    heard = []

    async def work():
        tell(number)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    with pytest.raises(Stopped) as stopped:
        run_async(work())
    assert stopped.value.code == 128 + number
    assert heard == ["cancelled"]
    assert signal.getsignal(number) is before


def test_work_that_ends_all_the_same():
    """
    Work that is done, in spite of it or for other reasons, has its own result.
    """

    async def ends():
        tell(signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "ended"

    async def is_cancelled():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    assert run_async(ends()) == "ended"
    with pytest.raises(asyncio.CancelledError):
        run_async(is_cancelled())


def test_twice_at_the_same_time():
    """
    Two signals within a moment are one: some senders reach us twice.
    """

    async def work():
        tell(signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            tell(signal.SIGTERM)
            tell(signal.SIGINT)
            raise

    with pytest.raises(Stopped) as stopped:
        run_async(work())
    assert stopped.value.number == signal.SIGTERM


def test_ignored(monkeypatch):
    """
    A background job, whose shell has it ignore Ctrl-C, goes on doing so.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:

        async def work():
            tell(signal.SIGINT)
            await asyncio.sleep(0.01)
            return "done"

        assert run_async(work()) == "done"
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_after_the_other():
    """
    A loop goes on after work was stopped; closing it ends what still runs.
    """
    ended = []

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("forever")

    async def begin():
        asyncio.get_running_loop().forever = asyncio.create_task(forever())
        await asyncio.sleep(0)
        tell(signal.SIGINT)
        await asyncio.Event().wait()

    async def value():
        return 7

    with Loop() as loop:
        with pytest.raises(Stopped):
            loop.run(begin())
        assert not ended
        assert loop.run(value()) == 7
    assert ended == ["forever"]


def test_a_thread_that_waits(monkeypatch):
    """
    A thread that cannot be told to stop holds up neither the loop's end nor the process's.
    """
    release = threading.Event()

    async def work():
        asyncio.get_running_loop().run_in_executor(None, release.wait, WAIT)
        await asyncio.sleep(0)
        return "done"

    left = []
    monkeypatch.setattr(_signals.os, "_exit", left.append)
    try:
        assert run_async(work()) == "done"
        assert not release.is_set()
        _signals.end(3)
        assert left == [3]
    finally:
        release.set()


def test_no_thread_waits(monkeypatch):
    """
    Without one the process ends as usual.
    """
    monkeypatch.setattr(_signals.os, "_exit", lambda _: pytest.fail("left"))
    monkeypatch.setattr(
        _signals.threading, "enumerate", lambda: [threading.main_thread()]
    )
    _signals.end(0)


# A command -------------------------------------------------------------------------


SLOW_NAMES = """
import socket, sys, threading

def getaddrinfo(*_, **__):
    print("asked", file=sys.stderr, flush=True)
    threading.Event().wait()

socket.getaddrinfo = getaddrinfo
"""


@BOTH
def test_waiting_for_a_name_server(tmp_path, number):
    """
    A name server that does not answer does not keep a command from ending.
    """
    (tmp_path / "sitecustomize.py").write_text(SLOW_NAMES)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    env = {"HORAY_API_KEY": "k", "PYTHONPATH": path}
    with start("chat", "hi", env=env) as process:
        assert process.stderr.readline() == "asked\n"
        process.send_signal(number)
        assert process.wait(WAIT) == 128 + number
        assert not process.stderr.read()


def test_twice(tmp_path):
    """
    Whoever insists is heard, even while a full pipe holds up everything.
    """
    with emulating() as server:
        endless = (f"{number} " * 5000 for number in range(10000))
        server.script(Answer.chat(*endless))
        with start("chat", "hi", *server.words) as process:
            assert process.stdout.read(1) == "0"
            # Nobody reads on; how soon the pipe is full depends on the system.
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(0.5)
                except subprocess.TimeoutExpired:
                    continue
            assert process.returncode == 130
            assert "Traceback" not in process.stderr.read()
