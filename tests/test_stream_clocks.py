"""
The clocks of a stream, each alone: first token, stall, silence, tail, deadline.
"""

import asyncio
import math

import pytest

from horay_async import (
    DeadlineExceeded,
    FirstTokenTimeoutError,
    HorayError,
    Outcome,
    StreamSilentError,
    StreamStalledError,
    Timeouts,
    user,
)
from horay_async.emulator import Answer


HELLO = [user("hello")]
SHORT = 0.15


def pings(seconds=0.01):
    """
    Keep-alive comments for ever.
    """
    while True:
        yield b": ping\n\n"
        yield seconds


def word(text):
    """
    One piece of content, as bytes.
    """
    return b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % text.encode()


def stream_of(*body, **options):
    """
    An event stream of exactly these bytes and pauses.
    """
    return Answer(headers={"content-type": "text/event-stream"}, body=body, **options)


def with_pings(*body):
    """
    The bytes, and then pings for ever.
    """

    def steps():
        yield from body
        yield from pings()

    return Answer(headers={"content-type": "text/event-stream"}, body=steps())


async def ends(client, timeouts, error, *, retries=0):
    """
    Read until this error comes, and return it with the stream.
    """
    patient = client.with_options(max_retries=retries)
    stream = patient.chat.completions.stream(messages=HELLO, timeouts=timeouts)
    with pytest.raises(error) as caught:
        async with stream:
            async for _ in stream:
                pass
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, HorayError)
    assert stream.outcome is Outcome.TIMED_OUT
    return caught.value


async def test_first_token_before_the_headers(client, emulator):
    """
    A server that does not answer at all.
    """
    emulator.script(stream_of(before=[asyncio.Event()]))
    error = await ends(client, Timeouts(first_token=SHORT), FirstTokenTimeoutError)
    assert error.clock == "first_token"
    assert "first_token=" in str(error)
    await emulator.wait_for_disconnect()


async def test_first_token_after_the_headers(client, emulator):
    """
    Pings, roles and empty deltas are no content.
    """
    role = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    emulator.script(with_pings(role))
    await ends(client, Timeouts(first_token=SHORT), FirstTokenTimeoutError)
    await emulator.wait_for_disconnect()


async def test_first_token_is_tried_again(client, emulator):
    """
    Nothing was shown, so another attempt may have more luck.
    """
    emulator.script(with_pings(), Answer.chat("hello"))
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=Timeouts(first_token=SHORT)
    ) as stream:
        reply = await stream.get_final_completion()
    assert reply.text == "hello"
    assert reply.meta.attempts == 2


async def test_a_late_reader_gets_the_first_token(client, emulator):
    """
    The clock does not blame the server for a reader who comes late.
    """
    sent = asyncio.Event()
    emulator.script(stream_of(word("here"), sent.set, end="hang"))
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=Timeouts(first_token=SHORT)
    ) as stream:
        await sent.wait()
        await asyncio.sleep(2 * SHORT)
        assert (await anext(stream.__aiter__())).text == "here"


async def test_stall_though_pings_come(client, emulator):
    """
    A ping keeps the connection alive, not the answer.
    """
    emulator.script(with_pings(word("half")))
    error = await ends(client, Timeouts(stall=SHORT), StreamStalledError)
    assert error.clock == "stall"
    assert error.partial.text == "half"
    assert "pings" in str(error)
    await emulator.wait_for_disconnect()


async def test_silence(client, emulator):
    """
    Not one byte: the connection is dead, or as good as.
    """
    emulator.script(stream_of(word("half"), end="hang"))
    error = await ends(client, Timeouts(silence=SHORT), StreamSilentError)
    assert error.clock == "silence"
    assert error.partial.text == "half"
    await emulator.wait_for_disconnect()


async def test_pings_break_the_silence(client, emulator):
    """
    Where only silence counts, a server that pings may think as long as it likes.
    """
    steps = [word("a"), *[b": ping\n\n", 0.05] * 8, word("b"), b"data: [DONE]\n\n"]
    emulator.script(stream_of(*steps))
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=Timeouts(silence=2 * SHORT, stall=None)
    ) as stream:
        reply = await stream.get_final_completion()
    assert reply.text == "ab"


