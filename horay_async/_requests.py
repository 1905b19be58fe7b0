"""
What we ask: immutable builders of a call, checked when built, bound to a service later.

`UNSET` is not sent, so the server's own default applies; None is sent as null.
"""

from __future__ import annotations

import copy

from typing import ClassVar, Final, Literal, TypeVar, get_args

import attrs

from . import _checks as check
from ._errors import ConfigurationError, InvalidRequestError
from ._fields import (
    COUNT,
    FLAG,
    INTEGER,
    MODEL,
    NUMBER,
    OBJECT,
    SIZE,
    TEXT,
    ChatFields,
    ChatModel,
    CompletionFields,
    CompletionModel,
    ImageFields,
    ImageModel,
    LogitBias,
    Messages,
    OptBool,
    OptFloat,
    OptInt,
    OptObject,
    OptObjects,
    OptStr,
    Prompt,
    Request,
    Size,
    Stop,
    ToolChoice,
    checked,
)
from ._services import Endpoint, Service
from ._values import UNSET


__all__ = [
    "ChatFields",
    "ChatRequest",
    "CompletionFields",
    "CompletionRequest",
    "ImageFields",
    "ImageRequest",
    "Request",
    "Sampling",
    "Validate",
    "bind",
    "endpoint_of",
]

Validate = Literal["documented", "strict", "off"]
"""
Which checks a request meets at its service: documented ranges; also unknown fields; neither.
"""


# The builders ----------------------------------------------------------------------


@attrs.frozen(kw_only=True, repr=False)
class Sampling(Request):
    """
    How text is drawn: what chat and text completions have in common.
    """

    max_tokens: OptInt = attrs.field(default=UNSET, metadata=COUNT)
    """
    The most tokens to generate, for each choice.

    Horay: 512 if not sent, 1 to 4096. Empower: 256 if not sent.
    """

    stop: Stop = attrs.field(default=UNSET, metadata=checked(check.stop))
    """
    Text that ends the answer where it would appear: one string or several. Always sent as a
    list, as Horay documents no bare string.
    """

    temperature: OptFloat = attrs.field(default=UNSET, metadata=NUMBER)
    """
    0: the likeliest token each time. Higher: more random.

    Horay chat: 0.7 if not sent. Horay text: 0 to 1. Empower: 1 if not sent, 0 to 2.
    """

    top_p: OptFloat = attrs.field(default=UNSET, metadata=NUMBER)
    """
    Draw only from the likeliest tokens that together have this probability.

    Horay chat: 0.7 if not sent. Empower: 1 if not sent.
    """

    top_k: OptInt = attrs.field(default=UNSET, metadata=INTEGER)
    """
    Draw only from this many likeliest tokens. Horay chat: 50 if not sent.
    """

    min_p: OptFloat = attrs.field(default=UNSET, metadata=NUMBER)
    """
    Draw only from tokens with this share of the likeliest one's probability (vLLM,
    llama.cpp).
    """

    frequency_penalty: OptFloat = attrs.field(default=UNSET, metadata=NUMBER)
    """
    Above 0: a token grows less likely each time it appears.

    Horay chat: 0.5 if not sent. Horay text: -2 to 2. Empower: 0 if not sent, -2 to 2.
    """

    presence_penalty: OptFloat = attrs.field(default=UNSET, metadata=NUMBER)
    """
    Above 0: a token that appeared grows less likely, once.

    Horay text: -2 to 2. Empower: 0 if not sent, -2 to 2.
    """

    repetition_penalty: OptFloat = attrs.field(default=UNSET, metadata=NUMBER)
    """
    Above 1: a token that appeared, in the prompt too, grows less likely (Horay text, vLLM).
    """

    n: OptInt = attrs.field(default=UNSET, metadata=COUNT)
    """
    How many choices to generate.

    Horay chat and Empower: 1 if not sent. Horay text: 1 to 128.
    """

    seed: OptInt = attrs.field(default=UNSET, metadata=INTEGER)
    """
    The same seed and fields should give the same answer, as far as the server can
    (Horay text).
    """

    logit_bias: LogitBias = attrs.field(
        default=UNSET, metadata=checked(check.logit_bias)
    )
    """
    Token ids, and what to add to their scores (Horay text).
    """

    ignore_eos: OptBool = attrs.field(default=UNSET, metadata=FLAG)
    """
    Go on to `max_tokens` even where the model would end (Empower, vLLM).

    Empower: False if not sent.
    """

    user: OptStr = attrs.field(default=UNSET, metadata=TEXT)
    """
    Your own name for the end user, for the vendor's abuse checks (OpenAI).
    """

    stream_options: OptObject = attrs.field(default=UNSET, metadata=OBJECT)
    """
    `{"include_usage": True}` asks for the usage at a stream's end. Sent with streams only.
    """


