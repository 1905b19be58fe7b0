"""
What waits for a job's reader: rows in their order, and tokens, so many of each row.
"""

from __future__ import annotations

import asyncio

from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from .._values import Token
from ._arguments import Order
from ._asked import Asked
from ._rows import Row, RowToken


UNTOLD: Final = 32
"""
How many tokens of a row may wait for the reader before its stream is read no further. A
block of a fast server's stream holds about as many.
"""


class Outlet:
    """
    One job's.
    """

    __slots__ = ("_due", "_late", "_ready", "_unwritten", "news", "passed")

    def __init__(self, order: Order) -> None:
        self._ready: deque[Row[Any] | tuple[Asked, Token, int]] = deque()
        # Rows that wait for those before them, by their places; and the place that is due.
        self._late: dict[int, Row[Any]] | None = {} if order == "input" else None
        self._due = 0
        self._unwritten: list[Row[Any]] = []
        self.news = asyncio.Event()
        """
        Set when something is there, or over.
        """
        self.passed: int = 0
        """
        Rows that the reader need not take any more.
        """

    @property
    def unread(self) -> Sequence[Row[Any]]:
        """
        The rows that nobody took.
        """
        late = self._late or {}
        ready = (one for one in self._ready if isinstance(one, Row))
        return (*ready, *(late[place] for place in sorted(late)), *self._unwritten)

    # In ------------------------------------------------------------------------------

    def put(self, asked: Asked, row: Row[Any]) -> None:
        """
        A row is over.
        """
        if asked.unwritten:
            # The reader gets what is in the journal, and nothing else.
            self._unwritten.append(row)
        elif self._late is None:
            self._ready.append(row)
        else:
            self._late[asked.place] = row
            while self._due in self._late:
                self._ready.append(self._late.pop(self._due))
                self._due += 1
        self.news.set()

    def tell(self, asked: Asked, token: Token) -> Awaitable[None] | None:
        """
        A token came. What this returns, if anything, is to be waited for before the next.
        """
        self._ready.append((asked, token, len(asked.replies)))
        self.news.set()
        asked.untold += 1
        if asked.untold < UNTOLD:
            return None
        asked.held_back = asyncio.get_running_loop().create_future()
        return asked.held_back

    # Out -----------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self._ready)

    def take(self) -> Row[Any] | RowToken:
        """
        The next one; only where there is one.
        """
        one = self._ready.popleft()
        if isinstance(one, Row):
            self.passed += 1
            return one
        asked, token, turn = one
        asked.untold -= 1
        held_back = asked.held_back
        # Not at each: a stream that is woken reads a whole block.
        if held_back is not None and asked.untold <= UNTOLD // 2:
            asked.held_back = None
            if not held_back.done():
                held_back.set_result(None)
        return RowToken(asked.id, asked.index, token, turn)
