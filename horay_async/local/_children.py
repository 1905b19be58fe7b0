"""
Processes of ours: each a Python that runs one program, and ends with us.
"""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys
import threading

from collections.abc import Mapping
from typing import IO, Any, Final

from ._errand import LocalModelError


_STOP_TIMEOUT: Final = 10.0
"""
What a killed process may take to go, in seconds.
"""

# What a child does first, so that it ends with us. Then its pipe to us closes, SIGKILL
# included, and the kernel says so by SIGIO: that ends it even while it is loading a model
# and lets none of its threads run. Where there is no SIGIO, a thread reads the pipe. A fork
# of ours may hold our end of the pipe open, so another looks whose child it is.
# (PR_SET_PDEATHSIG would act as soon as the *thread* ends that started it.)
_WATCH: Final = """
import contextlib, os, sys, threading, time

with contextlib.suppress(ImportError, AttributeError, OSError):
    import fcntl, signal
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)

def end_with_pipe():
    # Not sys.stdin: Python cannot end while a thread reads that.
    os.read(0, 1)
    os._exit(0)

def end_with_parent(parent):
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)

threading.Thread(target=end_with_pipe, daemon=True).start()
parent = int(sys.argv.pop(1))
threading.Thread(target=end_with_parent, args=[parent], daemon=True).start()
"""

# A server logs what its callers send it, so no line of a log can be trusted. What the
# program says to us goes through stdout, which nothing else can reach any more: all that is
# printed goes to stderr.
_SAY: Final = """
voice = os.dup(1)
os.dup2(2, 1)

def say(word):
    os.write(voice, f"{word}\\n".encode())
"""


class Log:
    """
    What a child prints and says, read in threads of its own until the child ends.

    It does not know the child: one that nobody holds any more can go, pipe and all.
    """

    def __init__(self, *, verbose: bool) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=200)
        self.said: str | None = None
        """
        The one thing that the program said to us, if it has.
        """
        self._verbose = verbose

    def listen(self, voice: IO[bytes]) -> None:
        with voice:
            self.said = voice.readline().decode().rstrip() or None

    def follow(self, output: IO[bytes]) -> None:
        with output:
            for raw in output:
                if line := raw.decode(errors="replace").rstrip():
                    self._keep(line)

    def _keep(self, line: str) -> None:
        self.lines.append(line)
        if self._verbose and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):  # closed: nobody listens
                sys.stderr.write(f"{line}\n")


class Child:
    """
    A running program, which has a function `say`, to be called once.

    It gets no Ctrl-C, which is meant for us. Not ended but only forgotten, it ends too.

    Raises:
        LocalModelError: No process can be started.
    """

    def __init__(
        self,
        program: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        verbose: bool = False,
    ) -> None:
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        # -P: no file where the user happens to be is taken for a module.
        python = [sys.executable, "-P", "-c", _WATCH + _SAY + program, str(os.getpid())]
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- programs of ours
                [*python, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
                **apart,
            )
        except OSError as error:
            raise LocalModelError(
                f"the Python {sys.executable!r} cannot be started: {error.strerror}"
            ) from error
        # Python keeps the Popen of a running process, whoever forgets it; not its pipe.
        self._pipe, self._process.stdin = self._process.stdin, None
        self.log = Log(verbose=verbose)
        self._readers = [
            threading.Thread(target=read, args=[pipe], daemon=True)
            for read, pipe in (
                (self.log.listen, self._process.stdout),
                (self.log.follow, self._process.stderr),
            )
        ]
        for reader in self._readers:
            reader.start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int:
        """
        0 as long as it runs; on POSIX below 0 where a signal ended it.
        """
        return self._process.poll() or 0

    def kill(self) -> None:
        """
        Kill it if it is running, and wait for nothing.
        """
        self._process.kill()

    def end(self) -> None:
        """
        Kill it if it is running, and wait for what it printed last.
        """
        assert self._pipe is not None
        self.kill()
        self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_TIMEOUT)
        for reader in self._readers:
            reader.join(_STOP_TIMEOUT)
