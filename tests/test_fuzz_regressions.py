"""
What the fuzzer has found, each as a plain test.
"""

import asyncio
import copy
import pickle

import pytest

from fuzzing.events import sse
from fuzzing.flows import Case
from fuzzing.promises import HEAD, Options
from fuzzing.targets import TARGETS
from fuzzing.virtual import VirtualLoop, discard
from fuzzing.wires import HANG
from horay_async import HORAY, AsyncHoray
from horay_async._codec import chat_reply, describe, loads, status_error_of
from horay_async._errors import APIError, StreamAbortedError
from horay_async._events import AttemptStarted, CallEnded
from horay_async._policy import parse_duration, rate_limits, retry_after
from horay_async._refusals import facts_of_text
from horay_async._timeouts import Timeouts
from horay_async._tool_calls import ToolCalls
from horay_async._values import Meta, user
from loopback import head, once, serve
from streams import read, wire


SAID = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'

PORTABLE = (repr, pickle.dumps, copy.deepcopy)

NESTED = {
    "lists": (b"[", b"]"),
    "objects": (b'{"a":', b"}"),
}


@pytest.mark.parametrize("levels", [60, 98, 300, 480, 600, 1020])
@pytest.mark.parametrize(("left", "right"), NESTED.values(), ids=NESTED)
def test_nested_answers(levels, left, right):
    """
    What can be read can be printed, pickled, copied and dumped: the rest is refused.
    """
    deep = left * levels + b"1" + right * levels
    reply = b'{"choices":[{"message":{"content":"a"}}],"x":%b}' % deep
    if levels > 98:
        with pytest.raises(ValueError, match="nested"):
            loads(reply)
        return
    value = chat_reply(loads(reply), Meta())
    for use in (*PORTABLE, lambda value: value.to_json(exclude_none=True)):
        use(value)


@pytest.mark.parametrize("levels", [300, 600, 1020])
def test_nested_errors(levels):
    """
    An error goes to another process, whatever its body is.
    """
    body = b'{"error":{"message":"m","x":%b}}' % (b"[" * levels + b"]" * levels)
    facts = describe(body, status=400)
    error = status_error_of(facts, status=400, in_stream=False)
    for use in PORTABLE:
        use(error)
    told = read(b"data: %b\n\n" % body)
    assert issubclass(told.error, APIError)


def test_half_a_chunk():
    """
    The text that an error carries is the text that was handed out.
    """
    both = '{"choices":[{"index":0,"delta":{"content":"pq"}},{"delta":"x"}]}'
    told = read(wire(both))
    assert told.body["choices"][0]["message"]["content"] == told.text


BARE = b'error: {"code":503,"message":"m"}\n\n'

