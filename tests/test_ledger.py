"""
What a job has used and may use: sums, estimates, and who waits for whom.
"""

import asyncio
import random

import pytest

from horay_async import BudgetExceededError, ConfigurationError, Usage
from horay_async.many._ledger import Ledger
from horay_async.many._money import ANY, Budget, Price
from loopback import soon


# A prompt of so many bytes is estimated at 8 + 80 / 4 * 1.25 tokens.
BYTES, PROMPT = 80, 33


def used(prompt, completion, source="server", **extra):
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, source=source, extra=extra
    )


def within(**limits):
    return Ledger(Budget(**limits), {ANY: Price(1, 2)})


async def reserve(ledger, max_tokens=None, **call):
    return await ledger.reserve(
        **{"prompt_bytes": BYTES, "max_tokens": max_tokens, **call}
    )


async def begun(task):
    """
    Let a task run until it waits.
    """
    task = asyncio.ensure_future(task)
    await asyncio.sleep(0)
    return task


async def until_over(ledger, max_tokens=None, usage=None):
    """
    One call after the other until no more are allowed: how many there were.
    """
    calls = 0
    while ledger.why is None:
        try:
            reservation = await reserve(ledger, max_tokens)
        except BudgetExceededError:
            break
        reservation.settle(usage)
        calls += 1
    return calls


# Counting ----------------------------------------------------------------------------


async def test_without_a_budget():
    """
    Everything may be sent, and all of it is counted.
    """
    ledger = Ledger()
    several = [await soon(reserve(ledger, 10**9)) for _ in range(5)]
    for one in several:
        one.settle(used(10, 3, prompt_tokens_details={"cached_tokens": 4}))
    assert (ledger.prompt_tokens, ledger.completion_tokens) == (50, 15)
    assert ledger.cached_tokens == 20
    assert (ledger.cost, ledger.unpriced, ledger.why) == (None, 0, None)


async def test_cost():
    """
    By the name in the request, else the reply's, else the price for all others.
    """
    prices = {"small": Price(1, 2, cached=0), "large": Price(10, 20)}
    ledger = Ledger(prices=prices)
    for asked, answered, cost in (
        ("small", "large", 1 * 80 + 2 * 50),
        ("other", "large", 10 * 100 + 20 * 50),
        (None, "small", 1 * 80 + 2 * 50),
        ("other", "another", 0),
        (None, None, 0),
    ):
        before = ledger.cost
        reservation = await reserve(ledger, model=asked)
        reservation.settle(
            used(100, 50, prompt_tokens_details={"cached_tokens": 20}), answered
        )
        assert (ledger.cost - before) * 1e6 == pytest.approx(cost)
    assert ledger.unpriced == 2

    ledger = Ledger(prices={**prices, ANY: Price(3, 3)})
    (await reserve(ledger, model="other")).settle(used(100, 50), "another")
    assert (ledger.cost, ledger.unpriced) == (450e-6, 0)


async def test_settled_twice():
    """
    Whoever is not sure settles once more.
    """
    ledger = within(tokens=10_000)
    first, second = [await reserve(ledger, 100) for _ in range(2)]
    first.settle(used(10, 5))
    first.settle(used(99, 99))
    first.settle()
    assert (ledger.prompt_tokens, ledger._under_way) == (10, 1)
    second.settle()
    assert (ledger.prompt_tokens, ledger._under_way, ledger._reserved) == (10, 0, 0)


# The budget --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_never_over(seed):
    """
    With max_tokens set no sum goes over the budget, whatever is under way together, and
    what is left at the end is less than another call may use.
    """
    dice = random.Random(seed)
    ledger = within(tokens=20_000)
    most = 100

    async def calls():
        while True:
            reservation = await reserve(ledger, most)
            for _ in range(dice.randrange(5)):
                await asyncio.sleep(0)
            usage = used(PROMPT - 8, dice.randrange(most + 1))
            reservation.settle(dice.choice([usage, usage, None]))

    tasks = [asyncio.ensure_future(calls()) for _ in range(16)]
    ends = await soon(asyncio.gather(*tasks, return_exceptions=True))
    assert {type(end) for end in ends} == {BudgetExceededError}
    spent = ledger.prompt_tokens + ledger.completion_tokens
    assert 20_000 - 2 * (PROMPT + most) < spent <= 20_000
    assert (ledger._under_way, ledger._reserved, len(ledger._waiting)) == (0, 0, 0)


