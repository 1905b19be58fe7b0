"""
One request for many choices, as the requests of several calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from .._errors import InvalidRequestError
from .._line import Line, prompts_of
from .._requests import ChatRequest, CompletionRequest, endpoint_of
from .._services import Range
from .._values import UNSET, counted, user


Request = ChatRequest | CompletionRequest

R = TypeVar("R", bound=Request)

CLOCKS: Final = frozenset({"timeouts", "timeout"})

MAX_SEED: Final = 2**63 - 1
"""
What servers that take any seed keep it in.
"""


@attrs.frozen(eq=False)
class Share:
    """
    Some of the choices that are wanted: one call.
    """

    whole: Any
    """
    The request that is shared.
    """

    places: Sequence[int]
    """
    The numbers of its choices.
    """

    prompt: int = 0
    """
    The number of its prompt.
    """

    bare: bool = False
    """
    Whether it is for one choice and does not say so: the server takes no `n`.
    """

    @property
    def request(self) -> Any:
        """
        What this call sends.
        """
        changes: dict[str, Any] = {"n": UNSET if self.bare else len(self.places)}
        if isinstance(self.whole.seed, int):
            changes["seed"] = self.whole.seed + self.places[0]
        return self.whole.evolve(**changes)


def shares(request: R, n: int, limit: int | None = None) -> list[R]:
    """
    One request for *n* choices, as requests for at most *limit* each.

    Each has its own `n`, and, where the request has a seed, that seed plus the number of
    choices before it, as the same seed would give the same choices again.

    Raises:
        InvalidRequestError: The request cannot be split.
    """
    return [share.request for share in split(request, range(n), limit)]


def split(
    whole: Request, places: Sequence[int], most: int | None, prompt: int = 0
) -> list[Share]:
    """
    The calls for these choices of one prompt.

    Args:
        most: How many of them one call may ask for; 0: one, which must not say so.

    Raises:
        InvalidRequestError: The request cannot be split.
    """
    size = len(places) if most is None else max(most, 1)
    parts = [places[at : at + size] for at in range(0, len(places), size)]
    for name in ("n", "seed"):
        if name in (whole.extra_body or ()):
            raise InvalidRequestError(
                f"extra_body.{name}: every call would get the same; pass {name}=...",
                field=f"extra_body.{name}",
            )
    best_of = getattr(whole, "best_of", None)
    if best_of and (len(parts) > 1 or (parts and places[0] > 0)):
        raise InvalidRequestError(
            f"best_of = {best_of}: {counted(len(places), 'choice')} take"
            f" {counted(len(parts), 'call')}, and each would have a best of its own",
            field="best_of",
        )
    return [Share(whole, part, prompt, most == 0) for part in parts]


def split_all(whole: Any, n: int, most: int | None) -> list[Share]:
    """
    The calls for all choices, each for one prompt: what a choice's number means where there
    are several is for every server to say, and whose texts they are must not be guessed.
    """
    prompts = [whole]
    if prompts_of(whole) > 1:
        prompts = [whole.evolve(prompt=one) for one in whole.prompt]
    return [
        share
        for number, request in enumerate(prompts)
        for share in split(request, range(n), most, number)
    ]


# What is asked for -------------------------------------------------------------------


def whole_of(request: Any, arguments: Mapping[str, Any]) -> Any:
    """
    The request with its keywords; a string is what the user of a chat says.

    Raises:
        TypeError: It is no request for text.
        InvalidRequestError: It cannot be right, or does not say how many are wanted.
    """
    whole = _made(request, {k: v for k, v in arguments.items() if k not in CLOCKS})
    if not isinstance(whole.n, int):
        raise InvalidRequestError(
            "n: how many choices are wanted? pass n=...", field="n"
        )
    return whole


def _made(request: Any, fields: dict[str, Any]) -> Any:
    if isinstance(request, str):
        if "messages" in fields:
            msg = "fan_out() got a string and messages: pass one of them"
            raise TypeError(msg)
        return ChatRequest(messages=[user(request)], **fields)
    if isinstance(request, (ChatRequest, CompletionRequest)):
        return request.evolve(**fields) if fields else request
    if request is not None:
        kind = type(request).__name__
        msg = f"expected a string, a ChatRequest or a CompletionRequest, got {kind}"
        raise TypeError(msg)
    if "messages" in fields:
        return ChatRequest(**fields)
    if "prompt" in fields:
        return CompletionRequest(**fields)
    msg = "fan_out() needs a request, or messages=[...], or prompt=..."
    raise TypeError(msg)


def check_seed(line: Line, whole: Any) -> None:
    """
    The last choice's seed must be one as well.

    Raises:
        InvalidRequestError: It is not.
    """
    if not isinstance(whole.seed, int):
        return
    highest: float = MAX_SEED
    documented = endpoint_of(whole, line.settings.service).limits.get("seed")
    if line.settings.validate != "off" and isinstance(documented, Range):
        highest = highest if documented.high is None else documented.high
    last = whole.seed + whole.n - 1
    if whole.seed <= highest < last:
        raise InvalidRequestError(
            f"seed = {whole.seed}: each choice has its own, and that of the last of"
            f" {whole.n} would be {last}; expected one of at most {highest}",
            field="seed",
        )
