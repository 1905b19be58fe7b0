"""
Where prompts come from: words, stdin, or both.
"""

import io
import os
import sys

import pytest

from shell import WAIT, horay, start


UNREAD = "horay: stdin was not read; add - to put it after the prompt\n"


def piped(monkeypatch, data):
    """
    Have something stand in stdin.
    """
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# Stdin is read ---------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["-"]])
@pytest.mark.parametrize("command", ["chat", "complete"])
def test_stdin(say, monkeypatch, command, words):
    """
    Without a prompt, or as the prompt -, stdin is read; its last line end is the shell's.
    """
    piped(monkeypatch, "\ufeffone\n二\n\n".encode())
    assert say(command, *words) == (0, "one\n二\n", "")


@pytest.mark.parametrize("words", [["Sum up:", "-"], ["-", "Sum up:"]])
@pytest.mark.parametrize("command", ["chat", "complete"])
def test_stdin_after_a_prompt(say, monkeypatch, command, words):
    """
    Beside a prompt, - puts stdin's text after it, wherever it stands.
    """
    piped(monkeypatch, b"from afar\n")
    assert say(command, *words) == (0, "Sum up:\n\nfrom afar\n", "")


def test_stdin_after_each(say, monkeypatch, server):
    """
    Several prompts all have it.
    """
    piped(monkeypatch, b"from afar\n")
    assert say("chat", "Sum up:", "-", "Translate:")[0] == 0
    sent = {request.json["messages"][-1]["content"] for request in server.requests}
    assert sent == {"Sum up:\n\nfrom afar", "Translate:\n\nfrom afar"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "stdin is empty: give a prompt, or pipe one in"),
        (b" \n", "stdin is empty: give a prompt, or pipe one in"),
        (b"ab\xff", "stdin is no UTF-8 text: byte 3"),
    ],
)
def test_bad_stdin(say, monkeypatch, data, said):
    """
    Where nothing can be asked, a sentence says why.
    """
    piped(monkeypatch, data)
    assert say("chat") == (2, "", f"horay: {said}\n")


# Stdin is left alone ---------------------------------------------------------------


def test_stdin_of_others(server):
    """
    With a prompt stdin is left alone: it may be a loop's, or never end.
    """
    with start("chat", "hi", *server.words) as process:
        assert process.wait(WAIT) == 0  # its stdin is still open
        assert process.stdout.read() == "hi\n"
        assert process.stderr.read() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="cannot look into a pipe")
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_unread_pipe(server, words):
    """
    What waits in a pipe is not taken from it, but somebody may have meant it.
    """
    reading, writing = os.pipe()
    try:
        os.write(writing, b"text\n")
        words = "chat", "hi", "there", *words, *server.words
        with start(*words, stdin=reading) as process:
            assert process.wait(WAIT) == 0  # the pipe has not ended
            assert process.stderr.read() == UNREAD
        assert os.read(reading, 10) == b"text\n"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.skipif(sys.platform == "win32", reason="no such descriptors")
def test_unread_file(server, tmp_path):
    """
    The rest of a file is a loop's; one that has been read has nothing to say.
    """
    path = tmp_path / "lines"
    path.write_text("one\ntwo\n")
    with path.open("rb", buffering=0) as file:
        file.read(4)
        words = "chat", "hi", *server.words
        with start(*words, stdin=file) as process:
            assert process.wait(WAIT) == 0
            assert process.stderr.read() == UNREAD
        assert file.read() == b"two\n"
        with start(*words, stdin=file) as process:
            assert process.wait(WAIT) == 0
            assert process.stderr.read() == ""


def test_nothing_waits(server):
    """
    Nothing is said of a stdin that is empty, or closed.
    """
    assert horay("chat", "hi", *server.words) == (0, "hi\n", "")
