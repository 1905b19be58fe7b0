"""
What is fuzzed: by name, with where to begin, and its share of a long run.
"""

from collections.abc import Callable

import attrs

from . import seeds
from .answers import intake
from .events import sse
from .flows import forget, stream
from .sockets import close, socket
from .values import codec, headers


@attrs.frozen
class Target:
    """
    A promise that any bytes may try to break.
    """

    name: str

    check: Callable[[bytes], None]
    """
    Raises on a broken promise.
    """

    wires: tuple[bytes, ...]

    share: float
    """
    Its part of the inputs of a run of all targets.
    """

    longest: int = 1024
    """
    Bytes of an input that coverage leads to: short ones are quick, and break as well.
    """

    close: Callable[[], None] = lambda: None
    """
    Ends what it keeps from one input to the next: a loop, a server.
    """

    @property
    def seeds(self):
        """
        The first inputs.
        """
        return seeds.inputs(self.wires)


TARGETS = {
    one.name: one
    for one in (
        Target("sse", sse, seeds.STREAMS, 0.37),
        Target("codec", codec, seeds.PLAIN, 0.25, longest=6016),
        Target("intake", intake, seeds.STREAMS, 0.18),
        Target("stream", stream, seeds.STREAMS, 0.12, close=forget),
        Target("headers", headers, seeds.HEADERS, 0.075),
        Target("socket", socket, seeds.ANSWERS, 0.005, close=close),
    )
}
