"""
Hours of trouble in minutes: `python -m benchmarks.soak --minutes 10 --streams 200`.

An emulator in a process of its own answers a good part of all requests with a random fault
of the lab, while one client keeps so many streams going, each read or left in a random way:
to the end, by `break`, cancelled, aborted, closed, dropped, out of time. In the end nothing
may be left that was not there in the beginning. Every prompt is unique and comes back as its
own answer, so that one that is lost, mixed up or given twice is seen.

Exits with 1, and a sentence for each thing that is wrong. It reads /proc, so it needs Linux.
"""

# ruff: noqa: S311 -- dice, and no secrets

import argparse
import asyncio
import contextlib
import gc
import json
import math
import random
import sys
import time
import traceback

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks._soak_call import Call, blame, clocks
from benchmarks._soak_gauges import (
    Complaints,
    Turns,
    final_gauge,
    gauge,
    objects,
    resident,
    slope,
    trim,
)
from benchmarks._soak_ledger import Ledger
from benchmarks._soak_server import MODELS
from benchmarks._soak_ways import WAYS, dropped
from horay_async import HORAY, APIError, AsyncHoray


HOUSE = Path(__file__).parents[1]

PATIENCE = 4.0
"""
Seconds that each call has. Short, because many faults are silent; a right answer takes at
most half of it.
"""

HUNG = 60.0
"""
Seconds after which a call is given up as hung, though every one has a deadline of its own.
"""

EVERY = 10.0
"""
Seconds between two reports.
"""

SETTLE = 5.0
"""
Seconds that sockets, timers and tasks have to go when all is over.
"""

STEEPEST = 1.0
"""
MiB a minute that memory may grow in the last two thirds. With some ten thousand calls a
minute that is a hundred bytes a call: less than the least that could be left of one.
"""

LONG_ENOUGH = 120.0
"""
Seconds of a run below which the slope says nothing: memory first grows to its working size.
"""


class ServerProcess:
    """
    The emulator next door.
    """

    def __init__(self, process, url):
        self._process = process
        self.url = url

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, options):
        """
        Run it for the time of a block.
        """
        pipe = asyncio.subprocess.PIPE
        words = options.faults, options.seed, options.patience
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "benchmarks._soak_server", *map(str, words)),
            cwd=HOUSE,
            stdin=pipe,
            stdout=pipe,
            limit=1 << 26,
        )
        try:
            yield cls(process, (await process.stdout.readline()).decode().strip())
        finally:
            process.stdin.close()
            await process.wait()

    async def ask(self, question):
        """
        Its state or its log.
        """
        self._process.stdin.write(f"{question}\n".encode())
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server process has died; its words are above")
        return json.loads(line)


