"""
What stands beside the text: head, unknown fields, usage, log probabilities.
"""

import json

import pytest

from deltas import assembled, choice, chunk, ended, reply_of, said
from horay_async._values import Token, Usage


EMPTY_FIRST = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "choices": [],
    "prompt_filter_results": [{"prompt_index": 0}],
}


def test_the_head_is_the_first_with_an_id():
    """
    Azure begins with an empty chunk, and goes on with filter chunks that have no delta.
    """
    results = {"content_filter_results": {"hate": {"filtered": False}}}
    filtered = {"index": 0, "finish_reason": None, **results}
    assembly, tokens = assembled(
        EMPTY_FIRST,
        said("a"),
        chunk(filtered, id="", model="", created=0),
        ended(),
    )
    assert tokens == [Token("a")]
    body = assembly.body(chat=True)
    assert (body["id"], body["created"], body["model"]) == ("c-1", 7, "m")
    assert body["prompt_filter_results"] == [{"prompt_index": 0}]
    assert body["choices"][0]["content_filter_results"] == {"hate": {"filtered": False}}


def test_no_id_at_all():
    """
    The first chunk that names the model has named it.
    """
    chunks = [chunk(id="", created=n, model=name) for n, name in enumerate(["", "m"])]
    assembly, _ = assembled(*chunks, chunk(id=None, created=5, model="other"))
    body = assembly.body(chat=True)
    assert "id" not in body
    assert (body["created"], body["model"]) == (1, "m")


def test_created_may_change():
    """
    SGLang tells the time anew in every chunk.
    """
    assembly, _ = assembled(*[{**said("a"), "created": now} for now in (7, 8, 9)])
    assert assembly.body(chat=True)["created"] == 7


def test_unknown_fields_of_any_chunk_are_kept():
    """
    First, last or in between; but no padding.
    """
    assembly, _ = assembled(
        {**said("a"), "provider": "P", "service_tier": None, "obfuscation": "xyz"},
        {**said("b"), "citations": ["one"]},
        {**said("c"), "citations": ["one", "two"], "obfuscation": "zy"},
        {**chunk(), "timings": {"ms": 5}, "citations": None},
    )
    body = assembly.body(chat=True)
    # A list there is told whole in every chunk.
    assert body["citations"] == ["one", "two"]
    assert (body["provider"], body["timings"]) == ("P", {"ms": 5})
    assert not {"obfuscation", "service_tier"} & body.keys()
    assert reply_of(assembly).extra["provider"] == "P"


def test_unknown_fields_of_a_choice_are_kept():
    """
    With few other fields beside them, too: vLLM leaves out what is not set.
    """
    assembly, _ = assembled(
        chunk({"index": 0, "delta": {"content": "a"}, "token_ids": [1]}),
        chunk({"delta": {"content": "b"}, "token_ids": [2, 3], "stop_reason": None}),
        chunk({"index": 0, "delta": {}, "stop_reason": "x"}),
    )
    only = assembly.body(chat=True)["choices"][0]
    assert (only["token_ids"], only["stop_reason"]) == ([1, 2, 3], "x")


COUNTED = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}

USAGE = {
    "in a chunk without choices": [said("a"), ended(), chunk(usage=COUNTED)],
    "null before": [{**said("a"), "usage": None}, chunk(usage=COUNTED)],
    "in every chunk, the last counts": [
        {**said("a"), "usage": {**COUNTED, "completion_tokens": 1, "total_tokens": 6}},
        {**ended(), "usage": COUNTED},
    ],
    "null after": [{**ended(), "usage": COUNTED}, {**chunk(), "usage": None}],
    "nonsense after": [
        {**ended(), "usage": COUNTED},
        {**chunk(), "usage": {}},
        {**chunk(), "usage": "9 tokens"},
    ],
    "with an empty delta after the finish": [
        ended(),
        {**chunk(choice(delta={"content": ""})), "usage": COUNTED},
    ],
}


