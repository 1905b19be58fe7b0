"""
Ten thousand tasks, each cancelled at a random turn of the loop: `python -m benchmarks.cancel_storm`.

Calls, streams, jobs, fan-outs, races and hedges, some hundred of them at a time: of a server
that takes all, of one that refuses many, and behind a governor that lets only a few go. A
clock that counts the turns of the loop says when each is cancelled: half of them within the
first 24 of its life, and some a second time while they clear up. In the end nothing may be
left: no lease, no connection in use, no task, no locked journal; and when the clients are
closed no socket, timer, thread or object, and no connection at the servers.

Exits with 1, and a sentence for each thing that is wrong. It reads /proc, so it needs Linux.
"""

# ruff: noqa: S311 -- dice, and no secrets

import argparse
import asyncio
import contextlib
import gc
import heapq
import itertools
import math
import random
import shutil
import sys
import threading
import time

from collections import Counter
from pathlib import Path

from benchmarks._load_server import Load, running
from benchmarks._soak_gauges import Complaints, final_gauge, objects
from benchmarks._storm_ways import FOLDERS, JOURNAL, WAYS
from benchmarks._telling import machine
from benchmarks.soak import settled
from horay_async import APIError, AsyncHoray, Governor, JournalError
from horay_async.many._journal import Journal


AT_ONCE = 200
"""
Tasks alive at a time.
"""

LATEST = 600
"""
Turns after which the last is cancelled; half of them are within the root of that.
"""

AGAIN = 0.2
"""
The share of those who are cancelled once more while they clear up.
"""

OPEN = Load(service=0.01, pace=0.002, tokens=5)

FULL = Load(service=0.01, pace=0.002, tokens=5, at_once=10, retry_after=False)
"""
Its refusals close gates, so that calls wait, and are cancelled, there.
"""


# The storm ---------------------------------------------------------------------------


class Storm:
    """
    Starts tasks, and cancels each when its turn has come.
    """

    def __init__(self, clients, *, tasks, at_once, seed):
        self._clients = clients
        self._tasks = tasks
        self._at_once = at_once
        self._dice = random.Random(seed)
        self._turn = 0
        # (turn, number, task): who is cancelled when; the number only breaks ties.
        self._due = []
        self._numbers = itertools.count()
        self._alive = set()
        self._asked = set()
        self.outcomes = Counter()
        self.ways = Counter()
        self.wrong = Counter()

    async def run(self):
        """
        All of them; returns when the last has ended.
        """
        self._over = asyncio.get_running_loop().create_future()
        self._tick()
        await self._over

    def _tick(self):
        """
        One turn of the loop. It is never idle, so that turns go on where nothing comes.
        """
        self._turn += 1
        while self._due and self._due[0][0] <= self._turn:
            *_, task = heapq.heappop(self._due)
            if task.cancel():
                self._asked.add(task)
                if self._dice.random() < AGAIN:
                    self._at(self._turn + self._dice.randrange(4), task)
        # Whoever ended before his turn came is made up for.
        still = self._tasks - self.outcomes["cancelled"]
        while len(self._alive) < min(still, self._at_once):
            self._start()
        if self._alive:
            asyncio.get_running_loop().call_soon(self._tick)
        else:
            self._over.set_result(None)

    def _start(self):
        (way,) = self._dice.choices(list(WAYS), list(WAYS.values()))
        client = self._dice.choice(self._clients)
        wait = math.exp(self._dice.uniform(0, math.log(LATEST)))
        self.ways[way.__name__] += 1
        task = asyncio.create_task(way(client), name=way.__name__)
        self._alive.add(task)
        self._at(self._turn + int(wait), task)
        task.add_done_callback(self._ended)

    def _at(self, turn, task):
        heapq.heappush(self._due, (turn, next(self._numbers), task))

    def _ended(self, task):
        self._alive.discard(task)
        asked = task in self._asked
        self._asked.discard(task)
        if task.cancelled():
            self.outcomes["cancelled"] += 1
            if not asked:
                self.wrong[
                    f"{task.get_name()} was cancelled, and nobody asked for it"
                ] += 1
        elif (error := task.exception()) is None:
            self.outcomes["finished"] += 1
        else:
            self.outcomes["failed"] += 1
            if not isinstance(error, APIError):
                self.wrong[f"{task.get_name()} raised {error!r}"] += 1
        if asked and not task.cancelled():
            self.wrong[f"{task.get_name()} was cancelled, and went on"] += 1


# What is left ------------------------------------------------------------------------


def held(client):
    """
    Connections and leases that are in use or waited for.
    """
    gc.collect()
    pool = client._line.session.stats()
    gates = client._line.governor.snapshot().values()
    leases = sum(gate.in_flight + gate.waiting for gate in gates)
    return {"connections": pool.in_use + pool.waiting, "leases": leases}


