"""
The verbs: what they refuse before anything is sent, and what they do not take for an answer.
"""

import pytest

from horay_async import (
    COMPATIBLE,
    EMPOWER,
    HORAY,
    APIResponseValidationError,
    AsyncHoray,
    BadRequestError,
    ChatReply,
    ChatRequest,
    Endpoint,
    InvalidRequestError,
    NotFoundError,
    Service,
    user,
)
from horay_async.emulator import Answer


HELLO = [user("Hello, you.")]


def connect(server, service=HORAY, **options):
    url = server.empower_base_url if service is EMPOWER else server.base_url
    options = {"api_key": "test-key", "max_retries": 0} | options
    return AsyncHoray(base_url=url, service=service, **options)


@pytest.fixture
async def client(emulator):
    async with connect(emulator) as client:
        yield client


@pytest.fixture
async def empower(emulator):
    async with connect(emulator, EMPOWER) as client:
        yield client


def refused(field, words):
    """
    Refused before anything was sent.
    """
    return pytest.raises(
        InvalidRequestError, match=words, check=lambda e: e.field == field
    )


# What a service does not have --------------------------------------------------------


async def test_empower_has_only_chat(empower, emulator):
    """
    Each refusal names the service, and nothing is sent.
    """
    text = {"prompt": "Once", "model": "x"}
    for call in (
        lambda: empower.completions.create(**text),
        lambda: empower.completions.create(**text, stream=True),
        lambda: empower.completions.stream(**text),
        lambda: empower.completions.with_raw_response.create(**text),
        lambda: empower.images.generate(prompt="a boat", model="x"),
        empower.models.list,
        empower.user.info,
    ):
        with pytest.raises(InvalidRequestError, match="Empower"):
            await call()
    assert emulator.requests == []


async def test_a_service_of_ones_own(emulator):
    """
    Other paths, a range and a default model, as data.
    """
    mine = Service(
        name="Mine",
        base_url=f"{emulator.address}/v1",
        chat=Endpoint(path="/chat/completions?v=2", model="m"),
        key_variable="MINE_KEY",
    )
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    emulator.script(Answer.json(body))
    async with AsyncHoray(service=mine) as client:
        reply = await client.chat.completions.create(messages=HELLO)
    assert reply.text == "Hi"
    assert emulator.requests[0].query == "v=2"
    assert emulator.requests[0].json["model"] == "m"
    assert "authorization" not in emulator.requests[0].headers


# Refused before anything is sent -----------------------------------------------------


CHAT_RANGES = [
    (HORAY, {"max_tokens": 4097}, "max_tokens = 4097: Horay documents 1 to 4096"),
    (HORAY, {"temperature": -0.1}, "temperature = -0.1: Horay"),
    (EMPOWER, {"temperature": 2.1}, "Empower documents 0.0 to 2.0"),
    (EMPOWER, {"presence_penalty": -2.1}, "Empower documents -2.0 to 2.0"),
    (EMPOWER, {"frequency_penalty": 3}, "Empower documents -2.0 to 2.0"),
    (EMPOWER, {"tools": [{}] * 129}, "129 items"),
    (COMPATIBLE, {"temperature": -1}, "temperature"),
]


