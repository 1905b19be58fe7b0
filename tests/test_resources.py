"""
The verbs: what each of them puts on the wire, what it gives back, what it refuses.
"""

from decimal import Decimal

import pytest

from horay_async import (
    COMPATIBLE,
    EMPOWER,
    HORAY,
    UNSET,
    AsyncHoray,
    BadRequestError,
    ChatReply,
    ChatRequest,
    ChunkStream,
    CompletionReply,
    CompletionRequest,
    ImageReply,
    ImageRequest,
    InvalidRequestError,
    ModelList,
    RawResponse,
    TokenStream,
    UserInfo,
    user,
)


LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
HELLO = [user("Hello, you.")]
SENT = [{"role": "user", "content": "Hello, you."}]
SERVICES = [HORAY, EMPOWER, COMPATIBLE]


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


# On the wire -------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_chat(emulator, service):
    """
    The service's own path, the key, and not one field that was not given.
    """
    async with connect(emulator, service) as client:
        reply = await client.chat.completions.create(messages=HELLO, model=LLAMA)
    assert isinstance(reply, ChatReply)
    assert (reply.text, reply.message.role) == ("Hello, you.", "assistant")
    (seen,) = emulator.requests
    prefix = "/api/v1" if service is EMPOWER else "/v1"
    assert (seen.method, seen.path, seen.query) == (
        "POST",
        f"{prefix}/chat/completions",
        "",
    )
    assert seen.headers["authorization"] == "Bearer test-key"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["user-agent"].startswith("horay-async/")
    assert seen.json == {"model": LLAMA, "messages": SENT}


@pytest.mark.parametrize("service", [HORAY, COMPATIBLE], ids=["Horay", "compatible"])
async def test_text(emulator, service):
    async with connect(emulator, service) as client:
        reply = await client.completions.create(prompt="Once", model=LLAMA)
    assert isinstance(reply, CompletionReply)
    assert reply.text == "Once"
    (seen,) = emulator.requests
    assert (seen.method, seen.path) == ("POST", "/v1/completions")
    assert seen.json == {"model": LLAMA, "prompt": "Once"}


async def test_images(client, emulator):
    reply = await client.images.generate(
        prompt="a boat", image_size="768x512", seed=9_999_999_999
    )
    assert isinstance(reply, ImageReply)
    assert reply.images[0].url
    assert reply.data == reply.images
    assert reply.seed is not None
    assert reply.meta.request_id
    (seen,) = emulator.requests
    assert (seen.method, seen.path) == ("POST", "/v1/image/generations")
    assert seen.json == {
        "model": "black-forest-labs/FLUX.1-schnell",
        "prompt": "a boat",
        "image_size": "768x512",
        "seed": 9_999_999_999,
    }


async def test_models(client, emulator):
    models = await client.models.list()
    assert isinstance(models, ModelList)
    assert LLAMA in [model.id for model in models]
    assert len(models) == len(models.data)
    assert models.meta.request_id
    assert [model.id async for model in client.models.list()] == [
        model.id for model in models
    ]
    assert {(seen.method, seen.path) for seen in emulator.requests} == {
        ("GET", "/v1/models")
    }
    assert emulator.requests[0].headers["authorization"] == "Bearer test-key"


async def test_models_are_asked_for_when_awaited(client, emulator):
    listing = client.models.list()
    assert emulator.requests == []
    await listing
    await listing
    assert len(emulator.requests) == 2


async def test_user_info(client, emulator):
    """
    Money is exact.
    """
    info = await client.user.info()
    assert isinstance(info, UserInfo)
    money = (info.balance, info.charge_balance, info.total_balance)
    assert money == (Decimal("0.88"), Decimal("88.00"), Decimal("88.88"))
    assert str(info.charge_balance) == "88.00"
    assert info.status == "normal"
    (seen,) = emulator.requests
    assert (seen.method, seen.path) == ("GET", "/v1/user/info")


