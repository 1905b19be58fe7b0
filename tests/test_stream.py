"""
Reading a stream: tokens, strings, chunks, choices, the reply.
"""

import asyncio

import anyio
import pytest

from horay_async import (
    ChatRequest,
    Outcome,
    StreamConsumedError,
    Timeouts,
    Token,
    user,
)
from horay_async.emulator import Answer


HELLO = [user("the quick brown fox")]


def choice(index, text=None, finish=None):
    """
    One chunk of one choice.
    """
    delta = {} if text is None else {"content": text}
    return {
        "id": "c1",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }


async def test_tokens_in_order(client):
    """
    The tokens are the answer, in order, and the stream says that it has finished.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        tokens = [token async for token in stream]
    assert "".join(token.text for token in tokens) == "the quick brown fox"
    assert all(token.index == 0 for token in tokens)
    assert stream.outcome is Outcome.FINISHED
    assert stream.outcome == "finished"
    assert stream.reason == ""
    assert stream.error is None
    assert stream.reply.text == "the quick brown fox"
    assert stream.reply.choices[0].finish_reason == "stop"


async def test_text_stream_has_only_strings(client, emulator):
    """
    A piece of thinking is a token without text, and no string.
    """
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}
    for _ in range(2):
        emulator.script(Answer.sse(thought, choice(0, "so"), choice(0, None, "stop")))
    async with client.chat.completions.stream(messages=HELLO) as stream:
        assert [text async for text in stream.text_stream] == ["so"]
    async with client.chat.completions.stream(messages=HELLO) as stream:
        tokens = [token async for token in stream]
    assert tokens == [Token("", 0, "hm"), Token("so", 0)]
    assert stream.reply.reasoning == "hm"


async def test_chunks_in_openai_shape(client):
    """
    Chunks come typed, as they stand on the wire, roles and finish included.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        chunks = [chunk async for chunk in stream.chunks()]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "the quick brown fox"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert stream.reply.text == text


async def test_create_with_stream_gives_chunks(client):
    """
    `await create(stream=True)` is openai's everyday form.
    """
    stream = await client.chat.completions.create(messages=HELLO, stream=True)
    text = ""
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    assert text == "the quick brown fox"
    assert stream.outcome is Outcome.FINISHED
    assert stream.response.status_code == 200
    await stream.close()


async def test_text_completions_stream(client):
    """
    Text completions give the same tokens, and chunks of text.
    """
    async with client.completions.stream(prompt="one two") as stream:
        assert "".join([text async for text in stream.text_stream]) == "one two"
    assert stream.reply.object == "text_completion"
    chunks = await client.completions.create(prompt="one two", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in chunks]) == "one two"


async def test_final_completion(client):
    """
    Who only wants the end need not loop.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        reply = await stream.get_final_completion()
    assert reply.text == "the quick brown fox"
    assert reply.meta.status == 200


async def test_usage_is_always_there(client, emulator):
    """
    Asked for, the server counts; else we estimate, and say so.
    """
    async with client.chat.completions.stream(
        messages=HELLO, include_usage=True
    ) as stream:
        await stream.get_final_completion()
    assert stream.usage.source == "server"
    assert stream.usage.completion_tokens == stream.reply.usage.completion_tokens > 0
    assert emulator.requests[-1].json["stream_options"] == {"include_usage": True}

    async with client.chat.completions.stream(messages=HELLO) as stream:
        await stream.get_final_completion()
    assert stream.usage.source == "estimated"
    assert stream.reply.usage.completion_tokens > 0
    assert "stream_options" not in emulator.requests[-1].json


async def test_timings(client):
    """
    The stream knows where its time went.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        await stream.get_final_completion()
    times = stream.meta.timings
    # uvloop counts in milliseconds, so any of them may be 0 there.
    assert 0 <= times.headers <= times.first_token <= times.total
    assert stream.meta.attempts == 1
    assert stream.meta.request_id


async def test_a_loop_can_be_left_and_taken_up_again(client):
    """
    Inside `async with`, `break` leaves the loop, not the stream.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        async for token in stream:
            first = token.text
            break
        rest = [token.text async for token in stream]
        again = [token.text async for token in stream]
    assert first + "".join(rest) == "the quick brown fox"
    assert again == []


async def test_a_bare_stream_is_read_once(client):
    """
    A second loop would hang or lie, so it says why not.
    """
    stream = client.chat.completions.stream(messages=HELLO)
    async for _ in stream:
        pass
    with pytest.raises(StreamConsumedError, match="async with"):
        stream.__aiter__()


async def test_tokens_or_chunks_not_both(client):
    """
    What one loop has taken cannot be told to the other.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        async for _ in stream:
            break
        with pytest.raises(StreamConsumedError, match="not as both"):
            stream.chunks()
        await stream.get_final_completion()


