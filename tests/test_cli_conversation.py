"""
`horay chat` without a prompt: a conversation, in a real terminal.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from batching import emulating
from horay_async.emulator import Answer
from shell import CLEAN, HOUSE, WAIT, horay


if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

from terminals import Terminal


CTRL_C, CTRL_D, CTRL_U, UP = "\x03", "\x04", "\x15", "\x1b[A"
PASTE_ON, PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"


@pytest.fixture
def server():
    """
    An emulator that says what was said last.
    """
    with emulating() as server:
        yield server


def talk(server, *words, **options):
    """
    A conversation that has begun.
    """
    terminal = Terminal("chat", *server.words, *words, **options)
    terminal.until(asks)
    return terminal


@contextlib.contextmanager
def insisting(act):
    """
    Do it once more, as a person would, where nothing has come of it after a while.

    readline looks whether a signal has come and then begins to wait for keys: one that
    comes in between is not heard before the next.
    """
    done = threading.Event()

    def repeat():
        act()
        while not done.wait(4):
            with contextlib.suppress(OSError):
                act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def asks(lines):
    """
    Whether it waits for somebody to type.
    """
    return bool(lines) and lines[-1] == ">"


def said(server):
    """
    What stood in each request, without the roles.
    """
    return [
        [message["content"] for message in request.json["messages"]]
        for request in server.requests
    ]


def hanging(*before):
    """
    Half an answer, whose other half never comes.
    """
    return Answer.chat(*before, "half", finish=None, done=False, end="hang")


def test_conversation(server):
    """
    What was said goes along; Ctrl-D ends it.
    """
    with talk(server, "-s", "Be short.") as terminal:
        terminal.type("How are you?\n")
        terminal.until(lambda lines: "How are you?" in lines and asks(lines))
        terminal.type("\n   \nFine.\n")
        terminal.until(lambda lines: "Fine." in lines and asks(lines))
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
        model = "meta-llama/Meta-Llama-3.1-8B-Instruct"
        assert terminal.lines == [
            f"horay: {model} at Horay; /help, Ctrl-D ends",
            "> How are you?",
            "How are you?",
            ">",
            ">",
            "> Fine.",
            "Fine.",
            ">",
        ]
        assert terminal.screen.cursor.x == 0
        assert not terminal.screen.cursor.hidden
    assert said(server) == [
        ["Be short.", "How are you?"],
        ["Be short.", "How are you?", "How are you?", "Fine."],
    ]


def test_commands(server):
    """
    The few commands; what only looks like one is a question.
    """
    with talk(server) as terminal:
        terminal.type("/help\n")
        terminal.until(lambda lines: "/reset" in str(lines) and asks(lines))
        terminal.type("/nonsense\n")
        terminal.until(lambda lines: "no command /nonsense" in str(lines[-3:]))
        terminal.type("one\n")
        terminal.until(lambda lines: "one" in lines and asks(lines))
        terminal.type("/system Be kind.\n")
        told = ["(told; what was said is forgotten)", ">"]
        terminal.until(lambda lines: lines[-2:] == told)
        assert b"\x1b[2m(told; what was said is forgotten)\x1b[0m" in terminal.seen
        terminal.type("two\n")
        terminal.until(lambda lines: "two" in lines and asks(lines))
        terminal.type("/reset\n")
        terminal.until(
            lambda lines: lines[-2:] == ["(what was said is forgotten)", ">"]
        )
        terminal.type("/etc/hosts?\n")
        terminal.until(lambda lines: "/etc/hosts?" in lines and asks(lines))
        terminal.type("/system\n")
        nothing = "(told nothing; what was said is forgotten)"
        terminal.until(lambda lines: lines[-2:] == [nothing, ">"])
        terminal.type("three\n")
        terminal.until(lambda lines: "three" in lines and asks(lines))
        terminal.type("/quit\n")
        assert terminal.wait() == 0
    assert said(server) == [
        ["one"],
        ["Be kind.", "two"],
        ["Be kind.", "/etc/hosts?"],
        ["three"],
    ]


def test_stopping_an_answer(server):
    """
    Ctrl-C stops the answer at once; what came is kept, and the conversation goes on.
    """
    server.script(hanging(), hanging())
    with talk(server) as terminal:
        terminal.type("first\n")
        terminal.until(lambda lines: lines[-1] == "half")
        terminal.type(CTRL_C)
        server.call(server.wait_for_disconnect())
        stopped = ["half^C", "(stopped; what came is kept)", ">"]
        terminal.until(lambda lines: lines[-3:] == stopped)
        assert b"\x1b[2m(stopped; what came is kept)\x1b[0m" in terminal.seen
        terminal.type("second\n")
        terminal.until(lambda lines: lines[-1] == "half")
        # Another one, a moment later, finds the prompt, or what is left of the answer.
        terminal.type(CTRL_C)
        terminal.until(asks)
        with insisting(lambda: terminal.type(CTRL_C)):
            assert terminal.wait() == 0
        assert b"Traceback" not in terminal.seen
    assert said(server)[1] == ["first", "half", "second"]


def test_stopping_before_the_answer(server):
    """
    A question that had no answer yet is forgotten.
    """
    server.script(Answer(end="hang"))
    with talk(server, env={"NO_COLOR": "1"}) as terminal:
        terminal.type("first\n")
        server.call(server.wait_for_request())
        terminal.type(CTRL_C)
        terminal.until(lambda lines: lines[-2] == "(stopped; nothing had come)")
        terminal.type("second\n")
        terminal.until(lambda lines: "second" in lines and asks(lines))
        assert b"\x1b[2m" not in terminal.seen
    assert said(server) == [["first"], ["second"]]


def test_errors(server):
    """
    An error is a sentence; the question is forgotten, the conversation goes on.
    """
    broken = Answer.chat("half", finish=None, done=False, end="close")
    no = Answer.json({"error": {"message": "slow down"}}, 429)
    server.script(no, broken)
    with talk(server, "--max-retries", 0, columns=200) as terminal:
        terminal.type("first\n")
        terminal.until(lambda lines: "429 from Horay: slow down" in lines[-2])
        terminal.type("second\n")
        terminal.until(lambda lines: "half" in lines and asks(lines))
        half, sentence, _ = terminal.lines[-3:]
        assert half == "half"
        assert sentence.startswith("horay: ")
        terminal.type("third\n")
        terminal.until(lambda lines: "third" in lines and asks(lines))
        server.call(server.aclose())
        terminal.type("fourth\n")
        terminal.until(lambda lines: "is its server running?" in lines[-2])
    assert said(server) == [["first"], ["second"], ["third"]]


def test_editing(server):
    """
    Lines can be edited, and earlier ones come back.
    """
    pytest.importorskip("readline")
    with talk(server) as terminal:
        terminal.type("what wos it\x1b[D\x1b[D\x1b[D\x1b[D\x7fa\n")
        terminal.until(lambda lines: "what was it" in lines and asks(lines))
        terminal.type(UP)
        terminal.until(lambda lines: lines[-1] == "> what was it")
        # As in a shell: half a line is taken back.
        with insisting(lambda: terminal.type(CTRL_C)):
            terminal.until(asks)
    assert said(server) == [["what was it"]]


def test_leaving_by_interrupts(server):
    """
    Ctrl-C at an empty prompt tells how to leave; only a second one in a row leaves.
    """
    leaves = "(Ctrl-D or /quit ends; so does a second Ctrl-C)"

    def count(lines):
        return lines.count(leaves) if asks(lines) else 0

    with talk(server) as terminal:
        with insisting(lambda: terminal.type(CTRL_C)):
            terminal.until(lambda lines: count(lines) == 1)
        terminal.type("hi\n")
        terminal.until(lambda lines: "hi" in lines and asks(lines))
        with insisting(lambda: terminal.type(CTRL_C)):
            terminal.until(lambda lines: count(lines) == 2)
        with insisting(lambda: terminal.type(CTRL_C)):
            assert terminal.wait() == 0
        assert terminal.screen.cursor.x == 0
        # Nor does the terminal stay as the conversation wanted it.
        assert terminal.seen.count(PASTE_ON) == terminal.seen.count(PASTE_OFF)
    assert said(server) == [["hi"]]


def test_pasting(server):
    """
    Lines that are pasted together are one question.
    """
    pytest.importorskip("readline")
    with talk(server) as terminal:
        assert PASTE_ON in terminal.seen
        terminal.type("\x1b[200~one\rtwo\rthree\x1b[201~")
        terminal.until(lambda lines: lines[-1] == "three")
        assert server.requests == []
        terminal.type("\n")
        terminal.until(lambda lines: lines[-4:] == ["one", "two", "three", ">"])
    assert said(server) == [["one\ntwo\nthree"]]


def test_narrow_and_dumb(server):
    """
    A narrow or a dumb terminal gets the same words, and no escape sequences.
    """
    env = {"TERM": "dumb"}
    with talk(server, columns=20, env=env) as terminal:
        server.script(hanging())
        terminal.type("hi\n")
        terminal.until(lambda lines: "half" in lines)
        terminal.type(CTRL_C)
        terminal.until(asks)
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
        assert b"\x1b[2m" not in terminal.seen
        assert b"\x1b[1m" not in terminal.seen


def test_control_characters(server):
    """
    An answer cannot take over the terminal.
    """
    server.script(Answer.chat("a\x1b[2Jb\x07\x9bc\td"))
    with talk(server) as terminal:
        terminal.type("hi\n")
        terminal.until(lambda lines: "a[2Jbc  d" in lines[-2] and asks(lines))


@pytest.mark.parametrize("prompt", [[], ["hi"]])
def test_logged(server, prompt):
    """
    What HORAY_LOG tells begins on a line of its own, and takes no more than that.
    """
    server.script(hanging())
    words = *prompt, *server.words, "--timeout", 1
    env = {"HORAY_LOG": "info"}
    with Terminal("chat", *words, env=env, columns=250) as terminal:
        if not prompt:
            terminal.until(asks)
            terminal.type("hi\n")
        terminal.until(lambda lines: "raise --timeout" in str(lines))
        rows = [row.rstrip() for row in terminal.screen.display]
        at = rows.index("half")
        assert rows[at + 1].startswith("horay: /chat/completions ended")
        assert rows[at + 2].startswith("horay: ")


@pytest.mark.parametrize("while_answering", [False, True])
def test_terminated(server, while_answering):
    """
    SIGTERM ends it as cleanly as the user would.
    """
    server.script(hanging())
    with talk(server) as terminal:
        if while_answering:
            terminal.type("hi\n")
            terminal.until(lambda lines: lines[-1] == "half")
        pid = terminal._pid
        if while_answering:
            os.kill(pid, signal.SIGTERM)
            assert terminal.wait() == 143
        else:
            with insisting(lambda: os.kill(pid, signal.SIGTERM)):
                assert terminal.wait() == 143
        assert terminal.screen.cursor.x == 0
        assert b"Traceback" not in terminal.seen
    if while_answering:
        server.call(server.wait_for_disconnect())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "2"], "-n needs a prompt"),
        (["--json"], "--json needs a prompt"),
        (["--temperature", "-1"], "--temperature -1.0"),
        (["--service", "empower", "--emulator"], "name one"),
    ],
)
def test_not_in_conversations(words, said):
    """
    What cannot work is said before anybody types.
    """
    with Terminal("chat", *words) as terminal:
        assert terminal.wait() == 2
        assert said in " ".join(terminal.lines)


def test_not_into_a_file(tmp_path):
    """
    With stdout elsewhere nobody would see the prompt.
    """
    import pty

    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "horay_async", "chat", "--emulator"],
            check=False,
            env=CLEAN | {"PYTHONPATH": str(HOUSE)},
            stdin=theirs,
            capture_output=True,
            encoding="utf-8",
            timeout=WAIT,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a conversation needs a terminal" in done.stderr
    assert horay("complete", "--emulator", stdin="")[0] == 2
