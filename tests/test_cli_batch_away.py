"""
`horay batch` and a server that goes away, comes back, or costs too much.
"""

import asyncio
import json
import signal
import socket
import threading

from urllib.parse import urlsplit

import pytest

from batching import command, emulating, results, text_of, write_lines
from horay_async.emulator import Answer
from processes import wait_until
from shell import WAIT, start


__all__ = ["command"]


@pytest.fixture
def server():
    with emulating() as server:
        yield server


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture
def hundred(tmp_path):
    return write_lines(
        tmp_path / "in.jsonl", *({"prompt": f"prompt {n}"} for n in range(100))
    )


# Away ------------------------------------------------------------------------------


def test_away(server, hundred, out, command):
    """
    A server that goes away ends the batch, and the next run has all the rest answered.
    """
    # Not even a head comes.
    server.script(*[None] * 10, Answer(before=[asyncio.Event()]))
    words = "batch", hundred, "-o", out, "--concurrency", 1, "--max-retries", 0
    with start(*words, *server.words, "--patience", 0) as process:
        server.call(server.wait_for_request(11, timeout=WAIT))
        server.call(server.aclose())
        err = process.stderr.read()
        assert process.wait(WAIT) == 1
    *_, why, lines, _, _, advice = err.splitlines()
    assert why.startswith("horay: cannot connect to 127.0.0.1:")
    assert "stopped; 100 lines: 10 answered, 0 failed, 90 not answered; " in lines
    assert advice == "horay: the same command goes on from there"
    written = results(out.read_text()).values()
    failed = [line for line in written if line["error"]]
    # The one that was broken off, as many as it takes to be sure, and one under way.
    assert 21 <= len(failed) <= 23
    assert [line for line in failed if "cut_off" not in line["horay"]] == []
    with emulating() as other:
        code, _, _ = command("batch", hundred, "-o", out, *other.words)
        assert len(other.requests) == 90
    assert code == 0
    answers = results(out.read_text())
    assert len(answers) == 100
    assert text_of(answers["line-100"]) == "prompt 99"


def test_away_for_a_moment(server):
    """
    A few lines without a connection are no reason to stop, however often.
    """
    words = "batch", "-", *server.words, "--concurrency", 1, "--max-retries", 0
    with start(*words, "--patience", 0) as process:

        def ask(count):
            process.stdin.write('{"prompt": "one"}\n' * count)
            process.stdin.flush()
            return [json.loads(process.stdout.readline()) for _ in range(count)]

        assert ask(1)[0]["error"] is None
        for _ in range(2):
            gone, back = threading.Event(), asyncio.Event()
            closed = Answer(at="listen", before=[gone.set, back])
            server.call(call(lambda given=closed: server.script(given)))
            assert gone.wait(WAIT)
            assert all(line["error"] for line in ask(19))
            server.call(call(back.set))
            wait_until(lambda: connects(server))
            assert ask(1)[0]["error"] is None
        process.stdin.close()
        assert process.wait(WAIT) == 1
        err = process.stderr.read()
    said = "3 answered, 0 failed, 38 not answered (38 lost connections)"
    assert f"41 lines: {said}" in err


def closing(server, moment):
    """
    A server that answers ten prompts, and then is away for so many seconds, or for good.
    """
    back = asyncio.Event()

    def come_back():
        if moment is not None:
            asyncio.get_running_loop().call_later(moment, back.set)

    server.script(*[None] * 10, Answer(at="listen", before=[come_back, back]))


def test_waited_for(server, hundred, out, command):
    """
    A server that is back in time costs nothing but the time.
    """
    closing(server, 0.3)
    words = "batch", hundred, "-o", out, *server.words, "--concurrency", 2
    code, _, err = command(*words, "--max-retries", 0)
    assert code == 0
    assert "horay: 100 lines: 100 answered, 0 failed; results in " in err
    assert len(results(out.read_text())) == 100


