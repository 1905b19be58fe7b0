"""
The words everyone shares: messages, tokens, usage, how a call ended and where its time went.
"""

from __future__ import annotations

import enum
import json

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, final

import attrs

from multidict import CIMultiDict

from ._wire import Record, Wire


class Unset(enum.Enum):
    """
    The type of `UNSET`: a field that was not given, which is not the same as null.
    """

    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""
A field with this value is not sent, so the server's own default applies.
"""


@final
class Secret(str):
    """
    An API key, or a header made of one, that no repr, log or traceback shows.

    aiohttp's own frames hold the request's headers, so the value itself must keep quiet.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


# What travels ----------------------------------------------------------------------


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Function(Wire):
    """
    The function that a tool call names.
    """

    name: str | None = None

    arguments: str | None = None
    """
    JSON text as the model wrote it; it may be invalid, and "" or None where there are none.
    """


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ToolCall(Wire):
    """
    One call that the model asks for; answer it with `tool(..., tool_call_id=call.id)`.
    """

    id: str | None = None

    type: str | None = "function"

    function: Function = attrs.field(factory=Function)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Message(Wire):
    """
    One message of a conversation: what is sent, and what a reply's choice holds.

    A reply's message goes back in as it is.
    """

    role: str = "assistant"

    content: str | Sequence[Mapping[str, Any]] | None = attrs.field(
        default=None, metadata={"null": True}
    )
    """
    The text, or a list of content parts, or None beside tool calls.
    """

    name: str | None = None

    refusal: str | None = None

    tool_calls: Sequence[ToolCall] | None = None

    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """
        The content as one string: text parts joined, "" where there is none.
        """
        if isinstance(self.content, str):
            return self.content
        parts = self.content or ()
        return "".join(str(part.get("text") or "") for part in parts)

    @property
    def reasoning(self) -> str | None:
        """
        The model's thinking, where the server sends it (`reasoning_content` or `reasoning`).
        """
        return self.extra.get("reasoning_content") or self.extra.get("reasoning")

    @property
    def function_call(self) -> Any:
        """
        The function call of OpenAI's first days, where the server still sends it.
        """
        return self.extra.get("function_call")

    @property
    def annotations(self) -> Any:
        """
        Where the answer has its facts from, where the server says so (OpenAI).
        """
        return self.extra.get("annotations")

    @property
    def audio(self) -> Any:
        """
        The answer as sound, where it was asked for (OpenAI).
        """
        return self.extra.get("audio")


Content = str | Sequence[Mapping[str, Any]]


def system(content: Content) -> Message:
    """
    An instruction to the model that stands above the conversation.
    """
    return Message(role="system", content=content)


def user(content: Content) -> Message:
    """
    What the person says.
    """
    return Message(role="user", content=content)


def assistant(content: Content) -> Message:
    """
    What the model said before.
    """
    return Message(role="assistant", content=content)


def tool(content: Content, *, tool_call_id: str | None) -> Message:
    """
    The result of one tool call, by the call's `id`; None where the server gave it none.
    """
    return Message(role="tool", content=content, tool_call_id=tool_call_id)


@attrs.define
class Token:
    """
    One piece of an answer as it came: treat it as frozen.

    A plain slots class, because a frozen one costs 3.5 times as much to build.
    """

    text: str
    """
    The piece of the answer; "" where the model was only thinking.
    """

    index: int = 0
    """
    Which of the *n* choices it belongs to.
    """

    reasoning: str = ""
    """
    The piece of the model's thinking, where the server streams it.
    """


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Usage(Wire):
    """
    What one answer cost, in tokens, summed over all its choices.
    """

    prompt_tokens: int = 0

    completion_tokens: int = 0

    total_tokens: int = 0

    source: Literal["server", "estimated", "none"] = attrs.field(
        default="server", metadata={"wire": False}
    )
    """
    Who counted: the server; we, from bytes and events, as the server did not; or nobody.
    """

    @property
    def prompt_tokens_details(self) -> Record | None:
        """
        How many of the prompt's tokens came out of a cache, where the server says so.
        """
        return self._details("prompt_tokens_details")

    @property
    def completion_tokens_details(self) -> Record | None:
        """
        How many of the answer's tokens were thinking, where the server says so.
        """
        return self._details("completion_tokens_details")

    def _details(self, name: str) -> Record | None:
        counts = self.extra.get(name)
        return Record(counts) if isinstance(counts, Mapping) else None


# How it ended ----------------------------------------------------------------------