async def test_chunks_after_choices_are_refused(client):
    """
    Chunks that were not kept cannot be handed out, and half of them would be a lie.
    """
    async with client.chat.completions.stream(messages=HELLO) as stream:
        async for _ in stream.choices[0]:
            break
        with pytest.raises(StreamConsumedError):
            stream.chunks()
        await stream.get_final_completion()


async def test_nothing_is_sent_before_it_is_read(client, emulator):
    """
    A stream that was never opened holds nothing.
    """
    stream = client.chat.completions.stream(messages=HELLO)
    assert "not opened" in repr(stream)
    stream.close()
    assert emulator.requests == []


async def test_cancelling_one_wait_loses_no_token(client, emulator):
    """
    The wait for a token may be given up and begun again.
    """
    more, waits = asyncio.Event(), 0
    emulator.script(Answer.chat("one", more, " two", more, " three"))
    async with client.chat.completions.stream(messages=HELLO) as stream:
        got = [(await anext(stream.__aiter__())).text]
        while stream.outcome is None:
            with anyio.move_on_after(0.02):
                try:
                    got.append((await anext(stream.__aiter__())).text)
                except StopAsyncIteration:
                    break
            waits += 1
            if waits == 3:
                more.set()
    assert waits >= 3
    assert got == ["one", " two", " three"]
    assert stream.outcome is Outcome.FINISHED


async def test_a_wait_given_up_before_the_headers(client, emulator):
    """
    The request goes on while nobody waits: the next wait must not send it again.
    """
    go_on = asyncio.Event()
    emulator.script(Answer.chat("found", before=[go_on]))
    tokens = client.chat.completions.stream(messages=HELLO).__aiter__()
    for _ in range(3):
        with anyio.move_on_after(0.02):
            await anext(tokens)
    go_on.set()
    assert [token.text async for token in tokens] == ["found"]
    assert len(emulator.requests) == 1


async def test_a_wait_given_up_between_attempts(client, emulator):
    """
    Nor does it cut the pause that the server has asked for.
    """
    busy = Answer.json({"message": "busy"}, 503, headers={"retry-after": "60"})
    emulator.script(busy, busy)
    async with asyncio.timeout(10):
        tokens = client.chat.completions.stream(messages=HELLO).__aiter__()
        for _ in range(3):
            with anyio.move_on_after(0.05):
                await anext(tokens)
    assert len(emulator.requests) == 1


async def test_opened_by_two(client, emulator):
    """
    Whoever comes second waits for the first: one request goes out.
    """
    go_on = asyncio.Event()
    emulator.script(Answer.chat("found", before=[go_on]))
    stream = client.chat.completions.stream(messages=HELLO)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stream.open())
        tasks.create_task(stream.open())
        tokens = stream.__aiter__()
        reader = tasks.create_task(anext(tokens))
        await emulator.wait_for_request()
        go_on.set()
    assert reader.result().text == "found"
    assert len(emulator.requests) == 1
    stream.close()


async def test_looking_at_the_text_takes_nothing(client):
    """
    A debugger that shows the property is no reader.
    """
    stream = client.chat.completions.stream(messages=HELLO)
    assert stream.text_stream is not stream.text_stream
    texts = [text async for text in stream.text_stream]
    assert "".join(texts) == "the quick brown fox"


# Choices ---------------------------------------------------------------------------


async def test_choices_side_by_side(client, emulator):
    """
    Each choice ends by itself, in its own time.
    """
    emulator.script(
        Answer.sse(
            choice(1, "b"),
            choice(0, "a"),
            choice(1, None, "stop"),
            choice(0, "aa"),
            choice(0, None, "length"),
        )
    )
    heard = {}

    async def listen(index):
        heard[index] = [token.text async for token in stream.choices[index]]

    async with client.chat.completions.stream(messages=HELLO, n=2) as stream:
        assert len(stream.choices) == 2
        async with asyncio.TaskGroup() as tasks:
            for index in (0, 1):
                tasks.create_task(listen(index))
    assert heard == {0: ["a", "aa"], 1: ["b"]}
    assert [each.finish_reason for each in stream.reply.choices] == ["length", "stop"]


