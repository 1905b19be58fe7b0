"""
POST /chat/completions, as Horay and as Empower answer it.
"""

import itertools
import json

from typing import Any

from . import _tools
from ._answers import GeneratedAnswer
from ._exchange import Exchange
from ._families import Service
from ._voices import Said, Token, Voice, tokens, words
from ._writing import CallWriter, Piece, TextWriter, Writer


# How much of a JSON answer's only string is generated.
_JSON_WORDS = 24


class ChatAnswer(GeneratedAnswer):
    """
    An assistant's message: text, JSON, or tool calls.
    """

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    id_prefix = "chatcmpl"

    def __init__(
        self, exchange: Exchange, service: Service, values: dict[str, Any], voice: Voice
    ) -> None:
        super().__init__(exchange, service, values, voice)
        self.default_tokens = service.chat_tokens
        self._empower = service.name == "empower"
        self._said = said(values["messages"])
        self._functions = _tools.choose(values)

    def writers(self) -> list[Writer]:
        return [self._writer(choice) for choice in range(self.values["n"])]

    def _writer(self, choice: int) -> Writer:
        if self._functions:
            return CallWriter(self._calls(choice), self.limit)
        spoken = self.voice.speak(
            self._said, self.values, choice, self.values["top_logprobs"]
        )
        if (schema := self.values["response_format"]) is not None:
            text = "".join(
                token.text for token in itertools.islice(spoken, _JSON_WORDS)
            )
            value = _tools.example(schema) if schema else {"answer": text}
            spoken = tokens(words(json.dumps(value, ensure_ascii=False)))
        return TextWriter(spoken, self.values["stop"], self.limit)

    def _calls(self, choice: int) -> list[Piece]:
        names = [function["name"] for function in self._functions]
        thinking = ""
        if self.values["include_thinking"]:
            thinking = f"<thinking>The user wants {' and '.join(names)}.</thinking>"
        ids = [self._call_id(choice, i, name) for i, name in enumerate(names)]
        return _tools.pieces(list(zip(ids, self._functions, strict=True)), thinking)

    def _call_id(self, choice: int, number: int, name: str) -> str:
        if self._empower:
            # Long, as empower-functions' own server makes them (chat_handler.py).
            return f"call__{choice}_{name}_{self.id}_{number}"
        unique = self.exchange.request.id.replace("-", "")
        return f"call_{unique}{choice:04}{number:04}"

    def prompt_tokens(self) -> int:
        return len(self.voice.split(self._said.whole))

    def whole(self, index: int, finish: str | None, pieces: list[Piece]) -> Any:
        content = "".join(piece.text for piece in pieces)
        calls: dict[int, dict[str, Any]] = {}
        for piece in pieces:
            if piece.call is not None:
                _tools.merge(calls, piece.call)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if calls:
            message["content"] = content or None
            message["tool_calls"] = list(calls.values())
        choice: dict[str, Any] = {"message": message, "finish_reason": finish}
        spoken = [token for piece in pieces for token in piece.tokens]
        if self._empower:
            # Both stand in its documented answer, asked for or not.
            return {"index": index} | choice | {"logprobs": self._logprobs(spoken)}
        if self.values["logprobs"]:
            choice["logprobs"] = self._logprobs(spoken)
        return choice

    def opening(self, index: int) -> list[dict[str, Any]]:
        content = None if self._functions else ""
        return [self._part(index, {"role": "assistant", "content": content})]

    def parts(
        self, index: int, piece: Piece, finish: str | None
    ) -> list[dict[str, Any]]:
        parts = []
        if piece.text:
            parts.append(self._part(index, {"content": piece.text}, piece.tokens))
        if piece.call is not None:
            parts.append(self._part(index, {"tool_calls": [piece.call]}))
        if finish is not None:
            parts.append(self._part(index, {}, finish=finish))
        return parts

    def _part(
        self,
        index: int,
        delta: dict[str, Any],
        spoken: tuple[Token, ...] = (),
        finish: str | None = None,
    ) -> dict[str, Any]:
        part = {"index": index, "delta": delta, "finish_reason": finish}
        if self.values["logprobs"]:
            part["logprobs"] = self._logprobs(list(spoken)) if spoken else None
        return part

    def _logprobs(self, spoken: list[Token]) -> Any:
        if self._empower:
            return [token.logprob for token in spoken]
        return {"content": [self._logprob(token) for token in spoken], "refusal": None}

    def _logprob(self, token: Token) -> dict[str, Any]:
        most = self.values["top_logprobs"]
        top = [_likely(text, logprob) for text, _, logprob in token.top[:most]]
        return _likely(token.text, token.logprob) | {"top_logprobs": top}


def said(messages: list[dict[str, Any]]) -> Said:
    """
    What messages give to speak about.
    """
    users = [message["content"] for message in messages if message["role"] == "user"]
    whole = "\n".join(message["content"] for message in messages)
    return Said(whole, users[-1] if users else messages[-1]["content"], chat=True)


def _likely(text: str, logprob: float) -> dict[str, Any]:
    data = text.encode("utf-8", "surrogatepass")
    return {"token": text, "logprob": logprob, "bytes": list(data)}
