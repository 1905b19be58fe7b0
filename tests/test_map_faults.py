"""
Whose fault it was that a row has no answer.
"""

import pytest

from horay_async import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ClientClosedError,
    ConnectTimeoutError,
    DeadlineExceeded,
    IncompleteStreamError,
    InternalServerError,
    Meta,
    PaymentRequiredError,
    PoolTimeoutError,
    RateLimitError,
    ServiceUnavailableError,
    StreamAbortedError,
)
from horay_async.many._faults import is_away, lacks_credit, never_answered


def status(kind, number, **facts):
    return kind("no", meta=Meta(status=number), **facts)


def answered():
    error = APIConnectionError("hung up")
    error.answered = True
    return error


AWAY = [
    APIConnectionError("refused"),
    ConnectTimeoutError("late"),
    status(RateLimitError, 429),
    status(InternalServerError, 502),
    status(ServiceUnavailableError, 503),
    status(InternalServerError, 504),
]

WITHOUT_CREDIT = [
    status(PaymentRequiredError, 402),
    status(RateLimitError, 429, code="insufficient_quota"),
    status(APIStatusError, 400, type="Billing_Error"),
]

NOBODYS = [
    AuthenticationError("key"),
    BudgetExceededError("used up"),
    ClientClosedError("closed"),
    PoolTimeoutError("all in use"),
    StreamAbortedError("left"),
    DeadlineExceeded("never sent", meta=Meta(attempts=0)),
]

ITS_OWN = [
    answered(),
    status(BadRequestError, 400),
    status(InternalServerError, 500),
    DeadlineExceeded("late", meta=Meta(attempts=1)),
    IncompleteStreamError("half"),
    ValueError("no JSON"),
]


ALL = AWAY + WITHOUT_CREDIT + NOBODYS + ITS_OWN


@pytest.mark.parametrize("error", ALL, ids=map(str, range(len(ALL))))
def test_whose_it_is(error):
    """
    What was never answered is asked again; only some of it is worth waiting for.
    """
    assert is_away(error) == (error in AWAY)
    assert lacks_credit(error) == (error in WITHOUT_CREDIT)
    assert never_answered(error) == (error not in ITS_OWN)