@attrs.frozen(kw_only=True, repr=False)
class ChatRequest(Sampling):
    """
    A conversation to be continued: `POST /chat/completions`.

    What is not given is not sent; the server's documented default applies then:

    - Horay: max_tokens 512 (1 to 4096), temperature 0.7, top_p 0.7, top_k 50,
      frequency_penalty 0.5, n 1.
    - Empower: max_tokens 256, temperature 1 (0 to 2), top_p 1, frequency_penalty 0 and
      presence_penalty 0 (-2 to 2), ignore_eos False, n 1.

    Raises:
        InvalidRequestError: A field is of a wrong type, empty or not finite.
    """

    endpoint: ClassVar[str] = "chat"

    asks_for: ClassVar[str] = "chat completions"

    messages: Messages = attrs.field(metadata=checked(check.messages, null=False))
    """
    The conversation so far: `Message` values (`user("…")`) or plain dicts.
    """

    model: ChatModel = attrs.field(default=UNSET, metadata=MODEL)
    """
    Horay: `meta-llama/Meta-Llama-3.1-8B-Instruct` where not given. Empower: a LoRA or a base
    model, by its name.
    """

    max_completion_tokens: OptInt = attrs.field(default=UNSET, metadata=COUNT)
    """
    OpenAI's newer name for `max_tokens`, which its reasoning models want.
    """

    logprobs: OptBool = attrs.field(default=UNSET, metadata=FLAG)
    """
    Send each token's log probability along (OpenAI).
    """

    top_logprobs: OptInt = attrs.field(default=UNSET, metadata=SIZE)
    """
    How many likeliest tokens to tell for each place; needs `logprobs` (OpenAI).
    """

    tools: OptObjects = attrs.field(default=UNSET, metadata=checked(check.object_list))
    """
    Functions that the model may call. Empower: at most 128.
    """

    tool_choice: ToolChoice = attrs.field(
        default=UNSET, metadata=checked(check.tool_choice)
    )
    """
    "auto", "none", or a function. To force a call: "any" at Empower, "required" elsewhere.
    """

    parallel_tool_calls: OptBool = attrs.field(default=UNSET, metadata=FLAG)
    """
    Whether one answer may hold several calls (OpenAI).
    """

    response_format: OptObject = attrs.field(default=UNSET, metadata=OBJECT)
    """
    `{"type": "json_object"}`, or a JSON schema (OpenAI, Empower).
    """

    include_thinking: OptBool = attrs.field(default=UNSET, metadata=FLAG)
    """
    Put the model's thinking before its answer (Empower). False if not sent.
    """

    reasoning_effort: OptStr = attrs.field(default=UNSET, metadata=TEXT)
    """
    How long to think: "low", "medium", "high", … (OpenAI).
    """

    metadata: OptObject = attrs.field(default=UNSET, metadata=OBJECT)
    """
    Labels for the stored answer (OpenAI).
    """

    service_tier: OptStr = attrs.field(default=UNSET, metadata=TEXT)
    """
    Which class of service to use (OpenAI).
    """

    store: OptBool = attrs.field(default=UNSET, metadata=FLAG)
    """
    Whether the vendor keeps the answer (OpenAI).
    """


@attrs.frozen(kw_only=True, repr=False)
class CompletionRequest(Sampling):
    """
    A text to be continued: `POST /completions`.

    What is not given is not sent. Horay documents no defaults here, and these ranges:
    temperature 0 to 1, presence_penalty and frequency_penalty -2 to 2, n 1 to 128.

    Raises:
        InvalidRequestError: A field is of a wrong type, empty or not finite.
    """

    endpoint: ClassVar[str] = "completions"

    asks_for: ClassVar[str] = "text completions"

    prompt: Prompt = attrs.field(metadata=checked(check.prompt, null=False))
    """
    The text. Some servers also take several texts, token ids, or lists of token ids.
    """

    model: CompletionModel = attrs.field(default=UNSET, metadata=MODEL)
    """
    Horay: `meta-llama/Meta-Llama-3.1-8B-Instruct` where not given.
    """

    max_tokens: OptInt = attrs.field(default=UNSET, metadata=SIZE)
    """
    The most tokens to generate, for each choice; Horay names no default.

    0 with `echo` scores the prompt and generates nothing (OpenAI, vLLM).
    """

    logprobs: bool | OptInt = attrs.field(
        default=UNSET, metadata=checked(check.flag_or_integer)
    )
    """
    How many likeliest tokens to tell for each place (OpenAI); some servers take a bool.
    """

    echo: OptBool = attrs.field(default=UNSET, metadata=FLAG)
    """
    Begin the answer with the prompt (OpenAI).
    """

    suffix: OptStr = attrs.field(default=UNSET, metadata=TEXT)
    """
    The text that comes after the gap to be filled (OpenAI).
    """

    best_of: OptInt = attrs.field(default=UNSET, metadata=COUNT)
    """
    Generate so many and return the `n` likeliest (OpenAI).
    """


