"""
Hooks: what happened to a call, told to whoever listens. Logs and telemetry stand on these.
"""

from __future__ import annotations

import logging

from collections.abc import Callable

import attrs

from ._errors import HorayError
from ._values import Meta, Outcome, Usage


logger = logging.getLogger("horay_async")
logger.addHandler(logging.NullHandler())


@attrs.frozen(kw_only=True)
class AttemptStarted:
    """
    One HTTP request is about to be sent.
    """

    attempt: int
    """
    1 for the first.
    """

    method: str

    path: str


@attrs.frozen(kw_only=True)
class AttemptFailed:
    """
    One attempt failed, and what was decided.
    """

    attempt: int

    error: HorayError

    wait: float | None
    """
    Seconds until the next attempt; None: there is none, the error is raised.
    """

    reason: str
    """
    Why it is tried again, or why not.
    """


@attrs.frozen(kw_only=True)
class CallEnded:
    """
    A call is over, well or not.
    """

    path: str

    outcome: Outcome

    meta: Meta

    usage: Usage | None

    error: BaseException | None = None


Event = AttemptStarted | AttemptFailed | CallEnded

Hook = Callable[[Event], None]


def tell(hook: Hook | None, event: Event) -> None:
    """
    Call the hook. One that raises is logged: it must not break the call that it watches.
    """
    if hook is not None:
        try:
            hook(event)
        except Exception:
            logger.exception("on_event raised for %s", type(event).__name__)
