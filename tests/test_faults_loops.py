"""
The faults of connections on the event loops whose sockets or tasks are others.
"""

import asyncio

import pytest

from conftest import ONLY, UVLOOP, eager_loop
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


@pytest.mark.parametrize("mode", ["stream", "plain"])
@pytest.mark.parametrize("loop", ["eager", "uvloop"])
def test_faults_on_other_loops(loop, mode):
    """
    What comes of a broken connection does not depend on the loop.
    """
    if loop not in ONLY:
        pytest.skip("not among the loops of this run")
    if loop == "uvloop":
        if not UVLOOP:
            pytest.skip("no uvloop here")
        factory = pytest.importorskip("uvloop").new_event_loop
    elif not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("eager tasks came with Python 3.12")
    else:
        factory = eager_loop
    cases = [case for name in SAMPLE for case in cases_of(name, mode)]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(play(cases))
