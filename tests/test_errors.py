"""
The tree of errors: names, facts, pickling.
"""

import builtins
import copy
import itertools
import pickle

import pytest

from multidict import CIMultiDict

from horay_async import _errors as errors
from horay_async._values import Meta, Partial, PartialChoice, Usage


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.HorayError)
]
ABOUT_CALLS = [kind for kind in KINDS if issubclass(kind, errors.APIError)]

FACTS = {
    "body": {"message": "m"},
    "code": 50505,
    "type": "t",
    "param": "p",
    "meta": Meta(status=503, headers=CIMultiDict({"X-Request-Id": "r"}), attempts=3),
    "content": b"{}",
    "partial": Partial(
        choices=(PartialChoice(index=0, text="half"),), tokens=2, usage=Usage()
    ),
    "retry_after": 1.5,
    "elapsed": 2.5,
}


@pytest.mark.parametrize("kind", ABOUT_CALLS)
def test_pickling_keeps_all_facts(kind):
    """
    Process pools and task queues hand errors on whole.
    """
    error = kind("it broke", **FACTS).with_facts(in_stream=True, status=503)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is kind
        assert str(other) == other.message == "it broke"
        assert {name: getattr(other, name) for name in FACTS} == FACTS
        assert other.__dict__ == error.__dict__
        assert other.status_code == 503
        assert other.request_id == "r"
        assert other.attempts == 3
        assert other.usage == Usage()
        assert other.partial.text == "half"


def test_pickling_of_the_others():
    error = errors.InvalidRequestError("n = 0", field="n")
    other = pickle.loads(pickle.dumps(error))
    assert (str(other), other.field) == ("n = 0", "n")
    large = errors.EventTooLargeError("too large", limit=5, elapsed=1.0)
    other = pickle.loads(pickle.dumps(large))
    assert (str(other), other.limit, other.elapsed) == ("too large", 5, 1.0)
    for kind in set(KINDS) - set(ABOUT_CALLS):
        other = pickle.loads(pickle.dumps(kind("said")))
        assert (type(other), str(other)) == (kind, "said")


@pytest.mark.parametrize("kind", ABOUT_CALLS)
def test_facts_may_be_missing(kind):
    error = kind("it broke")
    assert str(error) == "it broke"
    assert (error.body, error.code, error.type, error.param) == (None, None, None, None)
    assert (error.status_code, error.request_id, error.attempts) == (None, None, 1)
    assert (error.retry_after, error.elapsed, error.content) == (None, None, b"")
    assert error.partial == Partial()
    assert error.usage.source == "none"
    assert error.response.status_code == 0


def test_the_tree_is_as_drawn():
    """
    Each line of the module's drawing names a class and, in brackets, another base of it.
    """
    drawing = errors.__doc__
    for kind in KINDS:
        assert kind.__name__ in drawing
    for line in drawing.splitlines():
        words = line.replace("│", " ").split()
        for word, after in itertools.pairwise(words):
            kind = getattr(errors, word, None)
            base = after.strip("()")
            if kind in KINDS and after.startswith("("):
                named = getattr(errors, base, None) or getattr(builtins, base)
                assert issubclass(kind, named)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.InvalidRequestError, ValueError),
        (errors.ConfigurationError, ValueError),
        (errors.ClientClosedError, RuntimeError),
        (errors.WrongLoopError, RuntimeError),
        (errors.APITimeoutError, TimeoutError),
    ],
)
def test_builtin_bases(kind, builtin):
    """
    `except TimeoutError` catches ours.
    """
    with pytest.raises(builtin, match="said"):
        raise kind("said")


@pytest.mark.parametrize(
    ("kind", "clock"),
    [
        (errors.APITimeoutError, "timeout"),
        (errors.ConnectTimeoutError, "connect"),
        (errors.PoolTimeoutError, "connect"),
        (errors.DeadlineExceeded, "deadline"),
        (errors.FirstTokenTimeoutError, "first_token"),
        (errors.StreamStalledError, "stall"),
        (errors.StreamSilentError, "silence"),
    ],
)
def test_timeouts_say_which_clock(kind, clock):
    error = kind("too late")
    assert error.clock == clock
    assert isinstance(error, errors.APIConnectionError)
    # OSError would print "[Errno ...]" for two arguments.
    assert str(error) == "too late"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.PaymentRequiredError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (408, errors.RequestTimeoutError),
        (409, errors.ConflictError),
        (413, errors.RequestTooLargeError),
        (418, errors.APIStatusError),
        (422, errors.UnprocessableEntityError),
        (424, errors.APIStatusError),
        (429, errors.RateLimitError),
        (302, errors.APIStatusError),
        (500, errors.InternalServerError),
        (502, errors.InternalServerError),
        (503, errors.ServiceUnavailableError),
        (529, errors.OverloadedError),
        (599, errors.InternalServerError),
    ],
)
def test_classes_by_status(status, kind):
    assert errors.status_error(status) is kind


def test_status_in_a_stream():
    """
    The status that the error stands for wins over the 200 that HTTP said.
    """
    error = errors.RateLimitError("slow down", meta=Meta(status=200))
    assert error.status_code == 200
    assert error.with_facts(status=429) is error
    assert error.status_code == 429
    assert error.response.status_code == 200


def test_response():
    error = errors.BadRequestError("no", content=b'{"a": 1}', meta=FACTS["meta"])
    assert error.response.status_code == 503
    assert error.response.headers["x-request-id"] == "r"
    assert error.response.json() == {"a": 1}
