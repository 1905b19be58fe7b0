"""
Many answers to one request: split over as many calls as the service's limit demands.
"""

from __future__ import annotations

import asyncio
import inspect

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, final

import attrs

from .._chunks import CHAT, TEXT
from .._errors import (
    APIResponseValidationError,
    InvalidRequestError,
    StreamConsumedError,
)
from .._line import Line, prompts_of
from .._replies import ChatChoice, ChatReply, CompletionChoice, CompletionReply
from .._requests import ChatRequest, CompletionRequest, endpoint_of
from .._services import Range
from .._values import Usage, counted


Request = ChatRequest | CompletionRequest

ReplyT = TypeVar("ReplyT", bound=ChatReply | CompletionReply)
ChoiceT = TypeVar("ChoiceT", bound=ChatChoice | CompletionChoice)
R = TypeVar("R", bound=Request)

AT_ONCE: Final = 64
"""
Calls of one fan-out that are under way at the same time.
"""

_CLOCKS: Final = frozenset({"timeouts", "timeout"})


# One request, many calls -------------------------------------------------------------


def shares(request: R, n: int, limit: int | None = None) -> list[R]:
    """
    One request for *n* choices, as requests for at most *limit* each.

    Each has its own `n`, and, where the request has a seed, that seed plus the number of
    choices before it, as the same seed would give the same choices again.

    Raises:
        InvalidRequestError: The request cannot be split.
    """
    return [share.request for share in _split(request, range(n), limit)]


