"""
The calls of a fan-out: made side by side, made up for where they give too little, and ended
together.
"""

from __future__ import annotations

import asyncio

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import attrs

from .._chunks import CHAT, TEXT
from .._errors import (
    APIError,
    APIResponseValidationError,
    APIStatusError,
    IncompleteStreamError,
)
from .._line import Line
from .._requests import ChatRequest
from .._stream import TokenStream
from .._timeouts import Timeouts
from .._values import PartialChoice, Usage
from ._allowance import Allowance
from ._shares import Share, split, split_all
from ._sums import Account, partial_of


AT_ONCE: Final = 64
"""
Calls of one fan-out that are under way at the same time.
"""

Call = Callable[[Share], Awaitable[Sequence[int]]]
"""
Makes one call, and returns the numbers of the choices that it was not given.
"""

Told = Callable[[Any], Awaitable[object]]
"""
Is told of a choice that is finished, or of a token.
"""


class Calls:
    """
    What is asked of the server, and what came. It is begun once.
    """

    def __init__(
        self,
        line: Line,
        request: Any,
        timeouts: Timeouts,
        n: int,
        *,
        when_over: Callable[[], object],
    ) -> None:
        self._line = line
        self._request = request
        self._timeouts = timeouts
        self._n = n
        self._when_over = when_over
        self._allowance = Allowance(line, request)
        self._account = Account(line)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._streamed = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """
        The one that they were begun on.
        """
        self.tasks: set[asyncio.Task[None]] = set()
        self.over = asyncio.Event()
        self.error: BaseException | None = None
        """
        What ended them early.
        """
        self.came: dict[int, Any] = {}
        """
        The finished choices, by their numbers.
        """
        self.replies: list[tuple[int, Any]] = []
        """
        What the calls were answered, with the number of each one's first choice.
        """
        self.refusals = 0
        """
        Attempts that were refused because of their `n`.
        """

    @property
    def choices(self) -> tuple[Any, ...]:
        """
        What came, in order.
        """
        return tuple(self.came[index] for index in sorted(self.came))

    @property
    def usage(self) -> Usage:
        """
        What it has cost so far.
        """
        return self._account.usage

    # Together ------------------------------------------------------------------------

    def begin(self, call: Call, *, streamed: bool) -> None:
        """
        Start all calls.

        No task group: in one that is ending already, Python 3.11 and 3.12 lose the caller's
        own cancellation; and a loop of the user's would have to keep it open.

        Raises:
            InvalidRequestError: The request cannot be split as the server demands.
        """
        most = self._allowance.most(stream=streamed)
        parts = split_all(self._request, self._n, most)
        self.loop, self._streamed = asyncio.get_running_loop(), streamed
        for share in parts:
            self.start(self._make(call, share))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """
        Do something beside the calls; it is over when that is, too.
        """
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        error = _what_ended(task)
        if error is not None or not self.tasks:
            self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """
        Cancel what is under way. The first end counts.
        """
        if self.over.is_set():
            return
        if isinstance(error, APIError):
            # Nobody may hold the fan-out itself.
            begun = self._begun()
            if begun or self.came:
                error.partial = partial_of(self.choices, self.usage, begun)
        self.error = error
        self.over.set()
        self._when_over()
        for task in self.tasks:
            task.cancel()

    def _begun(self) -> list[PartialChoice]:
        """
        What came of choices that are not finished.
        """
        begun = []
        for share, choice in self._account.begun():
            if 0 <= choice.index < len(share.places):
                index = self._index(share, choice.index)
                if index not in self.came:
                    begun.append(attrs.evolve(choice, index=index))
        return begun

    # One by one ----------------------------------------------------------------------

    async def _make(self, call: Call, share: Share) -> None:
        """
        Make a call, and see to it that others are made for what it does not give.
        """
        async with self._slots:
            # What was found out while it waited holds for it, too.
            share, *rest = self._cut(share, share.places)
            for one in rest:
                self.start(self._make(call, one))
            try:
                left = await call(share)
            except APIStatusError as error:
                if not self._is_for_n(share, error):
                    raise
                left = share.places
        for one in self._cut(share, left):
            self.start(self._make(call, one))

    def _cut(self, share: Share, places: Sequence[int]) -> list[Share]:
        if not places:
            return []
        most = self._allowance.most(stream=self._streamed)
        return split(share.whole, places, most, share.prompt)

    def _is_for_n(self, share: Share, error: APIStatusError) -> bool:
        """
        Whether a call was refused because of its `n`: then it can be made up for.
        """
        # A `best_of` has no other way; what has begun to come was not refused.
        best_of = getattr(share.whole, "best_of", None)
        if share.bare or best_of or error.partial.choices:
            return False
        wanted = len(share.places)
        if not self._allowance.refused(error, wanted, stream=self._streamed):
            return False
        self._account.refused(share)
        self.refusals += error.attempts
        return True

    async def ask(self, share: Share) -> Sequence[int]:
        """
        A plain call.
        """
        line = self._account.line_for(share)
        try:
            reply = await line.reply(share.request, self._timeouts)
        except APIStatusError:
            self._account.refused(share)
            raise
        # Some servers number them in their own way, or not at all: their order counts.
        choices = sorted(reply.choices, key=lambda choice: choice.index)
        for at, choice in enumerate(choices[: len(share.places)]):
            self._keep(choice, self._index(share, at))
        return self._answered(share, reply, share.places[len(choices) :])

    async def listen(
        self, share: Share, finished: Told, token: Told | None = None
    ) -> Sequence[int]:
        """
        The same as a stream; each choice is told of when it is finished.

        Args:
            token: Is told of each token before that, with its choice's number; while it
                takes its time the stream is not read.
        """
        kind: Any = CHAT if isinstance(share.whole, ChatRequest) else TEXT
        line = self._account.line_for(share)
        try:
            stream = await line.stream(share.request, self._timeouts, kind).open()
        except APIStatusError:
            self._account.refused(share)
            raise
        async with stream:
            self._account.streams(share, stream)
            left = await self._hear(share, stream, finished, token)
            return self._answered(share, stream.reply, left)

    async def _hear(
        self,
        share: Share,
        stream: TokenStream[Any, Any],
        finished: Told,
        token: Told | None,
    ) -> Sequence[int]:
        waiting = set(range(len(share.places)))
        if token is not None:
            aiter(stream)
        going = True
        while going:
            going = await _advance(stream, waiting)
            if token is not None:
                await self._hand_on(share, stream, waiting, token)
            ended = {at for at in waiting if stream.ending(at) is not None}
            if not going:
                # Some gateways send no finish reason.
                ended = waiting & {one.index for one in stream.partial.choices}
            waiting -= ended
            for choice in stream.reply.choices if ended else ():
                if choice.index in ended:
                    index = self._index(share, choice.index)
                    await finished(self._keep(choice, index))
        if len(waiting) == len(share.places):
            raise APIResponseValidationError(
                "no choice of the stream has a number below"
                f" {len(share.places)}, which is how many were asked for",
                meta=stream.meta,
            )
        return [share.places[at] for at in sorted(waiting)]

    async def _hand_on(
        self,
        share: Share,
        stream: TokenStream[Any, Any],
        waiting: set[int],
        token: Told,
    ) -> None:
        """
        Tell of the tokens that have come, each with the number of its choice: they are taken
        out of the stream, and are the reader's own.
        """
        tokens = list(stream._ready)
        stream._ready.clear()
        for one in tokens:
            if one.index in waiting:
                one.index = self._index(share, one.index)
                await token(one)

    def _keep(self, choice: Any, index: int) -> Any:
        self.came[index] = kept = attrs.evolve(choice, index=index)
        return kept

    def _index(self, share: Share, at: int) -> int:
        return share.places[at] + share.prompt * self._n

    def _answered(self, share: Share, reply: Any, left: Sequence[int]) -> Sequence[int]:
        self._account.answered(share, reply.usage)
        self.replies.append((self._index(share, 0), reply))
        wanted = len(share.places)
        self._allowance.gave(wanted - len(left), wanted, stream=self._streamed)
        return left


async def _advance(stream: TokenStream[Any, Any], waiting: set[int]) -> bool:
    """
    Wait until a stream has changed; False once it is over.

    Where the server closes it without another word when all that has begun is finished, and
    fewer choices have begun than were asked for, it is a server that gives fewer.
    """
    try:
        return await stream.advance()
    except IncompleteStreamError as error:
        begun = {one.index for one in stream.partial.choices}
        if error.__cause__ is not None or not begun or begun & waiting:
            raise
        return False


def _what_ended(task: asyncio.Task[None]) -> BaseException | None:
    """
    Why a task has ended, where it is not done.
    """
    if task.cancelled():
        return RuntimeError(
            "somebody cancelled a call of this fan-out, or what its predicate waits for"
        )
    return task.exception()
