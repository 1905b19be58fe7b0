"""
What a forked child process may not touch, and how it is kept from it.
"""

from __future__ import annotations

import asyncio
import os
import socket

from collections.abc import Callable
from typing import Final
from weakref import WeakSet


_sockets: Final[WeakSet[socket.socket]] = WeakSet()

_inherited: Final[list[asyncio.AbstractEventLoop]] = []
"""
The parent process's loops. They stay, so that nothing closes them here.
"""


def watch(sock: socket.socket) -> None:
    """
    Remember a socket of ours, for a fork.
    """
    _sockets.add(sock)


def sever() -> None:
    """
    Take our connections from a child process, right after the fork that copied them.

    It must not touch them: they are the parent's, and so is the epoll in which they are
    registered. Nor may it keep them: a socket is only closed when its last holder lets go,
    so a stream that the parent leaves would go on as long as the child lives. Hence each
    descriptor becomes another file. Whatever still writes to it here, closes it, or takes it
    out of the epoll does that to a file that is nobody's.
    """
    nobodys = os.open(os.devnull, os.O_RDWR)
    for sock in list(_sockets):
        if sock.fileno() >= 0:
            os.dup2(nobodys, sock.fileno(), inheritable=False)
    _sockets.clear()
    os.close(nobodys)


def inherit(loop: asyncio.AbstractEventLoop | None) -> None:
    """
    Remember a loop that is the parent process's.
    """
    if loop is not None and not inherited(loop):
        _inherited.append(loop)


def inherited(loop: asyncio.AbstractEventLoop | None) -> bool:
    """
    Whether a loop is the parent process's: nothing can run on it here, or be woken.
    """
    return any(loop is one for one in _inherited)


def in_child(act: Callable[[], None]) -> None:
    """
    Have this called in each child process, before anything else runs there.
    """
    if hasattr(os, "register_at_fork"):  # pragma: no branch -- Windows
        os.register_at_fork(after_in_child=act)


in_child(sever)
