"""
What happened to a call, told to whoever listens: a hook, and the log.

A log is kept and passed around, so its records hold facts only: no key, no prompt, no answer,
and no sentence of a server's, which may repeat any of them.
"""

from __future__ import annotations

import itertools
import logging
import os
import re

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, TextIO

import attrs

from ._errors import APIError, APITimeoutError, HorayError
from ._values import Meta, Outcome, Usage


logger = logging.getLogger("horay_async")
logger.addHandler(logging.NullHandler())

LOG_VARIABLE: Final = "HORAY_LOG"

_LEVELS: Final = {"info": logging.INFO, "debug": logging.DEBUG}


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

    call: int = 0
    """
    The call's number in this process: several may be under way at once.
    """

    row: str | None = None
    """
    The id of the job's row for which it is made; None outside of jobs.
    """


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

    call: int = 0

    row: str | None = None


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

    call: int = 0

    row: str | None = None


Event = AttemptStarted | AttemptFailed | CallEnded

Hook = Callable[[Event], None]

_WORTH_SAYING: Final = 0.1
"""
Seconds: of a shorter wait of all calls nobody need be told.
"""

_numbers: Final = itertools.count(1)


class Report:
    """
    What is told of one call: to its hook, and to the log.
    """

    __slots__ = ("_attempt", "_hook", "_method", "_number", "_path", "_row", "_running")

    def __init__(
        self, hook: Hook | None, method: str, path: str, row: str | None = None
    ) -> None:
        self._hook = hook
        self._method = method
        self._path = path
        self._row = row
        self._number = next(_numbers)
        self._attempt = 0
        self._running = False

    def started(self, attempt: int) -> None:
        """
        A request is about to be sent.
        """
        self._attempt, self._running = attempt, True
        if self._is_wanted(logging.DEBUG):
            started = AttemptStarted(
                attempt=attempt,
                method=self._method,
                path=self._path,
                call=self._number,
                row=self._row,
            )
            tell(self._hook, started)

    def failed(self, error: HorayError, wait: float | None, reason: str) -> None:
        """
        It failed. What fails between two attempts, in the queue say, is none of them.
        """
        if self._running:
            self._running = False
            failed = AttemptFailed(
                attempt=self._attempt,
                error=error,
                wait=wait,
                reason=reason,
                call=self._number,
                row=self._row,
            )
            tell(self._hook, failed)

    def ended(
        self,
        outcome: Outcome,
        meta: Meta,
        usage: Usage | None,
        error: BaseException | None,
    ) -> None:
        """
        The call is over.
        """
        if self._is_wanted(logging.INFO):
            ended = CallEnded(
                path=self._path,
                outcome=outcome,
                meta=meta,
                usage=usage,
                error=error,
                call=self._number,
                row=self._row,
            )
            tell(self._hook, ended)

    def _is_wanted(self, level: int) -> bool:
        # Most programs listen to nothing, and pay for no more than this question.
        return self._hook is not None or logger.isEnabledFor(level)


def tell(hook: Hook | None, event: Event) -> None:
    """
    Log an event, and call the hook. One that raises is logged: it must not break the call
    that it watches.
    """
    _log(event)
    if hook is not None:
        try:
            hook(event)
        except Exception:
            logger.exception("on_event raised for %s", type(event).__name__)


def gate_closed(key: Hashable, wait: float, waiting: int) -> None:
    """
    A refusal has stopped all calls that share a limit: said once, not by each that waits.

    Args:
        key: What shares it. What is secret in it is not said.
        wait: Seconds.
        waiting: How many wait already.
    """
    if wait < _WORTH_SAYING or not logger.isEnabledFor(logging.INFO):
        return
    # A key is a `Secret`, which is not quite a string.
    parts = key if isinstance(key, tuple) else (key,)
    where = " ".join(part for part in parts if type(part) is str)
    facts = {"event": "GateClosed", "wait": wait, "waiting": waiting, "where": where}
    logger.info(
        "refused (429): no call to %s for %.1f s, %d waiting",
        where,
        wait,
        waiting,
        extra={"horay": facts},
    )


# The log -----------------------------------------------------------------------------


