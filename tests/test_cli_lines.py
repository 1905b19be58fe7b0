"""
Lines of a batch: what is asked.
"""

import json

import pytest

from horay_async import UNSET, ChatRequest, Conversation, InvalidRequestError
from horay_async.cli._lines import BadLine, read_line


def read(data, number=1):
    return read_line(number, json.dumps(data).encode())


def user(text):
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("data", "steps"),
    [
        ({"prompt": "Hello"}, [[user("Hello")]]),
        ({"messages": [user("a"), user("b")]}, [[user("a"), user("b")]]),
        ({"turns": ["a", "b"]}, [[user("a")], [user("b")]]),
        ({"body": {"messages": [user("a")]}}, [[user("a")]]),
        ({"url": "/v1/completions", "body": {"prompt": "a"}}, []),
    ],
)
def test_the_shapes(data, steps):
    """
    A prompt, messages, turns and a Batch line each ask for their calls.
    """
    assert list(read(data).steps) == steps


def test_custom_id():
    """
    A custom_id is kept; without one the line's number makes it.
    """
    assert read({"prompt": "a", "custom_id": "mine"}).custom_id == "mine"
    assert read({"prompt": "a"}, 7).custom_id == "line-7"


@pytest.mark.parametrize(
    ("data", "custom_id"),
    [
        ({"question_id": 81, "category": "writing", "turns": ["a"]}, "81"),
        ({"id": "q-1", "question_id": 81, "prompt": "a"}, "q-1"),
        ({"custom_id": "mine", "id": "q-1", "prompt": "a"}, "mine"),
        ({"id": None, "question_id": True, "prompt": "a"}, "line-1"),
        ({"id": "", "prompt": "a"}, "line-1"),
    ],
)
def test_ids_of_data_sets(data, custom_id):
    """
    A data set's own ids tell whose an answer is.
    """
    assert read(data).custom_id == custom_id


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("temprature", "temperature"),
        ("Temperature", "temperature"),
        ("max-tokens", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("top-p", "top_p"),
        ("SEED", "seed"),
        ("max_new_tokens", "max_tokens"),
    ],
)
def test_misspelt_options(key, meant):
    """
    An option that is hardly anything else is not left out without a word.
    """
    with pytest.raises(BadLine, match=f"{key}.*did you mean '{meant}'"):
        read({"prompt": "a", key: 1})


@pytest.mark.parametrize(
    "key", ["category", "reference", "score", "answer", "source", "topic", "meta"]
)
def test_keys_of_data_sets(key):
    """
    What is plainly no option is left out.
    """
    assert not read({"prompt": "a", key: 1}).fields


def test_request_fields_of_a_line():
    """
    A line's own request fields count; what only describes the line is left out.
    """
    row = read({"prompt": "a", "max_tokens": 5, "category": "writing"})
    assert row.fields == {"max_tokens": 5}


def test_batch_body():
    """
    A Batch body is sent whole, fields we have no name for included, but never streamed.
    """
    body = {"messages": [user("a")], "model": "m", "stream": True, "novel": 1}
    row = read({"method": "POST", "url": "/v1/chat/completions", "body": body})
    assert row.fields == {"model": "m", "extra_body": {"novel": 1}}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{oops", "not JSON at character 2: Expecting property name"),
        (b'{"prompt": "\xff"}', "not UTF-8 at byte 13"),
        (b"[" * 100_000, "not JSON that can be read"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "not JSON that can be read"),
        (b"[1]", "found a list: expected one JSON object on each line, as in {"),
        (b"null", "found null: expected one JSON object on each line"),
        (b"What is it?", "not JSON: expected one JSON object on each line"),
        (b"[", "not JSON: expected one JSON object on each line"),
        (b"{}", "expected one of prompt, messages, turns or body, found none of them"),
        (b'{"prompt": "a", "turns": []}', "found prompt and turns"),
        (b'{"prompt": ["a", "b"]}', "prompt: expected a string"),
        (b'{"messages": "a"}', "messages: expected a list"),
        (b'{"turns": "a"}', "turns: expected a list"),
        (b'{"turns": ["a", 1]}', "turns: expected strings"),
        (b'{"prompt": "a", "custom_id": 1}', "custom_id: expected a string"),
        (b'{"prompt": "a", "system": 1}', "system: expected a string"),
        (b'{"body": []}', "body: expected a JSON object"),
        (b'{"body": {}}', "messages: expected a list"),
        (b'{"body": {}, "method": "GET"}', "method: expected POST"),
        (b'{"body": {}, "url": "/v1/embeddings"}', "url: expected"),
        (b'{"body": {}, "url": 1}', "url: expected"),
    ],
)
def test_bad_lines(line, problem):
    """
    A line that asks for nothing says what is wrong with it, and which line it was.
    """
    with pytest.raises(BadLine) as caught:
        read_line(3, line)
    assert problem in str(caught.value)
    assert caught.value.custom_id == "line-3"


