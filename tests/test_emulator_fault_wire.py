"""
What the faults of connections and framing send, read by h11, which is no friend of ours.
"""

import asyncio
import re

import attrs
import h11
import pytest

from dialling import BOUND, CHAT, dial, request
from horay_async.emulator import FAULTS


# What is sent of an answer before it goes wrong: nothing, a head, part of it, or all.
NOTHING, HEAD, PART, ALL = None, "", "one tw", "one two three"


def rows(verdict, end, text, *names):
    return dict.fromkeys(names, (verdict, end, text))


# The verdict of h11 (whole: a right answer; waits: for more; cut: by the end of the
# connection; malformed), how the connection ends, and the text that came.
SENT = {
    **rows("cut", "reset", NOTHING, "reset-before-headers", "reset-in-headers"),
    **rows("cut", "close", NOTHING, "close-before-headers", "close-in-headers"),
    **rows("waits", "open", NOTHING, "hang-before-headers", "hang-in-headers"),
    **rows("cut", "reset", HEAD, "reset-after-headers"),
    **rows("cut", "close", HEAD, "close-after-headers"),
    **rows("waits", "open", HEAD, "hang-after-headers", "pings-for-ever"),
    **rows("cut", "reset", PART, "reset-mid-chunk", "reset-mid-stream"),
    **rows("cut", "close", PART, "close-mid-chunk", "close-mid-stream"),
    **rows("cut", "close", PART, "truncated-length"),
    **rows("waits", "open", PART, "hang-mid-chunk", "hang-mid-event"),
    **rows("waits", "open", PART, "hang-mid-stream", "slow-body"),
    **rows("waits", "open", ALL, "hang-after-finish", "hang-after-done"),
    **rows("cut", "reset", ALL, "reset-after-done"),
    **rows("cut", "close", ALL, "close-after-done", "truncated-chunked"),
    **rows("waits", "open", NOTHING, "slow-headers", "continue-100-endless"),
    **rows("whole", "open", ALL, "one-byte-at-a-time", "stale-reset", "cookie"),
    **rows("whole", "open", ALL, "stray-bytes", "stray-bytes-late", "excess-length"),
    **rows("whole", "open", ALL, "stray-answers-endless"),
    **rows("whole", "close", ALL, "stale-connection", "http-1.0"),
    **rows("whole", "open", ALL, "chunk-extension", "trailers", "no-reason-phrase"),
    **rows("whole", "open", ALL, "header-folded", "header-latin1", "lf-only-head"),
    **rows("whole", "open", ALL, "continue-100", "continue-100-many"),
    **rows("whole", "open", ALL, "processing-102", "early-hints-103"),
    **rows("whole", "open", ALL, "length-and-chunked", "wrong-http-version"),
    **rows("whole", "open", HEAD, "empty-body", "empty-stream"),
    **rows("malformed", "open", NOTHING, "two-lengths", "bad-length"),
    **rows("malformed", "open", NOTHING, "negative-length", "huge-length"),
    **rows("malformed", "open", NOTHING, "malformed-status-line"),
    **rows("malformed", "open", NOTHING, "status-line-garbage", "status-1000"),
    **rows("malformed", "open", NOTHING, "status-not-a-number", "status-99"),
    **rows("malformed", "open", NOTHING, "status-line-endless", "http-2-preface"),
    **rows("malformed", "close", NOTHING, "tls-instead"),
    **rows("malformed", "open", NOTHING, "header-without-colon", "header-with-nul"),
    **rows("malformed", "open", NOTHING, "header-empty-name", "header-huge"),
    **rows("malformed", "open", NOTHING, "header-space-before-colon"),
    **rows("malformed", "open", NOTHING, "headers-many", "headers-endless"),
    **rows("malformed", "open", PART, "bad-chunk-size", "negative-chunk-size"),
    **rows("malformed", "open", PART, "chunk-size-endless", "missing-chunk-crlf"),
    **rows("waits", "open", PART, "huge-chunk-size"),
    **rows("malformed", "open", PART, "chunk-extension-flood"),
    **rows("malformed", "open", ALL, "trailers-endless"),
    **rows("malformed", "open", NOTHING, "switching-101"),
    "pings-mid-stream": ("waits", "open", HEAD),
}

