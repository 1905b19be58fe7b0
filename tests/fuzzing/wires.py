"""
A scripted network for the target `stream`: a session and bodies without sockets.
"""

import asyncio

from multidict import CIMultiDict

from horay_async._connector import PoolStats
from horay_async._errors import APIConnectionError
from horay_async._session import Body

from .promises import promise


END = object()
HANG = object()
BREAK = object()


class Network:
    """
    Answers each exchange as its script says: in the place of `Session`.
    """

    def __init__(self, scripts):
        self.scripts = scripts
        self.exchanges = 0
        self.bodies = []

    async def exchange(self, *_, departed=None, **__):
        """
        What the next script says; after the last one nobody listens any more.
        """
        script = (
            self.scripts[self.exchanges] if self.exchanges < len(self.scripts) else None
        )
        self.exchanges += 1
        if departed is not None:
            departed()
        if script is None:
            raise failure("nobody listens")
        if script["delay"]:
            await asyncio.sleep(script["delay"])
        if script["broken"]:
            raise failure("the connection was reset", reused=script["reused"])
        body = ScriptedBody(**script)
        self.bodies.append(body)
        return body

    def stats(self):
        """
        A pool that is never full.
        """
        return PoolStats(open=0, in_use=0, waiting=0, limit=10)


def failure(text, *, reused=False, answered=False):
    """
    As a session raises it.
    """
    error = APIConnectionError(text)
    return error.with_facts(reused=reused, answered=answered, pool=0.0, connect=0.0)


class ScriptedBody:
    """
    A response whose blocks, pauses and end are known: in the place of `Body`.
    """

    drain = Body.drain
    read_all = Body.read_all

    def __init__(self, *, status, headers, steps, reused, **_):
        self.status = status
        self.headers = CIMultiDict(headers)
        self.content_type = headers.get("content-type", "")
        self.reason = ""
        self.reused = reused
        self.pool = self.connect = 0.0
        self.at_end = self.closed = False
        self._steps = steps
        self._at = 0
        self._due = None
        self._error = None
        self._waiter = None

    async def read(self):
        """
        The next block, after the pauses before it. Cancelling loses none.
        """
        promise(self._waiter is None, "two readers of one body")
        while self._error is None:
            step = self._steps[self._at]
            if isinstance(step, bytes):
                self._at += 1
                return step
            if step is END:
                self.at_end = True
                return b""
            if step is BREAK:
                self._error = failure("the connection broke", answered=True)
                self.closed = True
            elif await self._passed(step):
                self._at += 1
        raise self._error

    async def _passed(self, step):
        """
        Wait out a pause, which goes on though who waits for it gives up.
        """
        loop = asyncio.get_running_loop()
        if self._due is None and step is not HANG:
            self._due = loop.time() + step
        self._waiter = waiter = loop.create_future()
        timer = None if step is HANG else loop.call_at(self._due, _wake, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        self._due = None
        return True

    def interrupt(self, error):
        """
        Whoever waits gets this error.
        """
        self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def drop(self):
        """
        Close the connection, unless it is done with.
        """
        if self._error is None and not self.at_end:
            self.interrupt(APIConnectionError("the connection was closed on our side"))
        if not self.at_end:
            self.closed = True


def _wake(waiter):
    if not waiter.done():
        waiter.set_result(None)
