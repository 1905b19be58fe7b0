"""
Any bytes, cut anywhere: the same verdict, and no error but ours.
"""

import json

import pytest

from hypothesis import example, given
from hypothesis import strategies as st

from deltas import choice, chunk, ended, said
from streams import read, wire


TOOLS = [
    chunk(choice(delta={"tool_calls": [{"index": 0, "id": "a", "function": piece}]}))
    for piece in (
        {"name": "sea", "arguments": ""},
        {"arguments": '{"a":'},
        {"arguments": "1}"},
    )
]
HALVES = [
    '{"choices":[{"delta":{"content":"a\\ud83d"}}]}',
    '{"choices":[{"delta":{"content":"\\ude00"}}]}',
]
EVENTS = [
    b"\xef\xbb\xbf: hi\n\n",
    b"retry: 3\nid: 7\nx: y\n",
    said("hé😀\u2028", reasoning="hm"),
    b"data\n\n",
    ": PROCESSING",
    *HALVES,
    *TOOLS,
    ended("tool_calls", usage={"total_tokens": 3}),
]  # fmt: skip

# name: (the bytes, whether it is a stream)
WIRES = {
    "LF": (wire(*EVENTS, "[DONE]"), True),
    "CRLF": (wire(*EVENTS, "[DONE]", newline="\r\n"), True),
    "CR": (wire(*EVENTS[1:], "[DONE]", newline="\r"), True),
    "no last line end": (wire(said("a"), ended(), b"data: [DONE]"), True),
    "more after the end": (wire(said("a"), "[DONE]", said("b"), {"error": "x"}), True),
    "cut": (wire(said("a"))[:-9], True),
    "an error": (wire(said("a"), b"event: error\n", "oops", said("b")), True),
    "a bare error": (wire(said("a"), b'error: {"code": 503}\n\n', "[DONE]"), True),
    "a bare body": (wire(said("a"), b'\n{"error": {"message": "oops"}}\n'), True),
    "nonsense": (wire(said("a"), "nonsense", said("b")), True),
    "unnamed": (b" \n" + wire(said("a"), ended()), None),
    "a reply": (b' \n{"choices":[{"message":{"content":"all"}}]}', None),
    "a page": (b" \n<title>Bad gateway</title>", None),
}


@pytest.mark.parametrize(("bytes_", "streamed"), WIRES.values(), ids=WIRES)
def test_two_way_cuts(bytes_, streamed):
    """
    Where the network cuts the bytes changes nothing.
    """
    uncut = read(bytes_, streamed=streamed)
    for cut in range(len(bytes_) + 1):
        assert read(bytes_[:cut], bytes_[cut:], streamed=streamed) == uncut


@pytest.mark.parametrize(("bytes_", "streamed"), WIRES.values(), ids=WIRES)
def test_byte_by_byte(bytes_, streamed):
    """
    Nor does it if every byte comes alone.
    """
    single = [bytes_[n : n + 1] for n in range(len(bytes_))]
    assert read(*single, streamed=streamed) == read(bytes_, streamed=streamed)


FIELDS = [
    "choices", "delta", "message", "text", "content", "usage", "tool_calls", "function",
    "arguments", "index", "error", "logprobs", "finish_reason", "id", "reasoning",
    "refusal", "function_call", "name",
]  # fmt: skip

BLOCKS = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [b"data: ", b"data:", b"event: error\n", b"error: ", b"\n", b"\n\n", b"{"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(FIELDS),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ).map(lambda value: wire(json.dumps(value))),
    ),
    max_size=6,
)


@given(BLOCKS, st.sampled_from([True, False, None]), st.integers(1, 3))
@example([b'data: {"choices":[' + b"[" * 3000 + b"\n\n"], True, 1)
@example([b'data: {"choices":' + b"[" * 900 + b"]" * 900 + b"}\n\n"], True, 1)
@example([b"data: " + b"[" * 1020 + b"]" * 1020 + b"\n\n"], True, 1)
@example([b'{"a":' * 1000 + b"1" + b"}" * 1000], False, 1)
@example([b'data: {"choices":[{"finish_reason":' + b"9" * 5000 + b"}]}\n\n"], True, 1)
def test_only_our_errors(blocks, streamed, n):
    """
    Whatever comes, it is an answer or an error of ours, and the texts can be encoded.
    """
    result = read(*blocks, streamed=streamed, n=n)
    assert (result.outcome is None) is (result.error is not type(None))
    result.said.encode()
    for token in result.tokens:
        (token.text + token.reasoning).encode()


PIECES = st.sampled_from(
    [
        wire(said("a")),
        wire(said("bé", 1)),
        wire(*HALVES),
        wire(*TOOLS),
        wire(ended()),
        wire(ended(index=1), newline="\r\n"),
        wire(chunk(usage={"total_tokens": 3})),
        b": ping\n\n",
        b"\r\r\n",
        b"data\n\n",
        b"id: 7\nretry: 1\r",
        b"{}\n",
    ]
)
ENDS = st.sampled_from(
    [
        b"",
        wire("[DONE]"),
        wire("[DONE]", said("more"), "x"),
        b"data: [DONE]",
        wire({"error": "oops"}),
        wire("nonsense", said("more")),
        b"error: oops\n\n",
        wire(b"error: oops\n", "[DONE]"),
        wire(said("a"))[:-5],
    ]
)


@given(st.data())
def test_random_wires_at_random_cuts(data):
    """
    Any answer, cut any number of times.
    """
    bytes_ = b"".join(data.draw(st.lists(PIECES, max_size=6))) + data.draw(ENDS)
    n = data.draw(st.integers(1, 2))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(bytes_)), max_size=5)))
    blocks = [bytes_[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    assert read(*blocks, n=n) == read(bytes_, n=n)
