"""
A local Horay and Empower, for tests, faults and load.

Real sockets, real event streams, and no network: `async with Emulator() as server:` and
point any client at `server.base_url`.
"""

try:
    from ._report import Request
    from ._script import Answer
    from ._server import Emulator, serve_forever
    from .faults import FAULTS, Fault
except ModuleNotFoundError as missing:
    if missing.name != "h11":
        raise
    raise ModuleNotFoundError(
        "the emulator stands on h11, which its extra brings:"
        " pip install 'horay-async[emulator]'",
        name="h11",
    ) from None


__all__ = ["FAULTS", "Answer", "Emulator", "Fault", "Request", "serve_forever"]
