"""
`horay batch`, tried as a person would.
"""

import contextlib
import gzip
import json
import os
import re

import pytest

from batching import command, emulating, results, text_of, write_lines
from shell import WAIT, start


__all__ = ["command"]

MODEL = "Gryphe/MythoMax-L2-13b"


@pytest.fixture(scope="module")
def echo():
    """
    The options that lead to an emulator that says what was said last.
    """
    with emulating() as server:
        yield server.words


@pytest.fixture
def prompts(tmp_path):
    """
    Writes lines to a file.
    """

    return lambda *lines: write_lines(tmp_path / "in.jsonl", *lines)


def test_batch(echo, prompts, tmp_path, command):
    """
    Every kind of line is answered, by its custom_id or its line's number.
    """
    source = prompts(
        {"prompt": "one", "custom_id": "mine"},
        {"messages": [{"role": "user", "content": "two"}]},
        "",
        {
            "custom_id": "theirs",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "gpt-4o-mini",
                "messages": [{"role": "user", "content": "3"}],
            },
        },
    )
    target = tmp_path / "out.jsonl"
    code, out, err = command("batch", source, "-o", target, *echo)
    assert (code, out) == (0, "")
    answers = {key: text_of(line) for key, line in results(target.read_text()).items()}
    assert answers == {"mine": "one", "line-2": "two", "theirs": "3"}
    lines, cost, times = err.splitlines()
    assert lines == f"horay: 3 lines: 3 answered, 0 failed; results in {target}"
    assert re.fullmatch(
        r"horay: 3 tokens in, 3 out, \d+\.\d s, \d+ tokens/s, by Horay at http://\S+",
        cost,
    )
    assert re.fullmatch(r"horay: latency p50 [\d.]+ s, p95 [\d.]+ s", times)


def test_batch_text_completion(echo, command):
    """
    A Batch line may ask for a text completion.
    """
    line = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "on and on"}}
    code, out, _ = command("batch", "-", *echo, stdin=json.dumps(line))
    assert code == 0
    choice = results(out)["line-1"]["response"]["body"]["choices"][0]
    assert "on and on" in choice["text"]


def test_batch_turns(echo, prompts, command):
    """
    Turns are one conversation: a call each, the answers going back in.
    """
    source = prompts({"turns": ["first words", "and then"]})
    code, out, _ = command("batch", source, *echo)
    assert code == 0
    line = results(out)["line-1"]
    texts = [body["choices"][0]["message"]["content"] for body in line["turns"]]
    assert texts == ["first words", "and then"]
    assert text_of(line) == "and then"
    first, second = (body["usage"]["prompt_tokens"] for body in line["turns"])
    assert second > 2 * first  # it held the question, the answer and the new question


def test_batch_bad_lines(echo, prompts, command):
    """
    Bad lines are named by their number, the others are answered, and the code says so.
    """
    source = prompts({"prompt": "one"}, "{oops", {"nothing": 1}, {"prompt": "four"})
    code, out, err = command("batch", source, *echo)
    assert code == 1
    lines = results(out)
    assert text_of(lines["line-1"]) == "one"
    assert text_of(lines["line-4"]) == "four"
    assert lines["line-2"]["error"]["code"] == "bad_line"
    assert "line 2: not JSON" in err
    assert "line 3: expected one of" in err
    assert "4 lines: 2 answered, 2 failed (2 bad lines)" in err


def test_batch_options_fill_in(echo, prompts, command):
    """
    An option holds for the lines that leave it open.
    """
    source = prompts({"prompt": "a b c d"}, {"prompt": "a b c d", "max_tokens": 3})
    _, out, _ = command("batch", source, *echo, "--max-tokens", 1)
    lines = results(out)
    assert text_of(lines["line-1"]) == "a"
    assert text_of(lines["line-2"]) == "a b c"


def test_batch_refused_line(echo, prompts, command):
    """
    One refused line fails alone.
    """
    source = prompts({"prompt": "a", "temperature": -1}, {"prompt": "b"})
    code, out, err = command("batch", source, *echo)
    assert code == 1
    lines = results(out)
    assert lines["line-1"]["response"] is None
    assert "temperature" in lines["line-1"]["error"]["message"]
    assert text_of(lines["line-2"]) == "b"
    assert "line 1: " in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--temperature", "nan"], "temperature"),
        (["--max-tokens", 0], "max_tokens"),
        (["--service", "empower"], "model"),
    ],
)
def test_batch_options_that_cannot_work(prompts, tmp_path, options, said, command):
    """
    What no line could be sent with is refused at once; former answers are kept.
    """
    source, target = prompts({"prompt": "one"}, {"prompt": "two"}), tmp_path / "out"
    target.write_text("former answers")
    words = "batch", source, "-o", target, "--emulator", *options
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert target.read_text() == "former answers"


