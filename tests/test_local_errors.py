"""
What keeps the local model from starting: one sentence each, that says what to do.
"""

import os
import sys

from pathlib import Path

import pytest

from horay_async import ConfigurationError
from horay_async.local import LocalModel, LocalModelError, _server


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"slots": 0}, "slots is 0, expected a whole number, 1 to 256"),
        ({"slots": True}, "slots is True, expected a whole number, 1 to 256"),
        ({"slots": 257}, "slots is 257, expected a whole number, 1 to 256"),
        ({"context": "4k"}, "context is '4k', expected a whole number, 1 to 1048576"),
        (
            {"context": 2**20 + 1},
            "context is 1048577, expected a whole number, 1 to 1048576",
        ),
        ({"threads": 1.5}, "threads is 1.5, expected a whole number, 1 to 512"),
        ({"threads": 513}, "threads is 513, expected a whole number, 1 to 512"),
        ({"port": -1}, "port is -1, expected a whole number, 0 to 65535"),
        ({"port": 65536}, "port is 65536, expected a whole number, 0 to 65535"),
    ],
)
def test_numbers(option, message):
    with pytest.raises(ConfigurationError) as raised:
        LocalModel(**option)
    assert str(raised.value) == message


@pytest.mark.parametrize("most", [{"slots": 256, "context": 16}, {"threads": 512}])
async def test_the_largest_numbers(most, llama):
    """
    Nobody's choice, but they work.
    """
    async with LocalModel(**most) as server:
        assert server.base_url


@pytest.mark.skipif(sys.platform != "linux", reason="other systems promise any memory")
async def test_the_largest_context(llama):
    """
    For that a machine needs 1.5 TB.
    """
    with pytest.raises(LocalModelError) as raised:
        await LocalModel(slots=64, context=2**20).start()
    assert str(raised.value) == (
        "too little memory for 64 slots with a context of 1048576 tokens each: ask for"
        " less, or for a smaller model"
    )


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "~nobody.at.all/model.gguf",
            "cannot read the model {}: there is no such home directory",
        ),
        ("a\0b", "cannot read the model {!r}: no file can have this name"),
        ("a\ud800b", "cannot read the model {!r}: no file can have this name"),
    ],
    ids=["home", "null", "half a character"],
)
async def test_no_name(name, message):
    with pytest.raises(LocalModelError) as raised:
        await LocalModel(gguf=name).start()
    assert str(raised.value) == message.format(name)


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
        ("os.kill(os.getpid(), 15)", "it ended with SIGTERM"),
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


async def test_killed(llama, monkeypatch):
    """
    As Linux does when there is less memory than it promised.
    """
    killed = "print('loading', flush=True); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(_server, "_SERVER", killed)
    with pytest.raises(LocalModelError) as raised:
        await LocalModel(slots=2, context=99_999).start()
    assert str(raised.value) == (
        "llama.cpp was killed while it started, most likely for too little memory for 2"
        " slots with a context of 99999 tokens each: ask for less, or for a smaller model"
    )


@pytest.mark.parametrize(
    "address", ["http://elsewhere.example", "http://127.0.0.1:1@elsewhere.example", "x"]
)
async def test_elsewhere(address, llama, children, monkeypatch):
    """
    No other host gets what is meant for this one.
    """
    monkeypatch.setattr(_server, "_SERVER", f"say({address!r}); time.sleep(60)")
    with pytest.raises(LocalModelError) as raised:
        await LocalModel().start()
    assert str(raised.value) == (
        f"llama.cpp listens at {address}, expected a port of 127.0.0.1"
    )
    assert not any(child.poll() is None for child in children)


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


@pytest.mark.parametrize("executable", [None, ""])
async def test_no_python_is_known(executable, monkeypatch):
    """
    As where Python is embedded in another program.
    """
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(LocalModelError) as raised:
        await LocalModel().start()
    assert str(raised.value) == (
        "a model on this machine runs in a Python of its own, but sys.executable does not"
        " say where Python is: set it to the path of one"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other places")
@pytest.mark.parametrize(
    ("chosen", "place"),
    [("~nobody.at.all/x", "~nobody.at.all/x"), (None, "the home directory")],
)
async def test_no_home(chosen, place, monkeypatch):
    """
    As in a container whose user is only a number.
    """
    import pwd  # not on Windows

    def getpwuid(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    for name in "HOME", "XDG_CACHE_HOME", "HORAY_CACHE":
        monkeypatch.delenv(name, raising=False)
    if chosen is not None:
        monkeypatch.setenv("HORAY_CACHE", chosen)
    with pytest.raises(LocalModelError) as raised:
        await LocalModel().start()
    assert str(raised.value) == (
        f"the model cannot be kept in {place} (there is no such home): set HORAY_CACHE to"
        " a directory that can be written"
    )