class Soak:
    """
    One run: the workers, what they meet, and what is wrong with it.
    """

    def __init__(self, server, client, *, streams, seed):
        self.server = server
        self.client = client
        self.streams = streams
        self.seed = seed
        self.ledger = Ledger()
        self.outcomes = Counter()
        self.errors = Counter()
        self.ways = Counter()
        self.under_way = {}
        self.over = asyncio.Event()
        self.dropped = 0

    # Working -------------------------------------------------------------------------

    async def work(self, number):
        """
        One call after the other.
        """
        dice = random.Random(f"{self.seed}-{number}")
        model = MODELS[number % len(MODELS)]
        ways, weights = list(WAYS), list(WAYS.values())
        while not self.over.is_set():
            await self.one(dice.choices(ways, weights)[0], dice, model, number)

    async def one(self, way, dice, model, number):
        """
        One call, gone one of the ways.
        """
        call = Call(self, dice, model, way.__name__)
        self.ways[way.__name__] += 1
        self.dropped += way is dropped
        self.under_way[number] = f"{way.__name__} {call.entry.marker}"
        outcome = None
        try:
            async with asyncio.timeout(HUNG) as patience:
                outcome = await way(call)
        except APIError as error:
            self.note(error)
            if call.stream is None:
                outcome = "failed"
                blame(call.entry, error)
        except Exception as error:  # noqa: BLE001 -- told, and the run goes on
            what = f"{type(error).__name__}: {error}"
            if patience.expired():
                what = "a call that hung"
            else:
                traceback.print_exc()
            call.entry.wrong.append(what)
        self.outcomes[call.judge() or outcome or "failed"] += 1
        self.ledger.done(call.entry)
        del self.under_way[number]

    def note(self, error):
        """
        Count an error by its class.
        """
        self.errors[type(error).__name__] += 1
        if not isinstance(error, APIError):
            self.ledger.fault(f"an error not meant for servers: {error!r}")

    async def run(self, seconds, report):
        """
        Keep the streams going for so long, and let them all come to their end.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        workers = [asyncio.create_task(self.work(n)) for n in range(self.streams)]
        watch = asyncio.create_task(report(self))
        while not watch.done() and (left := end - loop.time()) > 0:
            await asyncio.wait([watch], timeout=left)
        self.over.set()
        await asyncio.wait([watch, *workers], timeout=2 * HUNG)
        for task in [*workers, watch]:
            if not task.done():
                task.cancel()
            elif not task.cancelled() and task.exception():
                self.ledger.fault(f"the soak itself: {task.exception()!r}")
        for what in self.under_way.values():
            self.ledger.fault(f"still under way in the end: {what}")

    async def settle(self):
        """
        Compare with what the server saw.
        """
        over = self.ledger.take_done()
        self.ledger.settle(await self.server.ask("log"), over)


class Reporter:
    """
    A line now and then, and the memory at all times.
    """

    def __init__(self, turns):
        self._turns = turns
        self.begun = 0.0
        self.memory = []

    async def __call__(self, soak):
        """
        Until it is over.
        """
        self.begun = time.monotonic()
        while not soak.over.is_set():
            low = math.inf
            for _ in range(int(EVERY)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await soak.over.wait()
                        return
                # The least of them: what one large answer takes for a moment is no leak.
                low = min(low, resident())
            trim()
            low = min(low, resident())
            self.memory.append((time.monotonic() - self.begun, low))
            await soak.settle()
            await self.say(soak, low)

    async def say(self, soak, memory):
        """
        Print where we are.
        """
        now, state = gauge(soak.client), await soak.server.ask("state")
        pool = soak.client._line.session.stats()
        print(
            f"{time.monotonic() - self.begun:4.0f} s  {_listed(soak.outcomes)}\n"
            f"        {_listed(soak.errors)}\n"
            f"        {pool.in_use} connections in use of {pool.open} open,"
            f" {now.leases} leases, {now.tasks} tasks, {now.descriptors} descriptors,"
            f" {now.timers} timers, {memory:.1f} MiB,"
            f" longest turn {1000 * self._turns.take():.0f} ms;"
            f" the server: {state['connections']} connections,"
            f" {state['requests']} requests, {state['resident']:.0f} MiB",
            flush=True,
        )

    def growth(self):
        """
        MiB a minute in the last two thirds; None where the run was too short to tell.
        """
        took = self.memory[-1][0] if self.memory else 0.0
        late = [sample for sample in self.memory if sample[0] > took / 3]
        return 60 * slope(late) if took >= LONG_ENOUGH else None


def _listed(counter):
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def _times(counter):
    return [f"{words} ({count} times)" for words, count in counter.items()]


def _pairs(before, after):
    return ", ".join(f"{name} {before[name]} -> {after[name]}" for name in before)


# The end -----------------------------------------------------------------------------


async def settled(read, good):
    """
    Read until it is good, or time is up. Returns what was read last.
    """
    end = time.monotonic() + SETTLE
    while True:
        seen = await read()
        if good(seen) or time.monotonic() > end:
            return seen
        await asyncio.sleep(0.1)


async def idle(client):
    """
    What is still in use in a client whose calls are all over, in words.
    """

    async def read():
        gc.collect()
        pool = client._line.session.stats()
        return pool.in_use + pool.waiting, gauge(client).leases

    in_use, leases = await settled(read, lambda seen: not any(seen))
    if in_use:
        yield f"{in_use} connections are in use or waited for, and no call is left"
    if leases:
        yield f"{leases} leases are held, and no call is left"


async def left_over(before, server, server_before):
    """
    What there is more of than in the beginning, on both sides, in words.
    """

    async def read():
        return final_gauge()

    after = await settled(read, lambda now: not now.over(before))
    print(f"here, before and after: {_pairs(asdict(before), asdict(after))}")
    for words in after.over(before):
        yield words
    if after.objects > before.objects:
        yield f"still in memory: {_listed(objects())}"
    if after.tasks > before.tasks:
        yield f"tasks: {asyncio.all_tasks()}"

    async def ask():
        return await server.ask("state")

    kept = "connections", "requests", "tasks", "descriptors"
    state = await settled(
        ask, lambda now: all(now[name] <= server_before[name] for name in kept)
    )
    print(f"the server: {_pairs({name: server_before[name] for name in kept}, state)}")
    for name in kept:
        if state[name] > server_before[name]:
            yield f"the server has {state[name]} {name}, before {server_before[name]}"
    for error in state["errors"]:
        yield f"the emulator failed: {error}"


def a_client(server, options):
    """
    A client with room for all streams, and the clocks of the run.
    """
    return AsyncHoray(
        service=HORAY,
        base_url=server.url,
        api_key="soak",
        timeouts=clocks(options.patience),
        max_connections=1000,
    )


async def warm_up(server, options):
    """
    Each way once, for all that is made only once. Returns what is wrong, and how many
    streams were dropped.
    """
    async with a_client(server, options) as client:
        first = Soak(server, client, streams=1, seed=options.seed)
        dice = random.Random(options.seed)
        ways = enumerate(WAYS)
        await asyncio.gather(
            *(first.one(way, dice, MODELS[0], number) for number, way in ways)
        )
        await first.settle()
    return _times(first.ledger.wrong), first.dropped


async def run(server, options, reporter):
    """
    All the streams for all the time, until the client is closed. Returns as `warm_up`, and
    nothing that holds on to a client or a call.
    """
    client = a_client(server, options)
    soak = Soak(server, client, streams=options.streams, seed=options.seed)
    await soak.run(60 * options.minutes, reporter)
    wrong = [words async for words in idle(client)]
    await soak.settle()
    await reporter.say(soak, resident())
    await client.close()
    state = await server.ask("state")
    print(
        f"{soak.outcomes.total()} calls: {_listed(soak.ways)}\n"
        f"{state['struck']} faults of {state['faults']} kinds; {soak.ledger.late}"
        " requests came after their caller had left"
    )
    if lost := soak.ledger.lost():
        wrong.append(f"{lost} calls began and never said that they ended")
    return wrong + _times(soak.ledger.wrong), soak.dropped


async def soak(options, turns, complaints):
    """
    The whole of it. Returns what is wrong, a sentence each.
    """
    reporter = Reporter(turns)
    async with ServerProcess.start(options) as server:
        wrong, allowed = await warm_up(server, options)
        server_before = await settled(
            lambda: server.ask("state"), lambda now: not now["connections"]
        )
        before = final_gauge()
        turns.take()
        more, dropped = await run(server, options, reporter)
        wrong += more
        wrong += [words async for words in left_over(before, server, server_before)]
    wrong += _times(complaints.heard)
    allowed += dropped
    if complaints.never_closed > allowed:
        wrong.append(
            f"{complaints.never_closed} streams were said never to have been closed,"
            f" and only {allowed} were dropped on purpose"
        )
    growth = reporter.growth()
    if growth is not None:
        print(f"memory grew by {growth:.2f} MiB a minute; {STEEPEST:g} is allowed")
        if growth > STEEPEST:
            wrong.append(f"memory grew by {growth:.2f} MiB a minute")
    return wrong


def main(words=None):
    """
    Run as the command says, and exit.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--faults", type=float, default=0.25, help="share of requests")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    options = parser.parse_args(words)
    print(
        f"{options.streams} streams for {options.minutes:g} minutes, faults in"
        f" {options.faults:.0%} of the requests, seed {options.seed}, Python"
        f" {sys.version.split()[0]}",
        flush=True,
    )
    turns = Turns()
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(turns)
    ) as runner:
        complaints = Complaints()
        with complaints.listening(runner.get_loop()):
            wrong = runner.run(soak(options, turns, complaints))
    for what in wrong:
        print(f"WRONG: {what}")
    if not wrong:
        print("Nothing is left over, nothing was lost, mixed up or told twice.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
