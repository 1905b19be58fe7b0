"""
HORAY_LOG: what happens underneath, on stderr, for whoever asks.
"""

import logging
import os
import sys
import traceback

from .. import AttemptFailed, AttemptStarted, CallEnded, Event, Hook
from ._failures import say


VARIABLE = "HORAY_LOG"


def set_up() -> None:
    """
    Be quiet, or log, as the environment says.

    Without a handler of ours Python would print the warnings of every library to stderr.
    """
    level = os.environ.get(VARIABLE, "")
    if level not in {"", "info", "debug"}:
        say(f"{VARIABLE} is {level!r}, expected info or debug; ignored")
    if not logging.root.handlers:
        logging.root.addHandler(
            logging.StreamHandler() if level == "debug" else logging.NullHandler()
        )


def show(error: BaseException) -> None:
    """
    Show where an error came from, at `debug`.
    """
    if os.environ.get(VARIABLE) == "debug" and sys.stderr is not None:
        traceback.print_exception(error)


def hook() -> Hook | None:
    """
    What a client calls with its events: at `debug` for each attempt, at `info` at the end.
    """
    return {"debug": _tell, "info": _tell_end}.get(os.environ.get(VARIABLE, ""))


def _tell_end(event: Event) -> None:
    if isinstance(event, CallEnded):
        _tell(event)


def _tell(event: Event) -> None:
    match event:
        case AttemptStarted():
            say(f"attempt {event.attempt}: {event.method} {event.path}")
        case AttemptFailed(wait=None):
            say(f"attempt {event.attempt} failed: {event.error} ({event.reason})")
        case AttemptFailed():
            again = f"{event.reason}; again in {event.wait:.1f} s"
            say(f"attempt {event.attempt} failed: {event.error} ({again})")
        case CallEnded():
            say(f"{event.path} ended: {', '.join(_facts(event))}")


def _facts(event: CallEnded) -> list[str]:
    meta, usage = event.meta, event.usage
    facts = [str(event.outcome), f"status {meta.status}", f"attempts {meta.attempts}"]
    if meta.timings.total is not None:
        facts.append(f"{meta.timings.total:.2f} s")
    if usage is not None:
        facts.append(f"tokens {usage.prompt_tokens} in, {usage.completion_tokens} out")
    if meta.request_id is not None:
        facts.append(f"request id {meta.request_id}")
    return facts