def counted(number: int, thing: str) -> str:
    """
    "1 piece", "2 pieces": for sentences.
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


class Outcome(enum.StrEnum):
    """
    How a stream ended. Every stream ends in exactly one.
    """

    FINISHED = "finished"
    """
    Every requested choice has its finish reason.
    """

    UNCONFIRMED = "unconfirmed"
    """
    The server said `[DONE]`, but a choice is missing or has no finish reason.
    """

    CLOSED = "closed"
    """
    The reader left early: `break`, `close()`, the end of `async with`.
    """

    ABORTED = "aborted"
    """
    `abort(reason)` was called.
    """

    CANCELLED = "cancelled"
    """
    The task that held the stream in `async with` was cancelled.
    """

    INCOMPLETE = "incomplete"
    """
    The server hung up before the answer was finished.
    """

    TIMED_OUT = "timed_out"
    """
    One of our clocks ran out; the error names it.
    """

    FAILED = "failed"
    """
    The server reported an error, or sent what cannot be read.
    """


@attrs.frozen(kw_only=True)
class PartialChoice:
    """
    What had arrived of one choice.
    """

    index: int

    text: str = ""

    reasoning: str = ""

    tool_calls: tuple[ToolCall, ...] = ()
    """
    As far as they came: the arguments may stop in the middle.
    """

    finish_reason: str | None = None


@attrs.frozen(kw_only=True)
class Partial:
    """
    What had arrived when a stream broke off.
    """

    choices: tuple[PartialChoice, ...] = ()

    tokens: int = 0
    """
    Pieces of content received, over all choices.
    """

    usage: Usage = attrs.field(factory=lambda: Usage(source="none"))

    @property
    def text(self) -> str:
        """
        The text of the first choice, "" where nothing came.
        """
        return self.choices[0].text if self.choices else ""


# Facts about a call ----------------------------------------------------------------


@attrs.define(kw_only=True)
class Timings:
    """
    Where one call's time went, in seconds; None where it did not get so far.
    """

    governor: float = 0.0
    """
    Waiting for leave to send, over all attempts, waits between attempts included.
    """

    pool: float | None = None
    """
    Waiting for a free connection slot.
    """

    connect: float | None = None
    """
    DNS, TCP and TLS; 0 for a connection that was there already.
    """

    headers: float | None = None
    """
    From the start of the last attempt to the response's headers.
    """

    first_token: float | None = None
    """
    From the start of the last attempt to the first content (streams only).
    """

    body: float | None = None
    """
    From the headers to the end of the body.
    """

    total: float | None = None
    """
    The whole call, all attempts and waits included.
    """


@attrs.frozen(kw_only=True)
class RateLimits:
    """
    What the server's `x-ratelimit-*` headers said; None where they did not.
    """

    limit_requests: int | None = None

    remaining_requests: int | None = None

    reset_requests: float | None = None
    """
    Seconds until the request budget is full again.
    """

    limit_tokens: int | None = None

    remaining_tokens: int | None = None

    reset_tokens: float | None = None


# The vendors' names for it, the commonest first (OpenAI, SiliconFlow, OpenRouter, Cloudflare).
_REQUEST_ID_HEADERS = (
    "x-request-id",
    "x-siliconcloud-trace-id",
    "x-generation-id",
    "cf-ray",
)


@attrs.frozen(kw_only=True)
class Meta:
    """
    The facts around one answer: what HTTP said, how many attempts, where the time went.
    """

    status: int | None = None
    """
    The HTTP status; None where no response came.
    """

    headers: CIMultiDict[str] = attrs.field(factory=CIMultiDict, repr=False)
    """
    The response's headers, by any case of their name.
    """

    service: str = ""

    attempts: int = 1
    """
    How often the call was tried, the last included; a try without a connection counts.
    """

    reused: bool = False
    """
    Whether the last request went out on a connection that had been used before.
    """

    rate_limits: RateLimits = attrs.field(factory=RateLimits)

    timings: Timings = attrs.field(factory=Timings)

    @property
    def request_id(self) -> str | None:
        """
        The server's name for the call, under whichever header it comes.
        """
        for name in _REQUEST_ID_HEADERS:
            if (value := self.headers.get(name)) is not None:
                return value
        return None


@attrs.frozen(kw_only=True)
class Response:
    """
    An HTTP answer as it came: what `with_raw_response` and an error's `response` give.
    """

    status_code: int

    headers: CIMultiDict[str] = attrs.field(factory=CIMultiDict, repr=False)

    content: bytes = attrs.field(default=b"", repr=False)

    @property
    def text(self) -> str:
        """
        The body as text; bytes that are not UTF-8 become U+FFFD.
        """
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """
        The body read as JSON.

        Raises:
            ValueError: The body is not JSON.
        """
        return json.loads(self.text)
