"""
How one row is asked: its calls, one after the other, and what came of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from .._chunks import CHAT, TEXT
from .._errors import BudgetExceededError
from .._intake import feed_tokens
from .._line import Line, _asks, _sent
from .._requests import ChatRequest, CompletionRequest
from .._settings import check_timeouts
from .._stream import Kind
from .._timeouts import Timeouts
from .._values import Outcome, Token, Usage, user
from ._arguments import CLOCKS, Streaming, check_names, check_values
from ._asked import Asked
from ._away import Away
from ._ledger import Ledger, Reservation
from ._money import usage_of
from ._rows import Conversation, Row, misfit


Tell = Callable[[Asked, Token], Awaitable[None] | None]
"""
Takes a token; what it returns, if anything, is waited for before the next is read.
"""


@attrs.frozen(kw_only=True)
class Asking:
    """
    What all rows share: the line, and the fields and clocks that were given for all.
    """

    line: Line

    fields: Mapping[str, Any]

    timeouts: Timeouts

    ledger: Ledger

    stream: Streaming

    tell: Tell
    """
    Where tokens go, of rows whose tokens are told.
    """

    away: Away

    retried: Callable[[], None]
    """
    Called when a call is made again.
    """

    # Before a row is asked -----------------------------------------------------------

    def bind(self, asked: Asked) -> None:
        """
        Make its first request, bound to its service; or know why it cannot be asked.
        """
        if isinstance(asked.item, Exception):
            asked.error = asked.item
            return
        try:
            asked.request = self._request(asked)
        except Exception as error:  # noqa: BLE001 -- one row must not end the others
            asked.error = error

    def _request(self, asked: Asked) -> Any:
        item = asked.item
        if isinstance(item, str):
            fields = {"messages": [user(item)], **self.fields}
            return self.line.bind(ChatRequest, None, fields)[0]
        if isinstance(item, Conversation):
            item = item.opening
        if isinstance(item, (ChatRequest, CompletionRequest)):
            return self.line.bind(type(item), item, self.fields)[0]
        raise misfit(asked.index, item)

    async def reserve(self, request: Any) -> Reservation:
        """
        Take what one call may cost out of the budget, and wait until it is there.

        Raises:
            BudgetExceededError: It never will be.
            ConfigurationError: The budget is in money, and the model has no price.
        """
        model = _sent(request, "model")
        model = model if isinstance(model, str) else None
        if self.ledger.budget is None:
            return await self.ledger.reserve(prompt_bytes=0, model=model)
        asks = _asks(request)
        return await self.ledger.reserve(
            prompt_bytes=asks.prompt_bytes,
            max_tokens=asks.max_tokens,
            choices=asks.choices,
            model=model,
        )

    # Asking --------------------------------------------------------------------------

    async def row(self, asked: Asked) -> Row[Any]:
        """
        Ask, and wait for all answers. Whatever goes wrong is the row's error.

        Cancelled: the connection is closed at once; `asked` keeps what came.
        """
        # What was known to be wrong before is not raised: each time would lengthen its
        # traceback.
        if asked.error is None:
            try:
                await self._converse(asked)
            except BudgetExceededError as error:
                asked.error = error
                return asked.told(Outcome.CANCELLED)
            except Exception as error:  # noqa: BLE001 -- one row must not end the others
                asked.error = error
        return asked.told()

    async def _converse(self, asked: Asked) -> None:
        """
        One call for each turn, every answer going back in as history.
        """
        assert asked.slot is not None
        line = attrs.evolve(self.line, governor=asked.slot, row=asked.id)
        request, replies = asked.request, asked.replies
        if not await self._call(asked, line, request):
            return
        if not isinstance(asked.item, Conversation):
            return
        history = list(request.messages)
        for turn in asked.item.turns:
            history += [replies[-1].message, *turn]
            request = request.evolve(messages=history)
            if not await self._call(asked, line, request):
                return

    async def _call(self, asked: Asked, line: Line, request: Any) -> bool:
        """
        One call: whether it was answered. If not, `asked.error` says why.

        Where the server has gone away it is made again when that is back.
        """
        turn = asked.calls
        error: Exception | None = None
        try:
            while (error := await self._once(asked, line, request)) is not None:
                told = asked.partial is not None
                if told or not await self.away.wait(asked, error):
                    asked.error = error
                    return False
                # Of the same turn.
                asked.calls = turn
                self.retried()
            self.away.answered()
            return True
        finally:
            error = None  # its traceback holds this frame
            self.away.leave(asked)

    async def _once(self, asked: Asked, line: Line, request: Any) -> Exception | None:
        """
        The same, made once and paid for: what went wrong.
        """
        reservation, asked.reservation = asked.reservation, None
        if reservation is None:
            reservation = await self.reserve(request)
        asked.calls += 1
        usage: Usage | None = None
        model: str | None = None
        try:
            if self.stream:
                reply = await self._stream(asked, line, request)
            else:
                reply = await line.reply(request, self.timeouts)
            if isinstance(reply, Exception):
                usage = usage_of(reply)
                return reply
            asked.replies.append(reply)
            usage, model = reply.usage, reply.model
        except Exception as error:  # noqa: BLE001 -- one row must not end the others
            usage = usage_of(error)
            return error
        else:
            return None
        finally:
            if usage is None and (partial := asked.partial) is not None:
                usage = partial.usage
            reservation.settle(usage, model)

    async def _stream(self, asked: Asked, line: Line, request: Any) -> Any:
        """
        One call as a stream: the reply, or what went wrong.

        That is not raised: its traceback would hold this frame, and that the stream.
        """
        kind: Kind[Any, Any] = CHAT if isinstance(request, ChatRequest) else TEXT
        stream = asked.stream = line.stream(request, self.timeouts, kind)
        if self.stream is True:
            stream._choose(feed_tokens)
        try:
            # Not as a reader waits, who may give up and come again: that takes a task.
            await stream._begin()
            while True:
                while stream._ready:
                    held_back = self.tell(asked, stream._ready.popleft())
                    if held_back is not None:
                        await held_back
                if stream.outcome is not None:
                    break
                await stream.advance()
            if stream.error is None:
                # To the end of the body: its connection can be used again.
                await stream.advance()
                return stream.reply
            return stream.error
        finally:
            stream.abort("its row was cancelled")
            asked.outcome = stream.outcome


def asking(
    line: Line,
    arguments: Mapping[str, Any],
    *,
    ledger: Ledger,
    stream: Streaming,
    tell: Tell,
    away: Away,
    retried: Callable[[], None],
) -> Asking:
    """
    What was given for all rows, checked: what no row could be asked with is refused here.

    Raises:
        TypeError: A name that no request has.
        InvalidRequestError: A value that no request could be sent with.
        ConfigurationError: Clocks that cannot be; or a model that has no price, where the
            budget is in money.
    """
    fields = {name: arguments[name] for name in arguments if name not in CLOCKS}
    settings = line.settings
    asking = Asking(
        line=attrs.evolve(
            line, settings=attrs.evolve(settings, lane=settings.lane or "batch")
        ),
        fields=fields,
        timeouts=check_timeouts(
            arguments.get("timeouts"), arguments.get("timeout"), settings.timeouts
        ),
        ledger=ledger,
        stream=stream,
        tell=tell,
        away=away,
        retried=retried,
    )
    check_names(fields)
    check_values(line, fields)
    if isinstance(model := fields.get("model"), str):
        ledger.check(model)
    return asking