AFTER = {
    "nonsense": wire("nonsense"),
    "many unknown lines": b"x\n" * 65 + SAID,
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_bare_error_at_every_cut(after):
    """
    A line `error: {...}` means the same, whatever came with it in one block.
    """
    whole = read(BARE + after)
    for cut in range(len(BARE + after)):
        assert read((BARE + after)[:cut], (BARE + after)[cut:]) == whole


def on_virtual_loop(main):
    """
    Run it where no wait takes time.
    """
    loop = VirtualLoop()
    try:
        loop.run(main(loop))
    finally:
        discard(loop)


def test_closed_before_its_first_turn():
    """
    A stream that was closed before anything was sent sends nothing.
    """

    async def closed(loop):
        case = Case(loop, Options(bytes(HEAD)), SAID)
        reading = asyncio.ensure_future(anext(aiter(case.stream)))
        await asyncio.sleep(0)
        case.stream.close()
        with pytest.raises(StreamAbortedError):
            await reading
        assert case.network.exchanges == 0
        assert not any(isinstance(one, AttemptStarted) for one in case.events)

    on_virtual_loop(closed)


@pytest.mark.parametrize("blank", ["\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2003"])
def test_odd_blanks_in_headers(blank):
    """
    What only some functions take for white space makes no wait, and no error.
    """
    text = f"{blank}250{blank}"
    for wait in (
        parse_duration(text),
        retry_after({"retry-after": text, "retry-after-ms": text}, now=0.0),
        rate_limits({"x-ratelimit-reset-tokens": text}).reset_tokens,
    ):
        assert wait in (None, 0.25, 250)


async def test_odd_content_type():
    """
    An error that quotes a header of any bytes can be printed.
    """
    odd = head("Content-Type: text/e\xff\u20ac", "Connection: close").decode()
    answer = odd.encode("latin-1", "replace") + b"nonsense"
    async with (
        serve(once(answer, then=lambda peer: peer.close())) as server,
        AsyncHoray(
            service=HORAY,
            base_url=server.url,
            api_key="key-of-the-tests",
            max_retries=0,
        ) as client,
    ):
        with pytest.raises(APIError) as caught:
            await client.chat.completions.create(messages=[user("hello")], model="m")
    str(caught.value).encode()
    for name, value in caught.value.response.headers.items():
        (name + value).encode()


PIECES = {
    "plain": ("{", "abc "),
    "each like an end": ('{"a":"', "abc}"),
    "escaped quotes": ('{"a":"', '\\"}'),
}


@pytest.mark.parametrize(("first", "piece"), PIECES.values(), ids=PIECES)
def test_repeated_names(first, piece):
    """
    Fragments that repeat the name belong to one call as long as it is not whole.

    (Each cost as much as all before it; `benchmarks.linear` says what they cost now.)
    """
    calls = ToolCalls()
    calls.add({"function": {"name": "sea", "arguments": first}})
    for _ in range(2000):
        calls.add({"function": {"name": "sea", "arguments": piece}})
    (call,) = calls.values()
    assert call.function.arguments == first + 2000 * piece


def test_one_error():
    """
    A deadline that comes while a refusal's body hangs: what is raised is what is told.
    """

    async def refused(loop):
        case = Case(loop, Options(bytes(HEAD)), b"")
        case.timeouts, case.retries = Timeouts(first_token=None, deadline=5.0), 0
        case.network.scripts[:] = [{**case.network.scripts[-1], "status": 500}]
        case.network.scripts[0]["steps"] = [b"oops", HANG]
        with pytest.raises(APIError) as caught:
            async with case.stream:
                pass
        assert caught.value is case.stream.error
        assert isinstance(case.events[-1], CallEnded)

    on_virtual_loop(refused)


@pytest.mark.parametrize("tag", ["<script>", "<title", "<style ", "<head>", "<", "&"])
def test_pages_of_tags(tag):
    """
    A page that closes nothing is read in one go. (It took a quarter of a second.)
    """
    page = "<html>" + tag * (20_000 // len(tag))
    assert facts_of_text(page, content_type="text/html", status=502).message


def test_inputs():
    """
    Inputs as they were found, by the target that found them.
    """
    for name, data in FOUND:
        TARGETS[name].check(bytes(HEAD) + data)
        TARGETS[name].close()


FOUND = (
    ("headers", b"retry-after: \x1d250"),
    ("codec", b"[" * 600 + b"]" * 600),
    ("stream", b'data: {"error":' + b"[" * 500 + b"]" * 500 + b"}\n\n"),
    ("sse", b"\r\ndata: a\r\n\r"),
)


def test_closed_in_the_turn_in_which_it_failed():
    """
    A connection that breaks while the stream is being closed: one end, one error.
    """
    TARGETS["stream"].check(
        bytes.fromhex("066bd035207764c92e93f85d7ec2278c") + b"id: .\xe4"
    )
    TARGETS["stream"].close()


def test_every_cut_of_a_short_stream():
    """
    The decoder's target at every ceiling that it chooses from.
    """
    for ceiling in range(7):
        sse(bytes([ceiling]).ljust(HEAD, b"\0") + SAID + b"id: 7\r\n\rdata\n: x\n")


@pytest.mark.parametrize("length", [31, 32, 33])
@pytest.mark.parametrize("cut", [30, 31, 32, 33, 34])
def test_a_long_first_word(length, cut):
    """
    Where the network cuts it does not tell whether it begins a stream.
    """
    body = b"R" * length + b": 2\n\nmore"
    whole = read(body, streamed=None)
    parts = read(body[:cut], body[cut:], streamed=None)
    assert (whole.error, whole.said) == (parts.error, parts.said)
