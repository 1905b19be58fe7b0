"""
The builders: every documented field, what they refuse, and how they meet a service.
"""

import copy
import json
import pickle
import typing

import attrs
import pytest

from horay_async._codec import pack
from horay_async._errors import ConfigurationError, InvalidRequestError
from horay_async._requests import (
    ChatFields,
    ChatRequest,
    CompletionFields,
    CompletionRequest,
    ImageFields,
    ImageRequest,
    bind,
    endpoint_of,
)
from horay_async._services import COMPATIBLE, EMPOWER, HORAY, Endpoint, Service
from horay_async._values import UNSET, Message, user


ASK = [{"role": "user", "content": "Hello"}]
LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"


def chat(**fields):
    return ChatRequest(**{"messages": ASK, **fields})


def text(**fields):
    return CompletionRequest(**{"prompt": "Once", **fields})


def wire(request, *, stream=False):
    return json.loads(pack(request, stream=stream))


# The documents ---------------------------------------------------------------------


# Horay, POST /chat/completions: its own sample request.
HORAY_CHAT = {
    "model": LLAMA,
    "messages": [
        {
            "role": "user",
            "content": "Unlock your AI Creativity with Horay.ai's Blazing Fast, "
            "Affordable and Production Ready API, What impact will it have on the "
            "industry?",
        }
    ],
    "max_tokens": 512,
    "stop": ["<string>"],
    "temperature": 0.7,
    "top_p": 0.7,
    "top_k": 50,
    "frequency_penalty": 0.5,
    "n": 1,
}

# Horay, POST /completions: its sample, with values inside the documented ranges.
HORAY_TEXT = {
    "prompt": "<s>[INST] What is the capital of France? [/INST]",
    "model": LLAMA,
    "max_tokens": 123,
    "stop": ["</s>"],
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "repetition_penalty": 1.1,
    "n": 64,
    "presence_penalty": -2.0,
    "frequency_penalty": 2.0,
    "logit_bias": {"105": 21.4, "1024": -10.5},
    "seed": 42,
}

# Empower, POST /chat/completions, and its guides on tools and thinking.
EMPOWER_CHAT = {
    "messages": [{"role": "user", "content": "Who was Ada Lovelace?"}],
    "model": "IlyaGusev/saiga_mistral_7b_lora",
    "frequency_penalty": -2,
    "presence_penalty": 2,
    "ignore_eos": True,
    "max_tokens": 256,
    "n": 2,
    "temperature": 0,
    "top_p": 1,
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
    "tool_choice": "any",
    "include_thinking": True,
    "response_format": {"type": "json_object"},
}

# Horay, POST /image/generations.
HORAY_IMAGE = {
    "model": "black-forest-labs/FLUX.1-schnell",
    "prompt": "an island near sea, with seagulls",
    "image_size": "1024x1024",
    "seed": 4999999999,
}

DOCUMENTS = [
    pytest.param(ChatRequest, HORAY, HORAY_CHAT, id="horay chat"),
    pytest.param(CompletionRequest, HORAY, HORAY_TEXT, id="horay text"),
    pytest.param(ChatRequest, EMPOWER, EMPOWER_CHAT, id="empower chat"),
    pytest.param(ImageRequest, HORAY, HORAY_IMAGE, id="horay image"),
]


@pytest.mark.parametrize(("kind", "service", "fields"), DOCUMENTS)
def test_documented_fields_reach_the_wire(kind, service, fields):
    """
    Every parameter of the document goes out under its name, with its value.
    """
    request = bind(kind(**fields), service, validate="strict")
    assert wire(request) == fields
    assert set(fields) == endpoint_of(request, service).fields


@pytest.mark.parametrize(("kind", "service", "fields"), DOCUMENTS)
def test_unset_fields_are_not_sent(kind, service, fields):
    """
    The server's default applies to what is not given, but for what it also requires.
    """
    needed = {name: fields[name] for name in ("messages", "prompt") if name in fields}
    request = bind(kind(**needed, model="m"), service)
    sent = endpoint_of(request, service).sent
    assert wire(request) == {**needed, "model": "m", **sent}


