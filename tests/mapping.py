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


def answers(emulator, count=None, /, **texts):
    """
    Answer each of the next requests by what it says last; what is not named normally.

    Requests of several connections come in any order.
    """
    chosen = {name.replace("_", " "): answer for name, answer in texts.items()}

    def choose(request):
        return chosen.pop(request.json["messages"][-1]["content"], None)

    emulator.script(*[choose] * (count or len(texts)))


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
    ours = ("_feed", "_work", "_end_journal")
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
        quiet = 0
        # Between two of its tasks there is a turn with none.
        while quiet < 3:
            await asyncio.sleep(0)
            quiet = 0 if workers() else quiet + 1
    assert_over(client)
