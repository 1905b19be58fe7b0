"""
Faults of when to try again: every form of Retry-After, and of words beside it.

RFC 9110, 10.2.3 has seconds and dates; servers and gateways have more.
"""

import time

from collections.abc import Callable
from email.utils import formatdate

from .._report import Request
from .._script import Answer
from ._fault import Fault
from ._spoiling import rows


Headers = dict[str, str] | list[tuple[str, str]]

row = rows("waits")

SOON = 2
"""
Seconds until a date to come: dates have whole seconds, so it is between one and two.
"""

LIMITED = {
    "message": "too many requests, slow down",
    "type": "rate_limit_error",
    "code": "rate_limit_exceeded",
}

QUOTA = {
    "message": "you exceeded your current quota",
    "type": "insufficient_quota",
    "code": "insufficient_quota",
}

BACKS_OFF = "Waits as if there were none: half a second at most before the first retry."

UNTIL_THEN = "Waits until then, and tries again."

AT_ONCE = "Says how long the server asks to wait, at once: it is more than two minutes."


def refused(
    name: str,
    does: str,
    right: str,
    headers: Callable[[], Headers],
    *,
    status: int = 429,
    error: dict[str, str] = LIMITED,
) -> Fault:
    """
    A refusal with these headers, which may tell the time.
    """

    def answer(request: Request) -> Answer:
        return Answer.json({"error": error}, status, headers=headers())

    return row(name, does, right, answer, answer)


def after(form: str, does: str, right: str, value: str | Callable[[], str]) -> Fault:
    """
    A 429 with this Retry-After.
    """

    def headers() -> Headers:
        return {"retry-after": value if isinstance(value, str) else value()}

    return refused(f"retry-after-{form}", f"asks to wait {does}.", right, headers)


# Dates (RFC 9110, 5.6.7) -------------------------------------------------------------


def date(seconds: float) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


def told(form: str) -> Callable[[], str]:
    """
    The date to come in an old form. Days and months are English, whatever the locale.
    """

    def value() -> str:
        day, number, month, year, clock, _ = date(SOON).replace(",", "").split()
        return form.format(
            day=day,
            weekday=WEEKDAYS[day],
            number=number,
            month=month,
            year=year,
            short_year=year[2:],
            clock=clock,
        )

    return value


WEEKDAYS = {
    day[:3]: day
    for day in (
        *("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
        "Sunday",
    )
}

DATES = (
    after("date", "until a date", UNTIL_THEN, lambda: date(SOON)),
    after(
        "date-rfc850",
        "until a date in the form of RFC 850",
        UNTIL_THEN,
        told("{weekday}, {number}-{month}-{short_year} {clock} GMT"),
    ),
    after(
        "date-asctime",
        "until a date in the form of asctime",
        UNTIL_THEN,
        told("{day} {month} {number} {clock} {year}"),
    ),
    after(
        "date-no-zone",
        "until a date without a time zone",
        UNTIL_THEN,
        told("{day}, {number} {month} {year} {clock}"),
    ),
    after("date-past", "until a date an hour ago", BACKS_OFF, lambda: date(-3600)),
)


# Numbers -----------------------------------------------------------------------------


NUMBERS = (
    after("seconds", "a second", "Waits a second, and tries again.", "1"),
    after("zero", "no second", "Tries again at once.", "0"),
    after("fraction", "0.05 seconds", "Waits that long, and tries again.", "0.05"),
    after("day", "a day", AT_ONCE, "86400"),
    after("negative", "-1 seconds", BACKS_OFF, "-1"),
    after("nan", '"nan" seconds', BACKS_OFF, "nan"),
    after("inf", '"inf" seconds', BACKS_OFF, "inf"),
    after("huge", "1e400 seconds, more than a float holds", BACKS_OFF, "1e400"),
    after("plus-sign", '"+1" seconds', BACKS_OFF, "+1"),
    after("hex", '"0x1" seconds', BACKS_OFF, "0x1"),
    after("underscore", '"1_0" seconds, which is a number in Python', BACKS_OFF, "1_0"),
    # Headers are bytes; these go out as UTF-8.
    after(
        "other-digits",
        "a second in Arabic-Indic digits",
        BACKS_OFF,
        "\u0661".encode().decode("latin-1"),
    ),
    after("garbage", '"soon"', BACKS_OFF, "soon"),
    after("empty", "nothing", BACKS_OFF, ""),
)

OTHERS = (
    refused(
        "retry-after-ms",
        "asks to wait 50 ms in retry-after-ms.",
        "Waits that long, and tries again.",
        lambda: {"retry-after-ms": "50"},
    ),
    refused(
        "retry-after-x-ms",
        "asks to wait 50 ms in x-ms-retry-after-ms.",
        "Waits that long, and tries again.",
        lambda: {"x-ms-retry-after-ms": "50"},
    ),
    refused(
        "retry-after-both",
        "asks to wait 50 ms in retry-after-ms, and five seconds in Retry-After.",
        "Waits 50 ms, and tries again.",
        lambda: {"retry-after": "5", "retry-after-ms": "50"},
    ),
    refused(
        "retry-after-twice",
        "sends Retry-After twice: 0.05 and 0.1 seconds.",
        "Waits for one of them, and tries again.",
        lambda: [("retry-after", "0.05"), ("retry-after", "0.1")],
    ),
    refused(
        "retry-after-503",
        "refuses with 503 and asks to wait 0.05 seconds.",
        "Waits that long, and tries again.",
        lambda: {"retry-after": "0.05"},
        status=503,
        error={"message": "down for a moment", "type": "server_error"},
    ),
    refused(
        "should-retry-true",
        "refuses with 400, and says that trying again helps.",
        "Tries again.",
        lambda: {"x-should-retry": "true"},
        status=400,
        error={"message": "try again", "type": "invalid_request_error"},
    ),
    refused(
        "should-retry-false",
        "refuses with 503, and says that trying again does not help.",
        "Says what the server said, and does not try again.",
        lambda: {"x-should-retry": "false"},
        status=503,
        error={"message": "no use", "type": "server_error"},
    ),
    refused(
        "final-code",
        "refuses with 429 because a quota is used up, and asks to wait a second.",
        "Says what the server said, and does not try again: no waiting mends it.",
        lambda: {"retry-after": "1"},
        error=QUOTA,
    ),
)

FAULTS: tuple[Fault, ...] = (*NUMBERS, *DATES, *OTHERS)