async def test_all_fields_of_a_chat(client, emulator):
    fields = {
        "model": "google/gemma-2-9b-it",
        "max_tokens": 4096,
        "stop": ["\n"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "frequency_penalty": 0.25,
        "n": 2,
    }
    await client.chat.completions.create(messages=HELLO, **fields)
    assert emulator.requests[0].json == fields | {"messages": SENT}


async def test_all_fields_of_empower(empower, emulator):
    fields = {
        "model": "my-lora",
        "frequency_penalty": -2,
        "presence_penalty": 2,
        "ignore_eos": True,
        "max_tokens": 5,
        "n": 1,
        "temperature": 2,
        "top_p": 1,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "none",
        "include_thinking": True,
        "response_format": {"type": "text"},
    }
    await empower.chat.completions.create(messages=HELLO, **fields)
    assert emulator.requests[0].json == fields | {"messages": SENT}


# Models ------------------------------------------------------------------------------


async def test_what_horay_requires_and_gives_a_default(client, emulator):
    """
    That is sent: the model, and the size of a picture; no other default is.
    """
    await client.chat.completions.create(messages=HELLO)
    await client.completions.create(prompt="Once")
    await client.images.generate(prompt="a boat")
    flux = "black-forest-labs/FLUX.1-schnell"
    assert [seen.json for seen in emulator.requests] == [
        {"model": LLAMA, "messages": SENT},
        {"model": LLAMA, "prompt": "Once"},
        {"model": flux, "prompt": "a boat", "image_size": "1024x1024"},
    ]


@pytest.mark.parametrize(
    "service", [EMPOWER, COMPATIBLE], ids=["Empower", "compatible"]
)
async def test_others_need_a_model(emulator, service):
    async with connect(emulator, service) as client:
        for call in (
            client.chat.completions.create,
            client.chat.completions.stream,
            client.chat.completions.with_raw_response.create,
        ):
            with refused("model", f"{service.name} has no default model"):
                await call(messages=HELLO)
    assert emulator.requests == []


async def test_any_model_is_sent(client, emulator):
    """
    Names are for editors: the server has the last word.
    """
    with pytest.raises(BadRequestError):
        await client.chat.completions.create(messages=HELLO, model="of tomorrow")
    assert emulator.requests[0].json["model"] == "of tomorrow"


async def test_a_model_in_extra_body(empower, emulator):
    await empower.chat.completions.create(
        messages=HELLO, extra_body={"model": "my-lora", "top_k": 3}
    )
    assert emulator.requests[0].json == {
        "model": "my-lora",
        "messages": SENT,
        "top_k": 3,
    }


# Request objects ---------------------------------------------------------------------


async def test_request_objects(client, emulator):
    """
    Alone; or with keywords, which change this call and not the object.
    """
    request = ChatRequest(messages=HELLO, temperature=0.5, max_tokens=9)
    chat = client.chat.completions
    await chat.create(request)
    await chat.create(request, temperature=0, seed=7, max_tokens=UNSET)
    stream = await chat.create(request, stream=True, stop="x")
    async for _ in stream:
        pass
    await chat.stream(request, n=2).get_final_completion()
    await chat.with_raw_response.create(request, top_k=1)
    base = {"model": LLAMA, "messages": SENT, "temperature": 0.5, "max_tokens": 9}
    first, second, third, fourth, fifth = [seen.json for seen in emulator.requests]
    assert first == base
    assert second == {"model": LLAMA, "messages": SENT, "temperature": 0, "seed": 7}
    assert third == base | {"stop": ["x"], "stream": True}
    assert fourth == base | {"n": 2, "stream": True}
    assert fifth == base | {"top_k": 1}
    assert request == ChatRequest(messages=HELLO, temperature=0.5, max_tokens=9)


async def test_other_request_objects(client, emulator):
    text = CompletionRequest(prompt="Once", n=2)
    assert len((await client.completions.create(text)).choices) == 2
    assert len((await client.completions.create(text, n=3)).choices) == 3
    await client.images.generate(ImageRequest(prompt="a boat"), seed=5)
    assert emulator.requests[-1].json["seed"] == 5


async def test_a_request_of_another_verb(client, emulator):
    with pytest.raises(TypeError, match="expected a ChatRequest, got Completion"):
        await client.chat.completions.create(CompletionRequest(prompt="Once"))
    with pytest.raises(TypeError, match="expected a CompletionRequest"):
        await client.completions.create(ChatRequest(messages=HELLO))
    with pytest.raises(TypeError):
        await client.chat.completions.create(HELLO)
    assert emulator.requests == []


# Streams -----------------------------------------------------------------------------


async def test_kinds_of_streams(client):
    chat, text = client.chat.completions, client.completions
    for made in (chat.stream(messages=HELLO), text.stream(prompt="Once")):
        assert isinstance(made, TokenStream)
        await made.close()
    for made in (
        await chat.create(messages=HELLO, stream=True),
        await text.create(prompt="Once", stream=True),
    ):
        assert isinstance(made, ChunkStream)
        async with made:
            assert [chunk async for chunk in made]
        assert made.reply.text


async def test_usage_is_asked_for_only_on_request(client, emulator):
    chat = client.chat.completions
    streams = [
        chat.stream(messages=HELLO),
        chat.stream(messages=HELLO, include_usage=True),
        chat.stream(messages=HELLO, include_usage=False),
        chat.stream(
            messages=HELLO,
            include_usage=True,
            stream_options={"include_obfuscation": 0},
        ),
        chat.stream(messages=HELLO, stream_options={"include_usage": True}),
        client.completions.stream(prompt="Once", include_usage=True),
    ]
    for stream in streams:
        await stream.get_final_completion()
    sent = [seen.json.get("stream_options") for seen in emulator.requests]
    assert sent == [
        None,
        {"include_usage": True},
        {"include_usage": False},
        {"include_obfuscation": 0, "include_usage": True},
        {"include_usage": True},
        {"include_usage": True},
    ]
    assert "stream_options" not in emulator.requests[0].json
    sources = [stream.reply.usage.source for stream in streams]
    assert sources == ["estimated", "server", "estimated", "server", "server", "server"]


async def test_usage_of_a_plain_call_is_always_there(client, emulator):
    """
    Asking for it there is a mistake, as some servers refuse the field.
    """
    for call in (
        lambda: client.chat.completions.create(messages=HELLO, include_usage=True),
        lambda: client.completions.create(prompt="Once", include_usage=False),
    ):
        with refused("include_usage", "for streams"):
            await call()
    assert emulator.requests == []
    # In a request that is used for both, it is left out.
    request = ChatRequest(messages=HELLO, stream_options={"include_usage": True})
    reply = await client.chat.completions.create(request)
    assert "stream_options" not in emulator.requests[0].json
    assert reply.usage.source == "server"


async def test_stream_is_the_verb_s(client, emulator):
    for fields in ({"stream": True}, {"extra_body": {"stream": True}}):
        with pytest.raises((InvalidRequestError, TypeError), match="the verb decides"):
            ChatRequest(messages=HELLO, **fields)
    await client.chat.completions.create(messages=HELLO, stream=None)
    assert "stream" not in emulator.requests[0].json


# The HTTP answer ---------------------------------------------------------------------


async def test_raw_response(client, emulator):
    chat, text = client.chat.completions, client.completions
    raw = await chat.with_raw_response.create(messages=HELLO)
    assert isinstance(raw, RawResponse)
    assert raw.parse() is raw.parsed
    assert raw.parse().text == "Hello, you."
    assert (raw.status_code, raw.request_id) == (200, emulator.requests[0].id)
    assert raw.json()["choices"][0]["message"]["content"] == "Hello, you."
    assert (raw.retries_taken, raw.meta) == (0, raw.parse().meta)
    assert "Hello" not in repr(raw)
    raw = await text.with_raw_response.create(prompt="Once")
    assert raw.parse().text == "Once"
    for verbs, asked in ((chat, {"messages": HELLO}), (text, {"prompt": "Once"})):
        raw = await verbs.with_raw_response.create(**asked, stream=True)
        assert raw.headers["Content-Type"].startswith("text/event-stream")
        assert raw.content == b""
        async with raw.parse() as stream:
            assert [chunk async for chunk in stream]
