"""
A stream that nobody closes: it is closed by its collection, which says where it was opened.
"""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings

from contextlib import aclosing
from types import SimpleNamespace

import pytest

from horay_async import Outcome, user
from horay_async.emulator import Answer
from loopback import soon


HELLO = [user("hello")]

FILE = __file__


def here():
    """
    The number of the line that calls this.
    """
    return sys._getframe(1).f_lineno


@pytest.fixture
def endless(emulator):
    """
    Streams that say one word and then fall silent for ever.
    """
    word = Answer.chat("word", end="hang", finish=None, done=False)
    emulator.script(*[word] * 8)
    return emulator


def forgotten(make):
    """
    The one warning that is given when what *make* returns is forgotten.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
        gc.collect()
    (warning,) = caught
    assert warning.category is ResourceWarning
    return warning


async def test_create(client, endless):
    """
    The line that called `create`, though coroutines of ours lie between.
    """
    stream = await client.chat.completions.create(messages=HELLO, stream=True)
    line = here() - 1
    box = [stream]
    del stream
    warning = forgotten(box.clear)
    assert (warning.filename, warning.lineno) == (FILE, line)
    text = str(warning.message)
    assert text == (
        f"<TokenStream open, 0 pieces>, opened at {FILE}:{line}, was never closed:"
        " use `async with`"
    )
    await endless.wait_for_disconnect()


async def opened_by_wait_for(client):
    return await asyncio.wait_for(
        client.chat.completions.create(messages=HELLO, stream=True), 5
    )


async def test_through_asyncio(client, endless):
    """
    asyncio's own functions are not where it was opened; where a task was made is not known
    before Python 3.12, whose `wait_for` makes none.
    """
    box = [await opened_by_wait_for(client)]
    warning = forgotten(box.clear)
    first = opened_by_wait_for.__code__.co_firstlineno
    if sys.version_info >= (3, 12):
        assert warning.filename == FILE
        assert first < warning.lineno <= first + 3
    else:
        assert "opened at" not in str(warning.message)


@pytest.mark.parametrize("form", ["stream", "text"])
async def test_the_other_forms(client, endless, form):
    """
    A stream that was opened by hand; a text's.
    """
    if form == "stream":
        stream = await client.chat.completions.stream(messages=HELLO).open()
        line = here() - 1
    else:
        stream = await client.completions.stream(prompt="x").open()
        line = here() - 1
    box = [stream]
    del stream
    warning = forgotten(box.clear)
    assert (warning.filename, warning.lineno) == (FILE, line)


async def test_in_a_task_of_its_own(client, endless):
    """
    Nobody called but the loop: then no place is better than a wrong one.
    """
    make = client.chat.completions.create(messages=HELLO, stream=True)
    box = [asyncio.create_task(make)]
    await box[0]
    await asyncio.sleep(0)  # the loop itself refers to it for this turn
    warning = forgotten(box.clear)
    assert "opened at" not in str(warning.message)


async def test_on_another_thread(client, endless):
    """
    Wherever it is collected, it is closed in its loop, and the place is known.
    """
    stream = await client.chat.completions.create(messages=HELLO, stream=True)
    line = here() - 1
    inner, box = stream.stream, [stream]
    outcome = type(inner).outcome.__get__(inner)
    assert outcome is None
    del stream, inner

    def collect():
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await asyncio.to_thread(collect)
    assert [(each.filename, each.lineno) for each in caught] == [(FILE, line)]
    await endless.wait_for_disconnect()
    assert client._line.governor.snapshot() == {}


async def test_what_was_closed_says_nothing(client, endless):
    """
    Each way of closing is one.
    """
    streams = []
    for way in ("close", "abort", "aclosing", "with"):
        stream = await client.chat.completions.create(messages=HELLO, stream=True)
        if way == "aclosing":
            async with aclosing(stream):
                pass
        elif way == "with":
            async with stream:
                pass
        else:
            getattr(stream, way)()
        assert stream.outcome in {Outcome.CLOSED, Outcome.ABORTED}
        streams.append(stream)
    never_opened = client.chat.completions.stream(messages=HELLO)
    del stream, never_opened, streams
    gc.collect()
    await soon(endless.wait_until_idle())


async def test_in_a_forked_child(client, endless, monkeypatch):
    """
    There the parent goes on reading it: no warning, and no word to the parent's loop.
    """
    stream = await client.chat.completions.create(messages=HELLO, stream=True)
    inner, loop = stream.stream, asyncio.get_running_loop()
    told = []
    for room in ("_flow", "_stream"):
        monkeypatch.setattr(f"horay_async.{room}.inherited", bool)
    # A loop of uvloop's takes no other methods.
    inner._loop = SimpleNamespace(
        is_closed=lambda: False, call_soon_threadsafe=lambda *args: told.append(args)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inner.__del__()
    assert (told, inner.outcome) == ([], Outcome.CLOSED)
    inner._loop = loop


SCRIPT = """
import asyncio, sys
from horay_async import HORAY, AsyncHoray, user

KEPT = []

async def main():
    from horay_async.emulator import Answer, Emulator
    server = await Emulator(mode="echo").__aenter__()
    server.script(Answer.chat("word", end="hang", done=False, finish=None))
    client = AsyncHoray(service=HORAY, base_url=server.base_url, api_key="key")
    stream = client.chat.completions.stream(messages=[user("x")])
    tokens = aiter(stream)
    print((await anext(tokens)).text)
    KEPT.extend([client, stream, tokens])
    if sys.argv[1] == "exit":
        sys.exit(0)
    if sys.argv[1] == "raise":
        raise ValueError("of the user's")
    if sys.argv[1] == "stop":
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)

if sys.argv[1] == "stop":
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    except RuntimeError:
        pass
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("way", "flags"),
    [
        ("end", []),
        ("exit", []),
        ("raise", ["-X", "dev"]),
        ("stop", []),
        ("stop", ["-X", "dev"]),
    ],
)
def test_at_the_end_of_the_program(way, flags):
    """
    A stream that is still open then: no traceback, and the program's own exit code.
    """
    done = subprocess.run(
        [sys.executable, *flags, "-c", SCRIPT, way],
        env={**os.environ, "PYTHONWARNINGS": ""},
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )
    assert done.stdout == "word\n"
    assert done.returncode == (way == "raise")
    trouble = done.stderr
    if way == "raise":
        assert trouble.count("Traceback") == 1
        assert "ValueError: of the user's" in trouble
    else:
        assert "Traceback" not in trouble
    assert "Exception ignored" not in trouble
    if not flags and way in {"end", "exit"}:
        assert trouble == ""
