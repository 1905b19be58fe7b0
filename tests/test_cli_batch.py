"""
`horay batch`, tried as a person would.
"""

import json
import signal

from pathlib import Path

import pytest

from shell import WAIT, horay, serving, start


MODEL = "Gryphe/MythoMax-L2-13b"


@pytest.fixture(scope="module")
def echo():
    """
    The options that lead to an emulator that says what was said last.
    """
    with serving("--mode", "echo") as url:
        yield "--service", "horay", "--base-url", url


@pytest.fixture
def prompts(tmp_path):
    """
    Writes lines to a file.
    """

    def write(*lines):
        path = tmp_path / "in.jsonl"
        texts = [x if isinstance(x, str) else json.dumps(x) for x in lines]
        path.write_text("".join(text + "\n" for text in texts))
        return path

    return write


def results(text):
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["custom_id"]: line for line in lines}


def text_of(result):
    return result["response"]["body"]["choices"][0]["message"]["content"]


def test_batch(echo, prompts, tmp_path):
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
    code, out, err = horay("batch", source, "-o", target, *echo)
    assert (code, out) == (0, "")
    answers = {key: text_of(line) for key, line in results(target.read_text()).items()}
    assert answers == {"mine": "one", "line-2": "two", "theirs": "3"}
    assert "3 lines: 3 answered, 0 failed" in err


def test_batch_text_completion(echo):
    """
    A Batch line may ask for a text completion.
    """
    line = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "on and on"}}
    code, out, _ = horay("batch", "-", *echo, stdin=json.dumps(line))
    assert code == 0
    choice = results(out)["line-1"]["response"]["body"]["choices"][0]
    assert "on and on" in choice["text"]


def test_batch_turns(echo, prompts):
    """
    Turns are one conversation: a call each, the answers going back in.
    """
    source = prompts({"turns": ["first words", "and then"]})
    code, out, _ = horay("batch", source, *echo)
    assert code == 0
    line = results(out)["line-1"]
    texts = [body["choices"][0]["message"]["content"] for body in line["turns"]]
    assert texts == ["first words", "and then"]
    assert text_of(line) == "and then"
    first, second = (body["usage"]["prompt_tokens"] for body in line["turns"])
    assert second > 2 * first  # it held the question, the answer and the new question


def test_batch_bad_lines(echo, prompts):
    """
    Bad lines are named by their number, the others are answered, and the code says so.
    """
    source = prompts({"prompt": "one"}, "{oops", {"nothing": 1}, {"prompt": "four"})
    code, out, err = horay("batch", source, *echo)
    assert code == 1
    lines = results(out)
    assert text_of(lines["line-1"]) == "one"
    assert text_of(lines["line-4"]) == "four"
    assert lines["line-2"]["error"]["code"] == "bad_line"
    assert "line 2: not JSON" in err
    assert "line 3: expected one of" in err
    assert "4 lines: 2 answered, 2 failed" in err


def test_batch_options_fill_in(echo, prompts):
    """
    An option holds for the lines that leave it open.
    """
    source = prompts({"prompt": "a b c d"}, {"prompt": "a b c d", "max_tokens": 3})
    _, out, _ = horay("batch", source, *echo, "--max-tokens", 1)
    lines = results(out)
    assert text_of(lines["line-1"]) == "a"
    assert text_of(lines["line-2"]) == "a b c"