def test_none_is_sent_as_null():
    """
    None is a value of its own; UNSET takes a field out again.
    """
    request = chat(model="m", temperature=None, stop=None)
    assert wire(request) == {
        "model": "m",
        "messages": ASK,
        "temperature": None,
        "stop": None,
    }
    assert "temperature" not in wire(request.evolve(temperature=UNSET))


def test_common_fields_beyond_the_documents():
    """
    What OpenAI-like servers know besides is there by name, too.
    """
    fields = {
        "max_completion_tokens": 5,
        "min_p": 0.05,
        "repetition_penalty": 1.2,
        "seed": -1,
        "logit_bias": {"7": 1.5},
        "logprobs": True,
        "top_logprobs": 0,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "metadata": {"job": "1"},
        "user": "ada",
        "service_tier": "flex",
        "store": False,
    }
    assert wire(chat(**fields)) == {"messages": ASK, **fields}
    fields = {"logprobs": 5, "echo": True, "suffix": "end", "best_of": 3, "min_p": 0.1}
    assert wire(text(**fields)) == {"prompt": "Once", **fields}
    assert wire(text(logprobs=True))["logprobs"] is True


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (ChatFields, ChatRequest),
        (CompletionFields, CompletionRequest),
        (ImageFields, ImageRequest),
    ],
)
def test_keywords_mirror_the_builders(fields, kind):
    """
    What editors offer for keywords is what the builder takes, in name and type.
    """
    hints = typing.get_type_hints(kind)
    types = {field.name: hints[field.name] for field in attrs.fields(kind)}
    assert typing.get_type_hints(fields) == types


# Building --------------------------------------------------------------------------


def test_stream_belongs_to_the_verb():
    with pytest.raises(TypeError, match="stream is not a field of ChatRequest"):
        chat(stream=True)
    with pytest.raises(TypeError, match="the verb decides"):
        chat().evolve(stream=True)
    with pytest.raises(InvalidRequestError, match="the verb decides") as caught:
        chat(extra_body={"stream": True})
    assert caught.value.field == "extra_body.stream"


def test_unknown_fields_are_named():
    with pytest.raises(
        TypeError, match="no field 'temprature'; did you mean 'temperat"
    ):
        chat(temprature=1)
    with pytest.raises(TypeError, match=r"no field 'qwerty' \(what the .* extra_body"):
        text(qwerty=1)


def test_required_fields():
    with pytest.raises(TypeError, match="messages"):
        ChatRequest()
    with pytest.raises(InvalidRequestError, match="messages = UNSET: expected a list"):
        ChatRequest(messages=UNSET)
    with pytest.raises(InvalidRequestError, match="prompt = None: expected a string"):
        CompletionRequest(prompt=None)
    with pytest.raises(InvalidRequestError, match="model = None: expected a model's n"):
        chat(model=None)


def test_immutable():
    """
    Neither the request nor what the caller keeps can change what is sent.
    """
    message = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    messages, stop, tool = [message], ["x"], {"function": {"name": "f"}}
    extra = {"deep": {"list": [1]}}
    request = chat(messages=messages, stop=stop, tools=[tool], extra_body=extra)
    before = wire(request)
    message["role"] = "system"
    message["content"][0]["text"] = "b"
    messages.append(user("more"))
    stop.append("y")
    tool["function"]["name"] = "g"
    extra["deep"]["list"].append(2)
    assert wire(request) == before
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.temperature = 1


def test_evolve():
    request = chat(temperature=1)
    changed = request.evolve(temperature=0.5, n=2)
    assert (request.temperature, changed.temperature, changed.n) == (1, 0.5, 2)
    assert changed.messages == request.messages
    with pytest.raises(InvalidRequestError, match="temperature"):
        request.evolve(temperature="hot")


