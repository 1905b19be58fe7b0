"""
Whose fault it was that a row has no answer.
"""

from __future__ import annotations

from typing import Final

from .._errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BudgetExceededError,
    ClientClosedError,
    ConnectTimeoutError,
    DeadlineExceeded,
    PaymentRequiredError,
    PoolTimeoutError,
    RateLimitError,
    StreamAbortedError,
)


# Some services say so with a 429, where waiting would look sensible.
_NO_CREDIT: Final = frozenset(
    {
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "exceeded_current_quota_error",
        "insufficient_quota",
    }
)

_NOBODYS_FAULT: Final = (
    AuthenticationError,
    BudgetExceededError,
    ClientClosedError,
    PoolTimeoutError,
    StreamAbortedError,
)

_GATEWAY: Final = frozenset({502, 503, 504})
"""
What a gateway says of a server that is not there behind it.
"""


def lacks_credit(error: Exception) -> bool:
    """
    Whether the account has nothing left to pay with.
    """
    if isinstance(error, APIStatusError) and not _NO_CREDIT.isdisjoint(
        {str(error.code).lower(), str(error.type).lower()}
    ):
        return True
    return isinstance(error, PaymentRequiredError)


def is_away(error: Exception) -> bool:
    """
    Whether no server was there, or one that takes nothing at the moment.
    """
    if isinstance(error, RateLimitError):
        return not lacks_credit(error)
    if isinstance(error, APIStatusError):
        return error.status_code in _GATEWAY
    if isinstance(error, APITimeoutError):
        return isinstance(error, ConnectTimeoutError)
    return (
        isinstance(error, APIConnectionError)
        and error.status_code is None
        and not getattr(error, "answered", False)
    )


def never_answered(error: Exception) -> bool:
    """
    Whether a row went without its answer through no fault of its own: it was interrupted,
    it was never sent, no server was there, or the key or the account was no good. The next
    run asks it again.
    """
    if isinstance(error, _NOBODYS_FAULT) or lacks_credit(error):
        return True
    if isinstance(error, DeadlineExceeded):
        # Without an attempt it was never sent: it waited for limits of the user's own.
        return not error.attempts
    return is_away(error)
