"""
The target `stream`: a TokenStream over a scripted network, read in every way, and left so.
"""

import asyncio
import types

from horay_async import _attempts, _gates
from horay_async._attempts import Attempts, Call
from horay_async._chunks import CHAT, TEXT
from horay_async._errors import (
    APIError,
    APIResponseValidationError,
    ClientClosedError,
    IncompleteStreamError,
    StreamAbortedError,
    UnconfirmedStreamError,
)
from horay_async._events import AttemptStarted, CallEnded
from horay_async._governor import Governor
from horay_async._policy import RetryPolicy
from horay_async._stream import TokenStream
from horay_async._timeouts import Timeouts
from horay_async._values import Outcome

from .answers import unasked
from .promises import HEAD, Options, check_error, promise
from .reading import READERS, Reader
from .virtual import VirtualLoop, discard
from .wires import BREAK, END, HANG, Network


PAUSES = (0, 0, 0.05, 0.4, 0.9, 1.1, 2.5, 700)

CLOCKS = (
    Timeouts(),
    Timeouts(first_token=1.0, stall=2.0, silence=1.0),
    Timeouts(first_token=3.0, stall=1.0, silence=2.0, deadline=2.0),
    Timeouts(first_token=None, stall=None, silence=None, deadline=5.0),
)

LEFT = {Outcome.CLOSED, Outcome.ABORTED, Outcome.CANCELLED}

ERRORS = {
    Outcome.INCOMPLETE: IncompleteStreamError,
    Outcome.UNCONFIRMED: UnconfirmedStreamError,
    Outcome.TIMED_OUT: TimeoutError,
    Outcome.FAILED: (APIError, ClientClosedError),
    **dict.fromkeys(LEFT, StreamAbortedError),
}

EAGER = getattr(asyncio, "eager_task_factory", None)
"""
Tasks that start at once; there are none before Python 3.12.
"""

_loop = None


def stream(data):
    """
    One outcome, no lease, connection, task or timer left, and no text lost or invented.
    """
    global _loop  # noqa: PLW0603 -- one loop for all inputs
    if _loop is None:
        _loop = VirtualLoop()
    clock, dice = _gates.time, _attempts.random
    # Both are read by the module's own names: the clock must jump with the loop's, and an
    # input must do the same again.
    _gates.time = types.SimpleNamespace(monotonic=_loop.time)
    _attempts.random = types.SimpleNamespace(random=lambda: 0.5)
    try:
        _loop.run(_run(_loop, data))
        promise(
            not _loop.leftovers(), "something is left on the loop", _loop.leftovers()
        )
        promise(not _loop.complaints, "the loop complains", _loop.complaints)
    except BaseException:
        # What hangs stays where it is.
        forget()
        raise
    finally:
        if _loop is not None:
            _loop.set_task_factory(None)
        _gates.time, _attempts.random = clock, dice


def forget():
    """
    The next input gets a loop of its own.
    """
    global _loop
    loop, _loop = _loop, None
    if loop is not None:
        discard(loop)


async def _run(loop, data):
    options = Options(data)
    case = Case(loop, options, data[HEAD:])
    reader = Reader(case.stream, options, case.network)
    read = READERS[options.number(len(READERS))]
    if EAGER is not None and not options.number(3):
        loop.set_task_factory(EAGER)
    task = loop.create_task(read(reader))
    case.disturb(task)
    try:
        await task
    except (APIError, ClientClosedError) as error:
        reader.error = error
    except asyncio.CancelledError:
        promise(case.cancels, "cancelled by nobody")
        # Of a wait that was given up the user may take up the stream again.
        reader.cancelled = True
    del task
    case.stop()
    await _turns()
    if case.stream.outcome is None:
        promise(reader.may_stay_open, "left, and not ended", case.stream)
        case.stream.close()
        await _turns()
    case.check(reader)


async def _turns():
    # What stops at an abort has a clock, a shield and a task to come through.
    for _ in range(12):
        await asyncio.sleep(0)


