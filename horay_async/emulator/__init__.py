"""
A local Horay and Empower, for tests, faults and load.

Real sockets, real event streams, and no network: `async with Emulator() as server:` and
point any client at `server.base_url`.
"""

from ._report import Request
from ._script import Answer
from ._server import Emulator, serve_forever


__all__ = ["Answer", "Emulator", "Request", "serve_forever"]
