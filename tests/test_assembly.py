"""
Deltas put together: what servers send in pieces, as the reply that was meant.
"""

import pytest

from deltas import assembled, choice, chunk, ended, pieces, reply_of, said
from horay_async._assembly import Assembly
from horay_async._codec import completion_reply
from horay_async._errors import APIResponseValidationError
from horay_async._values import Meta, Token


# Plain deltas ----------------------------------------------------------------------


def test_a_plain_stream():
    """
    Role, content, finish reason: each says its part.
    """
    assembly, tokens = assembled(
        chunk(choice(delta={"role": "assistant", "content": ""})),
        said("one "),
        said("two"),
        ended(),
    )
    assert tokens == [Token("one "), Token("two")]
    assert assembly.body(chat=True) == {
        "id": "c-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "usage": None,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "one two"},
            }
        ],
    }
    assert assembly.finished
    assert assembly.pieces == 2
    assert assembly.parts(0) == ["one ", "two"]
    assert assembly.ending(0) == "stop"


def test_nothing_yet():
    """
    Before the first chunk there are as many empty choices as were asked for.
    """
    assembly = Assembly(2)
    assert not assembly.started
    assert not assembly.finished
    assert assembly.parts(1) == []
    assert assembly.ending(1) is None
    assert assembly.so_far() == []
    assert [each.text for each in reply_of(assembly).choices] == ["", ""]
    assert assembly.partial().choices == ()
    assert assembly.partial().text == ""


def test_so_far():
    """
    One token a choice, for a reader who comes late; a choice that said nothing has none.
    """
    assembly, _ = assembled(
        said("a", 0), chunk(choice(1, {"role": "assistant"})), said("b", 0), n=2
    )
    assert assembly.so_far() == [Token("ab", 0)]


