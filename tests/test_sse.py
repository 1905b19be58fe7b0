"""
The rules of WHATWG HTML, 9.2.6, in bytes, at every cut.
"""

import itertools

import attrs
import pytest

from hypothesis import given
from hypothesis import strategies as st

from horay_async._sse import Event, SSEDecoder


# name: (body, the events); flush gives nothing
RULES = {
    "lf": (b"data: a\n\n", [Event(b"a")]),
    "cr": (b"data: a\r\r", [Event(b"a")]),
    "crlf": (b"data: a\r\n\r\n", [Event(b"a")]),
    "crlf inside an event": (b"data: a\r\ndata: b\r\n\r\n", [Event(b"a\nb")]),
    "mixed newlines": (
        b"data: a\n\r\ndata: b\r\n\rdata: c\r\n\n",
        [Event(b"a"), Event(b"b"), Event(b"c")],
    ),
    "lf then cr are two newlines": (
        b"data: a\n\rdata: b\n\n",
        [Event(b"a"), Event(b"b")],
    ),
    "several events": (b"data: a\n\ndata: b\n\n", [Event(b"a"), Event(b"b")]),
    "empty body": (b"", []),
    "only blank lines": (b"\n\r\n\r\n", []),
    "blank lines between": (
        b"\n\ndata: a\n\n\n\n\ndata: b\n\n",
        [Event(b"a"), Event(b"b")],
    ),
    "no space after the colon": (b'data:{"a":1}\n\n', [Event(b'{"a":1}')]),
    "one space is dropped": (b"data:  a \n\n", [Event(b" a ")]),
    "a tab is no space": (b"data:\ta\n\n", [Event(b"\ta")]),
    "only the first colon counts": (b"data: a:b: c\n\n", [Event(b"a:b: c")]),
    "several data lines": (b"data: a\ndata:b\ndata: c\n\n", [Event(b"a\nb\nc")]),
    "field without colon": (b"data\n\n", [Event(b"")]),
    "lone data field": (b"data:\n\n", [Event(b"")]),
    "lone data field with space": (b"data: \n\n", [Event(b"")]),
    "two empty data lines": (b"data\ndata\n\n", [Event(b"\n")]),
    "empty data line between": (b"data: a\ndata\ndata: b\n\n", [Event(b"a\n\nb")]),
    "the standard's three blocks": (
        b"data\n\ndata\ndata\n\ndata:",
        [Event(b""), Event(b"\n")],
    ),
    "fields are case-sensitive": (b"Data: a\nDATA: b\n\n", []),
    "a space before the field": (b" data: a\n\n", []),
    "a space after the field": (b"data : a\n\n", []),
    "field with something after it": (b"datax: a\n\n", []),
    "comment": (b": ping\n\n", []),
    "bare colon": (b":\n\n:\n", []),
    "comment inside an event": (b"data: a\n: x\ndata: b\n\n", [Event(b"a\nb")]),
    "comment that looks like data": (b":data: a\n\n", []),
    "comment wrapped in data": (b"data: : PING\n\n", [Event(b": PING")]),
    "unknown field inside an event": (
        b"data: a\nfoo: x\nbar\ndata: b\n\n",
        [Event(b"a\nb")],
    ),
    "event": (b"event: error\ndata: a\n\n", [Event(b"a", "error")]),
    "event after data": (b"data: a\nevent: x\n\n", [Event(b"a", "x")]),
    "the last event field counts": (
        b"event: x\nevent: y\ndata: a\n\n",
        [Event(b"a", "y")],
    ),
    "an empty event field unsets": (b"event: x\nevent\ndata: a\n\n", [Event(b"a")]),
    "event is reset after dispatch": (
        b"event: x\ndata: a\n\ndata: b\n\n",
        [Event(b"a", "x"), Event(b"b")],
    ),
    "event is reset by a block without data": (
        b"event: x\n\ndata: a\n\n",
        [Event(b"a")],
    ),
    "event of half a character": (b"event: \xe2\x82\ndata: a\n\n", [Event(b"a", "�")]),
    "id": (b"id: 1\ndata: a\n\n", [Event(b"a", "", "1")]),
    "id persists": (
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\n\ndata: c\n\n",
        [Event(b"a", "", "1"), Event(b"b", "", "1"), Event(b"c", "", "2")],
    ),
    "an empty id unsets": (
        b"id: 1\ndata: a\n\nid\ndata: b\n\n",
        [Event(b"a", "", "1"), Event(b"b")],
    ),
    "an id with NUL is ignored": (
        b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
        [Event(b"a", "", "1"), Event(b"b", "", "1")],
    ),
    "id without data": (b"id: 7\n\n: ping\n\n", []),
    "retry": (b"retry: 3000\n\n", []),
    "bom": (b"\xef\xbb\xbfdata: a\n\n", [Event(b"a")]),
    "bom once": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    "bom not at the start": (b"\n\xef\xbb\xbfdata: a\n\n", []),
    "bom in the data": (b"data: \xef\xbb\xbfa\n\n", [Event(b"\xef\xbb\xbfa")]),
    "most of a bom": (b"\xef\xbbdata: a\n\ndata: b\n\n", [Event(b"b")]),
    "bom and cr": (b"\xef\xbb\xbf\r\ndata: a\r\n\r\n", [Event(b"a")]),
    "other line separators are text": (
        "data: a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n\n".encode(),
        [Event("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg".encode())],
    ),
    "NUL in the data": (b"data: a\0b\n\n", [Event(b"a\0b")]),
    "every length of character": (
        "data: aé€😀\n\n".encode(),
        [Event("aé€😀".encode())],
    ),
    "bytes that are no UTF-8": (b"data: \xff\xfe\n\n", [Event(b"\xff\xfe")]),
    "end inside a crlf of the blank line": (b"data: a\r\n\r", [Event(b"a")]),
    "end without data": (b"event: x\nid: 1", []),
    "end inside a bom": (b"\xef\xbb", []),
    "end in a field's name": (b"data: a\n\ndat", [Event(b"a")]),
}

