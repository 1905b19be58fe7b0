"""
The local model's processes end with ours, however that ends.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

from pathlib import Path

import pytest

import horay_async

from horay_async.local._children import Child
from processes import alive, wait_until


pytestmark = [pytest.mark.timeout(60)]

PARENT = f"""
import os, sys, time
sys.path.insert(0, {str(Path(horay_async.__file__).parents[1])!r})
from horay_async.local._children import Child
child = Child(sys.argv[1])
while child.log.said is None:
    time.sleep(0.01)
sibling = os.fork() if sys.argv[2:] == ["fork"] else os.getpid()
if sibling:
    print(child.log.said, sibling, flush=True)
time.sleep(60)
"""

IDLE = "say(os.getpid()); time.sleep(60)"
# As a model is loaded: without letting go of the interpreter.
BUSY = "import ctypes; say(os.getpid()); ctypes.PyDLL(None).sleep(60)"


@contextlib.contextmanager
def parent(*arguments):
    """
    Another process like us, and the id of its child.
    """
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            child, sibling = map(int, process.stdout.readline().split())
            assert alive(child)
            yield process, child, sibling
        finally:
            process.kill()


@pytest.mark.parametrize(
    "program",
    [
        IDLE,
        pytest.param(
            BUSY, marks=pytest.mark.skipif(sys.platform != "linux", reason="no SIGIO")
        ),
    ],
    ids=["idle", "loading"],
)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_dies_with_its_parent(how, program):
    """
    Even where that can clean up nothing, and even in the middle of loading.
    """
    with parent(program) as (process, child, _):
        process.send_signal(how)
        process.wait()
        wait_until(lambda: not alive(child))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_dies_although_a_fork_holds_the_pipe():
    """
    As a worker of `multiprocessing` may, which was started after it.
    """
    with parent(IDLE, "fork") as (process, child, sibling):
        process.kill()
        process.wait()
        try:
            assert alive(sibling)
            wait_until(lambda: not alive(child))
        finally:
            os.kill(sibling, signal.SIGKILL)


def test_dies_when_nobody_holds_it():
    """
    Forgotten without an end, though its log is still being read.
    """
    child = Child(IDLE)
    log = child.log
    wait_until(lambda: log.said)
    pid = int(log.said)
    with pytest.warns(ResourceWarning):  # Python's own, about the process and the pipe
        del child
    wait_until(lambda: not alive(pid))


LOGGING = r"""
os.write(2, b"half a line ")
say("a word")
os.write(2, b"caf\xe9\n\n\n" + repr(sys.argv[1:]).encode())
os.write(1, b"\nanother word\n")
"""


@pytest.mark.parametrize("verbose", [True, False])
def test_what_it_says(verbose, capsys):
    """
    One word for us, beside all that it logs, in whatever bytes and to either stream.
    """
    child = Child(LOGGING, "--an", "argument", verbose=verbose)
    wait_until(lambda: not child.running)
    child.end()
    assert child.exit_code == 0
    assert child.log.said == "a word"
    said = ["half a line caf\ufffd", "['--an', 'argument']", "another word"]
    assert list(child.log.lines) == said
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in said * verbose))


def test_what_it_says_last(monkeypatch):
    """
    It is there after the end, however slowly it is read.
    """

    class Slow:
        def write(self, _):
            time.sleep(0.1)

    monkeypatch.setattr(sys, "stderr", Slow())
    child = Child("print('first\\nlast', flush=True)", verbose=True)
    wait_until(lambda: not child.running)
    child.end()
    assert list(child.log.lines) == ["first", "last"]


def test_end():
    """
    At once, and twice is fine.
    """
    child = Child(IDLE)
    wait_until(lambda: child.log.said)
    for _ in range(2):
        child.end()
        assert not child.running
    assert child.exit_code == -signal.SIGKILL
