"""
What opens a call: one client's session, governor and settings, joined for the verbs.
"""

from __future__ import annotations

import asyncio
import uuid

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, overload
from weakref import WeakSet

import attrs

from multidict import CIMultiDict

from ._attempts import Attempts
from ._call import Call
from ._codec import (
    BODY_LIMIT,
    chat_reply,
    completion_reply,
    error_in,
    loads,
    pack,
    status_error_of,
)
from ._errors import APIError, ClientClosedError, IncompleteStreamError
from ._intake import Intake, misfit
from ._leases import Asks, Governing
from ._policy import RetryPolicy
from ._replies import ChatReply, CompletionReply
from ._requests import ChatRequest, CompletionRequest, Request, bind, endpoint_of
from ._services import Endpoint
from ._session import NOTHING, Body, Session
from ._settings import Settings, check_timeouts
from ._stream import Kind, TokenStream
from ._timeouts import Timeouts
from ._values import Message, Meta, Outcome, Response


T = TypeVar("T")
R = TypeVar("R", bound=Request)
ReplyT = TypeVar("ReplyT")
ChunkT = TypeVar("ChunkT")

Parse = Callable[[Any, Meta], T]
"""
Makes the reply of the JSON.
"""


@attrs.frozen(kw_only=True)
class Line:
    """
    Sends requests and opens streams. It is what the verbs are given; no client is.
    """

    settings: Settings

    session: Session

    governor: Governing

    row: str | None = None
    """
    The id of the job's row for which it is used, for the log.
    """

    live: WeakSet[Attempts] = attrs.field(factory=WeakSet, eq=False, repr=False)
    """
    The calls under way, for `close` to reach those that wait for a turn.
    """

    waiting: WeakSet[asyncio.Task[None]] = attrs.field(
        factory=WeakSet, eq=False, repr=False
    )
    """
    Tasks that send, but may be waiting for their user: `close` cancels them.
    """

    hedges: dict[Hashable, Any] = attrs.field(factory=dict, eq=False, repr=False)
    """
    What `hedge` remembers of each gate.
    """

    learned: dict[Hashable, int] = attrs.field(factory=dict, eq=False, repr=False)
    """
    How many choices a call gives, where a server turned out to give fewer than were asked
    for: for whoever fans out.
    """

    async def close(self) -> None:
        """
        Close every connection; calls and streams under way get `ClientClosedError`.

        Raises:
            WrongLoopError: They live on another loop, which is not closed.
        """
        self.session.check_loop()
        for attempts in list(self.live):
            attempts.close(ClientClosedError("the client was closed during this call"))
        for task in list(self.waiting):
            if task.get_loop() is asyncio.get_running_loop():
                task.cancel()
        await self.session.close()

    def bind(
        self, kind: type[R], request: R | None, fields: Mapping[str, Any]
    ) -> tuple[R, Timeouts]:
        """
        One request out of a request object, keywords, or both; and the clocks it has.

        Raises:
            InvalidRequestError: It cannot be right; nothing was sent.
            ConfigurationError: The clocks cannot.
            TypeError: The request is another kind's.
        """
        fields = dict(fields)
        timeouts = check_timeouts(
            fields.pop("timeouts", None),
            fields.pop("timeout", None),
            self.settings.timeouts,
        )
        if request is None:
            request = kind(**fields)
        elif not isinstance(request, kind):
            msg = f"expected a {kind.__name__}, got {type(request).__name__}"
            raise TypeError(msg)
        elif fields:
            request = request.evolve(**fields)
        settings = self.settings
        return bind(request, settings.service, validate=settings.validate), timeouts

    @overload
    async def reply(self, request: ChatRequest, timeouts: Timeouts) -> ChatReply: ...

    @overload
    async def reply(
        self, request: CompletionRequest, timeouts: Timeouts
    ) -> CompletionReply: ...

    async def reply(
        self, request: ChatRequest | CompletionRequest, timeouts: Timeouts
    ) -> ChatReply | CompletionReply:
        """
        A plain call for text, and its reply, which is of the request's kind.
        """
        if isinstance(request, ChatRequest):
            return (await self.send(request, timeouts, chat_reply, chat=True))[0]
        return (await self.send(request, timeouts, completion_reply))[0]

    async def send(
        self,
        request: Request,
        timeouts: Timeouts,
        parse: Parse[T],
        *,
        chat: bool = False,
    ) -> tuple[T, Response]:
        """
        A plain call: its answer, and the HTTP response that held it.

        Args:
            chat: Where the server streams although nobody asked for it: a chat's stream.
        """
        n = _choices_of(request)

        def assemble(content: bytes, meta: Meta) -> Any:
            return _assembled(content, n, meta, chat=chat)

        call = self._call(request, stream=False)
        return await self._fetch(call, timeouts, parse, assemble)

    async def get(
        self, endpoint: Endpoint, timeouts: Timeouts, parse: Parse[T]
    ) -> tuple[T, Response]:
        """
        A call that asks for something without sending anything.
        """
        call = Call(
            method="GET",
            path=endpoint.path,
            service=self.settings.service.name,
            gate=self._gate(None),
            lane=self.settings.lane or "interactive",
            asks=Asks(max_tokens=0),
            headers=_headers(self.settings.headers),
            query=self.settings.query,
            secret=self.settings.key,
        )
        return await self._fetch(call, timeouts, parse)

    def stream(
        self,
        request: Request,
        timeouts: Timeouts,
        kind: Kind[ReplyT, ChunkT],
        *,
        strict_end: bool = False,
    ) -> TokenStream[ReplyT, ChunkT]:
        """
        A stream that sends when it is opened.
        """
        call = self._call(request, stream=True)
        return TokenStream(
            lambda: self._attempts(call, timeouts),
            kind=kind,
            n=_choices_of(request),
            prompt_bytes=_prompt_bytes(request),
            strict_end=strict_end,
        )

    # Small print ---------------------------------------------------------------------

    def _call(self, request: Request, *, stream: bool) -> Call:
        settings = self.settings
        extra = request.extra_query or {}
        query = {name: str(value) for name, value in extra.items()}
        headers = _headers(settings.headers, request.extra_headers or {})
        if settings.idempotency_keys:
            headers.setdefault("Idempotency-Key", str(uuid.uuid4()))
        return Call(
            method="POST",
            path=endpoint_of(request, settings.service).path,
            service=settings.service.name,
            gate=self._gate(_sent(request, "model")),
            lane=settings.lane or "interactive",
            asks=_asks(request),
            body=pack(request, stream=stream),
            headers=headers,
            query={**settings.query, **query},
            stream=stream,
            secret=settings.key,
        )

    def _gate(self, model: Any) -> tuple[str, str | None, str | None]:
        """
        What shares a rate limit.
        """
        name = model if isinstance(model, str) else None
        return (self.settings.base_url, self.settings.key, name)

    def _attempts(self, call: Call, timeouts: Timeouts) -> Attempts:
        attempts = Attempts(
            call,
            session=self.session,
            governor=self.governor,
            policy=RetryPolicy(max_retries=self.settings.max_retries),
            timeouts=timeouts,
            hook=self.settings.hook,
            row=self.row,
        )
        self.live.add(attempts)
        return attempts

    async def _fetch(
        self,
        call: Call,
        timeouts: Timeouts,
        parse: Parse[T],
        assemble: Callable[[bytes, Meta], Any] | None = None,
    ) -> tuple[T, Response]:
        attempts = self._attempts(call, timeouts)

        async def read(body: Body) -> tuple[T, Response, Meta]:
            content = await body.read_all(BODY_LIMIT)
            meta = attempts.meta(body)
            clean = attempts.redact(content)

            def understood(content: bytes) -> T:
                if assemble and _is_stream(body, content):
                    return parse(assemble(content, meta), meta)
                return parse(_decoded(content, meta), meta)

            try:
                # First without our key: an error quotes the answer. An answer may hold it.
                answer = understood(clean)
                if clean != content:
                    answer = understood(content)
            except APIError as error:
                error.with_facts(content=clean, meta=meta)
                # The traceback keeps this frame, which must not keep an echoed key.
                del content
                raise
            # Before the answer is handed on: it settles the lease.
            attempts.usage = getattr(answer, "usage", None)
            response = Response(
                status_code=body.status, headers=body.headers, content=content
            )
            return answer, response, meta

        try:
            answer, response, meta = await attempts.run(read)
        except asyncio.CancelledError as error:
            attempts.ended(Outcome.CANCELLED, attempts.meta(None), error=error)
            raise
        except Exception as error:
            meta = error.meta if isinstance(error, APIError) else attempts.meta(None)
            attempts.ended(_outcome_of(error), meta, error=error)
            raise
        attempts.ended(Outcome.FINISHED, meta, usage=attempts.usage)
        return answer, response


