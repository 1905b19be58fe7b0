"""
What is expected where the framing of HTTP goes wrong.
"""

from attrs import evolve

from fault_table_connections import BROKEN, NOTHING, RIGHT
from fault_table_ends import TEXT, both, breaks, cut, fails, late, row, whole


def refused(status, says=""):
    """
    An answer with another status than 2xx, which is final.
    """
    return both(fails("APIStatusError", status=status, says=says))


# Megabytes: nothing of this is worth keeping.
LITTLE = 4

# Bytes may come, but none of the body.
UNENDED = row(late("silence", TEXT), late("deadline"))


def empty(status):
    """
    It said 2xx, and nothing else.
    """
    return row(
        breaks("IncompleteStreamError", status=status),
        fails("APIResponseValidationError", status=status),
    )


EMPTY = empty(200)

BODIES = {
    "truncated-length": BROKEN,
    "excess-length": RIGHT,
    "two-lengths": NOTHING,
    "bad-length": NOTHING,
    "negative-length": NOTHING,
    "huge-length": NOTHING,
    "length-and-chunked": NOTHING,
    "truncated-chunked": row(whole(), breaks()),
    "bad-chunk-size": BROKEN,
    # Legal, if hardly true: nobody can tell before a clock runs out.
    "huge-chunk-size": UNENDED,
    "negative-chunk-size": BROKEN,
    "chunk-size-endless": evolve(UNENDED, most=LITTLE),
    "chunk-extension": RIGHT,
    "chunk-extension-flood": evolve(UNENDED, most=LITTLE),
    # The fourth piece came in a chunk that was whole.
    "missing-chunk-crlf": row(cut(f"{TEXT} four"), breaks()),
    "trailers": RIGHT,
    "trailers-endless": row(whole(), breaks(), most=LITTLE),
}

HEADS = {
    "malformed-status-line": NOTHING,
    "status-line-garbage": NOTHING,
    "status-not-a-number": NOTHING,
    "status-99": NOTHING,
    "status-1000": NOTHING,
    "wrong-http-version": NOTHING,
    "tls-instead": NOTHING,
    "status-line-endless": evolve(NOTHING, most=LITTLE),
    "no-reason-phrase": RIGHT,
    "http-0.9": NOTHING,
    "http-1.0": RIGHT,
    "http-2-preface": NOTHING,
    "header-without-colon": NOTHING,
    "header-with-nul": NOTHING,
    "header-folded": RIGHT,
    "header-empty-name": NOTHING,
    "header-space-before-colon": NOTHING,
    "header-latin1": RIGHT,
    "header-huge": NOTHING,
    "headers-many": NOTHING,
    "headers-endless": evolve(NOTHING, most=LITTLE),
    "lf-only-head": RIGHT,
}

INFORMAL = {
    "continue-100": RIGHT,
    "continue-100-many": RIGHT,
    "continue-100-endless": both(
        breaks(says="more than 100 interim answers"), most=LITTLE
    ),
    "processing-102": RIGHT,
    "early-hints-103": RIGHT,
    "switching-101": refused(101),
    "no-content-204": empty(204),
    "reset-content-205": empty(205),
    "not-modified-304": refused(304),
    "empty-body": EMPTY,
    "empty-stream": EMPTY,
}

REDIRECTS = {
    f"redirect-{status}": refused(status, "elsewhere")
    for status in (301, 302, 303, 307, 308)
} | {
    "redirect-other-host": refused(307, "http://127.0.0.2:9/"),
    "redirect-other-port": refused(307, ":9/"),
    "redirect-loop": refused(307, "/completions"),
    "redirect-file": refused(307, "file:///etc/passwd"),
    "redirect-no-location": refused(307),
}

FRAMING = BODIES | HEADS | INFORMAL | REDIRECTS
