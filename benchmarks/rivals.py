"""
Beside openai's client, in the same run: `python -m benchmarks.rivals`.

First three things that happen to streams, each to the very same lines of code with either
client: a server that hangs up in the middle, a reader that leaves by `break` and keeps
the stream object, and a server that sends keep-alive comments and never a token. The
emulator plays the server in this process; what counts is what the client does, and when.

Then processor time, user and system together, of processes that do nothing else: what one
streamed token costs when thousands come at once (the server is a process of its own and
sends them in blocks of 64 KiB), and what the import and a client cost. The ways take
turns, round by round, and the medians are shown; read them as ratios, as a shared
machine's figures move together.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import openai

import horay_async

from benchmarks.burst import OURS, WAYS
from horay_async.emulator import Answer, Emulator


CLIENTS = {"openai": openai.AsyncOpenAI, "horay-async": horay_async.AsyncHoray}

BURST = "-m", "benchmarks.burst"

REQUEST = {
    "model": "scripted",
    "messages": [{"role": "user", "content": "Name three seas."}],
    "stream": True,
}

CUT = Answer.chat("Black", " Sea", ", ", finish=None, done=False)

OPEN = Answer.chat("Black", end="hang", finish=None, done=False)

PINGS = Answer.sse(*[b": ping\n\n", 0.25] * 1000)

# In a process that has imported nothing else but these two.
BEGIN = """
import json, time

begun = time.process_time()
import {module}
moments = [begun, time.process_time()]
clients = []
for _ in range(2):
    clients.append({module}.{make}(base_url="http://127.0.0.1:9/v1", api_key="key"))
    moments.append(time.process_time())
print(json.dumps([later - sooner for sooner, later in zip(moments, moments[1:])]))
"""


# What happens ----------------------------------------------------------------------


async def cut_off(client, server, patience):
    """
    Three tokens, no finish reason, no `[DONE]`, and a clean end of the body.
    """
    server.script(CUT)
    text = ""
    try:
        async for chunk in await client.chat.completions.create(**REQUEST):
            text += chunk.choices[0].delta.content or ""
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is what happens
        had = getattr(getattr(error, "partial", None), "text", None)
        return f"{type(error).__name__}, partial {had!r}"
    return f"ends normally with {text!r}"


async def left_by_break(client, server, patience):
    """
    How soon the server is told, while somebody still holds the stream object.
    """
    server.script(OPEN)
    gone = len(server.disconnects) + 1
    stream = await client.chat.completions.create(**REQUEST)
    async for _ in stream:
        break
    left = time.perf_counter()
    try:
        await server.wait_for_disconnect(gone, timeout=patience)
    except TimeoutError:
        await stream.close()
        await server.wait_for_disconnect(gone)
        return f"not told within {patience:g} s"
    return f"told after {1e3 * (time.perf_counter() - left):.1f} ms"


async def only_pings(client, server, patience):
    """
    When the reader hears that nothing comes: its client was made with `timeout=1`.
    """
    server.script(PINGS)
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(patience) as limit:
            async for _ in await client.chat.completions.create(**REQUEST):
                pass
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is what happens
        if not limit.expired():
            return f"{type(error).__name__} after {time.perf_counter() - begun:.1f} s"
    return f"no error within {patience:g} s"


EVENTS = {
    "cut off after three tokens": cut_off,
    "`break`, the stream still held": left_by_break,
    "pings and no token, timeout=1": only_pings,
}


async def happenings(patience):
    """
    For each event what it is to each client.
    """
    told = {name: {} for name in EVENTS}
    async with Emulator(mode="echo") as server:
        for name, event in EVENTS.items():
            for who, make in CLIENTS.items():
                options = {"base_url": server.base_url, "api_key": "key"}
                async with make(timeout=1, max_retries=0, **options) as client:
                    told[name][who] = await event(client, server, patience)
    return told


# What it costs ---------------------------------------------------------------------


@contextlib.contextmanager
def python(*words):
    """
    A Python process for a while, to talk to by lines.
    """
    with subprocess.Popen(  # noqa: S603 -- our own code
        [sys.executable, *map(str, words)],
        # As installed: with its bytecode, which the first process writes.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def bursts(tokens, rounds):
    """
    Median microseconds a token, by way of reading.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(python(*BURST, "serve", tokens))
        url = server.stdout.readline().strip()
        readers = {
            way: stack.enter_context(python(*BURST, way, url, tokens)) for way in WAYS
        }
        taken = {way: [] for way in WAYS}
        for number in range(rounds + 1):
            for way, reader in readers.items():
                reader.stdin.write("again\n")
                reader.stdin.flush()
                seconds = json.loads(reader.stdout.readline())
                if number:  # the first round warms up
                    taken[way].append(seconds / tokens * 1e6)
    return {way: statistics.median(each) for way, each in taken.items()}


def beginnings(rounds):
    """
    Median milliseconds of the import, the first client and the next: openai's, then ours.
    """
    taken = {name: [] for name in CLIENTS}
    for number in range(rounds + 1):
        for name, make in CLIENTS.items():
            code = BEGIN.format(module=name.replace("-", "_"), make=make.__name__)
            with python("-c", code) as process:
                seconds = json.loads(process.stdout.readline())
            if number:  # the first round writes the bytecode
                taken[name].append([1e3 * part for part in seconds])
    return [
        [statistics.median(column) for column in zip(*each, strict=True)]
        for each in taken.values()
    ]


# The table -------------------------------------------------------------------------


def happened(patience):
    """
    What is so, not how much.
    """
    print(f"{'a stream is …':34}{'openai':38}horay-async")
    for name, told in asyncio.run(happenings(patience)).items():
        print(f"{name:34}{told['openai']:38}{told['horay-async']}")


def cost_of_tokens(tokens, rounds):
    """
    How much, a token.
    """
    print(f"\nprocessor time of one of {tokens} tokens, medians of {rounds} rounds")
    costs = bursts(tokens, rounds)
    for way, cost in costs.items():
        print(f"{way:34}{cost:8.1f} µs{cost / costs[OURS]:8.1f} x")


def cost_to_begin(rounds):
    """
    How much, once.
    """
    print(f"\nprocessor time to begin, medians of {rounds} processes")
    print(f"{'':34}{'openai':>11}{'horay-async':>14}")
    names = "import", "the first client", "the next client"
    for name, theirs, ours in zip(names, *beginnings(rounds), strict=True):
        ratio = theirs / ours
        print(f"{name:34}{theirs:8.1f} ms{ours:11.1f} ms{ratio:8.1f} x")


def main():
    """
    Measure, and print as it comes.
    """
    options = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    options.add_argument("--tokens", type=int, default=10_000, help="in one burst")
    options.add_argument("--rounds", type=int, default=5, help="of what is timed")
    options.add_argument("--patience", type=float, default=5.0, help="in seconds")
    chosen = options.parse_args()

    machine = f"CPython {platform.python_version()}, {platform.machine()}"
    print(f"openai {openai.__version__}, horay-async {horay_async.__version__}")
    print(f"{machine}, {os.cpu_count()} cores; {time.strftime('%B %Y')}\n")
    happened(chosen.patience)
    cost_of_tokens(chosen.tokens, chosen.rounds)
    cost_to_begin(chosen.rounds)


if __name__ == "__main__":
    main()
