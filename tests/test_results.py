"""
A row as a line, a line read again, and what tells one request from another.
"""

import json

import attrs
import pytest

from hypothesis import given
from hypothesis import strategies as st

from horay_async import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ChatReply,
    ChatRequest,
    ClientClosedError,
    CompletionReply,
    CompletionRequest,
    ConnectTimeoutError,
    Conversation,
    DeadlineExceeded,
    FirstTokenTimeoutError,
    IncompleteStreamError,
    InternalServerError,
    InvalidRequestError,
    Message,
    Meta,
    PaymentRequiredError,
    PoolTimeoutError,
    RateLimitError,
    StreamAbortedError,
    user,
)
from horay_async._replies import ChatChoice
from horay_async._values import Outcome, Partial, PartialChoice, Usage
from horay_async.many._faults import lacks_credit, never_answered
from horay_async.many._index import UNKNOWN, Claim, Entry
from horay_async.many._results import digest_of, read_result, result_line
from horay_async.many._rows import Row


CHAT = ChatRequest(messages=[user("a")], model="m")
DIGEST = bytes(range(8))


def reply(text):
    message = Message(content=text)
    return ChatReply(
        id="c-1",
        choices=[ChatChoice(message=message, finish_reason="stop")],
        meta=Meta(status=200, headers={"x-request-id": "r-1"}),
    )


def row(*replies, **fields):
    return Row(
        **{"id": "mine", "index": 3, "request": "a", "replies": replies, **fields}
    )


def failed(error, **fields):
    outcome = fields.pop("outcome", Outcome.FAILED)
    return row(error=error, outcome=outcome, **fields)


def written(row, **claimed):
    claim = Claim(row.index, 0, DIGEST, "new", 0) if claimed else None
    for name, value in claimed.items():
        setattr(claim, name, value)
    line = result_line(row, claim=claim)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return json.loads(line)


# Out ---------------------------------------------------------------------------------


def test_result():
    """
    An answer is a line of OpenAI's Batch output, with a key of ours.
    """
    data = written(row(reply("Hi"), attempts=2, seconds=1.23456))
    assert data.pop("id").startswith("batch_req_")
    assert data["response"].pop("body")["choices"][0]["message"]["content"] == "Hi"
    assert data == {
        "custom_id": "mine",
        "response": {"status_code": 200, "request_id": "r-1"},
        "error": None,
        "horay": {"index": 3, "attempts": 2, "seconds": 1.2346},
    }


def test_what_a_journal_needs():
    """
    With a claim the line says which request it answers, and which of several rows.
    """
    ours = written(row(reply("Hi"), first_token=0.25), digest=DIGEST)["horay"]
    assert ours == {
        "index": 3,
        "hash": "0001020304050607",
        "attempts": 0,
        "first_token": 0.25,
    }
    assert written(row(reply("Hi")), nth=2)["horay"]["nth"] == 2


def test_an_estimate():
    """
    Where the server has not counted, the line says what we make of it, and that we do.
    """
    counted = attrs.evolve(reply("a"), usage=Usage(prompt_tokens=9))
    guessed = attrs.evolve(
        reply("b"),
        usage=Usage(prompt_tokens=2, completion_tokens=3, source="estimated"),
    )
    data = written(
        row(counted, guessed, guessed, request=Conversation("a", ["b", "c"]))
    )
    assert data["horay"]["estimate"] == {"prompt_tokens": 4, "completion_tokens": 6}
    assert "estimate" not in written(row(counted))["horay"]


def test_ids_differ():
    """
    Each line has an id of its own.
    """
    assert written(row(reply("Hi")))["id"] != written(row(reply("Hi")))["id"]


def test_result_of_a_conversation():
    """
    The last answer is the response; all of them stand in `turns`.
    """
    data = written(row(reply("a"), reply("b"), request=Conversation("a", ["b"])))
    texts = [body["choices"][0]["message"]["content"] for body in data["turns"]]
    assert texts == ["a", "b"]
    assert data["response"]["body"] == data["turns"][-1]


