"""
How far a batch is, on stderr: a bar on a terminal, a line now and then elsewhere.
"""

import asyncio
import contextlib
import sys
import time

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from ._failures import say
from ._tally import Tally, clock
from ._terminal import is_terminal


if TYPE_CHECKING:
    from rich.console import Console

# Seconds. What an answer costs changes along a file and with the server's load, so speed is
# that of the last minute: long enough for slow answers, short enough to be of use.
_RECENT = 60.0

_BAR_EVERY = 0.2

_LINE_EVERY = 5.0

# Columns: a shorter bar says nothing that the numbers do not, a longer one neither.
_SHORTEST, _LONGEST = 10, 40


_Sample = tuple[float, int, int]


class Pace:
    """
    How fast lines and tokens have come lately.
    """

    def __init__(self, now: float) -> None:
        self._first: _Sample = (now, 0, 0)
        self._samples: deque[_Sample] = deque([self._first])

    def note(self, now: float, lines: int, tokens: int) -> None:
        """
        So many in all, by now.
        """
        samples = self._samples
        samples.append((now, lines, tokens))
        while len(samples) > 2 and samples[1][0] <= now - _RECENT:
            samples.popleft()

    @property
    def per_second(self) -> tuple[float, float]:
        """
        Lines and tokens: of the last minute, or of all the time if none came in that.
        """
        first, last = self._samples[0], self._samples[-1]
        if last[1] == first[1]:
            first = self._first
        seconds = max(last[0] - first[0], 1e-9)
        return (last[1] - first[1]) / seconds, (last[2] - first[2]) / seconds


class View(Protocol):
    """
    A way to show it.
    """

    every: float
    """
    Seconds from one time to the next.
    """

    def show(self, tally: Tally, pace: Pace) -> None:
        """
        Show how far it is.
        """

    def clear(self) -> None:
        """
        Leave the cursor at the beginning of an empty line.
        """


class Progress:
    """
    Shows how far a batch is as long as its block lasts; on the loop, by a task of its own.
    """

    def __init__(self, tally: Tally, view: View | None) -> None:
        self._tally = tally
        self._view = view
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        if self._view is not None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._view))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None and self._view is not None:
            self._task.cancel()
            self._view.clear()

    def say(self, sentence: str) -> None:
        """
        Tell the person at the terminal, above the bar. The next turn draws it again.
        """
        if self._view is not None:
            self._view.clear()
        say(sentence)

    async def _run(self, view: View) -> None:
        pace = Pace(time.monotonic())
        while True:
            view.show(self._tally, pace)
            await asyncio.sleep(view.every)
            pace.note(time.monotonic(), self._tally.done, self._tally.tokens_out)


def fitting_view() -> View:
    """
    The view that fits stderr.
    """
    return (_bar() if is_terminal(sys.stderr) else None) or LineView()


def _facts(tally: Tally, pace: Pace) -> list[str]:
    """
    How far it is, in words, the most important first.
    """
    lines, tokens = pace.per_second
    of_all = "" if tally.total is None else f"/{tally.total}"
    facts = [f"{tally.done}{of_all} lines"]
    if tally.failed:
        facts.append(f"{tally.failed} failed")
    # Of the first round the quickest come first, while all the others are still being asked.
    if tally.left and lines and tally.done >= tally.at_once:
        facts.append(f"{clock(tally.left / lines)} left")
    else:
        facts.append(clock(tally.seconds))
    if tokens:
        facts.append(f"{tokens:.0f} tokens/s")
    return facts


class LineView:
    """
    One plain line every few seconds, if anything has happened in them.
    """

    every = _LINE_EVERY

    def __init__(self) -> None:
        self._done = 0

    def show(self, tally: Tally, pace: Pace) -> None:
        """
        Say how far it is, if that is further than before.
        """
        if tally.done > self._done:
            self._done = tally.done
            say(", ".join(_facts(tally, pace)))

    def clear(self) -> None:
        """
        There is nothing to clear.
        """


def _bar() -> "BarView | None":
    from rich.console import Console  # noqa: PLC0415 -- as long as a short answer

    # A terminal it is; rich would ask the environment, too.
    console = Console(stderr=True, force_terminal=True, highlight=False)
    # An old Windows console would show the escape sequences.
    return None if console.legacy_windows else BarView(console)


class BarView:
    """
    One line at the bottom that is drawn over and over.

    The cursor stays visible, so whatever ends the process leaves the terminal as it was.
    """

    every = _BAR_EVERY

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._drawn = False

    def show(self, tally: Tally, pace: Pace) -> None:
        """
        Draw the line in the place of the last one.
        """
        with self._console.capture() as line:
            self._print(tally, _facts(tally, pace))
        self._drawn = True
        self._write(f"\r{line.get()}\x1b[K")

    def clear(self) -> None:
        """
        Take the line away.
        """
        if self._drawn:
            self._drawn = False
            self._write("\r\x1b[K")

    def _print(self, tally: Tally, facts: list[str]) -> None:
        from rich.progress_bar import ProgressBar  # noqa: PLC0415 -- as in _bar

        # Three columns stay free: the terminal itself writes ^C behind the line, and would
        # begin another one.
        width = self._console.width - 3
        while len(facts) > 1 and len("  ".join(facts)) > width:
            facts.pop()
        text = "  ".join(facts)
        room = min(width - len(text) - 2, _LONGEST)
        if tally.total is not None and room >= _SHORTEST:
            bar = ProgressBar(total=tally.total, completed=tally.done, width=room)
            self._console.print(bar, end="")
            text = f"  {text}"
        self._console.print(text[:width], end="", markup=False)

    def _write(self, text: str) -> None:
        # A terminal that is gone must not end what is still at work.
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
