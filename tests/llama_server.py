"""
A real small language model behind a server that is not ours: llama.cpp's own.

The fixture `llama` starts it once for the whole run. Without the packages or the network
that it needs the tests that ask for it are skipped; in CI they fail instead.
"""

import asyncio
import os
import subprocess

from typing import NoReturn

import pytest

from horay_async.local import LocalModel, LocalModelError


# Generous, in seconds: 93 MB over a slow line, and a slow machine.
TIMEOUT = 420


def give_up(error: LocalModelError) -> NoReturn:
    """
    Skip, but not in CI: there a skip would hide that nothing is tested.
    """
    if os.environ.get("CI"):
        pytest.fail(f"CI must run this test, but {error}", pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def llama():
    """
    A started `LocalModel`: `llama.base_url`, `llama.model`.
    """
    server = LocalModel()
    try:
        asyncio.run(server.start())
    except LocalModelError as error:
        give_up(error)
    yield server
    asyncio.run(server.close())


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

    monkeypatch.setattr(subprocess, "Popen", Popen)
    return started


def pytest_collection_modifyitems(items):
    """
    Give the tests that use it time to fetch the model, unless they know better.
    """
    for item in items:
        if "llama" in getattr(item, "fixturenames", ()) and not any(
            item.iter_markers("timeout")
        ):
            item.add_marker(pytest.mark.timeout(TIMEOUT))