def test_refusal():
    """
    A server's refusal is both: a response with its status, and an error.
    """
    error = BadRequestError("no", type="invalid", meta=Meta(status=400))
    conversation = Conversation("a", ["b"])
    data = written(failed(error, replies=[reply("a")], request=conversation))
    assert data["response"]["status_code"] == 400
    assert data["response"]["body"]["error"]["message"] == "no"
    assert data["error"] == {"code": "BadRequestError", "message": "no"}
    assert len(data["turns"]) == 1  # what was answered before is kept
    assert "cut_off" not in data["horay"]
    assert "outcome" not in data["horay"]


def test_failure_without_a_response():
    """
    Where no server answered, the response is null; an error's own code is the line's.
    """
    error = ValueError("odd")
    assert written(failed(error))["response"] is None
    assert written(failed(error))["error"] == {"code": "ValueError", "message": "odd"}
    error.code = "bad_line"
    assert written(failed(error))["error"]["code"] == "bad_line"


def test_unconfirmed():
    """
    An answer that the server never said to be whole is marked.
    """
    data = written(row(reply("Hi"), outcome=Outcome.UNCONFIRMED))
    assert data["horay"]["outcome"] == "unconfirmed"
    assert data["error"] is None


@pytest.mark.parametrize(
    ("texts", "partial"),
    [([], None), ([""], None), (["", ""], None), (["so"], "so"), (["a", "b"],) * 2],
)
def test_partial_text(texts, partial):
    """
    What came of a streamed answer that failed is kept: it was paid for.
    """
    choices = tuple(
        PartialChoice(index=index, text=text) for index, text in enumerate(texts)
    )
    error = IncompleteStreamError("gone", partial=Partial(choices=choices))
    data = written(failed(error, outcome=Outcome.INCOMPLETE))
    assert data["horay"].get("partial") == partial
    assert data["horay"]["outcome"] == "incomplete"


@pytest.mark.parametrize("odd", ["\ud83d", 10**30, float("nan")])
def test_odd_values_are_written_and_read(odd):
    """
    What a server may send can be written: half a character, a huge number, no number.
    """
    line = result_line(row(CompletionReply(extra={"odd": odd})))
    assert json.loads(line)["response"]["body"]["odd"] in (odd, None)
    assert read_result(line) == Entry("mine", "answered", UNKNOWN, 0)


# Whose fault it was ------------------------------------------------------------------


def with_facts(error, **facts):
    return error.with_facts(**facts)


@pytest.mark.parametrize(
    "error",
    [
        StreamAbortedError("cancelled"),
        ClientClosedError("closed"),
        BudgetExceededError("used up"),
        ConnectTimeoutError("late"),
        DeadlineExceeded("late", meta=Meta(attempts=0)),
        PoolTimeoutError("full"),
        APIConnectionError("cannot connect"),
        AuthenticationError("bad key", meta=Meta(status=401)),
        PaymentRequiredError("no money", meta=Meta(status=402)),
        RateLimitError("no money", code="insufficient_quota", meta=Meta(status=429)),
        RateLimitError("no money", type="billing_error", meta=Meta(status=429)),
    ],
)
def test_never_answered(error):
    """
    Rows that nobody could answer are cut off, and asked again without a word.
    """
    assert never_answered(error)
    line = result_line(failed(error))
    assert json.loads(line)["horay"]["cut_off"] is True
    assert read_result(line).state == "again"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd"),
        DeadlineExceeded("late"),
        FirstTokenTimeoutError("late"),
        IncompleteStreamError("gone"),
        APIConnectionError("broke", meta=Meta(status=200)),
        with_facts(APIConnectionError("broke"), answered=True),
        InternalServerError("oops", meta=Meta(status=500)),
        BadRequestError("no", meta=Meta(status=400)),
    ],
)
def test_failed(error):
    """
    All else that can go wrong is the row's failure.
    """
    assert not never_answered(error)
    assert read_result(result_line(failed(error))).state == "failed"


def test_cancelled_rows_are_cut_off():
    """
    Whatever the error says.
    """
    line = result_line(failed(ValueError("odd"), outcome=Outcome.CANCELLED))
    assert read_result(line).state == "again"


def test_lacks_credit():
    """
    An empty account is told by its status, or by the code that some services have.
    """
    assert lacks_credit(PaymentRequiredError("no", meta=Meta(status=402)))
    assert lacks_credit(RateLimitError("no", code="Insufficient_Quota"))
    assert not lacks_credit(RateLimitError("no", code="slow_down"))
    assert not lacks_credit(ValueError("no"))


