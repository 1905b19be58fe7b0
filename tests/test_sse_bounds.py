"""
What reading a body may cost: ceilings, memory, work.
"""

import itertools
import tracemalloc

import pytest

from hypothesis import given
from hypothesis import strategies as st

from horay_async import _sse
from horay_async._errors import EventTooLargeError
from horay_async._sse import Event, SSEDecoder


LIMIT = 20


def read(*chunks, limit=LIMIT):
    """
    The events of the chunks, and whether one was too large.
    """
    decoder = SSEDecoder(limit)
    events = []
    try:
        for chunk in chunks:
            events += decoder.feed(chunk)
        decoder.flush()
    except EventTooLargeError:
        return events, True
    return events, False


class TestTooLarge:
    """
    The lines of one event together may not exceed the limit.
    """

    @pytest.mark.parametrize(
        ("body", "events"),
        [
            (b"data: 0123456789abcde\n\n", []),
            (b"data: 0123456789abcde", []),
            (b": 0123456789abcdefghi\n\n", []),
            (b"foo: 0123456789abcdef\n\n", []),
            (b"data: a\ndata: b\ndata: c\n\n", []),
            (b"data: a\nevent: 1234567\n\n", []),
            (b"data: a\nid: 1234567890\n\n", []),
            (b"event: 1234567\ndata: a\n\n", []),
            (b"id: 1234567890\ndata: a\n\n", []),
            (b"data:\ndata:\ndata:\ndata:\ndata:\n\n", []),
            (b"data: ok\n\ndata: 0123456789abcde\n\n", [Event(b"ok")]),
            (b"data: ok\r\n\r\ndata: 0123456789abcde", [Event(b"ok")]),
            (b"data: a\n\ndata: b\n\n" + b"x" * 21, [Event(b"a"), Event(b"b")]),
        ],
    )
    def test_raises(self, body, events):
        """
        Whatever the line is and wherever it is cut; what came before is not lost.
        """
        want = (events, True)
        assert read(body) == want
        assert read(*(bytes([b]) for b in body)) == want
        for cut in range(len(body) + 1):
            assert read(body[:cut], body[cut:]) == want, cut

    @pytest.mark.parametrize(
        "body",
        [
            b"data: 0123456789abcd\n\n" * 3,
            b"data: 0123456789abcd\r\n\r\n",
            b": 0123456789abcdefgh\n" * 3 + b"\n",
            b"data: a\n" + b": ping\n" * 9 + b"data: b\n\n",
            b"\n" * 100,
            b"retry: 1\n" * 9,
        ],
    )
    def test_at_the_limit(self, body):
        """
        A line of exactly the limit passes, and lines that leave nothing do not add up.
        """
        assert read(body)[1] is False
        assert read(*(bytes([b]) for b in body))[1] is False

    def test_the_error_says_the_limit(self):
        """
        To a reader and to a program.
        """
        with pytest.raises(EventTooLargeError, match="longer than 20 bytes") as raised:
            SSEDecoder(LIMIT).feed(b"x" * 21)
        assert raised.value.limit == LIMIT

    def test_raises_again(self):
        """
        What follows cannot be told apart, so nothing more is read.
        """
        decoder = SSEDecoder(LIMIT)
        assert decoder.feed(b"data: a\n\n" + b"x" * 21) == [Event(b"a")]
        with pytest.raises(EventTooLargeError):
            decoder.feed(b"\n\ndata: b\n\n")
        with pytest.raises(EventTooLargeError):
            decoder.feed(b"data: b\n\n")
        with pytest.raises(EventTooLargeError):
            decoder.flush()

    @pytest.mark.parametrize("chunk", [b"x" * 4096, b"data:\r\n" * 700])
    def test_memory(self, chunk):
        """
        An endless line, or event, is given up before it takes more than the limit.
        """
        limit = 1024 * 1024
        chunks = itertools.repeat(chunk, 2 * limit // len(chunk))
        tracemalloc.start()
        try:
            assert read(*chunks, limit=limit) == ([], True)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1.5 * limit


class Counting(bytearray):
    """
    Counts the bytes that go in and out.
    """

    moved = 0

    def __iadd__(self, other):
        Counting.moved += len(other)
        return super().__iadd__(other)

    def __bytes__(self):
        Counting.moved += len(self)
        return bytes(memoryview(self))


@pytest.mark.parametrize("size", [1000, 100_000])
def test_linear_in_a_line(size, monkeypatch):
    """
    A line that comes byte by byte is copied in once and out once.
    """
    monkeypatch.setattr(_sse, "bytearray", Counting, raising=False)
    monkeypatch.setattr(Counting, "moved", 0)
    body = b"data: " + b"x" * size + b"\n\n"
    events, _ = read(*(body[i : i + 1] for i in range(len(body))), limit=len(body))
    assert events == [Event(b"x" * size)]
    assert size < Counting.moved < 2 * size + 20


@pytest.mark.parametrize("lines", [100, 10_000])
def test_linear_in_lines(lines, monkeypatch):
    """
    So are the data lines of one event.
    """
    monkeypatch.setattr(_sse, "bytearray", Counting, raising=False)
    monkeypatch.setattr(Counting, "moved", 0)
    events, _ = read(*[b"data: x\n"] * lines, b"\n", limit=9 * lines)
    assert events == [Event(b"\n".join([b"x"] * lines))]
    assert lines < Counting.moved < 5 * lines


PIECES = st.sampled_from(
    [b"\n", b"\r", b":", b"x", b"data: xx\n\n", b"data: x", b"event: x", b"id: x\n"]
)


@given(st.lists(PIECES, max_size=20).map(b"".join), st.integers(0, 30), st.data())
def test_cuts_do_not_matter(body, limit, data):
    """
    What is too large whole is too large in parts, and the same events come before it.
    """
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=6).map(sorted))
    chunks = [body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)])]
    assert read(*chunks, limit=limit) == read(body, limit=limit)
