"""
Characters that servers cut in two: every token can be encoded, and the tokens are the reply.
"""

import pytest

from hypothesis import given
from hypothesis import strategies as st

from deltas import assembled, choice, chunk, ended, pieces, reply_of, said
from horay_async._assembly import Assembly, join_halves
from horay_async._values import Token


HALVES = {
    "content": lambda half: {"delta": {"content": half}},
    "text": lambda half: {"text": half},
    "role beside": lambda half: {"delta": {"role": "assistant", "content": half}},
}


@pytest.mark.parametrize("shape", HALVES.values(), ids=HALVES)
def test_halves_of_a_character_are_joined(shape):
    """
    Every token can be encoded, and the tokens are the reply.
    """
    assembly, tokens = assembled(
        *[chunk(shape(piece)) for piece in ["a\ud83d", "\ude00b", "\ud83d", "\ude00"]],
        odd=True,
    )
    assert [token.text for token in tokens] == ["a", "😀b", "😀"]
    assert assembly.body(chat=False)["choices"][0]["text"] == "a😀b😀"


def test_the_other_half_comes_in_an_ordinary_chunk():
    """
    Whatever comes next settles what was held back.
    """
    assembly = Assembly()
    assert assembly.add(said("\ud83d"), odd=True) == []
    assert assembly.add(said("x")) == [Token("\ufffdx")]
    assert assembly.add(said("y")) == [Token("y")]


def test_half_a_character_at_the_end():
    """
    A half that can have no other becomes U+FFFD.
    """
    assembly, tokens = assembled(said("a\ud83d"), ended(), odd=True)
    assert pieces(tokens) == "a\ufffd" == reply_of(assembly).text


def test_half_a_character_in_reasoning_and_refusals():
    """
    They are text as well.
    """
    assembly, tokens = assembled(
        chunk(choice(delta={"reasoning": "\ud83d"})),
        chunk(choice(delta={"reasoning": "\ude00"})),
        chunk(choice(delta={"refusal": "\ud83d"})),
        chunk(choice(delta={"refusal": "\ude00\ud83d"})),
        odd=True,
    )
    assert tokens == [Token("", 0, "😀")]
    reply = reply_of(assembly)
    assert (reply.reasoning, reply.message.refusal) == ("😀", "😀\ufffd")


def test_half_a_character_in_a_whole_reply():
    """
    There is no next delta to wait for.
    """
    message = {"content": "a\ud83d"}
    assembly, tokens = assembled(
        chunk({"message": message, "finish_reason": "stop"}), odd=True
    )
    assert pieces(tokens) == "a\ufffd" == reply_of(assembly).text


def test_halves_of_two_choices():
    """
    Each choice waits for its own.
    """
    _, tokens = assembled(
        said("\ud83d", 0), said("\ud83c", 1), said("\ude00", 0), said("\udf0a", 1),
        n=2, odd=True,
    )  # fmt: skip
    assert tokens == [Token("😀", 0), Token("🌊", 1)]


TEXTS = st.text(st.characters(exclude_categories=()), max_size=6)


@given(st.lists(TEXTS, max_size=6))
def test_any_halves(texts):
    """
    However a text is cut, the tokens encode and are the reply.
    """
    assembly, tokens = assembled(*map(said, texts), ended(), odd=True)
    joined = "".join(texts).encode("utf-16-le", "surrogatepass")
    assert pieces(tokens) == joined.decode("utf-16-le", "replace")
    assert pieces(tokens).encode().decode() == reply_of(assembly).text


@pytest.mark.parametrize(
    ("text", "final", "result"),
    [
        ("", False, ("", "")),
        ("a", False, ("a", "")),
        ("a\ud83d", False, ("a", "\ud83d")),
        ("a\ud83d", True, ("a\ufffd", "")),
        ("\ude00a", False, ("\ufffda", "")),
        ("\ud83d\ude00", False, ("😀", "")),
        ("\ud83d\ud83d", False, ("\ufffd", "\ud83d")),
    ],
)
def test_join_halves(text, final, result):
    """
    Only a first half at the very end can still find its other.
    """
    assert join_halves(text, final=final) == result
