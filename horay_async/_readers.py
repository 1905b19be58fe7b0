"""
The ways to read one stream: tokens, strings, chunks, one choice. Each is given the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from typing import Any, Final, Generic, Self, TypeVar, final, overload

from ._flow import Flow
from ._values import Token


ChunkT = TypeVar("ChunkT")


class Tokens:
    """
    The tokens of a stream that somebody else closes.
    """

    __slots__ = ("_flow",)

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Token]:
        """
        Wait for the next token.

        Cancelling is safe: the token is whole and stays for the next call.

        Raises:
            StreamError: The stream did not finish; `partial` holds what came.
        """
        return self._flow.next()


@final
class OwnedTokens(Tokens):
    """
    The tokens of a stream that nobody holds in `async with`: leaving the loop closes it.

    CPython collects this object at `break`, as nothing but the loop refers to it.
    """

    __slots__ = ()

    async def __anext__(self) -> Token:
        """
        Wait for the next token; whoever waits holds on to this object.
        """
        try:
            token: Token = await self._flow.next()
            return token
        finally:
            # Whoever keeps a cancellation keeps its frames: not us with them, or the stream
            # would stay open as long.
            del self

    def __del__(self) -> None:
        self._flow.abandon()


@final
class Texts:
    """
    Only the strings of the tokens.

    Making one takes nothing: a property that is merely looked at must not be a reader.
    """

    __slots__ = ("_read", "_tokens")

    def __init__(self, read: Callable[[], Tokens]) -> None:
        self._read = read
        self._tokens: Tokens | None = None

    def __aiter__(self) -> Self:
        self._tokens = self._tokens or self._read()
        return self

    async def __anext__(self) -> str:
        """
        Wait for the next text; cancelling loses none.
        """
        self._tokens = tokens = self._tokens or self._read()
        try:
            while True:
                text = (await tokens.__anext__()).text
                if text:
                    return text
        finally:
            del self, tokens


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
        try:
            return self._make(await self._raw.__anext__())
        finally:
            del self


@final
class ChoiceTokens:
    """
    One choice: a cursor over its text, which stays where it is.

    It does not own the stream, as another choice may be read when this one was left: what
    closes a stream that is read by its choices is its `async with`.
    """

    __slots__ = ("_at", "_flow", "_index")

    def __init__(self, flow: Flow, index: int) -> None:
        self._flow = flow
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
        flow, index = self._flow, self._index
        while True:
            parts = flow.parts(index)
            if self._at < len(parts):
                self._at += 1
                return Token(parts[self._at - 1], index)
            if flow.ending(index) is not None or not await flow.advance():
                raise StopAsyncIteration


@final
class Choices(Sequence[ChoiceTokens]):
    """
    The choices of a stream, as many as were asked for.
    """

    __slots__ = ("_flow", "_n")

    def __init__(self, flow: Flow, n: int) -> None:
        self._flow = flow
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
        try:
            picked = range(self._n)[index]
        except IndexError:
            msg = f"no choice {index}: {self._n} asked for, counted from 0"
            raise IndexError(msg) from None
        if isinstance(picked, int):
            return ChoiceTokens(self._flow, picked)
        return [ChoiceTokens(self._flow, each) for each in picked]

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
