"""
`horay faults`: what the emulator can be told to get wrong.
"""

import itertools

from ._failures import Exit, put
from ._output import AsJson, need_stdout, put_json


def faults(*, as_json: AsJson = False) -> Exit:
    """
    List the faults that the emulator can have: horay serve --fault NAME=SHARE.
    """
    need_stdout()
    from ..emulator import FAULTS  # noqa: PLC0415 -- h11, which most commands never need

    known = FAULTS.values()
    if as_json:
        facts = ("name", "group", "at", "does", "right")
        put_json([{fact: getattr(fault, fact) for fact in facts} for fault in known])
        return Exit.OK
    width = max(map(len, FAULTS))
    groups = itertools.groupby(known, key=lambda fault: fault.group)
    parts = [
        f"{group}\n"
        + "".join(f"  {fault.name:<{width}}  {fault.does}\n" for fault in members)
        for group, members in groups
    ]
    put("\n".join(parts))
    return Exit.OK
