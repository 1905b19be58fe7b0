"""
The door: what `import horay_async` brings, and what it leaves outside.
"""

import inspect
import json
import re
import subprocess
import sys

from pathlib import Path

import pytest

import horay_async


def run(code):
    """
    What a fresh Python prints, read as JSON.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        check=False,
        cwd=Path(horay_async.__file__).parents[1],
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def loaded():
    return run("import horay_async, json, sys; print(json.dumps(sorted(sys.modules)))")


@pytest.mark.parametrize(
    "module",
    [
        "aiohttp.web",  # a server, and sixty modules more
        "aiohttp.test_utils",
        "cyclopts",
        "h11",
        "horay_async.cli",
        "horay_async.emulator",
        "httpx",
        "numpy",
        "openai",
        "pydantic",
        "rich",
        "uvloop",
        "anyio.pytest_plugin",
        "pytest",
    ],
)
def test_left_outside(loaded, module):
    inside = [name for name in loaded if f"{name}.".startswith(f"{module}.")]
    assert inside == []


def test_what_it_stands_on(loaded):
    assert {"aiohttp", "attrs", "cattrs", "orjson"} <= set(loaded)


def test_nothing_runs_after_an_import():
    """
    No thread, no loop; nothing is printed, and no warning raised, which is an error here.
    """
    code = """
import asyncio, json, threading
import horay_async
print(json.dumps([threading.active_count(), asyncio._get_running_loop() is None]))
"""
    assert run(code) == [1, True]


def test_a_client_outside_any_loop():
    """
    Made at the top of a module, as in many programs: nothing is opened.
    """
    code = """
import json, threading
from horay_async import AsyncHoray
client = AsyncHoray(api_key="key")
print(json.dumps([threading.active_count(), client.is_closed()]))
"""
    assert run(code) == [1, False]


def test_the_emulator_is_a_door_of_its_own():
    """
    It needs h11; the client does not.
    """
    code = """
import json, sys
sys.modules["h11"] = None
import horay_async
try:
    import horay_async.emulator
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert "h11" in run(code)


def test_public_names():
    """
    The door sign names what is behind the door, in order, and nothing else is there.
    """
    names = horay_async.__all__
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(horay_async, name) is not None
    visible = {
        name
        for name, value in vars(horay_async).items()
        if not name.startswith("_") and type(value).__name__ != "module"
    }
    assert visible <= set(names)


def test_public_things_have_docstrings():
    for name in horay_async.__all__:
        value = getattr(horay_async, name)
        if isinstance(value, type) or inspect.isfunction(value):
            assert value.__doc__, name


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?\w+)?", horay_async.__version__)