# name: (body, the events, what flush gives)
UNFINISHED = {
    "end without blank line": (b"data: [DONE]\n", [], Event(b"[DONE]")),
    "end without newline": (
        b"data: a\n\ndata: [DONE]",
        [Event(b"a")],
        Event(b"[DONE]"),
    ),
    "end after one cr": (b"data: a\r\n\r\ndata: b\r", [Event(b"a")], Event(b"b")),
    "end with name and id": (
        b"id: 1\nevent: x\ndata: a\ndata: b",
        [],
        Event(b"a\nb", "x", "1"),
    ),
}


@attrs.define
class Reading:
    """
    All that can be read from a body.
    """

    events: list = attrs.field(factory=list)
    unfinished: Event | None = None
    last_event_id: str = ""
    retry: int | None = None
    comments: int = 0
    bare: list = attrs.field(factory=list)


def read(*chunks):
    """
    What the decoder makes of the chunks.
    """
    decoder = SSEDecoder()
    got = Reading()
    for chunk in chunks:
        got.events += decoder.feed(chunk)
    got.unfinished = decoder.flush()
    got.last_event_id = decoder.last_event_id
    got.retry = decoder.retry
    got.comments = decoder.comments
    got.bare = lines_of(decoder)
    return got


def lines_of(decoder):
    """
    What may be an error.
    """
    return [line for _, line in decoder.bare]


