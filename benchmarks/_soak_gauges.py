"""
What `benchmarks.soak` reads off a process, and what it hears it complain of.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import selectors
import statistics
import sys
import time
import traceback
import warnings

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path


PAGE = os.sysconf("SC_PAGE_SIZE")


def descriptors():
    """
    How many files and sockets this process has open.
    """
    # Without the one that reads the directory.
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1


def resident():
    """
    The memory that this process has, in MiB.
    """
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / (1 << 20)


def trim():
    """
    Have the C library give back what it keeps for itself: it is no memory in use.
    """
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def timers():
    """
    How many timers of the running loop are still to ring.
    """
    return sum(
        not handle.cancelled() for handle in asyncio.get_running_loop()._scheduled
    )


OURS = {"TokenStream", "Attempts", "Body", "Job", "Lease", "CheckedConnector", "Trip"}
"""
What there is one of for each call, and must go with it.
"""

THEIRS = {"ClientResponse", "ResponseHandler", "_SelectorSocketTransport"}


def objects():
    """
    How many live objects of each of those classes there are.
    """
    kinds = OURS | THEIRS
    names = (type(one).__name__ for one in gc.get_objects())
    return Counter(name for name in names if name in kinds)


@dataclass(frozen=True)
class Gauges:
    """
    What a client holds at one moment.
    """

    connections: int
    tasks: int
    descriptors: int
    timers: int
    leases: int
    uncollectable: int = 0
    objects: int = 0

    def over(self, before):
        """
        What there is more of than before, as words.
        """
        old = asdict(before)
        return [
            f"{value - old[name]} more {name} than before ({old[name]} -> {value})"
            for name, value in asdict(self).items()
            if value > old[name]
        ]


def gauge(client=None):
    """
    Read the gauges; of a client its pool and its governor.
    """
    line = client and client._line
    gates = line.governor.snapshot().values() if line else ()
    return Gauges(
        connections=line.session.stats().open if line else 0,
        tasks=len(asyncio.all_tasks()),
        descriptors=descriptors(),
        timers=timers(),
        leases=sum(gate.in_flight + gate.waiting for gate in gates),
    )


def final_gauge():
    """
    Read them when all is over, what only a search of the whole memory shows among them.
    """
    gc.collect()
    now = gauge()
    return Gauges(
        **{
            **asdict(now),
            "uncollectable": len(gc.garbage)
            + sum(each["uncollectable"] for each in gc.get_stats()),
            "objects": objects().total(),
        }
    )


# Turns of the loop -------------------------------------------------------------------


class Turns(selectors.DefaultSelector):
    """
    A selector that knows how long the loop did not come back to it.

    In processor time: what the neighbours on this machine take is not the loop's doing.
    """

    def __init__(self):
        super().__init__()
        self.longest = 0.0
        self._since = time.thread_time()

    def select(self, timeout=None):
        """
        Wait for the sockets, as selectors do.
        """
        self.longest = max(self.longest, time.thread_time() - self._since)
        try:
            return super().select(timeout)
        finally:
            self._since = time.thread_time()

    def take(self):
        """
        The longest turn since the last time, in seconds.
        """
        longest, self.longest = self.longest, 0.0
        return longest


# Memory ------------------------------------------------------------------------------


def slope(samples):
    """
    How steeply samples (moment, value) rise: the median over all pairs of them.

    A few that stand out, as after one large answer, do not move it.
    """
    pairs = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for at, earlier in enumerate(samples)
        for later in samples[at + 1 :]
    ]
    return statistics.median(pairs) if pairs else 0.0


# Complaints --------------------------------------------------------------------------


class Complaints(logging.Handler):
    """
    What Python, asyncio and aiohttp say of what nobody caught, closed or awaited.
    """

    def __init__(self):
        super().__init__(logging.WARNING)
        self.heard = Counter()
        self.never_closed = 0
        """
        Warnings of streams that were dropped unclosed: the soak drops some on purpose.
        """

    @contextlib.contextmanager
    def listening(self, loop):
        """
        Hear all of it.
        """
        hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        logging.getLogger().addHandler(self)
        loop.set_exception_handler(self._of_the_loop)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = self._warned
                yield self
        finally:
            sys.unraisablehook = hook
            logging.getLogger().removeHandler(self)
            loop.set_exception_handler(None)

    def _unraisable(self, unraisable):
        error, at = unraisable.exc_value, unraisable.object
        self._note(f"unraisable in {at!r}: {error!r}{_where(error)}")

    def _of_the_loop(self, _, context):
        error = context.get("exception")
        self._note(f"asyncio: {context['message']}: {error!r}{_where(error)}")

    def _warned(self, message, category, filename, lineno, *_):
        if category is ResourceWarning and "Stream" in str(message):
            self.never_closed += 1
        else:
            self._note(f"{category.__name__} at {filename}:{lineno}: {message}")

    def emit(self, record):
        """
        Note what is logged as a warning or worse.
        """
        self._note(f"{record.name} logged: {record.getMessage()}")

    def _note(self, words):
        # The same one a thousand times over is one; and there is a bound to all of it.
        if words in self.heard or len(self.heard) < 100:
            self.heard[words] += 1


def _where(error):
    last = traceback.extract_tb(error.__traceback__)[-1:] if error else ()
    return "".join(f" at {frame.filename}:{frame.lineno}" for frame in last)
