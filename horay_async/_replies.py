"""
What we hear: replies, chunks and lists, as attrs values that keep what they do not know.

Every field may be missing, as some server leaves it out: an absent one is None (or its
stated default), and a scalar of another type than the document's stands as it came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs

from ._values import Message, Meta, Usage
from ._wire import Piece, Wire


_NULL = {"null": True}
_ASIDE = {"wire": False}


def no_usage() -> Usage:
    """
    The usage of an answer whose server did not count.
    """
    return Usage(source="none")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Answer(Wire):
    """
    What every answer to one call has beside its fields on the wire.
    """

    meta: Meta = attrs.field(factory=Meta, metadata=_ASIDE, repr=False, eq=False)
    """
    The facts around it: status, headers, rate limits, attempts, timings.
    """

    @property
    def _request_id(self) -> str | None:
        return self.meta.request_id


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Generated(Answer):
    """
    What the answers of both model calls share.
    """

    id: str | None = None

    object: str | None = None

    created: int | None = None
    """
    Seconds since 1970, by the server's clock.
    """

    model: str | None = None
    """
    The model that answered, by the server's name for it.
    """

    system_fingerprint: str | None = None

    usage: Usage = attrs.field(factory=no_usage, metadata={"null": False})
    """
    What it cost; `usage.source` says who counted.
    """

    def _body(self, *, keep_null: bool) -> dict[str, Any]:
        # The usage that the server counted is on the wire; what we made of it is not. A
        # chunk of text has None.
        body = super()._body(keep_null=keep_null)
        if self.usage is None or self.usage.source != "server":
            body.pop("usage", None)
            if keep_null:
                body["usage"] = None
        return body


# Chat ------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ChatChoice(Wire):
    """
    One of the *n* answers of a chat.
    """

    index: int = 0
    """
    Its number; its place in the list where the server sends none (Horay does not).
    """

    message: Message = attrs.field(factory=Message)

    finish_reason: str | None = attrs.field(default=None, metadata=_NULL)
    """
    Why it ended: `stop`, `length`, `tool_calls`, … or the server's own word.
    """

    logprobs: Any = None
    """
    As the server sent it: a list of numbers (Empower), …; an object (OpenAI) is a `Record`,
    whose members read as attributes.
    """

    @property
    def text(self) -> str:
        """
        The message's content as one string.
        """
        return self.message.text


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ChatReply(Generated):
    """
    The whole answer of a chat.
    """

    choices: Sequence[ChatChoice] = ()

    @property
    def message(self) -> Message:
        """
        The first choice's message, to be put into the next request as it is.
        """
        return self.choices[0].message if self.choices else Message()

    @property
    def text(self) -> str:
        """
        The first choice's text, "" where there is none.
        """
        return self.message.text

    @property
    def reasoning(self) -> str | None:
        """
        The first choice's thinking, where the server sends it.
        """
        return self.message.reasoning

    @property
    def service_tier(self) -> str | None:
        """
        Which class of service answered, where the server says so (OpenAI).
        """
        return self.extra.get("service_tier")


@attrs.define(kw_only=True, eq=False, repr=False)
class FunctionDelta(Piece):
    """
    A piece of a function call: the name first, then pieces of the arguments.
    """

    name: str | None = None

    arguments: str | None = None


@attrs.define(kw_only=True, eq=False, repr=False)
class ToolCallDelta(Piece):
    """
    A piece of a tool call.
    """

    index: int = 0
    """
    Which call of the choice it belongs to; its place in the list where none is sent.
    """

    id: str | None = None

    type: str | None = None

    function: FunctionDelta | None = None


@attrs.define(kw_only=True, eq=False, repr=False)
class Delta(Piece):
    """
    What a chunk adds to one choice.
    """

    role: str | None = None

    content: str | Sequence[Mapping[str, Any]] | None = None

    refusal: str | None = None

    tool_calls: Sequence[ToolCallDelta] | None = None

    @property
    def reasoning(self) -> str | None:
        """
        A piece of the model's thinking (`reasoning_content` or `reasoning`).
        """
        return self.extra.get("reasoning_content") or self.extra.get("reasoning")

    @property
    def function_call(self) -> Any:
        """
        A piece of a call in OpenAI's first manner, where the server still sends it.
        """
        return self.extra.get("function_call")


@attrs.define(kw_only=True, eq=False, repr=False)
class ChunkChoice(Piece):
    """
    What a chunk says of one choice.
    """

    index: int = 0

    delta: Delta = attrs.field(factory=Delta)

    finish_reason: str | None = attrs.field(default=None, metadata=_NULL)
    """
    None until the choice ends.
    """

    logprobs: Any = None


@attrs.define(kw_only=True, eq=False, repr=False)
class ChatChunk(Piece):
    """
    One event of a chat's stream.
    """

    id: str | None = None

    object: str | None = None

    created: int | None = None

    model: str | None = None

    choices: Sequence[ChunkChoice] = ()
    """
    Empty in the chunk that only brings the usage.
    """

    usage: Usage | None = attrs.field(default=None, metadata={"null": False})

    system_fingerprint: str | None = None

    @property
    def service_tier(self) -> str | None:
        """
        Which class of service answered, where the server says so (OpenAI).
        """
        return self.extra.get("service_tier")


# Text ------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CompletionChoice(Wire):
    """
    One of the *n* continuations of a prompt.
    """

    index: int = 0
    """
    With several prompts: the choice's number + the prompt's number * n.
    """

    text: str = ""

    finish_reason: str | None = attrs.field(default=None, metadata=_NULL)

    logprobs: Any = None
    """
    As the server sent it: a list of numbers, …; an object is a `Record`, which reads as
    `logprobs.tokens` and `.token_logprobs` (Horay).
    """


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CompletionReply(Generated):
    """
    The whole answer of a text completion.
    """

    choices: Sequence[CompletionChoice] = ()

    prompt: Any = None
    """
    The prompt with its log probabilities, where the server returns it (Horay).
    """

    @property
    def text(self) -> str:
        """
        The first choice's text, "" where there is none.
        """
        return self.choices[0].text if self.choices else ""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CompletionChunk(CompletionReply):
    """
    One event of a text completion's stream: its choices hold the text that is new.
    """

    usage: Usage | None = attrs.field(  # type: ignore[assignment]
        default=None, metadata={"null": False}
    )
    """
    None in all chunks but the one that brings it, as in a chat's stream.
    """


# Beside the two --------------------------------------------------------------------


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Model(Wire):
    """
    A model that the server offers.
    """

    id: str | None = None

    object: str | None = None

    created: int | None = None

    owned_by: str | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ModelList(Answer):
    """
    The models that the server offers; iterate over it, or read `data`.
    """

    object: str | None = None

    data: Sequence[Model] = ()

    def __iter__(self) -> Iterator[Model]:
        return iter(self.data)

    async def __aiter__(self) -> AsyncIterator[Model]:
        # As openai's pages do. All models came at once: nothing is waited for.
        for model in self.data:
            yield model

    def __len__(self) -> int:
        return len(self.data)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Image(Wire):
    """
    One picture.
    """

    url: str | None = None
    """
    Where it lies, usually for a short time only.
    """


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ImageReply(Answer):
    """
    The pictures that were made.
    """

    images: Sequence[Image] = ()

    timings: Any = None
    """
    The server's own clock: `{"inference": seconds}` (Horay).
    """

    seed: int | None = None
    """
    Send it again to get the same pictures.
    """

    def _body(self, *, keep_null: bool) -> dict[str, Any]:
        # OpenAI-like servers say `data`.
        body = super()._body(keep_null=keep_null)
        if not keep_null and "data" in body:
            del body["images"]
        return body

    @property
    def data(self) -> Sequence[Image]:
        """
        The pictures, by openai's name for them.
        """
        return self.images


@attrs.frozen(kw_only=True, eq=False, repr=False)
class UserInfo(Answer):
    """
    Horay's account: who the key belongs to and what money is left.
    """

    id: str | None = None

    name: str | None = None

    image: str | None = None

    email: str | None = attrs.field(default=None, repr=False)

    introduction: str | None = None

    role: str | None = None

    is_admin: bool | None = attrs.field(default=None, metadata={"alias": "isAdmin"})

    balance: Decimal | None = None
    """
    Money that was given; never a float.
    """

    charge_balance: Decimal | None = attrs.field(
        default=None, metadata={"alias": "chargeBalance"}
    )
    """
    Money that was paid in.
    """

    total_balance: Decimal | None = attrs.field(
        default=None, metadata={"alias": "totalBalance"}
    )
    """
    Both together.
    """

    status: str | None = None
    """
    The account's state (`normal`); the envelope's own `status` is a boolean.
    """

    envelope: Mapping[str, Any] = attrs.field(factory=dict, metadata=_ASIDE)
    """
    What stood around the data: `code`, `message`, `status`.
    """

    def _body(self, *, keep_null: bool) -> dict[str, Any]:
        # Money is text in both. By our names, or as on the wire: camel case, the envelope.
        if keep_null:
            body = super()._body(keep_null=True)
            return {name: _as_text(value) for name, value in body.items()}
        data = {
            field.metadata.get("alias", field.name): _as_text(value)
            for field in attrs.fields(type(self))
            if field.metadata.get("wire", True)
            and (value := getattr(self, field.name)) is not None
        }
        data.update(self.extra)
        return {**self.envelope, "data": data} if self.envelope else data


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value
