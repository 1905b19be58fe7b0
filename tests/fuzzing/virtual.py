"""
A loop whose clock jumps: what would wait does not, and what would wait for ever is seen.
"""

import asyncio
import contextlib
import selectors

from .promises import Broken


TURNS = 20_000
"""
Turns of the loop that one input may take; a few hundred are usual.
"""


class _Nothing(selectors.SelectSelector):
    """
    No socket is ever ready: instead of waiting the clock is moved on.
    """

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.turns = 0

    def select(self, timeout=None):
        self.turns += 1
        if self.turns > TURNS:
            msg = "the loop spins"
            raise Broken(msg)
        if timeout is None:
            msg = "a hang: nothing will ever wake who waits"
            raise Broken(msg)
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """
    An asyncio loop without sockets and without waiting.
    """

    def __init__(self):
        self._clock = _Nothing()
        super().__init__(self._clock)
        self.complaints = []
        """
        What would have been logged.
        """
        self.set_exception_handler(self._complain)

    def time(self):
        """
        Seconds by the clock that jumps.
        """
        return self._clock.now

    def run(self, main):
        """
        Run until it is done, with a fresh allowance of turns.
        """
        self._clock.turns = 0
        self.complaints.clear()
        return self.run_until_complete(main)

    def leftovers(self):
        """
        What still is to run: callbacks, timers and tasks.
        """
        timers = [one for one in self._scheduled if not one.cancelled()]
        return [*self._ready, *timers, *asyncio.all_tasks(self)]

    def _complain(self, _, context):
        self.complaints.append(context.get("exception") or context["message"])

    def _write_to_self(self):
        """
        All is on one thread: nobody sleeps who would have to be woken.
        """


def discard(loop):
    """
    Close a loop, with whatever still waits on it.
    """
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_soon(loop.stop)
    with contextlib.suppress(Broken):
        loop.run_forever()
    loop.close()
