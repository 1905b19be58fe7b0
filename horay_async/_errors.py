"""
What can go wrong: one tree of errors that carry their facts, pickle, and hold no key.

    HorayError
    ├── InvalidRequestError (ValueError)        refused here, nothing was sent
    ├── ConfigurationError (ValueError)         key, base URL, header or option that cannot work
    │   └── MissingKeyError
    ├── ClientClosedError (RuntimeError)        used after close()
    ├── WrongLoopError (RuntimeError)           used on another event loop than it began on
    ├── StreamConsumedError (RuntimeError)      a stream was read twice, or in two ways
    ├── BudgetExceededError (RuntimeError)      a job ended early: its budget is used up
    ├── JournalError                            a job's journal cannot be read, or written
    │   └── JournalLockedError                  another process, or job, is writing it
    └── APIError                                something was sent, or was about to be
        ├── APIConnectionError                  no (whole) answer came back
        │   └── APITimeoutError (TimeoutError)  one of our clocks ran out
        │       ├── ConnectTimeoutError
        │       ├── PoolTimeoutError
        │       ├── DeadlineExceeded
        │       ├── FirstTokenTimeoutError (StreamError)
        │       ├── StreamStalledError (StreamError)
        │       └── StreamSilentError (StreamError)
        ├── APIStatusError                      the server said no, by status or inside a stream
        │   ├── BadRequestError 400             ├── RequestTooLargeError 413
        │   ├── AuthenticationError 401         ├── UnprocessableEntityError 422
        │   ├── PaymentRequiredError 402        ├── RateLimitError 429
        │   ├── PermissionDeniedError 403       └── InternalServerError >= 500
        │   ├── NotFoundError 404                   ├── ServiceUnavailableError 503
        │   ├── RequestTimeoutError 408             └── OverloadedError 529
        │   └── ConflictError 409
        ├── APIResponseValidationError          an answer that cannot be read as one
        │   └── SSEDecodeError (StreamError)
        │       └── EventTooLargeError
        └── StreamError                         a stream that did not finish
            ├── IncompleteStreamError           the server hung up too early
            ├── UnconfirmedStreamError          `[DONE]` without a finish reason, under strict_end
            └── StreamAbortedError              abort() or close() while somebody was reading

The names are openai-python's where it has one. Cancellation is never among them.
"""

from __future__ import annotations

from typing import Any, Self

from ._values import Meta, Partial, Response, Usage


class HorayError(Exception):
    """
    The root: everything that this library raises on purpose.
    """


