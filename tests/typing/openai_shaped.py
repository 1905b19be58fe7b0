"""
Code that was written for openai, as type checkers see it with our client; never run.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator
from typing import Any, assert_type

from horay_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncHoray,
    ChatChunk,
    ChatReply,
    ChatRequest,
    ChunkStream,
    CompletionChunk,
    CompletionReply,
    CompletionRequest,
    Message,
    Model,
    ModelList,
    RateLimitError,
    RawResponse,
    Response,
    Timeouts,
    ToolCall,
    tool,
    user,
)


async def streams(client: AsyncHoray, stream: bool | None) -> None:
    """
    What `create` gives depends on `stream`, as far as that is known.
    """
    chat, text = client.chat.completions, client.completions
    messages = [{"role": "user", "content": "Hello?"}]
    assert_type(await chat.create(messages=messages), ChatReply)
    assert_type(await chat.create(messages=messages, stream=False), ChatReply)
    chunks = await chat.create(messages=messages, stream=True, include_usage=True)
    assert_type(chunks, ChunkStream[ChatReply, ChatChunk])
    either = await chat.create(messages=messages, stream=stream)
    assert_type(either, ChatReply | ChunkStream[ChatReply, ChatChunk])
    request = ChatRequest(messages=[user("Hello?")])
    assert_type(
        await chat.create(request, stream=True), ChunkStream[ChatReply, ChatChunk]
    )

    assert_type(await text.create(prompt="Once"), CompletionReply)
    parts = await text.create(prompt="Once", stream=True)
    assert_type(parts, ChunkStream[CompletionReply, CompletionChunk])
    assert_type(
        await text.create(CompletionRequest(prompt="Once"), stream=stream),
        CompletionReply | ChunkStream[CompletionReply, CompletionChunk],
    )


async def chunks(client: AsyncHoray) -> AsyncIterator[str]:
    """
    Everyday loops over chunks.
    """
    async with await client.chat.completions.create(
        messages=[user("Hello?")], stream=True
    ) as stream:
        assert_type(await anext(stream), ChatChunk)
        async for chunk in stream:
            if not chunk.choices:
                assert chunk.usage is not None
                assert_type(chunk.usage.total_tokens, int)
                continue
            delta = chunk.choices[0].delta
            for call in delta.tool_calls or []:
                assert_type(call.index, int)
                if call.function is not None:
                    assert_type(call.function.arguments, str | None)
                    # The pieces are their reader's own.
                    call.function.arguments = (call.function.arguments or "") + "}"
            if isinstance(delta.content, str):
                yield delta.content
            yield chunk.model_dump_json(exclude_unset=True)
    assert_type(stream.reply, ChatReply)
    assert_type(stream.response, Response)
    await stream.close()

    parts = await client.completions.create(prompt="Once", stream=True)
    async for part in parts:
        assert_type(part, CompletionChunk)
        yield part.choices[0].text


async def raw(client: AsyncHoray) -> None:
    """
    The HTTP answer.
    """
    chat = client.chat.completions.with_raw_response
    whole = await chat.create(messages=[user("Hello?")])
    assert_type(whole, RawResponse[ChatReply])
    assert_type(whole.parse(), ChatReply)
    assert_type(whole.headers.get("x-request-id"), str | None)
    assert_type(whole.request_id, str | None)
    assert_type(whole.text, str)
    streamed = await chat.create(messages=[user("Hello?")], stream=True)
    assert_type(streamed.parse(), ChunkStream[ChatReply, ChatChunk])
    text = client.completions.with_raw_response
    assert_type((await text.create(prompt="Once")).parse(), CompletionReply)


async def models(client: AsyncHoray) -> None:
    """
    Awaited, or looped over.
    """
    page = await client.models.list()
    assert_type(page, ModelList)
    for model in page:
        assert_type(model, Model)
    async for model in client.models.list():
        assert_type(model.id, str | None)


async def tools(client: AsyncHoray) -> None:
    """
    Calls, and the way back in.
    """
    messages: list[Message | dict[str, Any]] = [user("How deep is the Black Sea?")]
    reply = await client.chat.completions.create(
        messages=messages,
        tools=[{"type": "function", "function": {"name": "depth"}}],
        tool_choice="auto",
        timeout=20,
        extra_headers={"X-Team": "sea"},
        extra_query={"tier": 1},
        extra_body={"min_p": 0.1},
    )
    messages.append(reply.choices[0].message)
    for call in reply.choices[0].message.tool_calls or ():
        assert_type(call, ToolCall)
        assert_type(call.function.name, str | None)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "2 km"})
        messages.append(tool("2 km", tool_call_id=call.id))
    await client.chat.completions.create(messages=messages)


def dumped(reply: ChatReply) -> None:
    """
    As dicts and JSON.
    """
    assert_type(reply.to_dict(), dict[str, Any])
    assert_type(reply.to_json(indent=None), str)
    assert_type(reply.model_dump(exclude_none=True, exclude={"id"}), dict[str, Any])
    assert_type(reply.message.model_dump_json(indent=2), str)
    if details := reply.usage.completion_tokens_details:
        assert_type(details.reasoning_tokens, Any)


async def caught(client: AsyncHoray) -> int | None:
    """
    Errors by openai's names.
    """
    patient = client.with_options(timeout=20, max_retries=5).copy(max_retries=1)
    assert_type(patient, AsyncHoray)
    try:
        await patient.chat.completions.create(messages=[user("Hello?")])
    except APITimeoutError as error:
        assert_type(error.message, str)
    except APIConnectionError as error:
        assert_type(error.__cause__, BaseException | None)
    except RateLimitError as error:
        assert_type(error.response.headers.get("retry-after"), str | None)
        assert_type(error.request_id, str | None)
    except APIStatusError as error:
        assert_type(error.response.status_code, int)
        assert_type(error.code, str | int | None)
        return error.status_code
    return None


async def mistaken(client: AsyncHoray, stream: bool) -> None:
    """
    Mistakes that an editor shows.
    """
    chat, text = client.chat.completions, client.completions
    one = [user("Hello?")]
    await chat.create(messages=one, temprature=1)  # type: ignore[call-overload]
    await chat.create(messages=one, max_tokens="9")  # type: ignore[call-overload]
    await chat.create(messages=one, timeout="soon")  # type: ignore[call-overload]
    await chat.create(messages=one, timeouts=5)  # type: ignore[call-overload]
    await chat.create(messages=one, include_usage=True)  # type: ignore[call-overload]
    await chat.create(CompletionRequest(prompt="a"))  # type: ignore[call-overload]
    await text.create(messages=one)  # type: ignore[call-overload]
    await text.create(prompt=5)  # type: ignore[call-overload]
    chat.stream(messages=one, stream=True)  # type: ignore[call-arg]
    chat.stream(messages=one, n="2")  # type: ignore[arg-type]
    await client.images.generate(prompt="a", size="1x1")  # type: ignore[call-arg]
    client.with_options(retries=1)  # type: ignore[call-arg]
    client.with_options(timeouts=5)  # type: ignore[arg-type]
    Timeouts(read=5)  # type: ignore[call-arg]
    reply = await chat.create(messages=one)
    reply.choices[0].message.content = "no"  # type: ignore[misc]
    reply.usage.total = 5  # type: ignore[attr-defined]
    async for token in chat.stream(messages=one):
        assert token.txt  # type: ignore[attr-defined]