async def test_waits_for_what_is_under_way():
    """
    A call that fits only without the others waits: they may use less than they might. It
    is not refused, and those who asked first go first.
    """
    ledger = within(tokens=2 * (PROMPT + 100))
    first, second = [await reserve(ledger, 100) for _ in range(2)]
    large = await begun(reserve(ledger, 150))
    small = await begun(reserve(ledger, 1))
    first.settle(used(25, 3))
    await asyncio.sleep(0)
    # Less is known to be needed for the prompt now, but 2 * 133 - 28 - 133 is not enough.
    assert not large.done()
    assert not small.done()
    second.settle(used(25, 3))
    assert (await soon(large)).tokens > 150
    large.result().settle()
    (await soon(small)).settle()
    assert ledger.why is None


async def test_the_end():
    """
    Whoever waits when nothing fits any more hears of it, and so does all that comes later,
    however small: a job that is over its budget is over.
    """
    ledger = within(tokens=200)
    first = await reserve(ledger, 100)
    waiting = [await begun(reserve(ledger, most)) for most in (150, 1)]
    first.settle(used(25, 90))
    for task in waiting:
        with pytest.raises(BudgetExceededError) as caught:
            await soon(task)
        assert str(caught.value) == ledger.why
    assert ledger.why == (
        "the budget of 200 tokens is used up: 115 used, and the next call may use 190"
    )
    with pytest.raises(BudgetExceededError):
        await soon(reserve(ledger, 1))


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (
            {"tokens": 100},
            "100 tokens is too small for a single call: the first may use 133",
        ),
        (
            {"cost": 0.0002},
            "0.0002 is too small for a single call: the first may use 0.000233",
        ),
    ],
)
async def test_too_small(limits, why):
    """
    A budget below a single call sends nothing, and says what it would have needed.
    """
    with pytest.raises(BudgetExceededError) as caught:
        await soon(reserve(within(**limits), 100))
    assert str(caught.value) == f"the budget of {why}"


async def test_choices():
    """
    Each of the choices may be as long.
    """
    ledger = within(tokens=10_000)
    assert (await reserve(ledger, 100, choices=5)).tokens == PROMPT + 500


async def test_budget_in_money():
    """
    Prompt and answer at their prices; the sum stays within, to the last call that fits.
    """
    one = (PROMPT * 1 + 100 * 2) / 1e6
    ledger = within(cost=one * 10)
    several = [await soon(reserve(ledger, 100)) for _ in range(10)]
    next_one = await begun(reserve(ledger, 100))
    assert not next_one.done()
    for reservation in several:
        reservation.settle(used(PROMPT, 100))
    with pytest.raises(BudgetExceededError, match=r"0\.00233 used, and the next call"):
        await soon(next_one)
    assert ledger.cost == pytest.approx(one * 10)


async def test_both():
    """
    Whichever is reached first ends it.
    """
    usage = used(25, 100)
    assert await until_over(within(tokens=1000, cost=1), 100, usage) == 7
    assert await until_over(within(tokens=10**6, cost=0.001), 100, usage) == 4


async def test_no_price_for_the_model():
    """
    A budget in money cannot hold what it cannot count: nothing is sent.
    """
    ledger = Ledger(Budget(cost=1), {"small": Price(1, 2), "large": Price(3, 4)})
    ledger.check("small")
    with pytest.raises(ConfigurationError) as caught:
        ledger.check("other")
    assert str(caught.value) == (
        "a budget in cost needs a price for 'other': prices names 'small', 'large';"
        " '*' would stand for all others"
    )
    with pytest.raises(ConfigurationError, match="a model that has no name"):
        await reserve(ledger, model=None)
    assert ledger.why is None
    # A budget in tokens needs no prices.
    ledger = Ledger(Budget(tokens=1000), {"small": Price(1, 2)})
    (await reserve(ledger, 1, model="other")).settle(used(25, 1))
    assert (ledger.cost, ledger.unpriced) == (0, 1)
    within(cost=1).check("other")