@pytest.mark.parametrize("chunks", USAGE.values(), ids=USAGE)
def test_usage(chunks):
    """
    The server's count is taken as it is, once, wherever it stands.
    """
    assembly, _ = assembled(*chunks)
    usage = assembly.usage(prompt_bytes=1000)
    assert usage == Usage(
        prompt_tokens=5, completion_tokens=9, total_tokens=14, source="server"
    )
    assert reply_of(assembly).usage == usage
    assert assembly.partial().usage == usage


def test_estimated_usage():
    """
    Where the server does not count: four bytes a prompt token, a token a piece.
    """
    assembly, _ = assembled(said("one"), chunk(choice(delta={"reasoning": "hm"})))
    assert assembly.usage(prompt_bytes=9) == Usage(
        prompt_tokens=3, completion_tokens=2, total_tokens=5, source="estimated"
    )
    assert assembly.body(chat=True)["usage"] is None


def test_partial():
    """
    What an error carries: texts, thoughts, calls as far as they came, and who counted.
    """
    assembly, _ = assembled(
        said("half an ans"),
        chunk(choice(1, {"reasoning": "hm"})),
        chunk(
            choice(1, {"tool_calls": [{"function": {"name": "f", "arguments": '{"'}}]})
        ),
        ended("tool_calls", 1),
        n=2,
    )
    partial = assembly.partial(prompt_bytes=8)
    assert (partial.text, partial.tokens) == ("half an ans", 3)
    first, second = partial.choices
    assert first.finish_reason is None
    assert (second.text, second.reasoning) == ("", "hm")
    assert second.finish_reason == "tool_calls"
    assert second.tool_calls[0].function.arguments == '{"'
    assert partial.usage.source == "estimated"


# Logprobs --------------------------------------------------------------------------


def entry(token):
    """
    One entry of a chat's log probabilities.
    """
    return {"token": token, "logprob": -9999.0, "bytes": None, "top_logprobs": []}


LOGPROBS = {
    "a chat's": (
        [{"content": [entry("a")], "refusal": None}, {"content": [entry("b")]}],
        {"content": [entry("a"), entry("b")], "refusal": None},
    ),
    "null first": (
        [{"content": None}, {"content": [entry("a")]}, {"content": [entry("b")]}],
        {"content": [entry("a"), entry("b")]},
    ),
    "a text's": (
        [
            {"tokens": ["a"], "token_logprobs": [None], "text_offset": [0]},
            {"tokens": ["b"], "token_logprobs": [-1.5], "text_offset": [1]},
        ],
        {"tokens": ["a", "b"], "token_logprobs": [None, -1.5], "text_offset": [0, 1]},
    ),
    "a list of numbers (Empower, TGI)": ([[-0.5], None, [-1.5, -2]], [-0.5, -1.5, -2]),
    "one, then the other": ([{"content": []}, [-0.5]], [-0.5]),
    "the other, then one": ([[-0.5], {"content": [entry("a")]}], {"content": [entry("a")]}),
}  # fmt: skip


@pytest.mark.parametrize(("deltas", "logprobs"), LOGPROBS.values(), ids=LOGPROBS)
def test_logprobs(deltas, logprobs):
    """
    They grow with the text, in whichever shape they come; the chunks stay as they were.
    """
    chunks = [said("x", logprobs=each) for each in deltas]
    before = json.dumps(chunks)
    assembly, _ = assembled(*chunks)
    assert assembly.body(chat=True)["choices"][0]["logprobs"] == logprobs
    assert json.dumps(chunks) == before


def test_no_logprobs():
    """
    Null is nothing.
    """
    assembly, _ = assembled(said("x", logprobs=None), said("y", logprobs={}))
    assert "logprobs" not in assembly.body(chat=True)["choices"][0]


def test_a_reply_does_not_grow():
    """
    One that was asked for in the middle of the stream stays as it was.
    """
    assembly, _ = assembled(
        said("a", logprobs={"content": [1]}, token_ids=[1]),
        chunk(choice(1, {"annotations": [1]}, logprobs=[1])),
        n=2,
    )
    early = assembly.body(chat=True)
    before = json.dumps(early)
    assembly.add(said("b", logprobs={"content": [2]}, token_ids=[2]))
    assembly.add(chunk(choice(1, {"annotations": [2]}, logprobs=[2])))
    assert json.dumps(early) == before
