"""
How a stream ends: finished, unconfirmed, broken off, failed; and what is tried again.
"""

import asyncio

import pytest

from horay_async import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    AuthenticationError,
    IncompleteStreamError,
    InternalServerError,
    Outcome,
    RateLimitError,
    SSEDecodeError,
    StreamError,
    UnconfirmedStreamError,
    user,
)
from horay_async.emulator import Answer


HELLO = [user("the quick brown fox")]


def piece(text, **more):
    """
    One piece of content.
    """
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, **more}]}


END = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


async def read(client, **fields):
    """
    Read a stream; return it, its text, and the error that it ended with.
    """
    text, error = "", None
    fields.setdefault("messages", HELLO)
    async with client.chat.completions.stream(**fields) as stream:
        try:
            async for token in stream:
                text += token.text
        except StreamError as caught:
            error = caught
        except (APIStatusError, APIConnectionError) as caught:
            error = caught
    return stream, text, error


# The right end ---------------------------------------------------------------------


async def test_no_done_but_a_finish_reason(client, emulator):
    """
    A finish reason for every choice is an end, with or without `[DONE]`.
    """
    emulator.script(Answer.sse(piece("whole"), END, done=False))
    stream, text, error = await read(client)
    assert (text, error, stream.outcome) == ("whole", None, Outcome.FINISHED)


async def test_done_without_its_blank_line(client, emulator):
    """
    Servers forget the last line end.
    """
    emulator.script(Answer.sse(piece("whole"), END, b"data: [DONE]", done=False))
    stream, text, error = await read(client)
    assert (text, error, stream.outcome) == ("whole", None, Outcome.FINISHED)


async def test_connection_left_open_after_done(client, emulator):
    """
    Nobody waits for a server that does not hang up after `[DONE]`.
    """
    emulator.script(Answer.sse(piece("whole"), END, end="hang"))
    stream, text, error = await read(client)
    assert (text, error, stream.outcome) == ("whole", None, Outcome.FINISHED)
    # A connection that cannot be drained is closed.
    await emulator.wait_for_disconnect()


async def test_reset_after_the_finish_reason(client, emulator):
    """
    The answer was whole before the connection broke.
    """
    emulator.script(Answer.sse(piece("whole"), END, done=False, end="reset"))
    stream, text, error = await read(client)
    assert (text, error, stream.outcome) == ("whole", None, Outcome.FINISHED)


async def test_a_whole_reply_in_place_of_a_stream(client, emulator):
    """
    Some servers answer a stream with plain JSON: it is the answer.
    """
    message = {"role": "assistant", "content": "whole"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    emulator.script(Answer.json({"id": "c", "choices": [choice]}))
    stream, text, error = await read(client)
    assert (text, error, stream.outcome) == ("whole", None, Outcome.FINISHED)


async def test_an_empty_answer_is_an_answer(client, emulator):
    """
    A finish reason without content is a finished stream without tokens.
    """
    emulator.script(Answer.sse(END))
    stream, text, error = await read(client)
    assert (text, error, stream.outcome) == ("", None, Outcome.FINISHED)


# Not sure --------------------------------------------------------------------------


async def test_done_without_finish_reason_is_unconfirmed(client, emulator):
    """
    Some gateways never send reasons, and one server sends `[DONE]` for what it cut.
    """
    emulator.script(Answer.sse(piece("half?")))
    stream, text, error = await read(client)
    assert (text, error, stream.outcome) == ("half?", None, Outcome.UNCONFIRMED)
    assert "0 of 1" in stream.reason


async def test_a_choice_that_never_came_is_unconfirmed(client, emulator):
    """
    Two were asked for; a server that ignores `n` has not finished both.
    """
    emulator.script(Answer.sse(piece("one"), END))
    stream, _, error = await read(client, n=2)
    assert (error, stream.outcome) == (None, Outcome.UNCONFIRMED)
    assert [each.text for each in stream.reply.choices] == ["one", ""]


async def test_strict_end_raises(client, emulator):
    """
    For those to whom "probably" is not enough.
    """
    emulator.script(Answer.sse(piece("half?")))
    stream, text, error = await read(client, strict_end=True)
    assert text == "half?"
    assert isinstance(error, UnconfirmedStreamError)
    assert error.partial.text == "half?"
    assert stream.outcome is Outcome.UNCONFIRMED


# Broken off ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "framing"),
    [
        ("finish", "chunked"),
        ("close", "chunked"),
        ("reset", "chunked"),
        ("finish", "close"),
    ],
)
async def test_hung_up_in_the_middle(client, emulator, end, framing):
    """
    A clean close says no more than a broken one: without a finish reason it is no end.
    """
    got = asyncio.Event()
    emulator.script(
        Answer.sse(piece("half"), got, done=False, end=end, framing=framing)
    )
    text = ""
    with pytest.raises(IncompleteStreamError, match="hung up") as caught:
        async with client.chat.completions.stream(messages=HELLO) as stream:
            async for token in stream:
                text += token.text
                got.set()
    assert text == "half"
    assert stream.outcome is Outcome.INCOMPLETE
    assert stream.error is caught.value
    assert caught.value.partial.text == "half"
    assert caught.value.partial.tokens == 1
    assert caught.value.usage.source == "estimated"
    assert caught.value.meta.status == 200
    assert caught.value.elapsed >= 0
    assert stream.reply.text == "half"


