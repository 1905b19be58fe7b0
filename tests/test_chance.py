"""
Whether refusals show a limit, or come by chance.
"""

import random

import pytest

from horay_async._chance import Chance


def clusters(chance, part, calls=5000, seed=1):
    """
    In how many calls' time the refusals of a part make a cluster; None: not at all.
    """
    dice = random.Random(seed)
    for call in range(calls):
        if dice.random() >= part:
            chance.taken()
        elif chance.refused():
            return call
    return None


def test_nothing_but_refusals():
    """
    The fifth shows a limit, and then it begins anew.
    """
    chance = Chance()
    assert [chance.refused() for _ in range(10)] == 2 * [*4 * [False], True]


@pytest.mark.parametrize("seed", range(5))
def test_a_part(seed):
    """
    A small one shows no limit, a larger one does before long.
    """
    assert clusters(Chance(), 0.02, seed=seed) is None
    assert clusters(Chance(), 0.3, seed=seed) < 150


@pytest.mark.parametrize("seed", range(5))
def test_a_part_that_is_borne(seed):
    """
    It is what is usual: more than that shows a limit.
    """
    chance = Chance()
    chance.borne = 0.3
    assert clusters(chance, 0.3, 1000, seed) is None
    assert clusters(chance, 0.9, seed=seed) < 50