def _outcome_of(error: Exception) -> Outcome:
    if isinstance(error, TimeoutError):
        return Outcome.TIMED_OUT
    if isinstance(error, IncompleteStreamError):
        return Outcome.INCOMPLETE
    return Outcome.FAILED


# What goes out -----------------------------------------------------------------------


def _headers(
    default: Mapping[str, str], extra: Mapping[str, str] = NOTHING
) -> CIMultiDict[str]:
    """
    Both as one, the call's own last; of names that differ in case alone only one stays.
    """
    headers: CIMultiDict[str] = CIMultiDict()
    for given in (default, extra):
        for name, value in given.items():
            headers[name] = value
    return headers


def _sent(request: Request, name: str) -> Any:
    """
    A field as the wire has it: `extra_body` has the last word.
    """
    extra = request.extra_body or {}
    return extra[name] if name in extra else getattr(request, name, None)


def _choices_of(request: Request) -> int:
    """
    How many choices the answer will have: *n* for each prompt.
    """
    n = _sent(request, "n")
    if not isinstance(n, int) or n < 1:
        n = 1
    return n * prompts_of(request)


def prompts_of(request: Request) -> int:
    """
    How many texts the request wants continued: a list of token ids is one.
    """
    prompt = _sent(request, "prompt")
    if isinstance(prompt, (list, tuple)) and prompt and not isinstance(prompt[0], int):
        return len(prompt)
    return 1


