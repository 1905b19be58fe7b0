"""
The ledger of `benchmarks.soak`: every prompt, what its caller got, and what the server saw.

No two prompts are alike and the server echoes them, so each answer shows whose it is.
Faults of the lab bring a text of their own, which the server's log must account for.
"""

import re

from collections import Counter
from dataclasses import dataclass, field

from benchmarks._soak_server import MARKER
from horay_async import AttemptStarted, CallEnded


WORDS = [
    "sea",
    "wave",
    "été",
    "Ωmega",
    "🌊",
    "日本",
    "a\u2028b",
    "“quote”",
    '{"x":1}',
    "\\n",
]

MARKED = re.compile(r"m\d{8}")

RETRIES = 2
"""
What the client does by default.
"""

FREE = 1
"""
A connection that had been idle and breaks is worth one attempt that is not counted.
"""


@dataclass(slots=True, eq=False)
class Entry:
    """
    One prompt.
    """

    marker: str

    text: str

    way: str

    started: int | None = 0
    """
    The requests that the client says it sent; None where it was not asked.
    """

    ended: int = 0
    """
    How often the client said that the call was over.
    """

    calls: int = 1
    """
    How many calls may be made for it.
    """

    shown: int | None = None
    """
    The requests that had been sent when the first text was shown.
    """

    foreign: bool = False
    """
    Some text was not its own: only a fault of the server's gives that.
    """

    refused: str = ""
    """
    An error that only a fault of the server's explains.
    """

    answers: int = 0
    """
    Whole answers that its caller got.
    """

    came: list = field(default_factory=list)
    """
    The server's side: for each request the name of its fault, or "".
    """

    wrong: list = field(default_factory=list)
    """
    What must not be, and was.
    """

    @property
    def headers(self):
        """
        What tells the server whose request it is.
        """
        return {MARKER: self.marker}

    def heard(self, event):
        """
        The client's hook.
        """
        if isinstance(event, AttemptStarted):
            self.started += 1
        elif isinstance(event, CallEnded):
            self.ended += 1


class Ledger:
    """
    All prompts that are not settled yet, and everything that was wrong so far.
    """

    def __init__(self):
        self.wrong = Counter()
        """
        What must not be, in a sentence each, with how often it was.
        """
        self.late = 0
        """
        Requests that the server read when their callers were gone.
        """
        self._count = 0
        self._open = {}
        self._over = []
        self._unended = []

    def entry(self, dice, way, *, watched=True):
        """
        A prompt that has never been.

        Args:
            watched: Whether its calls tell a hook of its own.
        """
        self._count += 1
        marker = f"m{self._count:08}"
        words = [f"{dice.choice(WORDS)}{at}" for at in range(dice.randrange(2, 30))]
        entry = Entry(marker, " ".join([marker, *words]), way)
        if not watched:
            entry.started = None
        self._open[marker] = entry
        return entry

    def fault(self, what):
        """
        Note what must not be.
        """
        if what in self.wrong or len(self.wrong) < 100:
            self.wrong[what] += 1
            if self.wrong[what] == 1:
                print(f"WRONG: {what}", flush=True)

    def check(self, entry, text, *, whole):
        """
        Compare an answer, or the part of it that came, with what was asked.
        """
        entry.answers += whole
        markers = set(MARKED.findall(text))
        if markers - {entry.marker}:
            entry.wrong.append(f"the answer of another: {text[:60]!r}")
        elif markers and not entry.text.startswith(text):
            entry.wrong.append(f"{text!r} is no beginning of {entry.text!r}")
        elif whole and markers and text != entry.text:
            entry.wrong.append(f"finished with a part: {text!r} of {entry.text!r}")
        elif not entry.text.startswith(text) or (whole and not text):
            entry.foreign = True

    def done(self, entry):
        """
        The caller has what it will get.
        """
        self._over.append(entry)

    def take_done(self):
        """
        The entries to settle with the log that is asked for next.
        """
        over, self._over = self._over, []
        return over

    def settle(self, log, over):
        """
        Compare with the server's log of the requests that came.
        """
        for marker, fault in log:
            entry = self._open.get(marker)
            if entry is None:
                self.late += 1
            else:
                entry.came.append(fault)
        for entry in over:
            self._settle(entry)
            del self._open[entry.marker]
        begun = (one for one in (*self._unended, *over) if one.started)
        self._unended = [one for one in begun if not one.ended]

    def lost(self):
        """
        How many calls began, and have not told their hook that they ended.
        """
        return sum(not entry.ended for entry in self._unended)

    def _settle(self, entry):
        entry.wrong += self._too_often(entry)
        entry.wrong += self._out_of_nowhere(entry)
        for what in entry.wrong:
            came = ", ".join(fault or "no fault" for fault in entry.came)
            self.fault(f"{entry.way}: {what}; its requests met: {came or 'nothing'}")

    def _too_often(self, entry):
        came = len(entry.came)
        if entry.started is None:
            if came > entry.calls * (1 + RETRIES + FREE):
                yield f"asked {came} times"
        elif came > entry.started:
            yield f"{came} requests came, {entry.started} were sent"
        if entry.shown is not None and entry.started != entry.shown:
            yield "sent again after its first text was shown"
        if entry.answers > 1:
            yield "answered twice"
        if entry.ended > 1:
            yield "ended twice"

    def _out_of_nowhere(self, entry):
        last = entry.came[-1] if entry.came else ""
        if entry.started is None:
            # It may be put together of more than one answer.
            last = next(filter(None, entry.came), "")
        if entry.answers and not entry.came:
            yield "answered, though it never came to the server"
        if entry.foreign and not last:
            yield "a fault's text, though the server had no fault"
        if entry.refused and not last:
            yield f"{entry.refused}, though the server had no fault"
