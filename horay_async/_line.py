"""
What opens a call: one client's session, governor and settings, joined for the verbs.
"""

from __future__ import annotations

import asyncio

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs

from ._attempts import Attempts, Call
from ._codec import describe, error_in, loads, pack, status_error_of
from ._errors import APIError, APIResponseValidationError
from ._governor import Governor
from ._intake import Intake
from ._policy import RetryPolicy
from ._requests import Request, bind, endpoint_of
from ._services import Endpoint
from ._session import Body, Session
from ._settings import Settings, check_timeouts
from ._stream import Kind, TokenStream
from ._values import Meta, Outcome, Response, Timeouts


T = TypeVar("T")
R = TypeVar("R", bound=Request)
ReplyT = TypeVar("ReplyT")
ChunkT = TypeVar("ChunkT")

Parse = Callable[[Any, Meta], T]

BODY_LIMIT: Final = 256 << 20
"""
Bytes of a plain answer, decompressed: far above any honest one.
"""


@attrs.frozen(kw_only=True)
class Line:
    """
    Sends requests and opens streams. It is what the verbs are given; no client is.
    """

    settings: Settings

    session: Session

    governor: Governor

    def bind(
        self, kind: type[R], request: R | None, fields: Mapping[str, Any]
    ) -> tuple[R, Timeouts]:
        """
        One request out of a request object, keywords, or both; and the clocks it has.

        Raises:
            InvalidRequestError: It cannot be right; nothing was sent.
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
        call = self._call(request, stream=False)
        n = _choices_of(request)

        def assemble(content: bytes, meta: Meta) -> Any:
            intake = Intake(n, meta=meta)
            intake.take(content)
            if intake.outcome is None:
                intake.end()
            return intake.assembly.body(chat=chat)

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
            headers=self.settings.headers,
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
            prompt_bytes=len(call.body or b""),
            strict_end=strict_end,
        )

    # Small print ---------------------------------------------------------------------

    def _call(self, request: Request, *, stream: bool) -> Call:
        settings = self.settings
        headers, query = settings.headers, settings.query
        if request.extra_headers:
            headers = {**headers, **request.extra_headers}
        if request.extra_query:
            extra = {name: str(value) for name, value in request.extra_query.items()}
            query = {**query, **extra}
        return Call(
            method="POST",
            path=endpoint_of(request, settings.service).path,
            service=settings.service.name,
            gate=self._gate(request),
            body=pack(request, stream=stream),
            headers=headers,
            query=query,
            stream=stream,
            secret=settings.key,
        )

    def _gate(self, request: Request | None) -> tuple[str, str | None, Any]:
        """
        What shares a rate limit.
        """
        model = None if request is None else getattr(request, "model", None)
        return (self.settings.base_url, self.settings.key, model)

    def _attempts(self, call: Call, timeouts: Timeouts) -> Attempts:
        return Attempts(
            call,
            session=self.session,
            governor=self.governor,
            policy=RetryPolicy(max_retries=self.settings.max_retries),
            timeouts=timeouts,
            hook=self.settings.hook,
        )

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
            try:
                if assemble and body.content_type == "text/event-stream":
                    value = assemble(content, meta)
                else:
                    value = _decoded(content, body, meta)
                answer = parse(value, meta)
            except APIError as error:
                raise error.with_facts(
                    content=attempts.redact(content), meta=meta
                ) from error.__cause__
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
            late = isinstance(error, TimeoutError)
            outcome = Outcome.TIMED_OUT if late else Outcome.FAILED
            meta = error.meta if isinstance(error, APIError) else attempts.meta(None)
            attempts.ended(outcome, meta, error=error)
            raise
        usage = getattr(answer, "usage", None)
        attempts.ended(Outcome.FINISHED, meta, usage=usage)
        return answer, response


def _decoded(content: bytes, body: Body, meta: Meta) -> Any:
    """
    The JSON value of a plain answer.

    Raises:
        APIStatusError: It is an error in spite of its status.
        APIResponseValidationError: It is not JSON.
    """
    try:
        value = loads(content)
    except ValueError:
        facts = describe(content, status=body.status, content_type=body.content_type)
        said = facts.message if content.strip() else "an empty body"
        raise APIResponseValidationError(
            f"expected JSON from {meta.service}, but it sent"
            f" {body.content_type or 'no content type'}: {said}"
        ) from None
    if (reported := error_in(value)) is not None:
        raise status_error_of(
            reported, status=body.status, in_stream=False, service=meta.service
        )
    return value


def _choices_of(request: Request) -> int:
    """
    How many choices the answer will have: *n* for each prompt.
    """
    n = (request.extra_body or {}).get("n") or getattr(request, "n", None) or 1
    prompt = getattr(request, "prompt", None)
    if isinstance(prompt, (list, tuple)) and prompt and not isinstance(prompt[0], int):
        return n * len(prompt)
    return n
