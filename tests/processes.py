"""
Other processes, looked at from outside.
"""

import contextlib
import os
import time

from pathlib import Path


def alive(pid):
    """
    Whether it runs. A zombie, which nobody has collected yet, does not.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, *, bound=20):
    """
    Ask again and again what nobody tells, for *bound* seconds.
    """
    end = time.monotonic() + bound
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
