"""
The listening port: it can be shut for a while, and stays ours.
"""

import asyncio
import socket
import sys

from collections.abc import Callable
from typing import Any


class Door:
    """
    Accepts connections, or refuses them.
    """

    def __init__(self, accept: Callable[[], asyncio.Protocol], backlog: int) -> None:
        self._accept = accept
        self._backlog = backlog
        self._servers: list[asyncio.Server] = []
        self._held: list[socket.socket] = []

    @property
    def is_open(self) -> bool:
        return bool(self._servers)

    async def open(self, host: str, port: int) -> int:
        """
        Listen. Returns the port.
        """
        server = await asyncio.get_running_loop().create_server(
            self._accept, host, port, backlog=self._backlog
        )
        self._servers = [server]
        port = server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    def shut(self) -> None:
        """
        Refuse connections from now on.

        The port stays bound, to sockets that do not listen: nobody else can be given it.
        """
        places = [
            (sock.family, sock.getsockname())
            for server in self._servers
            for sock in server.sockets
        ]
        for server in self._servers:
            server.close()
        self._servers = []
        self._held = [_hold(family, place) for family, place in places]

    async def reopen(self) -> None:
        """
        Listen again, where we did.
        """
        loop = asyncio.get_running_loop()
        while self._held:
            # Not serving yet, and so nothing to wait for: whoever is cancelled leaves no
            # server behind that nobody knows.
            server = await loop.create_server(
                self._accept,
                sock=self._held.pop(),
                backlog=self._backlog,
                start_serving=False,
            )
            self._servers.append(server)
        for server in self._servers:
            await server.start_serving()

    def close(self) -> None:
        """
        Stop listening for good.
        """
        for server in self._servers:
            server.close()
        for sock in self._held:
            sock.close()
        self._held = []

    async def wait_closed(self) -> None:
        """
        Wait until it is closed: until the connections are, from Python 3.12 on.
        """
        for server in self._servers:
            await server.wait_closed()


def _hold(family: int, place: tuple[Any, ...]) -> socket.socket:
    """
    A socket that is bound and does not listen.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let anybody in
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
    except BaseException:
        sock.close()
        raise
    return sock
