"""
Near misses: an input that is almost what a server sends, by small steps away from one.

It knows lines, events and JSON, so that most of what it makes comes past the first check.
"""

import json

from .promises import HEAD


LONGEST = 6000
"""
Bytes: an input has to be cheap, for there are millions of them.
"""

BITS = (
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\n\r\n", b"data: ", b"data:", b"data\n",
    b"event: error\n", b"event: ", b"id: ", b"id: \0", b"retry: 1\n", b": ping\n\n", b":",
    b" ", b"\t", b"data: [DONE]\n\n", b"[DONE]", b"error: ", b'error: {"code": 500}\n',
    b'{"error": "x"}\n', b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xe2\x82", b"\xff", b"\0",
    b"\xf0\x9f\x98\x80", b"\\ud83d", b"\\ude00", b"{", b"}", b"[", b"]", b'"', b",", b"null",
    b"NaN", b"-Infinity", b"1e999", b"0", b"-1", b"9" * 30, b"[" * 40, b"true", b"\\u0000",
    b"HTTP/1.1 200 OK\r\n\r\n", b"Content-Length: 5\r\n", b"0\r\n\r\n", b"5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: deflate\r\n", b"ms", b"h", b"s",
    b"<title>", b"&#x110000;", b"sk-of/the-fuzzer",
)  # fmt: skip

NAMES = (
    "choices", "delta", "message", "text", "content", "usage", "tool_calls", "function",
    "arguments", "index", "error", "logprobs", "finish_reason", "id", "reasoning", "role",
    "refusal", "function_call", "name", "code", "type", "param", "status", "data", "object",
    "created", "model", "extra", "detail", "loc", "msg", "images", "balance", "prompt",
    "totalBalance", "prompt_tokens", "url", "reasoning_content", "__class__", "",
)  # fmt: skip

ODD = (
    None, True, False, 0, 1, 2, 3, -1, 7, 1.5, -0.0, 1e308, 10**30, "", "a", "stop", " ",
    "[DONE]", "0", "é😀", "\ud83d", "\ude00", "\u2028", "x" * 300, "\0", "429", "1e5", "NaN",
    [], {}, [[]], [{}], [None], {"": None}, {"a": {"a": []}}, ["a", 1, None], float("nan"),
    float("inf"), "rate_limit_exceeded", "text", {"content": "x"}, {"message": "m"}, 429, 200,
)  # fmt: skip


class Mutator:
    """
    Takes steps by the dice that it is given.
    """

    def __init__(self, rng, others):
        self._random = rng.random
        self._others = others

    def mutate(self, data):
        """
        Another input, some steps away.
        """
        head, wire = data[:HEAD].ljust(HEAD, b"\0"), data[HEAD:]
        for _ in range(1 + self._below(3)):
            step = self._below(8)
            if step == 0:
                head = self._turned(head)
            elif step < 5:
                wire = self._in_json(wire)
            elif step == 5:
                wire = self._in_lines(wire)
            else:
                wire = self._in_bytes(wire)
        return head + wire[:LONGEST]

    def _below(self, limit):
        return int(self._random() * limit)

    def _pick(self, values):
        return values[int(self._random() * len(values))]

    def _turned(self, head):
        at = self._below(HEAD)
        return head[:at] + bytes([self._below(256)]) + head[at + 1 :]

    # Bytes -----------------------------------------------------------------------------

    def _in_bytes(self, wire):
        at = self._below(len(wire) + 1)
        kind = self._below(7)
        if kind < 3:
            return wire[:at] + self._pick(BITS) + wire[at:]
        to = at + 1 + self._below(self._pick((1, 4, 64)))
        if kind == 3:
            return wire[:at] + wire[to:]
        if kind == 4:
            return wire[:to] + wire[at:]
        if kind == 5:
            return wire[:at] + bytes([self._below(256)]) + wire[at + 1 :]
        return wire[:at]

    # Lines and events ------------------------------------------------------------------

    def _in_lines(self, wire):
        blank = self._pick((b"\n\n", b"\n"))
        blocks = wire.split(blank)
        at = self._below(len(blocks))
        kind = self._below(7)
        if kind == 0:
            blocks.insert(at, blocks[self._below(len(blocks))])
        elif kind == 1:
            del blocks[at]
        elif kind == 2:
            blocks.insert(at, blocks.pop())
        elif kind == 3:
            other = self._pick(self._others)[HEAD:].split(blank)
            blocks.insert(at, self._pick(other))
        elif kind == 4:
            blocks[at] = (
                self._pick((b": ", b"data: ", b"x", b"event: e\n")) + blocks[at]
            )
        elif kind == 5:
            blocks[at:] = self._pick(self._others)[HEAD:].split(blank)
        else:
            blank = self._pick((b"\r\n\r\n", b"\r\r", b"\n\r", b"\r\n", b"\n\n\n"))
        return blank.join(blocks)

    # JSON ------------------------------------------------------------------------------

    def _in_json(self, wire):
        starts = [0] if wire[:1] in (b"{", b"[") else []
        at = wire.find(b"data: {")
        while at >= 0:
            starts.append(at + 6)
            at = wire.find(b"data: {", at + 6)
        if not starts:
            return self._in_bytes(wire)
        start = self._pick(starts)
        end = wire.find(b"\n", start)
        end = len(wire) if end < 0 else end
        try:
            value = json.loads(wire[start:end])
            changed = json.dumps(
                self._changed(value), ensure_ascii=self._random() < 0.7
            ).encode("utf-8", "surrogatepass")
        except (RecursionError, ValueError):
            return self._in_bytes(wire)
        return wire[:start] + changed + wire[end:]

    def _changed(self, value):
        if self._random() < 0.03:
            return self._odd()
        spot, key = self._spot(value)
        if spot is None:
            return self._odd()
        kind = self._below(8)
        if kind < 4:
            spot[key] = self._odd()
        elif kind == 4:
            del spot[key]
        elif isinstance(spot, list):
            spot.insert(key, spot[self._below(len(spot))] if kind < 7 else self._odd())
        elif kind == 5:
            spot[self._pick(NAMES)] = spot.pop(key)
        elif kind == 6:
            spot[self._pick(NAMES)] = self._odd()
        else:
            spot[key] = [spot[key]] if self._random() < 0.5 else {"a": spot[key]}
        return value

    def _spot(self, value):
        """
        A place in the value, at any depth.
        """
        spot = key = None
        while isinstance(value, (dict, list)) and value:
            spot = value
            key = self._pick(
                list(value) if isinstance(value, dict) else range(len(value))
            )
            value = value[key]
            if self._random() < 0.25:
                break
        return spot, key

    def _odd(self):
        # Rarely, what hurts: depth, and numbers that int() does not read.
        if self._random() < 0.004:
            deep = []
            for _ in range(self._pick((50, 300, 900, 1100))):
                deep = [deep] if self._random() < 0.5 else {"a": deep}
            return deep
        return self._pick(ODD)
