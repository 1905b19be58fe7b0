"""
Several requests at once, or one once more where it is slow: the first token wins.
"""

from __future__ import annotations

import asyncio

from collections.abc import Iterable, Mapping
from typing import Any, final

from .. import _checks as check
from .._chunks import CHAT, TEXT, ChunkStream
from .._errors import InvalidRequestError
from .._line import Line, _sent
from .._requests import ChatRequest, CompletionRequest
from .._stream import TokenStream
from .._timeouts import Timeouts
from .._values import user
from ._contest import ChunkT, Contest, ReplyT, departed
from ._hedging import After, check_after, check_share, has_room, hedges_of


# A race ------------------------------------------------------------------------------


@final
class Race(Contest[ReplyT, ChunkT]):
    """
    Several requests at once: the first token wins.

    `async with` gives the winner's `TokenStream`, `await` its whole reply; it is used once.
    Nothing is sent before.
    """

    def __init__(
        self, line: Line, requests: Iterable[Any], arguments: Mapping[str, Any]
    ) -> None:
        """
        Made by `client.race([...])`.
        """
        super().__init__(_runners(line, requests, arguments))


def _runners(
    line: Line, requests: Iterable[Any], arguments: Mapping[str, Any]
) -> list[TokenStream[Any, Any]]:
    """
    A stream for each request; streams as they are.
    """
    single = (str, bytes, Mapping, ChatRequest, CompletionRequest, TokenStream)
    if isinstance(requests, single) or not isinstance(requests, Iterable):
        kind = type(requests).__name__
        msg = f"race() takes a list of requests or streams, got one {kind}"
        raise TypeError(msg)
    given = list(requests)
    if not given:
        raise InvalidRequestError("race() needs a request, got none")
    _check_said("race", arguments)
    if arguments and all(isinstance(one, TokenStream) for one in given):
        msg = f"race() got {min(arguments)!r}, which changes requests, and streams only"
        raise TypeError(msg)
    streams = [
        one
        if isinstance(one, TokenStream)
        else _stream(line, *_bound(line, one, i, arguments))
        for i, one in enumerate(given)
    ]
    for index, stream in enumerate(streams):
        if any(stream is other for other in streams[:index]):
            raise InvalidRequestError(f"requests[{index}] is a stream that came before")
        if stream._kind.chat is not streams[0]._kind.chat:
            kinds = ("a chat", "a text completion")
            this, that = kinds if stream._kind.chat else reversed(kinds)
            raise InvalidRequestError(
                f"requests[{index}] is {this}, and requests[0] {that}: the winner of a race"
                " must be one or the other"
            )
    return streams


def _bound(
    line: Line, item: Any, index: int, arguments: Mapping[str, Any]
) -> tuple[Any, Timeouts]:
    if isinstance(item, str):
        return line.bind(ChatRequest, None, {"messages": [user(item)], **arguments})
    if isinstance(item, (ChatRequest, CompletionRequest)):
        return line.bind(type(item), item, arguments)
    hint = ""
    if isinstance(item, ChunkStream):
        hint = "; chat.completions.stream(...) makes a stream that is not open yet"
    raise InvalidRequestError(
        f"requests[{index}] = {check.shown(item)}: expected a string, a ChatRequest, a"
        f" CompletionRequest or a stream{hint}"
    )


def _check_said(name: str, arguments: Mapping[str, Any]) -> None:
    for field in ("messages", "prompt"):
        if field in arguments:
            msg = f"{field} is what a request brings, not an argument of {name}()"
            raise TypeError(msg)


def _stream(line: Line, request: Any, timeouts: Timeouts) -> TokenStream[Any, Any]:
    kind: Any = CHAT if isinstance(request, ChatRequest) else TEXT
    return line.stream(request, timeouts, kind)


# A hedge -----------------------------------------------------------------------------


@final
class Hedge(Contest[ReplyT, ChunkT]):
    """
    One request, sent once more where its first token takes too long: the first one wins.

    `async with` gives the winner's `TokenStream`, `await` its whole reply; it is used once.
    Nothing is sent before.
    """

    def __init__(
        self,
        line: Line,
        request: Any,
        arguments: Mapping[str, Any],
        *,
        after: After,
        at_most: float,
    ) -> None:
        """
        Made by `client.hedge(request, after=...)`.
        """
        self._after: After = check_after(after)
        self._at_most = check_share(at_most)
        self._line = line
        self._request, self._timeouts = _hedged(line, request, arguments)
        self._gate = line._gate(_sent(self._request, "model"))
        self._hedges = hedges_of(line.hedges, self._gate)
        self._alarm: asyncio.TimerHandle | None = None
        super().__init__([_stream(line, self._request, self._timeouts)])

    @property
    def hedged(self) -> bool:
        """
        Whether the second call was sent.
        """
        return self.winner == 1 or any(one.index == 1 for one in self.losers)

    def _begin(self) -> None:
        super()._begin()
        delay = self._hedges.delay(self._after)
        if delay is not None:
            self._wait(delay, delay)

    def _wait(self, seconds: float, delay: float) -> None:
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(seconds, self._ring, delay)

    def _ring(self, delay: float) -> None:
        """
        Send the second call, if the first has been out for so long.
        """
        if self._over.is_set():
            return
        now = asyncio.get_running_loop().time()
        sent = departed(self._streams[0])
        # In the queue, or between two attempts, it is not the server that is slow.
        left = delay if sent is None else sent + delay - now
        if left > 0:
            self._wait(left, delay)
        elif self._may():
            self._streams[1] = _stream(self._line, self._request, self._left(now))
            self._running.add(1)
            self._start(1)

    def _may(self) -> bool:
        """
        Whether it would go out at once, and is one of the few that may.
        """
        state = self._line.governor.snapshot().get(self._gate)
        return has_room(state) and self._hedges.spend(self._at_most)

    def _left(self, now: float) -> Timeouts:
        """
        The second call's clocks: the deadline is for both.
        """
        first = self._streams[0]._attempts
        if first is None or first.deadline is None:
            return self._timeouts
        return self._timeouts.evolve(deadline=max(first.deadline - now, 1e-3))

    def _win(self, index: int) -> None:
        sent = departed(self._streams[0])
        super()._win(index)
        seconds = self._streams[index].meta.timings.first_token
        if index and sent is not None:
            seconds = asyncio.get_running_loop().time() - sent
        self._hedges.answered(seconds or 0.0, self._at_most)

    def _end_others(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        super()._end_others()


def _hedged(
    line: Line, request: Any, arguments: Mapping[str, Any]
) -> tuple[Any, Timeouts]:
    """
    The request, out of a request, keywords, or both.
    """
    if request is not None:
        _check_said("hedge", arguments)
    elif "messages" in arguments:
        return line.bind(ChatRequest, None, arguments)
    elif "prompt" in arguments:
        return line.bind(CompletionRequest, None, arguments)
    else:
        msg = "hedge() needs a request, or messages=[...], or prompt=..."
        raise TypeError(msg)
    if isinstance(request, (str, ChatRequest, CompletionRequest)):
        return _bound(line, request, 0, arguments)
    hint = ""
    if isinstance(request, (TokenStream, ChunkStream)):
        hint = ": a stream is sent once, pass the request that it was made of"
    kind = type(request).__name__
    msg = f"expected a string, a ChatRequest or a CompletionRequest, got {kind}{hint}"
    raise TypeError(msg)
