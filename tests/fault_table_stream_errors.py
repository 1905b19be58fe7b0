"""
What is expected where a server reports an error under status 200.
"""

import attrs

from fault_table_connections import RIGHT
from fault_table_ends import TEXT, both, breaks, fails, late, row


SORRY = "the model fell over"

BUSY = "the model is overloaded"

# By the shape: the error, whether trying again may help, its status, and what is said.
SHAPES = {
    "openai": breaks("InternalServerError", status=500, says=SORRY),
    "rate-limit": breaks("RateLimitError", status=429, says=BUSY),
    "quota": fails("RateLimitError", status=429, says="exceeded your current quota"),
    "tgi": fails("UnprocessableEntityError", status=422, says="must be shorter"),
    # Nobody knows what kind of error it is, so nothing is sent twice.
    "string": fails("APIStatusError", says=SORRY),
    "error-type": breaks("RateLimitError", status=429, says=BUSY),
    "vllm": fails("BadRequestError", status=400, says="too long"),
    "openrouter": breaks("InternalServerError", status=502, says="hung up"),
    "anthropic": breaks("OverloadedError", status=529, says=BUSY),
    "llamacpp": breaks("InternalServerError", status=500, says=SORRY),
    "siliconflow": breaks("ServiceUnavailableError", status=503, says=BUSY),
    "status-false": fails("BadRequestError", status=400, says="does not exist"),
    "raw": breaks("InternalServerError", status=500, says=SORRY),
}


def later(end):
    """
    The same after three pieces: they are kept, and nothing is sent again.
    """
    return attrs.evolve(end, text=TEXT, again=False)


PLAIN_TEXT = "Number of choices must be 1"

STREAM_ERRORS = {
    **{f"error-first-{shape}": both(end) for shape, end in SHAPES.items()},
    # A plain call has shown nothing, wherever the error stands.
    **{f"error-later-{shape}": row(later(end), end) for shape, end in SHAPES.items()},
    "error-first-plain-text-hang": row(
        fails("SSEDecodeError", says=PLAIN_TEXT), late("deadline")
    ),
    "error-later-plain-text-hang": row(
        fails("SSEDecodeError", text=TEXT, says=PLAIN_TEXT), late("deadline")
    ),
    "error-null": RIGHT,
}