# Answers in order, of another status.
STATUSES = {
    "no-content-204": 204,
    "reset-content-205": 205,
    "not-modified-304": 304,
    "early-413": 413,
    "early-413-reset": 413,
} | dict.fromkeys((name for name in FAULTS if name.startswith("redirect-")), 307)
STATUSES |= {f"redirect-{status}": status for status in (301, 302, 303, 307, 308)}

# These have tests of their own: the answer is not in the request's shape, or there is none.
APART = {"early-200-close", "http-0.9", "refused"}
APART |= {"reset-at-accept", "close-at-accept", "hang-at-accept"}

MODES = {
    "stream": ("/v1/chat/completions", CHAT | {"stream": True}),
    "text": ("/v1/completions", {"model": "m", "prompt": "x", "stream": True}),
    "plain": ("/v1/chat/completions", CHAT),
    "plain text": ("/v1/completions", {"model": "m", "prompt": "x"}),
}

OK = b"HTTP/1.1 200 OK\r\n"

SETTLED = 0.1
"""
Seconds for which what is as it should be must stay so.
"""

LARGEST = 200_000
"""
What is read of an answer that does not end.
"""


@attrs.define
class Heard:
    """
    An answer, as far as it has come.
    """

    verdict: str = "waits"

    end: str = "open"

    body: bytes = b""

    size: int = 0

    head: object = None

    parser: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.CLIENT))

    def __attrs_post_init__(self):
        head = h11.Request(method="POST", target="/", headers=[("host", "x")])
        self.parser.send(head)
        self.parser.send(h11.EndOfMessage())

    def feed(self, data):
        self.size += len(data)
        if self.verdict != "waits":
            return
        try:
            self.parser.receive_data(data)
            while self.verdict == "waits":
                event = self.parser.next_event()
                if event is h11.NEED_DATA:
                    break
                if isinstance(event, h11.EndOfMessage):
                    self.verdict = "whole"
                elif isinstance(event, h11.Response):
                    self.head = event
                elif isinstance(event, h11.Data):
                    self.body += event.data
                elif isinstance(event, h11.ConnectionClosed):
                    self.verdict = "cut"
        except h11.RemoteProtocolError:
            self.verdict = "malformed" if data else "cut"

    @property
    def text(self):
        """
        What was said, put together from the pieces; None before there is a head.
        """
        if self.head is None:
            return None
        pattern = rb'"(?:content|text)":"([^"]*)'
        return b"".join(re.findall(pattern, self.body)).decode()

    def fits(self, verdict, end, text):
        if (self.verdict, self.end) != (verdict, end) or (self.text is None) != (
            text is None
        ):
            return False
        return text is None or self.text.startswith(text)


async def hear(emulator, name, mode):
    """
    Ask for a fault, and listen until it is as it should be, or the patience ends.
    """
    path, body = MODES[mode]
    expected = SENT[name]
    heard = Heard()
    async with dial(emulator) as (reader, writer):
        asked = request(body, x_emulator_fault=name)
        writer.write(asked.replace(b"/v1/chat/completions", path.encode(), 1))
        fits = False
        try:
            async with asyncio.timeout(BOUND) as bound:
                while heard.end == "open" and heard.size < LARGEST:
                    if not fits and (fits := heard.fits(*expected)):
                        bound.reschedule(asyncio.get_running_loop().time() + SETTLED)
                    if not (data := await reader.read(1 << 14)):
                        heard.end = "close"
                    heard.feed(data)
        except ConnectionResetError:
            heard.end = "reset"
            heard.feed(b"")
        except TimeoutError:
            pass
    return heard


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_sent(emulator, mode):
    """
    All faults at once; the clients leave when they have heard enough, and nothing is left.
    """
    tasks = asyncio.all_tasks()
    answers = await asyncio.gather(*(hear(emulator, name, mode) for name in SENT))
    wrong = {
        name: (heard.verdict, heard.end, heard.text)
        for name, heard in zip(SENT, answers, strict=True)
        if not heard.fits(*SENT[name])
    }
    assert not wrong
    await emulator.wait_until_idle()
    await emulator.wait_until(lambda: emulator.open_connections == 0)
    assert asyncio.all_tasks() == tasks
    assert emulator.struck == dict.fromkeys(SENT, 1)


