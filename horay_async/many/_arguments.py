"""
What a job is given beside its requests, checked before anything is sent.
"""

from __future__ import annotations

import difflib
import inspect
import os

from collections.abc import (
    AsyncIterable,
    Callable,
    Iterable,
    Mapping,
    Sized,
)
from typing import Any, Final, Literal, TypedDict, get_args

import attrs

from .. import _checks as check
from .._errors import ConfigurationError, InvalidRequestError
from .._fields import (
    ChatArguments,
    ChatFields,
    ChatModel,
    ChatOptions,
    CompletionArguments,
    CompletionFields,
    CompletionModel,
    CompletionOptions,
    OptInt,
)
from .._leases import Governing
from .._line import Line
from .._requests import ChatRequest, CompletionRequest
from .._settings import check_flag
from .._timeouts import Timeouts
from .._values import user
from ._money import Budget, Price
from ._progress import Progress
from ._rows import Conversation


Order = Literal["done", "input"]
"""
In which order rows come: as they are done, or as their requests were given.
"""

Streaming = bool | Literal["rows"]
"""
Whether rows are asked as streams, and whether their tokens are told, too.
"""

AT_ONCE: Final = 64
"""
How many rows are asked at once where neither the caller nor the governor says.
"""


class JobOptions(TypedDict, total=False):
    """
    How a job goes about its rows; `AsyncHoray.map` says what each means.
    """

    concurrency: int | None
    order: Order
    journal: str | os.PathLike[str] | None
    retry_failed: bool
    patience: float
    budget: Budget | None
    prices: Mapping[str, Price] | None
    on_progress: Callable[[Progress], object] | None
    total: int | None


class RowArguments(ChatOptions, CompletionOptions, total=False):
    """
    What a job of both chats and texts takes: the fields of both, and each call's clocks.
    """

    model: ChatModel | CompletionModel
    logprobs: bool | OptInt
    timeouts: Timeouts | None
    timeout: float | None


class ChatJob(ChatArguments, JobOptions, total=False):
    """
    All that a job of chats takes.
    """


class CompletionJob(CompletionArguments, JobOptions, total=False):
    """
    All that a job of texts takes.
    """


class MixedJob(RowArguments, JobOptions, total=False):
    """
    All that a job of both takes.
    """


CLOCKS: Final = frozenset({"timeouts", "timeout"})

_OF_MAP: Final = frozenset({*JobOptions.__annotations__, "stream"})

_SAID: Final = frozenset({"messages", "prompt"})
"""
What the rows bring.
"""


# The job's own -----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Terms:
    """
    How one job goes about its rows.
    """

    concurrency: int

    order: Order

    stream: Streaming

    journal: str | os.PathLike[str] | None

    retry_failed: bool

    patience: float

    on_progress: Callable[[Progress], object] | None

    total: int | None


def terms(
    requests: Any,
    governor: Governing,
    *,
    concurrency: int | None = None,
    order: Order = "done",
    stream: Streaming = False,
    journal: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    patience: float = 0.0,
    on_progress: Callable[[Progress], object] | None = None,
    total: int | None = None,
) -> Terms:
    """
    The same, checked, with what was not said.

    Raises:
        TypeError: `requests` is no iterable, or one request in place of many.
        ConfigurationError: Another argument cannot be.
    """
    if concurrency is None:
        concurrency = governor.at_most or AT_ONCE
    _check_count("concurrency", concurrency, at_least=1)
    _check_word("order", order, get_args(Order))
    if not isinstance(stream, bool) and stream != "rows":
        raise ConfigurationError(
            f"stream is {stream!r}, expected True, False or 'rows'"
        )
    _check_requests(requests)
    if total is not None:
        _check_count("total", total, at_least=0)
    elif isinstance(requests, Sized):
        total = len(requests)
    if check_flag("retry_failed", retry_failed) and journal is None:
        raise ConfigurationError(
            "retry_failed asks rows again that failed in an earlier run: it needs"
            " journal=…, which knows them"
        )
    if journal is not None and not isinstance(journal, (str, os.PathLike)):
        raise ConfigurationError(
            f"journal is {check.shown(journal)}, expected the path of a file"
        )
    _check_seconds("patience", patience)
    if on_progress is not None:
        _check_called("on_progress", on_progress)
    return Terms(
        concurrency=concurrency,
        order=order,
        stream=stream,
        journal=journal,
        retry_failed=retry_failed,
        patience=float(patience),
        on_progress=on_progress,
        total=total,
    )


