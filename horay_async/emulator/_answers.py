"""
What chat and text answers have in common.
"""

import math
import time

from abc import ABC, abstractmethod
from typing import Any

from ._exchange import Exchange
from ._families import Service
from ._voices import Voice
from ._writing import Generation, Pace, Piece, Writer


class GeneratedAnswer(ABC):
    """
    An answer of *n* choices, streamed or whole.
    """

    kind: str
    """What it calls itself."""

    chunk_kind: str
    """What a part of its stream calls itself."""

    id_prefix: str

    default_tokens: int
    """How long a choice may become if the request does not say."""

    def __init__(
        self, exchange: Exchange, service: Service, values: dict[str, Any], voice: Voice
    ) -> None:
        self.exchange = exchange
        self.service = service
        self.values = values
        self.voice = voice
        self.id = f"{self.id_prefix}-{exchange.request.id}"
        self.created = int(time.time())

    async def send(self, pace: Pace) -> None:
        if self.values["stream"]:
            await self._stream(Generation(self.writers(), pace, self.exchange.ping))
        else:
            await self._whole(Generation(self.writers(), pace))

    # What the kinds differ in.

    @abstractmethod
    def writers(self) -> list[Writer]:
        """
        Who writes each of the choices.
        """

    @abstractmethod
    def whole(self, index: int, finish: str | None, pieces: list[Piece]) -> Any:
        """
        A choice of a whole answer.
        """

    def extras(self) -> dict[str, Any]:
        """
        What else a whole answer holds.
        """
        return {}

    @abstractmethod
    def opening(self, index: int) -> list[dict[str, Any]]:
        """
        What a choice's stream begins with, before anything is generated.
        """

    @abstractmethod
    def parts(
        self, index: int, piece: Piece, finish: str | None
    ) -> list[dict[str, Any]]:
        """
        A choice's share in a stream's next chunks.
        """

    @abstractmethod
    def prompt_tokens(self) -> int:
        """
        How many tokens the prompt has, or all prompts have.
        """

    # What they share.

    @property
    def limit(self) -> float:
        """
        How many tokens a choice may have.
        """
        values = self.values
        given = values.get("max_completion_tokens") or values["max_tokens"]
        if given is None and (self.voice.limits or values["ignore_eos"]):
            return self.default_tokens
        return math.inf if given is None else given

    def _base(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.values["model"],
        }

    def _usage(self, generation: Generation) -> dict[str, int]:
        prompt, completion = self.prompt_tokens(), generation.tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    async def _whole(self, generation: Generation) -> None:
        written: list[list[Piece]] = [[] for _ in generation.writers]
        while news := await generation.step():
            for index, piece in news:
                written[index].append(piece)
        choices = [
            self.whole(index, writer.finish, written[index])
            for index, writer in enumerate(generation.writers)
        ]
        answer = self._base(self.kind) | {"choices": choices} | self.extras()
        if not self.service.names_objects:
            del answer["object"]
        await self.exchange.reply_json(200, answer | {"usage": self._usage(generation)})

    async def _stream(self, generation: Generation) -> None:
        exchange = self.exchange
        await exchange.begin()
        for index in range(len(generation.writers)):
            await self._send(self.opening(index))
        while news := await generation.step():
            for index, piece in news:
                finish = generation.writers[index].finish
                await self._send(self.parts(index, piece, finish))
        if self.values["stream_options"]:
            last = {"choices": [], "usage": self._usage(generation)}
            await exchange.send(self._base(self.chunk_kind) | last)
        await exchange.end()

    async def _send(self, choices: list[dict[str, Any]]) -> None:
        for choice in choices:
            chunk = self._base(self.chunk_kind) | {"choices": [choice]}
            if self.values["stream_options"]:
                # OpenAI's: null in all chunks, but for the one that has the usage.
                chunk["usage"] = None
            await self.exchange.send(chunk)
