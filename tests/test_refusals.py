"""
What servers say when they refuse: every known shape becomes the same facts.
"""

import json

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from horay_async._codec import describe, error_in, status_error_of
from horay_async._errors import APIStatusError
from horay_async._refusals import LONGEST, ErrorFacts


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


def deep(levels=900):
    """
    A value nested so deeply that naive printing of it fails.
    """
    value = []
    for _ in range(levels):
        value = [value]
    return value


# Bodies ----------------------------------------------------------------------------


BODIES = [
    pytest.param(
        {
            "error": {
                "message": "no such model",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found",
            }
        },
        ("no such model", "invalid_request_error", "model_not_found", "model"),
        id="openai",
    ),
    pytest.param(
        {"error": {"message": "m", "type": "t", "param": None, "code": None}},
        ("m", "t", None, None),
        id="openai with nulls",
    ),
    pytest.param(
        {"error": {"message": "m", "type": "BadRequestError", "code": 400}},
        ("m", "BadRequestError", 400, None),
        id="vllm",
    ),
    pytest.param(
        {
            "object": "error",
            "message": "too long",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        ("too long", "BadRequestError", 400, None),
        id="vllm before 0.10.1",
    ),
    pytest.param(
        {"error": {"code": 429, "message": "slow down", "metadata": {"raw": "x"}}},
        ("slow down", None, 429, None),
        id="openrouter",
    ),
    pytest.param({"error": "text"}, ("text", None, None, None), id="a string"),
    pytest.param(
        {"error": "`n` too big", "error_type": "validation"},
        ("`n` too big", "validation", None, None),
        id="tgi",
    ),
    pytest.param({"detail": "text"}, ("text", None, None, None), id="fastapi"),
    pytest.param(
        {
            "detail": [
                {"loc": ["body", "n", 0], "msg": "not an int", "type": "int_type"},
                {"loc": [], "msg": "bare"},
                {"msg": "bare, too"},
                "word",
                5,
                {},
            ]
        },
        ("body.n.0: not an int; bare; bare, too; word; 5", None, None, None),
        id="fastapi list",
    ),
    pytest.param(
        {"message": "Details:TPM limit reached.", "data": "x"},
        ("Details:TPM limit reached.", None, None, None),
        id="siliconflow 429",
    ),
    pytest.param(
        {"message": "Forbidden"}, ("Forbidden", None, None, None), id="gateway"
    ),
    pytest.param(
        {"code": 20012, "message": "bad model", "data": None},
        ("bad model", None, 20012, None),
        id="siliconflow 400",
    ),
    pytest.param(
        {"code": 50505, "message": "overloaded", "status": False},
        ("overloaded", None, 50505, None),
        id="siliconflow status",
    ),
    pytest.param(
        {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "Overloaded"},
        },
        ("Overloaded", "overloaded_error", None, None),
        id="anthropic",
    ),
    pytest.param(
        {"type": "about:blank", "title": "Nope", "status": 400, "detail": "why"},
        ("why", "about:blank", None, None),
        id="problem details",
    ),
    pytest.param(
        [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}],
        ("m", None, 400, None),
        id="in a list",
    ),
    pytest.param(
        {"error": True, "message": "m"}, ("m", None, None, None), id="error: true"
    ),
    pytest.param(
        {"error": {"code": 1}, "message": "m"}, ("m", None, 1, None), id="outside"
    ),
    pytest.param(
        {"error": {}, "message": "m"}, ("m", None, None, None), id="empty error"
    ),
    pytest.param(
        {"error": {"error": {"message": "m"}}}, ("m", None, None, None), id="twice"
    ),
    pytest.param(
        {"error": {"message": {"a": 1}, "type": 5, "code": True, "param": 5}},
        ('{"a": 1}', None, None, None),
        id="odd types",
    ),
    pytest.param(
        "Invalid token", ("Invalid token", None, None, None), id="bare string"
    ),
    pytest.param(17, ("17", None, None, None), id="bare number"),
]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 503])
@pytest.mark.parametrize(("body", "facts"), BODIES)
def test_bodies(body, facts, status):
    """
    Whatever the shape, the same four facts; the HTTP status decides the class.
    """
    found = describe(json.dumps(body).encode(), status=status)
    assert (found.message, found.type, found.code, found.param) == facts
    error = status_error_of(found, status=status, in_stream=False, service="Horay")
    assert isinstance(error, APIStatusError)
    assert str(error) == f"{status} from Horay: {facts[0]}"
    assert error.message == str(error)
    assert (error.type, error.code, error.param) == facts[1:]
    assert error.status_code == status
    assert error.in_stream is False


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"error": {"message": "m"}}, {"message": "m"}),
        ({"error": "text", "error_type": "x"}, {"error": "text", "error_type": "x"}),
        ({"message": "m", "data": 1}, {"message": "m", "data": 1}),
        ("text", "text"),
        ([1], [1]),
    ],
)
def test_body_is_kept(body, kept):
    """
    The inside of `error` where it is an object, as openai has it; else all of it.
    """
    assert describe(json.dumps(body).encode(), status=500).body == kept


PAGE = b"""
<!DOCTYPE html>
<html><head><title>api.horay.ai |
 502: Bad gateway &amp; more</title><style>p {color: red}</style></head>
<body><script>if (a < b) {}</script><h1>Oops</h1></body></html>
"""


def test_html():
    """
    A proxy's page becomes its title, or the beginning of its text.
    """
    title = "api.horay.ai | 502: Bad gateway & more"
    assert describe(PAGE, status=502).message == title
    assert describe(PAGE, status=502, content_type="text/html").message == title
    untitled = PAGE.replace(b"title>", b"b>")
    assert describe(untitled, status=502).message == "Oops"
    empty = b"<html><head><title> </title></head><body>&nbsp;</body></html>"
    assert describe(empty, status=502).message == "bad gateway (no message)"
    long = b"<p>" + b"word " * 1000
    found = describe(long, status=502, content_type="text/html; charset=utf-8")
    assert len(found.message) == 200
    assert found.message.endswith("…")
    assert found.body == long.decode()


def test_plain_text():
    found = describe(b" upstream connect error \n", status=503)
    assert found == ErrorFacts(
        message="upstream connect error", body=" upstream connect error \n"
    )
    assert describe(b"\xff\xfe oops", status=500).message == "\ufffd\ufffd oops"


@pytest.mark.parametrize(
    "content", [b"", b"  \n", b"null", b'""', b"{}", b"[]", b"true"]
)
def test_nothing_said(content):
    """
    The status speaks for a body that does not.
    """
    assert describe(content, status=429).message == "too many requests (no message)"
    assert describe(content, status=418).message == "no message"


def test_messages_are_clipped_and_clean():
    found = describe(
        json.dumps({"error": {"message": "x" * 9999}}).encode(), status=400
    )
    assert len(found.message) == LONGEST
    assert len(found.body["message"]) == 9999
    found = describe(b'{"error": {"message": "half \\ud83d"}}', status=400)
    assert found.message == "half \ufffd"


def test_deep_nesting():
    """
    A hostile body makes a poor message, not another error.
    """
    for body in (deep(), {"error": deep()}, {"detail": [{"loc": deep(), "x": deep()}]}):
        assert describe(json.dumps(body).encode(), status=500).message
    facts = error_in({"error": {"message": deep(100_000)}})
    assert facts.message == "an error without a message"


@settings(deadline=None)
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_describe_never_raises(content):
    for content_type in ("", "text/html"):
        found = describe(content, status=400, content_type=content_type)
        assert found.message
        found.message.encode()
        assert found.code is None or isinstance(found.code, (int, str))