def _check_count(name: str, value: Any, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} is {value!r}, expected a whole number")
    if value < at_least:
        raise ConfigurationError(f"{name} is {value}, expected {at_least} or more")


def _check_seconds(name: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Not a number is not 0 or more either.
    if not number or not value >= 0:
        raise ConfigurationError(
            f"{name} is {check.shown(value)}, expected seconds, 0 or more"
        )


def _check_word(name: str, value: Any, words: Iterable[Any]) -> None:
    if value not in words:
        expected = " or ".join(map(repr, words))
        raise ConfigurationError(f"{name} is {value!r}, expected {expected}")


def _check_called(name: str, value: Any) -> None:
    if not callable(value):
        raise ConfigurationError(f"{name} is {check.shown(value)}, expected a function")
    if inspect.iscoroutinefunction(value):
        raise ConfigurationError(
            f"{name} is a coroutine function, expected a plain one: nobody would await it"
        )


def _check_requests(requests: Any) -> None:
    one = (str, bytes, ChatRequest, CompletionRequest, Conversation)
    if isinstance(requests, one):
        kind = type(requests).__name__
        msg = f"requests is one {kind}, expected many: pass [request]"
        raise TypeError(msg)
    if isinstance(requests, Mapping):
        msg = "requests is a mapping: pass its items(), and its keys are the ids"
        raise TypeError(msg)
    if not isinstance(requests, (Iterable, AsyncIterable)):
        kind = type(requests).__name__
        msg = f"requests is a {kind}, expected an iterable or an async iterable"
        raise TypeError(msg)


# The fields of its requests ----------------------------------------------------------


_NAMES: Final[Mapping[type[ChatRequest | CompletionRequest], frozenset[str]]] = {
    ChatRequest: frozenset(ChatFields.__annotations__),
    CompletionRequest: frozenset(CompletionFields.__annotations__),
}


def check_names(fields: Mapping[str, Any]) -> None:
    """
    Refuse a name that no request has.

    Raises:
        TypeError: It says which, and what may have been meant.
    """
    known = _NAMES[ChatRequest] | _NAMES[CompletionRequest]
    for name in fields:
        if name in _SAID:
            msg = (
                f"{name} is what each of the requests brings, not an argument of map()"
            )
            raise TypeError(msg)
        if name not in known:
            candidates = known - _SAID | CLOCKS | _OF_MAP
            close = difflib.get_close_matches(name, candidates, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            msg = (
                f"map() has no argument {name!r}{hint} "
                "(what the builders do not have goes into extra_body)"
            )
            raise TypeError(msg)


def check_values(line: Line, fields: Mapping[str, Any]) -> None:
    """
    Try each kind of request: what none could be sent with would fail row by row.

    Raises:
        TypeError: Some fields are one kind's and some the other's.
        InvalidRequestError: A value that no request could be sent with.
    """
    kinds = [kind for kind in _NAMES if fields.keys() <= _NAMES[kind]]
    if not kinds:
        chat, text = (min(fields.keys() - names) for names in _NAMES.values())
        msg = f"map() got {chat!r}, which no chat has, and {text!r}, which no text has"
        raise TypeError(msg)
    problems = []
    for kind in kinds:
        try:
            line.bind(kind, None, {**_said(kind, line), **fields})
        except InvalidRequestError as error:
            problems.append(error)
        else:
            return
    raise problems[0]


def _said(kind: type[Any], line: Line) -> dict[str, Any]:
    """
    What a request of this kind cannot be without.
    """
    endpoint = getattr(line.settings.service, kind.endpoint)
    said: dict[str, Any] = {"messages": [user("…")]}
    if kind is CompletionRequest:
        said = {"prompt": "…"}
    if endpoint is not None and endpoint.model is None:
        said["model"] = "…"
    return said
