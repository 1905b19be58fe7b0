"""
How far the local model's download is, on stderr.
"""

import sys

from types import TracebackType
from typing import Self

from ._failures import say
from ._terminal import is_terminal


class Fetching:
    """
    A bar on a terminal, one line elsewhere, nothing where nothing is fetched.
    """

    def __init__(self) -> None:
        self._begun = False
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """
        So many bytes are there, of so many.
        """
        if not self._begun:
            self._begun = True
            if is_terminal(sys.stderr):
                self._bar = _Bar(total)
            else:
                say(f"fetching the model, {total / 1e6:.0f} MB, once")
        if self._bar is not None:
            self._bar.show(done)


class _Bar:
    """
    rich's, imported only where it is shown: that takes as long as a short answer.
    """

    def __init__(self, total: int) -> None:
        from rich.console import Console  # noqa: PLC0415 -- see above
        from rich.progress import (  # noqa: PLC0415 -- see above
            BarColumn,
            DownloadColumn,
            Progress,
        )
        from rich.table import Column  # noqa: PLC0415 -- see above

        # On a narrow terminal the bar shrinks and the figures are cut; one line it stays.
        figures, rest = Column(no_wrap=True), Column(no_wrap=True, ratio=1)
        self._progress = Progress(
            "fetching the model, once",
            BarColumn(bar_width=None, table_column=rest),
            DownloadColumn(table_column=figures),
            console=Console(stderr=True),
            expand=True,
            redirect_stdout=False,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total)
        self._progress.start()

    def show(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def stop(self) -> None:
        self._progress.stop()
