"""
What docs/many-prompts.md shows runs as it is printed.

The first program is a process of its own; the others are the inside of its `main`, and run as
that, beside the emulator.
"""

import ast
import asyncio
import json
import re

import pytest

from horay_async.emulator import Emulator
from readme_parts import environment, finished
from shell import HOUSE


DOC = (HOUSE / "docs" / "many-prompts.md").read_text("utf-8")


def blocks(language):
    """
    Every block in a language: the heading that it stands under, and its text.
    """
    found, flags = [], re.MULTILINE | re.DOTALL
    for part in re.split(r"^##+ ", DOC, flags=re.MULTILINE):
        heading = part.partition("\n")[0]
        fenced = re.findall(rf"^```{language}\n(.*?)^```$", part, flags)
        found += [(heading, text) for text in fenced]
    return found


(_, WHOLE), *PARTS = blocks("python")


@pytest.fixture
def beside_the_emulator(tmp_path, monkeypatch, emulator):
    """
    In a folder of its own, where a client finds the emulator.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HORAY_BASE_URL", emulator.base_url)
    monkeypatch.setenv("HORAY_API_KEY", "any")


@pytest.mark.timeout(40)
def test_the_program(tmp_path):
    """
    It asks everything, and the second time nothing.
    """

    async def twice():
        async with Emulator(mode="echo") as server:
            (tmp_path / "program.py").write_text(WHOLE, "utf-8")
            options = {"cwd": tmp_path, "env": environment(server)}
            runs = [await finished("program.py", **options) for _ in range(2)]
            return runs, len(server.requests)

    runs, asked = asyncio.run(twice())
    assert [(code, err) for code, _, err in runs] == [(0, "")] * 2
    assert asked == 200
    journal = (tmp_path / "night.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in journal.splitlines()]
    assert sorted(int(line["custom_id"]) for line in lines) == list(range(200))
    # The line that is shown has the keys of a real one.
    ((_, text),) = blocks("json")
    shown = json.loads(text.replace("[…]", "[]").replace("{…}", "{}"))
    assert shown.keys() == lines[0].keys()
    assert shown["horay"].keys() == lines[0]["horay"].keys()
    assert len(shown["horay"]["hash"]) == len(lines[0]["horay"]["hash"])


@pytest.mark.loop("plain")
@pytest.mark.parametrize("part", PARTS, ids=[heading for heading, _ in PARTS])
@pytest.mark.usefixtures("beside_the_emulator")
async def test_part(client, capsys, part):
    """
    Each runs to its end.
    """
    heading, text = part
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(text, f"docs/many-prompts.md, {heading}", "exec", flags)
    names = {"client": client, "asyncio": asyncio}
    running = eval(code, names)
    if running is not None:
        await running
    if (check := CHECKS.get(heading)) is not None:
        check(names, capsys.readouterr().out)


def _journal(names, out):
    assert sorted(names["first"]) == ["0", "1"]
    assert (names["second"], out.split()[-2:]) == (["1"], ["1", "1"])


def _streamed(names, out):
    assert "False" not in out


def _items(names, out):
    assert "q-19 line 19 is no JSON" in out


def _limits(names, out):
    assert len(names["rows"]) == 100
    assert all(row.error is None for row in names["rows"])


def _race(names, out):
    assert names["race"].winner in (0, 1)
    assert names["reply"].text


def _money(names, out):
    assert float(out.split()[0]) > 0


CHECKS = {
    "What goes in": _items,
    "Streamed rows": _streamed,
    "The journal": _journal,
    "Limits": _limits,
    "Money": _money,
    "Several calls for one answer": _race,
}
"""
What a block is held to beside its end, by its heading.
"""


def test_every_check_has_its_block():
    assert set(CHECKS) <= {heading for heading, _ in PARTS}
