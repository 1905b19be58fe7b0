"""
The command `horay` in a terminal, for tests that look at it as a person would.
"""

import contextlib
import os
import select
import struct
import sys
import time

import pyte

from shell import CLEAN, HOUSE, WAIT


class Terminal:
    """
    A command in a terminal of its own; `until` waits for what it shows.
    """

    def __init__(self, *words, columns=80, lines=24, env=None, cwd=None):
        # Only where there are any.
        import fcntl
        import pty
        import termios

        self.screen = pyte.Screen(columns, lines)
        self.seen = b""
        self._stream = pyte.ByteStream(self.screen)
        command = [sys.executable, "-m", "horay_async", *map(str, words)]
        env = {"HORAY_API_KEY": "a-key", "TERM": "xterm-256color", **(env or {})}
        env = CLEAN | {"PYTHONPATH": str(HOUSE), "LANG": "C.UTF-8"} | env
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            size = struct.pack("HHHH", lines, columns, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.chdir(cwd or ".")
            os.execve(command[0], command, env)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._pid is not None:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._file)

    @property
    def lines(self):
        """
        The lines of the screen that are not empty.
        """
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def type(self, text):
        os.write(self._file, text.encode())

    def until(self, holds):
        """
        Wait until *holds* of the lines on the screen.
        """
        end = time.monotonic() + WAIT
        while not holds(self.lines):
            assert time.monotonic() < end, self.lines
            assert self._read(end), self.lines

    def wait(self):
        """
        Wait for the end: the exit code.
        """
        end = time.monotonic() + WAIT
        while self._read(end):
            assert time.monotonic() < end, self.lines
        pid, self._pid = self._pid, None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _read(self, end):
        ready = select.select([self._file], [], [], max(0, end - time.monotonic()))[0]
        data = b""
        # Linux says so when the last process has left its terminal.
        with contextlib.suppress(OSError):
            data = os.read(self._file, 65536) if ready else b""
        self.seen += data
        self._stream.feed(data)
        return data