def test_waited_for_in_vain(server, hundred, out, command):
    """
    One that is not back in time ends the batch, at once then.
    """
    closing(server, None)
    words = "batch", hundred, "-o", out, *server.words, "--concurrency", 2
    code, _, err = command(*words, "--max-retries", 0, "--patience", "0.5s")
    assert code == 1
    why, lines, *_, advice = err.splitlines()
    assert why.startswith("horay: cannot connect to 127.0.0.1:")
    assert why.endswith("; the server has been away for 0.5 s, so no more is asked")
    assert "100 lines: 10 answered, 0 failed, 90 not answered; " in lines
    assert advice == "horay: the same command goes on from there"
    # Those that were under way, and no more.
    assert len(results(out.read_text())) <= 14


def test_refused_for_too_long(server, hundred, out, command):
    """
    Nor does one that takes no call at all have the rest of the night fail.
    """
    refused = Answer.json({"error": {"message": "busy"}}, 503)
    server.script(*[None] * 10, *[refused] * 100)
    words = "batch", hundred, "-o", out, *server.words, "--concurrency", 2
    code, _, err = command(*words, "--max-retries", 0, "--patience", "0.5s")
    assert code == 1
    said = "the server has been away for 0.5 s, so no more is asked"
    assert err.splitlines()[0] == f"horay: 503 from Horay: busy; {said}"
    assert "stopped; 100 lines: 10 answered, 0 failed, 90 not answered; " in err
    assert 10 < len(results(out.read_text())) <= 14


async def call(function):
    function()


def connects(server):
    url = urlsplit(server.base_url)
    with socket.socket() as ours:
        return ours.connect_ex((url.hostname, url.port)) == 0


# A full disk -----------------------------------------------------------------------


def small_files():
    # Only where there is one.
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


@pytest.mark.parametrize("as_json", [False, True])
def test_full_disk(server, hundred, out, command, as_json):
    """
    A file that takes no more ends the batch; when there is room, the next run goes on.
    """
    words = "batch", hundred, "-o", out, *server.words, "--concurrency", 2
    more = ["--json"] * as_json
    with start(*words, *more, preexec_fn=small_files) as process:
        err = process.stderr.read()
        assert process.wait(WAIT) == 1
    why, *rest = err.splitlines()
    assert "File too large" in why
    assert " lost" in why
    kept = len(out.read_text().splitlines())
    assert 5 < kept < 30
    assert len(results(out.read_text())) == kept
    if as_json:
        facts = json.loads(rest[0])
        assert facts["answered"] == kept
        assert facts["lost"] == len(server.requests) - kept
    else:
        assert f"stopped; 100 lines: {kept} answered, 0 failed, " in rest[0]
        assert rest[-1] == "horay: the same command goes on from there"
    asked = len(server.requests)
    assert command(*words)[0] == 0
    assert len(server.requests) == asked + 100 - kept
    assert len(results(out.read_text())) == 100


# Limits ----------------------------------------------------------------------------


def test_budget(server, hundred, out, command):
    """
    A budget ends the batch before it is overrun; the next run has one of its own.
    """
    words = "batch", hundred, "-o", out, *server.words, "--max-tokens", 10
    limits = "--budget", 200, "--concurrency", 2
    code, _, err = command(*words, *limits)
    assert code == 1
    assert "budget" in err.splitlines()[0]
    assert " not answered; results in " in err
    again = "the same command goes on from there, with the same budget once more"
    assert err.splitlines()[-1] == f"horay: {again}"
    answered = len(server.requests)
    assert 5 < answered < 100
    first = results(out.read_text())
    assert len(first) == answered
    assert sum(used(line) for line in first.values()) <= 200
    code, _, _ = command(*words)
    assert (code, len(server.requests)) == (0, 100)


def test_budget_of_nothing(server, hundred, out, command):
    """
    Where not even one call fits, the same command is no good.
    """
    code, _, err = command("batch", hundred, "-o", out, *server.words, "--budget", 1)
    assert code == 1
    again = "with a larger budget the same command goes on from there"
    assert err.splitlines()[-1] == f"horay: {again}"
    assert not server.requests


def used(line):
    return line["response"]["body"]["usage"]["total_tokens"]


