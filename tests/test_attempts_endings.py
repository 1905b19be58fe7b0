"""
What a call leaves behind: no lease, whatever its hook does, and no error that waits for the
collector.
"""

import asyncio
import gc
import weakref

import pytest

from horay_async import (
    APIError,
    AttemptFailed,
    AttemptStarted,
    CallEnded,
    Outcome,
    Timeouts,
    user,
)
from horay_async.emulator import Answer
from loopback import soon, until


HELLO = [user("hello")]


class Stop(BaseException):
    """
    What ends programs; not asyncio's own, which the loop would pass on.
    """


def stopping(kind):
    """
    A hook that raises at one kind of event.
    """

    def hook(event):
        if isinstance(event, kind):
            raise Stop

    return hook


# When the hook raises what ends programs -------------------------------------------

MOMENTS = {
    "started": (AttemptStarted, None),
    "failed": (AttemptFailed, Answer.json({}, 503, headers=[("retry-after", "60")])),
    "refused": (AttemptFailed, Answer.json({}, 429, headers=[("retry-after", "60")])),
    "ended": (CallEnded, None),
    "ended badly": (CallEnded, Answer.json({}, 400)),
}


@pytest.mark.parametrize(("kind", "scripted"), MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("way", ["plain", "open", "read", "next"])
async def test_a_hook_that_stops_the_program(client, emulator, kind, scripted, way):
    """
    It passes, and the lease is back, the connection closed or kept, no task left.
    """
    if scripted is not None:
        emulator.script(scripted)
    watched = client.with_options(on_event=stopping(kind))
    if way == "plain":
        with pytest.raises(Stop):
            await soon(watched.chat.completions.create(messages=HELLO))
    else:
        stream = watched.chat.completions.stream(messages=HELLO)
        with pytest.raises(Stop):
            if way == "open":
                async with stream:
                    pass
            elif way == "read":
                await soon(stream.get_final_completion())
            else:
                async for _ in stream:
                    pass
        assert stream.outcome is not None
    gates = client._line.governor.snapshot().values()
    assert [gate.in_flight for gate in gates if gate.in_flight] == []
    assert client._line.session.stats().in_use == 0
    await emulator.wait_until_idle()


async def test_in_the_middle_of_a_stream(client, emulator):
    """
    Aborted from elsewhere, it is aborted all the same.
    """
    emulator.script(Answer.chat("word", end="hang", finish=None, done=False))
    watched = client.with_options(on_event=stopping(CallEnded))
    stream = await watched.chat.completions.stream(messages=HELLO).open()
    with pytest.raises(Stop):
        stream.abort("no more")
    assert stream.outcome is Outcome.ABORTED
    assert client._line.session.stats().in_use == 0
    assert client._line.governor.snapshot() == {}
    await emulator.wait_for_disconnect()


# Errors die with their last reference ----------------------------------------------


FAILURES = {
    "refused": [Answer.json({"error": {"message": "no"}}, 400)],
    "refused twice": [Answer.json({}, 503, headers=[("retry-after", "0")])] * 2,
    "rate": [Answer.json({}, 429, headers=[("retry-after", "0")])] * 2,
    "deadline": [Answer(before=[3600.0])],
    "no JSON": [Answer.text("<html>")],
    "an error under 200": [Answer.json({"error": {"message": "no"}})] * 2,
    "cut": [
        Answer(
            headers={"content-type": "application/json", "content-length": "9"},
            body=[b"{"],
            end="close",
        )
    ]
    * 2,
}


@pytest.fixture
def no_collector():
    """
    Only reference counts.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("scripted", FAILURES.values(), ids=FAILURES)
async def test_an_error_dies_at_once(client, emulator, scripted, no_collector):
    """
    A job of a million rows keeps none of its errors' tracebacks.
    """
    emulator.script(*scripted)
    quick = client.with_options(max_retries=len(scripted) - 1)
    try:
        await quick.chat.completions.create(
            messages=HELLO, timeouts=Timeouts(deadline=0.5)
        )
    except APIError as error:
        seen = weakref.ref(error)
    assert seen() is None


@pytest.mark.parametrize("body", [[3600.0], ["{"]])
async def test_a_tasks_error_dies_at_once(client, emulator, body, no_collector):
    """
    The deadline's, which knows the task that has it as its result.
    """
    kind = {"content-type": "application/json"}
    emulator.script(Answer(headers=kind, body=body, end="hang"))
    task = asyncio.create_task(
        client.chat.completions.create(messages=HELLO, timeouts=Timeouts(deadline=0.3))
    )
    await asyncio.wait([task])
    seen = weakref.ref(task.exception())
    del task
    # The loop itself still refers to the task that it has just run.
    await until(lambda: seen() is None)


async def test_a_rows_error_dies_at_once(client, emulator, no_collector):
    """
    The same in a job.
    """
    emulator.script(*[Answer.json({"error": {"message": "no"}}, 400)] * 3)
    seen = []
    async with client.map(["a", "b", "c"], concurrency=1) as job:
        async for row in job:
            seen.append(weakref.ref(row.error))
            del row
    del job
    # The loop itself still refers to the task that it has just run.
    await until(lambda: [one() for one in seen] == [None] * 3)


async def test_no_connection_dies_at_once(no_collector):
    """
    Nobody was there.
    """
    from horay_async import HORAY, AsyncHoray

    nobody = AsyncHoray(service=HORAY, base_url="http://127.0.0.1:1/v1", max_retries=0)
    async with nobody as client:
        try:
            await client.chat.completions.create(messages=HELLO)
        except APIError as error:
            seen = weakref.ref(error)
    assert seen() is None
