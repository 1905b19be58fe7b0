"""
Rows of a table: what each cell means, as a line of JSON would say it.
"""

import math

from decimal import Decimal

import pytest

from horay_async.cli._cells import OPTIONS, row_of
from horay_async.cli._lines import BadLine, read_line


def row(**cells):
    return row_of(7, cells.items())


@pytest.mark.parametrize(
    ("cells", "custom_id"),
    [
        ({"custom_id": "007"}, "007"),
        ({"id": "1.0"}, "1.0"),
        ({"question_id": "81", "id": "q-1", "custom_id": "mine"}, "mine"),
        ({"question_id": "81", "id": "q-1", "custom_id": ""}, "q-1"),
        ({"question_id": 81, "id": None}, "81"),
        # pandas has no whole numbers beside missing ones.
        ({"id": 12.0}, "12"),
        ({"id": Decimal(12)}, "12"),
        ({"id": 12.5}, "12.5"),
        ({"id": math.nan}, "row-7"),
        ({"id": b"abc"}, "abc"),
        ({}, "row-7"),
    ],
)
def test_ids(cells, custom_id):
    """
    Ids stay as they are written; a row without one is named after its place.
    """
    assert row(prompt="a", **cells) == {"custom_id": custom_id, "prompt": "a"}


@pytest.mark.parametrize("empty", [None, "", math.nan])
def test_empty_cells(empty):
    """
    An empty cell says nothing: the options of the command line apply.
    """
    assert row(prompt="a", temperature=empty, messages=empty, system=empty) == {
        "custom_id": "row-7",
        "prompt": "a",
    }


@pytest.mark.parametrize(
    ("name", "cell", "value"),
    [
        # Texts are never anything else.
        ("prompt", "007", "007"),
        ("prompt", "null", "null"),
        ("prompt", '["a"]', '["a"]'),
        ("prompt", " a ", " a "),
        ("prompt", b"h\xc3\xa9", "hé"),
        ("system", "true", "true"),
        ("model", "7", "7"),
        ("user", "1e3", "1e3"),
        # Numbers, as spreadsheets write them.
        ("temperature", "0.7", 0.7),
        ("temperature", " 1 ", 1),
        ("temperature", Decimal("0.5"), 0.5),
        ("max_tokens", "256", 256),
        ("max_tokens", "256.0", 256),
        ("max_tokens", 128.0, 128),
        ("max_tokens", "256.5", 256.5),
        ("ignore_eos", " TRUE", True),
        ("ignore_eos", "false", False),
        ("ignore_eos", True, True),
        # JSON where it can be nothing else, or looks like it.
        ("stop", "END", "END"),
        ("stop", "3", "3"),
        ("stop", "\n", "\n"),
        ("stop", ' ["a"]', ["a"]),
        ("stop", '["a", "b"]', ["a", "b"]),
        ("stop", "[", "["),
        ("tool_choice", "auto", "auto"),
        ("tool_choice", '{"type": "function"}', {"type": "function"}),
        ("turns", '["a", "b"]', ["a", "b"]),
        ("turns", ["a", "b"], ["a", "b"]),
        ("response_format", '{"type": null}', {"type": None}),
        ("extra_body", '{"a": 1}', {"a": 1}),
        # What is no value of the option is left for the request to refuse.
        ("temperature", "0,7", "0,7"),
        ("max_tokens", "many", "many"),
        ("max_tokens", "1" * 5000, "1" * 5000),
    ],
)
def test_values(name, cell, value):
    """
    Each cell is read as its column's option wants it.
    """
    assert row(**{name: cell}) == {"custom_id": "row-7", name: value}
    assert type(row(**{name: cell})[name]) is type(value)


def test_messages_of_parquet():
    """
    The keys that a message has not are null there; its content may be meant so.
    """
    call = {"id": "1", "function": {"name": "f", "arguments": None}}
    messages = [
        {"role": "user", "content": "a", "name": None, "tool_calls": None},
        {"role": "assistant", "content": None, "name": None, "tool_calls": [call]},
    ]
    assert row(messages=messages)["messages"] == [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f"}}],
        },
    ]


@pytest.mark.parametrize(
    ("name", "cell", "words"),
    [
        ("messages", "hello", "messages: not JSON at character 1: Expecting value"),
        ("turns", '["a",', "turns: not JSON at character 6: Expecting value"),
        ("body", "[" * 100_000, "body: not JSON that can be read"),
        ("prompt", b"h\xe9", "prompt: not UTF-8 at byte 2"),
        ("id", b"\xff", "id: not UTF-8 at byte 1"),
    ],
)
def test_bad_cells(name, cell, words):
    """
    A row that cannot be read is one of its own, with its id.
    """
    error = row(custom_id="mine" if name != "id" else None, **{name: cell})
    assert isinstance(error, BadLine)
    assert str(error) == words
    assert error.custom_id == ("mine" if name != "id" else "row-7")
    assert error.__traceback__ is None


def test_as_a_line():
    """
    A row asks for what the same line of JSON would.
    """
    cells = {"id": "007", "prompt": "a", "temperature": "0.5", "max_tokens": ""}
    entry = read_line(7, row(**cells))
    assert entry.custom_id == "007"
    request = entry.request({"max_tokens": 5})
    assert request.messages == ({"role": "user", "content": "a"},)
    assert (request.temperature, request.max_tokens) == (0.5, 5)
    with pytest.raises(
        BadLine, match="expected one of prompt, messages, turns or body"
    ):
        read_line(7, row(id="007", prompt="", messages=None))


def test_the_options():
    """
    Every option of a chat may be a column.
    """
    assert {"model", "temperature", "max_completion_tokens", "extra_body"} <= OPTIONS
    assert "messages" not in OPTIONS
