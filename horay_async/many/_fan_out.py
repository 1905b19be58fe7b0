"""
Many answers to one request: split over as many calls as the service's limit demands.
"""

from __future__ import annotations

import asyncio
import inspect

from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Mapping,
    Sequence,
)
from typing import Any, Final, Generic, TypeVar, final

import attrs

from .._chunks import CHAT, TEXT
from .._errors import (
    APIError,
    APIResponseValidationError,
    InvalidRequestError,
    StreamConsumedError,
)
from .._line import Line, prompts_of
from .._replies import ChatChoice, ChatReply, CompletionChoice, CompletionReply
from .._requests import ChatRequest, CompletionRequest, endpoint_of
from .._services import Range
from .._values import Usage, counted
from ._sums import partial_of, summed
from ._tasks import wind_up


Request = ChatRequest | CompletionRequest

ReplyT = TypeVar("ReplyT", bound=ChatReply | CompletionReply)
ChoiceT = TypeVar("ChoiceT", bound=ChatChoice | CompletionChoice)
R = TypeVar("R", bound=Request)

AT_ONCE: Final = 64
"""
Calls of one fan-out that are under way at the same time.
"""

MAX_SEED: Final = 2**63 - 1
"""
What servers that take any seed keep it in.
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
    The number of its prompt.
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


_Call = Callable[[_Share], Awaitable[list[_Share]]]
"""
Makes one call, and returns those that turn out to be needed besides.
"""


# The fan-out -------------------------------------------------------------------------


@final
class FanOut(Generic[ReplyT, ChoiceT]):
    """
    One request's *n* choices, over as many calls as it takes.

    `await` it for one reply with all of them, or its `first(...)` for one that will do: it
    is used once. Nothing is sent before. `asyncio.gather` and `wait_for` take it as it is;
    `asyncio.create_task` takes coroutines only, so there it is `ensure_future`.
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
        _check_seed(line, whole)
        first = _split(whole, range(self._n), self._limit)[0].request
        clocks = {name: arguments[name] for name in _CLOCKS if name in arguments}
        self._request: Any
        self._request, self._timeouts = line.bind(type(first), first, clocks)
        self._line = line
        self._used = False
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._error: BaseException | None = None
        self._came: dict[int, Any] = {}
        self._replies: list[tuple[int, Any]] = []

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
        all. Of several prompts each has calls of its own, and a choice's index is its number
        + the prompt's number * n.

        Cancelled: all calls are; their connections are closed at once.

        Raises:
            APIError: Of the first call that failed; the others are cancelled. What had
                come by then is in its `partial`, with what that cost, and in `choices`.
            RuntimeError: Somebody else cancelled one of its calls.
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
            try:
                verdict = predicate(choice)
            except StopIteration as error:
                msg = "predicate raised StopIteration: give its next() a default"
                raise RuntimeError(msg) from error
            if inspect.isawaitable(verdict):
                verdict = await verdict
            if verdict:
                raise _Found(choice)

        async def listen(share: _Share) -> list[_Share]:
            return await self._listen(share, judge)

        try:
            await self._run(listen)
        except _Found as found:
            choice: ChoiceT = found.choice
            return choice
        return None

    def __repr__(self) -> str:
        wanted = counted(self._n, "choice")
        return f"<{type(self).__name__} of {wanted}, {len(self._came)} there>"

    # Small print ---------------------------------------------------------------------

    async def _all(self) -> ReplyT:
        try:
            await self._run(self._ask)
        except APIError as error:
            if self._came:
                # Nobody may hold the fan-out itself.
                error.partial = partial_of(self.choices, self._usage())
            raise
        # Among the later ones are those that took what the first ones left.
        first = next(reply for index, reply in self._replies if index == 0)
        attempts = sum(reply.meta.attempts for _, reply in self._replies)
        reply: ReplyT = attrs.evolve(
            first,
            choices=self.choices,
            usage=self._usage(),
            meta=attrs.evolve(first.meta, attempts=attempts),
        )
        return reply

    async def _run(self, call: _Call) -> None:
        """
        Make all calls, and those that turn out to be needed. The first error ends the rest.

        No task group: in one that is ending already, Python 3.11 and 3.12 lose the caller's
        own cancellation.
        """
        if self._used:
            raise StreamConsumedError(
                "this fan-out has been used: it is awaited once, or its first() is"
            )
        self._used = True
        try:
            for share in self._shares():
                self._start(self._make(call, share))
            await self._over.wait()
        finally:
            self._over.set()
            for task in self._tasks:
                task.cancel()
            error, self._error = self._error, None
            await wind_up(self._tasks)
        if error is not None:
            try:
                raise error
            finally:
                del error  # whose traceback knows this frame

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = _what_ended(task)
        if self._over.is_set():
            return
        self._error = error
        if error is not None or not self._tasks:
            self._over.set()

    async def _make(self, call: _Call, share: _Share) -> None:
        async with self._slots:
            more = await call(share)
        for one in more:
            self._start(self._make(call, one))

    async def _ask(self, share: _Share) -> list[_Share]:
        """
        A plain call; returns those that it leaves to be made.
        """
        reply = await self._line.reply(share.request, self._timeouts)
        self._replies.append((self._index(share, 0), reply))
        # Some servers number them in their own way, or not at all: their order counts.
        choices = sorted(reply.choices, key=lambda choice: choice.index)
        for at, choice in enumerate(choices[: len(share.places)]):
            self._keep(choice, self._index(share, at))
        return self._rest(share, share.places[len(choices) :], len(choices))

    async def _listen(
        self, share: _Share, judge: Callable[[ChoiceT], Coroutine[Any, Any, None]]
    ) -> list[_Share]:
        """
        The same as a stream; each choice is judged when it is finished.
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
                            index = self._index(share, choice.index)
                            self._start(judge(self._keep(choice, index)))
            left = [share.places[at] for at in sorted(waiting)]
            given = len(share.places) - len(left)
            if not given:
                raise APIResponseValidationError(
                    "no choice of the stream has a number below"
                    f" {len(share.places)}, which is how many were asked for",
                    meta=stream.meta,
                )
            return self._rest(share, left, given)

    def _keep(self, choice: Any, index: int) -> Any:
        self._came[index] = kept = attrs.evolve(choice, index=index)
        return kept

    def _index(self, share: _Share, at: int) -> int:
        return share.places[at] + share.prompt * self._n

    def _rest(self, share: _Share, left: Sequence[int], given: int) -> list[_Share]:
        """
        The calls for what a server left out, each for as many as it does give.
        """
        return _split(share.whole, left, given, share.prompt)

    def _shares(self) -> list[_Share]:
        """
        The calls, each for one prompt: what a choice's number means where there are several
        is for every server to say, and whose texts they are must not be guessed.
        """
        prompts = [self._request]
        if prompts_of(self._request) > 1:
            prompts = [self._request.evolve(prompt=one) for one in self._request.prompt]
        return [
            share
            for number, request in enumerate(prompts)
            for share in _split(request, range(self._n), self._limit, number)
        ]

    def _usage(self) -> Usage:
        return summed([reply.usage for _, reply in self._replies])


class _Found(Exception):
    """
    A choice that will do.
    """

    def __init__(self, choice: Any) -> None:
        super().__init__()
        self.choice = choice


def _what_ended(task: asyncio.Task[None]) -> BaseException | None:
    """
    Why a task has ended, where it is not done.
    """
    if task.cancelled():
        return RuntimeError(
            "somebody cancelled a call of this fan-out, or what its predicate waits for"
        )
    return task.exception()


# What is asked for -------------------------------------------------------------------


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


def _check_seed(line: Line, whole: Any) -> None:
    """
    The last choice's seed must be one as well.
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
