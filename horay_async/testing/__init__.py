"""
Test an app that talks to a language model, without network: a local server that says,
and does wrong, what a test tells it to, and then says what it saw.

With pytest, put `pytest_plugins = ["horay_async.testing"]` into the topmost conftest.py (or
`-p horay_async.testing` into `addopts`): that brings the fixtures `horay_emulator`,
`horay_env` and `instant_retries`. Without pytest: `with LiveEmulator() as server:`.

It is no plugin that every pytest finds by itself: importing it takes a fifth of a second,
which the tests of other projects should not pay.

PYTEST_DONT_REWRITE: else pytest warns where a test has imported this before it says that it
is a plugin.
"""

from ._live import Hold, LiveEmulator
from ._replies import refusal, reply
from ._sighting import Sighting
from ._waits import instant_retries


# Where pytest finds the fixtures. Nothing here needs it.
pytest_plugins = ["horay_async.testing._fixtures"]


__all__ = [
    "Hold",
    "LiveEmulator",
    "Sighting",
    "instant_retries",
    "refusal",
    "reply",
]
