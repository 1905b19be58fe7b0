"""
A loop whose clock jumps, and servers with limits on it: minutes of a storm in milliseconds.
"""

import asyncio
import collections
import math
import random
import selectors
import types

from unittest import mock

from horay_async import _gates
from horay_async._policy import backoff
from horay_async._values import RateLimits


class _Jumping(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout=None):
        assert timeout is not None, "nobody would ever wake"
        # A timer that is a hair early would only ring again.
        self.now += timeout + 1e-9 if timeout > 0 else 0.0
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """
    Instead of waiting it moves its clock.
    """

    def __init__(self):
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self):
        """
        Seconds since it was made.
        """
        return self._jumping.now


def play(main):
    """
    Run a coroutine function on such a loop, and the gates by its clock.
    """
    loop = JumpingLoop()
    clock = types.SimpleNamespace(monotonic=loop.time)
    try:
        with mock.patch.object(_gates, "time", clock):
            return loop.run_until_complete(main())
    finally:
        loop.close()


def now():
    """
    Seconds since the play began.
    """
    return asyncio.get_running_loop().time()


class Bucket:
    """
    Takes so many a second, and as many at once as it holds.
    """

    def __init__(self, rate, size, service=0.1, asks=None):
        self.rate, self.size, self.service, self.asks = rate, size, service, asks
        self.level, self.at = size, 0.0

    async def serve(self):
        """
        None, or the wait that a refusal asks for in a tuple.
        """
        grown = self.level + (now() - self.at) * self.rate
        self.level, self.at = min(self.size, grown), now()
        if self.level < 1:
            return (self.asks,)
        self.level -= 1
        await asyncio.sleep(self.service)
        return None


class Windows:
    """
    Takes so many in each window, which all begin at the same time for everybody.
    """

    def __init__(self, count, seconds, service=0.1):
        self.count, self.seconds, self.service = count, seconds, service
        self.taken = collections.Counter()

    async def serve(self):
        """
        As above.
        """
        window = int(now() // self.seconds)
        if self.taken[window] >= self.count:
            return (math.ceil((window + 1) * self.seconds - now()),)
        self.taken[window] += 1
        await asyncio.sleep(self.service)
        return None


class Crowd:
    """
    Takes so many at a time.
    """

    def __init__(self, count, service, asks=None):
        self.count, self.service, self.asks, self.busy = count, service, asks, 0

    async def serve(self):
        """
        As above.
        """
        if self.busy >= self.count:
            return (self.asks,)
        self.busy += 1
        await asyncio.sleep(self.service)
        self.busy -= 1
        return None


class Outage:
    """
    Takes nothing from here to there, and all that comes otherwise.
    """

    def __init__(self, begin, end, service=0.05, asks=None):
        self.begin, self.end, self.service, self.asks = begin, end, service, asks

    async def serve(self):
        """
        As above.
        """
        if self.begin <= now() < self.end:
            return (self.asks,)
        await asyncio.sleep(self.service)
        return None


class Dice:
    """
    Refuses a part of all calls, whatever their number.
    """

    def __init__(self, part, service=0.01, asks=None):
        self.part, self.service, self.asks = part, service, asks
        self.dice = random.Random(7)

    async def serve(self):
        """
        As above.
        """
        if self.dice.random() < self.part:
            return (self.asks,)
        await asyncio.sleep(self.service)
        return None


class Callers:
    """
    Calls as `_attempts` makes them, with nothing between them and the server.
    """

    def __init__(self, governor, server, *, retries=2, seed=0):
        self.governor, self.server, self.retries = governor, server, retries
        self.dice = random.Random(seed)
        self.requests = self.failed = 0

    async def call(self):
        """
        One call, with all its attempts.
        """
        for tries in range(self.retries + 1):
            lease = await self.governor.lease("key", tries=tries)
            self.requests += 1
            # On the way there.
            await asyncio.sleep(0.002 * self.dice.random())
            refusal = await self.server.serve()
            if refusal is None:
                lease.admitted(RateLimits())
                lease.settle()
                return
            (wait,) = refusal
            if wait is None:
                wait = backoff(429, tries, self.dice.random())
            lease.refused(429)
            self.governor.close("key", wait, lease=lease)
            lease.settle()
            await asyncio.sleep(wait)
        self.failed += 1

    async def all(self, count):
        """
        So many at once; how long they took.
        """
        await asyncio.gather(*(self.call() for _ in range(count)))
        return now()
