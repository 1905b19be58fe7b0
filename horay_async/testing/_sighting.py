"""
What the emulator saw, or did not see in time: an answer that a test asserts.
"""

import asyncio

from collections.abc import Generator
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple, Self

from anyio import to_thread

from ..emulator import Request


class Seen(NamedTuple):
    """
    What came of looking.
    """

    so: bool

    words: str

    requests: list[Request]


class Sighting:
    """
    Whether something was seen in time. It is true or false, and its repr says why.

    In sync code it waits when it is asked for its truth: `assert
    horay_emulator.saw_disconnect(within=0.1)`. In async code it is awaited, and gives
    itself: `assert await horay_emulator.saw_disconnect(within=0.1)`. The time runs from
    the call on, and it waits no longer than until the thing is seen.

    Cancelling gives up the wait at once, and it can be awaited again. A thread of anyio's
    waits on meanwhile, until the thing is seen or the time is over.
    """

    __slots__ = ("_call", "_future")

    def __init__(self, call: str, future: Future[Seen]) -> None:
        self._call = call
        self._future = future

    def __bool__(self) -> bool:
        """
        Raises:
            RuntimeError: It would have to wait, and keep an event loop from running
                meanwhile: the loop that the tested app may need.
        """
        self._check()
        return self._seen().so

    def __await__(self) -> Generator[Any, None, Self]:
        # In a thread, whatever the loop is: asyncio's, uvloop's or trio's.
        if not self._future.done():
            wait = to_thread.run_sync(self._seen, abandon_on_cancel=True)
            yield from wait.__await__()
        return self

    @property
    def requests(self) -> list[Request]:
        """
        The requests that it is about: those seen, those whose client left, or those that
        keep the emulator busy. Waits, as asking for its truth does.
        """
        self._check()
        return self._seen().requests

    def __repr__(self) -> str:
        return f"<{self._seen().words if self._future.done() else self._call}>"

    def _check(self) -> None:
        if self._future.done():
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise RuntimeError(
            f"{self._call} has to wait, and an event loop runs here, which would stand"
            " still: put `await` before it"
        )

    def _seen(self) -> Seen:
        try:
            return self._future.result()
        except CancelledError:
            return Seen(False, f"{self._call}: the emulator was closed before", [])