def test_batch_refused_line(echo, prompts):
    """
    One refused line fails alone.
    """
    source = prompts({"prompt": "a", "temperature": -1}, {"prompt": "b"})
    code, out, err = horay("batch", source, *echo)
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
def test_batch_options_that_cannot_work(prompts, tmp_path, options, said):
    """
    What no line could be sent with is refused at once; former answers are kept.
    """
    source, target = prompts({"prompt": "one"}, {"prompt": "two"}), tmp_path / "out"
    target.write_text("former answers")
    words = "batch", source, "-o", target, "--emulator", *options
    code, out, err = horay(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert target.read_text() == "former answers"


def test_batch_lines_name_their_models(prompts):
    """
    A service without a default model is fine for lines that name one.
    """
    source = prompts({"prompt": "one", "model": "my-lora"}, {"prompt": "two"})
    words = "batch", source, "--emulator", "--service", "empower", "--max-tokens", 4
    code, out, err = horay(*words)
    assert code == 1
    lines = results(out)
    assert lines["line-1"]["error"] is None
    assert "model" in lines["line-2"]["error"]["message"]
    assert "2 lines: 1 answered, 1 failed" in err


def test_batch_options_for_text_completions(echo):
    """
    A text completion may have options that a chat may not: no tokens, only the scores.
    """
    line = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "a"}}
    words = "batch", "-", *echo
    _, _, err = horay(*words, "--max-tokens", 0, stdin=json.dumps(line))
    assert "1 lines: " in err
    code, out, _ = horay(*words, "--temperature", "nan", stdin=json.dumps(line))
    assert (code, out) == (2, "")


def test_batch_same_id_twice(echo, prompts):
    """
    Answers that cannot be told apart are worth one sentence.
    """
    source = prompts(*[{"prompt": "one", "id": 7}] * 3)
    code, out, err = horay("batch", source, *echo, "--concurrency", 1)
    assert (code, len(out.splitlines())) == (0, 3)
    assert err.count("another line has the id '7' too") == 1
    assert "line 2: " in err


@pytest.mark.parametrize(("retries", "code"), [(0, 1), (9, 0)])
def test_batch_retries(prompts, retries, code):
    """
    A line that came too fast is asked again, as often as the user wants.
    """
    with serving("--mode", "echo", "--requests-per-second", 4) as url:
        source = prompts(*[{"prompt": "one"}] * 6)
        words = "batch", source, "--service", "horay", "--base-url", url
        assert horay(*words, "--max-retries", retries)[0] == code


def test_batch_shows_some_failures(echo, prompts):
    """
    A thousand failures do not fill the terminal.
    """
    code, out, err = horay("batch", prompts(*["{oops"] * 50), *echo)
    assert code == 1
    assert len(out.splitlines()) == 50
    assert len(err.splitlines()) == 12


def test_batch_empty(echo):
    """
    No lines are no failure.
    """
    code, out, err = horay("batch", "-", *echo)
    assert (code, out) == (0, "")
    assert "0 lines" in err


@pytest.mark.parametrize(
    ("source", "output"),
    [("missing.jsonl", "out.jsonl"), (".", "-"), ("in.jsonl", "no/such/place")],
)
def test_batch_files(echo, prompts, tmp_path, source, output):
    """
    A file that cannot be opened is one sentence; nothing is sent.
    """
    prompts({"prompt": "one"})
    words = "batch", source, "-o", output, *echo
    code, out, err = horay(*words, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("horay: cannot ")
    assert err.count("\n") == 1


def test_batch_onto_itself(echo, prompts):
    """
    The input is never emptied.
    """
    source = prompts({"prompt": "one"})
    code, _, err = horay("batch", source, "-o", source, *echo)
    assert code == 2
    assert "is the input" in err
    assert source.read_text() == '{"prompt": "one"}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_batch_full_disk(echo, prompts):
    """
    Answers that cannot be written end the batch with one sentence.
    """
    source = prompts({"prompt": "one"}, {"prompt": "two"})
    code, _, err = horay("batch", source, "-o", "/dev/full", *echo)
    assert code == 1
    assert err == "horay: cannot write the answers: No space left on device\n"


def test_batch_closed_pipe(echo, prompts):
    """
    A reader of stdout that leaves ends the batch without a word.
    """
    source = prompts(*[{"prompt": "one"}] * 200)
    with start("batch", source, *echo) as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(WAIT) == 141
    assert not err


def test_batch_interrupted(echo):
    """
    Ctrl-C ends a batch at once, even one that waits for its input; answers are kept.
    """
    with start("batch", "-", "-o", "-", *echo) as process:
        process.stdin.write('{"prompt": "one"}\n')
        process.stdin.flush()
        assert text_of(json.loads(process.stdout.readline())) == "one"
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130
        err = process.stderr.read()
    assert "stopped; 1 lines: 1 answered" in err
    assert "Traceback" not in err
