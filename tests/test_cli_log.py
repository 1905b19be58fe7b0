"""
HORAY_LOG: what happens underneath, for whoever asks.
"""

import logging

import pytest

from batching import emulating
from horay_async.cli import main
from horay_async.emulator import Answer


KEY = "sk-very-secret-indeed"


@pytest.fixture
def server(monkeypatch):
    """
    An emulator that refuses once.
    """
    monkeypatch.setenv("HORAY_API_KEY", KEY)
    with emulating() as server:
        no = {"error": {"message": "later"}}
        server.script(Answer.json(no, 429, headers=[("Retry-After", "0")]))
        yield server


def err(capsys, server, *words, code=0):
    assert main(["chat", "hi", *server.words, *words]) == code
    err = capsys.readouterr().err
    assert KEY not in err
    return err.splitlines()


def test_quiet(server, capsys):
    """
    Without it, nothing is said of a call that was answered.
    """
    assert err(capsys, server) == []


def test_info(server, capsys, monkeypatch):
    """
    `info`: a line for each call, with what support asks for first.
    """
    monkeypatch.setenv("HORAY_LOG", "info")
    (line,) = err(capsys, server)
    facts = "horay: /chat/completions ended: finished, status 200, attempts 2, "
    assert line.startswith(facts)
    assert f"request id {server.requests[1].id}" in line


def test_debug(server, capsys, monkeypatch):
    """
    `debug`: each attempt, why it failed and what was decided.
    """
    monkeypatch.setenv("HORAY_LOG", "debug")
    first, failed, second, ended = err(capsys, server)
    number = first.removeprefix("horay: attempt 1 of call ").partition(":")[0]
    assert first == f"horay: attempt 1 of call {number}: POST /chat/completions"
    failure = f"horay: attempt 1 of call {number} failed: RateLimitError, status 429; "
    assert failed == f"{failure}again at once"
    assert second == f"horay: attempt 2 of call {number}: POST /chat/completions"
    assert ended.startswith("horay: /chat/completions ended: finished")


def test_debug_shows_where(server, capsys, monkeypatch):
    """
    An error has its traceback, and after it the same sentence.
    """
    monkeypatch.setenv("HORAY_LOG", "debug")
    lines = err(capsys, server, "--max-retries", "0", code=1)
    assert "Traceback (most recent call last):" in lines
    assert "failed: RateLimitError, status 429; " in lines[1]
    assert "again" not in lines[1]
    assert lines[-1].startswith("horay: 429 from Horay: later")


def test_unknown(server, capsys, monkeypatch):
    """
    A value that means nothing is said to, and ignored.
    """
    monkeypatch.setenv("HORAY_LOG", "loud")
    assert err(capsys, server) == [
        "horay: HORAY_LOG is 'loud', expected info or debug; ignored"
    ]


@pytest.mark.parametrize(("level", "shown"), [("", False), ("debug", True)])
def test_other_libraries(capsys, monkeypatch, level, shown):
    """
    What other libraries complain of reaches the terminal only at `debug`.
    """
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's own
    monkeypatch.setenv("HORAY_LOG", level)
    main(["version"])
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    assert ("never retrieved" in capsys.readouterr().err) == shown
