"""
Many answers to one request: awaited, looped over as they finish, or judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, final

import attrs

from .._errors import StreamAbortedError, StreamConsumedError, WrongLoopError
from .._line import Line
from .._replies import ChatChoice, ChatReply, CompletionChoice, CompletionReply
from .._values import Token, Usage, counted
from ._allowance import Allowance
from ._calls import Calls
from ._loop import Loop
from ._shares import CLOCKS, Request, Share, check_seed, split, whole_of
from ._tasks import wind_up


ReplyT = TypeVar("ReplyT", bound=ChatReply | CompletionReply)
ChoiceT = TypeVar("ChoiceT", bound=ChatChoice | CompletionChoice)
ItemT = TypeVar("ItemT")

UNREAD: Final = 256
"""
Tokens that may wait for the reader; beyond that nothing more is read of the streams.
"""


class Fan(Generic[ReplyT, ChoiceT]):
    """
    What `FanOut` and `TokenFanOut` have in common: all but what a loop over them gives.
    """

    _gives_tokens: ClassVar[bool]

    def __init__(
        self, line: Line, request: Request | str | None, arguments: Mapping[str, Any]
    ) -> None:
        """
        Made by `client.fan_out(...)`.
        """
        whole = whole_of(request, arguments)
        self._n: int = whole.n
        check_seed(line, whole)
        most = Allowance(line, whole).documented
        first = split(whole, range(self._n), most)[0].request
        clocks = {name: arguments[name] for name in CLOCKS if name in arguments}
        bound: Any
        bound, timeouts = line.bind(type(first), first, clocks)
        # Whether it was used; whether by loops; whether they are in `async with`.
        self._used = self._looped = self._entered = False
        # What whoever reads on is told, where all is over and was not all.
        self._why = ""
        # What waits for the reader.
        self._items: deque[Any] = deque()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._calls = Calls(line, bound, timeouts, self._n, when_over=self._news.set)

    @property
    def choices(self) -> Sequence[ChoiceT]:
        """
        The choices that are finished so far, in the order of their numbers; after an error,
        or when the fan-out was left, they are what was paid for.
        """
        return self._calls.choices

    @property
    def usage(self) -> Usage:
        """
        What it has cost so far, over all calls. Its `source` is "estimated" while calls are
        under way, and where some were cancelled or a server does not count.
        """
        return self._calls.usage

    # Awaited -------------------------------------------------------------------------

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
        one will do all others are cancelled, and their connections closed, at once: it needs
        no `async with`.

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

        async def finished(choice: ChoiceT) -> None:
            self._calls.start(judge(choice))

        try:
            await self._run(finished)
        except _Found as found:
            choice: ChoiceT = found.choice
            return choice
        return None

    async def _all(self) -> ReplyT:
        await self._run(_kept if self._gives_tokens else None)
        replies = self._calls.replies
        # Among the later ones are those that took what the first ones left.
        first = next(reply for index, reply in replies if index == 0)
        attempts = sum(reply.meta.attempts for _, reply in replies)
        attempts += self._calls.refusals
        reply: ReplyT = attrs.evolve(
            first,
            choices=self.choices,
            usage=self.usage,
            meta=attrs.evolve(first.meta, attempts=attempts),
        )
        return reply

    async def _run(self, finished: Callable[[Any], Any] | None) -> None:
        """
        Make all calls, and those that turn out to be needed, and wait for them.

        Args:
            finished: Is told of each choice in streams; None: plain calls will do.
        """
        self._take()
        calls = self._calls

        async def listen(share: Share) -> Sequence[int]:
            assert finished is not None
            return await calls.listen(share, finished)

        try:
            calls.begin(listen if finished else calls.ask, streamed=bool(finished))
            await calls.over.wait()
        finally:
            calls.end()
            error, calls.error = calls.error, None
            await wind_up(calls.tasks)
        if error is None and self._why:
            error = StreamAbortedError(self._why)
        if error is not None:
            try:
                raise error
            finally:
                del error  # whose traceback knows this frame

    def _take(self) -> None:
        if self._used:
            raise StreamConsumedError(
                "this fan-out has been used: it is awaited, looped over or asked for its"
                " first() once; several loops over it need one `async with`"
            )
        if self._why:
            raise StreamAbortedError(self._why)
        self._used = True

    # Looped over ---------------------------------------------------------------------

    def _reader(self) -> AsyncIterator[Any]:
        if not (self._looped and self._entered):
            self._take()
            self._looped = True
        return Loop(self)

    async def _next(self) -> Any:
        """
        The next item, for the readers; cancelling loses none.
        """
        calls = self._calls
        if calls.loop is None:
            if not self._why:
                calls.begin(self._hear, streamed=True)
        elif calls.loop is not asyncio.get_running_loop():
            raise WrongLoopError(
                "this fan-out was begun on another event loop: read it there"
            )
        while not self._items:
            if calls.over.is_set():
                await wind_up(calls.tasks)
                raise self._ending()
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._items.popleft()

    async def _hear(self, share: Share) -> Sequence[int]:
        token = self._put_token if self._gives_tokens else None
        return await self._calls.listen(share, self._put, token)

    async def _put_token(self, token: Token) -> None:
        while len(self._items) >= UNREAD:
            self._room.clear()
            await self._room.wait()
        await self._put(token)

    async def _put(self, item: Any) -> None:
        self._items.append(item)
        self._news.set()

    def _ending(self) -> BaseException:
        """
        What the reader gets after the last item: an error once, as it would hold on to us,
        and we to it.
        """
        error, self._calls.error = self._calls.error, None
        if error is None:
            return StreamAbortedError(self._why) if self._why else StopAsyncIteration()
        self._why = f"this fan-out has ended, with {type(error).__name__}: {error}"
        return error

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        End it: what is under way is cancelled, and its connections are closed.

        Returns when all of it has ended. Twice is fine. Whoever reads on gets
        `StreamAbortedError`; `choices` and `usage` stay.
        """
        if self._calls.loop not in (None, asyncio.get_running_loop()):
            raise WrongLoopError(
                "this fan-out was begun on another event loop: close it there"
            )
        self._close()
        await wind_up(self._calls.tasks)

    def _close(self) -> None:
        calls = self._calls
        if calls.tasks or self._items or not calls.over.is_set():
            self._why = self._why or "the fan-out was closed before its end"
            calls.error = None
            self._items.clear()
        calls.end()

    def _abandon(self) -> None:
        """
        The reader is gone without a word; in `async with` that says nothing. This may run on
        any thread, in the middle of anything, so all is left to the loop's next turn.
        """
        loop = self._calls.loop
        if loop is not None and not self._entered:
            # Of a loop that is closed all tasks have ended.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._close)

    def __repr__(self) -> str:
        wanted = counted(self._n, "choice")
        return f"<{type(self).__name__} of {wanted}, {len(self.choices)} there>"


