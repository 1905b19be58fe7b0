"""
The one loop over what is closed when that loop is left.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, Self, TypeVar, final


ItemT = TypeVar("ItemT")


class Looped(Protocol):
    """
    What is looped over: a job, or a fan-out.
    """

    async def _next(self) -> Any: ...

    def _abandon(self) -> None: ...


@final
class Loop(Generic[ItemT]):
    """
    Its items, one by one; whoever leaves the loop leaves what it is over.

    CPython collects this object at `break`, as nothing but the loop refers to it.
    """

    __slots__ = ("_over",)

    def __init__(self, over: Looped) -> None:
        self._over = over

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        """
        Wait for the next one; cancelling loses none.
        """
        try:
            item: ItemT = await self._over._next()
            return item
        finally:
            # Whoever keeps a cancellation keeps its frames: not us with them.
            del self

    def __del__(self) -> None:
        self._over._abandon()
