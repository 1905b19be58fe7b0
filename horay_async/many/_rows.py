"""
What goes into a job and what comes out of it: items, conversations, tokens, rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from .. import _checks as check
from .._errors import InvalidRequestError
from .._replies import ChatReply, CompletionReply
from .._requests import ChatRequest, CompletionRequest
from .._values import Message, Outcome, Token, counted, user


Said = str | Message | Mapping[str, Any]
"""
What somebody says: a string is the user's.
"""

Turn = Sequence[Message | Mapping[str, Any]]
"""
What is said before the next answer.
"""


def _opening(value: ChatRequest | str) -> ChatRequest:
    if isinstance(value, str):
        return ChatRequest(messages=[user(value)])
    if not isinstance(value, ChatRequest):
        check.refuse("opening", value, "a ChatRequest or a string")
    return value


def _turns(value: Any) -> tuple[Turn, ...]:
    if isinstance(value, (str, Message, Mapping)) or not isinstance(value, Sequence):
        check.refuse("follow_ups", value, "a list of what is said next")
    return tuple(_turn(f"follow_ups[{i}]", one) for i, one in enumerate(value))


def _turn(field: str, value: Any) -> Turn:
    if isinstance(value, (str, Message, Mapping)):
        value = [value]
    elif not isinstance(value, Sequence):
        check.refuse(field, value, "a string, a message, or a list of messages")
    said = [user(one) if isinstance(one, str) else one for one in value]
    return check.messages(field, said)


@attrs.frozen(repr=False)
class Conversation:
    """
    A chat of several turns, each said when the one before it is answered.

    Every turn is a call of its own, with the answers so far in its history.

    Raises:
        InvalidRequestError: A turn is empty, or is no message.
    """

    opening: ChatRequest = attrs.field(converter=_opening)
    """
    The first call, with the options of all; a string is what the user says.
    """

    follow_ups: Sequence[Said | Sequence[Said]] = attrs.field(
        default=(), converter=_turns
    )
    """
    What is said next: a string (the user's), a message, or several messages.
    """

    @property
    def turns(self) -> Sequence[Turn]:
        """
        The follow-ups, each as a list of messages.
        """
        return self.follow_ups  # type: ignore[return-value]  # what the converter makes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {counted(len(self.follow_ups) + 1, 'turn')}>"


ChatItem = str | ChatRequest | Conversation | Exception
"""
What a row of a chat may be. A string is what the user says; an exception is handed
through as its row's error, in its place.
"""

Item = ChatItem | CompletionRequest

Id = str | int

ReplyT = TypeVar("ReplyT", bound=ChatReply | CompletionReply)


@attrs.define
class RowToken:
    """
    One piece of one row's answer: treat it as frozen.
    """

    id: str
    """
    The row's id.
    """

    index: int
    """
    The row's place among the requests.
    """

    token: Token
    """
    The piece; its own `index` says which of *n* choices it belongs to.
    """

    turn: int = 0
    """
    Which answer of a conversation, from 0.
    """

    @property
    def text(self) -> str:
        """
        The piece's text; "" where the model was only thinking.
        """
        return self.token.text


@attrs.frozen(kw_only=True, repr=False)
class Row(Generic[ReplyT]):
    """
    What became of one request of a job: an answer or an error, never both.
    """

    id: str
    """
    The id that came with the request; its index where none did.
    """

    index: int
    """
    Its place among the requests, from 0.
    """

    request: Item
    """
    What was asked for, as it was given (without its id).
    """

    replies: Sequence[ReplyT] = ()
    """
    All answers that came: one, or one for each turn of a conversation. With an error they
    are those that came before it.
    """

    error: Exception | None = None
    """
    What went wrong, where something did. Of a row that was asked as a stream its `partial`
    holds the text that came.
    """

    outcome: Outcome = Outcome.FINISHED
    """
    How its last call ended. `UNCONFIRMED` is an answer that the server never said to be
    whole. `CANCELLED`: the job was left before the row's end.
    """

    attempts: int = 0
    """
    HTTP requests, over all calls; 0: it was never asked.
    """

    calls: int = 0
    """
    Calls that were begun: one, or one for each turn of a conversation.
    """

    seconds: float | None = None
    """
    From its first sending to its end, waits between attempts included; None: never sent.
    """

    first_token: float | None = None
    """
    Seconds from the last sending of its last call to the first token; only where rows are
    asked as streams.
    """

    @property
    def reply(self) -> ReplyT | None:
        """
        The answer (of a conversation the last); None if and only if there is an error.
        """
        return None if self.error is not None else self.replies[-1]

    def __repr__(self) -> str:
        # Neither prompt nor answer: rows are printed by the thousand, and logged.
        where = f"{type(self).__name__} {self.index} {self.id!r}"
        answers = counted(len(self.replies), "answer")
        if self.error is None:
            tokens = sum(reply.usage.total_tokens for reply in self.replies)
            return f"<{where}: {answers}, {counted(tokens, 'token')}>"
        after = f" after {answers}" if self.replies else ""
        return f"<{where}: {type(self.error).__name__}{after}>"


def misfit(index: int, item: Any) -> InvalidRequestError:
    """
    What to say of an item that asks for nothing.
    """
    if isinstance(item, tuple) and len(item) == 2:
        name = item[0]
        if not isinstance(name, (str, int)) or isinstance(name, bool):
            return InvalidRequestError(
                f"requests[{index}] = ({check.shown(name)}, …): expected an id that is a"
                " string or an integer"
            )
    hint = ""
    if isinstance(item, (list, Message)):
        hint = "; messages go into ChatRequest(messages=[...])"
    elif isinstance(item, Mapping):
        hint = "; fields go into ChatRequest(**fields) or CompletionRequest(**fields)"
    return InvalidRequestError(
        f"requests[{index}] is of type {type(item).__name__}, expected a string, a"
        " ChatRequest, a CompletionRequest, a Conversation, or (id, one of these)"
        f"{hint}"
    )
