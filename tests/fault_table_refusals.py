"""
What is expected where the server refuses: every status, every body, every word on waiting.
"""

from fault_table_ends import both, breaks, fails


# The class for each status that has one of its own; the others are their family's.
CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "PaymentRequiredError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "RequestTimeoutError",
    409: "ConflictError",
    413: "RequestTooLargeError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
    529: "OverloadedError",
}

# What may be another answer in a moment. 501 and 505 say what the server cannot do at all.
PASSING = {408, 409, 429, 500, 502, 503, 504, 507, 508, 511, 520, 521, 522, 524, 529}

FINAL = {400, 401, 402, 403, 404, 405, 406, 410, 411, 412, 413, 414, 415, 421, 422}
FINAL |= {423, 424, 425, 426, 428, 431, 451, 499, 501, 505}


def refused(status, says="", **facts):
    """
    The error of a status; its sentence names it.
    """
    family = "InternalServerError" if status >= 500 else "APIStatusError"
    ends = breaks if status in PASSING else fails
    error = CLASSES.get(status, family)
    return both(ends(error, status=status, says=says or str(status)), **facts)


SORRY = "the model fell over"

# What the sentence holds of each body.
BODIES = dict.fromkeys(
    (
        "openai",
        "openai-int-code",
        "vllm",
        "openrouter",
        "string",
        "error-type",
        "detail",
        "detail-list",
        "message",
        "siliconflow",
        "status-false",
        "json-string",
        "json-array",
        "plain-text",
    ),
    SORRY,
) | {
    "empty": "no message",
    "deep": "",
    "invalid-utf8": "d\ufffdsol\ufffd",
    "huge": "aaaa",
    "echo-of-key": "what is Bearer ***?",
    "echo-of-key-escaped": "what is Bearer ***?",
    "echo-of-key-in-page": "what is Bearer ***?",
}

PAGES = {
    400: "400 Bad Request",
    429: "429 Too Many Requests",
    500: "500 Internal Server Error",
    503: "503 Service Unavailable",
}


def bodies():
    """
    Each body at each of four statuses; 400 is not named.
    """
    for status, title in PAGES.items():
        suffix = "" if status == 400 else f"-{status}"
        for body, says in BODIES.items():
            yield f"refusal-{body}{suffix}", refused(status, says)
        yield f"refusal-html{suffix}", refused(status, title)


WAYS = {
    "refusal-hang": refused(500, "the model"),
    "refusal-cut": refused(500, "the model"),
    "refusal-slow": refused(400, "no such model", patient=True),
    "refusal-stream": refused(400, "no such model"),
    "refusal-gzip": refused(400, "no such model"),
    # A megabyte is read of an error's body; it is looked at in several ways.
    "refusal-gzip-bomb": refused(500, most=32),
    "refusal-endless": refused(500, most=32),
    "refusal-echo-in-head": refused(400, "no such model"),
}

REFUSALS = {
    **{f"status-{status}": refused(status) for status in sorted(PASSING | FINAL)},
    **dict(bodies()),
    **WAYS,
}


# Waits -------------------------------------------------------------------------------


def waits(seconds, most=None, *, status=429):
    """
    As long as the server asks, and at most a tenth more; then again.
    """
    most = seconds if most is None else most
    error = CLASSES[status]
    return both(
        breaks(
            error,
            status=status,
            wait=(seconds, most * 1.1),
            retry_after=(seconds, most),
        )
    )


# As where nothing is asked: half a second at most, and after a 429 some in any case.
BACKS_OFF = both(breaks("RateLimitError", status=429, wait=(0.125, 0.5)))

# Dates have whole seconds, and machines may be slow.
SOON = waits(0.0, 2.0)

WAITS = {
    "retry-after-seconds": waits(1.0),
    "retry-after-zero": waits(0.0),
    "retry-after-fraction": waits(0.05),
    "retry-after-day": both(
        fails("RateLimitError", status=429, retry_after=(86400.0, 86400.0))
    ),
    **dict.fromkeys(
        (
            "retry-after-negative",
            "retry-after-nan",
            "retry-after-inf",
            "retry-after-huge",
            "retry-after-plus-sign",
            "retry-after-hex",
            "retry-after-underscore",
            "retry-after-other-digits",
            "retry-after-garbage",
            "retry-after-empty",
            "retry-after-date-past",
        ),
        BACKS_OFF,
    ),
    "retry-after-date": SOON,
    "retry-after-date-rfc850": SOON,
    "retry-after-date-asctime": SOON,
    "retry-after-date-no-zone": SOON,
    "retry-after-ms": waits(0.05),
    "retry-after-x-ms": waits(0.05),
    "retry-after-both": waits(0.05),
    "retry-after-twice": waits(0.05, 0.1),
    "retry-after-503": waits(0.05, status=503),
    "should-retry-true": both(breaks("BadRequestError", status=400)),
    "should-retry-false": both(fails("ServiceUnavailableError", status=503)),
    "final-code": both(
        fails(
            "RateLimitError",
            status=429,
            says="exceeded your current quota",
            retry_after=(1.0, 1.0),
        )
    ),
}
