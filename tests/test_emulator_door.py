"""
The emulator's door: what it says to those who have not installed its extra.
"""

import sys

import pytest


def test_without_the_extra(monkeypatch):
    """
    The error names what to install.
    """
    for name in list(sys.modules):
        if name.startswith("horay_async.emulator"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "h11", None)
    with pytest.raises(ImportError, match=r"pip install 'horay-async\[emulator\]'"):
        from horay_async.emulator import Emulator  # noqa: F401