@attrs.frozen
class _Share:
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
    The number of its first prompt.
    """

    @property
    def request(self) -> Any:
        """
        What this call sends.
        """
        changes = {"n": len(self.places)}
        if isinstance(self.whole.seed, int):
            changes["seed"] = self.whole.seed + self.places[0]
        return self.whole.evolve(**changes)


def _split(
    whole: Request, places: Sequence[int], limit: int | None, prompt: int = 0
) -> list[_Share]:
    size = limit or len(places)
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
    return [_Share(whole, part, prompt) for part in parts]


# The fan-out -------------------------------------------------------------------------


@final
class FanOut(Generic[ReplyT, ChoiceT]):
    """
    One request's *n* choices, over as many calls as it takes.

    `await` it for one reply with all of them, or its `first(...)` for one that will do: it
    is used once. Nothing is sent before.
    """

    def __init__(
        self, line: Line, request: Request | None, arguments: Mapping[str, Any]
    ) -> None:
        """
        Made by `client.fan_out(...)`.
        """
        whole = _whole(request, arguments)
        if not isinstance(whole.n, int):
            raise InvalidRequestError(
                "n: how many choices are wanted? pass n=...", field="n"
            )
        self._n = whole.n
        self._limit = _limit(line, whole)
        first = _split(whole, range(self._n), self._limit)[0].request
        clocks = {name: arguments[name] for name in _CLOCKS if name in arguments}
        self._request: Any
        self._request, self._timeouts = line.bind(type(first), first, clocks)
        self._line = line
        self._used = False
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._came: dict[int, Any] = {}
        self._replies: list[Any] = []

    @property
    def choices(self) -> Sequence[ChoiceT]:
        """
        The choices that have come so far, in the order of their numbers; after an error
        they are what was paid for.
        """
        return tuple(self._came[index] for index in sorted(self._came))

    def __await__(self) -> Generator[Any, None, ReplyT]:
        """
        Wait for one reply with all the choices.

        Its usage is the sum of all calls', its `meta` the first call's, with the attempts of
        all. With several prompts a choice's index is its number + the prompt's number * n.

        Cancelled: all calls are; their connections are closed at once.

        Raises:
            APIError: Of the first call that failed; the others are cancelled. What had
                come by then is in `choices`.
            StreamConsumedError: It has been used before.
        """
        return self._all().__await__()

    async def first(self, predicate: Callable[[ChoiceT], object]) -> ChoiceT | None:
        """
        Wait for the first choice that will do; None if none of them will.

        The answers are streamed, and each choice is judged as soon as it is finished. When
        one will do all others are cancelled, and their connections closed, at once.

        Args:
            predicate: Is given a choice, and says whether it will do: by a true or false
                value, or an awaitable of one. What it raises ends it all.

        Cancelled, and raises: as when the fan-out itself is awaited.
        """
        if not callable(predicate):
            msg = f"predicate is {predicate!r}, expected a function of one choice"
            raise TypeError(msg)

        async def judge(choice: ChoiceT) -> None:
            verdict = predicate(choice)
            if inspect.isawaitable(verdict):
                verdict = await verdict
            if verdict:
                raise _Found(choice)

        async def listen(share: _Share) -> None:
            await self._listen(share, judge)

        try:
            await self._run(self._singly(), listen)
        except _Found as found:
            choice: ChoiceT = found.choice
            return choice
        return None

    def __repr__(self) -> str:
        wanted = counted(self._n, "choice")
        return f"<{type(self).__name__} of {wanted}, {len(self._came)} there>"

    # Small print ---------------------------------------------------------------------

    async def _all(self) -> ReplyT:
        whole = _split(self._request, range(self._n), self._limit)
        await self._run(whole, self._ask)
        # Among the later ones are those that took what the first ones left.
        first = next(reply for place, reply in self._replies if place == 0)
        replies = [reply for _, reply in self._replies]
        attempts = sum(reply.meta.attempts for reply in replies)
        reply: ReplyT = attrs.evolve(
            first,
            choices=self.choices,
            usage=_sum([reply.usage for reply in replies]),
            meta=attrs.evolve(first.meta, attempts=attempts),
        )
        return reply

    async def _run(
        self, shares: list[_Share], call: Callable[[_Share], Awaitable[None]]
    ) -> None:
        """
        Make all calls, and those that turn out to be needed. The first error ends the rest.
        """
        if self._used:
            raise StreamConsumedError(
                "this fan-out has been used: it is awaited once, or its first() is"
            )
        self._used = True

        async def bounded(share: _Share) -> None:
            async with self._slots:
                await call(share)

        self._call = bounded
        try:
            async with asyncio.TaskGroup() as self._group:
                for share in shares:
                    self._start(bounded, share)
        except BaseExceptionGroup as group:
            error = group.exceptions[0]
        else:
            return
        # Here, not above: its own cause is the one to show.
        raise error

    def _start(self, what: Callable[[Any], Awaitable[None]], about: Any) -> None:
        async def later() -> None:
            # On an eager loop what fails at once would close the group to what follows.
            await asyncio.sleep(0)
            await what(about)

        self._group.create_task(later())

    async def _ask(self, share: _Share) -> None:
        """
        A plain call, for all its prompts.
        """
        reply = await self._line.reply(share.request, self._timeouts)
        self._replies.append((share.places[0], reply))
        prompts = prompts_of(share.whole)
        # Those of one prompt stand together, whether the server numbers them, or the
        # prompts (TGI), or neither.
        choices = sorted(reply.choices, key=lambda choice: choice.index)
        each, over = divmod(len(choices), prompts)
        if over:
            raise APIResponseValidationError(
                f"the server gave {counted(len(choices), 'choice')} for"
                f" {counted(prompts, 'prompt')}, n = {len(share.places)}:"
                " whose they are cannot be told",
                meta=reply.meta,
            )
        for number, choice in enumerate(choices):
            prompt, at = divmod(number, each)
            if at < len(share.places):
                self._keep(choice, share.places[at] + prompt * self._n)
        self._ask_again(share, share.places[each:], each)

    async def _listen(
        self, share: _Share, judge: Callable[[ChoiceT], Awaitable[None]]
    ) -> None:
        """
        A stream, for its one prompt; each choice is judged when it is finished.
        """
        kind: Any = CHAT if isinstance(share.whole, ChatRequest) else TEXT
        waiting = set(range(len(share.places)))
        going = True
        async with self._line.stream(share.request, self._timeouts, kind) as stream:
            while going:
                going = await stream.advance()
                finished = {at for at in waiting if stream.ending(at) is not None}
                if not going:
                    # Some gateways send no finish reason.
                    finished = waiting & {one.index for one in stream.partial.choices}
                if finished:
                    waiting -= finished
                    for choice in stream.reply.choices:
                        if choice.index in finished:
                            place = share.places[choice.index]
                            kept = self._keep(choice, place + share.prompt * self._n)
                            self._start(judge, kept)
            left = [share.places[at] for at in sorted(waiting)]
            given = len(share.places) - len(left)
            if not given:
                raise APIResponseValidationError(
                    "no choice of the stream has a number below"
                    f" {len(share.places)}, which is how many were asked for",
                    meta=stream.meta,
                )
            self._ask_again(share, left, given)

    def _keep(self, choice: Any, index: int) -> Any:
        self._came[index] = kept = attrs.evolve(choice, index=index)
        return kept

    def _ask_again(self, share: _Share, left: Sequence[int], given: int) -> None:
        """
        Ask for the choices that a server left out, as many at a time as it does give.
        """
        for one in _split(share.whole, left, given, share.prompt):
            self._start(self._call, one)

    def _singly(self) -> list[_Share]:
        """
        The calls for one prompt each: in a stream only the end shows whether a server
        honours n, and so whose choice a number means.
        """
        prompts = [self._request]
        if prompts_of(self._request) > 1:
            prompts = [self._request.evolve(prompt=one) for one in self._request.prompt]
        return [
            share
            for number, request in enumerate(prompts)
            for share in _split(request, range(self._n), self._limit, number)
        ]


class _Found(Exception):
    """
    A choice that will do.
    """

    def __init__(self, choice: Any) -> None:
        super().__init__()
        self.choice = choice


# What is asked for, and what it cost -------------------------------------------------


def _whole(request: Any, arguments: Mapping[str, Any]) -> Any:
    """
    The request with its keywords.
    """
    fields = {name: arguments[name] for name in arguments if name not in _CLOCKS}
    if isinstance(request, (ChatRequest, CompletionRequest)):
        return request.evolve(**fields) if fields else request
    if request is not None:
        kind = type(request).__name__
        msg = f"expected a ChatRequest or a CompletionRequest, got {kind}"
        raise TypeError(msg)
    if "messages" in fields:
        return ChatRequest(**fields)
    if "prompt" in fields:
        return CompletionRequest(**fields)
    msg = "fan_out() needs a request, or messages=[...], or prompt=..."
    raise TypeError(msg)


def _limit(line: Line, request: Request) -> int | None:
    """
    How many choices one call may ask for. It holds with `validate="off"`, too, which lifts
    checks: here nothing is refused, and the choices come all the same.
    """
    documented = endpoint_of(request, line.settings.service).limits.get("n")
    if isinstance(documented, Range) and documented.high is not None:
        return int(documented.high)
    return None


def _sum(usages: list[Usage]) -> Usage:
    """
    What several calls cost; where some server did not count, an estimate.
    """
    first = usages[0].source
    alike = all(usage.source == first for usage in usages)
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        total_tokens=sum(usage.total_tokens for usage in usages),
        source=first if alike else "estimated",
        extra=_sum_counts([usage.extra for usage in usages]),
    )


def _sum_counts(counts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """
    The vendors' own counts, summed at any depth.
    """
    total: dict[str, Any] = {}
    for count in counts:
        for name, value in count.items():
            old = total.get(name)
            if isinstance(value, Mapping):
                before = [old] if isinstance(old, Mapping) else []
                total[name] = _sum_counts([*before, value])
            elif _is_number(value) and _is_number(old):
                total[name] = old + value
            elif old is None:
                total[name] = value
    return total


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
