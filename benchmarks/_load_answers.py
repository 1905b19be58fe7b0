"""
What the server under load says: every byte, made beforehand.
"""

import json


def _usage(tokens):
    return {
        "prompt_tokens": 9,
        "completion_tokens": tokens,
        "total_tokens": 9 + tokens,
    }


def _answer(kind, **more):
    return {
        "id": "chatcmpl-0123456789abcdef",
        "object": kind,
        "created": 1_700_000_000,
        "model": "loaded",
        **more,
    }


def whole(status, body, extra=""):
    """
    The bytes of a plain answer, cut where further headers go.
    """
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n{extra}"
    )
    return head.encode(), b"\r\n" + content


def _event(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = _answer("chat.completion.chunk", choices=[choice], **more)
    data = f"data: {json.dumps(chunk)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def plain(tokens):
    """
    A whole answer.
    """
    message = {"role": "assistant", "content": " sea" * tokens}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = _answer("chat.completion", choices=[choice], usage=_usage(tokens))
    return whole(200, body)


def streamed(tokens):
    """
    A streamed one, a piece for each token; the last has the end as well.
    """
    first = _event({"role": "assistant", "content": " sea"})
    pieces = [first] + [_event({"content": " sea"})] * (tokens - 1)
    done = b"data: [DONE]\n\n"
    pieces[-1] += _event({}, "stop", usage=_usage(tokens))
    pieces[-1] += b"%x\r\n%s\r\n0\r\n\r\n" % (len(done), done)
    return pieces


STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\n"
)

REFUSED = {"error": {"message": "too many requests", "type": "rate_limit_exceeded"}}


def limits_told(told):
    """
    The headers that say what a limit has left.
    """
    limit, left, reset = told
    headers = (
        f"x-ratelimit-limit-requests: {limit}\r\n"
        f"x-ratelimit-remaining-requests: {left}\r\n"
        f"x-ratelimit-reset-requests: {max(1, round(1e3 * reset))}ms\r\n"
    )
    return headers.encode()
