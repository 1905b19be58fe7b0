"""
The faults of contents are what their names say: well told, and whole where nothing is lost.
"""

import collections
import itertools
import json
import re
import time
import zlib

from email.utils import parsedate_to_datetime

import pytest

from horay_async.emulator import Request
from horay_async.emulator.faults import _bodies, _encodings, _events, _parts, _refusals


MODULES = (_events, _bodies, _encodings, _refusals)

FAULTS = {fault.name: fault for module in MODULES for fault in module.FAULTS}

KEY = "key-that-comes-back"

# Enough for every answer that has an end, and a taste of the others.
STEPS = 60


def request(path, *, stream):
    return Request(
        connection=1,
        method="POST",
        path=path,
        query="",
        headers={"authorization": f"Bearer {KEY}"},
        body=b"",
        json={"model": "model", "stream": stream},
    )


REQUESTS = {
    "chat": request("/v1/chat/completions", stream=True),
    "text": request("/v1/completions", stream=True),
    "plain": request("/v1/chat/completions", stream=False),
    "plain-text": request("/v1/completions", stream=False),
}

each_way = pytest.mark.parametrize("way", REQUESTS)

# The words of those that cannot say "one two three".
OTHER_TEXTS = {
    "u2028": "one\u2028 two\u0085 three",
    "split-utf8": "één twéé 🌊",
    "split-surrogates": "one two three 😀",
    "lone-surrogate": "one two three\ufffd",
    "json-lone-surrogate": "one two three\ufffd",
    "invalid-utf8": "one two three\ufffd",
    "nul-in-text": "one\0 two three",
}

EMPTY = {
    "empty-json-body",
    "gzip-empty",
    *(name for name in FAULTS if name.startswith("refusal-empty")),
}


# A reader of our own, slow and plain.


def sent(name, way):
    """
    The first bytes of an answer's body.
    """
    steps = itertools.islice(FAULTS[name].answer(REQUESTS[way]).body, STEPS)
    data = (step.encode() if isinstance(step, str) else step for step in steps)
    return b"".join(step for step in data if isinstance(step, bytes))


def headers(name, way):
    answer = FAULTS[name].answer(REQUESTS[way])
    return [(key.lower(), value) for key, value in dict_or_pairs(answer.headers)]


def dict_or_pairs(value):
    return value.items() if isinstance(value, dict) else value


def decoded(data, encoding):
    if encoding == "deflate":
        return zlib.decompress(data, 15 if data[:1] == b"\x78" else -15)
    whole = b""
    while encoding == "gzip" and data[:2] == b"\x1f\x8b":
        member = zlib.decompressobj(31)
        whole += member.decompress(data)
        data = member.unused_data
    return whole or data


def events(data):
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    for block in re.split(r"\r\n\r\n|\n\n|\r\r", text):
        lines = re.split(r"\r\n|\n|\r", block)
        values = [line[5:] for line in lines if line.startswith("data:")]
        joined = "\n".join(value.removeprefix(" ") for value in values)
        if joined.strip() == "[DONE]":
            return
        if joined.strip() and not joined.startswith(":"):
            yield json.loads(joined, parse_int=str)