async def test_reading_only_one_choice(client):
    """
    The others cannot hold it up, and are in the reply all the same.
    """
    async with client.chat.completions.stream(messages=HELLO, n=3) as stream:
        texts = [token.text async for token in stream.choices[2]]
        assert "".join(texts) == "the quick brown fox"
        reply = await stream.get_final_completion()
    assert [each.text for each in reply.choices] == ["the quick brown fox"] * 3


async def test_a_choice_from_its_beginning(client):
    """
    A cursor begins at the beginning, however late it is made.
    """
    async with client.chat.completions.stream(messages=HELLO, n=2) as stream:
        await stream.get_final_completion()
        for each in stream.choices:
            text = "".join([token.text async for token in each])
            assert text == "the quick brown fox"


async def test_tokens_after_a_choice(client, emulator):
    """
    Who reads the tokens late gets what a choice has already heard, and then the rest.
    """
    go_on = asyncio.Event()
    emulator.script(
        Answer.sse(
            choice(0, "a"),
            choice(1, "b"),
            choice(0, "c"),
            go_on,
            choice(1, "d"),
            choice(0, None, "stop"),
            choice(1, None, "stop"),
        )
    )
    async with client.chat.completions.stream(messages=HELLO, n=2) as stream:
        first = stream.choices[0]
        assert [(await anext(first)).text for _ in range(2)] == ["a", "c"]
        tokens = stream.__aiter__()
        go_on.set()
        said = {0: "", 1: ""}
        async for token in tokens:
            said[token.index] += token.text
    assert said == {0: "ac", 1: "bd"}


async def test_a_cancelled_pumper_passes_the_baton(client, emulator):
    """
    Whoever waits reads for all: cancelled, it leaves the reading to the next.
    """
    go_on = asyncio.Event()
    emulator.script(Answer.sse(choice(0, "a"), go_on, choice(1, "b"), choice(0, "c")))
    async with client.chat.completions.stream(messages=HELLO, n=2) as stream:
        pumper = asyncio.create_task(anext(stream.choices[1]))
        waiter = asyncio.create_task(anext(stream.choices[1]))
        await anext(stream.choices[0])
        pumper.cancel()
        go_on.set()
        assert (await asyncio.wait_for(waiter, 5)).text == "b"
        with pytest.raises(asyncio.CancelledError):
            await pumper


async def test_choices_are_a_sequence(client):
    """
    As many as were asked for; no more.
    """
    async with client.chat.completions.stream(messages=HELLO, n=3) as stream:
        assert len(list(stream.choices)) == len(stream.choices[:]) == 3
        assert len(stream.choices[1:]) == 2
        with pytest.raises(IndexError):
            stream.choices[3]


# Requests --------------------------------------------------------------------------


async def test_request_object_and_keywords(client, emulator):
    """
    Keywords change a request's fields for one call.
    """
    request = ChatRequest(messages=HELLO, max_tokens=2, temperature=0.5)
    async with client.chat.completions.stream(request, max_tokens=100) as stream:
        reply = await stream.get_final_completion()
    assert reply.text == "the quick brown fox"
    sent = emulator.requests[-1].json
    assert (sent["max_tokens"], sent["temperature"], sent["stream"]) == (100, 0.5, True)
    assert request.max_tokens == 2


async def test_many_streams_one_connection(client, emulator):
    """
    A stream that has finished gives its connection back.
    """
    for _ in range(100):
        async with client.chat.completions.stream(messages=HELLO) as stream:
            async for _token in stream:
                pass
    assert stream.outcome is Outcome.FINISHED
    assert stream.meta.reused
    assert emulator.connections == 1


async def test_left_after_the_last_token(client, emulator):
    """
    Who leaves when all is said, without waiting for `[DONE]`, has a whole answer.
    """
    later = asyncio.Event()
    whole = choice(0, "all", "stop")
    emulator.script(Answer.sse(whole, later, done=True))
    async with client.chat.completions.stream(messages=HELLO) as stream:
        async for _ in stream:
            later.set()
            break
    assert stream.outcome is Outcome.FINISHED
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=Timeouts(first_token=5)
    ) as stream:
        await stream.get_final_completion()
    assert emulator.connections == 1
