"""
Many calls at once, at servers with limits of all kinds: by a clock that jumps.
"""

import asyncio

import pytest

from horay_async._governor import Governor
from servers import Bucket, Callers, Crowd, Dice, Outage, Windows, now, play


SEEDS = pytest.mark.parametrize("seed", range(3))


def storm(server, count, **options):
    """
    So many calls at once: seconds, requests, failed calls.
    """
    callers = Callers(Governor(), server, **options)

    async def main():
        return await callers.all(count)

    return play(main), callers.requests, callers.failed


@SEEDS
@pytest.mark.parametrize("asks", [1, None])
def test_a_bucket(asks, seed):
    """
    200 calls at 20 a second, which cannot take less than 9 s: none is lost, and few are
    refused, whether the server asks for a wait or not.
    """
    seconds, requests, failed = storm(Bucket(20, 20, asks=asks), 200, seed=seed)
    assert failed == 0
    assert requests <= 225
    assert 9 <= seconds <= 11


def test_a_small_bucket_that_is_exact():
    """
    Waits of a few milliseconds say nothing of the rate: what the bucket had saved does not
    either.
    """

    class Exact(Bucket):
        async def serve(self):
            refusal = await super().serve()
            return refusal and ((1 - self.level) / self.rate,)

    seconds, requests, failed = storm(Exact(20, 20), 200)
    assert failed == 0
    assert requests <= 225
    assert seconds <= 11


@SEEDS
def test_slow_answers(seed):
    """
    A rate that needs a hundred calls at a time is reached, though the first were refused.
    """
    seconds, requests, failed = storm(Bucket(20, 20, 5.0, 1), 600, seed=seed)
    assert failed == 0
    assert requests <= 640
    assert seconds <= 55


@SEEDS
def test_windows(seed):
    """
    500 in each minute: three windows for 1,500 calls, each used up.
    """
    seconds, _, failed = storm(Windows(500, 60), 1500, seed=seed)
    assert failed == 0
    assert seconds <= 130


@SEEDS
@pytest.mark.parametrize("asks", [1, None])
def test_a_crowd(asks, seed):
    """
    A limit on calls at a time is told from one on calls a second: 20 s is the best.
    """
    seconds, requests, failed = storm(Crowd(50, 1.0, asks), 1000, seed=seed)
    assert failed == 0
    assert requests <= 1060
    assert seconds <= 27


@SEEDS
@pytest.mark.parametrize("asks", [1, None])
def test_an_outage(asks, seed):
    """
    One call asks for all, another each time: the few retries of nobody are used up.
    """
    seconds, requests, failed = storm(Outage(0, 2.5, asks=asks), 60, seed=seed)
    assert failed == 0
    assert requests <= 110
    assert seconds <= 5.5


def test_a_blip():
    """
    On a fast server it is forgotten in seconds: 20,000 calls would take 10 s without.
    """
    governor, server = Governor(), Outage(5, 5.05, 0.1, asks=1)
    callers = Callers(governor, server)

    async def main():
        left = iter(range(20_000))

        async def some():
            for _ in left:
                await callers.call()

        await asyncio.gather(*(some() for _ in range(200)))
        return now()

    assert play(main) < 14
    assert callers.failed == 0


def test_refused_for_ever():
    """
    Each call is told so after all its tries, in minutes and not in hours.
    """
    seconds, requests, failed = storm(Outage(0, float("inf"), asks=60), 200)
    assert failed == 200
    assert requests == 600
    assert seconds < 30 * 60


def test_one_alone_refused_for_ever():
    """
    Nobody else is asked to wait: the two retries come as soon as they would without a gate.
    """
    seconds, requests, failed = storm(Outage(0, float("inf")), 1)
    assert (requests, failed) == (3, 1)
    assert seconds < 2.5


@SEEDS
@pytest.mark.parametrize(("part", "longest"), [(0.0, 4), (0.02, 6), (0.3, 25)])
def test_refused_by_chance(part, longest, seed):
    """
    It costs little more than the refusals themselves; 64 at a time, 10 ms each.
    """
    callers = Callers(Governor(), Dice(part, asks=0), seed=seed)

    async def main():
        left = iter(range(20_000))

        async def some():
            for _ in left:
                await callers.call()

        await asyncio.gather(*(some() for _ in range(64)))
        return now()

    assert play(main) < longest
    assert callers.failed < 20_000 * part**3 * 1.5 + 1


def test_silence_is_consent():
    """
    200 calls of 20 s each do not take three rounds.
    """
    seconds, requests, _ = storm(Outage(0, 0, 20.0), 200)
    assert requests == 200
    assert seconds < 21