def _asks(request: Request) -> Asks:
    """
    What it will cost: the number of choices, and how long they may become.
    """
    names = ("max_completion_tokens", "max_tokens")
    said = [most for name in names if isinstance(most := _sent(request, name), int)]
    return Asks(
        prompt_bytes=_prompt_bytes(request),
        max_tokens=max(said[0], 0) if said else None,
        choices=_choices_of(request),
    )


def _prompt_bytes(request: Request) -> int:
    """
    The length of the prompt's text, for an estimate where the server does not count.
    """
    said = getattr(request, "messages", None)
    if said is None:
        return len(str(getattr(request, "prompt", "")).encode("utf-8", "replace"))
    texts = (
        Message(content=one.get("content")).text if isinstance(one, dict) else one.text
        for one in said
    )
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


# What comes in -----------------------------------------------------------------------


def _is_stream(body: Body, content: bytes) -> bool:
    """
    Whether the server streams, though nobody asked for it. No JSON begins like an event.
    """
    begins = content.lstrip()[:6]
    return body.content_type == "text/event-stream" or begins.startswith(
        (b"data:", b"event:", b":")
    )


def _assembled(content: bytes, n: int, meta: Meta, *, chat: bool) -> Any:
    intake = Intake(n, meta=meta, streamed=None)
    try:
        intake.take(content)
        intake.end()
    except APIError as error:
        error.partial = intake.assembly.partial()
        raise
    return intake.assembly.body(chat=chat)


def _decoded(content: bytes, meta: Meta) -> Any:
    """
    The JSON value of a plain answer.

    Raises:
        APIStatusError: It is an error in spite of its status.
        APIResponseValidationError: It is not JSON.
    """
    value, is_json = None, True
    try:
        value = loads(content)
    except ValueError:
        is_json = False
    if not is_json:
        # Out here: the decoder's error holds the whole body.
        raise misfit("JSON", content, meta)
    if (reported := error_in(value)) is not None:
        raise status_error_of(
            reported, status=meta.status, in_stream=False, service=meta.service
        )
    return value
