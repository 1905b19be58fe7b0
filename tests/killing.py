"""
A job that is killed again and again, and what is in its journal when it has ended well.

    python -m tests.killing --rows 2000 --kills 20

A process runs `client.map(..., journal=...)` against a server in this one, which counts. It
gets SIGKILL at random moments, some of them in the compaction, and is started again each
time. Exit code 1: a promise was broken.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time

from collections import Counter
from pathlib import Path

import attrs


HOUSE = Path(__file__).parents[1]

PATIENCE = 120
"""
Seconds that one of the processes may take.
"""


def name(number):
    return f"row-{number}"


def prompt(number):
    return f"prompt {number}"


def answer(said):
    """
    What the server says to a prompt: long enough for a compaction to take some time.
    """
    return f"{said}: {said[::-1]} {'and so on ' * 200}"


# The job, in a process of its own ----------------------------------------------------


async def work(url, journal, rows, concurrency, order):
    """
    One run of the job.
    """
    sys.path.insert(0, str(HOUSE))
    from horay_async import HORAY, AsyncHoray

    requests = ((name(number), prompt(number)) for number in range(rows))
    async with (
        AsyncHoray(service=HORAY, base_url=url, api_key="any") as client,
        client.map(
            requests, concurrency=concurrency, order=order, journal=journal
        ) as job,
    ):
        async for row in job:
            if row.error is not None:
                raise row.error


# The server --------------------------------------------------------------------------


class Server:
    """
    Answers each chat after a short while, and counts.
    """

    def __init__(self, chance):
        self.chance = chance
        self.seen = Counter()
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()

    async def serve(self, reader, writer):
        # Whoever asks is killed at any moment.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.partition(b"content-length:")[2].split()[0])
                body = json.loads(await reader.readexactly(size))
                said = body["messages"][-1]["content"]
                self.seen[said] += 1
                await asyncio.sleep(self.chance.uniform(0.002, 0.04))
                writer.write(self.reply(said))
                await writer.drain()
        writer.close()

    def reply(self, said):
        message = {"role": "assistant", "content": answer(said)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 2, "completion_tokens": 400, "total_tokens": 402}
        body = json.dumps({"id": "c", "choices": [choice], "usage": usage}).encode()
        return (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )


# The killer --------------------------------------------------------------------------


@attrs.define
class Killer:
    """
    Starts the job, and kills it.
    """

    server: Server

    journal: Path

    rows: int

    concurrency: int

    order: str

    chance: random.Random

    kills: int = 0

    in_compaction: int = 0

    answered: dict = attrs.field(factory=dict)
    """
    Rows that had an answer after a kill, and how often they had been asked by then.
    """

    problems: list = attrs.field(factory=list)

    async def run(self, planned):
        """
        Kill it *planned* times, a quarter of them in its compaction, where there is one;
        then let it end.
        """
        late = planned // 4 if self.order == "input" else 0
        marks = [self.chance.randrange(self.rows) for _ in range(planned - late)]
        for mark in sorted(marks):
            if await self.once(self.asked(mark)):
                break
        for _ in range(late):
            if await self.once(self.compacting()):
                return
            self.in_compaction += 1
        while not await self.once(None):
            pass

    async def once(self, moment):
        """
        Run it until *moment*; whether it came to its end before.
        """
        words = [self.server.url, self.journal, self.rows, self.concurrency, self.order]
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--child", *map(str, words)
        )
        ended = asyncio.ensure_future(process.wait())
        waits = {ended}
        if moment is not None:
            waits.add(asyncio.ensure_future(moment))
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            for other in waits - {ended}:
                other.cancel()
            if ended.result():
                msg = f"the job ended with exit code {ended.result()}"
                raise RuntimeError(msg)
            return True
        process.kill()
        await ended
        self.kills += 1
        self.look()
        return False

    async def asked(self, mark):
        """
        A moment soon after the server was asked so often.
        """
        while self.server.seen.total() <= mark:  # noqa: ASYNC110 -- tells nobody
            await asyncio.sleep(0.001)
        await asyncio.sleep(self.chance.uniform(0, 0.02))

    async def compacting(self):
        """
        A moment in the compaction.
        """
        while not list(self.journal.parent.glob("*.horay-tmp")):  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        await asyncio.sleep(self.chance.uniform(0, 0.002))

    def look(self):
        """
        What was answered once stays answered, and is not asked again.
        """
        found = set()
        if self.journal.exists():
            for line in self.journal.read_bytes().split(b"\n"):
                with contextlib.suppress(ValueError):
                    found.add(json.loads(line)["custom_id"])
        if lost := self.answered.keys() - found:
            self.problems.append(f"after kill {self.kills} is lost: {sorted(lost)}")
        for one in found - self.answered.keys():
            self.answered[one] = self.asks(one)

    def asks(self, one):
        return self.server.seen[prompt(one.removeprefix("row-"))]

    def judge(self):
        """
        What is wrong in the end: nothing, or some sentences.
        """
        for one, asks in self.answered.items():
            if self.asks(one) > asks:
                self.problems.append(f"{one} was asked again though it was answered")
        lines = list(map(json.loads, self.journal.read_text("utf-8").splitlines()))
        ids = [line["custom_id"] for line in lines]
        wanted = [name(number) for number in range(self.rows)]
        if (ids if self.order == "input" else sorted(ids)) != (
            wanted if self.order == "input" else sorted(wanted)
        ):
            self.problems.append(
                f"{len(ids)} lines for {len(set(ids))} rows of {self.rows}, or in"
                " another order"
            )
        for line in lines:
            said = prompt(line["custom_id"].removeprefix("row-"))
            body = line["response"]["body"]
            if body["choices"][0]["message"]["content"] != answer(said):
                self.problems.append(f"{line['custom_id']} has another row's answer")
        if self.server.seen.total() > self.bound:
            self.problems.append(
                f"{self.server.seen.total()} requests, more than {self.bound}"
            )
        if left := list(self.journal.parent.glob("*.horay-tmp")):
            self.problems.append(f"left over: {left}")
        return self.problems

    @property
    def bound(self):
        return self.rows + self.kills * self.concurrency


async def kill(rows, kills, *, concurrency=16, order="input", seed=None):
    """
    The whole of it; returns the killer, which knows what came of it.
    """
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder, "answers.jsonl")
        async with Server(chance).running() as server:
            killer = Killer(server, journal, rows, concurrency, order, chance)
            await killer.run(kills)
        killer.judge()
    return killer


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--order", choices=["input", "done"], default="input")
    parser.add_argument("--seed", type=int, default=None)
    options = vars(parser.parse_args())
    options["seed"] = options["seed"] or random.SystemRandom().randrange(1 << 32)
    began = time.monotonic()
    killer = asyncio.run(kill(options.pop("rows"), options.pop("kills"), **options))
    print(  # noqa: T201 -- a command prints
        f"{killer.rows} rows, {killer.kills} kills, {killer.in_compaction} of them in the"
        f" compaction; {killer.server.seen.total()} requests, at most {killer.bound}"
        f" allowed; seed {options['seed']}; {time.monotonic() - began:.1f} s"
    )
    for problem in killer.problems:
        print(problem)  # noqa: T201
    if not killer.problems:
        where = ", in the order of the input" if killer.order == "input" else ""
        print(f"every row is answered once{where}")  # noqa: T201
    return bool(killer.problems)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        url, journal, rows, concurrency, order = sys.argv[2:]
        asyncio.run(work(url, journal, int(rows), int(concurrency), order))
        # What the interpreter does at its end takes longer than some jobs.
        sys.stdout.flush()
        os._exit(0)
    sys.exit(main())
