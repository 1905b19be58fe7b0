"""
Where a job's requests come from: any iterable, waited for or not.
"""

from __future__ import annotations

import contextlib

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
)
from typing import Any, Final

from ._asked import Asked


END: Final = object()


class Source:
    """
    The requests, one at a time. One task takes them, and closes it.
    """

    __slots__ = ("_requests",)

    def __init__(self, requests: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._requests: Any = requests

    def open(self) -> Callable[[], Awaitable[Any]]:
        """
        What takes the next one, or `END`.
        """
        if isinstance(self._requests, AsyncIterable):
            waited = self._requests = aiter(self._requests)
            return lambda: anext(waited, END)
        at_hand = self._requests = iter(self._requests)

        async def take() -> Any:
            return next(at_hand, END)

        return take

    async def close(self) -> None:
        """
        Close a generator: of all that may be given only that is the job's to close, a file
        is not. Twice is fine.
        """
        requests, self._requests = self._requests, None
        if isinstance(requests, AsyncGenerator):
            await requests.aclose()
        elif isinstance(requests, Generator):
            requests.close()


def asked(index: int, given: Any) -> Asked:
    """
    Tell the id from what it belongs to; what is neither is left to its row's error.
    """
    if isinstance(given, tuple) and len(given) == 2:
        name, item = given
        if isinstance(name, (str, int)) and not isinstance(name, bool):
            # An integer of thousands of digits has no text.
            with contextlib.suppress(ValueError):
                return Asked(index, str(name), item)
    return Asked(index, str(index), given)
