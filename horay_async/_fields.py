"""
What the builders are made of: their base, the types of their fields, the same as keywords.

`**fields: Unpack[ChatFields]` gives a call of the client the names that editors offer; a test
holds them to the builders'.
"""

from __future__ import annotations

import difflib

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Self, TypedDict

import attrs

from . import _checks as check
from ._services import EmpowerModel, HorayChatModel, HorayCompletionModel, ImageSize
from ._timeouts import Timeouts
from ._values import UNSET, Message, Unset


OptInt = int | None | Unset
OptFloat = float | None | Unset
OptBool = bool | None | Unset
OptStr = str | None | Unset
OptObject = Mapping[str, Any] | None | Unset
OptObjects = Sequence[Mapping[str, Any]] | None | Unset
Messages = Sequence[Message | Mapping[str, Any]]
Prompt = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]
Stop = str | Sequence[str] | None | Unset
ToolChoice = str | Mapping[str, Any] | None | Unset
LogitBias = Mapping[int, float] | Mapping[str, float] | None | Unset
ChatModel = HorayChatModel | EmpowerModel | str | Unset
CompletionModel = HorayCompletionModel | str | Unset
HorayImageModel = Literal["black-forest-labs/FLUX.1-schnell"]
ImageModel = HorayImageModel | str | Unset
Size = ImageSize | str | None | Unset
ExtraHeaders = Mapping[str, str] | None
ExtraQuery = Mapping[str, str | float] | None
ExtraBody = Mapping[str, Any] | None
Validate = Literal["documented", "strict", "off"]


# The base --------------------------------------------------------------------------


def checked(checks: check.Check, *, null: bool = True) -> dict[str, Any]:
    """
    A field's metadata: how its value is checked when a request is built.
    """
    return {"check": check.optional(checks) if null else checks}


NUMBER: Final = checked(check.number)
INTEGER: Final = checked(check.integer())
SIZE: Final = checked(check.integer(0))
COUNT: Final = checked(check.integer(1))
FLAG: Final = checked(check.flag)
TEXT: Final = checked(check.text)
OBJECT: Final = checked(check.json_object)
MODEL: Final = checked(check.model, null=False)

_ASIDE: Final = {"wire": False}
"""
An option of the call: not a field of the wire.
"""


@attrs.frozen(kw_only=True, repr=False)
class Request:
    """
    What every call may carry beside the fields of its document.
    """

    endpoint: ClassVar[str]

    asks_for: ClassVar[str]

    _names: ClassVar[frozenset[str]]

    _checks: ClassVar[tuple[tuple[str, check.Check, bool], ...]]

    model: str | Unset = attrs.field(default=UNSET, metadata=MODEL)
    """
    The model's name; the service's documented default where none is given.
    """

    extra_headers: ExtraHeaders = attrs.field(
        default=None, metadata={**_ASIDE, **checked(check.headers)}
    )
    """
    HTTP headers of this call alone; they win over all others.
    """

    extra_query: ExtraQuery = attrs.field(
        default=None, metadata={**_ASIDE, **checked(check.query)}
    )
    """
    Query parameters of this call alone.
    """

    extra_body: ExtraBody = attrs.field(
        default=None, metadata={**_ASIDE, **checked(check.extra_body)}
    )
    """
    Fields that this class does not have; they have the last word over those that it has.
    """

    def __new__(cls, *_: Any, **fields: Any) -> Self:
        # The generated __init__ would only say that it did not expect the name.
        if not fields.keys() <= cls._names:
            raise TypeError(_unknown(cls, frozenset(fields) - cls._names))
        return super().__new__(cls)

    @classmethod
    def __attrs_init_subclass__(cls) -> None:
        fields = attrs.fields(cls)
        cls._names = frozenset(field.name for field in fields)
        cls._checks = tuple(
            (field.name, field.metadata["check"], field.default is attrs.NOTHING)
            for field in fields
            if "check" in field.metadata
        )

    def __attrs_post_init__(self) -> None:
        for name, checks, needed in self._checks:
            value = getattr(self, name)
            if needed or value is not UNSET:
                object.__setattr__(self, name, checks(name, value))

    def __repr__(self) -> str:
        """
        Only the fields that are set: most are not.
        """
        given = ", ".join(
            f"{field.name}={value!r}"
            for field in attrs.fields(type(self))
            if (value := getattr(self, field.name)) is not field.default
        )
        return f"{type(self).__name__}({given})"

    def evolve(self, **changes: Any) -> Self:
        """
        A copy with some fields changed; `UNSET` takes one out again.
        """
        return attrs.evolve(self, **changes)


def _unknown(kind: type[Request], names: frozenset[str]) -> str:
    """
    What to say of fields that a class does not have.
    """
    if "stream" in names:
        return (
            f"stream is not a field of {kind.__name__}: the verb decides; "
            "use stream(...) or create(..., stream=True)"
        )
    name = min(names)
    close = difflib.get_close_matches(name, kind._names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return (
        f"{kind.__name__} has no field {name!r}{hint} "
        "(what the builder does not have goes into extra_body)"
    )


# As keywords -----------------------------------------------------------------------


class RequestFields(TypedDict, total=False):
    """
    `Request` as keywords.
    """

    extra_headers: ExtraHeaders
    extra_query: ExtraQuery
    extra_body: ExtraBody


class SamplingFields(RequestFields, total=False):
    """
    `Sampling` as keywords.
    """

    max_tokens: OptInt
    stop: Stop
    temperature: OptFloat
    top_p: OptFloat
    top_k: OptInt
    min_p: OptFloat
    frequency_penalty: OptFloat
    presence_penalty: OptFloat
    repetition_penalty: OptFloat
    n: OptInt
    seed: OptInt
    logit_bias: LogitBias
    ignore_eos: OptBool
    user: OptStr
    stream_options: OptObject


class ChatOptions(SamplingFields, total=False):
    """
    How a chat is answered, whichever it is.
    """

    max_completion_tokens: OptInt
    top_logprobs: OptInt
    tools: OptObjects
    tool_choice: ToolChoice
    parallel_tool_calls: OptBool
    response_format: OptObject
    include_thinking: OptBool
    reasoning_effort: OptStr
    metadata: OptObject
    service_tier: OptStr
    store: OptBool


class ChatFields(ChatOptions, total=False):
    """
    `ChatRequest` as keywords.
    """

    messages: Messages
    model: ChatModel
    logprobs: OptBool


class CompletionOptions(SamplingFields, total=False):
    """
    How a text is continued, whichever it is.
    """

    echo: OptBool
    suffix: OptStr
    best_of: OptInt


class CompletionFields(CompletionOptions, total=False):
    """
    `CompletionRequest` as keywords.
    """

    prompt: Prompt
    model: CompletionModel
    logprobs: bool | OptInt


class ImageFields(RequestFields, total=False):
    """
    `ImageRequest` as keywords.
    """

    prompt: str
    model: ImageModel
    image_size: Size
    seed: OptInt


# What the verbs take ---------------------------------------------------------------


class ChatArguments(ChatFields, total=False):
    """
    What a chat verb takes: the request's fields, and the clocks of this call.
    """

    timeouts: Timeouts | None
    timeout: float | None


class CompletionArguments(CompletionFields, total=False):
    """
    What a text verb takes: the request's fields, and the clocks of this call.
    """

    timeouts: Timeouts | None
    timeout: float | None


class ImageArguments(ImageFields, total=False):
    """
    What `images.generate` takes: the request's fields, and the clocks of this call.
    """

    timeouts: Timeouts | None
    timeout: float | None
