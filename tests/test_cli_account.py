"""
`horay models`, `horay whoami`, `horay version`: what there is, and whose key this is.
"""

import json

import pytest

from batching import emulating
from horay_async import HORAY, __version__
from horay_async.cli import main
from horay_async.emulator import Answer


@pytest.fixture
def server(monkeypatch):
    """
    An emulator, and a key for it.
    """
    monkeypatch.setenv("HORAY_API_KEY", "sk-0123456789abcdef")
    with emulating() as server:
        yield server


def run(capsys, *words):
    code = main([*words])
    return code, *capsys.readouterr()


def test_models(server, capsys):
    """
    One id on each line, as the server lists them.
    """
    models = {"object": "list", "data": [{"id": "b"}, {"id": "a", "owned_by": "x"}]}
    server.script(Answer.json(models), Answer.json(models), method="GET")
    assert run(capsys, "models", *server.words) == (0, "b\na\n", "")
    code, out, _ = run(capsys, "models", *server.words, "--json")
    assert code == 0
    assert json.loads(out) == models


def test_whoami(server, capsys):
    """
    The account, the money, and where calls go; of the key only its end.
    """
    code, out, err = run(capsys, "whoami", *server.words)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "name     username",
        "e-mail   user_email_address",
        "balance  88.88 (paid in 88.00, given 0.88)",
        "service  Horay",
        f"url      {server.base_url}",
        "key      …cdef",
    ]


def test_whoami_for_programs(server, capsys):
    """
    The same as JSON; money stays text, so that no digit is lost.
    """
    code, out, _ = run(capsys, "whoami", "--json", *server.words)
    assert code == 0
    found = json.loads(out)
    assert found["user"]["data"]["totalBalance"] == "88.88"
    assert (found["service"], found["key"]) == ("Horay", "…cdef")
    assert "0123456789" not in out


def test_little_is_known(server, capsys, monkeypatch):
    """
    What the server leaves out is left out; a short key is not shown by half.
    """
    monkeypatch.setenv("HORAY_API_KEY", "12345678")
    server.script(Answer.json({"data": {"name": "me", "balance": "3"}}), method="GET")
    out = run(capsys, "whoami", *server.words)[1]
    assert out.splitlines() == [
        "name     me",
        "balance  3 (given 3)",
        "service  Horay",
        f"url      {server.base_url}",
        "key      …",
    ]


@pytest.mark.parametrize(
    ("command", "said"), [("models", "no list of models"), ("whoami", "no user info")]
)
def test_not_documented(capsys, monkeypatch, command, said):
    """
    A service that has no such thing is named.
    """
    monkeypatch.setenv("EMPOWER_API_KEY", "k")
    code, out, err = run(capsys, command, "--service", "empower")
    assert (code, out) == (2, "")
    assert err == f"horay: Empower documents {said}; nothing was sent\n"


def test_emulator_says_so(capsys):
    """
    What comes from the emulator is no account of anybody's.
    """
    code, out, err = run(capsys, "models", "--emulator")
    assert code == 0
    assert HORAY.chat.model in out.split("\n")
    assert "emulator" in err


def test_version(capsys):
    """
    The version as one JSON object.
    """
    code, out, _ = run(capsys, "version", "--json")
    assert code == 0
    assert json.loads(out) == {"name": "horay-async", "version": __version__}
