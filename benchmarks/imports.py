"""
What it costs to begin: ``python -m benchmarks.imports``.

Processor time of `import horay_async` against `import aiohttp` alone, each in a process of
its own, taken in turns; then that of the first client, and for how long its first call
keeps the loop from everything else.
"""

import json
import os
import platform
import statistics
import subprocess
import sys


ROUNDS = 15

AIM = 60.0
"""
Milliseconds that ours may cost beyond aiohttp's.
"""

IMPORT = """
import json, time

begun = time.process_time()
import {module}
print(json.dumps([time.process_time() - begun]))
"""

# The emulator answers from a process of its own: what is timed here is ours alone.
FIRST_CALL = """
import asyncio, json, sys, time

from horay_async import AsyncHoray, user

url = sys.argv[1]


async def main():
    loop = asyncio.get_running_loop()
    # A beat a turn of the loop: the longest pause between two is what we kept it waiting.
    longest, running = 0.0, True

    async def beat():
        nonlocal longest
        last = time.perf_counter()
        while running:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    begun = time.process_time()
    client = AsyncHoray(base_url=url, api_key="key")
    made = time.process_time() - begun
    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    pauses = []
    for _ in range(2):
        longest = 0.0
        await client.chat.completions.create(messages=[user("Hello?")], model="{model}")
        pauses.append(longest)
    running = False
    await beating
    await client.close()
    return [made, *pauses]


print(json.dumps(asyncio.run(main())))
"""

SERVER = """
import asyncio

from horay_async.emulator import Emulator


async def main():
    async with Emulator(mode="echo") as server:
        print(server.base_url, flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
"""

MODEL = "meta-llama/Meta-Llama-3.1-8B-Instruct"


def python(code, *arguments):
    """
    What a process of its own prints, in milliseconds.
    """
    done = subprocess.run(  # noqa: S603 -- our own code
        [sys.executable, "-c", code, *arguments],
        check=True,
        # As installed: with its bytecode, which the first process writes.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
    )
    return [seconds * 1000 for seconds in json.loads(done.stdout)]


def imports():
    """
    The medians of aiohttp's import and of ours.
    """
    taken = {"aiohttp": [], "horay_async": []}
    for _ in range(ROUNDS):
        for module, times in taken.items():
            times.extend(python(IMPORT.format(module=module)))
    return [statistics.median(times) for times in taken.values()]


def first_calls():
    """
    The medians of making a client, and of the longest pause in its first and second call.
    """
    server = subprocess.Popen(  # noqa: S603 -- our own code
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    )
    try:
        url = server.stdout.readline().strip()
        code = FIRST_CALL.replace("{model}", MODEL)
        rounds = [python(code, url) for _ in range(ROUNDS)]
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def main():
    """
    Print a Markdown table; fail if the aim is missed.
    """
    theirs, ours = imports()
    made, first, second = first_calls()
    machine = f"CPython {platform.python_version()}, {platform.machine()}"
    out = [
        f"{machine}; medians of {ROUNDS} processes, in turns",
        "",
        "| what | ms |",
        "| --- | ---: |",
        f"| `import aiohttp`, processor time | {theirs:.1f} |",
        f"| `import horay_async`, processor time | {ours:.1f} |",
        f"| the difference (aim: at most {AIM:.0f}) | {ours - theirs:.1f} |",
        f"| the first `AsyncHoray(...)`, processor time | {made:.1f} |",
        f"| the first call: longest turn of the loop | {first:.1f} |",
        f"| the second call: longest turn of the loop | {second:.1f} |",
    ]
    sys.stdout.write("\n".join(out) + "\n")
    return int(ours - theirs > AIM)


if __name__ == "__main__":
    sys.exit(main())
