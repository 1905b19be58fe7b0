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

UNTELLABLE = "stray-bytes-late"
"""
The one fault that can give a client the answer to another of its calls: an answer too many
that comes when the next request on its connection is out is taken for that one's. HTTP/1.1
has no names for answers, so no client can tell.
"""


__all__ = ["FAULTS", "UNTELLABLE", "Fault"]