DELTAS = {
    "the role in every delta": (
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
        {"role": "assistant", "content": "ab"},
    ),
    "an empty role": (
        [{"role": "", "content": "a"}, {"role": "tool"}],
        {"role": "tool", "content": "a"},
    ),
    "content of null": (
        [{"role": "assistant", "content": None}, {"content": "a"}],
        {"role": "assistant", "content": "a"},
    ),
    "content in parts": (
        [{"content": [{"type": "text", "text": "a"}, {"type": "image"}, "b", 3]}],
        {"role": "assistant", "content": "ab"},
    ),
    "parts without text": (
        [{"content": [{"type": "image"}]}],
        {"role": "assistant", "content": ""},
    ),
    "a refusal": (
        [{"refusal": "I will "}, {"refusal": "not.", "content": None}],
        {"role": "assistant", "content": "", "refusal": "I will not."},
    ),
    "one function call, as before tools": (
        [
            {"function_call": {"name": "sea", "arguments": ""}},
            {"function_call": {"name": "sea", "arguments": "{}"}},
            {"function_call": {"name": "sea", "arguments": " "}},
        ],
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "sea", "arguments": "{} "},
        },
    ),
    "a tool call": (
        [
            {"content": None, "tool_calls": [{"index": 0, "id": "a", "type": "function"}]},
            {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]},
        ],
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "f", "arguments": "{}"},
                }
            ],
        },
    ),
    "text beside a tool call": (
        [{"content": "thinking", "tool_calls": [{"index": 0, "id": "a"}]}],
        {
            "role": "assistant",
            "content": "thinking",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"arguments": ""}}
            ],
        },
    ),
    "unknown fields: lists grow, of others the last counts": (
        [
            {"annotations": [1], "mood": "calm", "none": None},
            {"annotations": [2, 3], "mood": "wild"},
            {"annotations": None, "mood": None},
        ],
        {
            "role": "assistant",
            "content": "",
            "annotations": [1, 2, 3],
            "mood": "wild",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("deltas", "message"), DELTAS.values(), ids=DELTAS)
def test_deltas(deltas, message):
    """
    The message that deltas amount to, with nothing lost and nothing twice.
    """
    assembly, tokens = assembled(*[chunk(choice(delta=delta)) for delta in deltas])
    assert assembly.body(chat=True)["choices"][0]["message"] == message
    assert pieces(tokens) == (message["content"] or "")
    # A token always says something.
    assert all(token.text for token in tokens)


REASONING = {
    "reasoning_content": ["reasoning_content"],
    "reasoning": ["reasoning"],
    "both names for the same": ["reasoning_content", "reasoning"],
}


@pytest.mark.parametrize("names", REASONING.values(), ids=REASONING)
def test_reasoning(names):
    """
    Thinking is told apart from the answer, and told once.
    """
    assembly, tokens = assembled(
        chunk(choice(delta={"role": "assistant", "content": "", names[0]: ""})),
        *[
            chunk(choice(delta={"content": None, **dict.fromkeys(names, thought)}))
            for thought in ("hm, ", "so")
        ],
        chunk(choice(delta={"content": "yes", **dict.fromkeys(names)})),
    )
    assert tokens == [Token("", 0, "hm, "), Token("", 0, "so"), Token("yes")]
    assert assembly.so_far() == [Token("yes", 0, "hm, so")]
    assert assembly.partial().choices[0].reasoning == "hm, so"
    reply = reply_of(assembly)
    assert (reply.text, reply.reasoning) == ("yes", "hm, so")
    assert reply.message.extra == dict.fromkeys(names, "hm, so")


def test_reasoning_beside_content():
    """
    One delta may have both.
    """
    _, tokens = assembled(chunk(choice(delta={"content": "yes", "reasoning": "hm"})))
    assert tokens == [Token("yes", 0, "hm")]


def test_the_last_text_stands_in_the_finish_chunk():
    """
    vLLM puts it there.
    """
    assembly, tokens = assembled(said("one "), said("two", finish_reason="length"))
    assert pieces(tokens) == "one two"
    assert assembly.ending(0) == "length"


def test_an_empty_finish_reason_is_none():
    """
    TGI sends "" until the end, and then words of its own.
    """
    assembly, _ = assembled(
        chunk({"index": 0, "text": "a", "finish_reason": ""}, id=""),
        chunk({"index": 0, "text": "b", "finish_reason": ""}, id=""),
    )
    assert assembly.ending(0) is None
    assert not assembly.finished
    assembly.add(chunk({"index": 0, "text": "", "finish_reason": "eos_token"}, id=""))
    assert assembly.ending(0) == "eos_token"
    assert assembly.finished


def test_a_finish_reason_counts_once():
    """
    Of one that comes twice the last counts, and others are still waited for.
    """
    assembly, _ = assembled(ended("stop"), ended("length"), n=2)
    assert assembly.ended == 1
    assert not assembly.finished
    assert assembly.ending(0) == "length"


def test_text_completions():
    """
    They have text in place of a delta, and the same object's name.
    """
    assembly, tokens = assembled(
        {"id": "t", "choices": [{"index": 0, "text": "one ", "logprobs": None}]},
        {"id": "t", "choices": [{"index": 0, "text": "two"}]},
        {"id": "t", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
    )
    assert pieces(tokens) == "one two"
    assert assembly.body(chat=False) == {
        "id": "t",
        "object": "text_completion",
        "usage": None,
        "choices": [{"index": 0, "finish_reason": "stop", "text": "one two"}],
    }
    assert completion_reply(assembly.body(chat=False), Meta()).text == "one two"


def test_a_whole_reply_is_taken_as_well():
    """
    Some servers answer a stream with one.
    """
    message = {"role": "assistant", "content": "all of it", "annotations": []}
    body = {
        "id": "c",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "timings": {"ms": 5},
    }
    assembly, tokens = assembled(body)
    assert tokens == [Token("all of it")]
    assert assembly.body(chat=True) == {**body, "object": "chat.completion"}


# Several choices -------------------------------------------------------------------


def test_interleaved():
    """
    Each choice has its own text and end, in whatever order they come.
    """
    assembly, tokens = assembled(
        said("b0", 1),
        said("a0", 0),
        said("c0", 2),
        said("a1", 0),
        ended("length", 2),
        said("b1", 1),
        ended("stop", 0),
        n=3,
    )
    assert [pieces(tokens, index) for index in range(3)] == ["a0a1", "b0b1", "c0"]
    assert (assembly.ended, assembly.finished) == (2, False)
    assembly.add(ended("stop", 1))
    assert assembly.finished
    reply = reply_of(assembly)
    assert [(each.index, each.text, each.finish_reason) for each in reply.choices] == [
        (0, "a0a1", "stop"),
        (1, "b0b1", "stop"),
        (2, "c0", "length"),
    ]
    assert [token.index for token in assembly.so_far()] == [0, 1, 2]


def test_several_choices_in_one_chunk():
    """
    LiteLLM lets choices share chunks.
    """
    _, tokens = assembled(
        chunk(choice(0, {"content": "a"}), choice(1, {"content": "b"})), n=2
    )
    assert tokens == [Token("a", 0), Token("b", 1)]


@pytest.mark.parametrize("index", [{}, {"index": None}, {"index": "1"}], ids=repr)
def test_no_index(index):
    """
    Horay documents none: the place in the list stands for it.
    """
    both = [{**index, "delta": {"content": text}} for text in "ab"]
    _, tokens = assembled(chunk(*both), chunk(*both), n=2)
    assert [pieces(tokens, place) for place in range(2)] == ["aa", "bb"]


def test_an_index_that_numbers_tokens():
    """
    guidellm's mock server counts tokens there: with one choice it says nothing.
    """
    assembly, tokens = assembled(
        *[chunk({"index": n, "text": str(n)}) for n in range(3)],
        chunk({"index": 3, "text": "", "finish_reason": "stop"}),
    )
    assert pieces(tokens) == "012"
    assert assembly.finished
    assert len(assembly.body(chat=False)["choices"]) == 1


def test_more_choices_than_were_asked_for():
    """
    Two answers must not become one text: the reply has both, the loop over tokens only the
    one that was asked for.
    """
    assembly, tokens = assembled(
        chunk(choice(0, {"content": "a"}), choice(1, {"content": "b"}))
    )
    assert [pieces(tokens, place) for place in range(2)] == ["a", ""]
    assert [one.message.content for one in reply_of(assembly).choices] == ["a", "b"]


def test_choices_that_are_counted_from_one():
    """
    As many as were asked for are all there are.
    """
    assembly, _ = assembled(ended(index=1), ended(index=2), n=2)
    assert assembly.finished
    assert [each.index for each in reply_of(assembly).choices] == [1, 2]


def test_choices_that_never_came():
    """
    They are there, and empty.
    """
    assembly, _ = assembled(said("b", 1), n=3)
    assert [each.text for each in reply_of(assembly).choices] == ["", "b", ""]
    assert assembly.partial().choices[0].index == 1


# What cannot be read ---------------------------------------------------------------


UNREADABLE = {
    "choices": ({"choices": "sk-secret"}, "choices of type str"),
    "a choice": ({"choices": [{}, "sk-secret"]}, r"choices\[1\] of type str"),
    "a delta": (chunk({"delta": "sk-secret"}), "delta of type str"),
    "content": (chunk(choice(delta={"content": 5})), "content of type int"),
    "tool calls": (chunk(choice(delta={"tool_calls": {"a": 1}})), "tool_calls of type"),
    "a tool call": (chunk(choice(delta={"tool_calls": ["x"]})), "tool_calls"),
    "a function call": (chunk(choice(delta={"function_call": "x"})), "function_call"),
}


@pytest.mark.parametrize(("wrong", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable(wrong, message):
    """
    What nothing can be made of is an error that names the place, and what came stays.
    """
    assembly, _ = assembled(said("before"))
    with pytest.raises(APIResponseValidationError, match=message) as caught:
        assembly.add(wrong)
    assert "secret" not in str(caught.value)
    assert assembly.partial().text == "before"


@pytest.mark.parametrize("choices", [None, [], {}, ""], ids=repr)
def test_no_choices(choices):
    """
    A chunk may have none, in any way of saying so.
    """
    assembly, tokens = assembled({"id": "c", "choices": choices})
    assert tokens == []
    assert not assembly.started