@attrs.frozen(kw_only=True, repr=False)
class ImageRequest(Request):
    """
    A picture to be made: Horay's `POST /image/generations`.

    Raises:
        InvalidRequestError: A field is of a wrong type or not finite.
    """

    endpoint: ClassVar[str] = "images"

    asks_for: ClassVar[str] = "image generation"

    prompt: str = attrs.field(metadata=checked(check.text, null=False))
    """
    What to see.
    """

    model: ImageModel = attrs.field(default=UNSET, metadata=MODEL)
    """
    Horay: `black-forest-labs/FLUX.1-schnell` where not given.
    """

    image_size: Size = attrs.field(default=UNSET, metadata=TEXT)
    """
    Width x height in pixels. Horay: `1024x1024` where not given; lists six sizes.
    """

    seed: OptInt = attrs.field(default=UNSET, metadata=INTEGER)
    """
    The same seed gives the same picture. Horay: 0 to 9999999999.
    """


# Meeting the service -----------------------------------------------------------------


R = TypeVar("R", bound=Request)

_OFF: Final = 'validate="off" lifts this check; nothing was sent'


def endpoint_of(request: Request, service: Service) -> Endpoint:
    """
    Where the service takes this kind of request.

    Raises:
        InvalidRequestError: It does not.
    """
    endpoint: Endpoint | None = getattr(service, request.endpoint)
    if endpoint is None:
        raise InvalidRequestError(
            f"{service.name} has no {request.asks_for} in its documentation; "
            "nothing was sent"
        )
    return endpoint


def bind(request: R, service: Service, *, validate: Validate = "documented") -> R:
    """
    The request as this service gets it: with a model, and within the documented ranges.

    Raises:
        InvalidRequestError: The service has no such endpoint, needs a model that was not
            given, or documents another range for a field.
    """
    if validate not in get_args(Validate):
        raise ConfigurationError(
            f"validate = {validate!r}: expected one of {', '.join(get_args(Validate))}"
        )
    endpoint = endpoint_of(request, service)
    if validate != "off":
        _enforce(request, endpoint, service)
    if validate == "strict" and endpoint.fields:
        _enforce_names(request, endpoint, service)
    return _completed(request, endpoint, service)


def _completed(request: R, endpoint: Endpoint, service: Service) -> R:
    """
    With the fields that the document both requires and gives a default, the model first.
    """
    given = request.extra_body or ()
    missing = {
        name: value
        for name, value in endpoint.sent.items()
        if getattr(request, name) is UNSET and name not in given
    }
    if request.model is UNSET and "model" not in given:
        if endpoint.model is None:
            raise InvalidRequestError(
                f"model: {service.name} has no default model, so name one; "
                "nothing was sent",
                field="model",
            )
        missing["model"] = endpoint.model
    if not missing:
        return request
    # Not evolve(): everything else has been checked already.
    bound = copy.copy(request)
    for name, value in missing.items():
        object.__setattr__(bound, name, value)
    return bound


def _enforce(request: Request, endpoint: Endpoint, service: Service) -> None:
    for name, allowed in endpoint.limits.items():
        value = getattr(request, name, None)
        if value is not None and value is not UNSET and value not in allowed:
            raise InvalidRequestError(
                f"{name} = {check.shown(value)}: {service.name} documents {allowed}; "
                f"{_OFF}",
                field=name,
            )
    for name, most in endpoint.most.items():
        items = getattr(request, name, None) or ()
        if len(items) > most:
            raise InvalidRequestError(
                f"{name}: {len(items)} items; {service.name} documents at most {most}; "
                f"{_OFF}",
                field=name,
            )


def _enforce_names(request: Request, endpoint: Endpoint, service: Service) -> None:
    given = [
        field.name
        for field in attrs.fields(type(request))
        if field.metadata.get("wire", True)
        and getattr(request, field.name) is not UNSET
    ]
    for name in (*given, *(request.extra_body or ())):
        if name not in endpoint.fields:
            raise InvalidRequestError(
                f'{name}: not in {service.name}\'s documentation, and validate="strict" '
                "sends nothing else; nothing was sent",
                field=name,
            )
