"""
`horay faults`, and what `horay serve --fault` makes of its words.
"""

import json
import signal

from types import SimpleNamespace

import pytest

from horay_async.cli import main
from horay_async.emulator import FAULTS
from live import connected, post
from shell import WAIT, start


KEY = {"authorization": "Bearer any"}


def test_the_list(capsys):
    """
    Every fault with what it does, under the name of its group.
    """
    assert main(["faults"]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert len(blocks) == len({fault.group for fault in FAULTS.values()})
    for block in blocks:
        group, *lines = block.rstrip("\n").splitlines()
        for line in lines:
            name, does = line.split(maxsplit=1)
            assert (FAULTS[name].group, FAULTS[name].does) == (group, does)
    assert sum(len(block.rstrip("\n").splitlines()) - 1 for block in blocks) == len(
        FAULTS
    )


def test_the_list_for_programs(capsys):
    assert main(["faults", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [fact["name"] for fact in facts] == list(FAULTS)
    refused = FAULTS["refused"]
    assert facts[0] == {
        "name": "refused",
        "group": "connections",
        "at": "listen",
        "does": refused.does,
        "right": refused.right,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["refusd=0.1"],
            '--fault: no fault is called "refusd": did you mean "refused"',
        ),
        (["refused"], "--fault refused: expected NAME=SHARE"),
        (
            ["refused=.1", "refused=.2"],
            "--fault refused=.2: its share was given before",
        ),
        (["refused=often"], "--fault refused=often: expected NAME=SHARE"),
        (["refused=nan"], "must be 0 to 1, not nan"),
        (["refused=0.9", "cookie=0.9"], "must be 1 at most, not 1.8"),
    ],
)
def test_misspelt(capsys, words, said):
    """
    What no fault can be made of is one sentence, before anything is served.
    """
    options = [option for word in words for option in ("--fault", word)]
    assert main(["serve", *options]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("horay: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_a_seed_of_nothing(capsys):
    assert main(["serve", "--seed", "7"]) == 2
    assert "--seed 7: without --fault there is no chance" in capsys.readouterr().err


def test_served(monkeypatch):
    """
    The shares and the seed reach the emulator.
    """
    given = {}

    class Never:
        def __init__(self, **options):
            given.update(options)

        async def start(self):
            raise OSError("not here")

    monkeypatch.setattr("horay_async.cli._serve.emulator_class", lambda: Never)
    words = ["--fault", "cookie=0.25", "--fault", "refused=.5", "--seed", "7"]
    words += ["--model", "mine", "--model", "my/other"]
    assert main(["serve", *words]) == 2
    assert given["models"] == ["mine", "my/other"]
    assert given["log"] is None
    assert given["faults"] == {"cookie": 0.25, "refused": 0.5}
    assert given["seed"] == 7


def test_told():
    """
    With HORAY_LOG what each request got is told, and a model of one's own is known.
    """
    words = "serve", "--port", 0, "--fault", "status-503=1", "--model", "mine"
    with start(*words, env={"HORAY_LOG": "info"}) as process:
        try:
            address = process.stdout.readline().split()[1].removesuffix("/v1")
            with connected(SimpleNamespace(address=address)) as connection:
                chosen = post(connection, model="mine")
                assert chosen.status == 503
                chosen.read()
                connection.request("GET", "/v1/models", headers=KEY)
                models = json.load(connection.getresponse())["data"]
        finally:
            process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=WAIT)[1].splitlines()
    assert "mine" in [model["id"] for model in models]
    assert err[1:3] == [
        "horay: POST /v1/chat/completions: status-503, status 503",
        "horay: GET /v1/models: status 200",
    ]