def test_cost(server, hundred, out, command):
    """
    Prices make the summary say what it cost: a bare number.
    """
    words = "batch", hundred, "-o", out, *server.words, "--price", "1000,500000"
    code, _, err = command(*words)
    assert code == 0
    # 200 tokens in, 200 out.
    assert "200 tokens in, 200 out, cost 100.20, " in err
    code, _, err = command(*words, "--overwrite", "--json")
    assert json.loads(err)["cost"] == pytest.approx(100.2)


def test_budget_of_money(server, hundred, out, command):
    """
    The same in money.
    """
    words = "batch", hundred, "-o", out, *server.words, "--max-tokens", 2
    limits = "--price", "0,1000000", "--budget-cost", 20, "--concurrency", 1
    code, _, err = command(*words, *limits)
    assert code == 1
    assert "cost 20.0000, " in err or "cost 20.00, " in err
    assert len(server.requests) == 10


def test_price_of_another_model(server, hundred, out, command):
    """
    A budget of money is refused where nobody knows what the model costs.
    """
    words = "batch", hundred, "-o", out, *server.words
    code, _, err = command(*words, "--budget-cost", 5, "--price", "other=1,1")
    assert code == 2
    assert err.startswith("horay: --budget-cost needs a price for meta-llama/")
    assert err.endswith("=IN,OUT, or one for all with --price IN,OUT\n")
    assert err.count("\n") == 1
    assert not server.requests
    assert not out.exists()


def test_as_many_as_it_bears(server, hundred, out, command):
    """
    `--concurrency auto`, `--rpm` and `--tpm` are for the governor.
    """
    words = "batch", hundred, "-o", out, *server.words, "--concurrency", "auto"
    code, _, err = command(*words, "--rpm", "60k", "--tpm", "10M")
    assert code == 0
    assert "100 lines: 100 answered" in err


def test_waiting_for_our_own_limits(server, hundred, out, command):
    """
    Lines that could not be sent in time are not answered, and it is said once why.
    """
    write_lines(hundred, *({"prompt": f"prompt {n}"} for n in range(5)))
    words = "batch", hundred, "-o", out, *server.words, "--timeout", 0.3
    code, _, err = command(*words, "--rpm", 1)
    assert code == 1
    assert err.count("--timeout lets them: raise these, or leave --timeout out\n") == 1
    assert "5 lines: 1 answered, 0 failed, 4 not answered (4 timeouts)" in err
    again = "horay: the same command asks again what was not answered"
    assert err.splitlines()[-1] == again


# Streams ---------------------------------------------------------------------------


def test_stream(server, hundred, out, command):
    """
    Lines may be asked as streams: the summary has the time to the first token.
    """
    words = "batch", hundred, "-o", out, *server.words
    code, _, err = command(*words, "--stream")
    assert code == 0
    assert all(request.json["stream"] for request in server.requests)
    # Horay counts no tokens of a stream that does not ask for it.
    assert "horay: about " in err
    assert "; first token p50 0." in err
    assert text_of(results(out.read_text())["line-1"]) == "prompt 0"


def test_stream_that_breaks_off(server, out, command, tmp_path):
    """
    What a line had got is kept beside its error.
    """
    source = write_lines(tmp_path / "in", {"prompt": "one"})
    server.script(Answer.chat("half", " of", end="reset", finish=None, done=False))
    code, _, _ = command("batch", source, "-o", out, *server.words, "--stream")
    assert code == 1
    [line] = results(out.read_text()).values()
    assert line["response"] is None
    assert line["horay"]["partial"] == "half of"


def test_interrupted_streams(server, out, command, tmp_path):
    """
    So is what a line had got when the batch was told to stop.
    """
    source = write_lines(tmp_path / "in", {"prompt": "one"})
    flowing = threading.Event()
    half = Answer.chat("half", flowing.set, end="hang", finish=None, done=False)
    server.script(half)
    words = "batch", source, "-o", out, *server.words, "--stream"
    with start(*words) as process:
        assert flowing.wait(WAIT)
        # It has been sent; whether it was read in time nobody can say.
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130
    written = [line["horay"]["partial"] for line in results(out.read_text()).values()]
    assert written in ([], ["half"])
    assert command(*words)[0] == 0
    assert text_of(results(out.read_text())["line-1"]) == "one"
