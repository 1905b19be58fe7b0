"""
Horay, Empower and any compatible server, as data: where they live and what their documents say.

Sources: Horay's "Chat Completions", "Completions", "Image Generation", "Get User Info" and
Empower's "Chat Completions" API reference pages. Their `<` is how the documents' generator
prints an inclusive bound: Horay shows `1 <= x <= 4096` beside `1 < x < 128`, and Empower's
own samples send the temperature 0 that `0 < x < 2` would forbid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

import attrs


@attrs.frozen
class Range:
    """
    The values that a document allows for a number, both ends included; None is open.
    """

    low: float | None = None

    high: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (
            self.high is None or value <= self.high
        )

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low}"
        if self.low is None:
            return f"at most {self.high}"
        return f"{self.low} to {self.high}"


@attrs.frozen
class OneOf:
    """
    The values that a document lists for a field.
    """

    values: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return "one of " + ", ".join(self.values)


@attrs.frozen(kw_only=True)
class Endpoint:
    """
    One path of a service, with what its document says of the request's fields.
    """

    path: str

    model: str | None = None
    """
    The documented default model, which is always sent; None: the caller must name one.
    """

    sent: Mapping[str, str] = attrs.field(factory=dict)
    """
    Other fields that the document both requires and gives a default: sent where not given.
    """

    limits: Mapping[str, Range | OneOf] = attrs.field(factory=dict)
    """
    The documented range of a field. Enforced before anything is sent.
    """

    most: Mapping[str, int] = attrs.field(factory=dict)
    """
    The documented greatest number of items in a list.
    """

    fields: frozenset[str] = frozenset()
    """
    The fields that the document names. `validate="strict"` refuses all others.
    """

    defaults: Mapping[str, float | bool | str] = attrs.field(factory=dict)
    """
    What the server says it assumes for an absent field. Shown to people, never sent.
    """


@attrs.frozen(kw_only=True)
class Service:
    """
    A vendor, or a kind of server.

    Define your own to name other paths, ranges or environment variables.
    """

    name: str

    base_url: str | None = None
    """
    Includes the version (`…/v1`): paths are appended to it and nothing is guessed.
    """

    domain: str | None = None
    """
    Hosts at or below this domain are the vendor's own: its key goes nowhere else unasked.
    """

    key_variable: str | None = None

    base_url_variable: str | None = None

    chat: Endpoint | None = None

    completions: Endpoint | None = None

    images: Endpoint | None = None

    models: Endpoint | None = None

    user_info: Endpoint | None = None

    def owns(self, base_url: str) -> bool:
        """
        Whether the URL's host is the vendor's.
        """
        host = urlsplit(base_url).hostname or ""
        return self.domain is not None and (
            host == self.domain or host.endswith("." + self.domain)
        )


HorayChatModel = Literal[
    "meta-llama/Meta-Llama-3.1-405B-Instruct",
    "meta-llama/Meta-Llama-3.1-70B-Instruct",
    "meta-llama/Meta-Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.2-1B-Instruct",
    "meta-llama/Llama-3.2-3B-Instruct",
    "nvidia/Llama-3.1-Nemotron-70B-Instruct",
    "google/gemma-2-27b-it",
    "google/gemma-2-9b-it",
    "Qwen/Qwen2.5-72B-Instruct",
    "Qwen/Qwen2.5-Coder-32B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen2-72B-Instruct",
    "Gryphe/MythoMax-L2-13b",
    "gpt-4o-2024-11-20",
    "gpt-4o-2024-08-06",
    "gpt-4o-mini",
    "o1-preview",
    "o1-mini",
    "claude-3-5-sonnet-v2@20241022",
    "claude-3-5-sonnet@20240620",
]
"""
Horay's documented chat models: for editors to offer. Any other string is sent as it is.
"""

HorayCompletionModel = Literal[
    "meta-llama/Meta-Llama-3.1-405B-Instruct",
    "meta-llama/Meta-Llama-3.1-70B-Instruct",
    "meta-llama/Meta-Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.2-1B-Instruct",
    "meta-llama/Llama-3.2-3B-Instruct",
    # The first version of the page had lost this slash.
    "nvidia/Llama-3.1-Nemotron-70B-Instruct",
    "google/gemma-2-27b-it",
    "google/gemma-2-9b-it",
    "Qwen/Qwen2.5-72B-Instruct",
    "Qwen/Qwen2.5-Coder-32B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen2-72B-Instruct",
    "deepseek-ai/DeepSeek-V2.5",
    "Gryphe/MythoMax-L2-13b",
]
"""
Horay's documented models for text completions.
"""

EmpowerModel = Literal[
    "empower-functions",
    "empower-functions-small",
    "empower-functions-large",
]
"""
Empower's own models; a LoRA goes by its name, a base model by its id.
"""

ImageSize = Literal[
    "1024x1024", "1536x1536", "768x512", "768x1024", "1024x576", "576x1024"
]
"""
The image sizes that Horay documents.
"""

_PENALTY: Final = Range(-2.0, 2.0)
_NOT_NEGATIVE: Final = Range(0.0)

HORAY: Final = Service(
    name="Horay",
    base_url="https://api.horay.ai/v1",
    domain="horay.ai",
    key_variable="HORAY_API_KEY",
    base_url_variable="HORAY_BASE_URL",
    chat=Endpoint(
        path="/chat/completions",
        model="meta-llama/Meta-Llama-3.1-8B-Instruct",
        limits={"max_tokens": Range(1, 4096), "temperature": _NOT_NEGATIVE},
        fields=frozenset(
            {
                "model", "messages", "max_tokens", "stop", "temperature", "top_p",
                "top_k", "frequency_penalty", "n",
            }
        ),
        defaults={
            "max_tokens": 512, "temperature": 0.7, "top_p": 0.7, "top_k": 50,
            "frequency_penalty": 0.5, "n": 1,
        },
    ),
    completions=Endpoint(
        path="/completions",
        model="meta-llama/Meta-Llama-3.1-8B-Instruct",
        limits={
            "n": Range(1, 128),
            "temperature": Range(0.0, 1.0),
            "presence_penalty": _PENALTY,
            "frequency_penalty": _PENALTY,
        },
        fields=frozenset(
            {
                "model", "prompt", "max_tokens", "stop", "temperature", "top_p",
                "top_k", "repetition_penalty", "n", "presence_penalty",
                "frequency_penalty", "logit_bias", "seed",
            }
        ),
    ),
    images=Endpoint(
        path="/image/generations",
        model="black-forest-labs/FLUX.1-schnell",
        sent={"image_size": "1024x1024"},
        limits={
            "image_size": OneOf(get_args(ImageSize)),
            "seed": Range(0, 9_999_999_999),
        },
        fields=frozenset({"model", "prompt", "image_size", "seed"}),
    ),
    models=Endpoint(path="/models"),
    user_info=Endpoint(path="/user/info"),
)  # fmt: skip
"""
Horay: https://docs.horay.ai/api-reference.
"""

EMPOWER: Final = Service(
    name="Empower",
    base_url="https://app.empower.dev/api/v1",
    domain="empower.dev",
    key_variable="EMPOWER_API_KEY",
    base_url_variable="EMPOWER_API_BASE",
    chat=Endpoint(
        path="/chat/completions",
        limits={
            "temperature": Range(0.0, 2.0),
            "presence_penalty": _PENALTY,
            "frequency_penalty": _PENALTY,
        },
        most={"tools": 128},
        fields=frozenset(
            {
                "model", "messages", "frequency_penalty", "presence_penalty",
                "ignore_eos", "max_tokens", "n", "temperature", "top_p", "tools",
                "tool_choice", "include_thinking", "response_format",
            }
        ),
        defaults={
            "frequency_penalty": 0, "presence_penalty": 0, "ignore_eos": False,
            "max_tokens": 256, "n": 1, "temperature": 1, "top_p": 1,
        },
    ),
)  # fmt: skip
"""
Empower: https://docs.empower.dev/api-reference.
"""

COMPATIBLE: Final = Service(
    name="OpenAI-compatible server",
    chat=Endpoint(path="/chat/completions", limits={"temperature": _NOT_NEGATIVE}),
    completions=Endpoint(path="/completions", limits={"temperature": _NOT_NEGATIVE}),
    images=Endpoint(path="/images/generations"),
    models=Endpoint(path="/models"),
)
"""
Any server of the same shape (vLLM, SGLang, llama.cpp, LiteLLM), named by its base URL.
"""

KNOWN: Final[tuple[Service, ...]] = (HORAY, EMPOWER)


def service_of(base_url: str) -> Service:
    """
    The vendor whose host this is, or `COMPATIBLE`.
    """
    for service in KNOWN:
        if service.owns(base_url):
            return service
    return COMPATIBLE
