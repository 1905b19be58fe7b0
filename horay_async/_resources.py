"""
The verbs: `chat.completions.create`, `.stream`, `models.list` and the rest.

Every verb takes a request object, keywords, or both: then the keywords evolve the object.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Literal, TypeVar, Unpack, overload

from ._checks import flag
from ._chunks import (
    CHAT,
    TEXT,
    ChatChunkStream,
    ChatStream,
    ChunkStream,
    CompletionChunkStream,
    CompletionStream,
)
from ._codec import image_reply, model_list, user_info
from ._errors import InvalidRequestError
from ._fields import ChatArguments, CompletionArguments, ImageArguments
from ._line import Line
from ._raw import RawChatCompletions, RawCompletions
from ._replies import (
    ChatReply,
    CompletionReply,
    ImageReply,
    Model,
    ModelList,
    UserInfo,
)
from ._requests import ChatRequest, CompletionRequest, ImageRequest, Sampling
from ._services import Endpoint
from ._settings import check_timeouts
from ._timeouts import Timeouts


S = TypeVar("S", bound=Sampling)


def _with_usage(request: S, include_usage: bool | None) -> S:
    if include_usage is None:
        return request
    flag("include_usage", include_usage)
    given = request.stream_options or {}
    return request.evolve(stream_options={**given, "include_usage": include_usage})


def _only_streams(include_usage: bool | None) -> None:
    if include_usage is not None:
        raise InvalidRequestError(
            "include_usage is for streams: a plain reply always has its usage",
            field="include_usage",
        )


class ChatCompletions:
    """
    `client.chat.completions`.
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
        include_usage: None = None,
        **arguments: Unpack[ChatArguments],
    ) -> ChatReply: ...

    @overload
    async def create(
        self,
        request: ChatRequest | None = None,
        /,
        *,
        stream: Literal[True],
        include_usage: bool | None = None,
        **arguments: Unpack[ChatArguments],
    ) -> ChatChunkStream: ...

    @overload
    async def create(
        self,
        request: ChatRequest | None = None,
        /,
        *,
        stream: bool | None,
        include_usage: bool | None = None,
        **arguments: Unpack[ChatArguments],
    ) -> ChatReply | ChatChunkStream: ...

    async def create(
        self,
        request: ChatRequest | None = None,
        /,
        *,
        stream: bool | None = False,
        include_usage: bool | None = None,
        **arguments: Unpack[ChatArguments],
    ) -> ChatReply | ChatChunkStream:
        """
        Ask, and wait for the whole reply; or, with `stream=True`, for a stream of chunks.

        Args:
            request: A built request; keywords change fields of it for this call.
            include_usage: With `stream=True`: ask for the usage at the stream's end.
            arguments: The fields of `ChatRequest`, and `timeouts` or `timeout` (seconds
                for the whole call).

        Cancelled: the connection is closed at once.

        Raises:
            InvalidRequestError: The request cannot be right; nothing was sent.
            APIStatusError: The server refused.
            APIConnectionError: No whole answer came; `APITimeoutError` for our clocks.
            APIResponseValidationError: The answer cannot be read.
        """
        if stream and flag("stream", stream):
            opened = self.stream(request, include_usage=include_usage, **arguments)
            return ChunkStream(await opened.open())
        _only_streams(include_usage)
        bound, timeouts = self._line.bind(ChatRequest, request, arguments)
        return await self._line.reply(bound, timeouts)

    def stream(
        self,
        request: ChatRequest | None = None,
        /,
        *,
        include_usage: bool | None = None,
        strict_end: bool = False,
        **arguments: Unpack[ChatArguments],
    ) -> ChatStream:
        """
        A stream of tokens: `async with client.chat.completions.stream(...) as stream`.

        Nothing is sent before the stream is entered or looped over.

        Args:
            request: A built request; keywords change fields of it for this call.
            include_usage: Ask for the usage at the end. Not sent unless given: some servers
                refuse what they do not know.
            strict_end: Raise where `[DONE]` comes without a finish reason for each choice.
            arguments: The fields of `ChatRequest`, and `timeouts` or `timeout` (seconds
                for the whole call).

        Raises:
            InvalidRequestError: The request cannot be right; nothing was sent.
        """
        bound, timeouts = self._line.bind(ChatRequest, request, arguments)
        bound = _with_usage(bound, include_usage)
        return self._line.stream(bound, timeouts, CHAT, strict_end=strict_end)

    @property
    def with_raw_response(self) -> RawChatCompletions:
        """
        The same verbs, which give the HTTP response; its `parse()` gives the reply.
        """
        return RawChatCompletions(self._line)