class Case:
    """
    One input: its network, its stream, and what goes wrong meanwhile.
    """

    def __init__(self, loop, options, wire):
        self.loop = loop
        self.events = []
        self.cancels = False
        self.governor = Governor()
        self.network = Network(scripts(options, wire))
        self.timeouts = options.pick(CLOCKS)
        self.retries = options.number(3)
        self.n = 1 + options.pick((0, 0, 1, 2))
        self.strict_end = not options.number(4)
        self.attempts = None
        self.stream = TokenStream(
            self._open,
            kind=TEXT if options.number(5) == 4 else CHAT,
            n=self.n,
            strict_end=self.strict_end,
        )
        self._trouble = options.number(10)
        self._when = options.pick((0, 0, 0.01, 0.3, 0.95, 1.5))
        self._timers = []

    def _open(self):
        promise(self.attempts is None, "opened twice")
        self.attempts = Attempts(
            Call(
                method="POST",
                path="/chat/completions",
                service="Horay",
                gate=("here", "m"),
                stream=True,
            ),
            session=self.network,
            governor=self.governor,
            policy=RetryPolicy(max_retries=self.retries),
            timeouts=self.timeouts,
            hook=self.events.append,
        )
        return self.attempts

    def disturb(self, task):
        """
        Have something happen to the stream or to its reader, some time later.
        """
        happenings = {
            1: (lambda: self.stream.abort("enough"),),
            2: (self.stream.close,),
            3: (task.cancel,),
            4: (task.cancel, task.cancel),
            5: (task.cancel, self.stream.close),
            6: (self._close_client,),
        }
        for at, happening in enumerate(happenings.get(self._trouble, ())):
            self.cancels |= happening == task.cancel
            when = self.loop.time() + self._when * (at + 1)
            self._timers.append(self.loop.call_at(when, happening))

    def _close_client(self):
        if self.attempts is not None:
            self.attempts.close(ClientClosedError("the client was closed"))

    def stop(self):
        """
        Nothing happens any more.
        """
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def check(self, reader):
        """
        What has to be true, whatever happened.
        """
        if self.attempts is None:
            # Closed or cancelled before it began: nobody was asked for anything.
            promise(not self.network.exchanges, "sent by nobody")
            return
        self._check_end(reader)
        self._check_text(reader)
        self._check_house()

    def _check_end(self, reader):
        stream = self.stream
        outcome, error = stream.outcome, stream.error
        if error is None:
            promise(
                outcome is Outcome.FINISHED
                or (outcome is Outcome.UNCONFIRMED and not self.strict_end),
                "an end without its error",
                outcome,
            )
        else:
            kind = ERRORS.get(outcome, ())
            promise(isinstance(error, kind), "outcome and error differ", outcome, error)
            if isinstance(error, APIError):
                check_error(error)
        if isinstance(reader.error, APIError):
            check_error(reader.error)
            ours = isinstance(reader.error, APIResponseValidationError)
            if not (reader.types_chunks and ours):
                promise(reader.error is error, "another error", reader.error, error)
        stream.abort("again")
        stream.close()
        promise(stream.outcome is outcome, "a second outcome", outcome, stream.outcome)
        promise(stream.error is error, "a second error", error, stream.error)
        ends = [one for one in self.events if isinstance(one, CallEnded)]
        promise(len(ends) == 1, "not one end told", ends)
        promise(ends[0].outcome is outcome, "another outcome told", ends[0], outcome)

    def _check_text(self, reader):
        stream = self.stream
        partial = stream.partial
        if isinstance(stream.error, APIError):
            promise(
                stream.error.partial.text == partial.text, "another partial", partial
            )
        for choice in partial.choices:
            handed = reader.text(choice.index)
            if handed is None or unasked(stream._intake.assembly, choice):
                continue
            whole = reader.to_the_end and stream.outcome not in LEFT
            promise(
                choice.text == handed if whole else choice.text.startswith(handed),
                "other text than was handed out",
                handed,
                choice,
            )
        try:
            repr(stream.reply)
        except APIError as error:
            check_error(error)
        repr(stream)

    def _check_house(self):
        network = self.network
        for state in self.governor.snapshot().values():
            promise(not state.in_flight, "a lease is left", state)
            promise(not state.waiting, "somebody waits for a lease", state)
        for body in network.bodies:
            promise(body.at_end or body.closed, "a connection is left open", body)
        promise(
            network.exchanges <= 2 + self.retries,
            "too many attempts",
            network.exchanges,
        )
        started = sum(isinstance(one, AttemptStarted) for one in self.events)
        promise(started == network.exchanges, "attempts untold", started)


def scripts(options, wire):
    """
    What each attempt meets: the last one the input's own bytes, those before it failures.
    """
    made = []
    for _ in range(options.pick((0, 0, 0, 1, 1, 2, 3))):
        status = options.pick((200, 200, 429, 500, 503, 400, 204))
        headers = {"content-type": options.pick(("text/event-stream", "", "text/html"))}
        if options.number(3) == 2:
            headers["retry-after"] = options.pick(("0", "1", "x", "7", "500"))
        steps = [options.pick((END, BREAK, HANG, b"{}", b": ping\n\n")), BREAK]
        made.append(
            {
                "delay": options.pick(PAUSES),
                "broken": not options.number(3),
                "reused": not options.number(2),
                "status": status,
                "headers": headers,
                "steps": steps,
            }
        )
    steps = []
    for block in options.cut(wire, options.pick((0, 1, 3, 6))):
        if block:
            steps.append(block)
            if not options.number(4):
                steps.append(options.pick(PAUSES))
    steps.append(options.pick((END, END, END, BREAK, HANG)))
    kind = options.pick(
        ("text/event-stream", "text/event-stream", "", "application/json")
    )
    made.append(
        {
            "delay": options.pick((0, 0, 0.5)),
            "broken": False,
            "reused": False,
            "status": 200,
            "headers": {"content-type": kind},
            "steps": steps,
        }
    )
    return made
