"""
Somebody waits while a batch runs: `python -m benchmarks.mixed`.

One client makes an interactive call every 50 ms, by turns a plain one and a stream, whether
or not those before have ended; first alone, then while a batch of 10,000 goes through `map`
on the very same client, which uses at most half a core. Once the batch has its own
`concurrency`; once there is none but the governor's, all of which the batch could fill. The
server is a process of its own with a service time of 200 ms.

The rounds take turns, and all calls of a kind count together. The judge (`--check`) wants the
95th percentile beside the batch within 1.5 times of what it is without.
"""

import argparse
import asyncio
import itertools
import time

from dataclasses import dataclass, field

from benchmarks._load_server import Load, running
from benchmarks._telling import leave, machine, quantile
from horay_async import AsyncHoray, Governor


SERVICE = 0.2
"""
Seconds.
"""

EVERY = 0.05
"""
Seconds from one interactive call to the next.
"""

SLOWER = 1.5

HALF = 0.5
"""
Of a core, that the batch may use: more of it would be a test of the machine.
"""

HELLO = [{"role": "user", "content": "Name the seas."}]


@dataclass
class Seconds:
    """
    What interactive calls took.
    """

    plain: list = field(default_factory=list)

    first: list = field(default_factory=list)
    """
    Of streams, until their first token.
    """

    streamed: list = field(default_factory=list)

    def add(self, other):
        """
        Those of another round too.
        """
        self.plain += other.plain
        self.first += other.first
        self.streamed += other.streamed


class Somebody:
    """
    Calls every so often, and waits for no answer before the next.
    """

    def __init__(self, client):
        self._client = client
        self._create = client.chat.completions.create
        self.taken = Seconds()

    async def until(self, over):
        """
        Go on until it is over.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count(1):
                group.create_task(self.stream() if number % 2 else self.plain())
                wait = begun + number * EVERY - loop.time()
                await asyncio.wait([over], timeout=max(0.0, wait))
                if over.done():
                    return

    async def plain(self):
        """
        One plain call.
        """
        begun = time.perf_counter()
        await self._create(model="loaded", messages=HELLO)
        self.taken.plain.append(time.perf_counter() - begun)

    async def stream(self):
        """
        One stream.
        """
        begun, first = time.perf_counter(), None
        async with self._client.chat.completions.stream(
            model="loaded", messages=HELLO
        ) as stream:
            async for _ in stream:
                first = first or time.perf_counter() - begun
        self.taken.first.append(first)
        self.taken.streamed.append(time.perf_counter() - begun)


async def alone(url, governor, seconds):
    """
    Nobody else calls.
    """
    async with a_client(url, governor) as client:
        somebody = Somebody(client)
        await somebody.until(asyncio.create_task(asyncio.sleep(seconds)))
    return somebody.taken, 0.0


async def beside(url, governor, options, how_many):
    """
    A batch runs. Returns also the share of a core that all of it used.
    """
    async with a_client(url, governor) as client:

        async def batch():
            prompts = (f"Name sea {number}." for number in range(options.rows))
            async with client.map(prompts, model="loaded", **how_many) as job:
                async for row in job:
                    if row.error is not None:
                        raise row.error

        somebody, batching = Somebody(client), asyncio.create_task(batch())
        begun, cpu = time.perf_counter(), time.process_time()
        await somebody.until(batching)
        batching.result()
        share = (time.process_time() - cpu) / (time.perf_counter() - begun)
    return somebody.taken, share


def a_client(url, governor):
    """
    The same for both.
    """
    options = {} if governor is None else {"governor": Governor(concurrency=governor)}
    return AsyncHoray(base_url=url, api_key="key", **options)


IDLE = "alone"
PACED = "beside a batch"
FILLED = "beside one that fills the governor"


def measure(url, options):
    """
    For each kind its seconds, and the highest share of a core.
    """
    most = options.concurrency
    kinds = {
        IDLE: lambda: alone(url, None, options.seconds),
        PACED: lambda: beside(url, None, options, {"concurrency": most}),
        FILLED: lambda: beside(url, most, options, {}),
    }
    taken, shares = {kind: Seconds() for kind in kinds}, dict.fromkeys(kinds, 0.0)
    for number in range(options.rounds):
        for kind, run in kinds.items():
            seconds, share = asyncio.run(run())
            taken[kind].add(seconds)
            shares[kind] = max(shares[kind], share)
            say(f"{number + 1}  {kind}", seconds, share)
    return taken, shares


def say(what, seconds, share):
    """
    Print the percentiles.
    """
    print(f"{what}, {share:.0%} of a core")
    for name, values in vars(seconds).items():
        told = "".join(
            f"{1e3 * quantile(values, part):8.0f}" for part in (0.5, 0.95, 0.99)
        )
        print(f"    {name:10}{told} ms (p50, p95, p99 of {len(values)})", flush=True)


def judge(taken, shares):
    """
    What is wrong, in words.
    """
    for kind in (PACED, FILLED):
        for name, idle in vars(taken[IDLE]).items():
            times = quantile(getattr(taken[kind], name), 0.95) / quantile(idle, 0.95)
            if times > SLOWER:
                yield f"p95 is {times:.2f} times the idle client's, {name}, {kind}"
        if shares[kind] > HALF:
            yield f"{shares[kind]:.0%} of a core, {kind}: take a lower --concurrency"


def main(words=None):
    """
    Measure, print, and judge.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.mixed", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="of the batch")
    parser.add_argument("--concurrency", type=int, default=128, help="of the batch")
    parser.add_argument("--seconds", type=float, default=15.0, help="of being alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if it is not good enough"
    )
    options = parser.parse_args(words)
    print(f"{machine()}\n")
    with running(Load(service=SERVICE)) as server:
        taken, shares = measure(server.base_url, options)
    print("\nall rounds")
    for kind, seconds in taken.items():
        say(kind, seconds, shares[kind])
    leave(list(judge(taken, shares)), check=options.check)


if __name__ == "__main__":
    main()
