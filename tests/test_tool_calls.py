"""
Tool calls out of fragments, as OpenAI-compatible servers really send them.
"""

import pytest

from hypothesis import given
from hypothesis import strategies as st

from horay_async._codec import whole
from horay_async._errors import APIResponseValidationError
from horay_async._tool_calls import OpenCall, ToolCalls


def fragment(arguments=None, *, name=None, **fields):
    """
    One fragment; what is None is left out.
    """
    function = {"name": name, "arguments": arguments}
    present = {key: value for key, value in function.items() if value is not None}
    return {**fields, "function": present}


def calls_of(*deltas):
    """
    What a list of deltas amounts to: (id, name, arguments) of each call.
    """
    calls = ToolCalls()
    for delta in deltas:
        calls.extend(delta)
    return [
        (call.id, call.function.name, call.function.arguments)
        for call in calls.values()
    ]


SEA = ("call_a", "sea", '{"a": 1}')
LAND = ("call_b", "land", '{"b": 2}')

# name: (the deltas, the calls)
RULES = {
    "as documented": (
        [
            [fragment("", name="sea", index=0, id="call_a", type="function")],
            [fragment('{"a"', index=0)],
            [fragment(": 1}", index=0)],
        ],
        [SEA],
    ),
    "one after the other": (
        [
            [fragment("", name="sea", index=0, id="call_a")],
            [fragment('{"a": 1}', index=0)],
            [fragment("", name="land", index=1, id="call_b")],
            [fragment('{"b": 2}', index=1)],
        ],
        [SEA, LAND],
    ),
    "in parallel, interleaved": (
        [
            [
                fragment("", name="sea", index=0, id="call_a"),
                fragment("", name="land", index=1, id="call_b"),
            ],
            [fragment('{"b"', index=1), fragment('{"a"', index=0)],
            [fragment(": 1}", index=0), fragment(": 2}", index=1)],
        ],
        [SEA, LAND],
    ),
    "whole in one delta": (
        [
            [
                fragment('{"a": 1}', name="sea", index=0, id="call_a"),
                fragment('{"b": 2}', name="land", index=1, id="call_b"),
            ]
        ],
        [SEA, LAND],
    ),
    "no index: a new id is a new call, no id goes on": (
        [
            [fragment('{"a"', name="sea", id="call_a")],
            [fragment(": 1}")],
            [fragment('{"b"', name="land", id="call_b")],
            [fragment(": 2}")],
        ],
        [SEA, LAND],
    ),
    "no index: the id says which": (
        [
            [fragment('{"a"', name="sea", id="call_a")],
            [fragment('{"b"', name="land", id="call_b")],
            [fragment(": 1}", id="call_a")],
            [fragment(": 2}", id="call_b")],
        ],
        [SEA, LAND],
    ),
    "an index of null is none": (
        [
            [fragment('{"a"', name="sea", index=None, id="call_a")],
            [fragment(": 1}", index=None)],
        ],
        [SEA],
    ),
    "index 0 for everything, one after the other": (
        [
            [fragment('{"a"', name="sea", index=0, id="call_a")],
            [fragment(": 1}", index=0)],
            [fragment('{"b"', name="land", index=0, id="call_b")],
            [fragment(": 2}", index=0)],
        ],
        [SEA, LAND],
    ),
    "index 0 for everything, interleaved": (
        [
            [fragment('{"a"', name="sea", index=0, id="call_a")],
            [fragment('{"b"', name="land", index=0, id="call_b")],
            [fragment(": 1}", index=0, id="call_a")],
            [fragment(": 2}", index=0, id="call_b")],
        ],
        [SEA, LAND],
    ),
    "empty id and name are none": (
        [
            [fragment('{"a"', name="sea", index=0, id="call_a")],
            [fragment(": 1}", name="", index=0, id="", type="")],
        ],
        [SEA],
    ),
    "empty id and name without an index": (
        [
            [fragment('{"a"', name="sea", id="call_a")],
            [fragment(": 1}", name="", id="")],
        ],
        [SEA],
    ),
    "id and name in every delta": (
        [
            [fragment('{"a"', name="sea", index=0, id="call_a")],
            [fragment(": 1}", name="sea", index=0, id="call_a")],
        ],
        [SEA],
    ),
    "id and name in every delta, no index": (
        [
            [fragment('{"a"', name="sea", id="call_a")],
            [fragment(": 1}", name="sea", id="call_a")],
        ],
        [SEA],
    ),
    "no id at all": (
        [
            [fragment('{"a": 1}', name="sea", index=0)],
            [fragment('{"b": 2}', name="land", index=1)],
        ],
        [("call_0", *SEA[1:]), ("call_1", *LAND[1:])],
    ),
    "the id comes later": (
        [
            [fragment('{"a"', name="sea", index=0)],
            [fragment(": 1}", index=0, id="call_a")],
        ],
        [SEA],
    ),
    "the name in every delta, neither index nor id": (
        [[fragment('{"a"', name="sea")], [fragment(": 1}", name="sea")]],
        [("call_0", *SEA[1:])],
    ),
    "only names: another name is another call": (
        [[fragment('{"a"', name="sea")], [fragment('{"b": 2}', name="land")]],
        [("call_0", "sea", '{"a"'), ("call_1", *LAND[1:])],
    ),
    "only names: the same after whole arguments is another call": (
        [[fragment('{"a": 1}', name="sea")], [fragment('{"a": 2}', name="sea")]],
        [("call_0", *SEA[1:]), ("call_1", "sea", '{"a": 2}')],
    ),
    "arguments before id and name": (
        [
            [fragment('{"a"')],
            [fragment(": 1", id="call_a", name="sea")],
            [fragment("}")],
        ],
        [SEA],
    ),
    "arguments before the name alone": (
        [[fragment('{"a": 1}')], [fragment("", name="sea")]],
        [("call_0", *SEA[1:])],
    ),
    "arguments as an object": (
        [[fragment({"où": [1, None]}, name="sea", index=0, id="call_a")]],
        [("call_a", "sea", '{"où": [1, null]}')],
    ),
    "arguments of null": (
        [
            [{"index": 0, "id": "call_a", "function": {"name": "sea"}}],
            [{"index": 0, "function": {"arguments": None}}],
            [fragment('{"a": 1}', index=0)],
        ],
        [SEA],
    ),
    "no function in a fragment": (
        [
            [{"index": 0, "id": "call_a"}],
            [{"index": 0, "function": None}],
            [fragment('{"a": 1}', name="sea", index=0)],
        ],
        [SEA],
    ),
    "white space is kept": (
        [
            [fragment("{", name="sea", index=0, id="call_a")],
            [fragment("\n", index=0)],
            [fragment(" ", index=0)],
            [fragment('"a": 1 }', index=0)],
        ],
        [("call_a", "sea", '{\n "a": 1 }')],
    ),
    "arguments that are no JSON": (
        [[fragment('{"a": ', name="sea", index=0, id="call_a")]],
        [("call_a", "sea", '{"a": ')],
    ),
    "arguments that are nested beyond reading": (
        [[fragment("[" * 100_000, name="sea")], [fragment("]", name="sea")]],
        [("call_0", "sea", "[" * 100_000 + "]")],
    ),
    "half a character in each delta": (
        [
            [fragment('{"a": "\ud83d', name="sea", index=0, id="call_a")],
            [fragment('\ude00"}', index=0)],
        ],
        [("call_a", "sea", '{"a": "😀"}')],
    ),
    "half a character and no more": (
        [[fragment('{"a": "\ud83d', name="sea", index=0, id="call_a")]],
        [("call_a", "sea", '{"a": "\ufffd')],
    ),
}