def reference(body):  # noqa: C901, PLR0912 -- the steps of the standard stand together
    """
    The same, written for eyes: the standard's steps, one line at a time.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    *lines, rest = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    got = Reading()
    data, name, last = b"", "", ""
    for number, line in enumerate([*lines, rest]):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                data += value + b"\n"
            case b"event":
                name = value.decode(errors="replace")
            case b"id":
                if b"\0" not in value:
                    last = value.decode(errors="replace")
            case b"retry":
                if value and all(byte in b"0123456789" for byte in value):
                    got.retry = int(value)
            case b"":
                got.comments += bool(line)
            case _:
                is_json = len(line) > 10 and line[:1] + line.rstrip()[-1:] == b"{}"
                if is_json or line.startswith(b"error:"):
                    got.bare.append(line)
        event = Event(data.removesuffix(b"\n"), name, last)
        if number == len(lines):
            got.unfinished = event if event.data else None
        elif not line:
            got.last_event_id = last
            if data:
                got.events.append(event)
            data, name = b"", ""
    return got


@pytest.fixture(params=RULES | UNFINISHED)
def rule(request):
    """
    A body, its events, and what is left at its end.
    """
    if request.param in UNFINISHED:
        return UNFINISHED[request.param]
    return *RULES[request.param], None


def test_whole(rule):
    """
    Every rule of the standard.
    """
    body, events, unfinished = rule
    got = read(body)
    assert (got.events, got.unfinished) == (events, unfinished)


def test_reference(rule):
    """
    The reference of these tests keeps the same rules.
    """
    body, events, unfinished = rule
    got = reference(body)
    assert (got.events, got.unfinished) == (events, unfinished)


def test_cut_in_two(rule):
    """
    Where the network cuts the bytes does not change what we read.
    """
    body, *_ = rule
    whole = read(body)
    for cut in range(len(body) + 1):
        assert read(body[:cut], body[cut:]) == whole, cut


def test_cut_in_three(rule):
    """
    Nor do two cuts.
    """
    body, *_ = rule
    whole = read(body)
    cuts = range(min(len(body), 40) + 1)
    for one, two in itertools.combinations_with_replacement(cuts, 2):
        assert read(body[:one], body[one:two], body[two:]) == whole, (one, two)


def test_byte_by_byte(rule):
    """
    Nor does a cut after every byte, with empty chunks between.
    """
    body, *_ = rule
    chunks = [body[i : i + 1] for i in range(len(body))]
    assert read(*chunks) == read(body)
    assert read(*(c for chunk in chunks for c in (chunk, b""))) == read(body)


def test_events_come_at_once():
    """
    A CR ends the line at once: waiting for an LF would hold back the last token.
    """
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [Event(b"a")]
    assert decoder.feed(b"\ndata: b\r\r") == [Event(b"b")]
    assert decoder.feed(b"data: c\n") == []
    assert decoder.feed(b"\n") == [Event(b"c")]


@pytest.mark.parametrize(
    ("value", "retry"),
    [
        (b"3000", 3000),
        (b"007", 7),
        (b"0", 0),
        (b"", 5),
        (b"-1", 5),
        (b"+1", 5),
        (b"1.5", 5),
        (b"1_000", 5),
        (b" 1", 5),
        (b"1 ", 5),
        (b"1s", 5),
        ("\u0661".encode(), 5),  # a digit, but not an ASCII one
        (b"9" * 5000, 5),  # int() would raise
    ],
)
def test_retry(value, retry):
    """
    Only ASCII digits set the reconnection time.
    """
    assert read(b"retry:5\nretry: " + value + b"\n").retry == retry


def test_comments_are_counted():
    """
    Each comment line, as soon as it ends.
    """
    decoder = SSEDecoder()
    decoder.feed(b": OPENROUTER PROCESSING\n")
    assert decoder.comments == 1
    decoder.feed(b":\r")
    assert decoder.comments == 2
    decoder.feed(b"\ndata: : a\n\n: unfinished")
    assert decoder.comments == 2


def test_last_event_id():
    """
    An id holds from the blank line on; an unfinished block leaves the old one.
    """
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\ndata: a\n")
    assert decoder.last_event_id == ""
    decoder.feed(b"\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"id: 2\n\n")
    assert decoder.last_event_id == "2"
    decoder.feed(b"id: 3\ndata: b\n")
    assert decoder.flush() == Event(b"b", "", "3")
    assert decoder.last_event_id == "2"


def test_id_in_an_earlier_chunk():
    """
    An id whose events come with later chunks, in every number.
    """
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\n")
    two = [Event(b"a", "", "1"), Event(b"b", "", "1")]
    assert decoder.feed(b"data: a\n\ndata: b\n\n") == two
    assert decoder.last_event_id == "1"
    assert decoder.feed(b"data: a\n\ndata: b\n\n") == two
    assert decoder.feed(b"data: b\n\n") == two[1:]
    assert decoder.last_event_id == "1"


def test_flush_leaves_nothing():
    """
    A second flush has nothing to give.
    """
    decoder = SSEDecoder()
    decoder.feed(b"event: x\ndata: a\ndata: b")
    assert decoder.flush() == Event(b"a\nb", "x")
    assert decoder.flush() is None


def test_bare_errors():
    """
    What servers put beside the protocol is ignored, but what may be an error can be looked
    at, in its place.
    """
    decoder = SSEDecoder()
    assert decoder.feed(b'data: a\n\nerror: {"code":500}\n\n') == [Event(b"a")]
    assert list(decoder.bare) == [(1, b'error: {"code":500}')]
    decoder.bare.clear()
    assert decoder.feed(b'x\n{"error": {\r\n"message": "x"}}\n{"error": 1}') == []
    assert decoder.flush() is None
    assert list(decoder.bare) == [(0, b'{"error": 1}')]
    assert read(b"\xef\xbb").bare == []


def test_nothing_else_is_kept():
    """
    Neither what the standard ignores nor what it does not know.
    """
    assert read(b"id: \0\nretry: x\n: c\nevent\nx\n{}\n\n").bare == []


PIECES = st.sampled_from(
    [
        *(b"\n", b"\r", b"\r\n", b"\n\n", b":", b" ", b"\0", b"x", b"1"),
        *(b"data", b"data: ", b"data:", b"event: ", b"id: ", b"retry: ", b"foo"),
        *(b"data: x\n\n", b"data: y\n\ndata: z\n\n", b"\n\ndata: ", b": ping\n\n"),
        *(b"error:", b'{"error": 1}'),
        *(b"\xef\xbb\xbf", b"\xef", b"\xbb", "é€😀\u2028\x85".encode(), b"\xff"),
    ]
)
BODIES = st.lists(PIECES, max_size=25).map(b"".join) | st.binary(max_size=60)


@given(BODIES, st.data())
def test_like_the_reference(body, data):
    """
    Any bytes at any cuts, and after every chunk: as the reference reads what has come.
    """
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=6).map(sorted))
    decoder = SSEDecoder()
    events = []
    for start, end in itertools.pairwise([0, *cuts, len(body)]):
        events += decoder.feed(body[start:end])
        so_far = body[:end]
        # The reference reads an unfinished line as flush would: leave it out.
        ended = max(so_far.rfind(b"\n"), so_far.rfind(b"\r")) + 1
        want = reference(so_far[:ended])
        assert events == want.events
        assert decoder.last_event_id == want.last_event_id
        assert decoder.comments == want.comments
        assert decoder.retry == want.retry
        assert lines_of(decoder) == want.bare
    want = reference(body)
    assert decoder.flush() == want.unfinished
    assert lines_of(decoder) == want.bare
