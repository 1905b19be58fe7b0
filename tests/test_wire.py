"""
JSON objects as values: unknown fields kept and readable, dumped in two ways.
"""

import copy
import json
import pickle

import attrs
import pytest

from horay_async._values import Function, Message, ToolCall, Usage
from horay_async._wire import Record, Wire


CALLING = Message(
    tool_calls=(
        ToolCall(
            id="call_1",
            function=Function(name="f", arguments="{", extra={"strict": True}),
            extra={"index": 0},
        ),
    ),
    extra={"reasoning_content": "hm", "refusal": None},
)

# As it stood on the wire.
PLAIN = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "f", "arguments": "{", "strict": True},
            "index": 0,
        }
    ],
    "reasoning_content": "hm",
    "refusal": None,
}


def test_to_dict():
    """
    The object as it stood on the wire: absent is absent, null is null.
    """
    assert CALLING.to_dict() == PLAIN
    assert CALLING.to_dict(mode="json") == PLAIN
    assert json.loads(CALLING.to_json()) == PLAIN
    assert CALLING.to_json().startswith('{\n  "role"')


def test_to_dict_without_nulls():
    message = Message(content=[{"text": "a", "b": None}], extra={"x": {"y": None}})
    plain = {"role": "assistant", "content": [{"text": "a"}], "x": {}}
    assert message.to_dict(exclude_none=True) == plain
    assert json.loads(message.to_json(exclude_none=True)) == plain


def test_text():
    """
    One line is for machines, indented is for people; neither escapes what is not ASCII.
    """
    message = Message(role="user", content="\u2028é")
    assert message.to_json(indent=None) == '{"role":"user","content":"\u2028é"}'
    assert message.to_json(indent=1) == '{\n "role": "user",\n "content": "\u2028é"\n}'


def test_model_dump():
    """
    For code that was written for pydantic: every field is there.
    """
    plain = {
        "role": "user",
        "content": "a",
        "name": None,
        "refusal": None,
        "tool_calls": None,
        "tool_call_id": None,
    }
    message = Message(role="user", content="a")
    assert message.model_dump() == message.model_dump(mode="json") == plain
    assert json.loads(message.model_dump_json()) == plain
    assert " " not in message.model_dump_json()
    assert message.model_dump_json(indent=2).startswith('{\n  "role"')
    assert Usage().model_dump() == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
    }


def test_model_dump_chooses():
    """
    pydantic's commonest ways to leave something out.
    """
    assert CALLING.model_dump(exclude_unset=True) == PLAIN
    short = {"role": "assistant", "reasoning_content": "hm"}
    chosen = {"exclude": {"tool_calls"}, "exclude_none": True}
    assert CALLING.model_dump(**chosen) == short
    assert json.loads(CALLING.model_dump_json(**chosen)) == short
    unset = json.loads(CALLING.model_dump_json(exclude_unset=True))
    assert unset == PLAIN
    with pytest.raises(TypeError, match="expected a set of names"):
        CALLING.model_dump(exclude={"tool_calls": {"id"}})


def test_unknown_fields_read_as_attributes():
    assert CALLING.reasoning_content == "hm"
    assert Wire(extra={"a": 1}).a == 1
    for name in ("nothing", "_private", "__deepcopy__"):
        with pytest.raises(AttributeError, match=f"'Message' has no field '{name}'"):
            getattr(CALLING, name)
    assert not hasattr(Message(extra={"_x": 1}), "_x")
    with pytest.raises(AttributeError):
        object.__new__(Message).extra  # noqa: B018 -- as copy and pickle may ask


def test_copies():
    for other in (copy.deepcopy(CALLING), pickle.loads(pickle.dumps(CALLING))):
        assert other == CALLING
        assert other.reasoning_content == "hm"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        CALLING.extra = {}


def test_records():
    """
    A dict that reads as attributes too, at any depth; what is absent reads as None.
    """
    record = Record(content=[{"token": "a", "top": {"x": 1}}], items=2)
    assert record.content[0].token == "a"
    assert record.content[0].top.x == 1
    assert record["content"][0]["top"] == {"x": 1}
    assert record.nothing is None
    # What a dict has stays a dict's.
    assert len(record.items()) == 2
    assert json.dumps(Record(a=1)) == '{"a": 1}'
    for other in (copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert other == record
        assert type(other) is Record
    with pytest.raises(AttributeError):
        record.__nothing__  # noqa: B018