def test_equality_copies_and_pickles():
    request = chat(n=2, extra_headers={"x": "y"}, logit_bias={5: 1})
    assert request == chat(n=2, extra_headers={"x": "y"}, logit_bias={"5": 1})
    assert request != chat(n=2)
    for other in (copy.deepcopy(request), pickle.loads(pickle.dumps(request))):
        assert other == request
        assert other.temperature is UNSET


def test_repr_is_short_and_hides_headers():
    """
    Only set fields; a header's value may be a key.
    """
    request = text(n=2, extra_headers={"Authorization": "Bearer sk-secret"})
    assert repr(request) == (
        "CompletionRequest(extra_headers={'Authorization': '***'}, n=2, prompt='Once')"
    )
    assert request.extra_headers["Authorization"] == "Bearer sk-secret"


def test_extra_body_has_the_last_word():
    request = chat(model="m", n=1, extra_body={"n": 2, "guided_json": {"a": [1]}})
    assert wire(request) == {
        "messages": ASK,
        "model": "m",
        "n": 2,
        "guided_json": {"a": [1]},
    }


def test_options_are_not_sent_as_fields():
    request = chat(extra_headers={"a": "b"}, extra_query={"c": 1})
    assert wire(request) == {"messages": ASK}


def test_subclasses():
    """
    A plain subclass is checked and bound like its parent.
    """

    class MyChat(ChatRequest):
        pass

    request = bind(MyChat(messages=ASK), HORAY)
    assert isinstance(request, MyChat)
    assert wire(request)["model"] == LLAMA


# Meeting the service -----------------------------------------------------------------


def test_default_model():
    """
    Horay's documented default is always sent; Empower documents none.
    """
    assert bind(chat(), HORAY).model == LLAMA
    assert bind(text(), HORAY).model == LLAMA
    image = bind(ImageRequest(prompt="sea"), HORAY)
    assert image.model == "black-forest-labs/FLUX.1-schnell"
    assert bind(chat(model="m"), HORAY).model == "m"
    with pytest.raises(InvalidRequestError, match="Empower has no default model") as no:
        bind(chat(), EMPOWER)
    assert no.value.field == "model"
    named = chat(extra_body={"model": "mine"})
    assert wire(bind(named, EMPOWER))["model"] == "mine"
    assert chat().model is UNSET


def test_binding_changes_nothing_else():
    request = chat(temperature=0.3, extra_body={"a": 1})
    assert bind(request, HORAY) == request.evolve(model=LLAMA)
    assert request.model is UNSET


def test_missing_endpoint():
    with pytest.raises(InvalidRequestError, match="Empower has no text completions"):
        bind(text(model="m"), EMPOWER)
    with pytest.raises(InvalidRequestError, match=r"no image generation.*nothing was"):
        endpoint_of(ImageRequest(prompt="sea"), EMPOWER)
    assert endpoint_of(text(), HORAY).path == "/completions"
    assert endpoint_of(ImageRequest(prompt="sea"), HORAY).path == "/image/generations"


RANGES = [
    (chat, HORAY, "max_tokens", (1, 4096), (4097,)),
    (chat, HORAY, "temperature", (0, 99), (-0.1,)),
    (text, HORAY, "n", (1, 128), (129,)),
    (text, HORAY, "temperature", (0.0, 1.0), (-0.1, 1.01)),
    (text, HORAY, "presence_penalty", (-2.0, 2.0), (-2.01, 2.01)),
    (text, HORAY, "frequency_penalty", (-2.0, 2.0), (-2.01, 2.01)),
    (chat, EMPOWER, "temperature", (0, 2), (-0.1, 2.1)),
    (chat, EMPOWER, "presence_penalty", (-2, 2), (-2.1, 2.1)),
    (chat, EMPOWER, "frequency_penalty", (-2, 2), (-2.1, 2.1)),
    (chat, COMPATIBLE, "temperature", (0, 99), (-1,)),
    (text, COMPATIBLE, "temperature", (0, 99), (-1,)),
]


