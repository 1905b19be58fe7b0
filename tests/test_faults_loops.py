"""
The faults of connections on the event loops whose sockets or tasks are others.
"""

import asyncio

import pytest

from conftest import LOOPS, ONLY, UVLOOP, eager_loop
from fault_table import cases_of
from faulting import play


SAMPLE = (
    "reset-at-accept",
    "hang-at-accept",
    "reset-before-headers",
    "close-in-headers",
    "hang-after-headers",
    "reset-after-headers",
    "reset-mid-chunk",
    "close-mid-stream",
    "hang-mid-stream",
    "hang-after-done",
    "reset-after-done",
    "slow-body",
    "pings-mid-stream",
    "stale-connection",
    "stale-reset",
    "stray-bytes",
    "stray-bytes-late",
    "early-413",
    "early-413-reset",
    "truncated-chunked",
    "bad-chunk-size",
    "malformed-status-line",
    "continue-100-many",
)


# Those that this Python has and this run asks for.
OTHERS = [loop for loop in [*LOOPS, *UVLOOP] if loop in ONLY and loop != "plain"]


@pytest.mark.parametrize("mode", ["stream", "plain"])
@pytest.mark.parametrize("loop", OTHERS or ["plain"])
def test_faults_on_other_loops(loop, mode):
    """
    What comes of a broken connection does not depend on the loop.
    """
    factory = eager_loop if loop == "eager" else asyncio.new_event_loop
    if loop == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    cases = [case for name in SAMPLE for case in cases_of(name, mode)]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(play(cases))
