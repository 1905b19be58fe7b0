"""
A command at work on its event loop, until it is done or told to stop.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time

from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, NoReturn, Self, TypeVar

from ._terminal import SHOW_CURSOR, is_terminal


T = TypeVar("T")

# Two signals in such a short time are one: `timeout` and others send theirs to the process
# and then to its group as well.
_SAME = 0.3

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """
    The user, or the system, has told the command to end; what was at work has ended.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def code(self) -> int:
        """
        The exit code: as if the signal had killed us.
        """
        return 128 + self.number


class Loop:
    """
    An event loop that runs one piece of work after the other.

    Unlike `asyncio.Runner`, closing it waits for no thread: one that asks a name server
    in vain would hold up the end.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        loop = self._loop
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait(tasks) if tasks else asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Run *work* to its end; Ctrl-C and SIGTERM cancel it, and a second one ends all.

        Raises:
            Stopped: It was told to stop, and was not done.
        """
        task = self._loop.create_task(work)
        stop = _Stop(lambda: self._loop.call_soon_threadsafe(task.cancel))
        with handling(stop, *_SIGNALS):
            try:
                return self._loop.run_until_complete(task)
            except asyncio.CancelledError:
                if stop.number is None:
                    raise
                raise Stopped(stop.number) from None


class _Stop:
    """
    What the two signals do: the first one asks, the second one does not.
    """

    def __init__(self, cancel: Callable[[], object]) -> None:
        self.number: int | None = None
        self._cancel = cancel
        self._since = 0.0

    def __call__(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            self._since = time.monotonic()
            self._cancel()
        elif time.monotonic() - self._since > _SAME:
            _break_off(number)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """
    Run *work* on a loop of its own.
    """
    with Loop() as loop:
        return loop.run(work)


@contextlib.contextmanager
def handling(
    handler: Callable[[int, FrameType | None], object], *numbers: signal.Signals
) -> Iterator[None]:
    """
    Have *handler* called for these signals, as long as the block lasts.

    A handler of Python's and not of the loop's: it is called while the loop is held up, too.
    What is ignored stays so: a shell's background jobs do not hear Ctrl-C.
    """
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _break_off(number: int) -> NoReturn:
    """
    End at once, whatever is at work; a terminal gets its cursor back.
    """
    if is_terminal(sys.stderr):
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), SHOW_CURSOR + b"\n")
    os._exit(128 + number)


def end(code: int) -> None:
    """
    End the process, if a thread would hold up its end.

    Python waits for every thread of a pool, even for one that asks a name server in vain.
    """
    waits = {thread for thread in threading.enumerate() if not thread.daemon}
    if waits == {threading.main_thread()}:
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