def text_of(data):
    """
    What choice 0 says, in a stream or in one JSON value.
    """
    if data.lstrip(b"\xef\xbb\xbf \r\n")[:1] == b"{":
        whole = data.decode("utf-8-sig", "replace")
        values = [json.loads(whole, parse_int=str)]
    else:
        values = events(data)
    said = ""
    for value in values:
        for one in value["choices"][:1]:
            inner = one.get("delta") or one.get("message") or one
            said += inner.get("content") or inner.get("text") or ""
    return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def test_names():
    """
    Names are words joined by hyphens, and nobody else's.
    """
    named = [fault.name for module in MODULES for fault in module.FAULTS]
    twice = [name for name, count in collections.Counter(named).items() if count > 1]
    assert not twice
    odd = [n for n in named if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", n)]
    assert not odd


@pytest.mark.parametrize("column", ["does", "right"])
def test_words(column):
    """
    What happens and what is right are one sentence each: a cell of a table.
    """
    for fault in FAULTS.values():
        said = getattr(fault, column)
        assert re.fullmatch(r"[A-Z].*\.", said), fault.name
        assert not re.search(r"\.['\"]? [A-Z]|\n|\|", said), fault.name
    assert all(fault.does.startswith("The server ") for fault in FAULTS.values())


@each_way
def test_answers(way):
    """
    Each fault has an answer for each way to ask, and the same one each time.
    """
    for name in FAULTS:
        data = sent(name, way)
        assert bool(data) is (name not in EMPTY), name
        assert data == sent(name, way) or "date" in name, name


def outside(name, way):
    """
    All that tells one answer from another.
    """
    answer = FAULTS[name].answer(REQUESTS[way])
    steps = tuple(itertools.islice(answer.body, STEPS))
    return answer.status, tuple(headers(name, way)), steps, answer.end


def test_odd():
    """
    No fault is a right stream, and none is another one under a new name.
    """
    ways = ("chat", "plain")
    right = tuple(
        (200, (_parts.content_type(asked),), tuple(_parts.body(asked)), "finish")
        for asked in (REQUESTS[way] for way in ways)
    )
    known = {}
    for name in FAULTS:
        # A status alone comes with the first of the bodies; what is huge begins as what
        # is endless.
        if not re.search("^status-|-huge$", name):
            answers = tuple(outside(name, way) for way in ways)
            assert answers[0] != right[0], name
            assert known.setdefault(answers, name) == name


@each_way
def test_whole(way):
    """
    Where nothing is to be lost the whole text is there.
    """
    sure = re.compile("Gives the whole text(?!, or)")
    whole = [name for name, fault in FAULTS.items() if sure.match(fault.right)]
    assert len(whole) > 60
    for name in whole:
        data = decoded(
            sent(name, way), dict(headers(name, way)).get("content-encoding")
        )
        assert text_of(data) == OTHER_TEXTS.get(name, _parts.TEXT), name


@pytest.mark.parametrize("way", ["chat", "text"])
def test_three_pieces(way):
    """
    Where a client is to keep three pieces they have been sent, one by one.
    """
    begun = b"".join(_parts.start(REQUESTS[way]))
    kept = [name for name in FAULTS if "three pieces" in FAULTS[name].right]
    assert len(kept) > 30
    for name in kept:
        data = sent(name, way)
        if dict(headers(name, way)).get("content-encoding") == "gzip":
            data = zlib.decompressobj(31).decompress(data, len(begun))
        assert data.startswith(begun), name


@pytest.mark.parametrize("way", ["chat", "plain"])
def test_endless(way):
    """
    What never ends goes on after any number of steps.
    """
    for name, fault in FAULTS.items():
        if re.search(r"endless|flood", name):
            body = fault.answer(REQUESTS[way]).body
            assert next(itertools.islice(body, 1000, None), None), name


def test_refusals_have_their_status():
    """
    A status in a name is the status that is sent.
    """
    for name, fault in FAULTS.items():
        answer = fault.answer(REQUESTS["plain"])
        named = re.search(r"-(\d\d\d)$", name)
        if named and fault.group in ("refusals", "waits"):
            assert answer.status == int(named[1]), name
        if fault.group in ("events", "bodies", "encodings", "stream errors"):
            assert answer.status == 200, name


@pytest.mark.parametrize("status", ["", "-429", "-500", "-503"])
def test_the_key_comes_back(status):
    assert KEY.encode() in sent(f"refusal-echo-of-key{status}", "chat")
    assert sent("refusal-echo-in-head", "chat").count(KEY.encode()) == 2


def test_dates_to_come():
    """
    All forms of a date say the same moment, between one and two seconds away.
    """
    forms = ("date", "date-rfc850", "date-asctime", "date-no-zone")
    now = time.time()
    for form in forms:
        ((_, value),) = [
            pair
            for pair in headers(f"retry-after-{form}", "chat")
            if "retry" in pair[0]
        ]
        zoned = value if value.endswith("GMT") else f"{value} GMT"
        then = parsedate_to_datetime(zoned).timestamp()
        assert 0.9 < then - now < 5, value


def test_uncommon_encodings():
    """
    Brotli (RFC 7932) and Zstandard (RFC 8878) as their own programs write and read them.
    """
    brotli = b"".join(_encodings.brotli([b"one", b" two"]))
    assert brotli == b"\x20\x00\x10one\x18\x00\x08 two\x03"
    zstd = b"".join(_encodings.zstd([b"one", b" two"]))
    assert zstd == (
        b"\x28\xb5\x2f\xfd\x00\x50\x18\x00\x00one\x20\x00\x00 two\x01\x00\x00"
    )


def test_bomb():
    """
    A few hundred kilobytes become more than anybody takes.
    """
    body = FAULTS["gzip-bomb"].answer(REQUESTS["plain"]).body
    packed = list(itertools.islice(body, 500))
    size = sum(map(len, packed))
    unpacked = len(zlib.decompressobj(31).decompress(b"".join(packed)))
    assert unpacked > 500 * size