@pytest.mark.parametrize(("deltas", "calls"), RULES.values(), ids=RULES)
def test_rules(deltas, calls):
    """
    Every way in which servers send calls comes to the calls that were meant.
    """
    assert calls_of(*deltas) == calls


def test_unknown_fields_are_kept():
    """
    Some servers add what must be sent back to them (Gemini's signatures).
    """
    calls = ToolCalls()
    calls.add(fragment("", name="sea", index=0, id="call_a", extra_content={"a": 1}))
    function = {"arguments": "{}", "thought_signature": "s", "more": None}
    calls.add({"index": 0, "extra_content": None, "function": function})
    (call,) = calls.values()
    assert call.to_dict() == {
        "id": "call_a",
        "type": "function",
        "function": {"name": "sea", "arguments": "{}", "thought_signature": "s"},
        "extra_content": {"a": 1},
    }


def test_the_type_is_the_servers():
    """
    OpenAI has calls of other types, too.
    """
    calls = ToolCalls()
    calls.add(fragment("x", name="sea", index=0, id="call_a", type="custom"))
    calls.add(fragment("y", index=0, type="function"))
    assert calls.values()[0].type == "custom"


def test_a_value_does_not_change_afterwards():
    """
    What was asked for in the middle stays as it was.
    """
    calls = ToolCalls()
    calls.add(fragment("{", name="sea", index=0, id="call_a", a=1))
    (early,) = calls.values()
    calls.add(fragment("}", index=0, a=2, b=3))
    assert early.function.arguments == "{"
    assert early.extra == {"a": 1}


UNREADABLE = {
    "a fragment": (["sk-secret"], "tool_calls[] of type str"),
    "a function": ([{"function": ["sk-secret"]}], "function of type list"),
}


@pytest.mark.parametrize(("delta", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable(delta, message):
    """
    What cannot be a call is an error that names the place, and shows nothing of it.
    """
    with pytest.raises(APIResponseValidationError) as caught:
        ToolCalls().extend(delta)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_object_that_is_nested_too_deeply():
    """
    JSON can be read that cannot be written again.
    """
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(APIResponseValidationError, match="arguments of type dict"):
        OpenCall().take({}, {"arguments": deep})


TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)


@given(TEXTS)
def test_whole_text_encodes(text):
    """
    Pairs are joined, halves replaced, and nothing else is changed.
    """
    mended = whole(text)
    mended.encode()
    pairs = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert mended == pairs
