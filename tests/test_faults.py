"""
The promise under every fault: what a stream and a plain call do, held to the table.
"""

import asyncio
import contextlib

import pytest

from fault_table import TABLE, WRONG, cases_of, faults
from faulting import frugal, play
from horay_async.emulator import FAULTS


MODES = ("stream", "plain")


def every(mode):
    """
    All faults as parameters.
    """
    for fault in faults():
        why = WRONG.get((fault.name, mode))
        marks = pytest.mark.xfail(strict=True, reason=why) if why else ()
        name = fault.name
        yield pytest.param(name, mode, marks=marks, id=f"{name}-{mode}")


@pytest.mark.parametrize(
    ("name", "mode"), [param for mode in MODES for param in every(mode)]
)
def test_faults(name, mode):
    """
    Each ends as the table says, and whatever it is, nothing else suffers.
    """
    most = TABLE[name].most << 20
    with frugal(most) if most else contextlib.nullcontext():
        asyncio.run(play(cases_of(name, mode)))


def test_the_table_is_complete():
    """
    Every fault has its row, and every row its fault.
    """
    assert set(TABLE) == set(FAULTS)
