"""
The emulator on a thread of its own: its life, its script, and what it saw.
"""

import asyncio
import json
import os
import queue
import re
import subprocess
import sys
import threading

import pytest

from horay_async import HORAY, AsyncHoray, user
from horay_async.emulator import Answer
from horay_async.testing import LiveEmulator, _threads, refusal, reply
from live import asked, connected, post, server
from shell import HOUSE


__all__ = ["server"]


def content(body):
    return body["choices"][0]["message"]["content"]


# Its script ------------------------------------------------------------------------


def test_it_echoes(server):
    """
    Horay and Empower, without a script.
    """
    status, body = asked(server)
    assert (status, content(body)) == (200, "Hello, you!")
    assert server.base_url == f"{server.address}/v1"
    assert server.empower_base_url == f"{server.address}/api/v1"
    with connected(server) as connection:
        path = "/api/v1/chat/completions"
        response = post(connection, path=path, model="empower-functions")
        assert content(json.load(response)) == "Hello, you!"


def test_answers_in_order(server):
    """
    Everything that an answer can be; then the echo goes on.
    """
    server.script(refusal(503), reply("One."), None)
    server.script(lambda _: refusal(418), "event-invalid-json")
    seen = [asked(server) for _ in range(4)]
    assert [status for status, _ in seen] == [503, 200, 200, 418]
    assert [content(body) for _, body in seen[1:3]] == ["One.", "Hello, you!"]
    with pytest.raises(json.JSONDecodeError):
        asked(server)
    assert asked(server)[0] == 200
    assert [request.number for request in server.requests] == [1, 2, 3, 4, 5, 6]


def test_an_unknown_fault(server):
    """
    It is told at once, where it was written.
    """
    with pytest.raises(ValueError, match=r"reset-mid-chunk"):
        server.script(None, "reset-mid-chunks")
    assert asked(server)[0] == 200
    server.close()


def test_an_answer_made_of_the_question(server):
    """
    A function may return whatever script() takes.
    """

    async def later(request):
        return lambda _: refusal(418)

    server.script(lambda request: reply(request.json["messages"][0]["content"]), later)
    assert content(asked(server, "A lake?")[1]) == "A lake?"
    assert asked(server)[0] == 418
    server.close()


def test_what_is_no_answer(server):
    with pytest.raises(TypeError, match=r"script\(first, second\)"):
        server.script([reply("a"), reply("b")])
    with (
        pytest.raises(RuntimeError, match=r"reply\(\) takes") as caught,
        LiveEmulator() as other,
    ):
        other.script(reply)
        assert asked(other)[0] == 500
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_port_that_refuses(server):
    """
    The script holds from its call on, for connections as well.
    """
    released = server.hold()
    server.script(Answer(at="listen", before=[released]))
    with pytest.raises(ConnectionRefusedError):
        asked(server)
    released.release()


def test_functions_run_over_there(server):
    """
    They may use the emulator themselves, and may be async.
    """
    threads = []

    async def later(request):
        await asyncio.sleep(0)
        threads.append(threading.current_thread().name)
        server.script(reply("Later."))
        assert server.requests == [request]
        assert server.is_idle(within=0).requests == [request]
        return reply("Now.")(request)

    server.script(later)
    assert [content(asked(server)[1]) for _ in range(2)] == ["Now.", "Later."]
    assert threads == ["horay-emulator"]
    server.close()


@pytest.mark.parametrize("event", [asyncio.Event(), threading.Event()], ids=repr)
def test_an_event_is_refused(server, event):
    """
    Nobody could set one on that thread; it would wait for ever.
    """
    for answer in (Answer.chat("Black", event), Answer(before=(event,))):
        with pytest.raises(TypeError, match=r"hold\(\)"):
            server.script(answer)
    with pytest.raises(TypeError, match=r"hold\(\)"):
        reply("Black", event)


def test_a_hold(server):
    """
    The answer comes so far, and goes on when it is told to; then it holds nothing.
    """
    hold = server.hold()
    server.script(reply("Black", hold, " Sea"), reply(hold, "Red", hold))
    with connected(server) as connection:
        response = post(connection, stream=True)
        while b"Black" not in response.readline():
            assert not response.isclosed()
        assert server.open_streams == 1
        hold.release()
        assert b" Sea" in response.read()
    assert content(asked(server)[1]) == "Red"


def test_a_hold_of_another(server):
    """
    It would wait where nobody wakes it.
    """
    with pytest.raises(RuntimeError, match="another emulator"), LiveEmulator() as other:
        other.script(reply("Black", server.hold(), " Sea"))
        assert asked(other)[0] == 500


# What it saw -----------------------------------------------------------------------


def test_what_is_over_is_over(server):
    """
    Whoever has read an answer need not wait for the emulator to know.
    """
    with connected(server) as connection:
        for number in range(1, 31):
            stream = number % 2 == 0
            post(connection, stream=stream).read()
            assert server.open_requests == []
            assert server.open_streams == 0
            assert [request.fate for request in server.requests] == [
                "finished"
            ] * number
        assert (server.connections, server.open_connections) == (1, 1)
    assert server.disconnects == []


@pytest.mark.uvloop
async def test_in_an_async_test(server):
    """
    On any loop; nothing counts as blocking it.
    """
    options = {"service": HORAY, "base_url": server.base_url, "api_key": "any"}
    async with AsyncHoray(**options) as client:
        server.script(reply("Black", server.hold(), " Sea"))
        async with client.chat.completions.stream(messages=[user("A sea?")]) as stream:
            async for token in stream:
                assert token.text == "Black"
                assert server.open_streams == 1
                break
        assert await server.saw_disconnect()
        assert server.open_streams == 0
    assert [request.fate for request in server.disconnects] == ["disconnected"]