@pytest.mark.parametrize("prices", [None, {}])
def test_no_prices_at_all(prices):
    """
    Said before there is anything to ask.
    """
    with pytest.raises(ConfigurationError, match="a budget in cost needs prices"):
        Ledger(Budget(cost=5), prices)


# Estimates ---------------------------------------------------------------------------


async def test_prompts():
    """
    At first four bytes a token; then what prompts have used, with a quarter on top.
    """
    ledger = within(tokens=10**6)
    first = await reserve(ledger, 0, prompt_bytes=4000)
    assert first.tokens == 8 + 1250
    first.settle(used(2000, 0))
    assert (await reserve(ledger, 0, prompt_bytes=4000)).tokens == 8 + 2500


async def test_answers_of_unknown_length():
    """
    Without max_tokens: twice the mean of those before.
    """
    ledger = within(tokens=10**6)
    first = await reserve(ledger)
    assert first.tokens == PROMPT + 1000
    first.settle(used(PROMPT - 8, 30))
    (await reserve(ledger)).settle(used(PROMPT - 8, 50))
    # A request for three is as long as three.
    (await reserve(ledger, choices=3)).settle(used(PROMPT - 8, 120))
    assert (await reserve(ledger, 0)).tokens == 8 + 32
    assert (await reserve(ledger)).tokens == 8 + 32 + 2 * 40


async def test_one_has_to_be_the_first():
    """
    A small budget sends one call whose length nobody knows, and learns from it.
    """
    ledger = within(tokens=500)
    first = await soon(reserve(ledger))
    second = await begun(reserve(ledger))
    assert not second.done()
    first.settle(used(25, 10))
    (await soon(second)).settle(used(25, 10))
    assert 9 < await until_over(ledger, usage=used(25, 10)) <= 12
    assert ledger.prompt_tokens + ledger.completion_tokens <= 500


async def test_nobody_counts():
    """
    Where the server counts nothing the estimates are taken: such a job ends as well.
    """
    ledger = within(tokens=5 * (PROMPT + 100))
    assert await until_over(ledger, 100, Usage(source="none")) == 5
    assert (ledger.prompt_tokens, ledger.completion_tokens) == (0, 0)
    # Refused calls cost nothing.
    ledger = within(tokens=PROMPT + 100)
    for _ in range(50):
        (await soon(reserve(ledger, 100))).settle()
    assert ledger.why is None


async def test_more_than_was_allowed():
    """
    A server that ignores max_tokens takes a job over its budget, and ends it.
    """
    ledger = within(tokens=1000)
    (await reserve(ledger, 10)).settle(used(25, 5000))
    with pytest.raises(BudgetExceededError, match="5025 used"):
        await soon(reserve(ledger, 10))


# Cancelling --------------------------------------------------------------------------


async def test_cancelled_waiters():
    """
    Whoever gives up lets those behind go, and takes nothing along.
    """
    ledger = within(tokens=300)
    first = await reserve(ledger, 100)
    large = await begun(reserve(ledger, 200))
    small = await begun(reserve(ledger, 100))
    late = await begun(reserve(ledger, 50))
    late.cancel()
    large.cancel()
    (await soon(small)).settle()
    with pytest.raises(asyncio.CancelledError):
        await soon(large)
    first.settle()
    assert (ledger._under_way, ledger._reserved) == (0, 0)
    (await soon(reserve(ledger, 200))).settle()
    assert not ledger._waiting


async def test_cancelled_as_it_came():
    """
    Given and cancelled in the same turn of the loop: it is given back.
    """
    ledger = within(tokens=200)
    first = await reserve(ledger, 150)
    second = await begun(reserve(ledger, 150))
    first.settle()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(second)
    assert (ledger._under_way, ledger._reserved) == (0, 0)


async def test_cancelled_at_the_end():
    """
    The end and a cancellation in one turn: the cancellation passes.
    """
    ledger = within(tokens=200)
    first = await reserve(ledger, 150)
    second = await begun(reserve(ledger, 150))
    first.settle(used(25, 150))
    assert ledger.why is not None
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(second)
