"""
How many calls at once? `Adaptive()` beside all fixed numbers: `python -m benchmarks.adaptive`.

Three servers, each of a process of its own with 10, 100 or 1,000 slots of 200 ms, where
whoever comes too many waits in a queue. A job of `client.map` runs for so many seconds, from
its first call on, and what counts is how many rows it got a second. The settings take turns,
round by round, and the medians are compared. The judge (`--check`) wants of `Adaptive()`,
which is told nothing, 90 % of the best fixed number's.

Client and server share this machine's cores: where the server could do more than a client
can ask, the best is what the client can.
"""

import argparse
import asyncio
import itertools
import statistics
import time

from benchmarks._load_server import Load, running
from benchmarks._telling import leave, machine
from horay_async import Adaptive, AsyncHoray, Governor


SLOTS = 10, 100, 1000

SERVICE = 0.2
"""
Seconds, so that ten slots give at most 50 answers a second.
"""

FIXED = 8, 16, 32, 64, 128, 256, 512, 1024, 2048

SHARE = 0.9

ADAPTIVE = "Adaptive()"


async def job(url, concurrency, seconds):
    """
    Rows a second.
    """
    options = {"base_url": url, "api_key": "key", "max_connections": 4096}
    how_many = {"concurrency": concurrency}
    if concurrency == ADAPTIVE:
        options["governor"] = Governor(concurrency=Adaptive())
        how_many = {}
    prompts = (f"Name sea {number}." for number in itertools.count())
    rows, last = 0, 0.0
    async with (
        AsyncHoray(**options) as client,
        client.map(prompts, model="loaded", **how_many) as job,
    ):
        begun = time.perf_counter()
        async for row in job:
            if row.error is not None:
                raise row.error
            now = time.perf_counter()
            if now - begun >= seconds:
                break
            rows, last = rows + 1, now
    # To the last row, and not to where the time was over: they come in waves.
    return rows / (last - begun)


def measure(server, slots, options):
    """
    For each setting the median of the rows a second.
    """
    results = {setting: [] for setting in (*options.fixed, ADAPTIVE)}
    for _ in range(options.rounds):
        for setting, paces in results.items():
            server.begin(Load(service=SERVICE, slots=slots))
            pace = asyncio.run(job(server.base_url, setting, options.seconds))
            paces.append(pace)
            peak = server.counts()["peak"]
            print(
                f"{slots:5} slots  {setting:>10}{pace:10.1f} rows a second,"
                f" at most {peak} at once",
                flush=True,
            )
    return {name: statistics.median(paces) for name, paces in results.items()}


def main(words=None):
    """
    Measure, print, and judge.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks.adaptive", description=__doc__
    )
    parser.add_argument("--slots", type=int, nargs="+", default=SLOTS)
    parser.add_argument("--fixed", type=int, nargs="*", default=FIXED)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each job")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if it is not good enough"
    )
    options = parser.parse_args(words)
    print(f"{machine()}\n")
    wrong, lines = [], []
    for slots in options.slots:
        with running() as server:
            paces = measure(server, slots, options)
        ours = paces.pop(ADAPTIVE)
        best = max(paces, key=paces.get, default=None)
        ideal = slots / SERVICE
        line = f"{slots:5} slots, {ideal:.0f} a second:  {ADAPTIVE} {ours:.1f}"
        if best is not None:
            share = ours / paces[best]
            line += f", the best fixed ({best}) {paces[best]:.1f}: {share:.0%}"
            if share < SHARE:
                wrong.append(f"{share:.0%} of the best fixed with {slots} slots")
        lines.append(line)
    print("\nmedians, rows a second")
    print("\n".join(lines))
    leave(wrong, check=options.check)


if __name__ == "__main__":
    main()
