"""
Replies and chunks as their readers see them: the documents' own samples, in and out.
"""

import decimal
import pickle

import pytest

from horay_async._codec import (
    chat_chunk,
    chat_reply,
    completion_chunk,
    completion_reply,
    image_reply,
    model_list,
    user_info,
)
from horay_async._replies import ChatReply, CompletionChunk, CompletionReply
from horay_async._values import Message, Meta, Usage


META = Meta(status=200, service="Horay")


def reply(*choices, **fields):
    return chat_reply({"choices": list(choices) or [{"message": {}}], **fields}, META)


def chunk(*choices, **fields):
    return chat_chunk({"choices": list(choices), **fields})


def delta(**fields):
    return chunk({"delta": fields}).choices[0].delta


# The documents ---------------------------------------------------------------------


def test_horay_chat():
    """
    Horay's sample: no index, no logprobs, no fingerprint.
    """
    body = {
        "id": "<string>",
        "choices": [
            {
                "message": {"role": "assistant", "content": "<string>"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 123, "completion_tokens": 123, "total_tokens": 123},
        "created": 123,
        "model": "<string>",
        "object": "chat.completion",
    }
    found = chat_reply(body, META)
    assert (found.id, found.created, found.model) == ("<string>", 123, "<string>")
    assert found.object == "chat.completion"
    assert found.text == found.choices[0].text == "<string>"
    assert found.message == Message(role="assistant", content="<string>")
    assert found.choices[0].index == 0
    assert found.choices[0].finish_reason == "stop"
    assert found.choices[0].logprobs is None
    assert found.system_fingerprint is None
    assert found.usage == Usage(
        prompt_tokens=123, completion_tokens=123, total_tokens=123, source="server"
    )
    assert found.meta is META
    body["choices"][0]["index"] = 0
    assert found.to_dict() == body


def test_horay_text():
    """
    Horay's sample: two lists of logprobs, and the prompt with its own.
    """
    logprobs = {"tokens": ["<string>"], "token_logprobs": [123]}
    body = {
        "id": "<string>",
        "choices": [
            {"text": "<string>", "finish_reason": "stop", "logprobs": logprobs}
        ],
        "prompt": [{"text": "<string>", "logprobs": logprobs}],
        "usage": {"prompt_tokens": 123, "completion_tokens": 123, "total_tokens": 123},
        "created": 123,
        "model": "<string>",
        "object": "text_completion",
    }
    found = completion_reply(body, META)
    assert found.text == "<string>"
    assert found.choices[0].logprobs == logprobs
    assert found.prompt[0]["text"] == "<string>"
    assert found.usage.total_tokens == 123
    assert found.meta is META
    body["choices"][0]["index"] = 0
    assert found.to_dict() == body


def test_empower_chat():
    """
    Empower's sample: no object, a null for the time, logprobs as numbers.
    """
    body = {
        "choices": [
            {
                "finish_reason": "<string>",
                "index": 123,
                "logprobs": [123],
                "message": {"content": "<string>", "role": "<string>"},
            }
        ],
        "id": "<string>",
        "model": "<string>",
        "usage": {"completion_tokens": 1, "prompt_tokens": 2, "total_tokens": 3},
        "created": None,
    }
    found = chat_reply(body, META)
    assert found.object is None
    assert found.created is None
    assert found.choices[0].logprobs == [123]
    assert found.choices[0].index == 123
    assert found.to_dict() == body
    del body["created"]
    assert chat_reply(body, META).to_dict() == body


def test_openai_chat():
    """
    A body of today's OpenAI comes out as it went in, nulls and unknown fields included.
    """
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "gpt-4o-2024-11-20",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello!",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            },
            {
                "index": 1,
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "call_abc",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a": 1}'},
                        }
                    ],
                },
                "finish_reason": "tool_calls",
            },
        ],
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": None,
    }
    found = chat_reply(body, META)
    assert found.to_dict() == body
    call = found.choices[1].message.tool_calls[0]
    assert (call.id, call.function.name) == ("call_abc", "f")
    assert found.service_tier == "default"
    assert found.usage.prompt_tokens_details.cached_tokens == 0
    assert pickle.loads(pickle.dumps(found)) == found


