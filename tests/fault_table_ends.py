"""
The words of the fault table: how a call can end, and a row of what is expected of a fault.
"""

from collections.abc import Callable

import attrs

from horay_async import Outcome


TEXT = "one two three"
"""
What a right answer says, and what a stream has said before it breaks.
"""


@attrs.frozen(kw_only=True)
class End:
    """
    How one call ends: what its user has then.
    """

    error: str = ""
    """
    The class of the error; "": none, there is an answer.
    """

    text: str = ""
    """
    What has been read; of a broken call, what the error keeps.
    """

    outcome: Outcome = Outcome.FINISHED

    again: bool = False
    """
    A client that may try again does so, and has its answer.
    """

    status: int | None = None
    """
    The status that the error stands for.
    """

    says: str = ""
    """
    Words in the error's message.
    """

    clock: str = ""
    """
    Which clock ends it: the runner makes that one short, and leaves the others long.
    """

    wait: tuple[float, float] | None = None
    """
    Between which seconds the wait before the second attempt lies.
    """

    retry_after: tuple[float, float] | None = None
    """
    Between which seconds the wait lies that the server asked for, as the error says.
    """

    holds: Callable[[object], bool] | None = None
    """
    What is true of the reply to a chat besides.
    """

    reads: int | None = None
    """
    How many pieces there are, where it is not as many as there are words.
    """

    @property
    def pieces(self) -> int:
        """
        How many pieces the text came in.
        """
        return len(self.text.split()) if self.reads is None else self.reads


def whole(text=TEXT, **facts):
    """
    The whole answer.
    """
    return End(text=text, **facts)


def unconfirmed(text=TEXT):
    """
    The answer, but nobody said that it was all.
    """
    return End(text=text, outcome=Outcome.UNCONFIRMED)


def fails(error, **facts):
    """
    An error before any content, that trying again would not mend.
    """
    return End(error=error, outcome=Outcome.FAILED, **facts)


def breaks(error="APIConnectionError", **facts):
    """
    No answer: trying again is right, as the user has seen nothing.
    """
    outcome = Outcome.FAILED
    if error == "IncompleteStreamError":
        outcome = Outcome.INCOMPLETE
    return End(error=error, outcome=outcome, again=True, **facts)


def cut(text=TEXT, **facts):
    """
    A stream that broke off after it had begun: what came is kept, nothing is sent again.
    """
    return End(
        error="IncompleteStreamError", text=text, outcome=Outcome.INCOMPLETE, **facts
    )


CLOCKS = {
    "first_token": "FirstTokenTimeoutError",
    "silence": "StreamSilentError",
    "stall": "StreamStalledError",
    "deadline": "DeadlineExceeded",
}


def late(clock, text="", **facts):
    """
    One of the clocks ends it. A first token that is late may come at the next attempt.
    """
    return End(
        error=CLOCKS[clock],
        text=text,
        outcome=Outcome.TIMED_OUT,
        again=clock == "first_token",
        clock=clock,
        **facts,
    )


@attrs.frozen(kw_only=True)
class Row:
    """
    What is expected of one fault.
    """

    stream: End
    """
    Of a stream, chat or text.
    """

    plain: End
    """
    Of a plain call, chat or text.
    """

    most: int = 0
    """
    The MiB that it may cost, client and server together, where that is measured: of what
    is huge or has no end. One case of it is enough.
    """

    unseen: int | None = 0
    """
    How many attempts the server cannot have seen, as it had no listener or read nothing;
    None: that depends.
    """

    host: str = "127.0.0.1"
    """
    How the client calls the server: a cookie jar holds nothing of a bare address.
    """

    patient: bool = False
    """
    It passes with time, so the waits are real ones.
    """

    after: int = 1
    """
    How many attempts the next call on the same client takes: 2 where a kept connection dies
    under it, which is tried again at once.
    """


def both(end, **facts):
    """
    The same for a stream and for a plain call.
    """
    return Row(stream=end, plain=end, **facts)


def row(stream, plain, **facts):
    """
    What differs.
    """
    return Row(stream=stream, plain=plain, **facts)