@final
class FanOut(Fan[ReplyT, ChoiceT]):
    """
    One request's *n* choices, over as many calls as it takes.

    It is used once, and nothing is sent before: `await` it for one reply with all of them,
    ask for the `first(...)` that will do, or loop over them as they finish. `asyncio.gather`
    and `wait_for` take it as it is; `asyncio.create_task` takes coroutines only, so there it
    is `ensure_future`.

    Loop over it in `async with`: whatever ends the block cancels what is under way and closes
    its connections before the block is left. A bare `async for` does the same soon after its
    loop is left. `choices` is what came, `usage` what it cost, before the end and after it.

    A server that gives fewer choices than it is asked for, or refuses a call for its `n`, is
    asked for the rest side by side. The client and its copies remember that for the model, so
    that the next fan-out asks in the right way from its beginning.
    """

    _gives_tokens = False

    def __aiter__(self) -> AsyncIterator[ChoiceT]:
        """
        Each choice as it finishes, whole; its `index` is its number.

        The first call that fails ends the others. Its error comes after the choices that were
        finished, with all that had come in its `partial`, what was cut short included.
        Cancelling the wait for a choice loses none.

        Raises:
            APIError: A call failed.
            StreamAbortedError: It was closed before its end, or has told its error.
            StreamConsumedError: It has been used before.
        """
        return self._reader()


@final
class TokenFanOut(Fan[ReplyT, ChoiceT]):
    """
    The same as `FanOut`, but that a loop over it gives the tokens as well.
    """

    _gives_tokens = True

    def __aiter__(self) -> AsyncIterator[Token | ChoiceT]:
        """
        Each token as it comes, and each choice when it is finished, after its last token:
        the `index` of either is the number of the choice.

        A reader that is slow slows the server down: of more than 256 tokens that wait nothing
        is read. Else as a loop over `FanOut`.
        """
        return self._reader()


async def _kept(choice: Any) -> None:
    """
    A choice is kept, and that is enough.
    """


class _Found(Exception):
    """
    A choice that will do.
    """

    def __init__(self, choice: Any) -> None:
        super().__init__()
        self.choice = choice