def test_images():
    body = {"images": [{"url": "u"}], "timings": {"inference": 1.5}, "seed": 4999999999}
    found = image_reply(body, META)
    assert found.images[0].url == found.data[0].url == "u"
    assert found.timings == {"inference": 1.5}
    assert found.seed == 4999999999
    assert found.to_dict() == body
    openais = {"created": 1, "data": [{"b64_json": "x"}, {"url": "u"}]}
    found = image_reply(openais)
    assert found.images[0].b64_json == "x"
    assert found.to_dict() == openais


def test_models():
    body = {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 0, "owned_by": ""}],
    }
    found = model_list(body, META)
    assert [model.id for model in found] == ["m"]
    assert (len(found), found.data[0].created, found.data[0].owned_by) == (1, 0, "")
    assert found.to_dict() == body
    assert [model.id for model in model_list([{"id": "a"}, {"id": "b"}])] == ["a", "b"]
    assert len(model_list({"data": None})) == 0


async def test_models_of_ported_code():
    """
    `async for model in await client.models.list()`, as with openai's pages.
    """
    found = model_list({"data": [{"id": "a"}, {"id": "b"}]})
    assert [model.id async for model in found] == ["a", "b"]


USER = {
    "code": 20000,
    "message": "OK",
    "status": True,
    "data": {
        "id": "userid",
        "name": "username",
        "image": "image",
        "email": "user@example.com",
        "isAdmin": False,
        "balance": "0.88",
        "status": "normal",
        "introduction": "",
        "role": "",
        "chargeBalance": "88.00",
        "totalBalance": "88.88",
    },
}


def test_user_info():
    """
    Money is decimal; the account's status is not the envelope's.
    """
    found = user_info(USER, META)
    assert found.balance == decimal.Decimal("0.88")
    assert str(found.charge_balance) == "88.00"
    assert found.total_balance == found.balance + found.charge_balance
    assert found.is_admin is False
    assert (found.id, found.name, found.introduction) == ("userid", "username", "")
    assert (found.email, found.image, found.role) == ("user@example.com", "image", "")
    assert found.status == "normal"
    assert found.envelope == {"code": 20000, "message": "OK", "status": True}
    assert found.to_dict() == USER
    assert "user@example.com" not in repr(found)
    assert found.model_dump()["charge_balance"] == "88.00"
    assert '"total_balance":"88.88"' in found.model_dump_json()


def test_user_info_without_its_envelope():
    data = {**USER["data"], "balance": 0.5, "chargeBalance": 2, "later": 1}
    found = user_info(data)
    assert (found.balance, found.charge_balance) == (decimal.Decimal("0.5"), 2)
    assert found.envelope == {}
    assert found.later == 1
    assert found.to_dict() == {**data, "balance": "0.5", "chargeBalance": "2"}
    assert user_info({"data": {}}).balance is None


# What every reply has -----------------------------------------------------------------


def test_next_to_nothing():
    found = reply()
    assert (found.text, found.reasoning) == ("", None)
    assert found.message == Message(role="assistant", content=None)
    assert found.usage == Usage(source="none")
    assert completion_reply({"choices": [{"text": ""}]}, META).text == ""
    assert ChatReply().text == CompletionReply().text == ""
    assert ChatReply().message == Message()


def test_usage_is_only_dumped_where_the_server_counted():
    for usage in (None, {}, [], "none"):
        found = reply(usage=usage)
        assert found.usage.source == "none"
        assert "usage" not in found.to_dict()
        assert found.model_dump()["usage"] is None
    assert reply(usage={"prompt_tokens": 1}).model_dump()["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 0,
        "total_tokens": 1,
    }


def test_reasoning():
    assert reply({"message": {"reasoning_content": "hm"}}).reasoning == "hm"
    assert reply({"message": {"reasoning": "hm"}}).reasoning == "hm"
    assert delta(reasoning_content="hm", content=None).reasoning == "hm"
    assert delta(reasoning="hm").reasoning == "hm"
    assert delta(content="x").reasoning is None


