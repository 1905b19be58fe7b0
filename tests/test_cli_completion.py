"""
`horay --install-completion`: what the shell knows of the command afterwards.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys

import pytest

from shell import CLEAN, WAIT, horay


BASH = shutil.which("bash")

# What bash does when somebody presses Tab.
TAB = """
. ~/.bashrc
complete -p horay
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_horay
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """
    The home of somebody who has installed it, and something of their own.
    """
    home = tmp_path_factory.mktemp("home")
    (home / ".bashrc").write_text("export OWN=1\n")
    env = {"HOME": str(home), "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
    for _ in range(2):
        code, out, err = horay("--install-completion", "--shell", "bash", env=env)
        assert (code, err) == (0, "")
        assert str(home) in out
    return home


def test_installed_once(home):
    """
    The shell's own file is added to, once.
    """
    lines = (home / ".bashrc").read_text().splitlines()
    assert lines[0] == "export OWN=1"
    assert sum("completion" in line and "[ -f" in line for line in lines) == 1


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["horay", "com"], "complete"),
        (["horay", "chat", "--temp"], "--temperature"),
        (["horay", "chat", "--emulator", "--ignore-eos", "--loc"], "--local"),
        (["horay", "chat", "--service", "e"], "empower"),
        (["horay", "batch", "--conc"], "--concurrency"),
    ],
)
def test_bash(home, words, completed):
    """
    A real bash takes the script, and completes commands, options and values.
    """
    done = subprocess.run(
        [BASH, "--norc", "-c", TAB, "bash", *words],
        check=True,
        env=CLEAN | {"HOME": os.fspath(home)},
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT,
    )
    rule = "complete -o bashdefault -o default -F _horay horay"
    assert done.stdout.splitlines() == [rule, completed]
    assert not done.stderr


@pytest.mark.skipif(BASH is None or sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize(
    "words", ["batch", "batch in.jsonl -o", "chat --gguf", "batch --gguf"]
)
def test_file_names(home, tmp_path, words):
    """
    Where no word of ours fits, Tab completes file names, as everywhere.
    """
    (tmp_path / "mine.jsonl").touch()
    with tabs(home, tmp_path) as file:
        os.write(file, f"horay {words} mi\t".encode())
        seen = b""
        while b"mine.jsonl" not in seen:
            assert select.select([file], [], [], WAIT)[0], seen
            seen += os.read(file, 1024)


@contextlib.contextmanager
def tabs(home, directory):
    """
    A bash at a terminal that has read its startup file.
    """
    import pty

    # A long prompt would break the line that is looked at.
    rc = directory / "rc"
    rc.write_text(". ~/.bashrc\nPS1='$ '\n")
    pid, file = pty.fork()
    if pid == 0:
        os.chdir(directory)
        env = CLEAN | {"HOME": os.fspath(home), "TERM": "dumb"}
        os.execve(BASH, [BASH, "--rcfile", rc, "-i"], env)
    try:
        yield file
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(file)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(tmp_path, shell):
    """
    Other shells get a script of theirs.
    """
    script = tmp_path / "script"
    words = "--install-completion", "--shell", shell, "--output", script
    code, _, _ = horay(*words, env={"HOME": str(tmp_path)})
    assert code == 0
    assert "horay" in script.read_text()


def test_no_place(tmp_path):
    """
    Where nothing can be written, a sentence names the place.
    """
    (tmp_path / ".local").write_text("a file in the way")
    words = "--install-completion", "--shell", "bash"
    code, out, err = horay(*words, env={"HOME": str(tmp_path)})
    assert (code, out) == (1, "")
    assert str(tmp_path / ".local") in err
    assert err.count("\n") == 1
