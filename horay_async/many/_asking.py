"""
How one row is asked: its calls, one after the other, and what came of them.
"""

from __future__ import annotations

import difflib

from collections.abc import Mapping
from typing import Any, Final

import attrs

from .._errors import InvalidRequestError, StreamAbortedError
from .._fields import (
    ChatFields,
    ChatModel,
    ChatOptions,
    CompletionFields,
    CompletionModel,
    CompletionOptions,
    OptInt,
)
from .._line import Line
from .._requests import ChatRequest, CompletionRequest
from .._settings import check_timeouts
from .._timeouts import Timeouts
from .._values import counted, user
from ._rows import Asked, Conversation, Row, misfit


class RowArguments(ChatOptions, CompletionOptions, total=False):
    """
    What a job of both chats and texts takes: the fields of both, and each call's clocks.
    """

    model: ChatModel | CompletionModel
    logprobs: bool | OptInt
    timeouts: Timeouts | None
    timeout: float | None


_CLOCKS: Final = frozenset({"timeouts", "timeout"})

_OF_MAP: Final = frozenset({"concurrency", "order"})

_SAID: Final = frozenset({"messages", "prompt"})
"""
What the rows bring.
"""


@attrs.frozen(kw_only=True)
class Asking:
    """
    What all rows share: the line, and the fields and clocks that were given for all.
    """

    line: Line

    fields: Mapping[str, Any]

    timeouts: Timeouts

    async def row(self, asked: Asked) -> Row[Any]:
        """
        Ask, and wait for all answers. Whatever goes wrong is the row's error.

        Cancelled: the connection is closed at once; `asked` keeps the answers so far.
        """
        if isinstance(asked.item, Exception):
            # Not raised: each time would lengthen its traceback.
            return _row(asked, asked.item)
        try:
            await self._converse(asked)
        except Exception as error:  # noqa: BLE001 -- one row must not end the others
            return _row(asked, error)
        return _row(asked)

    async def _converse(self, asked: Asked) -> None:
        """
        One call for each turn, every answer going back in as history.
        """
        request, replies = self._request(asked), asked.replies
        replies.append(await self.line.reply(request, self.timeouts))
        if not isinstance(asked.item, Conversation):
            return
        history = list(request.messages)
        for turn in asked.item.turns:
            history += [replies[-1].message, *turn]
            request = request.evolve(messages=history)
            replies.append(await self.line.reply(request, self.timeouts))

    def _request(self, asked: Asked) -> Any:
        """
        The row's first request, bound to its service.
        """
        item = asked.item
        if isinstance(item, str):
            fields = {"messages": [user(item)], **self.fields}
            return self.line.bind(ChatRequest, None, fields)[0]
        if isinstance(item, Conversation):
            item = item.opening
        if isinstance(item, (ChatRequest, CompletionRequest)):
            return self.line.bind(type(item), item, self.fields)[0]
        raise misfit(asked.index, item)


def cut_off(asked: Asked) -> Row[Any]:
    """
    The row of what was cancelled, with the answers that it has.
    """
    when = "before it was answered"
    if asked.replies:
        when = f"after {counted(len(asked.replies), 'answer')}"
    return _row(asked, StreamAbortedError(f"this row was cancelled {when}"))


def _row(asked: Asked, error: Exception | None = None) -> Row[Any]:
    return Row(
        id=asked.id,
        index=asked.index,
        request=asked.item,
        replies=tuple(asked.replies),
        error=error,
    )


# Before anything is sent -------------------------------------------------------------


def asking(line: Line, arguments: Mapping[str, Any]) -> Asking:
    """
    What was given for all rows, checked: what no row could be asked with is refused here.

    Raises:
        TypeError: A name that no request has.
        InvalidRequestError: A value that no request could be sent with.
        ConfigurationError: Clocks that cannot be.
    """
    fields = {name: arguments[name] for name in arguments if name not in _CLOCKS}
    asking = Asking(
        line=line,
        fields=fields,
        timeouts=check_timeouts(
            arguments.get("timeouts"), arguments.get("timeout"), line.settings.timeouts
        ),
    )
    _check_names(fields)
    _check_values(line, fields)
    return asking


_NAMES: Final[Mapping[type[ChatRequest | CompletionRequest], frozenset[str]]] = {
    ChatRequest: frozenset(ChatFields.__annotations__),
    CompletionRequest: frozenset(CompletionFields.__annotations__),
}


def _check_names(fields: Mapping[str, Any]) -> None:
    known = _NAMES[ChatRequest] | _NAMES[CompletionRequest]
    for name in fields:
        if name in _SAID:
            msg = (
                f"{name} is what each of the requests brings, not an argument of map()"
            )
            raise TypeError(msg)
        if name == "stream":
            msg = (
                "map() has no argument 'stream': a row comes when its answer is whole;"
                " chat.completions.stream() gives one answer's tokens as they come"
            )
            raise TypeError(msg)
        if name not in known:
            candidates = known - _SAID | _CLOCKS | _OF_MAP
            close = difflib.get_close_matches(name, candidates, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            msg = (
                f"map() has no argument {name!r}{hint} "
                "(what the builders do not have goes into extra_body)"
            )
            raise TypeError(msg)


def _check_values(line: Line, fields: Mapping[str, Any]) -> None:
    """
    Try each kind of request: what none could be sent with would fail row by row.
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
