"""
A thousand, ten thousand and a hundred thousand prompts through `client.map`, with a journal
and without one: `python -m benchmarks.overnight`.

Each is a process of its own, whose highest memory is the kernel's word and whose processor
time is that of the job alone; the smaller jobs are run again and again, and the medians
are shown. When the journal is complete the job is run once more over it, which asks
nothing. The judge (`--check`) wants memory and time a prompt not to grow with the number.

It reads /proc, so it needs Linux.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from pathlib import Path

from benchmarks._load_server import HOUSE, Load, running
from benchmarks._telling import leave, machine
from horay_async import AsyncHoray


SIZES = 1_000, 10_000, 100_000

MORE_MEMORY = 40.0
"""
MiB that the largest job may need beyond the smallest.
"""

MORE_TIME = 1.15
"""
How much more processor time a prompt of the largest job may take. The smallest has a share
in opening connections that the largest has not, so this is no gift.
"""

LOAD = Load(service=0.01, tokens=60)
"""
Faster than any client with 64 calls at once, so that the client's own time is what counts.
"""


# One job, in a process of its own ----------------------------------------------------


def memory():
    """
    The most that this process ever had, in MiB.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def prompts(rows):
    """
    A source as long as you like, of some 200 bytes each.
    """
    for number in range(rows):
        yield f"Number {number}: which sea is meant? {'It is salty and deep. ' * 8}"


async def job(url, rows, options):
    """
    All prompts, each row looked at and let go.
    """
    async with (
        AsyncHoray(base_url=url, api_key="key") as client,
        client.map(prompts(rows), model="loaded", **options) as job,
    ):
        answered = 0
        async for row in job:
            if row.error is not None:
                raise row.error
            answered += len(row.reply.text) > 0
    return answered


def child(url, rows, options):
    """
    Run one job, and print what it took.
    """
    before = memory()
    begun, cpu = time.perf_counter(), time.process_time()
    answered = asyncio.run(job(url, rows, options))
    taken = {
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "before": before,
        "memory": memory(),
        "answered": answered,
    }
    print(json.dumps(taken))


# All of them -------------------------------------------------------------------------


def run(server, rows, **options):
    """
    One job; what it took, and how many requests the server saw.
    """
    server.begin(LOAD)
    words = json.dumps([server.base_url, rows, options])
    done = subprocess.run(  # noqa: S603 -- our own code
        [sys.executable, "-m", "benchmarks.overnight", "--child", words],
        cwd=HOUSE,
        # As installed: with its bytecode. To compile takes memory of its own.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout) | {"requests": server.counts()["requests"]}


def complete(journal, rows):
    """
    Whether each row stands in the journal once, with its answer.
    """
    seen = bytearray(rows)
    with Path(journal).open("rb") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["response"]["status_code"] == 200 and entry["error"] is None:
                seen[int(entry["custom_id"])] += 1
    return seen.count(1) == rows


def rounds_of(rows, options):
    """
    How often a job of this size is run.
    """
    return max(1, min(options.rounds, options.rounds * SIZES[1] // rows))


class Results:
    """
    What each kind of job took, by its size.
    """

    def __init__(self):
        self.taken = {}
        self.wrong = []

    def note(self, kind, rows, took, asked):
        """
        One more run; so many of its prompts had to be asked.
        """
        self.taken.setdefault((kind, rows), []).append(took)
        if (took["answered"], took["requests"]) != (asked, asked):
            self.wrong.append(
                f"{took['answered']} answers and {took['requests']} requests for"
                f" {asked} prompts to be asked, {kind}"
            )
        self.say(kind, rows, took)

    def say(self, kind, rows, took):
        """
        Print one run.
        """
        print(
            f"{kind:20}{rows:8}{took['seconds']:9.2f} s"
            f"{took['cpu'] / rows * 1e6:8.0f} µs a prompt"
            f"{took['memory']:8.1f} MiB ({took['before']:.1f} before)",
            flush=True,
        )

    def medians(self):
        """
        For each kind and size the median of each fact.
        """
        return {
            key: {
                name: statistics.median(run[name] for run in runs) for name in runs[0]
            }
            for key, runs in self.taken.items()
        }

    def judge(self, sizes):
        """
        What is wrong, in words.
        """
        yield from self.wrong
        medians = self.medians()
        small, large = min(sizes), max(sizes)
        for kind in dict.fromkeys(kind for kind, _ in medians):
            least, most = medians[kind, small], medians[kind, large]
            more = most["memory"] - least["memory"]
            if more > MORE_MEMORY:
                yield f"{more:.1f} MiB more for {large} prompts, {kind}"
            times = (most["cpu"] / large) / (least["cpu"] / small)
            if kind != AGAIN and times > MORE_TIME:
                yield f"{times:.2f} times the processor time a prompt, {kind}"


WITH, WITHOUT, AGAIN = "with a journal", "without", "resumed, all there"


def measure(server, options, folder, results):
    """
    All sizes and kinds, by turns.
    """
    more = {"order": options.order, "stream": options.stream}
    more = {name: value for name, value in more.items() if value}
    for number in range(options.rounds):
        for rows in options.sizes:
            if number >= rounds_of(rows, options):
                continue
            results.note(WITHOUT, rows, run(server, rows, **more), rows)
            if options.without:
                continue
            journal = str(folder / f"{rows}-{number}.jsonl")
            results.note(WITH, rows, run(server, rows, journal=journal, **more), rows)
            if not complete(journal, rows):
                results.wrong.append(f"the journal of {rows} rows is not complete")
            results.note(AGAIN, rows, run(server, rows, journal=journal, **more), 0)
            Path(journal).unlink()


def main(words=None):
    """
    Measure, print, and judge.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks.overnight", description=__doc__
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=3, help="of the smaller sizes")
    parser.add_argument("--order", choices=["done", "input"])
    parser.add_argument("--stream", choices=["rows"], help="ask each as a stream")
    parser.add_argument("--where", help="a directory for the journals")
    parser.add_argument("--without", action="store_true", help="only without journals")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if it is not good enough"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.child:
        child(*json.loads(options.child))
        return
    print(f"{machine()}\n")
    results = Results()
    with running() as server, tempfile.TemporaryDirectory(dir=options.where) as folder:
        measure(server, options, Path(folder), results)
    print("\nmedians")
    for (kind, rows), took in results.medians().items():
        results.say(kind, rows, took)
    leave(list(results.judge(options.sizes)), check=options.check)


if __name__ == "__main__":
    main()