@pytest.mark.parametrize(("make", "service", "field", "good", "bad"), RANGES)
def test_documented_ranges(make, service, field, good, bad):
    """
    Both ends are allowed; beyond them the error names field, value, range and service.
    """
    for value in good:
        assert getattr(bind(make(model="m", **{field: value}), service), field) == value
    for value in bad:
        request = make(model="m", **{field: value})
        with pytest.raises(InvalidRequestError) as caught:
            bind(request, service)
        message = str(caught.value)
        assert caught.value.field == field
        assert message.startswith(f"{field} = {value}: {service.name} documents ")
        assert 'validate="off" lifts this check' in message
        assert bind(request, service, validate="off") == request
    bind(make(model="m", **{field: None}), service)


def test_range_in_words():
    with pytest.raises(InvalidRequestError, match="Horay documents 1 to 4096;"):
        bind(chat(max_tokens=5000), HORAY)
    with pytest.raises(InvalidRequestError, match=r"Horay documents at least 0\.0;"):
        bind(chat(temperature=-1), HORAY)


def test_image_ranges():
    for seed in (0, 9999999999):
        bind(ImageRequest(prompt="sea", seed=seed), HORAY)
    with pytest.raises(InvalidRequestError, match="0 to 9999999999"):
        bind(ImageRequest(prompt="sea", seed=10**10), HORAY)
    with pytest.raises(InvalidRequestError, match="one of 1024x1024, 1536x1536"):
        bind(ImageRequest(prompt="sea", image_size="1x1"), HORAY)
    bind(ImageRequest(prompt="sea", image_size="1x1", model="m"), COMPATIBLE)


def test_most_items():
    tools = [{"type": "function"}] * 129
    bind(chat(model="m", tools=tools[:128]), EMPOWER)
    with pytest.raises(
        InvalidRequestError, match=r"tools: 129 items; Empower .* most 128"
    ):
        bind(chat(model="m", tools=tools), EMPOWER)
    bind(chat(model="m", tools=tools), EMPOWER, validate="off")
    bind(chat(model="m", tools=None), EMPOWER)


def test_strict():
    """
    Strict refuses what the document does not name, extra_body included.
    """
    bind(chat(tools=[]), HORAY)
    for request, field in [
        (chat(tools=[]), "tools"),
        (chat(seed=None), "seed"),
        (chat(stream_options={"include_usage": True}), "stream_options"),
        (chat(extra_body={"guided_json": {}}), "guided_json"),
    ]:
        with pytest.raises(
            InvalidRequestError, match="Horay's documentation"
        ) as caught:
            bind(request, HORAY, validate="strict")
        assert caught.value.field == field
    bind(chat(extra_headers={"x": "y"}, extra_query={"a": 1}), HORAY, validate="strict")
    # No document, nothing to be strict about.
    bind(chat(model="m", tools=[]), COMPATIBLE, validate="strict")


def test_unknown_way_to_validate():
    with pytest.raises(ConfigurationError, match="documented, strict, off"):
        bind(chat(), HORAY, validate="loose")


def test_service_of_your_own():
    mine = Service(name="Mine", chat=Endpoint(path="/talk", model="tiny"))
    assert bind(chat(), mine).model == "tiny"
    assert endpoint_of(chat(), mine).path == "/talk"


def test_reply_messages_go_back_in():
    """
    What a server sends but would refuse to hear is left out: nulls and empty lists.
    """
    heard = Message(
        content="Hi", tool_calls=(), extra={"refusal": None, "reasoning": "hm"}
    )
    request = chat(messages=[user("a"), heard])
    assert wire(request)["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "Hi", "reasoning": "hm"},
    ]


@pytest.mark.parametrize("service", [HORAY, EMPOWER], ids=lambda each: each.name)
def test_help_tells_the_documented_defaults(service):
    """
    `help(ChatRequest)` says what a server assumes, in the words of the service's data.
    """
    text = " ".join(ChatRequest.__doc__.split())
    (told,) = (part for part in text.split("- ") if part.startswith(service.name))
    for name, value in service.chat.defaults.items():
        assert f"{name} {value}" in told
