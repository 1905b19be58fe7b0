"""
The command against an emulator, in this process.
"""

import pytest

from batching import emulating
from horay_async.cli import main


@pytest.fixture
def server(monkeypatch):
    """
    An emulator that says what was said last.
    """
    monkeypatch.setenv("HORAY_API_KEY", "a-key")
    with emulating() as server:
        yield server


@pytest.fixture
def say(server, capsys):
    """
    Run a command against it: exit code, stdout, stderr.
    """

    def say(*words):
        code = main([*map(str, words), *server.words])
        return code, *capsys.readouterr()

    return say