@pytest.mark.parametrize("name", STATUSES)
async def test_other_statuses(emulator, name):
    heard = await hear_status(emulator, name)
    assert heard.head.status_code == STATUSES[name]
    location = dict(heard.head.headers).get(b"location", b"").decode()
    places = {
        "other-host": "http://127.0.0.2:9/v1/chat/completions",
        "other-port": "http://x:9/v1/chat/completions",
        "loop": "/v1/chat/completions",
        "file": "file:///etc/passwd",
        "no-location": "",
    }
    if name.startswith("redirect-"):
        way = name.removeprefix("redirect-")
        assert location == places.get(way, "/v1/chat/completions/elsewhere")
    else:
        assert not location


async def hear_status(emulator, name):
    heard = Heard()
    async with dial(emulator) as (reader, writer), asyncio.timeout(BOUND):
        writer.write(request(CHAT, host="x:80", x_emulator_fault=name))
        try:
            while heard.head is None:
                heard.feed(await reader.read(1 << 14))
            while name == "early-413-reset":
                await reader.read()
        except ConnectionResetError:
            assert name == "early-413-reset"
    return heard


@pytest.mark.parametrize("streaming", [True, False])
async def test_early_200_close(emulator, streaming):
    """
    The answer takes the shape that the head asks for, and the body stays unread.
    """
    accept = "text/event-stream" if streaming else "application/json"
    emulator.script("early-200-close")
    heard = Heard()
    async with dial(emulator) as (reader, writer), asyncio.timeout(BOUND):
        writer.write(request(CHAT, accept=accept)[:-5])
        heard.feed(await reader.read())
    assert heard.verdict == "whole"
    assert dict(heard.head.headers)[b"content-type"].startswith(accept.encode())
    assert heard.text == "one two three"


@pytest.mark.parametrize("name", ["stray-bytes", "stray-bytes-late"])
async def test_strays(emulator, name):
    """
    The second answer is whole as well, so that it could be taken for the next.
    """
    emulator.script(name)
    heard = b""
    async with dial(emulator) as (reader, writer), asyncio.timeout(BOUND):
        writer.write(request(CHAT))
        while not (heard.count(OK) == 2 and heard.endswith(b"}}")):
            heard += await reader.read(1 << 14)
        await emulator.wait_until_idle()
    _, first, second = heard.split(OK)
    assert b"one two three" in first
    assert second == first.replace(b"three", b"stray")


async def test_stale_reset(emulator):
    """
    The connection is kept, no request is open, and the next one meets a reset.
    """
    emulator.script("stale-reset")
    async with dial(emulator) as (reader, writer), asyncio.timeout(BOUND):
        writer.write(request(CHAT))
        await reader.readuntil(b"}}")
        await emulator.wait_until_idle()
        assert emulator.open_connections == 1
        writer.write(request(CHAT))
        with pytest.raises(ConnectionResetError):
            await reader.read()
    assert [seen.fate for seen in emulator.requests] == ["finished"]
    await emulator.wait_until(lambda: emulator.open_connections == 0)


async def test_stale_for_a_client_that_keeps_nothing(emulator):
    emulator.script("stale-reset")
    async with dial(emulator) as (reader, writer), asyncio.timeout(BOUND):
        writer.write(request(CHAT, connection="close"))
        assert (await reader.read()).endswith(b"}}")


async def test_a_byte_at_a_time(emulator):
    """
    Each byte is a write of its own, and a head has about a hundred of them.
    """
    emulator.script("one-byte-at-a-time")
    reads = []
    async with dial(emulator) as (reader, writer), asyncio.timeout(BOUND):
        writer.write(request(CHAT))
        while not b"".join(reads).endswith(b"}}"):
            reads.append(await reader.read(1 << 14))
    assert len(reads) > 50


@pytest.mark.parametrize("mode", MODES)
async def test_no_head(emulator, mode):
    """
    HTTP/0.9 is a body and the end of the connection.
    """
    path, body = MODES[mode]
    emulator.script("http-0.9")
    async with dial(emulator) as (reader, writer), asyncio.timeout(BOUND):
        asked = request(body)
        writer.write(asked.replace(b"/v1/chat/completions", path.encode(), 1))
        heard = await reader.read()
    assert heard.startswith(b"data: {" if "stream" in body else b"{")
    assert heard.endswith(b"data: [DONE]\n\n" if "stream" in body else b"}")


def test_every_fault_is_here():
    ours = {
        name
        for name, fault in FAULTS.items()
        if fault.group in {"connections", "framing"}
    }
    assert ours == SENT.keys() | STATUSES.keys() | APART
