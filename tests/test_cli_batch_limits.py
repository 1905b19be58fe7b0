"""
How fast a batch goes and what it may cost, as options say it.
"""

import pytest

from horay_async import Adaptive
from horay_async.cli import main
from horay_async.cli._app import app
from horay_async.cli._limits import Limits
from horay_async.many import Budget, Price


NOTHING = {"concurrency": 32, "patience": 600, "budget": None, "prices": None}


def limits(*words):
    """
    What the command line makes of some options.
    """
    _, bound, _ = app.parse_args(["batch", "in", *map(str, words)])
    return bound.arguments.get("limits", Limits())


def of_job(*words, is_local=False):
    return limits(*words).of_job(is_local=is_local)


def test_nothing_said():
    """
    A number of lines at a time that suits who answers, and no more.
    """
    assert of_job() == NOTHING
    assert of_job(is_local=True) == NOTHING | {"concurrency": 8}
    assert Limits().governor() is None


def test_concurrency():
    """
    A number is the job's; auto is the governor's, and the job takes it from there.
    """
    given = limits("--concurrency", 7)
    assert given.of_job(is_local=True)["concurrency"] == 7
    assert given.governor() is None
    given = limits("--concurrency", "auto")
    assert given.of_job(is_local=False)["concurrency"] is None
    assert given.governor().at_most == Adaptive().high


@pytest.mark.parametrize(
    ("word", "number"),
    [("600", 600), ("0.5", 0.5), ("200k", 200_000), ("1.5M", 1_500_000), ("2m", 2e6)],
)
def test_rates(word, number):
    """
    Requests and tokens a minute, with the usual suffixes.
    """
    given = limits("--rpm", word, "--tpm", word)
    assert (given.rpm, given.tpm) == (number, number)
    assert given.governor() is not None


@pytest.mark.parametrize(
    ("word", "tokens"),
    [("2M", 2_000_000), ("500k", 500_000), ("2000000", 2_000_000), ("2.5k", 2500)],
)
def test_budget(word, tokens):
    """
    A budget is in tokens.
    """
    assert of_job("--budget", word)["budget"] == Budget(tokens=tokens)


def test_budget_of_money():
    """
    Money has an option of its own, and its prices.
    """
    given = of_job("--budget-cost", "5.00", "--price", "0.1,0.4")
    assert given["budget"] == Budget(cost=5)
    assert given["prices"] == {"*": Price(0.1, 0.4)}


def test_prices():
    """
    A price may be that of one model, and of tokens that the server had in its cache.
    """
    given = of_job("--price", "0,0", "--price", "a=b=1,2.5,.5")
    assert given["prices"] == {"*": Price(0, 0), "a=b": Price(1, 2.5, 0.5)}


@pytest.mark.parametrize(
    ("word", "seconds"),
    [("90", 90), ("0", 0), ("1.5", 1.5), ("30s", 30), ("10m", 600), ("2h", 7200)],
)
def test_patience(word, seconds):
    """
    A length of time.
    """
    assert of_job("--patience", word)["patience"] == seconds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--patience", "10 min"], 'as in 30s, 10m or 2h, found "10 min"'),
        (["--patience", "inf"], "--patience: Expected seconds, or a time as in 30s"),
        (["--patience=-1"], 'found "-1"'),
        (["--concurrency", "0"], '--concurrency: Expected 1 or more, or "auto"'),
        (["--concurrency", "1.5"], '--concurrency: Expected a whole number, or "auto"'),
        (
            ["--concurrency", "many"],
            '--concurrency: Expected a whole number, or "auto"',
        ),
        (["--rpm", "0"], '--rpm: Expected a number as in 600, 200k or 1.5M, found "0"'),
        (["--rpm=-1"], 'found "-1"'),
        (["--rpm", "nan"], 'found "nan"'),
        (["--tpm", "2G"], 'found "2G"'),
        (["--tpm", "2 M"], 'found "2 M"'),
        # Money for tokens, and the other way round.
        (
            ["--budget", "5.00"],
            "--budget: Expected a number of tokens as in 500k or 2M",
        ),
        (["--budget", "5.00"], "(For money: --budget-cost.)"),
        (["--budget", "$5"], "(For money: --budget-cost.)"),
        (["--budget", "0"], "Expected a number of tokens"),
        (["--budget", "1.2345k"], "Expected a number of tokens"),
        (["--budget-cost", "2M"], "--budget-cost: Expected a sum of money"),
        (["--budget-cost", "2M"], "(For tokens: --budget.)"),
        (["--budget-cost", "$5"], "without a currency"),
        (["--budget-cost", "5"], "--budget-cost needs prices: give --price IN,OUT"),
        (["--price", "1"], "--price: Expected two prices for a million tokens, of"),
        (["--price", "1,2,3,4"], 'found "1,2,3,4"'),
        (["--price", "1,-2"], 'found "1,-2"'),
        (["--price", "1,nan"], 'found "1,nan"'),
        (["--price", "$1,$2"], 'found "$1,$2"'),
    ],
)
def test_wrong(capsys, words, said):
    """
    What cannot be meant is one sentence, before anything is opened.
    """
    assert main(["batch", "in.jsonl", "--emulator", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