async def test_tokens_before_the_error_are_told_first(client, emulator):
    """
    What came in the same packet as the error is not lost.
    """
    block = b"".join(
        b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % n for n in range(3)
    )
    emulator.script(Answer.sse(block + b"data: nonsense\n\n"))
    stream, text, error = await read(client)
    assert text == "012"
    assert isinstance(error, SSEDecodeError)
    assert error.partial.text == "012"
    assert "nonsense" in str(error)
    assert stream.outcome is Outcome.FAILED


async def test_every_reader_gets_the_error(client, emulator):
    """
    All choices and the final reply say the same.
    """
    emulator.script(Answer.sse(piece("a"), done=False))
    async with client.chat.completions.stream(messages=HELLO, n=2) as stream:
        assert [token.text for token in [await anext(stream.choices[0])]] == ["a"]
        for reader in (stream.choices[0], stream.choices[1]):
            with pytest.raises(IncompleteStreamError):
                async for _ in reader:
                    pass
        with pytest.raises(IncompleteStreamError):
            await stream.get_final_completion()


# The server says no ----------------------------------------------------------------


async def test_error_inside_the_stream(client, emulator):
    """
    An error under status 200 is typed by what it stands for, and carries the partial.
    """
    wrong = {"error": {"message": "slow down", "type": "rate_limit_exceeded"}}
    emulator.script(Answer.sse(piece("half"), wrong))
    stream, text, error = await read(client)
    assert text == "half"
    assert isinstance(error, RateLimitError)
    assert error.in_stream
    assert (error.status_code, error.meta.status) == (429, 200)
    assert error.partial.text == "half"
    assert stream.outcome is Outcome.FAILED


async def test_refused_before_the_stream(client, emulator):
    """
    A refusal raises where the stream is opened.
    """
    emulator.script(Answer.json("Invalid token", 401))
    with pytest.raises(AuthenticationError, match="Invalid token"):
        async with client.chat.completions.stream(messages=HELLO):
            pytest.fail("it was opened")
    with pytest.raises(AuthenticationError):
        emulator.script(Answer.json("Invalid token", 401))
        await client.chat.completions.create(messages=HELLO, stream=True)
    with pytest.raises(AuthenticationError):
        emulator.script(Answer.json("Invalid token", 401))
        async for _ in client.chat.completions.stream(messages=HELLO):
            pytest.fail("there was a token")


async def test_a_page_in_place_of_a_stream(client, emulator):
    """
    A proxy's error page under status 200 is no answer.
    """
    page = "<html><head><title>Bad gateway</title></head></html>"
    emulator.script(Answer.text(page, content_type="text/html"))
    with pytest.raises(APIResponseValidationError, match="Bad gateway"):
        await client.chat.completions.stream(messages=HELLO).get_final_completion()


# Trying again ----------------------------------------------------------------------


FAILURES = {
    "reset": Answer.sse(done=False, end="reset"),
    "closed at once": Answer.sse(done=False),
    "only a role": Answer.chat(finish=None, done=False),
    "only done": Answer.sse(),
    "503": Answer.json({"message": "busy"}, 503),
    "error event": Answer.sse({"error": {"message": "oops", "code": 503}}),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_tried_again_before_the_first_token(client, emulator, failure):
    """
    Nothing was shown yet, so a failure costs time, not truth.
    """
    emulator.script(failure, Answer.chat("fine"))
    stream, text, error = await read(client)
    assert (text, error, stream.outcome) == ("fine", None, Outcome.FINISHED)
    assert stream.meta.attempts == 2
    assert len(emulator.requests) == 2


async def test_not_tried_again_after_the_first_token(client, emulator):
    """
    What was shown cannot be taken back.
    """
    emulator.script(Answer.chat("half", finish=None, done=False), Answer.chat("other"))
    _, text, error = await read(client)
    assert text == "half"
    assert isinstance(error, IncompleteStreamError)
    assert len(emulator.requests) == 1


async def test_no_end_of_trying(client, emulator):
    """
    The last attempt's error is raised, with their number.
    """
    patient = client.with_options(max_retries=1)
    emulator.script(*[Answer.json({"message": "busy"}, 500)] * 2)
    with pytest.raises(InternalServerError, match="busy") as caught:
        await patient.chat.completions.stream(messages=HELLO).get_final_completion()
    assert caught.value.attempts == 2


async def test_a_chunk_reader_sees_one_attempt(client, emulator):
    """
    Chunks of an attempt that failed are not handed out.
    """
    failed = Answer.chat(finish=None, done=False)
    emulator.script(failed, Answer.chat("fine"))
    stream = await client.chat.completions.create(messages=HELLO, stream=True)
    roles = [chunk.choices[0].delta.role async for chunk in stream]
    assert roles.count("assistant") == 1


async def test_a_stream_labelled_as_json(client, emulator):
    """
    The first bytes know better than the content type.
    """
    labelled = {"content-type": "application/json"}
    emulator.script(Answer.sse(piece("whole"), END, headers=labelled))
    stream, text, error = await read(client)
    assert (text, error, stream.outcome) == ("whole", None, Outcome.FINISHED)


async def test_a_refused_stream_costs_nothing(client, emulator):
    """
    Nobody estimates what was never begun.
    """
    emulator.script(Answer.json("Invalid token", 401))
    stream = client.chat.completions.stream(messages=HELLO)
    with pytest.raises(AuthenticationError) as caught:
        await stream.open()
    assert stream.usage.source == caught.value.usage.source == "none"
    assert stream.outcome is Outcome.FAILED
    assert stream.meta.status == 401
