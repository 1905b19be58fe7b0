"""
Answers being written: token by token, at the set pace, until something ends them.
"""

import asyncio
import math

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ._voices import Token


# Tokens between two turns of the event loop.
_STRIDE = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """
    What one step adds to an answer.
    """

    text: str = ""
    tokens: tuple[Token, ...] = ()
    call: dict[str, Any] | None = None
    """A fragment of a tool call, in the form of a stream's delta."""


class Writer(Protocol):
    """
    One choice being written.
    """

    count: int
    """The tokens generated so far; the ones that a stop string cut off count, too."""

    finish: str | None
    """Why it ended; None until it has."""

    def step(self) -> Piece:
        """
        Generate one token. The piece is empty while its text is held back.
        """
        ...


class TextWriter:
    """
    Text, ended by its end, a stop string or the limit, whichever comes first.

    Text that may be the beginning of a stop string is held back until it is clear
    whether it is: what has been sent cannot be taken back.
    """

    def __init__(
        self, tokens: Iterator[Token], stops: Sequence[str], limit: float
    ) -> None:
        self.count = 0
        self.finish: str | None = None
        self._tokens = tokens
        self._stops = stops
        self._limit = limit
        self._held = ""
        self._waiting: list[Token] = []
        self._following: Token | None = None

    def step(self) -> Piece:
        token = self._next()
        if token is None:
            self.finish = "stop"
            return self._release(len(self._held))
        self.count += 1
        self._held += token.text
        self._waiting.append(token)
        if (cut := self._stop()) is not None:
            self.finish = "stop"
            return self._release(cut)
        if self.count >= self._limit:
            # A text that ends right here was not cut off.
            self._following = next(self._tokens, None)
            self.finish = "length" if self._following else "stop"
            return self._release(len(self._held))
        return self._release(len(self._held) - self._doubtful())

    def _next(self) -> Token | None:
        return next(self._tokens, None)

    def _stop(self) -> int | None:
        """
        Where the first stop string begins.
        """
        places = [self._held.find(stop) for stop in self._stops]
        return min((place for place in places if place >= 0), default=None)

    def _doubtful(self) -> int:
        """
        How many characters at the end may be the beginning of a stop string.
        """
        longest = max(map(len, self._stops), default=0)
        for size in range(min(longest - 1, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0

    def _release(self, size: int) -> Piece:
        """
        Let go of so many characters, with the tokens that began among them.
        """
        text, self._held = self._held[:size], self._held[size:]
        gone: list[Token] = []
        while self._waiting and size > 0:
            size -= len(self._waiting[0].text)
            gone.append(self._waiting.pop(0))
        return Piece(text, tuple(gone))


@dataclass(slots=True)
class CallWriter:
    """
    Tool calls: ready-made pieces, cut off by the limit only.
    """

    pieces: list[Piece]
    limit: float
    count: int = 0
    finish: str | None = None

    def step(self) -> Piece:
        piece = self.pieces[self.count]
        self.count += 1
        if self.count == len(self.pieces):
            self.finish = "tool_calls"
        elif self.count >= self.limit:
            self.finish = "length"
        return piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    How long things take.
    """

    time_to_first_token: float = 0.0
    """Seconds."""

    tokens_per_second: float | None = None
    """For each choice: they are written side by side. None is as fast as it goes."""

    ping_every: float | None = None
    """Seconds of silence after which a stream carries a comment."""

    def __post_init__(self) -> None:
        first = self.time_to_first_token
        if not (math.isfinite(first) and first >= 0):
            raise ValueError(f"time_to_first_token must be 0 s or more, not {first!r}")
        for name in ("tokens_per_second", "ping_every"):
            number = getattr(self, name)
            if number is not None and not (math.isfinite(number) and number > 0):
                raise ValueError(f"{name} must be above 0, not {number!r}")


class Generation:
    """
    All choices of an answer, written side by side.
    """

    def __init__(
        self,
        writers: Sequence[Writer],
        pace: Pace,
        ping: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.writers = writers
        self._pace = pace
        self._ping = ping if pace.ping_every is not None else None
        self._due = asyncio.get_running_loop().time() + pace.time_to_first_token
        self._unyielded = 0

    @property
    def tokens(self) -> int:
        return sum(writer.count for writer in self.writers)

    async def step(self) -> list[tuple[int, Piece]]:
        """
        Wait for the next pieces, with their choices' numbers; none when all is said.

        A choice that has finished shows it in the step that brings its last piece.
        """
        news: list[tuple[int, Piece]] = []
        while not news and (writing := self._unfinished()):
            await self._wait()
            for index, writer in writing:
                await self._breathe()
                piece = writer.step()
                if piece.text or piece.call or writer.finish:
                    news.append((index, piece))
        return news

    def _unfinished(self) -> list[tuple[int, Writer]]:
        return [
            (index, writer)
            for index, writer in enumerate(self.writers)
            if writer.finish is None
        ]

    async def _wait(self) -> None:
        """
        Wait until the next token is due. The average holds even where a sleep is late.
        """
        while (rest := self._due - asyncio.get_running_loop().time()) > 0:
            every = self._pace.ping_every
            if self._ping is None or every is None or rest <= every:
                await asyncio.sleep(rest)
                break
            await asyncio.sleep(every)
            await self._ping()
        if self._pace.tokens_per_second is not None:
            self._due += 1 / self._pace.tokens_per_second

    async def _breathe(self) -> None:
        self._unyielded += 1
        if self._unyielded >= _STRIDE:
            self._unyielded = 0
            await asyncio.sleep(0)
