"""
What a hook hears, and in which order, when the deadline ends a call.
"""

import asyncio

from types import SimpleNamespace

import pytest

from horay_async import APIStatusError, DeadlineExceeded, RateLimitError, Timeouts, user
from horay_async.emulator import Answer
from loopback import soon


HELLO = [user("hello")]

BUSY = Answer.json({}, 503, headers=[("retry-after", "0.01")])

LIMITED = Answer.json({}, 429, headers=[("retry-after", "60")])

TRIED = ["AttemptStarted", "AttemptFailed", "CallEnded"]

STATES = {
    "without an answer": (DeadlineExceeded, TRIED),
    "in a refusal": (APIStatusError, TRIED),
    "in the queue": (DeadlineExceeded, ["CallEnded"]),
    "between attempts": (DeadlineExceeded, TRIED),
}


async def for_ever(seconds):
    """
    A sleep that oversleeps.
    """
    await asyncio.Event().wait()


@pytest.mark.parametrize("way", ["plain", "open", "read"])
@pytest.mark.parametrize("state", STATES)
async def test_deadline(client, emulator, monkeypatch, way, state):
    """
    An attempt's failure comes before the call's end, whatever rings first.
    """
    kind, expected = STATES[state]
    told = []
    watched = client.with_options(timeouts=Timeouts(deadline=0.3), on_event=told.append)
    if state == "without an answer":
        emulator.script(Answer(before=[3600.0]))
    elif state == "in a refusal":
        # Refused at the last moment, so that there is no time to try again.
        emulator.script(Answer(status=503, body=["no"], end="hang"))
    elif state == "between attempts":
        emulator.script(BUSY)
        # There alone: everybody else's sleep stays as it is.
        named = {"get_running_loop": asyncio.get_running_loop, "sleep": for_ever}
        monkeypatch.setattr("horay_async._attempts.asyncio", SimpleNamespace(**named))
    else:
        emulator.script(LIMITED)
        with pytest.raises(RateLimitError):
            await client.with_options(max_retries=0).chat.completions.create(
                messages=HELLO
            )
    chat = watched.chat.completions
    with pytest.raises(kind) as caught:
        if way == "plain":
            await soon(chat.create(messages=HELLO))
        elif way == "open":
            await soon(chat.stream(messages=HELLO).open())
        else:
            await soon(chat.stream(messages=HELLO).get_final_completion())
    assert [type(event).__name__ for event in told] == expected
    assert told[-1].error is caught.value
