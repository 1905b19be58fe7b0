"""
Deltas in, reply out: what one stream has said so far, per choice. No I/O.

The merging rules survive what OpenAI-compatible servers really send: roles in every delta,
empty strings for absent fields, usage in every chunk, characters cut in two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ._codec import usage_of, whole
from ._structure import MAX_ITEMS
from ._tool_calls import (
    OpenCall,
    ToolCalls,
    keep_unknown,
    too_many,
    unreadable,
)
from ._values import Partial, PartialChoice, Token, Usage


_HEAD: Final = ("id", "created", "model", "system_fingerprint")
# "obfuscation" is random padding (OpenAI), there to hide the length of a token.
_CHUNK: Final = frozenset({*_HEAD, "object", "choices", "usage", "obfuscation"})
_CHOICE: Final = frozenset(
    {"index", "delta", "message", "text", "finish_reason", "logprobs"}
)
_REASONING: Final = ("reasoning_content", "reasoning")
_DELTA: Final = frozenset(
    {"role", "content", "refusal", "tool_calls", "function_call", *_REASONING}
)


class Assembly:
    """
    The state of one stream: `add` each chunk, then ask for `body`, `partial`, `usage`.
    """

    __slots__ = ("_choices", "_extra", "_head", "_usage", "ended", "n", "pieces")

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
        self._choices: dict[int, _Choice] = {}
        self._usage: Mapping[str, Any] | None = None
        self._head: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}

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
        return bool(self._choices)

    def add(
        self,
        chunk: Mapping[str, Any],
        *,
        odd: bool = False,
        into: list[Token] | None = None,
    ) -> list[Token]:
        """
        Fold one chunk in and return its tokens; none for roles, usage and tool calls, nor
        for choices that nobody asked for.

        A whole reply is taken as well: some servers answer a stream with one.

        Args:
            odd: The JSON was one that only the second decoder took, so its strings may
                hold half a UTF-16 pair.
            into: Where the tokens are put, as they are found: those of a chunk of which a
                part cannot be read count, too.

        Raises:
            APIResponseValidationError: A part of the chunk is of a type that cannot be read,
                or there are too many choices or tool calls.
        """
        if "id" not in self._head:
            # Azure begins with an empty chunk, and TGI's ids are all empty.
            found = {name: chunk[name] for name in _HEAD if chunk.get(name)}
            self._head = {**found, **self._head}
        if (usage := chunk.get("usage")) and isinstance(usage, dict):
            # The last one counts: some servers repeat a running total in every chunk.
            self._usage = usage
        if not _CHUNK.issuperset(chunk):
            keep_unknown(self._extra, chunk, _CHUNK)
        choices = chunk.get("choices")
        if not choices:
            return []
        if not isinstance(choices, list):
            raise unreadable("choices", choices, "a list")
        tokens: list[Token] = [] if into is None else into
        for position, raw in enumerate(choices):
            if not isinstance(raw, dict):
                raise unreadable(f"choices[{position}]", raw, "an object")
            self._fold(self._choice(raw, position), raw, tokens, odd=odd)
        return tokens

    def _choice(self, raw: Mapping[str, Any], position: int) -> _Choice:
        # Where one choice was asked for the index says nothing: some servers count
        # tokens there.
        index = raw.get("index") if self.n > 1 else position
        if not isinstance(index, int):
            index = position
        choice = self._choices.get(index)
        if choice is None:
            if len(self._choices) >= max(self.n, MAX_ITEMS):
                raise too_many("choices", len(self._choices))
            choice = self._choices[index] = _Choice(index)
            choice.asked_for = len(self._choices) <= self.n
        return choice

    def _fold(
        self, choice: _Choice, raw: Mapping[str, Any], tokens: list[Token], *, odd: bool
    ) -> None:
        delta = raw.get("delta") or raw.get("message")
        if not delta:
            content, thought = raw.get("text"), ""
            if content and not isinstance(content, str):
                content = _text_of(content)
        elif isinstance(delta, dict):
            content = delta.get("content")
            # Before the rest: what cannot be read leaves nothing behind.
            if content and not isinstance(content, str):
                content = _text_of(content)
            # Nearly every delta is just {"content": ...}.
            thought = "" if len(delta) == 1 and content else self._rest(choice, delta)
        else:
            raise unreadable("delta", delta, "an object")
        if odd or choice.halves:
            final = bool(raw.get("finish_reason"))
            content = choice.mended("content", content or "", final=final)
            thought = choice.mended("thought", thought, final=final)
        if content:
            choice.parts.append(content)
        if content or thought:
            self.pieces += 1
            if choice.asked_for:
                tokens.append(Token(content or "", choice.index, thought))
        reason = raw.get("finish_reason")
        if reason or raw.get("logprobs") or not _CHOICE.issuperset(raw):
            self._fold_aside(choice, raw)

    def _rest(self, choice: _Choice, delta: Mapping[str, Any]) -> str:
        """
        Fold in all of a delta but its content; returns its piece of reasoning.
        """
        if choice.role is None:
            # Some servers repeat it in every delta.
            choice.role = delta.get("role") or None
        # First what may be unreadable: of that, nothing is to be kept.
        if calls := delta.get("tool_calls"):
            if not isinstance(calls, list):
                raise unreadable("tool_calls", calls, "a list")
            choice.tool_calls.extend(calls)
            self.pieces += 1
        if call := delta.get("function_call"):
            if not isinstance(call, dict):
                raise unreadable("function_call", call, "an object")
            choice.call_function(call)
            self.pieces += 1
        thought = ""
        for name in _REASONING:
            if isinstance(piece := delta.get(name), str) and piece:
                thought = thought or piece
                choice.thoughts.setdefault(name, []).append(piece)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            choice.refusal.append(refusal)
            self.pieces += 1
        if not _DELTA.issuperset(delta):
            _grow_unknown(choice.message_extra, delta, _DELTA)
        return thought

    def _fold_aside(self, choice: _Choice, raw: Mapping[str, Any]) -> None:
        """
        Fold in what stands beside the delta.
        """
        if reason := raw.get("finish_reason"):
            self.ended += choice.asked_for and choice.finish_reason is None
            choice.finish_reason = reason
        logprobs = raw.get("logprobs")
        if isinstance(logprobs, dict):
            if not isinstance(choice.logprobs, dict):
                choice.logprobs = {}
            for name, value in logprobs.items():
                choice.logprobs[name] = _grown(choice.logprobs.get(name), value)
        elif logprobs:
            choice.logprobs = _grown(choice.logprobs, logprobs)
        _grow_unknown(choice.extra, raw, _CHOICE)

    # What was said ---------------------------------------------------------------

    def parts(self, index: int) -> list[str]:
        """
        The text of one choice so far, piece by piece: read it, do not change it.
        """
        choice = self._choices.get(index)
        return choice.parts if choice else []

    def ending(self, index: int) -> str | None:
        """
        The finish reason of one choice, once it has one.
        """
        choice = self._choices.get(index)
        return choice.finish_reason if choice else None

    def so_far(self) -> list[Token]:
        """
        All that was said so far as one token a choice, for a reader who comes late.
        """
        tokens = []
        for choice in self._ordered():
            text, thought = choice.text(), choice.reasoning()
            if choice.asked_for and (text or thought):
                tokens.append(Token(text, choice.index, thought))
        return tokens

    def _ordered(self) -> list[_Choice]:
        return [self._choices[index] for index in sorted(self._choices)]

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
                    index=choice.index,
                    text=choice.text(),
                    reasoning=choice.reasoning(),
                    tool_calls=tuple(choice.tool_calls.values()),
                    finish_reason=choice.finish_reason,
                )
                for choice in self._ordered()
            ),
            tokens=self.pieces,
            usage=self.usage(prompt_bytes=prompt_bytes),
        )

    def body(self, *, chat: bool) -> dict[str, Any]:
        """
        The JSON object that the server would have sent for a plain call.

        It has as many choices as were asked for: those that never came are empty.
        """
        known = dict(self._choices)
        never_came = [index for index in range(self.n) if index not in known]
        for index in never_came[: max(0, self.n - len(known))]:
            known[index] = _Choice(index)
        build: Callable[[_Choice], dict[str, Any]]
        build = _Choice.chat_body if chat else _Choice.text_body
        return {
            **self._extra,
            **self._head,
            "object": "chat.completion" if chat else "text_completion",
            "choices": [build(known[index]) for index in sorted(known)],
            "usage": self._usage,
        }


class _Choice:
    """
    What one choice has said so far.
    """

    __slots__ = (
        "asked_for",
        "extra",
        "finish_reason",
        "function_call",
        "halves",
        "index",
        "logprobs",
        "message_extra",
        "parts",
        "refusal",
        "role",
        "thoughts",
        "tool_calls",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.asked_for = True
        """
        Whether it is one of the *n*: some servers send more.
        """
        self.parts: list[str] = []
        self.role: str | None = None
        self.refusal: list[str] = []
        self.thoughts: dict[str, list[str]] = {}
        """
        The pieces of reasoning, by the field's name: a server may send both names.
        """
        self.finish_reason: str | None = None
        self.tool_calls = ToolCalls()
        self.function_call: OpenCall | None = None
        self.logprobs: Any = None
        self.extra: dict[str, Any] = {}
        self.message_extra: dict[str, Any] = {}
        self.halves: dict[str, str] = {}
        """
        Halves of UTF-16 pairs that wait for their other half.
        """

    def mended(self, field: str, piece: str, *, final: bool) -> str:
        """
        The piece with its UTF-16 pairs joined; half a pair at its end is held back.
        """
        text, half = join_halves(self.halves.pop(field, "") + piece, final=final)
        if half:
            self.halves[field] = half
        return text

    def call_function(self, piece: Mapping[str, Any]) -> None:
        """
        Add to the one function call that messages had before they had tool calls.
        """
        if self.function_call is None:
            self.function_call = OpenCall()
        self.function_call.take({}, piece)

    def text(self) -> str:
        return "".join(self.parts)

    def reasoning(self) -> str:
        """
        The thinking, once, though it may come under two names.
        """
        for pieces in self.thoughts.values():
            return whole("".join(pieces))
        return ""

    def text_body(self) -> dict[str, Any]:
        return {**self._common(), "text": self.text()}

    def chat_body(self) -> dict[str, Any]:
        text = self.text()
        calls = [call.to_dict() for call in self.tool_calls.values()]
        legacy = self.function_call and self.function_call.value().function.to_dict()
        message: dict[str, Any] = {
            **_copied(self.message_extra),
            "role": self.role or "assistant",
            # A message that only calls tools has null, as in a plain reply.
            "content": text if text or not (calls or legacy) else None,
            **{name: whole("".join(pieces)) for name, pieces in self.thoughts.items()},
        }
        if self.refusal:
            message["refusal"] = whole("".join(self.refusal))
        if calls:
            message["tool_calls"] = calls
        if legacy:
            message["function_call"] = legacy
        return {**self._common(), "message": message}

    def _common(self) -> dict[str, Any]:
        common = {
            **_copied(self.extra),
            "index": self.index,
            "finish_reason": self.finish_reason,
        }
        if self.logprobs:
            common["logprobs"] = _copied(self.logprobs)
        return common


def join_halves(text: str, *, final: bool) -> tuple[str, str]:
    """
    Join UTF-16 pairs; returns the text and the half at its end that still waits.

    A half that can have no other becomes U+FFFD: the text must encode.
    """
    half = ""
    if not final and text and "\ud800" <= text[-1] <= "\udbff":
        text, half = text[:-1], text[-1]
    return whole(text), half


def _text_of(content: Any) -> str:
    """
    The text of content that came as a list of parts.
    """
    if not isinstance(content, list):
        raise unreadable("content", content, "a string")
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def _grow_unknown(
    into: dict[str, Any], source: Mapping[str, Any], known: frozenset[str]
) -> None:
    for name, value in source.items():
        if name not in known and value is not None:
            into[name] = _grown(into.get(name), value)


def _copied(value: Any) -> Any:
    """
    A copy for a reply, which must not grow with the stream: of a list, or of an object
    that holds lists.
    """
    if isinstance(value, dict):
        return {
            name: _copied(part) if isinstance(part, list) else part
            for name, part in value.items()
        }
    return value.copy() if isinstance(value, list) else value


def _grown(old: Any, new: Any) -> Any:
    """
    Lists grow over the deltas; of anything else the last one counts.
    """
    if isinstance(new, list):
        # A list of our own, grown in place: the chunk's is the user's, and copying for
        # each delta would be quadratic.
        grown = old if isinstance(old, list) else []
        grown.extend(new)
        return grown
    return old if new is None else new
