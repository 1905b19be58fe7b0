"""
The promise under every fault: what a stream and a plain call do, held to the table.
"""

import asyncio

import pytest

from fault_table import TABLE, cases_of
from faulting import frugal, play
from horay_async.emulator import FAULTS


MODES = ("stream", "plain")

ABREAST = 5
"""
Faults of which each waits for a clock, and which wait together.
"""


def groups():
    """
    The names of the faults, as they are played: one by one; those that wait, together.
    """
    slow = [
        name
        for name, row in TABLE.items()
        if not row.most and any(getattr(row, mode).clock for mode in MODES)
    ]
    together = [slow[at : at + ABREAST] for at in range(0, len(slow), ABREAST)]
    return [[name] for name in TABLE if name not in slow] + together


@pytest.mark.parametrize("names", groups(), ids="+".join)
def test_faults(names):
    """
    Each ends as the table says, and whatever it is, nothing else suffers.
    """
    cases = [
        [case for name in names for case in cases_of(name, mode)] for mode in MODES
    ]
    if most := TABLE[names[0]].most << 20:
        for measured in cases:
            with frugal(most):
                asyncio.run(play(measured))
    else:
        asyncio.run(play([*cases[0], *cases[1]]))


def test_the_table_is_complete():
    """
    Every fault has its row, and every row its fault.
    """
    assert set(TABLE) == set(FAULTS)


def test_what_is_measured_is_large():
    """
    What has a bound on memory is known to the emulator as large.
    """
    assert all(FAULTS[name].large for name, row in TABLE.items() if row.most)
