"""
Answers for a script that do not care how they are asked for.
"""

import asyncio
import inspect
import json
import math
import re
import threading

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from ..emulator import Answer, Request


Piece = str | float | Callable[[], Any]
"""
A text, seconds to wait, a `Hold`, or something to call, which may be async.
"""

ToolCall = tuple[str, Mapping[str, Any] | str] | Mapping[str, Any]
"""
A function's name and its arguments, or a call as openai writes it. Arguments that are a str
are sent as they are, JSON or not.
"""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def reply(
    *pieces: Piece,
    finish: str | None = None,
    tool_calls: Iterable[ToolCall] = (),
    usage: Mapping[str, int] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Callable[[Request], Answer]:
    """
    A right answer, in the form in which it is asked for: streamed or whole, chat or text.

    A stream brings the pieces one by one; a whole answer has all texts together, after
    all waits. Every one of *n* choices says the same.

    Args:
        finish: The finish reason. Default: "tool_calls" where there are some, or "stop".
        tool_calls: A stream brings the arguments of each in two fragments.
        usage: Default: a token a piece. In a stream it comes where the request asks for
            it by `stream_options`, or where it is given here.
        headers: Of the answer, beside those it needs.
    """
    check_steps(pieces)
    said = _Said(
        [_piece(piece) for piece in pieces],
        finish=finish,
        tool_calls=_tool_calls(tool_calls),
        usage=usage,
        headers=_headers(headers),
    )
    return said.answer


def refusal(
    status: int,
    message: str = "refused by the script of a test",
    *,
    type: str | None = None,  # noqa: A002 -- openai's word
    code: str | None = None,
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """
    An answer that says no, in openai's shape.

    Args:
        retry_after: Seconds, for the header `Retry-After`.
    """
    _check_status(status)
    named = _headers(headers)
    if retry_after is not None:
        named["retry-after"] = f"{_seconds(retry_after):g}"
    error = {"message": message, "type": type, "param": None, "code": code}
    return Answer.json({"error": error}, status, headers=named)


def check_steps(steps: Iterable[Any]) -> None:
    """
    Refuse what would never wake the emulator's thread. Generators are not looked into.
    """
    if isinstance(steps, (list, tuple)) and any(
        isinstance(step, (asyncio.Event, threading.Event)) for step in steps
    ):
        raise TypeError(
            "an event cannot be waited for on the emulator's thread: use hold()"
        )


class _Said:
    """
    What is said, before it is known how.
    """

    def __init__(
        self,
        pieces: list[Piece],
        *,
        finish: str | None,
        tool_calls: list[dict[str, Any]],
        usage: Mapping[str, int] | None,
        headers: Mapping[str, str],
    ) -> None:
        self.pieces = pieces
        self.texts = [piece for piece in pieces if isinstance(piece, str)]
        self.tool_calls = tool_calls
        self.finish = finish or ("tool_calls" if tool_calls else "stop")
        self.usage = usage
        self.headers = headers

    def answer(self, request: Request) -> Answer:
        asked = request.json if isinstance(request.json, dict) else {}
        choices = range(asked.get("n") or 1)
        text = "/chat/" not in request.path
        kind = "text_completion" if text else "chat.completion"
        base = {
            "id": f"scripted-{request.number}",
            "object": kind,
            "created": 0,
            "model": asked.get("model"),
        }
        if request.streaming:
            return self._streamed(asked, base, choices, text=text)
        return self._whole(base, choices, text=text)

    def _whole(self, base: dict[str, Any], choices: range, *, text: bool) -> Answer:
        said: dict[str, Any] = {"text": "".join(self.texts)}
        if not text:
            content = said["text"] if self.texts or not self.tool_calls else None
            message: dict[str, Any] = {"role": "assistant", "content": content}
            if self.tool_calls:
                message["tool_calls"] = self.tool_calls
            said = {"message": message}
        answer = base | {
            "choices": [
                {"index": index, **said, "finish_reason": self.finish}
                for index in choices
            ],
            "usage": self._usage(len(choices)),
        }
        waits = [piece for piece in self.pieces if not isinstance(piece, str)]
        return Answer.json(answer, headers=self.headers, before=waits)

    def _streamed(
        self, asked: dict[str, Any], base: dict[str, Any], choices: range, *, text: bool
    ) -> Answer:
        if not text:
            base = base | {"object": "chat.completion.chunk"}

        def chunks(said: dict[str, Any], finish: str | None = None) -> list[Any]:
            parts = said if text else {"delta": said}
            return [
                base | {"choices": [{"index": index, **parts, "finish_reason": finish}]}
                for index in choices
            ]

        name = "text" if text else "content"
        events = [] if text else chunks({"role": "assistant", "content": ""})
        for piece in self.pieces:
            events += chunks({name: piece}) if isinstance(piece, str) else [piece]
        if not text:
            for index, call in enumerate(self.tool_calls):
                for fragment in _fragments(index, call):
                    events += chunks({"tool_calls": [fragment]})
        events += chunks({name: ""} if text else {}, self.finish)
        options = asked.get("stream_options") or {}
        if self.usage is not None or options.get("include_usage"):
            events.append(base | {"choices": [], "usage": self._usage(len(choices))})
        return Answer.sse(*events, headers=self.headers)

    def _usage(self, choices: int) -> dict[str, int]:
        if self.usage is not None:
            return dict(self.usage)
        written = choices * (len(self.texts) + len(self.tool_calls))
        return {
            "prompt_tokens": 1,
            "completion_tokens": written,
            "total_tokens": 1 + written,
        }


def _piece(piece: Any) -> Piece:
    """
    A piece of what is said, if it is one.
    """
    if isinstance(piece, str):
        return piece
    if isinstance(piece, (int, float)) and not isinstance(piece, bool):
        return _seconds(piece)
    wrong = repr(piece)
    if isinstance(piece, (list, tuple)):
        wrong += f": reply({', '.join(map(repr, piece))})"
    elif isinstance(piece, Answer):
        wrong = "an Answer, which goes into script() itself"
    elif isinstance(getattr(piece, "__self__", None), _Said):
        wrong = "another reply"
    elif getattr(piece, "__qualname__", "") == "LiveEmulator.hold":
        wrong = "hold: call it, hold()"
    elif callable(piece) and not isinstance(piece, type):
        return partial(_do, piece)
    raise TypeError(f"reply() takes texts, seconds, holds and functions, not {wrong}")


def _check_status(status: Any) -> None:
    said = f"a status is a number from 200 to 599, not {status!r}"
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(said)
    if not 200 <= status <= 599:
        raise ValueError(said)


async def _do(step: Callable[[], Any]) -> None:
    """
    Call it. What it returns is not sent: that would stand between the answer's own bytes.
    """
    result = step()
    if inspect.isawaitable(result):
        await result


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a wait is a number of seconds, not {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"a wait is 0 seconds or more, not {value!r}")
    return value


def _headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """
    Headers that HTTP can carry (RFC 9110, 5.1 and 5.5).
    """
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"{name!r}: {value!r} cannot be a header: both are a str")
        if not _TOKEN.fullmatch(name) or not _FIELD.fullmatch(value):
            raise ValueError(f"{name!r}: {value!r} cannot be a header")
    return dict(headers or {})


def _tool_calls(calls: Any) -> list[dict[str, Any]]:
    if isinstance(calls, (str, Mapping)) or not isinstance(calls, Iterable):
        calls = [calls]
    return [_tool_call(call, index) for index, call in enumerate(calls)]


def _tool_call(call: Any, index: int) -> dict[str, Any]:
    """
    A call as openai writes it.
    """
    match call:
        case (str(name), str() | Mapping() as arguments):
            pass
        case {
            "function": {"name": str(name), "arguments": str() | Mapping() as arguments}
        }:
            pass
        case _:
            raise TypeError(
                "tool_calls holds pairs of a name and its arguments, such as"
                f' [("weather", {{"place": "Odesa"}})], and {call!r} is none'
            )
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    function = {"name": name, "arguments": arguments}
    named = {"id": f"call_{index + 1}", "type": "function"}
    if isinstance(call, Mapping):
        named |= call
    return {**named, "function": function}


def _fragments(index: int, call: dict[str, Any]) -> list[dict[str, Any]]:
    """
    The call in a stream: its name whole, then its arguments in two halves.
    """
    arguments = call["function"]["arguments"]
    half = len(arguments) // 2
    opening = call | {"function": call["function"] | {"arguments": ""}}
    return [
        {"index": index, **opening},
        {"index": index, "function": {"arguments": arguments[:half]}},
        {"index": index, "function": {"arguments": arguments[half:]}},
    ]
