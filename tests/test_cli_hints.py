"""
What a newcomer is told to do about the usual mistakes.
"""

import json
import socket

import pytest

from batching import emulating
from horay_async.cli import main
from horay_async.emulator import Answer


@pytest.fixture
def err(monkeypatch, capsys):
    """
    Run a command that fails: what it says, in one line.
    """
    for name in "HORAY_API_KEY", "HORAY_BASE_URL", "EMPOWER_API_KEY":
        monkeypatch.delenv(name, raising=False)

    def err(*words, code=1, key="a-key", url=None):
        for name, value in {"HORAY_API_KEY": key, "HORAY_BASE_URL": url}.items():
            if value is not None:
                monkeypatch.setenv(name, value)
        assert main(["chat", "hi", "--max-retries", "0", *words]) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("horay: ")
        assert captured.err.count("\n") == 1
        return captured.err.removeprefix("horay: ").rstrip("\n")

    return err


@pytest.fixture(scope="module")
def server():
    with emulating() as server:
        yield server


def unused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_no_key(err):
    """
    Without key and flag: the variable, and both flags.
    """
    assert err(key=None, code=2) == (
        "no key: set HORAY_API_KEY, or try --local (a small model on this machine) or "
        "--emulator (no real model)"
    )


def test_wrong_key(err, server):
    """
    A key that is refused: where it came from.
    """
    said = err(*server.words, key="bad-key")
    assert said == "401 from Horay: Invalid token (is HORAY_API_KEY right?)"


def test_hinted_once(server, capsys, monkeypatch):
    """
    As JSON it is the same sentence.
    """
    monkeypatch.setenv("HORAY_API_KEY", "bad-key")
    assert main(["chat", "hi", "--json", *server.words]) == 1
    captured = capsys.readouterr()
    message = json.loads(captured.out)["error"]["message"]
    assert message == "401 from Horay: Invalid token (is HORAY_API_KEY right?)"
    assert captured.err == f"horay: {message}\n"


def test_key_not_sent(err, server):
    """
    A server on this machine gets no key unasked, which one with keys refuses.
    """
    url = server.base_url
    said = err(*server.words, key=None)
    assert said.endswith("(no key was sent: set HORAY_API_KEY)")
    said = err("--base-url", url, "--model", "m")
    assert said.endswith(
        "(no key was sent: with --service horay the one in HORAY_API_KEY is)"
    )


def test_nobody_listens(err):
    """
    An address where no server is.
    """
    url = f"http://127.0.0.1:{unused_port()}/v1"
    said = err("--service", "horay", "--base-url", url)
    assert "connection refused" in said
    assert said.endswith(f"(is {url} right, and is its server running?)")


def test_unknown_host(err, monkeypatch):
    """
    A host that no name server knows, or no network at all.
    """

    def nothing(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    said = err(url="https://nonesuch.invalid/v1")
    assert said.startswith("cannot find nonesuch.invalid:443")
    assert said.endswith(
        "(is https://nonesuch.invalid/v1 right, and is there a network?)"
    )


def test_no_version(err, server):
    """
    The usual mistake in a base URL.
    """
    url = server.base_url.removesuffix("/v1")
    said = err("--service", "horay", "--base-url", url)
    assert said.startswith("404 ")
    assert said.endswith(f"(is the address right? Most end in a version: {url}/v1)")


def test_wrong_path(err, server):
    """
    Another one.
    """
    url = f"{server.base_url}/v1"
    said = err("--service", "horay", "--base-url", url)
    assert said.endswith(f"(is {url} the address of its API?)")


def test_web_page(err, server):
    """
    A page for people, in the place of an answer.
    """
    page = b"<html><head><title>Hello</title></head><body>Hi</body></html>"
    html = Answer(headers=[("Content-Type", "text/html")], body=[page])
    server.script(html)
    said = err(*server.words)
    assert said.endswith(f"(is {server.base_url} the address of its API?)")


def test_not_encrypted(err, server):
    """
    https to a server that speaks http.
    """
    url = server.base_url.replace("http:", "https:")
    said = err("--service", "horay", "--base-url", url)
    assert said.endswith(f"(is it http rather than https in {url}?)")


def test_wrong_model(err, server):
    """
    A refusal that says itself what is wrong gets no guess of ours.
    """
    no_model = {"error": {"message": "no such model", "code": "model_not_found"}}
    server.script(Answer.json(no_model, 404))
    assert err(*server.words) == "404 from Horay: no such model"
    assert err("--emulator", "--model", "nonesuch").startswith("400 from Horay: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--emulator", "--local"], "--emulator and --local exclude each other"),
        (["--emulator", "--gguf", "x"], "--emulator and --gguf exclude each other"),
        (["--base-url", "u", "--local"], "--local and --base-url exclude each other"),
        (["--emulator", "--base-url", "u"], "--emulator and --base-url exclude"),
        (["--local", "--service", "empower"], "--local and --service exclude"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "inf"], "--timeout"),
        (["--gguf", ""], "--gguf"),
    ],
)
def test_contradictions(err, words, said):
    """
    Options that cannot both hold, or not at all.
    """
    assert said in err(*words, code=2)
