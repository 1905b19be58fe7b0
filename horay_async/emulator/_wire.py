"""
Answers as bytes: heads, chunks and events, written by hand so that every byte is ours.
"""

import json

from collections.abc import Iterable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast


LAST_CHUNK = b"0\r\n\r\n"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""Pairs where a name comes twice, a mapping where it does not."""

# One encoder for all: json.dumps with options of its own builds a new one each time.
_PLAIN = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ESCAPED = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def dump(value: Any) -> bytes:
    """
    JSON as most servers write it: UTF-8, U+2028 and its like raw.

    A lone surrogate has no UTF-8, so a text that holds one is written in escapes.
    """
    try:
        return _PLAIN(value).encode()
    except UnicodeEncodeError:
        return _ESCAPED(value).encode()


def load(body: bytes) -> Any:
    """
    Strict JSON: no NaN, and nothing that is nested too deeply.

    Raises:
        ValueError: It is not that.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(body.decode(), parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def pairs(headers: Headers) -> list[tuple[str, str]]:
    if isinstance(headers, Mapping):
        return list(cast(Mapping[str, str], headers).items())
    return list(headers)


def head(status: int, headers: Headers) -> bytes:
    """
    A status line and headers, with the empty line that ends them.
    """
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unnamed"
    lines = [f"HTTP/1.1 {status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in pairs(headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def date() -> str:
    return formatdate(usegmt=True)


def chunk(data: bytes) -> bytes:
    """
    One chunk of a chunked body (RFC 9112, 7.1); no data is no chunk, not the last one.
    """
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def event(data: bytes, newline: bytes = b"\n") -> bytes:
    """
    One server-sent event; a line of data for each of the lines.
    """
    lines = [b"data: " + line + newline for line in data.split(b"\n")]
    return b"".join(lines) + newline


def comment(text: bytes, newline: bytes = b"\n") -> bytes:
    """
    A line that says nothing: what servers send to keep a connection alive.
    """
    return b": " + text + newline + newline