class Chat:
    """
    `client.chat`.
    """

    def __init__(self, line: Line) -> None:
        self.completions: ChatCompletions = ChatCompletions(line)


class Completions:
    """
    `client.completions`: text completions.
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
        include_usage: None = None,
        **arguments: Unpack[CompletionArguments],
    ) -> CompletionReply: ...

    @overload
    async def create(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        stream: Literal[True],
        include_usage: bool | None = None,
        **arguments: Unpack[CompletionArguments],
    ) -> CompletionChunkStream: ...

    @overload
    async def create(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        stream: bool | None,
        include_usage: bool | None = None,
        **arguments: Unpack[CompletionArguments],
    ) -> CompletionReply | CompletionChunkStream: ...

    async def create(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        stream: bool | None = False,
        include_usage: bool | None = None,
        **arguments: Unpack[CompletionArguments],
    ) -> CompletionReply | CompletionChunkStream:
        """
        Continue a text, and wait for all of it; or, with `stream=True`, for its chunks.

        Arguments, errors and cancelling are as in `ChatCompletions.create`, with the fields
        of `CompletionRequest`.
        """
        if stream and flag("stream", stream):
            opened = self.stream(request, include_usage=include_usage, **arguments)
            return ChunkStream(await opened.open())
        _only_streams(include_usage)
        bound, timeouts = self._line.bind(CompletionRequest, request, arguments)
        return await self._line.reply(bound, timeouts)

    def stream(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        include_usage: bool | None = None,
        strict_end: bool = False,
        **arguments: Unpack[CompletionArguments],
    ) -> CompletionStream:
        """
        A stream of tokens, as `ChatCompletions.stream`.
        """
        bound, timeouts = self._line.bind(CompletionRequest, request, arguments)
        bound = _with_usage(bound, include_usage)
        return self._line.stream(bound, timeouts, TEXT, strict_end=strict_end)

    @property
    def with_raw_response(self) -> RawCompletions:
        """
        The same verbs, which give the HTTP response; its `parse()` gives the reply.
        """
        return RawCompletions(self._line)


class Images:
    """
    `client.images`.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    async def generate(
        self,
        request: ImageRequest | None = None,
        /,
        **arguments: Unpack[ImageArguments],
    ) -> ImageReply:
        """
        Make pictures; the reply holds their URLs.

        Errors and cancelling are as in `ChatCompletions.create`.
        """
        bound, timeouts = self._line.bind(ImageRequest, request, arguments)
        return (await self._line.send(bound, timeouts, image_reply))[0]


class Listing:
    """
    A call for the models that is sent when it is awaited or looped over, as openai's pages.
    """

    def __init__(self, fetch: Callable[[], Coroutine[Any, Any, ModelList]]) -> None:
        self._fetch = fetch

    def __await__(self) -> Generator[Any, None, ModelList]:
        return self._fetch().__await__()

    async def __aiter__(self) -> AsyncIterator[Model]:
        for model in await self:
            yield model


class Models:
    """
    `client.models`.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    def list(
        self, *, timeouts: Timeouts | None = None, timeout: float | None = None
    ) -> Listing:
        """
        The models that the server says it has: `await` it, or loop over it.
        """
        settings = self._line.settings
        clocks = check_timeouts(timeouts, timeout, settings.timeouts)
        endpoint = _wanted(settings.service.models, "list of models", self._line)

        async def fetch() -> ModelList:
            return (await self._line.get(endpoint, clocks, model_list))[0]

        return Listing(fetch)


class User:
    """
    `client.user`.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    async def info(
        self, *, timeouts: Timeouts | None = None, timeout: float | None = None
    ) -> UserInfo:
        """
        The key's account and its balance; money is `Decimal`.
        """
        settings = self._line.settings
        clocks = check_timeouts(timeouts, timeout, settings.timeouts)
        endpoint = _wanted(settings.service.user_info, "user info", self._line)
        return (await self._line.get(endpoint, clocks, user_info))[0]


def _wanted(endpoint: Endpoint | None, what: str, line: Line) -> Endpoint:
    if endpoint is None:
        raise InvalidRequestError(
            f"{line.settings.service.name} documents no {what}; nothing was sent"
        )
    return endpoint