# Its end ---------------------------------------------------------------------------


def test_what_failed():
    """
    A function that raises is a 500 for the client, and an error for the test.
    """
    with pytest.raises(RuntimeError) as caught, LiveEmulator() as server:
        server.script(*[lambda _: 1 / 0] * 2)
        assert [asked(server)[0] for _ in range(2)] == [500, 500]
        assert len(server.errors) == 2
    assert re.search(r"ZeroDivisionError.*\(and 1 more\)", str(caught.value))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("end", [pytest.fail, sys.exit])
def test_what_is_no_error(end):
    """
    What pytest's own ways of failing raise is none of Python's errors, and still arrives.
    """
    with pytest.raises(RuntimeError, match="no more calls"), LiveEmulator() as server:
        server.script(lambda _: end("no more calls"))
        assert asked(server)[0] == 500


def test_what_nobody_asked_for():
    with pytest.raises(AssertionError) as caught, LiveEmulator() as server:
        server.script(None, refusal(429), reply("a"), "refused", None)
        asked(server)
    left = (
        'POST: an answer with status 429, POST: a function, POST: the fault "refused"'
    )
    assert f"({left}, POST: the normal answer)" in str(caught.value)
    assert "clear_script()" in str(caught.value)
    assert "1 request (0 open" in str(caught.value)


def test_what_was_cleared():
    with LiveEmulator() as server:
        server.script(None)
        server.script(None, method="GET")
        server.clear_script()


def test_an_error_of_the_block():
    """
    It is not hidden by what comes of it.
    """
    with pytest.raises(KeyError), LiveEmulator() as server:
        server.script(None)
        raise KeyError


def test_after_its_end():
    """
    What it saw can still be read; what hung is dropped, and nothing can be told it.
    """
    with LiveEmulator() as server:
        hold = server.hold()
        server.script(reply("Black", hold))
        with connected(server) as connection:
            post(connection, stream=True)
            server.close()
            assert [request.fate for request in server.requests] == ["dropped"]
            assert server.is_idle()
            assert not server.saw_disconnect()
    server.close()
    hold.release()
    with pytest.raises(RuntimeError, match="closed"):
        server.script(None)
    with pytest.raises(RuntimeError, match="already"):
        server.start()
    assert "horay-emulator" not in [thread.name for thread in threading.enumerate()]


def test_no_second_start(server):
    with pytest.raises(RuntimeError, match="already"):
        server.start()
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(OSError, match=r"address"):
        LiveEmulator(port=port).start()
    with pytest.raises(ValueError, match="mode"):
        LiveEmulator(mode="parrot")


def test_before_its_start():
    """
    A script may be written before. It is nowhere yet, and sees nothing.
    """
    server = LiveEmulator()
    server.script(reply("One."))
    for ask in (
        lambda: server.address,
        lambda: server.base_url,
        lambda: server.empower_base_url,
        lambda: server.saw_request(within=0),
    ):
        with pytest.raises(RuntimeError, match="has not been started"):
            ask()
    assert "0 requests" in repr(server)
    with server:
        assert content(asked(server)[1]) == "One."


def test_a_function_that_blocks(server, monkeypatch):
    """
    Nobody waits for ever for a thread that does not answer.
    """
    monkeypatch.setattr(_threads, "_PATIENCE", 0.05)
    entered, release = queue.SimpleQueue(), queue.SimpleQueue()

    def block(request):
        entered.put(None)
        release.get(timeout=10)

    server.script(block)
    with connected(server) as connection:
        connection.connect()
        connection.putrequest("POST", "/v1/chat/completions")
        connection.endheaders()
        entered.get(timeout=10)
        with pytest.raises(RuntimeError, match="a function of the script"):
            server.requests  # noqa: B018
        with pytest.raises(RuntimeError, match="a function of the script"):
            server.close()
        release.put(None)


# Processes -------------------------------------------------------------------------


def run(code):
    """
    What a fresh Python says that has no pytest; nothing else may be said.
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        capture_output=True,
        check=False,
        cwd=HOUSE,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_without_pytest_and_without_an_end():
    """
    A program that forgets to close it ends all the same, in peace.
    """
    code = """
import sys
sys.modules["pytest"] = None
from horay_async.testing import LiveEmulator, instant_retries, reply
import urllib.request
server = LiveEmulator()
server.start()
server.script(reply("x"), reply("x", server.hold()))
url = f"{server.base_url}/chat/completions"
with instant_retries(), urllib.request.urlopen(url, b"{}") as response:
    print(response.status)
watching = server.saw_request(count=2)
"""
    assert run(code) == ["200"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_after_a_fork():
    """
    A child of the test can use the server; only its parent can ask it anything.
    """
    code = """
import os, urllib.request, warnings
warnings.simplefilter("ignore")
from horay_async.testing import LiveEmulator, reply
with LiveEmulator() as server:
    server.script(reply("x"))
    child = os.fork()
    if child == 0:
        try:
            server.requests
        except RuntimeError as error:
            print("child", "fork" in str(error), flush=True)
        server.close()
        url = f"{server.base_url}/chat/completions"
        with urllib.request.urlopen(url, b"{}") as response:
            print(response.status, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(len(server.requests))
"""
    assert run(code) == ["child", "True", "200", "1"]


def test_without_h11():
    """
    The one sentence that says what is missing.
    """
    code = """
import sys
sys.modules["h11"] = None
try:
    import horay_async.testing
except ImportError as error:
    print(str(error).replace(" ", "_"))
"""
    [said] = run(code)
    assert "horay-async[emulator]" in said
