"""
Where every search begins: what servers are known to send, well and badly, as code.
"""

import json

from .promises import HEAD


def event(value, newline="\n"):
    """
    One event: of JSON, or of a string as it is.
    """
    data = value if isinstance(value, str) else json.dumps(value)
    return f"data: {data}{newline}{newline}".encode()


def chunk(*choices, **fields):
    """
    One chunk, as it is documented.
    """
    # Not longer than need be: an input is to be cheap.
    return {"id": "c", "model": "m", "choices": list(choices), **fields}


def said(text, index=0, **fields):
    """
    A piece of content.
    """
    delta = {"index": index, "delta": {"content": text, **fields}}
    return chunk({**delta, "finish_reason": None})


def ended(reason="stop", index=0, **fields):
    """
    A finish reason.
    """
    return chunk({"index": index, "delta": {}, "finish_reason": reason}, **fields)


def calls(*fragments, index=0):
    """
    Fragments of tool calls.
    """
    return chunk({"index": index, "delta": {"tool_calls": list(fragments)}})


def texts(text, reason=None, index=0, **fields):
    """
    A piece of a text completion.
    """
    one = {"index": index, "text": text, "finish_reason": reason, "logprobs": None}
    return {"id": "t", "choices": [{**one, **fields}]}


def lines(*values, newline="\n"):
    """
    A stream: JSON, strings of data, or bytes as they are.
    """
    return b"".join(
        one if isinstance(one, bytes) else event(one, newline) for one in values
    )


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

WHOLE = lines(
    chunk({"index": 0, "delta": {"role": "assistant", "content": ""}}),
    said("hel"),
    said("lo é😀\u2028"),
    ended(),
    chunk(usage=USAGE),
    "[DONE]",
)

TOOLS = (
    calls({"index": 0, "id": "call_a", "function": {"name": "sea", "arguments": ""}}),
    calls({"index": 0, "function": {"arguments": '{"a": '}}),
    calls({"index": 1, "id": "call_b", "function": {"name": "sky"}}),
    calls({"index": 0, "function": {"arguments": "1}"}}),
    calls({"id": "call_b", "function": {"arguments": {"b": [1]}}}),
    calls({"function": {"name": "sky", "arguments": "{}"}}, {"index": None}),
)

ERRORS = (
    {"error": {"message": "overloaded", "type": "server_error", "code": None}},
    {"error": {"message": "slow down", "code": 429, "param": "n"}},
    {"error": "text", "error_type": "overloaded"},
    {"error": {"message": "bad", "http_status_code": 422}},
    {"object": "error", "message": "m", "type": "BadRequestError", "code": 400},
    {"type": "error", "error": {"type": "overloaded_error", "message": "o"}},
    {"code": 50505, "message": "Model service overloaded", "data": None},
    {"code": 20012, "message": "m", "status": False, "data": "x"},
    {"message": "TPM limit reached", "data": "x"},
    {"detail": [{"loc": ["body", 0, "n"], "msg": "no", "type": "value_error"}]},
    {"detail": "Not Found"},
    [{"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}],
    "Invalid token",
)

STREAMS = (
    WHOLE,
    WHOLE.replace(b"\n", b"\r\n"),
    WHOLE.replace(b"\n", b"\r"),
    b"\xef\xbb\xbf: ping\n\n" + WHOLE,
    lines(said("a"), ended()),
    lines(said("a"), ended())[:-2],
    lines(said("a"), said("b"))[:-9],
    lines(said("a"), "[DONE]"),
    lines(*TOOLS, ended("tool_calls"), "[DONE]"),
    lines(
        said("a", 0),
        said("b", 1, reasoning="hm"),
        ended(index=1),
        said("c", 2, refusal="no"),
        ended("length", 0),
        ended(index=2),
        ended(index=3),
        "[DONE]",
    ),
    lines(
        '{"choices":[{"delta":{"content":"a\\ud83d"}}]}',
        '{"choices":[{"delta":{"content":"\\ude00","reasoning_content":"\\ud83d"}}]}',
        '{"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}',
    ),
    lines('{"choices":[{"delta":{"content":NaN}}],"x":-Infinity,"y":' + "9" * 60 + "}"),
    lines(b": OPENROUTER PROCESSING\n\n", ": wrapped", said("a"), b":\n\n", ended()),
    lines(b"event: message\nid: 7\nretry: 3000\n", said("a"), ended(), "[DONE]"),
    b"event: message\r\nid: 7\r\ndata: {\r\ndata: }\r\n\r\n"
    + WHOLE.replace(b"\n", b"\r\n"),
    lines(said("a"), b"event: error\n", "oops", said("b")),
    lines(said("a"), b'error: {"code": 503, "message": "m"}\n\n', "[DONE]"),
    lines(said("a"), b'{"error": {"message": "m"}}\n'),
    lines(said("a"), "nonsense", said("b")),
    lines(texts("a", logprobs={"tokens": ["a"], "token_logprobs": [-0.5]}))
    + lines(texts("b", "stop"), "[DONE]"),
    lines(
        chunk(
            {
                "index": 0,
                "delta": {"content": [{"type": "text", "text": "p"}, "q"]},
                "logprobs": {"content": [{"token": "p", "logprob": -1, "bytes": [1]}]},
            },
            {"delta": {"function_call": {"name": "f", "arguments": "{}"}}},
            prompt_filter_results=[{}],
        ),
        ended("", usage=USAGE),
        ended("eos_token", custom={"x": [1]}),
        "[DONE]",
    ),
    *(lines(said("a"), one, "[DONE]") for one in ERRORS if not isinstance(one, str)),
    b'{"choices":[{"message":{"content":"all"},"finish_reason":"stop"}]}',
    b" \n<!doctype html><title>502 Bad &amp; Gateway</title><body>nginx</body>",
    b"\n\n",
    b"",
)

REPLY = {
    "id": "r",
    "object": "chat.completion",
    "created": 7,
    "model": "m",
    "system_fingerprint": None,
    "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}},
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "hello",
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f"}}
                ],
                "audio": None,
            },
            "logprobs": {"content": [{"token": "h", "top_logprobs": []}]},
            "finish_reason": "stop",
        }
    ],
}