def test_batch_lines_name_their_models(prompts, command):
    """
    A service without a default model is fine for lines that name one.
    """
    source = prompts({"prompt": "one", "model": "my-lora"}, {"prompt": "two"})
    words = "batch", source, "--emulator", "--service", "empower", "--max-tokens", 4
    code, out, err = command(*words)
    assert code == 1
    lines = results(out)
    assert lines["line-1"]["error"] is None
    assert "model" in lines["line-2"]["error"]["message"]
    assert "2 lines: 1 answered, 1 failed (1 invalid request)" in err


def test_batch_options_for_text_completions(echo, command):
    """
    A text completion may have options that a chat may not: no tokens, only the scores.
    """
    line = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "a"}}
    words = "batch", "-", *echo
    _, _, err = command(*words, "--max-tokens", 0, stdin=json.dumps(line))
    assert "1 line: " in err
    code, out, _ = command(*words, "--temperature", "nan", stdin=json.dumps(line))
    assert (code, out) == (2, "")


def test_batch_same_id_twice(echo, prompts, command):
    """
    Answers that cannot be told apart are worth one sentence.
    """
    source = prompts(*[{"prompt": "one", "id": 7}] * 3)
    code, out, err = command("batch", source, *echo, "--concurrency", 1)
    assert (code, len(out.splitlines())) == (0, 3)
    assert err.count("another line has the id '7' too") == 1
    assert "line 2: " in err


@pytest.mark.parametrize(("retries", "code"), [(0, 1), (9, 0)])
def test_batch_retries(prompts, retries, code, command):
    """
    A line that came too fast is asked again, as often as the user wants.
    """
    with emulating(requests_per_second=4) as server:
        source = prompts(*[{"prompt": "one"}] * 6)
        words = "batch", source, *server.words, "--patience", 0
        assert command(*words, "--max-retries", retries)[0] == code


def test_batch_shows_some_failures(echo, prompts, command):
    """
    A thousand failures do not fill the terminal.
    """
    code, out, err = command("batch", prompts(*["{oops"] * 50), *echo)
    assert code == 1
    assert len(out.splitlines()) == 50
    assert len(err.splitlines()) == 13


def test_batch_empty(echo, command):
    """
    No lines are no failure.
    """
    code, out, err = command("batch", "-", *echo, stdin="\n \n")
    assert (code, out, err) == (0, "", "horay: no lines in stdin\n")


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("missing.jsonl", "out.jsonl"),
        (".", "-"),
        ("in.jsonl", "no/such/place"),
        ("in.jsonl", "."),
        ("in.jsonl", "out.jsonl.gz"),
        ("old.zip", "out.jsonl"),
    ],
)
def test_batch_files(echo, tmp_path, source, output, command):
    """
    A file that cannot be used is one sentence; nothing is sent, nothing is touched.
    """
    write_lines(tmp_path / "in.jsonl", {"prompt": "one"})
    (tmp_path / "old.zip").write_bytes(b"PK\x03\x04")
    with contextlib.chdir(tmp_path):
        code, out, err = command("batch", source, "-o", output, *echo)
    assert (code, out) == (2, "")
    assert " cannot be " in err or err.startswith("horay: cannot ")
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_batch_onto_itself(echo, prompts, command):
    """
    The input is never emptied.
    """
    source = prompts({"prompt": "one"})
    code, _, err = command("batch", source, "-o", source, *echo)
    assert code == 2
    assert "is the input" in err
    assert source.read_text() == '{"prompt": "one"}\n'
    with source.open("a+") as both:
        both.seek(0)
        with start("batch", "-", *echo, stdin=both, stdout=both) as process:
            assert "is the input" in process.stderr.read()
    assert process.returncode == 2
    assert source.read_text() == '{"prompt": "one"}\n'


# The output ------------------------------------------------------------------------


def test_batch_in_the_order_of_the_input(prompts, command):
    """
    `--order input` is the order of the lines, bad ones included, whatever overtakes them.
    """
    lines = [{"prompt": "x " * (200 if n == 0 else 1)} for n in range(9)]
    source = prompts(*lines, "{oops", {"prompt": "x"})
    with emulating(tokens_per_second=1000) as server:
        words = "batch", source, *server.words
        names = {
            order: list(results(command(*words, "--order", order)[1]))
            for order in ("done", "input")
        }
    in_order = [f"line-{number}" for number in range(1, 12)]
    assert names["input"] == in_order
    assert names["done"] != in_order
    assert sorted(names["done"]) == sorted(in_order)


