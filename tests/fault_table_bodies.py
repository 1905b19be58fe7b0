"""
What is expected where a body is not what was due: its type, its JSON, its encoding.
"""

from fault_table_connections import RIGHT
from fault_table_ends import both, breaks, cut, fails, row, whole
from fault_table_events import BODY, TOO_LARGE
from fault_table_framing import EMPTY


# What a whole reply says comes in one piece, where a stream was asked for.
ONE_PIECE = row(whole(reads=1), whole())

# The answer is no answer, and another try would not be one either.
MISFIT = both(fails("APIResponseValidationError"))


def misfit(says):
    """
    No answer, of which the error shows something.
    """
    return both(fails("APIResponseValidationError", says=says))


TYPES = {
    "html": misfit("Sign in"),
    "plain-text": misfit("upstream connect error"),
    "json-for-stream": ONE_PIECE,
    "stream-for-json": RIGHT,
    "no-content-type": RIGHT,
    "stream-as-text-plain": RIGHT,
    "stream-as-octet-stream": RIGHT,
    "charset-parameter": RIGHT,
    # What calls itself a stream, and holds not one event.
    "charset-utf16": row(
        breaks("IncompleteStreamError"), fails("APIResponseValidationError")
    ),
    "wrong-kind": RIGHT,
    "empty-answer": both(whole("")),
}

SHAPES = dict.fromkeys(
    (
        "json-invalid",
        "json-cut",
        "json-two-values",
        "json-array",
        "json-number",
        "json-string",
        "json-null",
        "json-empty-object",
        "json-no-choices",
        "json-null-choices",
        "json-empty-choices",
        "json-choice-without-message",
        "json-deep",
    ),
    MISFIT,
) | {
    "empty-json-body": EMPTY,
    "json-with-bom": ONE_PIECE,
    "json-nan": ONE_PIECE,
    "json-5000-digits": ONE_PIECE,
    "json-lone-surrogate": row(
        whole("one two three\ufffd", reads=1), whole("one two three\ufffd")
    ),
}

SIZES = {
    "json-huge": both(TOO_LARGE.plain, most=BODY),
    "json-endless": both(TOO_LARGE.plain, most=BODY),
    # For a stream it is a line that never ends.
    "whitespace-endless": row(
        fails("EventTooLargeError", says="16777216"), TOO_LARGE.plain, most=BODY
    ),
}

ERRORS = {
    "error-in-200": both(
        breaks("InternalServerError", status=500, says="the model fell over")
    ),
    "envelope-in-200": both(
        fails("BadRequestError", status=400, says="model does not exist")
    ),
    "detail-in-200": misfit("Not Found"),
}

NOT_PACKED = "not compressed as its headers say"

ENCODINGS = {
    "gzip": RIGHT,
    "x-gzip": MISFIT,
    "gzip-slow": RIGHT,
    "gzip-members": RIGHT,
    "gzip-twice": MISFIT,
    "gzip-bomb": TOO_LARGE,
    "gzip-lie": row(
        breaks("IncompleteStreamError", says=NOT_PACKED), breaks(says=NOT_PACKED)
    ),
    "gzip-empty": EMPTY,
    # What is cut is not said to be: it may be half an answer, but never a whole one.
    "gzip-cut": row(cut(), fails("APIResponseValidationError")),
    # The stream had finished before its end came; the plain answer is damaged.
    "gzip-bad-checksum": row(whole(), breaks(says=NOT_PACKED)),
    "gzip-trailing": row(whole(), breaks(says=NOT_PACKED)),
    "deflate": RIGHT,
    "deflate-raw": RIGHT,
    "brotli-unasked": both(breaks(says="content encoding 'brotli'")),
    "zstd-unasked": both(breaks(says="content encoding 'zstandard'")),
    "encoding-unknown": MISFIT,
    "encoding-identity": RIGHT,
}

BODIES = TYPES | SHAPES | SIZES | ERRORS
