"""
`--local` and `--gguf`: a real model behind the command line.
"""

import io
import json
import os
import signal
import sys

from pathlib import Path

import pyte
import pytest

from horay_async.cli import _target, main
from horay_async.cli._fetching import Fetching
from horay_async.local import LocalModel, LocalModelError
from processes import alive, wait_until
from shell import WAIT, horay, start


LINUX = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")

# Where the fixture `llama` has it fetched.
ENV = {key: os.environ[key] for key in ("HOME", "HORAY_CACHE") if key in os.environ}


def children(pid):
    """
    The processes that it has started.
    """
    tasks = Path(f"/proc/{pid}/task")
    return [
        int(child)
        for task in tasks.iterdir()
        for child in (task / "children").read_text().split()
    ]


def test_answers(llama):
    """
    A real model answers, and is named.
    """
    words = "chat", "Say hello.", "--local", "--max-tokens", 8
    code, out, err = horay(*words, env=ENV)
    assert code == 0
    assert out.strip()
    assert err == "horay: answered by SmolLM2-135M (llama.cpp) on this machine\n"


def test_more_than_its_slots(llama):
    """
    More answers than it writes at once come in several calls.
    """
    words = "chat", "Say hello.", "--local", "--max-tokens", 2, "-n", 6, "--json"
    code, out, _ = horay(*words, env=ENV)
    assert code == 0
    assert [choice["index"] for choice in json.loads(out)["choices"]] == [*range(6)]


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays(llama, number):
    """
    However the command ends, no model server stays behind.
    """
    words = "chat", "Tell a long story.", "--local", "--ignore-eos"
    with start(*words, env=ENV) as process:
        assert process.stdout.read(1)
        (server,) = children(process.pid)
        assert alive(server)
        process.send_signal(number)
        code = process.wait(WAIT)
        assert code == (130 if number == signal.SIGINT else -number)
        wait_until(lambda: not alive(server))
        assert "Traceback" not in process.stderr.read()


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_starts(llama, number):
    """
    Nor when it was only about to start.
    """
    with start("chat", "hi", "--local", env=ENV) as process:
        wait_until(lambda: children(process.pid))
        (server,) = children(process.pid)
        process.send_signal(number)
        assert process.wait(WAIT) == 128 + number
        wait_until(lambda: not alive(server))
        assert not process.stderr.read()
        assert not process.stdout.read()


def test_models(llama):
    """
    Its model can be listed; it has no accounts.
    """
    code, out, _ = horay("models", "--local", env=ENV)
    assert (code, out) == (0, f"{llama.model}\n")


@pytest.mark.parametrize("named", [b"not a model", None])
def test_bad_gguf(tmp_path, capsys, named):
    """
    A file that is no model is one sentence, and nothing was sent.
    """
    path = tmp_path / "model.gguf"
    if named is not None:
        path.write_bytes(named)
    assert main(["chat", "hi", "--gguf", str(path)]) == 2
    captured = capsys.readouterr()
    assert str(path) in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_without_the_extra(monkeypatch, capsys):
    """
    Without the extra the sentence names it.
    """
    monkeypatch.setitem(sys.modules, "filelock", None)
    for name in [name for name in sys.modules if name.startswith("horay_async.local")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["chat", "hi", "--local"]) == 2
    err = capsys.readouterr().err
    assert "pip install 'horay-async[local]'" in err
    assert err.count("\n") == 1


def test_own_file(monkeypatch, capsys):
    """
    What the library says of its argument names the option.
    """

    class Unfetched(LocalModel):
        async def start(self):
            sentence = "or name a GGUF file of your own: gguf=... (--gguf)"
            raise LocalModelError(f"there is no model, {sentence}")

    monkeypatch.setattr("horay_async.cli._target.LocalModel", Unfetched)
    assert main(["chat", "hi", "--local"]) == 2
    sentence = "there is no model, or name a GGUF file of your own: --gguf PATH"
    assert capsys.readouterr().err == f"horay: {sentence}\n"


# Fetching --------------------------------------------------------------------------


class Fetched(LocalModel):
    """
    A model that is fetched, as far as anybody sees, and no more.
    """

    async def start(self):
        for done in (0, 30_000_000, 92_900_000):
            self._on_fetch(done, 92_900_000)
        raise LocalModelError("that was all")

    async def close(self):
        pass


def test_fetching_elsewhere(monkeypatch, capsys):
    """
    Where stderr is no terminal, the download is one line.
    """
    monkeypatch.setattr(_target, "LocalModel", Fetched)
    assert main(["chat", "hi", "--local"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "horay: fetching the model, 93 MB, once",
        "horay: that was all",
    ]


class Screen(io.StringIO):
    """
    A stderr that is a terminal.
    """

    def isatty(self):
        return True

    def show(self, columns):
        """
        What stands on it, and the cursor.
        """
        screen = pyte.Screen(columns, 10)
        screen.set_mode(pyte.modes.LNM)  # a line feed returns the carriage, too
        pyte.Stream(screen).feed(self.getvalue())
        return [line.rstrip() for line in screen.display if line.strip()], screen.cursor


@pytest.mark.parametrize("columns", [80, 30])
def test_fetching_on_a_terminal(monkeypatch, columns):
    """
    On a terminal it is a bar of one line, which leaves nothing behind, even if stopped.
    """
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(KeyboardInterrupt), Fetching() as fetching:
        fetching.show(0, 92_900_000)
        fetching.show(46_450_000, 92_900_000)
        fetching._bar._progress.refresh()
        lines, _ = screen.show(columns)
        assert len(lines) == 1
        assert lines[0].startswith("fetching the model")
        if columns == 80:
            assert "46.5/92.9 MB" in lines[0]
        raise KeyboardInterrupt
    lines, cursor = screen.show(columns)
    assert lines == []
    assert (cursor.x, cursor.hidden) == (0, False)


def test_nothing_to_fetch(capsys):
    """
    What is there already is not spoken of.
    """
    with Fetching():
        pass
    assert not capsys.readouterr().err
