"""
docs/timeouts.md: its numbers are the code's, and its code runs.
"""

import ast
import inspect
import re

from pathlib import Path

import attrs
import pytest

import horay_async

from horay_async import (
    APITimeoutError,
    AsyncHoray,
    Timeouts,
    _call,
    _clocks,
    _connector,
    _flow,
    _policy,
    _session,
)
from horay_async._timeouts import PLAIN_DEADLINE


PAGE = Path(__file__).parents[1].joinpath("docs", "timeouts.md").read_text("utf-8")

ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "---" not in line
]

CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_clocks():
    """
    Each clock with its default, its error, and a place in the drawing.
    """
    table = {row[0].strip("`"): row for row in ROWS if len(row) == 5}
    del table["clock"]
    assert list(table) == [field.name for field in attrs.fields(Timeouts)]
    for name, row in table.items():
        assert row[1] == f"{getattr(Timeouts(), name)}".removesuffix(".0")
        errors = [getattr(horay_async, one) for one in re.findall(r"\w+E\w+", row[4])]
        assert errors
        for error in errors:
            assert issubclass(error, APITimeoutError)
            assert error.clock == name
        assert name in PAGE.partition("```text")[2].partition("```")[0]
    assert f"`deadline=None` is {PLAIN_DEADLINE:g} s for a plain call" in PAGE


def test_all_errors_are_there():
    kinds = {
        name
        for name in horay_async.__all__
        if inspect.isclass(kind := getattr(horay_async, name))
        and issubclass(kind, APITimeoutError)
        and kind is not APITimeoutError
    }
    assert kinds == {name for name in kinds if f"`{name}`" in PAGE}


def test_fixed_times():
    """
    Seconds, and the policy's numbers, by the names that they have in the code.
    """
    rooms = (_call, _clocks, _connector, _flow, _policy, _session)
    table = {row[2].strip("`"): row[1] for row in ROWS if len(row) == 3}
    del table["name"]
    assert len(table) == 11
    for name, value in table.items():
        (number,) = {vars(room)[name] for room in rooms if name in vars(room)}
        assert value == f"{number:g}"
    retries = inspect.signature(AsyncHoray).parameters["max_retries"].default
    assert f"`max_retries` = {retries} times" in PAGE
    keys = inspect.signature(AsyncHoray).parameters["idempotency_keys"].default
    assert keys is False


@pytest.mark.parametrize("code", CODE)
async def test_code(code, emulator, monkeypatch, capsys):
    """
    Each block, as it stands.
    """
    monkeypatch.setenv("HORAY_BASE_URL", emulator.base_url)
    monkeypatch.setenv("HORAY_API_KEY", "key-of-the-tests")
    compiled = compile(code, "timeouts.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(compiled, {})
    if running is not None:
        await running
