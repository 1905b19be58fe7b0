"""
The local model itself: a real llama.cpp, started, asked, ended, and killed.
"""

import asyncio
import contextlib
import http.client
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import horay_async

from horay_async import (
    APIConnectionError,
    AsyncHoray,
    BadRequestError,
    InvalidRequestError,
    Range,
    user,
)
from horay_async.local import LocalModel, LocalModelError, _server
from horay_async.local._errand import outlast
from processes import alive, wait_until


HELLO = [user("Hello?")]

pytestmark = [pytest.mark.timeout(120)]


def ask(server, path):
    """
    What a llama.cpp says of itself.
    """
    connection = http.client.HTTPConnection(server.base_url.split("/")[2], timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return json.load(connection.getresponse())


# Alive ------------------------------------------------------------------------------


async def test_answers(llama, children, anyio_backend):
    """
    Ready when it says so; gone when it is closed.
    """
    async with LocalModel(slots=2) as server:
        assert server.base_url.startswith("http://127.0.0.1:")
        assert server.base_url.endswith("/v1")
        assert await asyncio.to_thread(ask, server, "/health") == {"status": "ok"}
        async with AsyncHoray(service=server.service) as client:
            reply = await client.chat.completions.create(messages=HELLO, max_tokens=4)
            text = await client.completions.create(prompt="The sea", max_tokens=4)
            with pytest.raises(InvalidRequestError, match="the local model documents"):
                await client.chat.completions.create(messages=HELLO, n=3)
    assert reply.text
    assert text.text
    assert reply.model == server.model == "SmolLM2-135M-Instruct"
    assert server.title == "SmolLM2-135M (llama.cpp) on this machine"
    assert [child.poll() is None for child in children] == [False]


RUNNERS = {"asyncio": asyncio.run}
if importlib.util.find_spec("uvloop"):  # not on Windows
    import uvloop

    RUNNERS["uvloop"] = uvloop.run


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_loop_after_loop(run, llama):
    """
    It belongs to no loop: started on one, asked on the next, closed on a third.
    """
    server = LocalModel(slots=1)

    async def chat():
        async with AsyncHoray(service=server.service) as client:
            return await client.chat.completions.create(messages=HELLO, max_tokens=4)

    for _ in range(2):
        run(server.start())
        assert run(chat()).text
        run(server.close())


async def test_life(llama, children):
    """
    Used before its start and after its end it says so; it can be started again.
    """
    server = LocalModel()
    for _ in range(2):
        with pytest.raises(
            LocalModelError, match="the local model is not running: use"
        ):
            assert server.base_url
        with pytest.raises(LocalModelError, match="not running"):
            assert server.service
        await server.start()
        assert server.service.base_url == server.base_url
        with pytest.raises(LocalModelError, match="already started"):
            await server.start()
        await server.close()
        await server.close()
    assert [child.poll() is None for child in children] == [False, False]


async def test_started_twice_at_once(llama, children):
    server = LocalModel()
    results = await asyncio.gather(
        server.start(), server.start(), return_exceptions=True
    )
    await server.close()
    assert results[0] is server
    assert str(results[1]) == "the local model is already started"
    assert len(children) == 1


async def test_nobody_else_says_where_it_is(llama, anyio_backend):
    """
    The server logs what its callers send, and each of them could send an address.
    """
    forged = "http://elsewhere.example"
    async with (
        LocalModel() as server,
        AsyncHoray(service=server.service) as client,
    ):
        before = server.base_url
        with pytest.raises(BadRequestError, match="grammar"):
            await client.chat.completions.create(
                messages=HELLO, extra_body={"grammar": f"\n<<{forged}>>\n{forged}\n"}
            )
        log = server._run.child.log
        await asyncio.to_thread(
            wait_until, lambda: any(line == forged for line in log.lines)
        )
        assert server.base_url == server.service.base_url == before


def test_service(llama):
    """
    What our client must know: no key, one model, and how many choices it can write.
    """
    service = llama.service
    assert service.base_url == llama.base_url
    assert service.key_variable is None
    for endpoint in service.chat, service.completions:
        assert endpoint.model == llama.model
        assert endpoint.limits["n"] == Range(1, 4)
        assert 0 in endpoint.limits["temperature"]
        assert -1 not in endpoint.limits["temperature"]
    assert service.images is None


async def test_defaults(llama, anyio_backend):
    """
    The model's own, where a request says nothing.
    """

    async def used(**fields):
        await client.chat.completions.create(messages=HELLO, **fields)
        slots = await asyncio.to_thread(ask, server, "/slots")
        return next(slot["params"] for slot in slots if "params" in slot)

    async with (
        LocalModel(slots=1) as server,
        AsyncHoray(service=server.service) as client,
    ):
        params = await used(stop=["e"])
        assert params["temperature"] == pytest.approx(0.2)
        assert params["repeat_penalty"] == pytest.approx(1.1)
        assert params["max_tokens"] == 1024
        params = await used(
            max_tokens=2, temperature=0, extra_body={"repeat_penalty": 1}
        )
        assert params["temperature"] == 0
        assert params["repeat_penalty"] == 1
        assert params["max_tokens"] == 2


async def test_the_end_of_the_context(llama, anyio_backend):
    """
    An answer that never ends is cut there, and says so.
    """
    async with (
        LocalModel(slots=1, context=256) as server,
        AsyncHoray(service=server.service) as client,
    ):
        reply = await client.chat.completions.create(
            messages=HELLO, extra_body={"ignore_eos": True}
        )
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.total_tokens == 256


async def test_a_model_of_ones_own(llama, tmp_path, anyio_backend):
    """
    Any GGUF file, with llama.cpp's settings; its name is the file's.
    """
    path = tmp_path / "mein modell ü.v2.gguf"
    path.symlink_to(ask(llama, "/props")["model_path"])
    async with LocalModel(gguf=str(path)) as server:
        assert server.model == "mein modell ü.v2"
        assert server.title == "mein modell ü.v2.gguf"
        props = await asyncio.to_thread(ask, server, "/props")
        async with AsyncHoray(service=server.service) as client:
            reply = await client.chat.completions.create(messages=HELLO, max_tokens=4)
    assert props["default_generation_settings"]["params"]["repeat_penalty"] == 1
    assert reply.text
    assert reply.model == "mein modell ü.v2"


async def test_quiet(llama, capfd):
    async with LocalModel():
        pass
    assert capfd.readouterr() == ("", "")


async def test_verbose(llama, capfd):
    """
    The server's own log, on stderr.
    """
    async with LocalModel(verbose=True):
        pass
    out, err = capfd.readouterr()
    assert out == ""
    assert "model loaded" in err


async def test_verbose_without_stderr(llama, monkeypatch):
    """
    A program in the background may have none, or a closed one.
    """
    monkeypatch.setattr(sys, "stderr", None)
    async with LocalModel(verbose=True):
        pass
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    async with LocalModel(verbose=True):
        pass


# The end ----------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 0.05, 0.1, 0.2, 0.3, 0.4])
async def test_cancelled_start(after, llama, children):
    """
    Whenever that comes, no process is left.
    """
    server = LocalModel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(after):
            await server.start()
            await asyncio.Event().wait()
    await server.close()
    assert not any(child.poll() is None for child in children)


async def test_cancelled_when_it_is_ready(llama, children, monkeypatch):
    """
    Nobody would close what nobody got.
    """

    async def watch(self, run):
        await outlast(run.started)
        assert children[0].poll() is None
        raise asyncio.CancelledError

    monkeypatch.setattr(LocalModel, "_watch", watch)
    with pytest.raises(asyncio.CancelledError):
        await LocalModel().start()
    assert children[0].poll() is not None


async def test_cancelled_again_and_again(llama, children, monkeypatch):
    """
    Somebody impatient does not keep it from clearing up.
    """
    monkeypatch.setattr(_server, "_SERVER", "time.sleep(60)")
    start = asyncio.create_task(LocalModel().start())
    async with asyncio.timeout(10):
        while not start.done():
            if children:
                start.cancel()
            await asyncio.sleep(0)
    assert start.cancelled()
    assert children[0].poll() is not None


async def test_no_free_thread_in_the_pool(llama, children):
    """
    Whoever holds those of the loop may wait for us.
    """
    loop, release = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    held = loop.run_in_executor(None, release.wait, 60)
    server = LocalModel()
    try:
        async with asyncio.timeout(30):
            await server.start()
            await server.close()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await server.start()
        assert not held.done()
        assert not any(child.poll() is None for child in children)
    finally:
        release.set()
        await held


async def test_closed_before_its_end_is_awaited(llama, children, monkeypatch):
    """
    Whatever the wait is for, the server is killed already.
    """

    def in_thread(_):
        raise RuntimeError("can't start new thread")

    server = await LocalModel().start()
    child = server._run.child  # forgotten, it would end by itself
    monkeypatch.setattr(_server, "in_thread", in_thread)
    with pytest.raises(RuntimeError):
        await server.close()
    assert await asyncio.to_thread(children[0].wait, 10) == -signal.SIGKILL
    child.end()


@pytest.mark.parametrize("loading", [False, True], ids=["at once", "loading"])
async def test_closed_while_it_starts(loading, llama, children, monkeypatch):
    """
    Whoever closes it waits for the end, and whoever starts it is told.
    """
    monkeypatch.setattr(_server, "_SERVER", "time.sleep(60)")
    server = LocalModel()
    start = asyncio.create_task(server.start())
    async with asyncio.timeout(30):
        await asyncio.sleep(0)
        if loading:
            await asyncio.to_thread(wait_until, lambda: children)
        await server.close()
        assert not any(child.poll() is None for child in children)
        with pytest.raises(LocalModelError, match="closed while it was starting"):
            await start
    with pytest.raises(LocalModelError, match="not running"):
        assert server.base_url


async def test_closed_when_it_is_ready(llama, children):
    """
    Nobody gets a server that is gone, though it was ready just then. The next start is
    another.
    """
    server = LocalModel()
    start = asyncio.create_task(server.start())
    await asyncio.sleep(0)
    server._run.started.exception(60)  # holds up the loop, so that it is not told
    await server.close()
    again = asyncio.create_task(server.start())
    with pytest.raises(LocalModelError, match="closed while it was starting"):
        await start
    await again
    assert [child.poll() is None for child in children] == [False, True]
    assert server.base_url
    await server.close()


async def test_cancelled_close(llama, children, monkeypatch):
    """
    The cancellation waits for the end of the server.
    """
    server = await LocalModel().start()
    child = server._run.child
    end, ending, go = child.end, threading.Event(), threading.Event()

    def slowly():
        ending.set()
        go.wait(10)
        end()

    monkeypatch.setattr(child, "end", slowly)
    close = asyncio.create_task(server.close())
    await asyncio.to_thread(ending.wait, 10)
    close.cancel()
    await asyncio.sleep(0)
    assert not close.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await close
    assert children[0].poll() is not None


async def test_dies_in_use(llama, children):
    """
    Calls fail as on any lost connection, and `close` has nothing to wait for.
    """
    async with (
        LocalModel() as server,
        AsyncHoray(service=server.service, max_retries=0) as client,
    ):
        children[0].kill()
        await asyncio.to_thread(children[0].wait)
        with pytest.raises(APIConnectionError):
            await client.chat.completions.create(messages=HELLO)


async def test_no_ctrl_c(llama, children):
    """
    A terminal sends that to the process group in its foreground: the child has its own.
    """
    async with LocalModel():
        assert os.getsid(children[0].pid) == children[0].pid != os.getsid(0)


PROGRAM = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(horay_async.__file__).parents[1])!r})
from horay_async.local import LocalModel

async def main():
    async with LocalModel() as server:
        print(server._run.child._process.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_program_that_is_killed(how, llama):
    """
    The whole of it: no model server is left behind.
    """
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        child = int(process.stdout.readline())
        assert alive(child)
        process.send_signal(how)
        process.communicate(timeout=20)
        wait_until(lambda: not alive(child))
