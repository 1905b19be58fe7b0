"""
What has become of a batch's lines, in words.
"""

import pytest

from horay_async import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    ChatReply,
    ConnectTimeoutError,
    InternalServerError,
    InvalidRequestError,
    PaymentRequiredError,
    RateLimitError,
    Usage,
)
from horay_async.cli._lines import BadLine
from horay_async.cli._tally import Tally, clock, duration, kind_of, lacks_credit


def reply(tokens_in, tokens_out):
    usage = Usage(
        prompt_tokens=tokens_in,
        completion_tokens=tokens_out,
        total_tokens=tokens_in + tokens_out,
    )
    return ChatReply(usage=usage)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadLine("x"), "bad line"),
        (InvalidRequestError("x"), "invalid request"),
        (AuthenticationError("x"), "refused key"),
        (PaymentRequiredError("x"), "empty account"),
        (RateLimitError("x"), "rate limit"),
        (RateLimitError("x", code="insufficient_quota"), "empty account"),
        (RateLimitError("x", type="insufficient_quota"), "empty account"),
        (BadRequestError("x"), "refused request"),
        (InternalServerError("x"), "server error"),
        (ConnectTimeoutError("x"), "timeout"),
        (APIConnectionError("x"), "lost connection"),
        (KeyError("x"), "error"),
    ],
)
def test_kinds(error, kind):
    """
    Failures are told apart by what the user may do about them.
    """
    assert kind_of(error) == kind
    assert lacks_credit(error) is (kind == "empty account")


def test_lines():
    """
    Lines by what became of them, failures by their kind.
    """
    tally = Tally()
    tally.add([reply(3, 5)], None)
    assert tally.lines(whole=True) == "1 line: 1 answered, 0 failed"
    tally.add([reply(1, 2)], RateLimitError("x"))
    tally.add([], BadLine("x"))
    tally.add([], BadLine("x"))
    said = "4 lines: 1 answered, 3 failed (2 bad lines, 1 rate limit)"
    assert tally.lines(whole=True) == said
    assert (tally.tokens_in, tally.tokens_out) == (4, 7)


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (None, "1 line: 1 answered, 0 failed, the others not answered"),
        (9, "9 lines: 1 answered, 0 failed, 8 not answered"),
        (1, "1 line: 1 answered, 0 failed"),
    ],
)
def test_lines_that_are_left(total, said):
    """
    What was not answered is counted, where that can be.
    """
    tally = Tally(total=total)
    tally.add([reply(1, 1)], None)
    assert tally.lines(whole=False) == said


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (0.04, "0.0 s", "0:00"),
        (59.94, "59.9 s", "1:00"),
        (83, "1:23", "1:23"),
        (7263, "2:01:03", "2:01:03"),
    ],
)
def test_durations(seconds, long, short):
    """
    Seconds, then minutes, then hours.
    """
    assert duration(seconds) == long
    assert clock(seconds) == short
