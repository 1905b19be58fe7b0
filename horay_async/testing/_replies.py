"""
Answers for a script that do not care how they are asked for.
"""

import asyncio
import json
import threading

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..emulator import Answer, Request


Piece = Any
"""
A text, seconds to wait, a `Hold`, or something to call, which may be async.
"""

ToolCall = tuple[str, Mapping[str, Any] | str]
"""
A function's name and its arguments; a str is sent as it is, JSON or not.
"""


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
        pieces,
        finish=finish,
        tool_calls=list(tool_calls),
        usage=usage,
        headers=headers or {},
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
    named = dict(headers or {})
    if retry_after is not None:
        named["retry-after"] = f"{retry_after:g}"
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
        pieces: tuple[Piece, ...],
        *,
        finish: str | None,
        tool_calls: list[ToolCall],
        usage: Mapping[str, int] | None,
        headers: Mapping[str, str],
    ) -> None:
        self.pieces = pieces
        self.texts = [piece for piece in pieces if isinstance(piece, str)]
        self.tool_calls = [_tool_call(*call, at) for at, call in enumerate(tool_calls)]
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

        def chunks(said: dict[str, Any], finish: str | None = None) -> list[Piece]:
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
            for call in self.tool_calls:
                for fragment in _fragments(call):
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


def _tool_call(
    name: str, arguments: Mapping[str, Any] | str, index: int
) -> dict[str, Any]:
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{index + 1}", "type": "function", "function": function}


def _fragments(call: dict[str, Any]) -> list[dict[str, Any]]:
    """
    The call in a stream: its name whole, then its arguments in two halves.
    """
    index = int(call["id"].rpartition("_")[2]) - 1
    arguments = call["function"]["arguments"]
    half = len(arguments) // 2
    opening = call | {"function": call["function"] | {"arguments": ""}}
    return [
        {"index": index, **opening},
        {"index": index, "function": {"arguments": arguments[:half]}},
        {"index": index, "function": {"arguments": arguments[half:]}},
    ]
