"""
A job that is killed again and again, in small; `python -m tests.killing` is the whole.
"""

import asyncio
import json
import random
import signal

import pytest

from journaling import line
from killing import Killer, Server, answer, kill, name, prompt


pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL"),
]


def test_killed_again_and_again():
    """
    Every row is answered once in the end, in the order of the input, and at most those
    under way are asked again.
    """
    killer = asyncio.run(kill(240, 4, concurrency=8))
    assert killer.problems == []
    assert killer.kills >= 3


# What it would see -------------------------------------------------------------------


def said(number, text=None, **fields):
    return line(number, text or answer(prompt(number)), name=name(number), **fields)


@pytest.fixture
def killer(tmp_path):
    server = Server(random.Random(1))
    server.seen.update(prompt(number) for number in range(3))
    journal = tmp_path / "run.jsonl"
    journal.write_bytes(b"".join(map(said, range(3))))
    return Killer(server, journal, 3, 8, "input", random.Random(1))


def test_nothing_is_wrong(killer):
    """
    Where nothing is.
    """
    killer.look()
    assert killer.judge() == []


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ([0, 1], "2 lines for 2 rows of 3"),
        ([0, 1, 1, 2], "4 lines for 3 rows of 3"),
        ([1, 0, 2], "in another order"),
    ],
)
def test_it_sees_wrong_lines(killer, numbers, problem):
    """
    A row that is missing, one that is there twice, and another order.
    """
    killer.journal.write_bytes(b"".join(map(said, numbers)))
    assert problem in str(killer.judge())


def test_it_sees_wrong_answers(killer):
    """
    One row's answer in another's place.
    """
    swapped = [said(0), said(1, answer(prompt(2))), said(2)]
    killer.journal.write_bytes(b"".join(swapped))
    assert killer.judge() == ["row-1 has another row's answer"]


def test_it_sees_what_is_lost_and_asked_again(killer):
    """
    A row that had an answer once, and one request too many.
    """
    killer.look()
    killer.journal.write_bytes(said(0) + said(1) + said(2)[:50])
    killer.look()
    killer.server.seen[prompt(0)] += 1
    killer.journal.write_bytes(b"".join(map(said, range(3))))
    assert [one.split(" (")[0] for one in killer.judge()] == [
        "after kill 0 is lost: ['row-2']",
        "row-0 was asked again though it was answered",
        "4 requests, more than 3",
    ]


def test_it_sees_what_is_left_over(killer):
    """
    The file of a compaction that was killed.
    """
    killer.journal.with_name(".run.jsonl.horay-tmp").write_text(json.dumps({}))
    assert "left over" in str(killer.judge())
