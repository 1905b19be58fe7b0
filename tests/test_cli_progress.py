"""
How a batch shows how far it is.
"""

import asyncio
import os
import re
import sys

import attrs
import pytest

from rich.console import Console

from batching import emulating, write_lines
from horay_async import APIConnectionError
from horay_async.cli import _progress
from horay_async.cli._progress import BarView, LineView, Showing
from horay_async.emulator import Answer
from horay_async.many import Price, Progress, Row
from horay_async.many._ledger import Ledger


# Lines -------------------------------------------------------------------------------


ROW = Row(id="0", index=0, request="a")


async def told(monkeypatch, now, changes):
    """
    What is said while a job goes on, turn by turn.
    """
    said = []
    turns = asyncio.Queue()
    monkeypatch.setattr(_progress, "say", said.append)

    class View(LineView):
        every = 0

        def show(self, now):
            super().show(now)
            turns.put_nowait(None)

    with Showing(now, View()):
        for change in [lambda: None, *changes]:
            change()
            turns = asyncio.Queue()
            await asyncio.wait_for(turns.get(), 10)
            await asyncio.wait_for(turns.get(), 10)
    return said


def of_job(**options):
    """
    A job of two rows at a time that has just begun, and the hand of its clock.
    """
    hand = [0.0]
    ledger = Ledger(**options)
    now = Progress(ledger, total=6, clock=lambda: hand[0])
    now._started()
    now._started()
    return now, ledger, hand


def finish(now, *, error=None):
    def change():
        now._finished(attrs.evolve(ROW, error=error))
        now._started()

    return change


async def test_lines(monkeypatch):
    """
    A line is said when something has happened, and not else.
    """
    now, ledger, hand = of_job()

    def answer():
        hand[0] += 1
        ledger.completion_tokens += 10
        finish(now)()

    fail = finish(now, error=ValueError("x"))
    first, second, third = await told(
        monkeypatch, now, [answer, lambda: None, fail, answer]
    )
    # Of the first round nobody knows what is left.
    assert first == "1/6 lines, 0:01, 10 tokens/s, 2 in flight"
    assert second == "2/6 lines, 1 failed, 0:02 left, 10 tokens/s, 2 in flight"
    assert third.startswith("3/6 lines, 1 failed, 0:02 left, ")


async def test_lines_of_a_second_run(monkeypatch):
    """
    What an earlier run has answered is done; what it costs now is said.
    """
    now, _, _ = of_job(prices={"*": Price(1, 2)})
    now._skipped()
    now._retried()
    [line] = await told(monkeypatch, now, [finish(now)])
    assert line == "2/6 lines, 0:00, cost 0.0000, 2 in flight, 1 retried"


async def test_lines_while_the_server_is_away(monkeypatch):
    """
    That the server is waited for is said at once, and then once a minute.
    """
    now, _, hand = of_job()

    def go_on(seconds, *, away=True):
        def change():
            hand[0] += seconds
            now._away(away)

        return change

    gone = APIConnectionError("cannot connect")
    changes = go_on(1), go_on(5), go_on(5), go_on(60), go_on(1, away=False)
    first, second = await told(monkeypatch, now, changes)
    assert first == "0/6 lines, waiting for the server, 0:05, 0:06, 2 in flight"
    assert second == "0/6 lines, waiting for the server, 1:10, 1:11, 2 in flight"
    [line] = await told(monkeypatch, now, [finish(now, error=gone)])
    assert line.startswith("1/6 lines, 1 not answered, ")


async def test_lines_of_a_pipe(monkeypatch):
    """
    Where the end is not known, the time since the beginning stands for the time left.
    """
    now, _, _ = of_job()
    now.total = None
    assert await told(monkeypatch, now, [finish(now)]) == ["1 lines, 0:00, 2 in flight"]


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
def test_narrow(capsys, columns, last):
    """
    Where there is no room, the most important stays, on one line.
    """
    now = Progress(total=8, clock=lambda: 0.0)
    now._started()
    now.done, now.failed = 5, 1
    view = BarView(Console(width=columns, force_terminal=True, highlight=False))
    view.show(now)
    shown = re.sub(r"\x1b\[[\d;]*[mK]", "", capsys.readouterr().err)
    assert re.fullmatch(last, shown.lstrip("\r"))


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
    At the end the bar is gone, and a few lines say all.
    """
    server._script.waiting.clear()
    with terminal(*words, *out, columns=120) as shown:
        assert shown.wait() == 1
    said, lines, cost, _, advice = shown.lines
    assert said.startswith("horay: line 2: not JSON")
    assert lines.startswith(
        "horay: 8 lines: 7 answered, 1 failed (1 bad line); results"
    )
    assert cost.startswith("horay: 28 tokens in, 28 out, ")
    assert advice.startswith("horay: with --retry-failed ")
