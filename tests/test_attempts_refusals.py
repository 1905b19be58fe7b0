"""
Refusals: whatever the body looks like, the right class with all facts, and no key in it.
"""

import pickle

import pytest

from calling import KEY, calling
from horay_async._errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    OverloadedError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    RequestTooLargeError,
    ServiceUnavailableError,
    UnprocessableEntityError,
)
from horay_async.emulator import Answer


@pytest.fixture
async def caller(emulator):
    """
    A caller of the emulator.
    """
    async with calling(emulator.base_url) as caller:
        yield caller


async def refused(caller, error=APIStatusError):
    """
    The error of a call that is not tried again.
    """
    with pytest.raises(error) as caught:
        await caller.run(retries=0)
    assert caller.in_flight == 0
    return caught.value


STATUSES = {
    302: APIStatusError,
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    413: RequestTooLargeError,
    418: APIStatusError,
    422: UnprocessableEntityError,
    424: APIStatusError,
    429: RateLimitError,
    500: InternalServerError,
    502: InternalServerError,
    503: ServiceUnavailableError,
    529: OverloadedError,
}


async def test_statuses(caller, emulator):
    """
    Each has its class.
    """
    for status, kind in STATUSES.items():
        emulator.script(Answer.json({"message": "no"}, status))
        error = await refused(caller)
        assert type(error) is kind
        assert error.status_code == status
        assert str(error) == f"{status} from Horay: no"


OPENAI = {"message": "oops", "type": "t", "param": "p", "code": "c"}
PAGE = "<html><head><title>502 Bad Gateway</title></head><body>…</body></html>"

NONE = (None, None, None)

# name: (the answer, what the message ends with, (type, code, param))
BODIES = {
    "OpenAI": (Answer.json({"error": OPENAI}, 400), "oops", ("t", "c", "p")),
    "vLLM before 0.10.1, SGLang": (
        Answer.json({"object": "error", **OPENAI, "code": 400}, 400),
        "oops",
        ("t", 400, "p"),
    ),
    "OpenRouter": (
        Answer.json({"error": {"code": 402, "message": "oops", "metadata": {}}}, 402),
        "oops",
        (None, 402, None),
    ),
    "TGI": (
        Answer.json({"error": "oops", "error_type": "validation"}, 422),
        "oops",
        ("validation", None, None),
    ),
    "FastAPI": (Answer.json({"detail": "oops"}, 404), "oops", NONE),
    "SiliconFlow": (
        Answer.json({"code": 20012, "message": "oops", "data": None}, 400),
        "oops",
        (None, 20012, None),
    ),
    "a bare string": (Answer.json("Invalid token", 401), "Invalid token", NONE),
    "plain text": (Answer.text("oops\n", 500), "oops", NONE),
    "a page": (Answer.text(PAGE, 502, "text/html"), "502 Bad Gateway", NONE),
    "nothing": (Answer.text("", 504), "gateway timeout (no message)", NONE),
    "not JSON in spite of its type": (
        Answer.text("{oops", 500, "application/json"),
        "{oops",
        NONE,
    ),
    "not UTF-8": (Answer.text(b"\xff", 500), "\ufffd", NONE),
}


@pytest.mark.parametrize(("scripted", "message", "facts"), BODIES.values(), ids=BODIES)
async def test_bodies(caller, emulator, scripted, message, facts):
    """
    Whatever stands in it: its sentence, its facts, and the bytes as they came.
    """
    emulator.script(scripted)
    error = await refused(caller)
    assert error.message.endswith(f" from Horay: {message}")
    assert (error.type, error.code, error.param) == facts
    (body,) = scripted.body
    assert error.content == (body.encode() if isinstance(body, str) else body)
    assert error.meta.status == scripted.status
    assert not error.in_stream


async def test_the_facts(caller, emulator):
    """
    Everything that is known stands on the error, and survives a pickle.
    """
    headers = [("x-request-id", "r-1"), ("retry-after", "300")]
    emulator.script(Answer.json({"error": OPENAI}, 429, headers=headers))
    error = await refused(caller, RateLimitError)
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert (one.body, one.param, one.request_id) == (OPENAI, "p", "r-1")
        assert (one.retry_after, one.attempts) == (300, 1)
        assert one.elapsed >= 0
        assert one.response.json() == {"error": OPENAI}
        assert one.partial.usage.source == "none"


ECHOES = {
    "JSON": Answer.json({"error": {"message": f"bad key {KEY}", "param": KEY}}, 401),
    "PHP's JSON": Answer.text(
        f'{{"message": "bad key {KEY}"}}'.replace("/", r"\/"), 401, "application/json"
    ),
    "text": Answer.text(f"bad key {KEY}", 401),
    "a page": Answer.text(f"<title>bad key {KEY}</title>", 401, "text/html"),
}


@pytest.mark.parametrize("scripted", ECHOES.values(), ids=ECHOES)
async def test_an_echoed_key(caller, emulator, scripted):
    """
    No fact of the error tells it.
    """
    emulator.script(scripted)
    error = await refused(caller, AuthenticationError)
    assert error.message.endswith("bad key ***")
    assert b"***" in error.content
    told = f"{error!r} {error.__dict__} {error.content.decode()}"
    for spelling in (KEY, KEY.replace("/", r"\/")):
        assert spelling not in told


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("/v1/elsewhere?key=hush", "/v1/elsewhere, which"),
        ("https://other/" + "x" * 999, "xxx, which"),
        ("/odd\x85place", "/odd\ufffdplace, which"),
    ],
)
async def test_redirects(caller, emulator, place, shown):
    """
    It is said where one points to, and that nobody followed.
    """
    emulator.script(Answer.text("Moved", 301, headers=[("Location", place)]))
    error = await refused(caller)
    assert str(error).startswith("301 from Horay: it redirects to ")
    assert shown in str(error)
    assert "is not followed" in str(error)
    assert "hush" not in str(error)
    assert len(str(error)) < 400
    assert len(emulator.requests) == 1
