"""
How far a batch is, on stderr: a bar on a terminal, a line now and then elsewhere.
"""

import asyncio
import contextlib
import math
import sys

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from .. import Progress
from ._failures import say
from ._tally import amount, clock
from ._terminal import is_terminal


if TYPE_CHECKING:
    from rich.console import Console

# Seconds.
_BAR_EVERY, _LINE_EVERY = 0.2, 5.0

# Columns: a shorter bar says nothing that the numbers do not, a longer one neither.
_SHORTEST, _LONGEST = 10, 40

# Facts that say more than a bar does.
_BEFORE_BAR = 4


class View(Protocol):
    """
    A way to show it.
    """

    every: float
    """
    Seconds from one time to the next.
    """

    def show(self, now: Progress) -> None:
        """
        Show how far it is.
        """

    def clear(self) -> None:
        """
        Leave the cursor at the beginning of an empty line.
        """


class Showing:
    """
    Shows how far a batch is as long as its block lasts; on the loop, by a task of its own.
    """

    def __init__(self, now: Progress, view: View | None) -> None:
        self._now = now
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
        while True:
            view.show(self._now)
            await asyncio.sleep(view.every)


def fitting_view() -> View:
    """
    The view that fits stderr.
    """
    return (_bar() if is_terminal(sys.stderr) else None) or LineView()


def _facts(now: Progress) -> list[str]:
    """
    How far it is, in words, the most important first.
    """
    of_all = "" if now.total is None else f"/{now.total}"
    facts = [f"{now.done + now.skipped}{of_all} lines"]
    if now.away:
        facts.append(f"waiting for the server, {clock(now.away)}")
    if failed := now.failed - now.unanswered:
        facts.append(f"{failed} failed")
    if now.unanswered:
        facts.append(f"{now.unanswered} not answered")
    facts.append(clock(now.seconds) if now.eta is None else f"{clock(now.eta)} left")
    if speed := now.tokens_per_second:
        facts.append(f"{speed:.0f} tokens/s")
    if now.cost is not None:
        facts.append(f"cost {amount(now.cost)}")
    facts.append(f"{now.in_flight} in flight")
    if now.retried:
        facts.append(f"{now.retried} retried")
    return facts


class LineView:
    """
    One plain line every few seconds, if anything has happened in them; while the server is
    away, one a minute.
    """

    every = _LINE_EVERY

    def __init__(self) -> None:
        self._done = 0
        self._minutes = 0

    def show(self, now: Progress) -> None:
        """
        Say how far it is, if that is further than before.
        """
        # The minute that has begun; 0: the server is there.
        minutes = math.ceil(now.away / 60)
        if now.done > self._done or minutes > self._minutes:
            self._done = now.done
            say(", ".join(_facts(now)))
        self._minutes = minutes

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

    def show(self, now: Progress) -> None:
        """
        Draw the line in the place of the last one.
        """
        with self._console.capture() as line:
            self._print(now, _facts(now))
        self._drawn = True
        self._write(f"\r{line.get()}\x1b[K")

    def clear(self) -> None:
        """
        Take the line away.
        """
        if self._drawn:
            self._drawn = False
            self._write("\r\x1b[K")

    def _print(self, now: Progress, facts: list[str]) -> None:
        from rich.progress_bar import ProgressBar  # noqa: PLC0415 -- as in _bar

        # Three columns stay free: the terminal itself writes ^C behind the line, and would
        # begin another one.
        width = self._console.width - 3
        for least, most in (_BEFORE_BAR, width - _SHORTEST - 2), (1, width):
            while len(facts) > least and len("  ".join(facts)) > most:
                facts.pop()
        text = "  ".join(facts)
        room = min(width - len(text) - 2, _LONGEST)
        if now.total is not None and room >= _SHORTEST:
            done = now.done + now.skipped
            bar = ProgressBar(total=now.total, completed=done, width=room)
            self._console.print(bar, end="")
            text = f"  {text}"
        self._console.print(text[:width], end="", markup=False)

    def _write(self, text: str) -> None:
        # A terminal that is gone must not end what is still at work.
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
