"""
The soak, for seconds in place of minutes; and that it would see what it looks for.
"""

import asyncio
import gc
import re
import socket
import warnings

from pathlib import Path

import pytest

from horay_async import AsyncHoray
from readme_parts import finished
from shell import CLEAN


HOUSE = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="the soak reads /proc"
)


@pytest.fixture
def bench(monkeypatch):
    """
    Where its modules are found, however pytest was started.
    """
    monkeypatch.syspath_prepend(HOUSE)


@pytest.mark.timeout(60)
def test_a_short_soak():
    """
    Random faults, cancellations and breaks leave nothing over.
    """
    words = ["--minutes", "0.02", "--streams", "20", "--patience", "1"]
    code, out, err = asyncio.run(
        finished("-m", "benchmarks.soak", *words, cwd=HOUSE, env=CLEAN, seconds=50)
    )
    assert (code, err) == (0, ""), out
    assert "Nothing is left over" in out
    calls, faults = re.search(r"(\d+) calls: .*\n(\d+) faults", out).groups()
    assert int(calls) >= 20
    assert int(faults) > 0


# What it would see -------------------------------------------------------------------


@pytest.mark.usefixtures("bench")
async def test_it_sees_what_is_left_over():
    """
    A socket, a timer, a task and an object more than before.
    """
    from benchmarks._soak_gauges import final_gauge

    before = final_gauge()
    assert final_gauge().over(before) == []
    loop = asyncio.get_running_loop()
    timer = loop.call_later(60, print)
    task = loop.create_task(asyncio.sleep(60))
    with socket.socket():
        more = " ".join(final_gauge().over(before))
    timer.cancel()
    task.cancel()
    assert "1 more descriptors" in more
    assert "1 more tasks" in more
    # A task that sleeps has begun its own timer only where tasks start at once.
    assert re.search("[12] more timers", more)


@pytest.mark.usefixtures("bench")
async def test_it_sees_a_lease(monkeypatch):
    """
    A lease that nobody settles.
    """
    from benchmarks import soak

    monkeypatch.setattr(soak, "SETTLE", 0)
    async with AsyncHoray(base_url="http://127.0.0.1:9/v1") as client:
        lease = await client._line.governor.lease("key")
        held = [words async for words in soak.idle(client)]
        lease.settle()
        free = [words async for words in soak.idle(client)]
    assert held == ["1 leases are held, and no call is left"]
    assert free == []


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize(
    ("text", "whole", "came", "wrong"),
    [
        ("m00000001 sea wave", True, [""], ""),
        ("m00000001 sea", False, [""], ""),
        ("", False, [], ""),
        ("one two three", True, ["crlf"], ""),
        ("m00000001 sea", True, [""], "finished with a part"),
        ("m00000001 wave", False, [""], "no beginning"),
        ("m00000002 sea wave", True, [""], "the answer of another"),
        ("m00000001 sea wavem00000001 sea wave", True, [""], "no beginning"),
        ("one two three", True, [""], "though the server had no fault"),
        ("m00000001 sea wave", True, [], "never came to the server"),
        ("m00000001 sea wave", True, ["", ""], "2 requests came, 1 were sent"),
    ],
)
def test_it_sees_a_wrong_answer(capsys, text, whole, came, wrong):
    """
    What is lost, mixed up, doubled or cut short.
    """
    import random

    from benchmarks._soak_ledger import Ledger

    ledger = Ledger()
    entry = ledger.entry(random.Random(1), "a way")
    entry.text, entry.started = "m00000001 sea wave", 1
    ledger.check(entry, text, whole=whole)
    ledger.done(entry)
    ledger.settle([(entry.marker, fault) for fault in came], ledger.take_done())
    assert wrong in capsys.readouterr().out
    assert bool(ledger.wrong) == bool(wrong)
    assert ledger.lost() == 1  # its hook was told no end


@pytest.mark.usefixtures("bench")
async def test_it_hears_complaints():
    """
    What nobody retrieves, closes or can raise.
    """
    from benchmarks._soak_gauges import Complaints

    class Broken:
        def __del__(self):
            raise ValueError("in __del__")

    async def fail():
        raise KeyError("nobody asks")

    loop = asyncio.get_running_loop()
    with Complaints().listening(loop) as complaints:
        Broken()
        await asyncio.wait([loop.create_task(fail())])
        gc.collect()  # where tasks start at once they stand in a cycle
        warnings.warn("TokenStream was never closed", ResourceWarning, stacklevel=1)
        warnings.warn("a socket", ResourceWarning, stacklevel=1)
    heard = " ".join(complaints.heard)
    assert "in __del__" in heard
    assert "never retrieved" in heard
    assert "a socket" in heard
    assert complaints.never_closed == 1


@pytest.mark.usefixtures("bench")
def test_it_sees_memory_grow():
    """
    A slope is told from a step, and from one large answer.
    """
    from benchmarks._soak_gauges import slope

    assert slope([(at, 50 + at / 60) for at in range(60)]) == pytest.approx(1 / 60)
    assert slope([(at, 50 if at % 7 else 300) for at in range(60)]) == 0
    assert slope([(0, 50)]) == 0
