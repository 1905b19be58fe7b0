"""
How a batch shows how far it is.
"""

import asyncio
import os
import re
import sys

import pytest

from batching import emulating, write_lines
from horay_async.cli import _progress
from horay_async.cli._lines import BadLine
from horay_async.cli._progress import LineView, Pace, Progress
from horay_async.cli._tally import Tally
from horay_async.emulator import Answer


# The pace ----------------------------------------------------------------------------


def test_pace():
    """
    Speed is that of the last minute, so that it follows the server.
    """
    pace = Pace(0.0)
    assert pace.per_second == (0, 0)
    pace.note(10.0, 100, 1000)
    assert pace.per_second == (10, 100)
    for second in range(11, 201):
        pace.note(float(second), 100 + (second - 10), 1000 + 20 * (second - 10))
    lines, tokens = pace.per_second
    assert lines == pytest.approx(1)
    assert tokens == pytest.approx(20)
    assert len(pace._samples) < 70


def test_pace_of_slow_answers():
    """
    A minute without an answer is not a standstill: the time before it counts as well.
    """
    pace = Pace(0.0)
    pace.note(50.0, 5, 500)
    pace.note(100.0, 5, 500)
    pace.note(200.0, 5, 500)
    assert pace.per_second == (0.025, 2.5)


# Lines -------------------------------------------------------------------------------


async def told(monkeypatch, tally, changes):
    """
    What is said while a tally changes, turn by turn.
    """
    said = []
    turns = asyncio.Queue()
    monkeypatch.setattr(_progress, "say", said.append)

    class View(LineView):
        every = 0

        def show(self, tally, pace):
            super().show(tally, pace)
            turns.put_nowait(None)

    with Progress(tally, View()):
        for change in [lambda: None, *changes]:
            change()
            turns = asyncio.Queue()
            await asyncio.wait_for(turns.get(), 10)
            await asyncio.wait_for(turns.get(), 10)
    return said


async def test_lines(monkeypatch):
    """
    A line is said when something has happened, and not else.
    """
    tally = Tally(total=4)

    def answer():
        tally.answered += 1
        tally.tokens_out += 10

    def fail():
        tally.add([], BadLine("x"))

    said = await told(monkeypatch, tally, [answer, lambda: None, fail])
    first, second = said
    assert first.startswith("1/4 lines, 0:00 left, ")
    assert first.endswith(" tokens/s")
    assert second.startswith("2/4 lines, 1 failed, 0:00 left, ")


async def test_the_first_round(monkeypatch):
    """
    Before as many lines are done as are answered at a time, nobody knows what is left.
    """
    tally = Tally(total=4, at_once=2)

    def answer():
        tally.answered += 1

    first, second = await told(monkeypatch, tally, [answer, answer])
    assert "left" not in first
    assert second.startswith("2/4 lines, 0:00 left")


async def test_lines_of_a_pipe(monkeypatch):
    """
    Where the end is not known, the time since the beginning stands for the time left.
    """
    tally = Tally()
    said = await told(monkeypatch, tally, [lambda: tally.add([], None)])
    assert said == ["1 lines, 0:00"]


# On a terminal -----------------------------------------------------------------------


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")

HANG = Answer(end="hang")


@pytest.fixture(scope="module")
def terminal():
    from terminals import Terminal

    return Terminal


@pytest.fixture
def server():
    with emulating() as server:
        yield server


@pytest.fixture
def words(tmp_path, server):
    """
    A batch of eight lines, the second of them bad; four are answered, and no more.
    """
    prompt = {"prompt": "a b c d"}
    write_lines(tmp_path / "in", prompt, "{oops", *[prompt] * 6)
    server.script(*[None] * 4, HANG)
    return "batch", tmp_path / "in", *server.words, "--concurrency", 1


@pytest.fixture
def out(tmp_path):
    """
    The option that has the results written to a file.
    """
    return "-o", tmp_path / "out"


def showing(part):
    return lambda lines: any(part in line for line in lines)


def test_bar(terminal, words, out):
    """
    The bar is the last line; what is said stands above it, and Ctrl-C takes it away.
    """
    with terminal(*words, *out, columns=80) as shown:
        shown.until(showing("5/8 lines"))
        *above, bar = shown.lines
        assert "".join(above).startswith("horay: line 2: not JSON at character 2: ")
        head, facts = bar.split("  ", 1)
        assert set(head) <= set("━╸╺")
        assert facts.startswith("5/8 lines  1 failed  0:0")
        assert "left" in facts
        assert len(bar) < 80
        shown.type("\x03")
        assert shown.wait() == 130
    text = "".join(line.ljust(80) for line in shown.lines)
    assert "━" not in text
    assert "5/8" not in text
    assert "horay: stopped; 8 lines: 4 answered, 1 failed (1 bad line), 3 not " in text
    assert not shown.screen.cursor.hidden
    assert shown.screen.cursor.x == 0
    assert b"\x1b[?25l" not in shown.seen  # nor was it ever


@pytest.mark.parametrize(
    ("columns", "last"),
    [(60, "━.*"), (30, "5/8 lines  1 failed"), (12, "5/8 lines")],
)
def test_narrow(terminal, words, out, columns, last):
    """
    Where there is no room, the most important stays, on one line.
    """
    with terminal(*words, *out, columns=columns) as shown:
        shown.until(showing("5/8 lines"))
        assert re.fullmatch(last, shown.lines[-1])
        shown.type("\x03")
        shown.wait()


def test_without_colour(terminal, words, out):
    """
    NO_COLOR leaves the bar, and takes the colours.
    """
    with terminal(*words, *out, env={"NO_COLOR": "1"}) as shown:
        shown.until(showing("5/8 lines"))
        assert "━" in shown.lines[-1]
        shown.type("\x03")
        shown.wait()
    assert b"\x1b[3" not in shown.seen
    assert b"\x1b[9" not in shown.seen


@pytest.mark.parametrize(
    ("more", "env"),
    [
        ([], {"TERM": "dumb"}),
        (["--quiet"], {}),
        (["--json"], {}),
        (["-o", "-"], {}),  # the results themselves are there
        ([], {"HORAY_LOG": "info"}),
    ],
)
def test_no_bar(terminal, words, server, more, env):
    """
    No bar for a terminal that has no way back, nor through other lines.
    """
    place = () if "-o" in more else ("-o", os.devnull)
    with terminal(*words, *place, *more, env=env) as shown:
        server.call(server.wait_for_request(5, timeout=10))
        shown.type("\x03")
        assert shown.wait() == 130
    assert b"\x1b" not in shown.seen


def test_whole(terminal, words, server, out):
    """
    At the end the bar is gone, and two lines say all.
    """
    server._script.waiting.clear()
    with terminal(*words, *out, columns=120) as shown:
        assert shown.wait() == 1
    said, lines, cost = shown.lines
    assert said.startswith("horay: line 2: not JSON")
    assert lines.startswith(
        "horay: 8 lines: 7 answered, 1 failed (1 bad line); results"
    )
    assert cost.startswith("horay: 28 tokens in, 28 out, ")