@pytest.mark.parametrize(("service", "fields", "words"), CHAT_RANGES)
async def test_ranges_of_chat(emulator, service, fields, words):
    """
    Every way to ask, at the service that documents the range.
    """
    (name,) = fields
    async with connect(emulator, service) as client:
        chat = client.chat.completions
        for call in (
            lambda: chat.create(messages=HELLO, model="x", **fields),
            lambda: chat.create(messages=HELLO, model="x", stream=True, **fields),
            lambda: chat.stream(messages=HELLO, model="x", **fields),
            lambda: chat.create(ChatRequest(messages=HELLO, model="x", **fields)),
            lambda: chat.with_raw_response.create(messages=HELLO, model="x", **fields),
        ):
            with refused(name, words):
                await call()
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 129}, "Horay documents 1 to 128"),
        ({"temperature": 1.1}, "Horay documents 0.0 to 1.0"),
        ({"presence_penalty": 2.1}, "Horay documents -2.0 to 2.0"),
        ({"frequency_penalty": -2.1}, "Horay documents -2.0 to 2.0"),
    ],
)
async def test_ranges_of_text(client, emulator, fields, words):
    (name,) = fields
    for call in (client.completions.create, client.completions.stream):
        with refused(name, words):
            await call(prompt="Once", **fields)
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": "1x1"}, "one of 1024x1024"),
        ({"seed": -1}, "Horay documents 0 to 9999999999"),
    ],
)
async def test_ranges_of_images(client, emulator, fields, words):
    (name,) = fields
    with refused(name, words):
        await client.images.generate(prompt="a boat", **fields)
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": "Hello?"}, "got a string"),
        ({"messages": []}, "empty"),
        ({"messages": HELLO, "temperature": float("nan")}, "a finite number"),
        ({"messages": HELLO, "max_tokens": True}, "an integer"),
        ({"messages": HELLO, "top_p": "0.5"}, "a number"),
        ({"messages": [{"content": "no role"}]}, "a role"),
    ],
)
async def test_what_no_service_takes(client, emulator, fields, words):
    with pytest.raises(InvalidRequestError, match=words):
        await client.chat.completions.create(**fields)
    assert emulator.requests == []


async def test_misspelt(client, emulator):
    """
    The error knows the right name.
    """
    with pytest.raises(TypeError, match="did you mean 'temperature'"):
        await client.chat.completions.create(messages=HELLO, temprature=1)
    with pytest.raises(TypeError, match="messages"):
        await client.chat.completions.create()
    assert emulator.requests == []


async def test_checks_can_be_off(emulator):
    """
    Then the server decides.
    """
    async with connect(emulator, validate="off") as client:
        with pytest.raises(BadRequestError):
            await client.chat.completions.create(messages=HELLO, max_tokens=5000)
    assert emulator.requests[0].json["max_tokens"] == 5000


async def test_strict(emulator):
    """
    Fields that Horay's document does not name are refused, wherever they stand.
    """
    async with connect(emulator, validate="strict") as client:
        chat = client.chat.completions
        await chat.create(messages=HELLO, top_k=5)
        for fields in ({"seed": 1}, {"extra_body": {"typo": 1}}):
            with pytest.raises(InvalidRequestError, match='validate="strict"'):
                await chat.create(messages=HELLO, **fields)
        lenient = client.with_options(validate="documented")
        await lenient.chat.completions.create(messages=HELLO, seed=1)
        # The text endpoint documents it.
        await client.completions.create(prompt="Once", seed=1)
    assert len(emulator.requests) == 3


# Answers that are none ---------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Answer.json({"choices": []}),
        Answer.json([]),
        Answer.text("<html>Welcome</html>", content_type="text/html"),
        Answer.text("", content_type="application/json"),
    ],
    ids=["no choices", "a list", "a page", "empty"],
)
async def test_not_an_answer(client, emulator, answer):
    emulator.script(answer)
    with pytest.raises(APIResponseValidationError) as caught:
        await client.chat.completions.create(messages=HELLO)
    assert caught.value.status_code == 200
    assert caught.value.response.status_code == 200


async def test_a_stream_that_nobody_asked_for(client, emulator):
    """
    Some servers always stream: the plain call puts it together.
    """
    emulator.script(Answer.chat("Bl", "ack", usage={"total_tokens": 3}))
    reply = await client.chat.completions.create(messages=HELLO)
    assert isinstance(reply, ChatReply)
    assert (reply.text, reply.usage.total_tokens) == ("Black", 3)
    assert reply.choices[0].finish_reason == "stop"


async def test_no_such_path(emulator):
    mine = Service(name="Mine", chat=Endpoint(path="/nowhere", model="m"))
    async with connect(emulator, mine) as client:
        with pytest.raises(NotFoundError):
            await client.chat.completions.create(messages=HELLO)


@pytest.mark.parametrize("fields", [{"stream": "no"}, {"include_usage": "yes"}])
async def test_a_word_for_a_flag(client, emulator, fields):
    """
    "no" is true in Python: it would stream.
    """
    fields = {"stream": True, **fields}
    with pytest.raises(InvalidRequestError, match="expected True or False"):
        await client.chat.completions.create(messages=[user("hi")], **fields)
    assert emulator.requests == []
