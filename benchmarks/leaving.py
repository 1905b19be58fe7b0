"""
How long the server waits for the news that its reader has left: `python -m benchmarks.leaving`.

For each way of leaving a stream early, the milliseconds from the reader's last act to the
moment when the emulator, on the same loop and over a real loopback socket, sees its client
gone. The aim is below 10.
"""

import asyncio
import contextlib
import statistics
import time

from horay_async import HORAY, AsyncHoray, StreamAbortedError, user
from horay_async.emulator import Answer, Emulator


ROUNDS = 50
HELLO = [user("hello")]


async def break_in_async_with(client):
    """
    `break`, and the end of the block.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        async for _ in stream:
            left = time.perf_counter()
            break
    return left


async def bare_break(client):
    """
    `break` out of a loop over a stream that nobody else closes.
    """
    async for _ in client.chat.completions.stream(messages=HELLO):
        left = time.perf_counter()
        break
    return left


async def exception(client):
    """
    An exception in the body.
    """
    with contextlib.suppress(KeyError):
        async with client.chat.completions.stream(messages=HELLO) as stream:
            async for _ in stream:
                left = time.perf_counter()
                raise KeyError
    return left


async def abort(client):
    """
    `abort` while another task waits for a token.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        tokens = stream.__aiter__()
        await anext(tokens)
        reader = asyncio.create_task(anext(tokens))
        await asyncio.sleep(0)
        left = time.perf_counter()
        stream.abort("stopped")
        try:
            await reader
        except StreamAbortedError:
            return left


async def cancellation(client):
    """
    `task.cancel()` while it waits for a token.
    """
    started = asyncio.Event()

    async def read():
        async with client.chat.completions.stream(messages=HELLO) as stream:
            async for _ in stream:
                started.set()

    task = asyncio.create_task(read())
    await started.wait()
    left = time.perf_counter()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return left


WAYS = {
    "break inside async with": break_in_async_with,
    "bare for ... break": bare_break,
    "exception in the body": exception,
    "abort() from another task": abort,
    "cancellation": cancellation,
}


async def main():
    """
    Print a row for each way.
    """
    print(f"{ROUNDS} rounds each{'':13}{'median ms':>10}{'worst ms':>10}")
    async with (
        Emulator(mode="echo") as server,
        AsyncHoray(
            service=HORAY, base_url=server.base_url, api_key="benchmark"
        ) as client,
    ):
        seen = 0
        times = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, leave in WAYS.items():
                server.script(Answer.chat("word", end="hang", done=False, finish=None))
                left = await leave(client)
                seen += 1
                await server.wait_for_disconnect(seen)
                times[name].append(1e3 * (time.perf_counter() - left))
    for name, each in times.items():
        print(f"{name:28}{statistics.median(each):10.2f}{max(each):10.2f}")


if __name__ == "__main__":
    asyncio.run(main())
