"""
Hooks: told of everything, and unable to break anything.
"""

import logging

import attrs
import pytest

from horay_async._errors import APIConnectionError
from horay_async._events import AttemptFailed, AttemptStarted, CallEnded, logger, tell
from horay_async._values import Meta, Outcome


STARTED = AttemptStarted(attempt=1, method="POST", path="/chat/completions")


def test_told():
    """
    A hook gets the event; no hook is fine.
    """
    heard = []
    tell(heard.append, STARTED)
    tell(None, STARTED)
    assert heard == [STARTED]


def test_a_hook_that_raises(caplog):
    """
    It is logged, with what it raised; the call that it watches goes on.
    """

    def hook(event):
        raise ZeroDivisionError("in the hook")

    tell(hook, STARTED)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("horay_async", logging.ERROR)
    assert record.getMessage() == "on_event raised for AttemptStarted"
    assert record.exc_info[0] is ZeroDivisionError


def test_a_hook_that_stops_the_program():
    """
    What is no ordinary exception passes.
    """

    def hook(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tell(hook, STARTED)


def test_events_are_frozen():
    """
    All hooks see the same.
    """
    failed = AttemptFailed(
        attempt=2, error=APIConnectionError("x"), wait=None, reason="no use"
    )
    ended = CallEnded(path="/models", outcome=Outcome.FINISHED, meta=Meta(), usage=None)
    assert ended.error is None
    for event in (STARTED, failed, ended):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            event.path = "other"


def test_a_quiet_logger():
    """
    A library prints nothing unless somebody wants to hear it.
    """
    assert any(isinstance(one, logging.NullHandler) for one in logger.handlers)