def test_bad_line_keeps_its_custom_id():
    """
    Where a bad line can be read so far, its custom_id stays.
    """
    with pytest.raises(BadLine) as caught:
        read({"custom_id": "mine"})
    assert caught.value.custom_id == "mine"


@pytest.mark.parametrize(
    ("row", "problem"),
    [({}, "found none of them"), ({"prompt": "a", "custom_id": 7}, "custom_id")],
)
def test_rows(row, problem):
    """
    A table's row is a line that is read already.
    """
    assert read_line(3, {"prompt": "a", "id": "mine"}).custom_id == "mine"
    with pytest.raises(BadLine, match=problem) as caught:
        read_line(3, row)
    assert caught.value.code == "bad_line"


def test_bom():
    """
    A byte order mark before the first line is not part of it.
    """
    assert read_line(1, b'\xef\xbb\xbf{"prompt": "a"}').steps


# To a request ----------------------------------------------------------------------


def test_request():
    """
    The line's own fields stand, options fill in.
    """
    request = read({"prompt": "a", "temperature": 0}).request(
        {"temperature": 1.0, "max_tokens": 5}
    )
    assert request == ChatRequest(messages=[user("a")], temperature=0, max_tokens=5)


def test_request_of_turns():
    """
    Turns are a conversation, even a single one: all its answers are wanted.
    """
    request = read({"turns": ["a", "b"], "seed": 1}).request({"max_tokens": 5})
    opening = ChatRequest(messages=[user("a")], seed=1, max_tokens=5)
    assert request == Conversation(opening, [user("b")])
    assert read({"turns": ["a"]}).request({}).follow_ups == ()


def test_request_extra():
    """
    Fields we have no name for come from both sides.
    """
    body = {"messages": [user("a")], "novel": 1, "odd": 2}
    request = read({"body": body}).request({"extra_body": {"novel": 3, "third": 4}})
    assert request.extra_body == {"novel": 1, "odd": 2, "third": 4}


@pytest.mark.parametrize("own", ["max_tokens", "max_completion_tokens"])
def test_request_has_one_bound(own):
    """
    A line's own bound is not sent together with another that means the same.
    """
    options = {"max_tokens": 5, "max_completion_tokens": 6}
    request = read({"prompt": "a", own: 7}).request(options)
    (other,) = options.keys() - {own}
    assert getattr(request, own) == 7
    assert getattr(request, other) is UNSET


@pytest.mark.parametrize(
    ("data", "added"),
    [
        ({"prompt": "a"}, True),
        ({"messages": [user("a")]}, True),
        ({"messages": [{"role": "system", "content": "s"}, user("a")]}, False),
        ({"messages": [{"role": "developer", "content": "s"}, user("a")]}, False),
    ],
)
def test_request_instruction(data, added):
    """
    A system message is added where there is none.
    """
    (first, *_) = read(data).request({}, "Be brief.").messages
    assert (first == {"role": "system", "content": "Be brief."}) is added


def test_request_own_instruction():
    """
    A line's own system message counts, and not the command's; one among its messages does more.
    """
    own = {"role": "system", "content": "own"}
    entry = read({"prompt": "a", "system": "own"})
    assert list(entry.request({}, "Be brief.").messages) == [own, user("a")]
    assert list(entry.request({}).messages) == [own, user("a")]
    entry = read({"messages": [own, user("a")], "system": "other"})
    assert list(entry.request({}).messages) == [own, user("a")]
    assert len(read({"prompt": "a", "system": None}).request({}).messages) == 1


@pytest.mark.parametrize(
    ("body", "options", "problem"),
    [
        ({}, {}, "body: expected a prompt"),
        ({"prompt": "a"}, {"reasoning_effort": "low"}, "has no reasoning_effort"),
        ({"prompt": "a", "max_tokens": "7"}, {}, "max_tokens = '7': expected"),
    ],
)
def test_request_of_text_that_cannot_be(body, options, problem):
    """
    What a text completion cannot have is said by name.
    """
    entry = read({"url": "/v1/completions", "body": body})
    with pytest.raises(InvalidRequestError, match=problem):
        entry.request(options)
