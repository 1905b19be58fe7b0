"""
Everything that is known to go wrong between a client and a server, by name.
"""

from . import _bodies, _connections, _encodings, _events, _framing, _refusals
from ._fault import Fault


_ROOMS = (_connections, _framing, _events, _bodies, _encodings, _refusals)

FAULTS: dict[str, Fault] = {
    fault.name: fault for room in _ROOMS for fault in room.FAULTS
}
"""
All faults by their names, in the order in which they are listed.
"""


__all__ = ["FAULTS", "Fault"]
