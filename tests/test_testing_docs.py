"""
What docs/testing.md shows runs as it is printed: one pytest of its own, over all its files.
"""

import os
import re
import subprocess
import sys

import pytest

from horay_async.emulator import FAULTS, Request
from horay_async.testing import LiveEmulator
from shell import HOUSE


DOC = (HOUSE / "docs" / "testing.md").read_text("utf-8")

FILES = dict(
    re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
)
"""
The blocks, by the name that stands in their first line.
"""

TESTS = [
    f"{name}::{test}"
    for name, text in FILES.items()
    for test in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)
]


def test_every_block_is_a_file():
    """
    A block that has no name would not be tried.
    """
    assert len(FILES) == DOC.count("```python")
    assert len(TESTS) == 10


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """
    What pytest says of each test, and all that it says.
    """
    folder = tmp_path_factory.mktemp("recipes")
    for name, text in FILES.items():
        (folder / name).write_text(text, "utf-8")
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HORAY")
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-W", "error", "--timeout=20"],
        capture_output=True,
        check=False,
        cwd=folder,
        env=env | {"PYTHONPATH": str(HOUSE), "PYTHONUTF8": "1"},
        encoding="utf-8",
        timeout=60,
    )
    said = dict(re.findall(r"^(\S+::\w+) (\w+)", done.stdout, re.MULTILINE))
    return said, done.stdout + done.stderr


@pytest.mark.timeout(70)
@pytest.mark.parametrize("test", TESTS)
def test_recipe(verdicts, test):
    said, everything = verdicts
    assert said.get(test) == "PASSED", everything


def test_what_it_can_be_asked():
    """
    Every name in that section is one of the emulator's, or of a request's.
    """
    section = DOC.partition("## What it can be asked")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z_]+)[(`]", section)) - {"await", "count", "len"}
    assert len(named) > 10
    missing = {
        name
        for name in named
        if not hasattr(LiveEmulator, name) and name not in Request.__slots__
    }
    assert missing == set()


def test_what_it_can_be_told():
    """
    The faults that are named exist.
    """
    named = set(re.findall(r'"([a-z]+-[a-z-]+)"', DOC)) - {"my-model", "retry-after-ms"}
    assert named
    assert named <= set(FAULTS)
