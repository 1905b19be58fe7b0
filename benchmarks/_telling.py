"""
How benchmarks say on what they ran, and what is not good enough.
"""

import math
import os
import platform
import sys
import time

import horay_async


def machine(*others):
    """
    What was measured, where and when.
    """
    versions = [f"{one.__name__} {one.__version__}" for one in others]
    words = [f"horay-async {horay_async.__version__}", *versions]
    words += [f"CPython {platform.python_version()}", f"{os.cpu_count()} cores"]
    return f"{', '.join(words)}; {time.strftime('%d %B %Y')}"


def quantile(values, share):
    """
    The value that so large a share of them does not exceed.
    """
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def leave(wrong, *, check):
    """
    Say what is wrong, and exit; with 1 where somebody asked for a judge.
    """
    for words in wrong:
        print(f"Not good enough: {words}.")
    if not wrong:
        print("Good enough.")
    sys.exit(bool(wrong) and check)
