"""
The two services spoken here: where each lives, what it knows, how each says no.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _wire


class Refusal(Exception):
    """
    A request that is answered with an error.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | int | None = None,
        headers: _wire.Headers = (),
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = _wire.pairs(headers)


def bare(refusal: Refusal) -> Any:
    """
    Horay's family: SiliconFlow's documented bodies (its FAQ, "Error codes").

    A bare JSON string for a bad key and a wrong path, an envelope for a bad request, and
    no code when there were too many.
    """
    if refusal.status in {401, 403, 404, 405, 413}:
        return refusal.message
    if refusal.status == 429:
        return {"message": refusal.message, "data": ""}
    code = 20012 if refusal.status < 500 else 50505
    return {"code": code, "message": refusal.message, "data": None}


def wrapped(refusal: Refusal) -> Any:
    """
    Empower's family: OpenAI's error object, with vLLM's names and codes.
    """
    names = {
        401: "invalid_request_error",
        404: "NotFoundError",
        429: "rate_limit_error",
        500: "InternalServerError",
    }
    return {
        "error": {
            "message": refusal.message,
            "type": names.get(refusal.status, "BadRequestError"),
            "param": refusal.param,
            "code": refusal.status if refusal.code is None else refusal.code,
        }
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    What differs between the services, apart from their parameters.
    """

    name: str

    prefix: str

    error: Callable[[Refusal], Any]

    bad_key: str

    wrong_path: str

    trace_header: str | None

    names_objects: bool
    """
    Whether a whole answer says what kind of object it is.

    Empower's document has no such field. Its streams are said to be OpenAI's, and the
    openai package passes over what does not say that it is a chunk.
    """

    chat_tokens: int
    """The documented default of `max_tokens` in a chat."""

    models: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The names that each endpoint knows; an endpoint without any takes all names."""


_BOTH = [
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
]

_TEXT = ["deepseek-ai/DeepSeek-V2.5"]

_CHAT = [
    "gpt-4o-2024-11-20",
    "gpt-4o-2024-08-06",
    "gpt-4o-mini",
    "o1-preview",
    "o1-mini",
    "claude-3-5-sonnet-v2@20241022",
    "claude-3-5-sonnet@20240620",
]

_IMAGE = ["black-forest-labs/FLUX.1-schnell"]

MODELS = {
    name: kind
    for kind, names in {
        "chat": [*_BOTH, *_CHAT],
        "text": _TEXT,
        "text-to-image": _IMAGE,
    }.items()
    for name in names
}
"""Every model that Horay lists, and what it is for (a chat model also completes text)."""

HORAY = Service(
    name="horay",
    prefix="/v1",
    error=bare,
    bad_key="Invalid token",
    wrong_path="404 page not found",
    trace_header="x-siliconcloud-trace-id",
    names_objects=True,
    chat_tokens=512,
    models={
        "chat": frozenset([*_BOTH, *_CHAT]),
        "text": frozenset([*_BOTH, *_TEXT]),
        "image": frozenset(_IMAGE),
    },
)

EMPOWER = Service(
    name="empower",
    prefix="/api/v1",
    error=wrapped,
    bad_key="Incorrect API key provided.",
    wrong_path="Not Found",
    trace_header=None,
    names_objects=False,
    chat_tokens=256,
)

SERVICES = (EMPOWER, HORAY)


def knows(service: Service, endpoint: str, model: str) -> bool:
    """
    Whether an endpoint of a service has a model.

    Empower takes a base model's or a LoRA's name; which are deployed only an account
    knows, so here every name is, but for those that start with "unknown".
    """
    if names := service.models.get(endpoint):
        return model in names
    return not model.startswith("unknown")