class _Stderr(logging.StreamHandler[TextIO]):
    """
    Says what nobody else takes: a program may set its logging up after its first client.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_heard(besides=self):
            super().emit(record)


def log_level() -> int | None:
    """
    What `HORAY_LOG` asks for; None: nothing, or nothing that we know.
    """
    return _LEVELS.get(_said())


def _said() -> str:
    return os.environ.get(LOG_VARIABLE, "").strip().lower()


def listen(handler: logging.Handler | None = None) -> None:
    """
    Log as `HORAY_LOG` says, if it says anything.

    Args:
        handler: Takes the records. None: stderr, as long as nobody else takes them.
    """
    said = _said()
    if not said:
        return
    if handler is None and not _is_heard():
        handler = _Stderr()
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s")
        )
    if handler is not None:
        logger.addHandler(handler)
        if said not in _LEVELS:
            logger.warning(
                "%s is %r, expected info or debug; ignored", LOG_VARIABLE, said
            )
    level = _LEVELS.get(said, logging.WARNING)
    if not logger.isEnabledFor(level):
        logger.setLevel(level)


def _is_heard(besides: logging.Handler | None = None) -> bool:
    one: logging.Logger | None = logger
    while one is not None:
        for each in one.handlers:
            if each is not besides and not isinstance(each, logging.NullHandler):
                return True
        one = one.parent if one.propagate else None
    return False


def _log(event: Event) -> None:
    level = logging.INFO if isinstance(event, CallEnded) else logging.DEBUG
    if logger.isEnabledFor(level):
        logger.log(level, "%s", _sentence(event), extra={"horay": facts_of(event)})


def facts_of(event: Event) -> dict[str, Any]:
    """
    What a log may keep of an event: the attribute `horay` of its record.
    """
    facts: dict[str, Any] = {"event": type(event).__name__, "call": event.call}
    if event.row is not None:
        facts["row"] = event.row
    match event:
        case AttemptStarted():
            facts |= {
                "attempt": event.attempt,
                "method": event.method,
                "path": event.path,
            }
        case AttemptFailed():
            facts |= {
                "attempt": event.attempt,
                "wait": event.wait,
                "reason": event.reason,
                **_facts_of_error(event.error),
            }
        case CallEnded():
            facts |= {
                "path": event.path,
                "outcome": str(event.outcome),
                "status": event.meta.status,
                "attempts": event.meta.attempts,
                "request_id": _word(event.meta.request_id),
                "timings": attrs.asdict(event.meta.timings),
                "usage": event.usage and _facts_of_usage(event.usage),
                **_facts_of_error(event.error),
            }
    return facts


def _facts_of_error(error: BaseException | None) -> dict[str, Any]:
    if error is None:
        return {}
    facts: dict[str, Any] = {"error": type(error).__name__}
    if error.__cause__ is not None:
        facts["cause"] = type(error.__cause__).__name__
    if isinstance(error, APITimeoutError):
        facts["clock"] = error.clock
    if isinstance(error, APIError):
        facts["status"] = error.status_code
        facts["code"] = _word(error.code)
        facts["request_id"] = _word(error.request_id)
    return facts


def _facts_of_usage(usage: Usage) -> dict[str, Any]:
    # Not all of it: it keeps what else the server wrote.
    names = ("prompt_tokens", "completion_tokens", "total_tokens", "source")
    return {name: getattr(usage, name) for name in names}


def _word(value: Any) -> Any:
    """
    A code or an id; None for what is none: a server may put any text there.
    """
    if isinstance(value, str):
        return value if re.fullmatch(r"[\w.:/+=-]{1,128}", value, re.ASCII) else None
    return value if isinstance(value, int) else None


def _sentence(event: Event) -> str:
    match event:
        case AttemptStarted():
            which = f"attempt {event.attempt} of {_call(event)}"
            return f"{which}: {event.method} {event.path}"
        case AttemptFailed():
            which = f"attempt {event.attempt} of {_call(event)}"
            what = list(_of_error(event.error))
            more = [] if event.reason in what else [event.reason]
            if event.wait is not None:
                soon = event.wait < 0.05
                more.append("again at once" if soon else f"again in {event.wait:.1f} s")
            return "; ".join([f"{which} failed: {', '.join(what)}", *more])
        case CallEnded():
            return f"{event.path} ended: {', '.join(_of_end(event))}"


def _of_error(error: BaseException) -> Iterator[str]:
    facts = _facts_of_error(error)
    yield facts.pop("error")
    for name, value in facts.items():
        if value is not None:
            yield f"{name.replace('_', ' ')} {value}"


def _of_end(event: CallEnded) -> Iterator[str]:
    meta, usage = event.meta, event.usage
    yield str(event.outcome)
    if event.error is not None:
        yield type(event.error).__name__
    yield f"status {meta.status}"
    yield f"attempts {meta.attempts}"
    if meta.timings.total is not None:
        yield f"{meta.timings.total:.2f} s"
    if usage is not None:
        yield f"tokens {usage.prompt_tokens} in, {usage.completion_tokens} out"
    if (request_id := _word(meta.request_id)) is not None:
        yield f"request id {request_id}"
    yield _call(event)


def _call(event: Event) -> str:
    row = "" if event.row is None else f" (row {event.row!r})"
    return f"call {event.call}{row}"