class InvalidRequestError(HorayError, ValueError):
    """
    The request cannot be right, so nothing was sent.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        """
        The field at fault, where it is one.
        """


class ConfigurationError(HorayError, ValueError):
    """
    A key, base URL, header or option with which no call can work.
    """


class MissingKeyError(ConfigurationError):
    """
    No key was given, and none may be taken from the environment for this address.
    """


class ClientClosedError(HorayError, RuntimeError):
    """
    The client was used after `close()`.
    """


class WrongLoopError(HorayError, RuntimeError):
    """
    The client was used on another event loop than the one its connections live on.
    """


class StreamConsumedError(HorayError, RuntimeError):
    """
    A stream was looped over twice without `async with`, or as tokens and as chunks; or a
    job or a fan-out was used twice.
    """


class BudgetExceededError(HorayError, RuntimeError):
    """
    A job asked no more, as what its budget leaves is less than another row may cost.
    """


class JournalError(HorayError):
    """
    A job's journal cannot be read or written, or is no journal.
    """


class JournalLockedError(JournalError):
    """
    Another process, or another job of this one, is writing the journal.
    """


class APIError(HorayError):
    """
    A call that did not end well.

    Every fact but the message may be missing: None, or its empty value.
    """

    def __init__(
        self,
        message: str,
        *,
        body: Any = None,
        code: str | int | None = None,
        type: str | None = None,  # noqa: A002 -- openai's name for the attribute
        param: str | None = None,
        meta: Meta | None = None,
        content: bytes = b"",
        partial: Partial | None = None,
        retry_after: float | None = None,
        elapsed: float | None = None,
    ) -> None:
        # Facts live in __dict__, so that the default pickling keeps them.
        super().__init__(message)
        self.message = message
        self.body = body
        """
        The error as the server sent it: the inside of `error` where there is one.
        """
        self.code = code
        self.type = type
        self.param = param
        self.meta: Meta = meta or Meta()
        self.content = content
        """
        The raw body, as far as it was read.
        """
        self.partial: Partial = partial or Partial()
        """
        What had arrived of the answer.
        """
        self.retry_after = retry_after
        """
        Seconds that the server asked us to wait, where it did and we gave up.
        """
        self.elapsed = elapsed
        """
        Seconds from the beginning of the call.
        """

    def reworded(self, message: str) -> None:
        """
        Let it say something else.
        """
        self.message = message
        # What repr() and pickle show.
        self.args = (message,)

    def __str__(self) -> str:
        # OSError's two-argument form would otherwise print "[Errno …]" for timeouts.
        return self.message

    @property
    def status_code(self) -> int | None:
        """
        The HTTP status that came, or None.
        """
        return self.meta.status

    @property
    def request_id(self) -> str | None:
        """
        The server's name for the call.
        """
        return self.meta.request_id

    @property
    def attempts(self) -> int:
        """
        How often the call was tried; a try that got no connection counts too.
        """
        return self.meta.attempts

    @property
    def usage(self) -> Usage:
        """
        What the partial answer cost, and who counted.
        """
        return self.partial.usage

    @property
    def response(self) -> Response:
        """
        The HTTP answer that the error was made of.
        """
        return Response(
            status_code=self.meta.status or 0,
            headers=self.meta.headers,
            content=self.content,
        )

    def with_facts(self, **facts: Any) -> Self:
        """
        Add facts that a later room knows; returns the same error.
        """
        self.__dict__.update(facts)
        return self


# No answer -------------------------------------------------------------------------


class APIConnectionError(APIError):
    """
    The connection could not be made, or broke before the answer was whole.
    """


class APITimeoutError(APIConnectionError, TimeoutError):
    """
    One of our clocks ran out.

    `meta.timings` says where the time went, `partial` what had come of the answer.
    """

    clock = "timeout"
    """
    Which of `Timeouts`' clocks it was.
    """

    remedy = "wait longer"
    """
    What helps the next call.
    """

    def __init__(self, message: str, *, pings: int = 0, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.pings = pings
        """
        Comments that the server had sent to keep the stream alive.
        """


class ConnectTimeoutError(APITimeoutError):
    """
    No connection within `Timeouts.connect`.
    """

    clock = "connect"

    remedy = "raise Timeouts(connect=...) to wait longer"


class PoolTimeoutError(APITimeoutError):
    """
    All `max_connections` were in use for as long as `Timeouts.connect`.
    """

    clock = "connect"

    remedy = "raise max_connections, or send less at once"


class DeadlineExceeded(APITimeoutError):
    """
    The whole call took longer than `Timeouts.deadline`.
    """

    clock = "deadline"

    remedy = "raise timeout= or Timeouts(deadline=...) to wait longer"


# The server said no ----------------------------------------------------------------


class APIStatusError(APIError):
    """
    The server answered with an error: by its HTTP status, or inside a stream.
    """

    in_stream = False
    """
    Whether it came as an event in a stream that had begun with status 200.
    """

    status: int | None = None
    """
    The status that the error stands for, where it came in a stream.
    """

    @property
    def status_code(self) -> int | None:
        """
        The HTTP status, or the one that an error inside a stream stands for.
        """
        return self.status if self.status is not None else self.meta.status


class BadRequestError(APIStatusError):
    """
    400: the server could not make sense of the request.
    """


class AuthenticationError(APIStatusError):
    """
    401: the key is missing or wrong.
    """


class PaymentRequiredError(APIStatusError):
    """
    402: no credit left.
    """


class PermissionDeniedError(APIStatusError):
    """
    403: the key may not do this.
    """


class NotFoundError(APIStatusError):
    """
    404: no such model or path.
    """


class RequestTimeoutError(APIStatusError):
    """
    408: the server waited too long for the request.
    """


class ConflictError(APIStatusError):
    """
    409: it collides with another request.
    """


class RequestTooLargeError(APIStatusError):
    """
    413: the request is larger than the server takes.
    """


class UnprocessableEntityError(APIStatusError):
    """
    422: understood, but a value is out of bounds.
    """


class RateLimitError(APIStatusError):
    """
    429: too many requests or tokens, or the quota is used up.
    """


class InternalServerError(APIStatusError):
    """
    500 and above: the server failed.
    """


class ServiceUnavailableError(InternalServerError):
    """
    503: the server is down or overloaded.
    """


class OverloadedError(InternalServerError):
    """
    529: the server is overloaded.
    """


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    413: RequestTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    503: ServiceUnavailableError,
    529: OverloadedError,
}


def status_error(status: int) -> type[APIStatusError]:
    """
    The class for an HTTP status.
    """
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return InternalServerError if status >= 500 else APIStatusError


# An answer that is none ------------------------------------------------------------


class APIResponseValidationError(APIError):
    """
    The server answered, but not with what was asked for, or not readably.
    """


# Streams ---------------------------------------------------------------------------


class StreamError(APIError):
    """
    A stream that did not finish; `partial` holds what had arrived.
    """


class IncompleteStreamError(StreamError):
    """
    The server hung up before the answer was finished.
    """


class UnconfirmedStreamError(StreamError):
    """
    `[DONE]` came, but not a finish reason for every choice, and `strict_end` was asked for.
    """


class StreamAbortedError(StreamError):
    """
    The stream was aborted or closed while somebody was still reading it.
    """


class FirstTokenTimeoutError(StreamError, APITimeoutError):
    """
    No content within `Timeouts.first_token`.
    """

    clock = "first_token"

    remedy = "raise Timeouts(first_token=...) to wait longer"


class StreamStalledError(StreamError, APITimeoutError):
    """
    No content for `Timeouts.stall`, though the connection may be alive.
    """

    clock = "stall"

    remedy = "raise Timeouts(stall=...) to wait longer"


class StreamSilentError(StreamError, APITimeoutError):
    """
    Not one byte for `Timeouts.silence`.
    """

    clock = "silence"

    remedy = "raise Timeouts(silence=...) to wait longer"


class SSEDecodeError(APIResponseValidationError, StreamError):
    """
    An event of the stream cannot be read.
    """


class EventTooLargeError(SSEDecodeError):
    """
    One event, or one line of it, is longer than the ceiling.
    """

    def __init__(self, message: str, *, limit: int = 0, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.limit = limit
        """
        The ceiling, in bytes.
        """
