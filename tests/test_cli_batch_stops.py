"""
`horay batch` where going on makes no sense, or is not wanted.
"""

import asyncio
import json
import re
import signal
import socket

from pathlib import Path

import pytest

from batching import command, emulating, results, text_of, write_lines
from horay_async.emulator import Answer
from shell import WAIT, start


__all__ = ["command"]

MANY = [{"prompt": f"prompt {number}"} for number in range(100)]


def refusal(status, **error):
    return Answer.json({"error": {"message": "no", **error}}, status)


@pytest.fixture
def server():
    with emulating() as server:
        yield server


@pytest.fixture
def many(tmp_path):
    return write_lines(tmp_path / "in.jsonl", *MANY)


def test_refused_key(server, many, tmp_path, command, monkeypatch):
    """
    A refused key ends it at once, with one sentence; the rest is not asked.
    """
    target = tmp_path / "out.jsonl"
    words = "batch", many, "-o", target, *server.words, "--concurrency", 2
    monkeypatch.setenv("HORAY_API_KEY", "bad-key")
    code, _, err = command(*words)
    assert code == 1
    said, lines, *_ = err.splitlines()
    assert said.startswith("horay: 401 from Horay: ")
    assert "is HORAY_API_KEY right?" in said
    assert lines.startswith("horay: stopped; 100 lines: 0 answered, ")
    assert " not answered" in lines
    assert len(server.requests) <= 8
    written = results(target.read_text())
    assert all(line["response"]["status_code"] == 401 for line in written.values())


@pytest.mark.parametrize(
    "refused", [refusal(402), refusal(429, code="insufficient_quota")]
)
def test_no_credit(server, many, tmp_path, refused, command):
    """
    Without credit no more is asked, but what is under way may be paid: it is waited for.
    """
    both, over = asyncio.Event(), asyncio.Event()

    async def refuse(_):
        await both.wait()
        # The process has time to hear it before the answer to the other line comes.
        asyncio.get_running_loop().call_later(0.3, over.set)
        return refused

    async def answer(_):
        both.set()
        await over.wait()

    server.script(None, refuse, answer, *[refused] * 97)
    target = tmp_path / "out.jsonl"
    words = "batch", many, "-o", target, *server.words, "--concurrency", 2
    code, _, err = command(*words, "--max-retries", 0)
    assert code == 1
    said, lines, *_ = err.splitlines()
    assert said.startswith(f"horay: {refused.status} from Horay: no")
    assert "100 lines: 2 answered, 0 failed, 98 not answered; " in lines
    # A few may have set out before the refusal was read.
    assert 3 <= len(server.requests) <= 8
    answers = results(target.read_text()).values()
    texts = [text_of(line) for line in answers if not line["error"]]
    assert texts in (["prompt 0", "prompt 1"], ["prompt 0", "prompt 2"])
    assert len(answers) == len(server.requests)


def test_no_credit_half_way(server, tmp_path, command):
    """
    The answers that a conversation got before the credit was used up are in its result.
    """

    # By what they say: the second turn of one may come before the first of the other.
    def choose(request):
        return None if request.json["messages"][-1]["content"] == "a" else refusal(402)

    server.script(*[choose] * 102)
    turns = {"turns": ["a", "b"]}
    source = write_lines(tmp_path / "in", turns, turns, *MANY)
    code, out, _ = command("batch", source, *server.words, "--concurrency", 2)
    assert code == 1
    for name in ("line-1", "line-2"):
        line = results(out)[name]
        assert line["error"]["code"] == "PaymentRequiredError"
        assert len(line["turns"]) == 1


