"""
The command `horay` as a process, for tests that try it as a person would.
"""

import contextlib
import os
import signal
import subprocess
import sys

from pathlib import Path

import horay_async


HOUSE = Path(horay_async.__file__).parents[1]
CLEAN = {key: os.environ[key] for key in ("PATH", "SYSTEMROOT") if key in os.environ}
WAIT = 15
"""
Seconds: a process that takes longer hangs.
"""


def start(*words, env=None, **options):
    """
    Start a command with a key that the emulator takes, or in an *env* of its own.
    """
    command = [sys.executable, "-m", "horay_async", *map(str, words)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    env = {"HORAY_API_KEY": "a-key"} if env is None else env
    env = CLEAN | {"PYTHONPATH": str(HOUSE)} | env
    return subprocess.Popen(command, env=env, encoding="utf-8", **pipes | options)


def horay(*words, stdin="", **options):
    """
    Run a command to its end: exit code, stdout, stderr.
    """
    with start(*words, **options) as process:
        try:
            out, err = process.communicate(stdin, timeout=WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, err


@contextlib.contextmanager
def serving(*words):
    """
    Run `horay serve` with some options, on a free port: its base URL.
    """
    with start("serve", "--port", 0, *words) as process:
        try:
            yield process.stdout.readline().split()[1]
        finally:
            process.send_signal(signal.SIGINT)