async def idle(client):
    """
    What a client still holds, in words.
    """

    async def read():
        return held(client)

    for name, count in (await settled(read, lambda now: not any(now.values()))).items():
        if count:
            yield f"{count} {name} are held, and no task is left"


async def locked():
    """
    The journals that nobody can open again, in words.
    """
    for folder in FOLDERS:
        path = Path(folder, JOURNAL)

        async def read(path=path):
            try:
                await (await Journal.open(path)).aclose()
            except JournalError as error:
                return str(error)

        if error := await settled(read, lambda error: error is None):
            yield error
        shutil.rmtree(folder)
    FOLDERS.clear()


def threads():
    """
    Those that are not asyncio's, which keeps its own.
    """
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if not name.startswith("asyncio_")]


async def alone(servers):
    """
    What the servers still see of us, in words.
    """

    async def read():
        told = [await asyncio.to_thread(server.counts) for server in servers]
        return [seen["connections"] + seen["in_flight"] for seen in told]

    for count in await settled(read, lambda seen: not any(seen)):
        if count:
            yield f"a server still has {count} connections or requests"


async def gone(before):
    """
    What there is more of than in the beginning, in words.
    """

    gauges, names = before

    async def read():
        return final_gauge(), threads()

    def good(now):
        return not now[0].over(gauges) and len(now[1]) <= len(names)

    after, left = await settled(read, good)
    for words in after.over(gauges):
        yield words
    if len(left) > len(names):
        yield f"threads are left: {left}"
    if after.objects > gauges.objects:
        yield f"still in memory: {dict(objects())}"


def clients_of(servers):
    """
    One that nothing holds back, one behind a governor, one that is refused.
    """
    taking, refusing = (server.base_url for server in servers)
    return [
        AsyncHoray(base_url=taking, api_key="storm"),
        AsyncHoray(base_url=taking, api_key="storm", governor=Governor(concurrency=8)),
        AsyncHoray(base_url=refusing, api_key="storm"),
    ]


async def round_of(servers, *, tasks, at_once, seed):
    """
    The clients' whole life. Returns the outcomes, the ways, and what is wrong.
    """
    async with contextlib.AsyncExitStack() as stack:
        before = asyncio.all_tasks()
        clients = clients_of(servers)
        for client in clients:
            await stack.enter_async_context(client)
        storm = Storm(clients, tasks=tasks, at_once=at_once, seed=seed)
        await storm.run()
        wrong = [words for client in clients async for words in idle(client)]
        wrong += [words async for words in locked()]
        if others := asyncio.all_tasks() - before:
            wrong.append(f"{len(others)} tasks are left: {others}")
    wrong += [f"{words} ({count} times)" for words, count in storm.wrong.items()]
    return storm.outcomes, storm.ways, wrong


async def storm(servers, *, tasks, at_once=AT_ONCE, seed=0):
    """
    All of it. Returns the outcomes, the ways, and what is wrong.
    """
    with Complaints().listening(asyncio.get_running_loop()) as complaints:
        # For all that is made only once.
        await round_of(servers, tasks=50, at_once=50, seed=seed)
        _ = [words async for words in alone(servers)]
        before = final_gauge(), threads()
        outcomes, ways, wrong = await round_of(
            servers, tasks=tasks, at_once=at_once, seed=seed
        )
        wrong += [words async for words in alone(servers)]
        wrong += [words async for words in gone(before)]
    wrong += [f"{words} ({count} times)" for words, count in complaints.heard.items()]
    if complaints.never_closed:
        wrong.append(f"{complaints.never_closed} streams were never closed")
    return outcomes, ways, wrong


def main(words=None):
    """
    Run, print, and exit.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks.cancel_storm", description=__doc__
    )
    parser.add_argument("--tasks", type=int, default=10_000, help="cancelled")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    options = parser.parse_args(words)
    print(f"{machine()}\n{options.tasks} tasks, seed {options.seed}")
    begun = time.perf_counter()
    with running(OPEN) as taking, running(FULL) as refusing:
        outcomes, ways, wrong = asyncio.run(
            storm(
                [taking, refusing],
                tasks=options.tasks,
                at_once=options.at_once,
                seed=options.seed,
            )
        )
        seen = [server.counts() for server in (taking, refusing)]
    for counter in (outcomes, ways):
        print(", ".join(f"{count} {name}" for name, count in counter.most_common()))
    for name, counts in zip(("taking", "refusing"), seen, strict=True):
        told = ", ".join(f"{count} {what}" for what, count in counts.items())
        print(f"the {name} server: {told}")
    for what in wrong:
        print(f"Wrong: {what}.")
    print(f"{time.perf_counter() - begun:.1f} s. ", end="")
    print("Something is left over." if wrong else "Nothing is left over.")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