async def test_reasoning_is_content(client, emulator):
    """
    A model that thinks aloud does not stall.
    """
    thought = b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n'
    steps = [word("a"), *[thought, 0.05] * 8, word("b"), b"data: [DONE]\n\n"]
    emulator.script(stream_of(*steps))
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=Timeouts(stall=2 * SHORT)
    ) as stream:
        reply = await stream.get_final_completion()
    assert reply.text == "ab"


async def test_a_slow_reader_is_no_slow_server(client, emulator):
    """
    Stall and silence run only while somebody waits.
    """
    go_on = asyncio.Event()
    emulator.script(stream_of(word("a"), go_on, word("b"), b"data: [DONE]\n\n"))
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=Timeouts(stall=SHORT, silence=SHORT)
    ) as stream:
        texts = []
        async for token in stream:
            texts.append(token.text)
            await asyncio.sleep(2 * SHORT)
            go_on.set()
    assert texts == ["a", "b"]


async def test_the_tail_is_short(client, emulator):
    """
    A server that says why it stopped, but not `[DONE]`, and leaves the connection open.
    """
    end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    emulator.script(stream_of(word("whole"), end, end="hang"))
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=Timeouts(stall=None, silence=None)
    ) as stream:
        reply = await stream.get_final_completion()
    assert reply.text == "whole"
    assert stream.outcome is Outcome.FINISHED
    await emulator.wait_for_disconnect()


async def test_deadline_in_mid_stream(client, emulator):
    """
    Tokens that keep coming do not move the deadline.
    """

    def steps():
        while True:
            yield word("x")
            yield 0.01

    emulator.script(Answer(headers={"content-type": "text/event-stream"}, body=steps()))
    error = await ends(client, Timeouts(deadline=SHORT), DeadlineExceeded)
    assert error.clock == "deadline"
    assert error.partial.text.startswith("xx")
    await emulator.wait_for_disconnect()


async def test_deadline_while_nobody_reads(client, emulator):
    """
    The deadline closes the connection even so, and is told at the next read.
    """
    emulator.script(stream_of(word("a"), end="hang"))
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=Timeouts(deadline=SHORT)
    ) as stream:
        tokens = stream.__aiter__()
        await anext(tokens)
        await emulator.wait_for_disconnect()
        assert stream.outcome is Outcome.TIMED_OUT
        with pytest.raises(DeadlineExceeded):
            await anext(tokens)


async def test_deadline_over_all_attempts(client, emulator):
    """
    Attempts and waits between them do not multiply it.
    """
    emulator.script(*[Answer.json({"message": "busy"}, 503)] * 50)
    patient = client.with_options(max_retries=50)
    with pytest.raises(HorayError) as caught:
        await patient.chat.completions.stream(
            messages=HELLO, timeouts=Timeouts(deadline=4 * SHORT)
        ).get_final_completion()
    assert caught.value.elapsed < 5
    assert 1 <= caught.value.attempts < 50


@pytest.mark.parametrize("off", [None, math.inf])
async def test_clocks_can_be_off(client, off):
    """
    None and infinity are no limit.
    """
    clocks = Timeouts(
        connect=off, first_token=off, stall=off, silence=off, deadline=off
    )
    async with client.chat.completions.stream(
        messages=HELLO, timeouts=clocks
    ) as stream:
        assert (await stream.get_final_completion()).text == "hello"
    reply = await client.chat.completions.create(messages=HELLO, timeouts=clocks)
    assert reply.text == "hello"


async def test_a_plain_call_has_a_deadline(client, emulator):
    """
    A plain call sends nothing until it is done: only the deadline bounds it.
    """
    emulator.script(Answer.json({}, before=[asyncio.Event()]))
    with pytest.raises(DeadlineExceeded) as caught:
        await client.chat.completions.create(messages=HELLO, timeout=SHORT)
    assert caught.value.attempts == 1
    await emulator.wait_for_disconnect()
