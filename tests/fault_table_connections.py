"""
What is expected where the connection goes wrong.
"""

from fault_table_ends import TEXT, both, breaks, cut, fails, late, row, whole


# Nothing came: neither a stream nor a plain call can have shown anything.
NOTHING = both(breaks())

# A stream that has begun keeps what came; a plain answer that is not whole is none.
BROKEN = row(cut(), breaks())

# Headers came, but no content: the same as nothing, in a stream's own words.
BEGUN = row(breaks("IncompleteStreamError"), breaks())

SILENT = row(late("first_token"), late("deadline"))

RIGHT = both(whole())

CONNECTIONS = {
    # It lasts for half a second: the second try may be too early.
    "refused": both(breaks(says="refused"), unseen=None, patient=True),
    "reset-at-accept": both(breaks(), unseen=1),
    "close-at-accept": both(breaks(), unseen=1),
    "hang-at-accept": row(late("first_token"), late("deadline"), unseen=1),
    "reset-before-headers": NOTHING,
    "close-before-headers": NOTHING,
    "hang-before-headers": SILENT,
    "close-in-headers": NOTHING,
    "reset-in-headers": NOTHING,
    "hang-in-headers": SILENT,
    "slow-headers": SILENT,
    "reset-after-headers": BEGUN,
    "close-after-headers": BEGUN,
    "hang-after-headers": SILENT,
    "reset-mid-chunk": BROKEN,
    "close-mid-chunk": BROKEN,
    "reset-mid-stream": BROKEN,
    "close-mid-stream": BROKEN,
    "hang-mid-chunk": row(late("silence", TEXT), late("deadline")),
    "hang-mid-event": row(late("silence", TEXT), late("deadline")),
    "hang-mid-stream": row(late("silence", TEXT), late("deadline")),
    "slow-body": row(late("stall", TEXT), late("deadline")),
    "pings-for-ever": SILENT,
    "pings-mid-stream": row(late("stall", TEXT), late("deadline")),
    # Every choice has its reason, so the answer is whole, whatever the connection does; a
    # plain body is not whole before its end.
    "hang-after-finish": row(whole(), late("deadline")),
    "hang-after-done": row(whole(), late("deadline")),
    "close-after-done": row(whole(), breaks()),
    "reset-after-done": row(whole(), breaks()),
    "one-byte-at-a-time": RIGHT,
    "stale-connection": both(whole(), after=2),
    "stale-reset": both(whole(), after=2),
    "stray-bytes": RIGHT,
    "stray-bytes-late": RIGHT,
    "stray-answers-endless": both(whole(), most=8),
    "early-413": both(fails("RequestTooLargeError", status=413)),
    "early-413-reset": both(fails("RequestTooLargeError", status=413)),
    "early-200-close": RIGHT,
    "cookie": both(whole(), host="localhost"),
}