def test_request_id():
    """
    By the name that openai has for it.
    """
    meta = Meta(headers={"x-request-id": "r"})
    assert chat_reply({"choices": [{"message": {}}]}, meta)._request_id == "r"
    assert "r" not in chat_reply({"choices": [{"message": {}}]}, meta).to_dict()


# Chunks ----------------------------------------------------------------------------


CHUNKS = [
    pytest.param(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        id="role first",
    ),
    pytest.param(
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "system_fingerprint": "f",
            "obfuscation": "xyz",
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": "tok"},
                    "finish_reason": None,
                    "logprobs": None,
                }
            ],
        },
        id="openai",
    ),
    pytest.param(
        {
            "choices": [],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        },
        id="usage",
    ),
    pytest.param(
        {
            "id": "",
            "model": "",
            "object": "",
            "created": 0,
            "choices": [],
            "prompt_filter_results": [{"prompt_index": 0}],
        },
        id="azure's first",
    ),
    pytest.param(
        {
            "choices": [
                {"index": 0, "delta": {"content": None, "reasoning_content": "hm"}}
            ],
            "provider": "SiliconFlow",
        },
        id="reasoning",
    ),
    pytest.param(
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "tool_calls": [
                            {
                                "index": 0,
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "f", "arguments": ""},
                            }
                        ]
                    },
                },
                {
                    "index": 1,
                    "delta": {
                        "tool_calls": [{"index": 3, "function": {"arguments": '{"a'}}]
                    },
                    "finish_reason": "tool_calls",
                    "stop_reason": None,
                },
            ]
        },
        id="tool calls",
    ),
]


@pytest.mark.parametrize("body", CHUNKS)
def test_chunks_keep_everything(body):
    """
    openai's shape in, openai's shape out; a missing finish reason comes out as null.
    """
    found = chat_chunk(body)
    for choice in body["choices"]:
        choice.setdefault("finish_reason", None)
    assert found.to_dict() == body


def test_chunks_of_everyday_code():
    """
    `chunk.choices[0].delta.content or ""`, `if chunk.usage`.
    """
    found = chunk({"index": 0, "delta": {"role": "assistant"}}, usage=None)
    assert found.choices[0].delta.content is None
    assert found.choices[0].delta.tool_calls is None
    assert found.choices[0].finish_reason is None
    assert found.usage is None
    assert chunk(usage={"total_tokens": 3}).usage.total_tokens == 3


def test_choices_without_delta():
    """
    Azure's filter sends one.
    """
    found = chunk({"index": 0, "content_filter_offsets": {}}, {"delta": None})
    assert found.choices[0].delta.content is None
    assert found.choices[0].content_filter_offsets == {}
    assert found.choices[1].index == 1


def test_fields_that_some_servers_add():
    """
    They read as None where a server does not send them, as in openai's classes.
    """
    assert delta(function_call={"name": "f"}).function_call == {"name": "f"}
    assert delta().function_call is None
    assert chunk(service_tier="flex").service_tier == "flex"
    assert chunk().service_tier is None


def test_tool_call_deltas():
    fragments = [{"id": "", "function": None}, {"index": None}, {"index": 5}]
    found = delta(tool_calls=fragments).tool_calls
    assert [call.index for call in found] == [0, 1, 5]
    assert found[0].function is None
    assert delta(tool_calls=[]).tool_calls == ()


def test_text_chunks():
    """
    A chunk of text is the reply's class, but its usage is None until it comes.
    """
    body = {
        "id": "c",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": "tok", "logprobs": None, "finish_reason": ""}],
    }
    found = completion_chunk(body)
    assert isinstance(found, CompletionReply)
    assert found.choices[0].text == found.text == "tok"
    assert found.choices[0].finish_reason is None
    assert found.usage is None
    body["choices"][0]["finish_reason"] = None
    assert found.to_dict() == body
    assert found.model_dump()["usage"] is None
    last = completion_chunk({"choices": [], "usage": {"prompt_tokens": 2}})
    assert last.usage.total_tokens == 2
    assert last.to_dict()["usage"]["total_tokens"] == 2
    assert completion_chunk({"choices": [{"text": None}]}).choices[0].text == ""
    assert CompletionChunk().text == ""
