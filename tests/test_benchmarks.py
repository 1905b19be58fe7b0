"""
The benchmarks of many prompts: what their server does, what their judges say, and that each
command runs.

What they measure is judged where nothing else runs, and not here.
"""

import asyncio
import http.client
import json

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from horay_async import AsyncHoray, Outcome, RateLimitError


HOUSE = Path(__file__).parents[1]

HELLO = {"model": "loaded", "messages": [{"role": "user", "content": "Name a sea."}]}


@pytest.fixture(scope="module", autouse=True)
def _found():
    """
    Where its modules are found, however pytest was started.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HOUSE)
        yield


@pytest.fixture(scope="module")
def process():
    """
    One server for all.
    """
    from benchmarks._load_server import running

    with running() as server:
        yield server


@pytest.fixture
def load(process):
    """
    Make it another kind of server.
    """
    from benchmarks._load_server import Load

    def begin(**options):
        process.begin(Load(**{"service": 0.0} | options))
        return process

    return begin


def ask(server, *, times=1):
    """
    Ask on one connection: (status, headers) of each answer.
    """
    connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc)
    told = []
    for _ in range(times):
        connection.request("POST", "/v1/chat/completions", json.dumps(HELLO))
        answer = connection.getresponse()
        answer.read()
        told.append((answer.status, dict(answer.getheaders())))
    connection.close()
    return told


# Limits ------------------------------------------------------------------------------


def test_bucket():
    """
    As many at once as it holds, then as many a second as run into it.
    """
    from benchmarks._load_server import Bucket

    bucket = Bucket(rate=10, burst=3, now=0.0)
    assert [bucket.wait(0.0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]
    assert bucket.wait(0.05) == pytest.approx(0.05)
    assert bucket.wait(0.1) == 0
    assert bucket.told(0.1) == (3, 0, pytest.approx(0.3))
    assert [bucket.wait(99) for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]


def test_windows():
    """
    So many in each, and none is carried over.
    """
    from benchmarks._load_server import Windows

    windows = Windows(limit=2, seconds=4, now=1.0)
    assert [windows.wait(1.0) for _ in range(3)] == [0, 0, 4]
    assert windows.told(2.0) == (2, 0, 3)
    assert windows.wait(4.5) == 0.5
    assert [windows.wait(14.0) for _ in range(3)] == [0, 0, 3]


# The server --------------------------------------------------------------------------


async def test_answers(load):
    """
    Plain and streamed, as any server's.
    """
    server = await asyncio.to_thread(load, tokens=3, pace=0.001)
    async with AsyncHoray(base_url=server.base_url, api_key="key") as client:
        reply = await client.chat.completions.create(**HELLO)
        async with client.chat.completions.stream(**HELLO) as stream:
            texts = [token.text async for token in stream]
    assert (reply.text, reply.usage.total_tokens) == (" sea sea sea", 12)
    assert texts == [" sea"] * 3
    assert (stream.outcome, stream.reply.usage.completion_tokens) == (
        Outcome.FINISHED,
        3,
    )
    counts = await asyncio.to_thread(server.counts)
    assert (counts["requests"], counts["answered"], counts["in_flight"]) == (2, 2, 0)


def test_bucket_on_the_wire(load):
    """
    Who comes too soon is told when to come again, in whole seconds.
    """
    server = load(rate=0.5, burst=1)
    (first, _), (second, headers) = ask(server, times=2)
    assert (first, second) == (200, 429)
    assert headers["retry-after"] == "2"
    counts = server.counts()
    assert (counts["requests"], counts["answered"], counts["refused"]) == (2, 1, 1)


def test_windows_on_the_wire(load):
    """
    The same, and what is left is told beforehand.
    """
    server = load(window=60, limit=2, headers=True, retry_after=False)
    (_, first), (_, second), (status, third) = ask(server, times=3)
    assert first["x-ratelimit-limit-requests"] == "2"
    assert first["x-ratelimit-remaining-requests"] == "1"
    assert second["x-ratelimit-remaining-requests"] == "0"
    assert status == 429
    assert "retry-after" not in third


def test_outage(load):
    """
    All are refused, from the first request on.
    """
    [(status, headers)] = ask(load(outage=(0.0, 60.0), status=503))
    assert (status, headers["retry-after"]) == (503, "60")


async def test_slots(load):
    """
    Who finds no slot waits; who leaves gives his up, served or not.
    """
    server = await asyncio.to_thread(load, service=60.0, slots=1)
    async with AsyncHoray(base_url=server.base_url, api_key="key") as client:
        create = client.chat.completions.create
        tasks = [asyncio.create_task(create(**HELLO)) for _ in range(3)]
        await until(server, requests=3, in_flight=3, peak=3)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(server, left=3, in_flight=0)


async def test_at_once(load):
    """
    Who finds too many is refused.
    """
    server = await asyncio.to_thread(load, service=60.0, at_once=1)
    async with AsyncHoray(
        base_url=server.base_url, api_key="key", max_retries=0
    ) as client:
        create = client.chat.completions.create
        task = asyncio.create_task(create(**HELLO))
        await until(server, in_flight=1)
        with pytest.raises(RateLimitError):
            await create(**HELLO)
        task.cancel()
        await asyncio.wait([task])


async def until(server, **expected):
    """
    Wait until the server counts so many.
    """
    from benchmarks.soak import settled

    seen = await settled(
        lambda: asyncio.to_thread(server.counts),
        lambda counts: expected.items() <= counts.items(),
    )
    assert expected.items() <= seen.items()


# Judges ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rounds", "wrong"),
    [
        ([(230, 11.5, 0), (200, 9.0, 0)], []),
        ([(200, 9.0, 0), (231, 9.0, 0)], ["231 requests; at most 230 are allowed"]),
        ([(200, 11.6, 0)], ["11.60 s; at most 11.5 s are allowed"]),
        ([(200, 9.0, 1)], ["1 calls failed; none may"]),
    ],
)
def test_judge_of_the_storm(rounds, wrong):
    from benchmarks.storm import judge

    assert list(judge(rounds)) == wrong


@pytest.mark.parametrize(
    ("memory", "cpu", "requests", "wrong"),
    [
        (90.0, 11.4, 100, []),
        (90.1, 11.4, 100, ["40.1 MiB more for 100 prompts"]),
        (90.0, 11.6, 100, ["1.16 times the processor time"]),
        (90.0, 11.4, 101, ["100 answers and 101 requests for 100 prompts"]),
    ],
)
def test_judge_of_the_night(memory, cpu, requests, wrong):
    from benchmarks.overnight import WITHOUT, Results

    results = Results()
    small = {"seconds": 1.0, "cpu": 1.0, "before": 40.0, "memory": 50.0}
    results.note(WITHOUT, 10, small | {"answered": 10, "requests": 10}, 10)
    large = small | {"cpu": cpu, "memory": memory, "answered": 100}
    results.note(WITHOUT, 100, large | {"requests": requests}, 100)
    told = list(results.judge([10, 100]))
    assert len(told) == len(wrong)
    assert all(each in words for each, words in zip(wrong, told, strict=True))


def test_judge_of_the_mixture():
    from benchmarks.mixed import FILLED, IDLE, PACED, Seconds, judge

    def seconds(*, plain=0.2, first=0.2):
        return Seconds(plain=[plain] * 20, first=[first] * 20, streamed=[0.3] * 20)

    taken = {IDLE: seconds(), PACED: seconds(plain=0.29), FILLED: seconds()}
    assert list(judge(taken, {PACED: 0.5, FILLED: 0.5})) == []
    taken[FILLED] = seconds(first=0.31)
    told = list(judge(taken, {PACED: 0.6, FILLED: 0.5}))
    assert "60% of a core" in told[0]
    assert "1.55 times the idle client's" in told[1]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 10), (0.95, 19), (0.99, 20), (0.0, 1)]
)
def test_quantile(share, expected):
    from benchmarks._telling import quantile

    assert quantile(range(20, 0, -1), share) == expected


@pytest.mark.parametrize(
    ("wrong", "check", "code"), [([], True, 0), (["bad"], True, 1), (["bad"], False, 0)]
)
def test_the_exit_code(wrong, check, code):
    from benchmarks._telling import leave

    with pytest.raises(SystemExit) as left:
        leave(wrong, check=check)
    assert int(left.value.code) == code


# Commands ----------------------------------------------------------------------------


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("storm", "--kind none --calls 5 --rounds 1", "5 requests"),
        ("overnight", "--sizes 20 --rounds 1", "resumed, all there"),
        ("adaptive", "--slots 10 --fixed 8 --seconds 0.6 --rounds 1", "Adaptive()"),
        ("mixed", "--rows 50 --seconds 0.3 --rounds 1", "p50, p95, p99"),
        ("cancel_storm", "--tasks 50 --seed 1", "50 cancelled"),
    ],
)
def test_command(capsys, name, words, told):
    """
    It runs to its end, and prints what it found.
    """
    import importlib

    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as left:
        module.main(words.split())
    assert not left.value.code
    assert told in capsys.readouterr().out
