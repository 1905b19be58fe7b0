"""
Event streams as bytes, and what an intake makes of them.
"""

import json

import attrs

from deltas import ended, said
from horay_async._errors import APIError
from horay_async._intake import Intake, feed_tokens


DONE = b"data: [DONE]\n\n"


def wire(*events, newline="\n"):
    """
    An event stream: a dict is an event of JSON, a str one of that data, bytes are bytes.
    """
    blocks = []
    for event in events:
        if isinstance(event, bytes):
            blocks.append(event)
            continue
        data = event if isinstance(event, str) else json.dumps(event)
        blocks.append(f"data: {data}{newline}{newline}".encode())
    return b"".join(blocks)


HELLO = wire(said("hel"), said("lo"))

WHOLE = wire(said("hel"), said("lo"), ended(), "[DONE]")


@attrs.frozen(kw_only=True)
class Read:
    """
    What came of a stream.
    """

    outcome: object
    reason: str
    tokens: list
    text: str
    body: dict
    error: object
    said: str
    content: bytes
    status: object


def read(*blocks, n=1, cause=None, **options):
    """
    Take the blocks, and end; an error of ours is a result like any other.
    """
    intake = Intake(n, feed=feed_tokens, **options)
    error = None
    try:
        for block in blocks:
            intake.take(block)
        intake.end(cause)
    except APIError as caught:
        error = caught
    tokens = list(intake.ready)
    return Read(
        outcome=intake.outcome,
        reason=intake.reason,
        tokens=tokens,
        text="".join(token.text for token in tokens if token.index == 0),
        body=intake.assembly.body(chat=True),
        error=type(error),
        said=str(error),
        content=getattr(error, "content", b""),
        status=getattr(error, "status_code", None),
    )
