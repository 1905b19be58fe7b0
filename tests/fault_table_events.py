"""
What is expected where the events of a stream, or the JSON in its place, go wrong.
"""

from fault_table_connections import RIGHT
from fault_table_ends import (
    TEXT,
    both,
    breaks,
    cut,
    fails,
    late,
    row,
    unconfirmed,
    whole,
)


# What a stream only shows to its readers, a plain call's JSON has too, or has no need of.
LINES = dict.fromkeys(
    (
        "crlf",
        "cr",
        "split-crlf",
        "bom",
        "no-space-after-colon",
        "multi-line-data",
        "comments",
        "comment-as-data",
        "retry-field",
        "id-field",
        "unknown-field",
        "event-name",
        "empty-data",
    ),
    RIGHT,
)

ENDS = {
    "done-without-newline": RIGHT,
    "done-spaces": RIGHT,
    "done-twice": RIGHT,
    "no-done": RIGHT,
    "last-event-cut": RIGHT,
    "events-after-done": RIGHT,
    "finish-then-cut": row(whole(), breaks()),
    # A plain answer needs no finish reason: its JSON has an end of its own.
    "done-without-finish": row(unconfirmed(), whole()),
    "done-then-cut": row(unconfirmed(), breaks()),
    "no-finish-no-done": row(cut(), whole()),
    "last-event-cut-mid-json": row(cut(), fails("APIResponseValidationError")),
    "done-only": row(
        breaks("IncompleteStreamError"), fails("APIResponseValidationError")
    ),
}


def thought(reply):
    """
    The thinking stands apart from the text.
    """
    # Under two names it may be one thing said twice: the first counts.
    return reply.message.reasoning in {"Three?", "Three? Three."}


def counted(reply):
    """
    The last usage, not the sum.
    """
    return reply.usage.source == "server" and reply.usage.total_tokens <= 5


def called(*arguments):
    """
    So many tool calls, with these arguments.
    """

    def holds(reply):
        calls = reply.message.tool_calls or ()
        told = (call.function.arguments.replace(" ", "") for call in calls)
        return tuple(told) == arguments

    return holds


OSLO, ROME = '{"city":"Oslo"}', '{"city":"Rome"}'

TWO_CALLS = both(whole(holds=called(OSLO, ROME)))

ONE_CALL = both(whole(holds=called(OSLO)))

FIELDS = dict.fromkeys(
    (
        "empty-choices-first",
        "delta-less-chunk",
        "content-null",
        "role-in-every-chunk",
        "finish-empty-string",
        "finish-unknown",
        "text-in-finish-chunk",
        "chunk-after-finish",
        "usage-with-empty-choices",
        "usage-null",
        "unknown-fields",
        "changing-created",
        "missing-index",
        "wrong-index",
        "index-huge",
        "event-float-index",
        "extra-choice",
    ),
    RIGHT,
) | {
    "reasoning": both(whole(holds=thought)),
    "usage-every-chunk": both(whole(holds=counted)),
    "tool-missing-index": TWO_CALLS,
    "tool-colliding-index": TWO_CALLS,
    "tool-empty-id": ONE_CALL,
    "tool-repeated-id": ONE_CALL,
    "tool-no-id": ONE_CALL,
    "tool-index-huge": ONE_CALL,
    "tool-object-arguments": ONE_CALL,
    "tool-cut-arguments": both(whole(holds=called(OSLO[:7]))),
}


# Written as they are in the JSON; one piece more where half a character was held back.
CHARACTERS = {
    "u2028": both(whole("one\u2028 two\u0085 three")),
    "split-utf8": both(whole("één twéé 🌊")),
    "split-surrogates": both(whole("one two three 😀")),
    "lone-surrogate": both(whole("one two three\ufffd", reads=4)),
    "invalid-utf8": both(whole("one two three\ufffd")),
    "nul-in-text": both(whole("one\0 two three")),
}

NUMBERS = dict.fromkeys(
    ("event-5000-digits", "event-big-exponent", "event-nan", "event-duplicate-keys"),
    RIGHT,
)

UNREAD = dict.fromkeys(
    (
        "choices-not-a-list",
        "choices-of-strings",
        "delta-a-string",
        "content-a-number",
        "event-invalid-json",
        "event-not-object",
        "event-array",
        "event-string",
        "event-null",
        "event-deep",
        "event-deep-objects",
    ),
    row(fails("SSEDecodeError", text=TEXT), fails("APIResponseValidationError")),
)

# The ceiling on a body is 64 MiB; there may be one more block, and what it was read from.
BODY = 96

TOO_LARGE = row(
    fails("EventTooLargeError", text=TEXT, says="16777216"),
    fails("APIResponseValidationError", says="67108864"),
    most=BODY,
)

STALLED = row(late("stall", TEXT), TOO_LARGE.plain, most=BODY)

UNENDED = dict.fromkeys(
    ("event-huge", "event-endless", "line-endless", "comment-endless"), TOO_LARGE
) | dict.fromkeys(("comment-flood", "empty-events-flood"), STALLED)

EVENTS = LINES | ENDS | FIELDS | CHARACTERS | NUMBERS | UNREAD | UNENDED