# In ----------------------------------------------------------------------------------


def test_a_line_is_read_as_it_was_written():
    """
    Id, state, digest and number.
    """
    claim = Claim(3, 2, DIGEST, "new", 0)
    line = result_line(row(reply("Hi"), id="ü \ud83d"), claim=claim)
    assert read_result(line) == Entry("ü \ud83d", "answered", DIGEST, 2)


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ({"response": {"status_code": 200, "body": {}}, "error": None}, "answered"),
        ({"response": {"body": {}}, "error": None}, "answered"),
        ({"response": {"status_code": 400, "body": {}}, "error": None}, "failed"),
        ({"response": None, "error": None}, "failed"),
        ({"response": None, "error": {"code": "batch_expired"}}, "failed"),
    ],
)
def test_lines_of_others(line, state):
    """
    An OpenAI Batch output says what became of a row, and not which request it was.
    """
    line = json.dumps({"id": "batch_req_1", "custom_id": "x", **line}).encode()
    assert read_result(line) == Entry("x", state, UNKNOWN, None)


@pytest.mark.parametrize(
    "line",
    [
        b"1",
        b'{"prompt": "a", "custom_id": "x"}',
        b'{"custom_id": "x", "method": "POST", "url": "/v1", "body": {}}',
        b'{"custom_id": 1, "response": null, "error": null}',
    ],
)
def test_what_is_no_result(line):
    """
    JSON that is something else.
    """
    assert read_result(line) is None


@pytest.mark.parametrize(
    "line", [b"", b"{", b"a,b", b"\0" * 9, b"\xff", b"[" * 100_000]
)
def test_what_is_no_json(line):
    """
    Is said to be none.
    """
    with pytest.raises(ValueError):
        read_result(line)


@pytest.mark.parametrize(
    "ours", [None, 1, {"hash": 1}, {"hash": "xyz"}, {"hash": "00"}, {"nth": "1"}, {}]
)
def test_odd_keys_of_ours(ours):
    """
    What somebody else wrote into our key is no trouble.
    """
    line = {"custom_id": "x", "response": {}, "error": None, "horay": ours}
    found = read_result(json.dumps(line).encode())
    assert (found.state, found.digest) == ("answered", UNKNOWN)


# Which request it was ----------------------------------------------------------------

DIFFERENT = [
    CHAT,
    CHAT.evolve(model="n"),
    CHAT.evolve(temperature=0),
    CHAT.evolve(messages=[user("b")]),
    CHAT.evolve(extra_body={"novel": 1}),
    CompletionRequest(prompt="a", model="m"),
    Conversation(CHAT),
    Conversation(CHAT, ["b"]),
    Conversation(CHAT, ["c"]),
    Conversation(CHAT, ["b", "c"]),
    Conversation(CHAT, [["b", "c"]]),
    Conversation(CHAT, ["\ud83d"]),
    CHAT.evolve(messages=[user("\ud83d")]),  # cannot be sent
    ValueError("a"),
    ValueError("b"),
    ValueError("?"),
    ValueError("\ud83d"),
    InvalidRequestError("a"),
    "a",
    None,
]


def test_digests_differ():
    """
    Each thing that is sent counts; what cannot be asked has a digest too.
    """
    digests = [digest_of(item) for item in DIFFERENT]
    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {len(UNKNOWN)}


def test_equal_requests_have_one_digest():
    """
    However they were built, and streamed or not.
    """
    other = ChatRequest(messages=[{"role": "user", "content": "a"}], model="m")
    assert digest_of(other) == digest_of(CHAT)
    options = {"include_usage": True}
    assert digest_of(CHAT.evolve(stream_options=options)) == digest_of(CHAT)
    assert digest_of(Conversation(other, [user("b")])) == digest_of(
        Conversation(CHAT, ["b"])
    )


@given(st.text(st.characters(), max_size=20))
def test_any_text(text):
    """
    A line can be made of any id and any prompt.
    """
    digest = digest_of(CHAT.evolve(messages=[user(text)]))
    line = result_line(row(reply(text), id=text), claim=Claim(0, 0, digest, "new", 0))
    assert read_result(line) == Entry(text, "answered", digest, 0)
