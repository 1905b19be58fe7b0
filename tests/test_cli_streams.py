"""
The command `horay` where its standard streams are closed or full.
"""

import subprocess
import sys

from pathlib import Path

import pytest

from shell import CLEAN, HOUSE, WAIT


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
COMMAND = sys.executable, "-m", "horay_async"
WHOLE = "--emulator", "--max-tokens", "4"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")


def horay(*words, redirect):
    """
    Run a command as a shell does, with a redirection: exit code, stdout, stderr.
    """
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", *COMMAND, *map(str, words)],
        check=False,
        env=CLEAN | {"PYTHONPATH": str(HOUSE)},
        encoding="utf-8",
        input='{"prompt": "one"}\n',
        capture_output=True,
        timeout=WAIT,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "redirect", "said"),
    [
        (["chat", "hi"], ">&-", "stdout is closed: there is nowhere to write"),
        (["complete", "hi"], ">&-", "stdout is closed: there is nowhere to write"),
        (["chat"], "<&-", "cannot read stdin: it is closed; give a prompt"),
        (["chat"], "</dev/null", "stdin is empty: give a prompt, or pipe one in"),
        (["batch", "-"], ">&-", "cannot write to stdout: it is closed"),
        (["batch", "-"], "<&-", "cannot read stdin: it is closed"),
    ],
)
def test_closed(words, redirect, said):
    """
    What cannot be read or written is one sentence; nothing is sent.
    """
    code, out, err = horay(*words, *WHOLE, redirect=redirect)
    assert (code, out) == (2, "")
    assert err.startswith(f"horay: {said}")
    assert err.count("\n") == 1


def test_closed_but_not_needed(tmp_path):
    """
    Answers that go to a file need no stdout, and prompts from one no stdin.
    """
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "one"}\n')
    words = "batch", source, "-o", target, *WHOLE
    code, _, err = horay(*words, redirect="<&- >&-")
    assert code == 0
    assert "1 answered" in err
    assert len(target.read_text().splitlines()) == 1


def test_closed_stderr():
    """
    What is meant for stderr does not stray among the answers.
    """
    code, out, _ = horay("chat", "hi", *WHOLE, redirect="2>&-")
    assert code == 0
    assert "horay:" not in out


@FULL
def test_full():
    """
    An answer that cannot be written is a failure, and one sentence.
    """
    code, _, err = horay("chat", "hi", *WHOLE, redirect=">/dev/full")
    assert code == 1
    sentence = "horay: cannot write the answer: No space left on device"
    assert err.splitlines()[-1] == sentence
    assert err.count("cannot") == 1


@FULL
@pytest.mark.parametrize("words", [["version"], ["--help"], ["models", "--emulator"]])
def test_full_for_others(words):
    """
    The same goes for what is no answer.
    """
    code, _, err = horay(*words, redirect=">/dev/full")
    assert code == 1
    sentence = "horay: cannot write the answer: No space left on device"
    assert [line for line in err.splitlines() if "answered by" not in line] == [
        sentence
    ]


@FULL
def test_full_stderr():
    """
    Sentences that nobody can read do not keep an answer from being written.
    """
    code, out, _ = horay("chat", "hi", *WHOLE, redirect="2>/dev/full")
    assert code == 0
    assert out.strip()
