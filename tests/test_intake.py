"""
Bytes in, verdict out: how streams end, and what stands in them that is no chunk.
"""

import pytest

from deltas import choice, chunk, ended, said
from horay_async._errors import (
    APIConnectionError,
    EventTooLargeError,
    IncompleteStreamError,
    SSEDecodeError,
    UnconfirmedStreamError,
)
from horay_async._intake import (
    Intake,
    feed_chunks,
    feed_nothing,
    feed_tokens,
)
from horay_async._values import Outcome
from streams import DONE, HELLO, WHOLE, read, wire


FINISHED, UNCONFIRMED = Outcome.FINISHED, Outcome.UNCONFIRMED

# name: (the bytes, the text, the outcome), for one choice
GOOD = {
    "as documented": (WHOLE, "hello", FINISHED),
    "no [DONE]": (wire(said("a"), ended()), "a", FINISHED),
    "no [DONE], no blank line": (
        wire(said("a"), ended()).removesuffix(b"\n"),
        "a",
        FINISHED,
    ),
    "no [DONE], no last line end": (
        wire(said("a"), ended()).removesuffix(b"\n\n"),
        "a",
        FINISHED,
    ),
    "[DONE] without its blank line": (WHOLE.removesuffix(b"\n"), "hello", FINISHED),
    "[DONE] without its line end": (WHOLE.removesuffix(b"\n\n"), "hello", FINISHED),
    "[DONE] without the space": (
        wire(said("a"), ended(), b"data:[DONE]\n\n"),
        "a",
        FINISHED,
    ),
    "[DONE] with white space": (
        wire(said("a"), ended(), b"data:  [DONE] \t\n\n"),
        "a",
        FINISHED,
    ),
    "[DONE] twice": (WHOLE + DONE, "hello", FINISHED),
    "something after [DONE]": (WHOLE + wire(said("more"), "x"), "hello", FINISHED),
    "usage after the finish": (
        wire(said("a"), ended(), chunk(usage={"total_tokens": 1}), "[DONE]"),
        "a",
        FINISHED,
    ),
    "an empty delta after the finish": (
        wire(said("a"), ended(), said(""), "[DONE]"),
        "a",
        FINISHED,
    ),
    "an end without content": (wire(ended(), "[DONE]"), "", FINISHED),
    "[DONE] and no finish reason": (HELLO + DONE, "hello", UNCONFIRMED),
    "an empty finish reason": (
        wire(chunk({"text": "a", "finish_reason": ""}), "[DONE]"),
        "a",
        UNCONFIRMED,
    ),
    "only a role": (
        wire(chunk(choice(delta={"role": "assistant"})), "[DONE]"),
        "",
        UNCONFIRMED,
    ),
    "CRLF": (
        wire(said("a"), ended(), "[DONE]", newline="\r\n"),
        "a",
        FINISHED,
    ),
    "CR": (wire(said("a"), ended(), "[DONE]", newline="\r"), "a", FINISHED),
    "a byte order mark": (b"\xef\xbb\xbf" + WHOLE, "hello", FINISHED),
    "comments": (
        wire(b": OPENROUTER PROCESSING\n\n", said("a"), b":\n\n", ended(), "[DONE]"),
        "a",
        FINISHED,
    ),
    "a comment wrapped in data": (
        wire(": OPENROUTER PROCESSING", said("a"), ended(), "[DONE]"),
        "a",
        FINISHED,
    ),
    "empty data": (
        wire(b"data:\n\n", said("a"), b"data:  \n\n", ended(), "[DONE]"),
        "a",
        FINISHED,
    ),
    "an id and a time to reconnect": (
        wire(b"retry: 3000\n\n", b"id: 7\n", said("a"), b": ping\n\n", ended()),
        "a",
        FINISHED,
    ),
    "events with a name": (
        wire(
            b'event: ping\ndata: {"type": "ping"}\n\n',
            b"event: message\n", said("a"), ended(), "[DONE]",
        ),
        "a",
        FINISHED,
    ),
    "lines that mean nothing": (
        wire(b"hello\nx: y\n\n", said("a"), b'{"a": 1}\n{a\n', ended(), "[DONE]"),
        "a",
        FINISHED,
    ),
    "U+2028 in the text": (
        wire('{"choices":[{"delta":{"content":"a\u2028b"},"finish_reason":"x"}]}'),
        "a\u2028b",
        FINISHED,
    ),
    "an error of null": (
        wire({**said("a"), "error": None}, {**ended(), "error": {}}, "[DONE]"),
        "a",
        FINISHED,
    ),
    "NaN among the logprobs": (
        wire('{"choices":[{"text":"a","logprobs":[NaN],"finish_reason":"stop"}]}'),
        "a",
        FINISHED,
    ),
    "half a pair in each delta": (
        wire(
            r'{"choices":[{"delta":{"content":"a\ud83d"}}]}',
            r'{"choices":[{"delta":{"content":"\ude00"}}]}',
            ended(),
            "[DONE]",
        ),
        "a😀",
        FINISHED,
    ),
    "bytes that are not UTF-8": (
        wire(b'data: {"choices":[{"text":"\xff","finish_reason":"x"}]}\n\n'),
        "\ufffd",
        FINISHED,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("bytes_", "text", "outcome"), GOOD.values(), ids=GOOD)
def test_answers(bytes_, text, outcome):
    """
    What servers send for an answer is one; the tokens are the reply.
    """
    result = read(bytes_)
    assert (result.text, result.outcome) == (text, outcome)
    assert result.said == "None"
    assert (result.body["choices"][0]["message"]["content"] or "") == text
    assert bool(result.reason) is (outcome is UNCONFIRMED)
    result.text.encode()


# name: (the bytes, the text, the error, what it says)
BAD = {
    "nothing": (b"", "", IncompleteStreamError, "after 0 pieces"),
    "only comments": (b": ping\n\n", "", IncompleteStreamError, "after 0 pieces"),
    "only [DONE]": (DONE, "", IncompleteStreamError, "without an answer"),
    "[DONE] after a chunk without choices": (
        wire(chunk(), "[DONE]"),
        "",
        IncompleteStreamError,
        "without an answer",
    ),
    "cut after a token": (wire(said("a")), "a", IncompleteStreamError, "after 1 piece "),
    "cut in an event": (
        HELLO + b'data: {"choices"',
        "hello",
        IncompleteStreamError,
        "after 2 pieces",
    ),
    "cut in [DONE]": (HELLO + b"data: [DON", "hello", IncompleteStreamError, "hung up"),
    "an event that is no JSON": (
        HELLO + wire("Number of choices must be 1"),
        "hello",
        SSEDecodeError,
        "Number of choices",
    ),
    "an event that is no object": (HELLO + wire("[1]"), "hello", SSEDecodeError, "[1]"),
    "an event of text": (HELLO + wire('"x"'), "hello", SSEDecodeError, "no chunk"),
    "a chunk that cannot be read": (
        HELLO + wire({"choices": "x"}),
        "hello",
        SSEDecodeError,
        "choices of type str",
    ),
    "such a chunk at the very end": (
        HELLO + b'data: {"choices": "x"}',
        "hello",
        SSEDecodeError,
        "choices of type str",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("bytes_", "text", "error", "message"), BAD.values(), ids=BAD
)  # fmt: skip
def test_failures(bytes_, text, error, message):
    """
    What is no answer is an error, after the tokens that came before it.
    """
    result = read(bytes_)
    assert (result.text, result.error) == (text, error)
    assert message in result.said
    assert result.outcome is None


def test_the_connection_broke():
    """
    The error says how; a finish reason makes it none.
    """
    cause = APIConnectionError("the cable is cut")
    result = read(HELLO, cause=cause)
    assert result.error is IncompleteStreamError
    assert result.said.endswith("after 2 pieces of it: the cable is cut")
    assert read(wire(said("a"), ended()), cause=cause).outcome is FINISHED
    with pytest.raises(IncompleteStreamError) as caught:
        Intake().end(cause)
    assert caught.value.__cause__ is cause


def test_the_event_ceiling():
    """
    No event may fill the memory.
    """
    result = read(b"data: " + b"x" * (17 << 20))
    assert result.error is EventTooLargeError


def test_strict_end():
    """
    For those to whom "probably" is not enough; a finish reason is enough for them.
    """
    result = read(HELLO, DONE, strict_end=True)
    assert (result.error, result.text) == (UnconfirmedStreamError, "hello")
    assert result.said == result.reason
    assert "0 of 1" in result.said
    assert read(WHOLE, strict_end=True).outcome is FINISHED
    assert read(wire(said("a"), ended()), strict_end=True).outcome is FINISHED


# Several choices -------------------------------------------------------------------


LITELLM = wire(
    chunk(choice(0, {"content": "a"}), choice(1, {"content": "b"})),
    chunk(choice(0, finish_reason="stop"), choice(1)),
    chunk(choice(0, {"content": ""}), usage={"total_tokens": 3}),
    "[DONE]",
)
LLAMA = wire(
    *[said("b", 1), said("a", 0), ended(index=1), ended(index=0)],
    chunk(usage={"total_tokens": 3}, timings={"ms": 1}),
    "[DONE]",
)
THREE = wire(
    *[said("a", 0), said("c", 2), said("b", 1), said("b", 1)],
    *[ended("length", 2), ended(index=0), ended(index=1), "[DONE]"],
)

# name: (the bytes, n, the texts, the outcome)
SEVERAL = {
    "interleaved": (THREE, 3, ["a", "bb", "c"], FINISHED),
    "choice 1 first (llama.cpp)": (LLAMA, 2, ["a", "b"], FINISHED),
    "one finish reason for two (LiteLLM)": (LITELLM, 2, ["a", "b"], UNCONFIRMED),
    "one of two never came": (WHOLE, 2, ["hello", ""], UNCONFIRMED),
    "an index that numbers tokens (guidellm)": (
        wire(
            *[chunk({"index": n, "text": "ab"[n]}) for n in range(2)],
            chunk({"index": 2, "text": "", "finish_reason": "stop"}),
            "[DONE]",
        ),
        1,
        ["ab"],
        FINISHED,
    ),
}


@pytest.mark.parametrize(
    ("bytes_", "n", "texts", "outcome"), SEVERAL.values(), ids=SEVERAL
)
def test_several_choices(bytes_, n, texts, outcome):
    """
    It is finished when each choice that was asked for has said why it ended.
    """
    result = read(bytes_, n=n)
    assert result.outcome is outcome
    choices = result.body["choices"]
    assert [each["message"]["content"] for each in choices] == texts
    assert bool(result.reason) is (outcome is UNCONFIRMED)


def test_one_choice_of_two_is_no_end():
    """
    Without [DONE] nobody said that this was all.
    """
    result = read(wire(said("a"), ended()), n=2)
    assert result.error is IncompleteStreamError


# Handing out -----------------------------------------------------------------------


def test_feeds():
    """
    Tokens, or chunks as they came, or nothing: it is assembled in any case.
    """
    ready = {}
    for feed in (feed_tokens, feed_chunks, feed_nothing):
        intake = Intake(feed=feed)
        intake.take(WHOLE)
        assert intake.assembly.parts(0) == ["hel", "lo"]
        ready[feed] = list(intake.ready)
    assert [token.text for token in ready[feed_tokens]] == ["hel", "lo"]
    assert ready[feed_chunks] == [said("hel"), said("lo"), ended()]
    assert ready[feed_nothing] == []


def test_pings_are_counted():
    """
    A clock's error tells how many there were.
    """
    intake = Intake()
    intake.take(b": ping\n\n:\n\n")
    intake.take(WHOLE)
    assert intake.pings == 2


def test_after_the_end():
    """
    Nothing that comes after the end is looked at.
    """
    intake = Intake(feed=feed_tokens)
    intake.take(WHOLE)
    intake.take(wire(said("more"), {"error": "late"}, "nonsense"))
    intake.end(APIConnectionError("reset"))
    assert intake.outcome is FINISHED
    assert len(intake.ready) == 2
