"""
Errors under HTTP 200: in a stream's events, or where a plain answer should be.
"""

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from horay_async._codec import error_in, status_error_of
from horay_async._errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    OverloadedError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    ServiceUnavailableError,
    UnprocessableEntityError,
)
from horay_async._refusals import ErrorFacts


# A chunk as it comes a thousand times.
CHUNK = {
    "id": "c",
    "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "type",
                    "code",
                    "status",
                    "object",
                    "choices",
                    "detail",
                    "loc",
                    "msg",
                    "data",
                    "error_type",
                    "param",
                    "http_status_code",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


# Errors under status 200 -------------------------------------------------------------


IN_STREAM = [
    pytest.param(
        {"error": {"message": "m", "type": "server_error"}},
        ErrorFacts(
            message="m",
            type="server_error",
            status=500,
            body={"message": "m", "type": "server_error"},
        ),
        id="openai",
    ),
    pytest.param(
        {"error": {"message": "m", "http_status_code": 422}},
        ErrorFacts(
            message="m", status=422, body={"message": "m", "http_status_code": 422}
        ),
        id="tgi",
    ),
    pytest.param(
        {"error": "m"}, ErrorFacts(message="m", body={"error": "m"}), id="a string"
    ),
    pytest.param(
        {"error": "m", "error_type": "overloaded"},
        ErrorFacts(
            message="m",
            type="overloaded",
            status=429,
            body={"error": "m", "error_type": "overloaded"},
        ),
        id="tgi native",
    ),
    pytest.param(
        {"object": "error", "message": "m", "type": "t", "param": "p", "code": 400},
        ErrorFacts(
            message="m",
            type="t",
            param="p",
            code=400,
            status=400,
            body={
                "object": "error",
                "message": "m",
                "type": "t",
                "param": "p",
                "code": 400,
            },
        ),
        id="vllm before 0.10.1",
    ),
    pytest.param(
        {
            **CHUNK,
            "choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
            "error": {"code": "server_error", "message": "m"},
        },
        ErrorFacts(
            message="m",
            code="server_error",
            status=500,
            body={"code": "server_error", "message": "m"},
        ),
        id="openrouter",
    ),
    pytest.param(
        {**CHUNK, "error": {"code": 502, "message": "m"}},
        ErrorFacts(
            message="m", code=502, status=502, body={"code": 502, "message": "m"}
        ),
        id="openrouter number",
    ),
    pytest.param(
        {"code": 50505, "message": "m", "data": None},
        ErrorFacts(
            message="m",
            code=50505,
            status=503,
            body={"code": 50505, "message": "m", "data": None},
        ),
        id="siliconflow",
    ),
    pytest.param(
        {"code": 20012, "message": "m", "status": False},
        ErrorFacts(
            message="m",
            code=20012,
            status=400,
            body={"code": 20012, "message": "m", "status": False},
        ),
        id="siliconflow status",
    ),
    pytest.param(
        {"type": "error", "message": "m"},
        ErrorFacts(message="m", type="error", body={"type": "error", "message": "m"}),
        id="only a type",
    ),
    pytest.param(
        {"status": False, "data": None},
        ErrorFacts(
            message="an error without a message", body={"status": False, "data": None}
        ),
        id="no message",
    ),
]


@pytest.mark.parametrize("event", ["", "message", "error"])
@pytest.mark.parametrize(("body", "facts"), IN_STREAM)
def test_errors_in_a_stream(body, facts, event):
    assert error_in(body, event) == facts


@pytest.mark.parametrize(
    "obj",
    [
        CHUNK,
        {**CHUNK, "error": None},
        {**CHUNK, "error": {}},
        {**CHUNK, "message": "m", "code": 5, "status": False, "object": "error"},
        {"choices": [], "usage": {"total_tokens": 1}},
        {"code": 20000, "message": "OK", "status": True, "data": {}},
        {"code": 0, "message": "success"},
        {"object": "list", "data": [], "message": None},
        {"message": "m"},
        {"type": "message_start", "message": {"role": "assistant"}},
        {},
        [],
        ["error"],
        "error",
        5,
        None,
    ],
)
def test_what_is_no_error(obj):
    assert error_in(obj) is None


def test_error_events():
    """
    Under `event: error` anything is one.
    """
    anthropic = {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}
    facts = error_in(anthropic, "error")
    assert (facts.message, facts.type, facts.status) == ("m", "overloaded_error", 529)
    assert error_in("text", "error").message == "text"
    assert error_in(None, "error").message == "an error without a message"
    assert error_in(CHUNK, "error").body == CHUNK


@settings(deadline=None)
@given(JSON, st.sampled_from(["", "error"]))
def test_error_in_never_raises(obj, event):
    facts = error_in(obj, event)
    if facts is not None:
        error = status_error_of(facts, status=200, in_stream=True)
        assert str(error)


# Errors to raise ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        ({"code": 429}, 429, RateLimitError),
        ({"code": "429"}, 429, RateLimitError),
        ({"code": 599}, 599, InternalServerError),
        ({"code": 600, "type": "api_error"}, 500, InternalServerError),
        ({"code": 200, "type": "api_error"}, 500, InternalServerError),
        ({"status": 404}, 404, NotFoundError),
        ({"status_code": 503}, 503, ServiceUnavailableError),
        ({"type": "rate_limit_error"}, 429, RateLimitError),
        ({"code": "rate_limit_exceeded"}, 429, RateLimitError),
        ({"type": "RateLimitError"}, 429, RateLimitError),
        ({"type": "too_many_requests"}, 429, RateLimitError),
        ({"code": "insufficient_quota"}, 429, RateLimitError),
        ({"status": "RESOURCE_EXHAUSTED"}, 429, RateLimitError),
        ({"type": "overloaded_error"}, 529, OverloadedError),
        ({"type": "authentication_error"}, 401, AuthenticationError),
        (
            {"code": "invalid_api_key", "type": "invalid_request_error"},
            401,
            AuthenticationError,
        ),
        ({"status": "UNAUTHORIZED"}, 401, AuthenticationError),
        ({"type": "permission_error"}, 403, PermissionDeniedError),
        ({"code": "forbidden"}, 403, PermissionDeniedError),
        ({"type": "billing_error"}, 402, PaymentRequiredError),
        ({"code": "payment_required"}, 402, PaymentRequiredError),
        ({"code": "insufficient_credits"}, 402, PaymentRequiredError),
        ({"code": "model_not_found"}, 404, NotFoundError),
        ({"type": "NotFoundError"}, 404, NotFoundError),
        ({"type": "request_too_large"}, 413, RequestTooLargeError),
        ({"type": "UnprocessableEntityError"}, 422, UnprocessableEntityError),
        ({"type": "validation"}, 422, UnprocessableEntityError),
        ({"type": "generation"}, 424, APIStatusError),
        ({"type": "incomplete_generation"}, 500, InternalServerError),
        ({"type": "invalid_request_error"}, 400, BadRequestError),
        ({"type": "BadRequestError"}, 400, BadRequestError),
        ({"code": "bad_request"}, 400, BadRequestError),
        ({"code": "context_length_exceeded"}, 400, BadRequestError),
        ({"type": "timeout_error"}, 504, InternalServerError),
        ({"code": "service_unavailable"}, 503, ServiceUnavailableError),
        ({"type": "InternalServerError"}, 500, InternalServerError),
        ({"code": "internal"}, 500, InternalServerError),
        ({"type": "api_error"}, 500, InternalServerError),
        ({"code": 20012}, 400, BadRequestError),
        ({"code": 50505}, 503, ServiceUnavailableError),
        ({"code": 7, "type": "server_error"}, 500, InternalServerError),
    ],
)
def test_what_an_error_stands_for(error, status, kind):
    """
    Inside a stream the status is 200, so the error's own words decide its class.
    """
    facts = error_in({"error": {"message": "m", **error}})
    made = status_error_of(facts, status=200, in_stream=True, service="Horay")
    assert facts.status == made.status_code == status
    assert type(made) is kind
    assert made.in_stream is True
    assert str(made) == f"{status} from Horay, in the stream: m"


def test_no_status_at_all():
    """
    Still an error that the server reported.
    """
    facts = error_in({"error": "m"})
    error = status_error_of(facts, status=200, in_stream=True, service="Horay")
    assert type(error) is APIStatusError
    assert (error.status, error.status_code) == (None, None)
    assert str(error) == "error from Horay, in the stream: m"


def test_where_it_was():
    facts = ErrorFacts(message="m", status=502)
    plain = status_error_of(facts, status=200, in_stream=False, service="Horay")
    assert type(plain) is InternalServerError
    assert str(plain) == "502 from Horay, under HTTP 200: m"
    assert str(status_error_of(facts, status=429, in_stream=False)) == (
        "429 from the server: m"
    )
    redirect = status_error_of(facts, status=302, in_stream=False)
    assert (type(redirect), redirect.status_code) == (APIStatusError, 302)
    assert str(status_error_of(facts, status=None, in_stream=False)) == (
        "502 from the server: m"
    )