BODIES = (
    REPLY,
    {**REPLY, "choices": [{"text": "t", "logprobs": [1.5], "finish_reason": ""}]},
    {"choices": [{"message": {"content": ["a", {"type": "text", "text": "b"}]}}]},
    {"prompt": [{"text": "p"}], "choices": [{"text": "a", "index": 0}]},
    chunk({"delta": {"content": "a", "role": "assistant"}}, usage=USAGE),
    TOOLS[0],
    TOOLS[4],
    texts("a", "stop"),
    {"object": "list", "data": [{"id": "m", "created": 0, "owned_by": ""}]},
    [{"id": "m"}],
    {"images": [{"url": "http://x/y"}], "timings": {"inference": 1.5}, "seed": 4999999},
    {"data": [{"b64_json": "eA=="}], "created": 1},
    {
        "code": 20000,
        "message": "OK",
        "status": True,
        "data": {
            "id": "i",
            "balance": "0.88",
            "chargeBalance": 88.0,
            "totalBalance": "88.88",
            "isAdmin": False,
            "status": "normal",
        },
    },
    *ERRORS,
)

PLAIN = (
    *(json.dumps(one).encode() for one in BODIES),
    b"\xef\xbb\xbf{}",
    b'{"choices":[{"message":{"content":"\\ud83d"}}],"created":' + b"9" * 4400 + b"}",
    b'{"usage":{"prompt_tokens":"7","completion_tokens":1e400,"total_tokens":-1}}',
    b"[" * 600 + b"]" * 600,
    b'{"error":' * 300 + b"1" + b"}" * 300,
    b"<html><head><title> </title></head><body>Bad <b>gateway</b></body></html>",
    b"upstream connect error",
    b"\xff\xfe",
    b"",
)

HEADERS = (
    b"retry-after: 3",
    b"Retry-After: 1.5\nretry-after-ms: 250",
    b"retry-after: Wed, 21 Oct 2026 07:28:00 GMT",
    b"retry-after: Sunday, 06-Nov-94 08:49:37 GMT",
    b"retry-after: Sun Nov  6 08:49:37 2094",
    b"retry-after: -5\nx-should-retry: true",
    b"retry-after: NaN\nx-ms-retry-after-ms: inf",
    b"retry-after: 86400\nx-should-retry: FALSE",
    b"x-ratelimit-limit-requests: 60\nx-ratelimit-remaining-requests: 59",
    b"x-ratelimit-reset-requests: 6m0s\nx-ratelimit-reset-tokens: 2m59.56s",
    b"x-ratelimit-reset-tokens: 17ms\nx-ratelimit-limit-tokens: 150000",
    "x-ratelimit-reset-requests: 1h2m3s4ms5\u00b5s6ns\na: \u0663".encode(),
    b"a: 1e308\nb: .5\nc: 1_000\nd: 1e999\ne: 1e-999s\nf: 9h9h9h9h",
)

# The status line and headers too, as they stand on the connection.
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + WHOLE,
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Content-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE,
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(WHOLE) + WHOLE + b"\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + WHOLE,
    b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + WHOLE,
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + WHOLE,
    b"HTTP/1.1 429 Slow\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + WHOLE,
    b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nSet-Cookie: a=b\r\n\r\n" + json.dumps(REPLY).encode(),
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\nstray",
    b"HTTP/9.9 xyz\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"",
)


def inputs(wires):
    """
    Each with the options that nothing was chosen of, and with some that vary.
    """
    made = []
    for at, wire in enumerate(wires):
        made.append(bytes(HEAD) + wire)
        made.append(bytes((at * 37 + n * 101) % 256 for n in range(HEAD)) + wire)
    return tuple(made)
