"""
What is expected of every fault: a row for each name, out of one table for each group.
"""

from fault_table_bodies import BODIES, ENCODINGS
from fault_table_connections import CONNECTIONS
from fault_table_events import EVENTS
from fault_table_framing import FRAMING
from fault_table_refusals import REFUSALS, WAITS
from fault_table_stream_errors import STREAM_ERRORS
from faulting import Case
from horay_async.emulator import FAULTS


TABLE = {
    **CONNECTIONS,
    **FRAMING,
    **EVENTS,
    **BODIES,
    **ENCODINGS,
    **STREAM_ERRORS,
    **REFUSALS,
    **WAITS,
}


def cases_of(name, mode):
    """
    The cases that hold the client to one row: a chat without retries and with two, where
    that may make a difference, and a text completion.
    """
    row = TABLE[name]
    expected = getattr(row, mode)
    facts = {
        "fault": FAULTS[name],
        "mode": mode,
        "expected": expected,
        "unseen": row.unseen,
        "after": row.after,
        "patient": row.patient,
        "host": row.host,
    }
    cases = [Case(**facts)]
    if expected.again or (expected.error and not row.most):
        cases.append(Case(**facts, retries=2))
    if not row.most:
        cases.append(Case(**facts, chat=False))
    return cases
