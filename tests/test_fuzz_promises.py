"""
The fuzzer itself: that a broken promise is seen, and what stands around the search.
"""

import asyncio
import json
import random
import subprocess
import sys

import attrs
import pytest

from fuzzing import flows, virtual
from fuzzing.mutation import LONGEST, Mutator
from fuzzing.promises import HEAD, Broken, Options, check_error, singly
from fuzzing.searching import Search, by_chance
from fuzzing.targets import TARGETS
from horay_async import _codec, _flow, _intake, _sse
from horay_async._assembly import Assembly
from horay_async._attempts import Attempts
from horay_async._errors import APIError


def broken(name, tries=300):
    """
    Whether a target sees it within some inputs.
    """
    target = TARGETS[name]
    mutator = Mutator(random.Random(1), target.seeds)
    inputs = [*target.seeds, *(mutator.mutate(one) for one in target.seeds * 9)]
    for data in inputs[:tries]:
        try:
            target.check(data)
        except Exception:  # noqa: BLE001 -- each way to notice counts
            return True
    return False


def answers(value):
    """
    A function that returns this, whatever it is asked.
    """
    return lambda *_, **__: value


def keeps_lf(decoder, chunk):
    """
    CR and LF as two line ends, wherever the cut is.
    """
    return chunk.replace(b"\r", b"\n")


# What is broken: the target that must see it, the place, and what stands there instead.
BREAKS = {
    "a CRLF that was cut": ("sse", _sse.SSEDecoder, "_unify_newlines", keeps_lf),
    "no ceiling": ("sse", _sse.SSEDecoder, "_check", answers(None)),
    "an error that is not ours": (
        "codec",
        _codec,
        "structure",
        lambda *_, **__: 1 // 0,
    ),
    "a verdict too early": ("intake", Assembly, "finished", True),
    "errors overlooked": ("intake", _intake, "error_in", lambda *_: 1 // 0),
    "a lease kept": ("stream", Attempts, "settle", answers(None)),
    "a connection kept": ("stream", _flow.Flow, "_drop", answers(None)),
    "a wake-up forgotten": ("stream", _flow.Flow, "_wake", answers(None)),
    "an end untold": ("stream", Attempts, "ended", answers(None)),
}


@pytest.mark.parametrize(
    ("name", "where", "what", "instead"), BREAKS.values(), ids=BREAKS
)
def test_sees_what_is_broken(monkeypatch, name, where, what, instead):
    """
    Each target fails where the code underneath is broken.
    """
    monkeypatch.setattr(where, what, instead)
    try:
        assert broken(name)
    finally:
        monkeypatch.undo()
        flows.forget()


def test_hang():
    """
    Who waits for what cannot come is told at once.
    """
    loop = virtual.VirtualLoop()

    async def wait():
        await loop.create_future()

    with pytest.raises(Broken, match="hang"):
        loop.run(wait())
    virtual.discard(loop)


def test_clock_jumps():
    """
    An hour takes no time.
    """
    loop = virtual.VirtualLoop()

    async def sleep():
        await asyncio.sleep(3600)
        return loop.time()

    began = loop.time()
    assert loop.run(sleep()) - began >= 3600
    assert loop.leftovers() == []
    virtual.discard(loop)


def test_unprintable_error():
    """
    A message with half a character in it is one that a terminal refuses.
    """
    with pytest.raises(Broken):
        check_error(APIError("\ud83d"))
    with pytest.raises(Broken):
        check_error(ValueError("not ours"))


def test_options():
    """
    The same bytes choose the same, however many choices there are.
    """
    data = bytes(range(HEAD))
    first, again = Options(data), Options(data)
    assert [first.number(7) for _ in range(99)] == [again.number(7) for _ in range(99)]
    assert b"".join(first.cut(b"x" * 999, 9)) == b"x" * 999
    assert b"".join(singly(b"y" * 999)) == b"y" * 999


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name):
    """
    Steps away from a seed stay inputs: with options, and of a bounded length.
    """
    target = TARGETS[name]
    mutator = Mutator(random.Random(2), target.seeds)
    made = {mutator.mutate(data) for data in target.seeds for _ in range(20)}
    assert all(HEAD <= len(one) <= HEAD + LONGEST for one in made)
    assert len(made) > 10 * len(target.seeds)


def test_search_keeps_the_shortest(tmp_path):
    """
    A finding does not end the search, and is kept once, the shortest of its kind.
    """
    target = TARGETS["headers"]

    def check(data):
        if len(data) > HEAD + 9:
            raise Broken("too long: here")

    search = Search(attrs.evolve(target, check=check), 200, tmp_path)
    by_chance(search, seed=1)
    told = json.loads((tmp_path / "headers.json").read_text())
    assert told["inputs"] == 200
    (finding,) = told["findings"].values()
    assert finding["times"] > 1
    assert len((tmp_path / finding["file"]).read_bytes()) == finding["length"]


def test_command(tmp_path):
    """
    It prints its table; what was found can be tried again.
    """
    search = ["headers", "--runs", "99", "--engine", "chance", "--folder", tmp_path]
    assert "| headers | 99 |" in command(*search)
    (tmp_path / "one").write_bytes(bytes(HEAD))
    said = command("headers", "--replay", tmp_path / "one")
    assert said == "headers: kept its promises\n"


def command(*arguments):
    """
    What the command prints.
    """
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzzing", "--target", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stdout
