"""
Jobs: sources that count, answers that wait, and all rows at once.
"""

import asyncio


PATIENCE = 10
"""
Seconds that a test waits for an event before it fails.
"""


async def every(job):
    """
    All rows of a job, in the order of their coming.
    """
    async with job:
        return [row async for row in job]


async def sorted_rows(job):
    """
    All rows of a job, in the order of the requests.
    """
    return sorted(await every(job), key=lambda row: row.index)


class Source:
    """
    Numbered prompts, which counts how many were taken.
    """

    def __init__(self, size=None):
        self.size = size
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.taken == self.size:
            raise StopIteration
        self.taken += 1
        return f"prompt {self.taken - 1}"


class AsyncSource(Source):
    """
    The same, waited for.
    """

    __iter__ = None

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None


def hold(emulator, count):
    """
    Make the next *count* requests wait; returns what lets each of them go.
    """
    gates = [asyncio.Event() for _ in range(count)]

    def waiting(gate):
        async def choose(request):
            await gate.wait()

        return choose

    emulator.script(*map(waiting, gates))
    return gates


class Generated:
    """
    A generator of prompts, as the source of one job, and what became of it.
    """

    def __init__(self):
        self.taken = 0
        self.closed = False

    def sync(self):
        try:
            while True:
                self.taken += 1
                yield f"prompt {self.taken}"
        finally:
            self.closed = True

    async def waited(self):
        try:
            while True:
                self.taken += 1
                yield f"prompt {self.taken}"
        finally:
            await asyncio.sleep(0)
            self.closed = True


def workers():
    """
    The tasks of jobs.
    """
    ours = ("_feed", "row")
    return [task for task in asyncio.all_tasks() if task.get_coro().__name__ in ours]


def assert_over(client):
    """
    Nothing of the job is left.
    """
    assert workers() == []
    assert client._line.governor.snapshot() == {}


async def over(client):
    """
    Wait until nothing of the job is left, where nobody waits for its end.
    """
    async with asyncio.timeout(PATIENCE):
        while workers():  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert_over(client)
