"""
Hypothesis against the fuzzer's targets: a few inputs in every run, many with `-m fuzz`.
"""

import random

import pytest

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing.mutation import Mutator
from fuzzing.promises import HEAD
from fuzzing.targets import TARGETS


PURE = [name for name in TARGETS if name != "socket"]

HEADS = st.binary(min_size=HEAD, max_size=HEAD)


@st.composite
def inputs(draw, target):
    """
    Any bytes, or some steps away from what servers send, with any options.
    """
    if not draw(st.integers(0, 3)):
        return draw(HEADS) + draw(st.binary(max_size=200))
    data = draw(HEADS) + draw(st.sampled_from(target.wires))
    mutator = Mutator(random.Random(draw(st.integers(0, 2**32))), target.seeds)
    for _ in range(draw(st.integers(1, 3))):
        data = mutator.mutate(data)
    return data


def try_some(name, examples, *, derandomize):
    """
    So many inputs against one target.
    """
    target = TARGETS[name]

    @settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target))
    def keeps_its_promises(data):
        target.check(data)

    keeps_its_promises()


@pytest.fixture(autouse=True)
def _close():
    yield
    for target in TARGETS.values():
        target.close()


@pytest.mark.parametrize("name", PURE)
def test_seeds(name):
    """
    What the searches begin from breaks nothing.
    """
    for data in TARGETS[name].seeds:
        TARGETS[name].check(data)


def test_socket_seeds():
    """
    Over real sockets too. It is one test, as they share a client.
    """
    for data in TARGETS["socket"].seeds:
        TARGETS["socket"].check(data)


@pytest.mark.parametrize("name", PURE)
def test_some_inputs(name):
    """
    The same few in every run.
    """
    try_some(name, 150, derandomize=True)


@pytest.mark.fuzz
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", PURE)
def test_many_inputs(name):
    """
    Others each time.
    """
    try_some(name, 20_000, derandomize=False)


@pytest.mark.fuzz
@pytest.mark.timeout(0)
def test_many_answers():
    """
    Over real sockets.
    """
    try_some("socket", 3_000, derandomize=False)
