"""
POST /completions, as Horay answers it.
"""

import itertools

from typing import Any

from ._answers import GeneratedAnswer
from ._exchange import Exchange
from ._families import Service
from ._voices import Said, Voice
from ._writing import Piece, TextWriter, Writer


_Weighed = tuple[str, float | None, dict[str, float] | None]
"""A token, its log probability, and the likelier ones; a prompt's tokens have neither."""


class TextAnswer(GeneratedAnswer):
    """
    Text that goes on from a prompt, or from each of several.

    With several prompts a choice's number is that of the choice among its prompt's, plus
    *n* times the prompt's (as in vLLM). A Horay answer has no such numbers; its choices
    are in that order.
    """

    kind = chunk_kind = "text_completion"
    id_prefix = "cmpl"

    # Horay states none. Enough for a paragraph or two.
    default_tokens = 256

    def __init__(
        self, exchange: Exchange, service: Service, values: dict[str, Any], voice: Voice
    ) -> None:
        super().__init__(exchange, service, values, voice)
        self._prompts: list[str] = values["prompt"]
        # How many characters of each choice a stream has accounted for.
        self._sizes: dict[int, int] = {}

    def writers(self) -> list[Writer]:
        return [
            self._writer(prompt, choice)
            for prompt in self._prompts
            for choice in range(self.values["n"])
        ]

    def _writer(self, prompt: str, choice: int) -> Writer:
        spoken = self.voice.speak(
            Said(prompt, prompt, chat=False),
            self.values,
            choice,
            self.values["logprobs"] or 0,
        )
        return TextWriter(spoken, self.values["stop"], self.limit)

    def _prompt(self, index: int) -> str:
        n: int = self.values["n"]
        return self._prompts[index // n]

    def prompt_tokens(self) -> int:
        return sum(len(self.voice.split(prompt)) for prompt in self._prompts)

    def extras(self) -> dict[str, Any]:
        """
        The prompts come back, in their tokens.
        """
        return {
            "prompt": [
                {"text": prompt, "logprobs": _lists(self._given(prompt))}
                for prompt in self._prompts
            ]
        }

    def _given(self, text: str) -> list[_Weighed]:
        """
        The tokens of what was not generated.
        """
        return [(token, None, None) for token in self.voice.split(text)]

    def whole(self, index: int, finish: str | None, pieces: list[Piece]) -> Any:
        text = "".join(piece.text for piece in pieces)
        weighed = _weighed(pieces)
        if self.values["echo"]:
            prompt = self._prompt(index)
            text = prompt + text
            weighed = self._given(prompt) + weighed
        return {
            "text": text,
            "logprobs": self._logprobs(weighed),
            "finish_reason": finish,
        }

    def _logprobs(self, weighed: list[_Weighed], offset: int = 0) -> dict[str, Any]:
        """
        Horay's two lists; where likelier tokens are asked for, OpenAI's four.
        """
        if self.values["logprobs"] is None:
            return _lists(weighed)
        sizes = [len(text) for text, _, _ in weighed]
        return _lists(weighed) | {
            "top_logprobs": [top for _, _, top in weighed],
            "text_offset": list(itertools.accumulate(sizes, initial=offset))[:-1],
        }

    def opening(self, index: int) -> list[dict[str, Any]]:
        if not self.values["echo"]:
            return []
        prompt = self._prompt(index)
        return [self._part(index, prompt, self._given(prompt), None)]

    def parts(
        self, index: int, piece: Piece, finish: str | None
    ) -> list[dict[str, Any]]:
        return [self._part(index, piece.text, _weighed([piece]), finish)]

    def _part(
        self, index: int, text: str, weighed: list[_Weighed], finish: str | None
    ) -> dict[str, Any]:
        logprobs = None
        if self.values["logprobs"] is not None and weighed:
            offset = self._sizes.get(index, 0)
            logprobs = self._logprobs(weighed, offset)
            self._sizes[index] = offset + sum(len(token) for token, _, _ in weighed)
        return {
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish,
        }


def _weighed(pieces: list[Piece]) -> list[_Weighed]:
    return [
        (token.text, token.logprob, {text: logprob for text, _, logprob in token.top})
        for piece in pieces
        for token in piece.tokens
    ]


def _lists(weighed: list[_Weighed]) -> dict[str, Any]:
    return {
        "tokens": [text for text, _, _ in weighed],
        "token_logprobs": [logprob for _, logprob, _ in weighed],
    }
