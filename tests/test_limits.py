"""
Limits: our error when time runs out, another when somebody stops it, and no cancellation lost.
"""

import asyncio

import pytest

from horay_async._errors import DeadlineExceeded, StreamAbortedError
from horay_async._limits import Limits
from loopback import soon, until


def late():
    """
    The error of a clock.
    """
    return DeadlineExceeded("too late")


async def for_ever():
    """
    What only a limit ends.
    """
    await asyncio.Event().wait()


def moment(seconds):
    """
    So many seconds from now, by the loop's clock.
    """
    return asyncio.get_running_loop().time() + seconds


async def test_in_time():
    """
    A limit that is not reached changes nothing, and none is none.
    """
    limits = Limits()
    for when in (moment(60), None):
        async with limits.until(when, late):
            await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError):
            async with limits.until(when, late):
                raise ZeroDivisionError


@pytest.mark.parametrize("seconds", [0.01, 0, -1])
async def test_too_late(seconds):
    """
    The clock's error, without the machinery behind it.
    """
    limits = Limits()
    with pytest.raises(DeadlineExceeded) as caught:
        async with limits.until(moment(seconds), late):
            await for_ever()
    assert caught.value.__cause__ is None
    # Kept out of sight it would still hold the frames of the call, and they this error.
    assert caught.value.__context__ is None
    # The task goes on as if nothing had been.
    await asyncio.sleep(0)
    assert not asyncio.current_task().cancelling()


async def test_stopped():
    """
    Whoever waits gets the error; so does who comes later.
    """
    limits, error = Limits(), StreamAbortedError("stop")

    async def wait():
        async with limits.until(None, late):
            await for_ever()

    task = asyncio.create_task(wait())
    await until(lambda: limits._current)
    limits.stop(error)
    limits.stop(error)
    for waiting in (task, wait()):
        with pytest.raises(StreamAbortedError) as caught:
            await soon(waiting)
        assert caught.value is error
    assert limits.stopped is error


async def test_stopped_as_the_time_runs_out():
    """
    The two meet in one turn of the loop: no mistake of ours, and the stop is what is told.
    """
    limits, error = Limits(), StreamAbortedError("stop")
    loop = asyncio.get_running_loop()
    stopped = []

    def stop():
        assert limits._current.expired()
        limits.stop(error)
        stopped.append(True)

    with pytest.raises(StreamAbortedError):
        async with limits.until(None, late):
            timeout = limits._current
            timeout.reschedule(loop.time())
            # After the clock's own callback, before the task that it wakes.
            loop.call_soon(stop)
            await for_ever()
    assert stopped == [True]


async def test_a_cancellation_passes():
    """
    From elsewhere; also in the turn in which time runs out.
    """
    limits = Limits()

    async def wait(when):
        async with limits.until(when, late):
            await for_ever()

    task = asyncio.create_task(wait(None))
    await until(lambda: limits._current)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)

    task = asyncio.create_task(wait(moment(60)))
    await until(lambda: limits._current)
    limits._current.reschedule(asyncio.get_running_loop().time())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
