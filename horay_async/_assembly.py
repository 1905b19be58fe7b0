"""
Deltas in, reply out: what one stream has said so far, per choice. No I/O.

The merging rules survive what OpenAI-compatible servers really send: roles in every delta,
empty strings for absent fields, tool calls without an index or an id, characters cut in two.
"""

from __future__ import annotations

import json

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ._codec import usage_of
from ._errors import APIResponseValidationError
from ._values import Function, Partial, PartialChoice, Token, ToolCall, Usage


_HEAD: Final = ("id", "object", "created", "model", "system_fingerprint")
_CHUNK: Final = frozenset({*_HEAD, "choices", "usage", "obfuscation"})
_CHOICE: Final = frozenset(
    {"index", "delta", "message", "text", "finish_reason", "logprobs"}
)
_DELTA: Final = frozenset({"role", "content", "refusal", "tool_calls", "function_call"})
_REASONING: Final = ("reasoning_content", "reasoning")


class Assembly:
    """
    The state of one stream: `add` each chunk, then ask for `body`, `partial`, `usage`.
    """

    __slots__ = ("_first", "_held", "_last", "_states", "_usage", "n", "pieces", "ended")

    def __init__(self, n: int = 1) -> None:
        self.n = n
        """
        How many choices were asked for.
        """
        self.pieces = 0
        """
        Pieces of content so far, over all choices: text, reasoning, refusals, tool calls.
        """
        self.ended = 0
        """
        How many choices have their finish reason.
        """
        self._states: dict[int, _Choice] = {}
        self._usage: Mapping[str, Any] | None = None
        self._first: Mapping[str, Any] = {}
        self._last: Mapping[str, Any] = {}
        self._held = False

    @property
    def finished(self) -> bool:
        """
        Whether every choice that was asked for has its finish reason.
        """
        return self.ended >= self.n

    @property
    def started(self) -> bool:
        """
        Whether any choice has appeared at all.
        """
        return bool(self._states)

    def add(self, chunk: Mapping[str, Any], *, odd: bool = False) -> list[Token]:
        """
        Fold one chunk in and return its tokens; none for roles, usage and tool calls.

        A whole reply is taken as well: some servers answer a stream with one.

        Args:
            odd: The JSON was one that only the second decoder took, so its strings may
                hold half a UTF-16 pair.

        Raises:
            APIResponseValidationError: A part of the chunk is of a type that cannot be read.
        """
        if not self._first.get("id"):
            # Azure begins with an empty chunk; the first one with an id is the head.
            self._first = {**self._first, **chunk}
        self._last = chunk
        if usage := chunk.get("usage"):
            # The last one counts: some servers repeat a running total in every chunk.
            self._usage = usage
        choices = chunk.get("choices")
        if not choices:
            return []
        if not isinstance(choices, list):
            raise _unreadable("choices", choices, "a list")
        tokens: list[Token] = []
        for position, raw in enumerate(choices):
            if not isinstance(raw, dict):
                raise _unreadable(f"choices[{position}]", raw, "an object")
            state = self._state(raw, position)
            if odd or self._held:
                raw = self._mend(state, raw)
            self._fold(state, raw, tokens)
        return tokens

    def _state(self, raw: Mapping[str, Any], position: int) -> _Choice:
        # Where one choice was asked for there is one, whatever the index says: some
        # servers count tokens there.
        index = raw.get("index") if self.n > 1 else 0
        if not isinstance(index, int):
            index = position
        state = self._states.get(index)
        if state is None:
            state = self._states[index] = _Choice(index)
        return state

    def _fold(
        self, state: _Choice, raw: Mapping[str, Any], tokens: list[Token]
    ) -> None:
        delta = raw.get("delta") or raw.get("message")
        if delta is None or delta == {}:
            content = raw.get("text")
            thought = ""
        elif isinstance(delta, dict):
            content = delta.get("content")
            # Nearly every delta is just {"content": ...}.
            thought = "" if len(delta) == 1 and content else self._rest(state, delta)
        else:
            raise _unreadable("delta", delta, "an object")
        if content or thought:
            if content is None:
                content = ""
            elif not isinstance(content, str):
                content = _joined(content)
            if content:
                state.parts.append(content)
            self.pieces += 1
            tokens.append(Token(content, state.index, thought))
        # index, delta, finish_reason and logprobs make four; the last two mostly null.
        if raw.get("finish_reason") or raw.get("logprobs") or len(raw) > 4:
            self._end_of(state, raw)

    def _rest(self, state: _Choice, delta: Mapping[str, Any]) -> str:
        """
        Fold in all of a delta but its content; returns its piece of reasoning.
        """
        if (role := delta.get("role")) and state.role is None:
            state.role = role
        thought = ""
        for name in _REASONING:
            if isinstance(piece := delta.get(name), str) and piece:
                thought = thought or piece
                state.extra_text.setdefault(name, []).append(piece)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            state.refusal.append(refusal)
            self.pieces += 1
        if calls := delta.get("tool_calls"):
            if not isinstance(calls, list):
                raise _unreadable("tool_calls", calls, "a list")
            state.tool_calls.extend(calls)
            self.pieces += 1
        if call := delta.get("function_call"):
            state.function_call.add({"function": call})
            self.pieces += 1
        for name, value in delta.items():
            if name not in _DELTA and name not in _REASONING and value is not None:
                _merge(state.delta_extra, name, value)
        return thought

    def _end_of(self, state: _Choice, raw: Mapping[str, Any]) -> None:
        if reason := raw.get("finish_reason"):
            if state.finish_reason is None:
                self.ended += 1
            state.finish_reason = reason
        if logprobs := raw.get("logprobs"):
            if isinstance(logprobs, dict):
                for name, value in logprobs.items():
                    _merge(state.logprobs, name, value)
            else:
                state.loose_logprobs = logprobs
        for name, value in raw.items():
            if name not in _CHOICE and value is not None:
                state.extra[name] = value

    # Characters cut in two -------------------------------------------------------

    def _mend(self, state: _Choice, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Join UTF-16 halves that came in two deltas; half a pair waits for the next one.
        """
        delta = raw.get("delta")
        inner = delta if isinstance(delta, dict) else raw
        name = "content" if inner is delta else "text"
        final = bool(raw.get("finish_reason"))
        mended = dict(inner)
        for field in (name, "refusal", *_REASONING):
            value = inner.get(field)
            held = state.held.pop(field, "")
            if isinstance(value, str) or held:
                text, held = join_halves(held + (value or ""), final=final)
                mended[field] = text
                if held:
                    state.held[field] = held
        self._held = any(one.held for one in self._states.values())
        return {**raw, "delta": mended} if inner is delta else mended

    # What was said ---------------------------------------------------------------

    def parts(self, index: int) -> list[str]:
        """
        The text of one choice so far, piece by piece: read it, do not change it.
        """
        state = self._states.get(index)
        return state.parts if state else []

    def ending(self, index: int) -> str | None:
        """
        The finish reason of one choice, once it has one.
        """
        state = self._states.get(index)
        return state.finish_reason if state else None

    def so_far(self) -> list[Token]:
        """
        All text so far as one token a choice, for a reader who comes late.
        """
        tokens = []
        for state in self._ordered():
            text, thought = "".join(state.parts), state.reasoning()
            if text or thought:
                tokens.append(Token(text, state.index, thought))
        return tokens

    def _ordered(self) -> list[_Choice]:
        return [self._states[index] for index in sorted(self._states)]

    def usage(self, *, prompt_bytes: int = 0) -> Usage:
        """
        What it cost: as the server counted, else four bytes a prompt token and a token a
        piece.
        """
        if (counted := usage_of(self._usage)) is not None:
            return counted
        prompt = -(-prompt_bytes // 4)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=self.pieces,
            total_tokens=prompt + self.pieces,
            source="estimated",
        )

    def partial(self, *, prompt_bytes: int = 0) -> Partial:
        """
        What had arrived, for an error to carry.
        """
        return Partial(
            choices=tuple(
                PartialChoice(
                    index=state.index,
                    text=_whole("".join(state.parts)),
                    reasoning=state.reasoning(),
                    tool_calls=tuple(state.tool_calls.values()),
                    finish_reason=state.finish_reason,
                )
                for state in self._ordered()
            ),
            tokens=self.pieces,
            usage=self.usage(prompt_bytes=prompt_bytes),
        )

    def body(self, *, chat: bool) -> dict[str, Any]:
        """
        The JSON object that the server would have sent for a plain call.

        It has every choice that was asked for, those that never came as empty ones.
        """
        known = {**{index: _Choice(index) for index in range(self.n)}, **self._states}
        build: Callable[[_Choice], dict[str, Any]]
        build = _Choice.chat_body if chat else _Choice.text_body
        head = {name: self._first[name] for name in _HEAD if self._first.get(name)}
        head["object"] = "chat.completion" if chat else "text_completion"
        return {
            **{
                name: value
                for source in (self._first, self._last)
                for name, value in source.items()
                if name not in _CHUNK and value is not None
            },
            **head,
            "choices": [build(known[index]) for index in sorted(known)],
            "usage": self._usage,
        }


class _Choice:
    """
    What one choice has said so far.
    """

    __slots__ = (
        "delta_extra",
        "extra",
        "extra_text",
        "finish_reason",
        "function_call",
        "held",
        "index",
        "logprobs",
        "loose_logprobs",
        "parts",
        "refusal",
        "role",
        "tool_calls",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.parts: list[str] = []
        self.role: str | None = None
        self.refusal: list[str] = []
        self.finish_reason: str | None = None
        self.tool_calls = ToolCalls()
        self.function_call = ToolCalls()
        self.logprobs: dict[str, Any] = {}
        self.loose_logprobs: Any = None
        self.extra: dict[str, Any] = {}
        self.delta_extra: dict[str, Any] = {}
        self.extra_text: dict[str, list[str]] = {}
        self.held: dict[str, str] = {}

    def reasoning(self) -> str:
        for pieces in self.extra_text.values():
            return _whole("".join(pieces))
        return ""

    def _common(self) -> dict[str, Any]:
        logprobs = self.logprobs or self.loose_logprobs
        return {
            **self.extra,
            "index": self.index,
            "finish_reason": self.finish_reason,
            **({"logprobs": logprobs} if logprobs else {}),
        }

    def text_body(self) -> dict[str, Any]:
        return {**self._common(), "text": _whole("".join(self.parts))}

    def chat_body(self) -> dict[str, Any]:
        text = _whole("".join(self.parts))
        calls = [call.to_dict() for call in self.tool_calls.values()]
        legacy = [call.function.to_dict() for call in self.function_call.values()]
        message: dict[str, Any] = {
            "role": self.role or "assistant",
            # A message that only calls tools has null, as in a plain reply.
            "content": text if text or not (calls or legacy) else None,
            **self.delta_extra,
            **{name: _whole("".join(part)) for name, part in self.extra_text.items()},
        }
        if self.refusal:
            message["refusal"] = "".join(self.refusal)
        if calls:
            message["tool_calls"] = calls
        if legacy:
            message["function_call"] = legacy[0]
        return {**self._common(), "message": message}


class ToolCalls:
    """
    Tool calls put together from their fragments.

    Servers leave out the index, use one twice, send "" for absent, repeat id and name in
    every fragment, or send the arguments first; each rule below is one of them.
    """

    __slots__ = ("_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def extend(self, fragments: Iterable[Any]) -> None:
        """
        Add the fragments of one delta.
        """
        for fragment in fragments:
            if not isinstance(fragment, dict):
                raise _unreadable("tool_calls[]", fragment, "an object")
            self.add(fragment)

    def add(self, fragment: Mapping[str, Any]) -> None:
        """
        Add one fragment to the call that it belongs to.
        """
        function = fragment.get("function") or {}
        if not isinstance(function, dict):
            raise _unreadable("tool_calls[].function", function, "an object")
        index, ident = fragment.get("index"), fragment.get("id") or None
        call = self._find(index, ident, function.get("name") or None)
        if isinstance(index, int):
            self._by_index[index] = call
        call.take(fragment, function)

    def _find(self, index: Any, ident: str | None, name: str | None) -> _Call:
        last = self._calls[-1] if self._calls else None
        if isinstance(index, int):
            found = self._by_index.get(index)
            # A new id under a used index is another call that collides with it.
            if found is None or (ident and found.id and ident != found.id):
                return self._new()
            return found
        if ident:
            for call in self._calls:
                if call.id == ident:
                    return call
            # Arguments may have come before the id and the name.
            return last if last and not last.id and not last.name else self._new()
        if last is None or (name and last.name and (name != last.name or last.whole())):
            return self._new()
        return last

    def _new(self) -> _Call:
        call = _Call(len(self._calls))
        self._calls.append(call)
        return call

    def values(self) -> list[ToolCall]:
        """
        The calls so far, in the order in which they were opened.
        """
        return [call.value() for call in self._calls]


class _Call:
    __slots__ = ("arguments", "extra", "id", "name", "position", "type")

    def __init__(self, position: int) -> None:
        self.position = position
        self.id: str | None = None
        self.type: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []
        self.extra: dict[str, Any] = {}

    def take(self, fragment: Mapping[str, Any], function: Mapping[str, Any]) -> None:
        self.id = self.id or fragment.get("id") or None
        self.type = self.type or fragment.get("type") or None
        self.name = self.name or function.get("name") or None
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            self.arguments.append(arguments)
        elif arguments is not None:
            self.arguments.append(json.dumps(arguments))
        for name, value in fragment.items():
            if name not in ("index", "id", "type", "function") and value is not None:
                self.extra[name] = value

    def whole(self) -> bool:
        """
        Whether the arguments are complete, so that another name opens another call.
        """
        try:
            json.loads("".join(self.arguments))
        except ValueError:
            return False
        return True

    def value(self) -> ToolCall:
        return ToolCall(
            id=self.id or f"call_{self.position}",
            type=self.type or "function",
            function=Function(
                name=self.name, arguments=_whole("".join(self.arguments))
            ),
            extra=self.extra,
        )


def join_halves(text: str, *, final: bool) -> tuple[str, str]:
    """
    Join UTF-16 pairs; returns the text and the half at its end that still waits.

    A half that can have no other becomes U+FFFD: the text must encode.
    """
    held = ""
    if not final and text and "\ud800" <= text[-1] <= "\udbff":
        text, held = text[:-1], text[-1]
    return _whole(text), held


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _joined(content: Any) -> str:
    """
    The text of content that came as a list of parts.
    """
    if not isinstance(content, list):
        raise _unreadable("content", content, "a string")
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "".join(part for part in parts if isinstance(part, str))


def _merge(into: dict[str, Any], name: str, value: Any) -> None:
    """
    Lists grow over the deltas; of anything else the last one counts.
    """
    if isinstance(value, list) and isinstance(so_far := into.get(name, []), list):
        # Our own list, grown in place: copying it for each delta would be quadratic.
        so_far.extend(value)
        into[name] = so_far
    elif value is not None or name not in into:
        into[name] = value


def _unreadable(where: str, value: Any, expected: str) -> APIResponseValidationError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:60] + "…"
    return APIResponseValidationError(
        f"the server sent {where} = {shown}, expected {expected}", body=value
    )
