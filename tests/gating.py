"""
Callers in the queue of a gate, and a clock to be moved by hand.
"""

import asyncio
import time

from unittest import mock

import pytest

from horay_async._governor import Governor
from horay_async._values import RateLimits
from loopback import soon


KEY = ("http://localhost", "key", "model")
NEVER = 60
"""
A wait in seconds that no test sits out.
"""


@pytest.fixture
def governor():
    """
    One with no gates.
    """
    return Governor()


@pytest.fixture
def clock(monkeypatch):
    """
    The gates' clock, which goes as the test says.
    """
    clock = mock.Mock(**{"monotonic.return_value": 1000.0})
    monkeypatch.setattr("horay_async._gates.time", clock)
    return clock


def state(governor, key=KEY):
    """
    One gate as anybody can see it; None where it is forgotten.
    """
    return governor.snapshot().get(key)


def counts(governor, key=KEY):
    """
    How many are under way, and how many wait.
    """
    gate = state(governor, key)
    return (gate.in_flight, gate.waiting) if gate else (0, 0)


class Queue:
    """
    Callers who ask one after the other, and the leases that they got.
    """

    def __init__(self, governor):
        self.governor = governor
        self.tasks = []
        self.order = []
        self.times = []

    async def ask(self, count=1, **asked):
        """
        So many more ask, and get as far as they get.
        """
        for number in range(len(self.tasks), len(self.tasks) + count):
            self.tasks.append(asyncio.create_task(self._lease(number, asked)))
        await turns()

    async def _lease(self, number, asked):
        lease = await self.governor.lease(KEY, **asked)
        self.order.append(number)
        self.times.append(time.monotonic())
        return lease

    async def lease(self, number):
        """
        The lease that one of them got.
        """
        return await soon(self.tasks[number])

    async def leave(self):
        """
        All give up.
        """
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


NOTHING_SAID = RateLimits()
"""
What most servers say of rate limits.
"""


async def turns(count=5):
    """
    Let everything run that can run without time going by.
    """
    for _ in range(count):
        await asyncio.sleep(0)