def test_batch_json(echo, prompts, tmp_path, command):
    """
    For programs stderr is one JSON object.
    """
    source, target = prompts({"prompt": "a b"}, "{oops"), tmp_path / "out"
    code, _, err = command("batch", source, "-o", target, *echo, "--json")
    assert code == 1
    facts = json.loads(err)
    for name in "seconds", "tokens_per_second":
        assert facts.pop(name) > 0
    latency = facts.pop("latency")
    assert latency.pop("p95") >= latency.pop("p50") > 0
    assert latency == {"count": 1}
    assert facts == {
        "lines": 2,
        "answered": 1,
        "failed": 1,
        "failures": {"bad_line": 1},
        "not_answered": 0,
        "not_answered_because": {},
        "skipped": 0,
        "skipped_failed": 0,
        "changed": 0,
        "lost": 0,
        "retried": 0,
        "prompt_tokens": 2,
        "completion_tokens": 2,
        "cached_tokens": 0,
        "estimated": 0,
        "cost": None,
        "unpriced": 0,
        "first_token": {"count": 0, "p50": None, "p95": None},
        "stopped": None,
        "answered_by": f"Horay at {echo[-1]}",
        "output": str(target),
        "set_aside": [],
        "former": 0,
    }


def test_batch_quiet(echo, prompts, command):
    """
    `--quiet` leaves errors.
    """
    code, _, err = command("batch", prompts({"prompt": "a"}, "{oops"), *echo, "-q")
    assert code == 1
    assert err.startswith("horay: line 2: not JSON")
    assert err.count("\n") == 1


def test_batch_names_the_emulator(prompts, command):
    """
    An emulator does not pass for a model.
    """
    _, _, err = command(
        "batch", prompts({"prompt": "a", "max_tokens": 2}), "--emulator"
    )
    assert ", by the local emulator (no real model)\n" in err


# The input -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.jsonl", "-"])
def test_batch_gzip(echo, tmp_path, name, command):
    """
    Gzipped lines are told by their first bytes, whatever the file is called.
    """
    packed = gzip.compress(b'\xef\xbb\xbf{"prompt": "one"}\r\n\r\n{"prompt": "two"}')
    source = tmp_path / (name if name != "-" else "in")
    source.write_bytes(packed)
    words = "batch", source if name != "-" else "-", *echo
    code, out, err = command(*words, stdin=packed)
    assert code == 0
    assert {key: text_of(line) for key, line in results(out).items()} == {
        "line-1": "one",
        "line-3": "two",
    }
    assert "2 lines: 2 answered" in err


def test_batch_broken_gzip(echo, tmp_path, command):
    """
    What could be read of a broken file is answered.
    """
    lines = [json.dumps({"prompt": os.urandom(20).hex()}) for _ in range(500)]
    source = tmp_path / "in.jsonl.gz"
    source.write_bytes(gzip.compress("\n".join(lines).encode())[:-5000])
    code, out, err = command("batch", source, *echo)
    assert code == 1
    said, summary, *_ = err.splitlines()
    assert said == f"horay: cannot read {source} to its end: it ends too early (gzip)"
    answered = len(out.splitlines())
    assert answered > 100
    assert f"stopped; {answered} lines: {answered} answered, 0 failed" in summary
    assert "the others not answered" in summary


def test_batch_slow_pipe(echo):
    """
    A line of a pipe is answered when it comes, not when the next one does.
    """
    with start("batch", "-", *echo) as process:
        for word in ("one", "two"):
            process.stdin.write(json.dumps({"prompt": word}) + "\n")
            process.stdin.flush()
            assert text_of(json.loads(process.stdout.readline())) == word
        process.stdin.close()
        assert process.wait(WAIT) == 0


# How to answer ---------------------------------------------------------------------


def test_batch_system(prompts, command):
    """
    A system message goes before the conversations that have none.
    """
    own = {"role": "system", "content": "own"}
    hi = {"role": "user", "content": "hi"}
    text = {"model": MODEL, "prompt": "hi", "max_tokens": 1}
    source = prompts(
        {"prompt": "hi"},
        {"turns": ["hi", "hi"]},
        {"messages": [own, hi]},
        {"url": "/v1/completions", "body": text},
    )
    with emulating() as server:
        words = "batch", source, *server.words, "--concurrency", 1
        assert command(*words, "--system", "Be brief.")[0] == 0
        seen = [request.json.get("messages") for request in server.requests]
    given = {"role": "system", "content": "Be brief."}
    assert seen[0] == [given, hi]
    assert seen[1] == [given, hi]
    assert seen[2][::2] == [given, {"role": "assistant", "content": "hi"}]
    assert seen[3:] == [[own, hi], None]


def test_batch_options(prompts, command):
    """
    All options of a request hold, a line's own before them.
    """
    source = prompts({"prompt": "a", "max_tokens": 7}, {"prompt": "b"})
    options = "--max-completion-tokens", 9, "--extra", "novel=[1]", "--stop", "x"
    with emulating() as server:
        words = "batch", source, *server.words, "--concurrency", 1, *options
        assert command(*words)[0] == 0
        first, second = (request.json for request in server.requests)
    assert first["max_tokens"] == 7
    assert "max_completion_tokens" not in first
    assert second["max_completion_tokens"] == 9
    assert first["novel"] == second["novel"] == [1]
    assert first["stop"] == ["x"]
