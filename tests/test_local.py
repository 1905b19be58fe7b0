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

from pathlib import Path

import pytest

import horay_async

from horay_async import (
    APIConnectionError,
    AsyncHoray,
    ConfigurationError,
    InvalidRequestError,
    Range,
    user,
)
from horay_async.local import LocalModel, LocalModelError, _children, _server
from processes import alive, wait_until


HELLO = [user("Hello?")]

pytestmark = [pytest.mark.timeout(120)]


@pytest.fixture
def children(monkeypatch):
    """
    All processes that are started, in their order.
    """
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(_children.subprocess, "Popen", Popen)
    return started


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
            server.base_url  # noqa: B018
        with pytest.raises(LocalModelError, match="not running"):
            server.service  # noqa: B018
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
    assert "<<" not in err


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


# Errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"slots": 0}, "slots is 0, expected a whole number, at least 1"),
        ({"slots": True}, "slots is True, expected a whole number, at least 1"),
        ({"context": "4k"}, "context is '4k', expected a whole number, at least 1"),
        ({"threads": 1.5}, "threads is 1.5, expected a whole number, at least 1"),
        ({"port": -1}, "port is -1, expected a whole number, 0 to 65535"),
        ({"port": 65536}, "port is 65536, expected a whole number, 0 to 65535"),
    ],
)
def test_numbers(option, message):
    with pytest.raises(ConfigurationError) as raised:
        LocalModel(**option)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("processors", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (64, 8)]
)
def test_threads(processors, threads, monkeypatch):
    """
    Half of the processors, and at least one.
    """
    for platform in "linux", "darwin":
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(os, "cpu_count", lambda: processors)
        monkeypatch.setattr(
            os, "sched_getaffinity", lambda _: range(processors), raising=False
        )
        assert _server._spare_threads() == threads


@pytest.mark.parametrize("package", ["filelock", "platformdirs", "xllamacpp"])
async def test_missing_package(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LocalModelError) as raised:
        await LocalModel().start()
    assert str(raised.value) == (
        f"a model on this machine needs the package {package}: pip install"
        " 'horay-async[local]'"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (str, "cannot read the model {}: No such file or directory"),
        (Path.mkdir, "{} is not a file, expected a GGUF file"),
        (os.mkfifo, "{} is not a file, expected a GGUF file"),
        (
            lambda path: path.write_text("PK"),
            "{} is not a GGUF file, the only kind of model that llama.cpp reads",
        ),
        (
            lambda path: path.write_bytes(b"GGUF" + 99 * b"\0"),
            "llama.cpp cannot serve {} (gguf_init_from_reader: bad GGUF version: 0)",
        ),
    ],
    ids=["missing", "directory", "pipe", "other", "broken"],
)
async def test_no_model(make, message, tmp_path, children):
    path = tmp_path / "model.gguf"
    make(path)
    with pytest.raises(LocalModelError) as raised:
        await LocalModel(gguf=path).start()
    assert str(raised.value) == message.format(path)
    assert not any(child.poll() is None for child in children)


async def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LocalModelError, match=f"{tmp_path}/nix.gguf: No such file"):
        await LocalModel(gguf="~/nix.gguf").start()


async def test_port(llama):
    """
    A chosen port, and the same while it is in use.
    """
    async with LocalModel() as first:
        port = int(first.base_url.removesuffix("/v1").rpartition(":")[2])
        with pytest.raises(LocalModelError) as raised:
            await LocalModel(port=port).start()
        await first.close()
        async with LocalModel(port=port) as second:
            assert second.base_url == f"http://127.0.0.1:{port}/v1"
    assert str(raised.value) == (
        f"port {port} is taken, or kept for the system: choose another, or 0 for a"
        " free one"
    )


async def test_memory(llama, monkeypatch):
    """
    The first error that llama.cpp logs counts; what follows from it is no help.
    """
    log = """
print("0.00.1 E ggml_aligned_malloc: insufficient memory (attempted to allocate 1 MB)")
print("0.00.2 E srv  load_model: failed to load model")
sys.exit("RuntimeError: Failed to init server, please check the input params.")
"""
    monkeypatch.setattr(_server, "_SERVER", log)
    with pytest.raises(LocalModelError) as raised:
        await LocalModel(slots=2, context=99_999).start()
    assert str(raised.value) == (
        "too little memory for 2 slots with a context of 99999 tokens each: ask for less,"
        " or for a smaller model"
    )


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("raise ImportError('libgomp.so.1')", "ImportError: libgomp.so.1"),
        ("os._exit(3)", "it ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", "it ended with SIGKILL"),
    ],
)
async def test_no_start(program, why, llama, monkeypatch):
    """
    What it said last, or else how it ended.
    """
    monkeypatch.setattr(_server, "_SERVER", program)
    with pytest.raises(LocalModelError) as raised:
        await LocalModel().start()
    assert str(raised.value) == f"llama.cpp does not start: {why}"


async def test_no_end_of_the_start(llama, children, monkeypatch):
    monkeypatch.setattr(_server, "_SERVER", "time.sleep(60)")
    monkeypatch.setattr(_server, "_START_TIMEOUT", 0.2)
    with pytest.raises(LocalModelError, match=r"did not load .* within 0 s"):
        await LocalModel().start()
    assert not any(child.poll() is None for child in children)


async def test_no_python(llama, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(LocalModelError) as raised:
        await LocalModel().start()
    assert str(raised.value) == (
        "the Python '/no/python' cannot be started: No such file or directory"
    )


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

    async def watch(self, work, errand):
        await asyncio.wait({work})
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
        print(server._child._process.pid, flush=True)
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
