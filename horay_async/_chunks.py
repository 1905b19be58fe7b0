"""
The stream of `create(..., stream=True)`: openai's shape over a `TokenStream`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar, final

from ._codec import chat_chunk, chat_reply, completion_chunk, completion_reply
from ._readers import Chunks
from ._replies import ChatChunk, ChatReply, CompletionChunk, CompletionReply
from ._stream import Kind, TokenStream
from ._values import Meta, Outcome, Response


ReplyT = TypeVar("ReplyT")
ChunkT = TypeVar("ChunkT")


@final
class ChunkStream(Generic[ReplyT, ChunkT]):
    """
    `async for chunk in stream`: each chunk as the server sent it, typed.

    Leaving the loop closes the connection; `async with` and `close()` do it too. The
    `TokenStream` underneath is `stream`, with everything else that it can do.
    """

    __slots__ = ("stream",)

    def __init__(self, stream: TokenStream[ReplyT, ChunkT]) -> None:
        self.stream: TokenStream[ReplyT, ChunkT] = stream

    def __aiter__(self) -> Chunks[ChunkT]:
        return self.stream.chunks()

    async def __anext__(self) -> ChunkT:
        """
        One chunk without a loop: the loop that follows goes on behind it.
        """
        return await self.stream.next_chunk()

    async def __aenter__(self) -> Self:
        await self.stream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stream.__aexit__(kind, error, traceback)

    def close(self) -> Awaitable[None]:
        """
        Close the stream now, and its connection; awaiting it is allowed, not needed.
        """
        return self.stream.close()

    aclose = close

    def abort(self, reason: str = "aborted") -> None:
        """
        Stop the stream from another task; its reader gets `StreamAbortedError`.
        """
        self.stream.abort(reason)

    @property
    def outcome(self) -> Outcome | None:
        """
        How the stream ended; None while it has not.
        """
        return self.stream.outcome

    @property
    def reply(self) -> ReplyT:
        """
        What was assembled so far.
        """
        return self.stream.reply

    @property
    def meta(self) -> Meta:
        """
        Status, headers, attempts, timings.
        """
        return self.stream.meta

    @property
    def response(self) -> Response:
        """
        Status and headers of the HTTP answer.
        """
        return self.stream.response


# The two kinds -----------------------------------------------------------------------


ChatStream = TokenStream[ChatReply, ChatChunk]
CompletionStream = TokenStream[CompletionReply, CompletionChunk]
ChatChunkStream = ChunkStream[ChatReply, ChatChunk]
CompletionChunkStream = ChunkStream[CompletionReply, CompletionChunk]

CHAT: Final = Kind(chat=True, chunk=chat_chunk, reply=chat_reply)
TEXT: Final = Kind(chat=False, chunk=completion_chunk, reply=completion_reply)
