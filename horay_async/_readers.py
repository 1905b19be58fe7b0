"""
The ways to read one stream: tokens, strings, chunks, one choice. Each is given the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from typing import Any, Final, Generic, Protocol, Self, TypeVar, final, overload

from ._values import Token


ChunkT = TypeVar("ChunkT")


class Source(Protocol):
    """
    What a reader needs of the stream.
    """

    def next(self) -> Coroutine[Any, Any, Any]:
        """
        The next token or chunk, whichever is handed out.
        """

    async def advance(self) -> bool:
        """
        Wait until something has changed; False once the stream has ended well.
        """

    def abandon(self) -> None:
        """
        The reader is gone without a word.
        """

    def parts(self, index: int) -> list[str]:
        """
        The text of one choice so far.
        """

    def ending(self, index: int) -> str | None:
        """
        The finish reason of one choice.
        """


class Tokens:
    """
    The tokens of a stream that somebody else closes.
    """

    __slots__ = ("_source",)

    def __init__(self, source: Source) -> None:
        self._source = source

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Token]:
        """
        Wait for the next token.

        Cancelling is safe: the token is whole and stays for the next call.

        Raises:
            StreamError: The stream did not finish; `partial` holds what came.
        """
        return self._source.next()


@final
class OwnedTokens(Tokens):
    """
    The tokens of a stream that nobody holds in `async with`: leaving the loop closes it.

    CPython collects this object at `break`, as nothing but the loop refers to it.
    """

    __slots__ = ()

    def __del__(self) -> None:
        self._source.abandon()


@final
class Texts:
    """
    Only the strings of the tokens.
    """

    __slots__ = ("_tokens",)

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """
        Wait for the next text; cancelling loses none.
        """
        while True:
            text = (await self._tokens.__anext__()).text
            if text:
                return text


@final
class Chunks(Generic[ChunkT]):
    """
    Typed chunks, made only here, when somebody asks for one.
    """

    __slots__ = ("_make", "_raw")

    def __init__(self, raw: Tokens, make: Callable[[Any], ChunkT]) -> None:
        self._raw = raw
        self._make = make

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChunkT:
        """
        Wait for the next chunk; cancelling loses none.
        """
        return self._make(await self._raw.__anext__())


@final
class ChoiceTokens:
    """
    One choice: a cursor over its text, which stays where it is.
    """

    __slots__ = ("_at", "_index", "_source")

    def __init__(self, source: Source, index: int) -> None:
        self._source = source
        self._index = index
        self._at = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Token:
        """
        Wait for the choice's next token; cancelling loses none.

        Ends with the choice, though others may go on.

        Raises:
            StreamError: The stream broke off before this choice had ended.
        """
        source, index = self._source, self._index
        while True:
            parts = source.parts(index)
            if self._at < len(parts):
                self._at += 1
                return Token(parts[self._at - 1], index)
            if source.ending(index) is not None or not await source.advance():
                raise StopAsyncIteration


@final
class Choices(Sequence[ChoiceTokens]):
    """
    The choices of a stream, as many as were asked for.
    """

    __slots__ = ("_n", "_source")

    def __init__(self, source: Source, n: int) -> None:
        self._source = source
        self._n = n

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> ChoiceTokens: ...

    @overload
    def __getitem__(self, index: slice) -> list[ChoiceTokens]: ...

    def __getitem__(self, index: int | slice) -> ChoiceTokens | list[ChoiceTokens]:
        """
        A fresh cursor, at the beginning of the choice's text.
        """
        picked = range(self._n)[index]
        if isinstance(picked, int):
            return ChoiceTokens(self._source, picked)
        return [ChoiceTokens(self._source, each) for each in picked]

    def __iter__(self) -> Iterator[ChoiceTokens]:
        return iter(self[:])


@final
class _Done:
    """
    What is done already and may be awaited all the same.
    """

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


DONE: Final = _Done()
