"""
`with_raw_response`: the verbs of the two model calls, which give the HTTP answer as well.
"""

from __future__ import annotations

from typing import Generic, Literal, Protocol, TypeVar, Unpack, overload

import attrs

from ._chunks import (
    CHAT,
    TEXT,
    ChatChunkStream,
    ChunkStream,
    CompletionChunkStream,
)
from ._codec import chat_reply, completion_reply
from ._fields import ChatArguments, CompletionArguments
from ._line import Line
from ._replies import ChatReply, CompletionReply
from ._requests import ChatRequest, CompletionRequest
from ._values import Meta, Response


class Parsed(Protocol):
    """
    A reply, or a stream.
    """

    @property
    def meta(self) -> Meta: ...


T = TypeVar("T", bound=Parsed)


@attrs.frozen(kw_only=True)
class RawResponse(Response, Generic[T]):
    """
    An HTTP answer with what it was read as: what `with_raw_response` gives.
    """

    parsed: T = attrs.field(repr=False)

    meta: Meta = attrs.field(repr=False)

    def parse(self) -> T:
        """
        The reply, or the stream.
        """
        return self.parsed

    @property
    def request_id(self) -> str | None:
        """
        The server's name for the call.
        """
        return self.meta.request_id

    @property
    def retries_taken(self) -> int:
        """
        How often the call was tried again.
        """
        return self.meta.attempts - 1

    @property
    def http_response(self) -> Response:
        """
        The answer without its reading, under openai's name.
        """
        return self


def _raw(parsed: T, response: Response) -> RawResponse[T]:
    return RawResponse(
        status_code=response.status_code,
        headers=response.headers,
        content=response.content,
        parsed=parsed,
        meta=parsed.meta,
    )


class RawChatCompletions:
    """
    `client.chat.completions.with_raw_response`.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    @overload
    async def create(
        self,
        request: ChatRequest | None = None,
        /,
        *,
        stream: Literal[False] | None = False,
        **arguments: Unpack[ChatArguments],
    ) -> RawResponse[ChatReply]: ...

    @overload
    async def create(
        self,
        request: ChatRequest | None = None,
        /,
        *,
        stream: Literal[True],
        **arguments: Unpack[ChatArguments],
    ) -> RawResponse[ChatChunkStream]: ...

    async def create(
        self,
        request: ChatRequest | None = None,
        /,
        *,
        stream: bool | None = False,
        **arguments: Unpack[ChatArguments],
    ) -> RawResponse[ChatReply] | RawResponse[ChatChunkStream]:
        """
        `ChatCompletions.create`, with status, headers and body.
        """
        bound, timeouts = self._line.bind(ChatRequest, request, arguments)
        if stream:
            opened = await self._line.stream(bound, timeouts, CHAT).open()
            return _raw(ChunkStream(opened), opened.response)
        return _raw(*await self._line.send(bound, timeouts, chat_reply, chat=True))


class RawCompletions:
    """
    `client.completions.with_raw_response`.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    @overload
    async def create(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        stream: Literal[False] | None = False,
        **arguments: Unpack[CompletionArguments],
    ) -> RawResponse[CompletionReply]: ...

    @overload
    async def create(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        stream: Literal[True],
        **arguments: Unpack[CompletionArguments],
    ) -> RawResponse[CompletionChunkStream]: ...

    async def create(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        stream: bool | None = False,
        **arguments: Unpack[CompletionArguments],
    ) -> RawResponse[CompletionReply] | RawResponse[CompletionChunkStream]:
        """
        `Completions.create`, with status, headers and body.
        """
        bound, timeouts = self._line.bind(CompletionRequest, request, arguments)
        if stream:
            opened = await self._line.stream(bound, timeouts, TEXT).open()
            return _raw(ChunkStream(opened), opened.response)
        return _raw(*await self._line.send(bound, timeouts, completion_reply))
