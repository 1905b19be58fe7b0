"""
Waits between attempts that take no time.
"""

from types import TracebackType
from typing import Self

from .. import _policy


class instant_retries:  # noqa: N801 -- used like a function, as in a `with`
    """
    Inside its `with`, no wait between two attempts of a call takes any time.

    In the whole process: the app may run in another thread. All else stays as it is: how
    often is tried, which waits are too long, what errors, hooks and `meta.timings` say of
    them, and that a wait uses up the deadline. A 429 makes nobody else wait, either.

    It is about the clients of this library; another client's waits are its own. Such a
    block may stand in another, or overlap with it.
    """

    def __enter__(self) -> Self:
        _policy.INSTANT.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _policy.INSTANT.remove(self)
