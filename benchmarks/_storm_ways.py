"""
What `benchmarks.cancel_storm` cancels: calls, streams, jobs, fan-outs, races, hedges.
"""

import itertools
import tempfile

from pathlib import Path

from horay_async import ChatRequest, Conversation


MODELS = itertools.cycle([f"loaded-{number}" for number in range(20)])
"""
Many, because those of one model share a gate, which a refusal closes for all of them.
"""

FOLDERS = []
"""
Where journals are; a job that is cancelled twice may end before its thread does.
"""

JOURNAL = "run.jsonl"


def hello():
    """
    What is asked.
    """
    messages = [{"role": "user", "content": "Name the seas."}]
    return {"model": next(MODELS), "messages": messages}


async def call(client):
    """
    A plain one.
    """
    await client.chat.completions.create(**hello())


async def stream(client):
    """
    Read to its end.
    """
    async with client.chat.completions.stream(**hello()) as stream:
        async for _ in stream:
            pass


async def bare_stream(client):
    """
    Without `async with`.
    """
    async for _ in await client.chat.completions.create(**hello(), stream=True):
        pass


async def left_stream(client):
    """
    Left after a token: what is cancelled then is its end.
    """
    async with client.chat.completions.stream(**hello()) as stream:
        async for _ in stream:
            break


def items():
    """
    What jobs are made of.
    """
    yield "Name the seas."
    yield "name", ChatRequest(**hello())
    yield Conversation(opening="Name a sea.", follow_ups=["Name another."])
    yield from map(str, range(3))


async def rows(client):
    """
    A job, to its end.
    """
    async with client.map(items(), model=next(MODELS), concurrency=3) as job:
        async for _ in job:
            pass


async def left_rows(client):
    """
    A job whose reader leaves after a row.
    """
    async with client.map(
        items(), model=next(MODELS), concurrency=3, order="input"
    ) as job:
        async for _ in job:
            break


async def row_tokens(client):
    """
    A job whose tokens are read as they come.
    """
    given = {"model": next(MODELS), "concurrency": 3, "stream": True}
    async with client.map(items(), **given) as job:
        async for _ in job:
            pass


async def journaled(client):
    """
    A job with a journal: a file, a lock and a thread of its own.
    """
    FOLDERS.append(tempfile.mkdtemp())
    given = {"model": next(MODELS), "concurrency": 3}
    journal = Path(FOLDERS[-1], JOURNAL)
    async with client.map(items(), **given, journal=journal) as job:
        async for _ in job:
            pass


async def fan_out(client):
    """
    As many calls as choices: the server gives one at a time.
    """
    await client.fan_out(**hello(), n=4)


async def first_choice(client):
    """
    The others are cancelled by the fan-out itself.
    """
    await client.fan_out(**hello(), n=4).first(lambda _: True)


async def choice_tokens(client):
    """
    The tokens of all choices.
    """
    async with client.fan_out(**hello(), n=4, stream=True) as choices:
        async for _ in choices:
            pass


async def race(client):
    """
    Its losers are cancelled by the race itself.
    """
    async with client.race([ChatRequest(**hello()) for _ in range(3)]) as stream:
        async for _ in stream:
            pass


async def hedge(client):
    """
    A second call as often as not.
    """
    await client.hedge(**hello(), after=0.01, at_most=1.0)


WAYS = {
    call: 4,
    stream: 4,
    bare_stream: 2,
    left_stream: 1,
    rows: 1,
    left_rows: 1,
    row_tokens: 1,
    journaled: 1,
    fan_out: 1,
    first_choice: 1,
    choice_tokens: 1,
    race: 1,
    hedge: 1,
}
"""
And how often each is gone.
"""