def test_no_connection(many, tmp_path, command):
    """
    Where nobody listens the first line tells, and no hundred others.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    target = tmp_path / "out.jsonl"
    url = f"http://127.0.0.1:{port}/v1"
    words = "batch", many, "-o", target, "--base-url", url, "--service", "horay"
    code, _, err = command(*words, "--max-retries", 0, "--concurrency", 4)
    assert code == 1
    said, lines, *_ = err.splitlines()
    assert said.startswith(f"horay: cannot connect to 127.0.0.1:{port}: ")
    assert f"is {url} right" in said
    assert "0 answered" in lines
    assert " not answered" in lines


def test_connection_lost_later(server):
    """
    Once a server has answered, one that is away costs its own lines only.
    """
    words = "batch", "-", *server.words, "--concurrency", 1, "--max-retries", 0
    with start(*words, "--patience", 0) as process:
        process.stdin.write('{"prompt": "one"}\n')
        process.stdin.flush()
        assert text_of(json.loads(process.stdout.readline())) == "one"
        server.call(server.aclose())
        out, err = process.communicate('{"prompt": "two"}\n' * 9, timeout=WAIT)
    assert process.returncode == 1
    assert len(out.splitlines()) == 9
    said = "1 answered, 0 failed, 9 not answered (9 lost connections)\n"
    assert f"horay: 10 lines: {said}" in err


# Told to stop ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_told_to_stop(server, many, tmp_path, number, code):
    """
    What was answered is written, in whole lines, and what is under way is given up.
    """

    def choose(request):
        said = request.json["messages"][0]["content"]
        return None if said in ("prompt 0", "prompt 1") else Answer(end="hang")

    server.script(*[choose] * 4)
    target = tmp_path / "out.jsonl"
    words = "batch", many, "-o", target, *server.words, "--concurrency", 2
    with start(*words) as process:
        server.call(server.wait_for_request(4, timeout=WAIT))
        process.send_signal(number)
        err = process.stderr.read()
        assert process.wait(WAIT) == code
    server.call(server.wait_for_disconnect(2))
    # The lines may not be counted yet.
    assert re.search(
        r"horay: stopped; (100 lines: 2 answered, 0 failed, 98 not answered"
        r"|2 lines: 2 answered, 0 failed, the others not answered)",
        err,
    )
    assert "Traceback" not in err
    assert sorted(results(target.read_text())) == ["line-1", "line-2"]


def test_interrupted_in_the_order_of_the_input(server, many):
    """
    Lines that overtook another are answered: they are not lost with it.
    """
    hang = Answer(end="hang")

    def slow(request):
        return hang if "prompt 0" in str(request.json) else None

    # One line hangs, and those that may overtake it do.
    server.script(*[slow] * 100)
    words = "batch", many, *server.words, "--concurrency", 2, "--order", "input"
    with start(*words) as process:
        server.call(server.wait_for_request(8, timeout=WAIT))
        server.call(server.wait_until(lambda: len(server.open_requests) == 1))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)
    # The eighth was asked when the seventh was there; its own answer may be on its way.
    found = list(results(out))
    assert found[:6] == [f"line-{number}" for number in range(2, 8)]
    assert f"{len(found)} answered" in err


@pytest.mark.parametrize("order", ["done", "input"])
def test_interrupted_in_the_middle_of_a_conversation(server, tmp_path, order):
    """
    The turns that were answered are paid for: they stand in an error line.
    """

    def choose(request):
        said = str(request.json["messages"])
        return Answer(end="hang") if "hang" in said else None

    server.script(*[choose] * 10)
    source = write_lines(
        tmp_path / "in",
        {"custom_id": "never", "prompt": "hang"},
        {"custom_id": "half", "turns": ["one", "two", "hang"]},
        {"custom_id": "not", "turns": ["hang", "two"]},
    )
    with start("batch", source, *server.words, "--order", order) as process:
        server.call(server.wait_for_request(5, timeout=WAIT))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 130
    (line,) = results(out).values()
    assert line["custom_id"] == "half"
    assert line["response"] is None
    assert line["error"] == {
        "code": "StreamAbortedError",
        "message": "this row was cancelled after 2 answers",
    }
    texts = [turn["choices"][0]["message"]["content"] for turn in line["turns"]]
    assert texts == ["one", "two"]
    said, *_ = err.splitlines()
    assert said == ("horay: stopped; 3 lines: 0 answered, 0 failed, 3 not answered")


def test_interrupted_while_reading(server):
    """
    Ctrl-C ends a batch at once, even one that waits for its input.
    """
    with start("batch", "-", *server.words) as process:
        process.stdin.write('{"prompt": "one"}\n')
        process.stdin.flush()
        assert text_of(json.loads(process.stdout.readline())) == "one"
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130
        err = process.stderr.read()
    assert "stopped; 1 line: 1 answered, 0 failed, the others not answered" in err
    assert "Traceback" not in err


def test_nobody_reads_the_answers(server, many):
    """
    A pipe that is full holds up neither Ctrl-C nor the calls.
    """
    long = json.dumps({"prompt": "x" * 10_000})
    source = write_lines(many.with_name("long"), *[long] * 50)
    with start("batch", source, *server.words) as process:
        # More than a pipe holds.
        server.call(server.wait_for_request(40, timeout=WAIT))
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130


# Nowhere to write ------------------------------------------------------------------


def test_closed_pipe(server, many):
    """
    A reader of stdout that leaves ends the batch without a word.
    """
    with start("batch", many, *server.words, "--concurrency", 2) as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(WAIT) == 141
    assert not err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("as_json", [False, True])
def test_full_disk(server, many, as_json, command):
    """
    Answers that cannot be written end the batch with one sentence.
    """
    words = "batch", many, "-o", "/dev/full", *server.words, "--concurrency", 1
    code, _, err = command(*words, *["--json"] * as_json)
    assert code == 1
    said, *rest = err.splitlines()
    assert said.startswith("horay: cannot write the answers: No space left on device; ")
    assert " lost" in said
    if as_json:
        facts = json.loads(rest[0])
        assert facts["answered"] == 0
        assert facts["stopped"] in said
    else:
        assert rest[0].startswith("horay: stopped; ")
