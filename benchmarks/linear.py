"""
Whether time grows with what a server sends, and no faster: ``python -m benchmarks.linear``.

Each row is a shape that a hostile or broken server may send, in sizes that double. The
exponent is fitted to the times: 1 is linear, 2 quadratic. The exit status is 1 where one
is clearly above 1.
"""

import gc
import json
import math
import platform
import sys
import time

import attrs

from horay_async._chunks import CHAT
from horay_async._codec import describe, loads
from horay_async._errors import APIError
from horay_async._intake import Intake, feed_tokens
from horay_async._policy import parse_duration, retry_after
from horay_async._secrets import redacted
from horay_async._sse import SSEDecoder
from horay_async._values import Meta


DOUBLINGS = 5
ROUNDS = 3

SMALLEST = 64 * 1024
"""
Bytes of the first size; enough for a clock that ticks in microseconds.
"""

COPYING = 4e-9
"""
Seconds a byte: what takes less is memory being copied, and the caches have their say.
"""

CLEARLY = 1.3
"""
An exponent above it is no noise.
"""

BLOCK = 64 * 1024


@attrs.frozen
class Shape:
    """
    A kind of input, of any size, and who has to read it.
    """

    name: str

    blocks: object
    """
    Makes the blocks of about so many bytes.
    """

    read: object

    smallest: int = SMALLEST


# Readers -----------------------------------------------------------------------------


def decode(blocks):
    """
    Only the events.
    """
    decoder = SSEDecoder()
    for block in blocks:
        decoder.feed(block)
    decoder.flush()


def take(blocks, **options):
    """
    A stream's whole intake: tokens, the verdict, the reply and what an error would carry.
    """
    intake = Intake(feed=feed_tokens, **options)
    try:
        for block in blocks:
            intake.take(block)
        intake.end()
    except APIError as error:
        str(error)
    intake.assembly.partial()
    try:
        CHAT.reply(intake.assembly.body(chat=True), Meta())
    except APIError as error:
        str(error)


def take_many(blocks):
    """
    As many choices as were sent.
    """
    take(blocks, n=len(blocks))


def take_whole(blocks):
    """
    Something else in place of a stream.
    """
    take(blocks, streamed=None)


def refuse(blocks):
    """
    The error that a body is.
    """
    body = redacted(b"".join(blocks), "sk-a-key-of-the-user")
    describe(body, status=502, content_type="text/html")
    describe(body, status=400)


def load(blocks):
    """
    JSON that may be none.
    """
    try:
        loads(b"".join(blocks))
    except ValueError as error:
        str(error)


def wait(blocks):
    """
    A header that asks to wait.
    """
    text = b"".join(blocks).decode()
    parse_duration(text)
    retry_after({"retry-after": text, "retry-after-ms": text}, now=0.0)


# Blocks ------------------------------------------------------------------------------


def blocks(whole, size=BLOCK):
    """
    The bytes as the network brings them.
    """
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def again(piece, size=BLOCK, *, before=b"", after=b""):
    """
    The same bytes over and over.
    """
    return lambda total: blocks(before + piece * (total // len(piece)) + after, size)


def event(choice, index=0):
    """
    One chunk of one choice.
    """
    return (
        b"data: %b\n\n"
        % json.dumps(
            {"choices": [{"index": index, **choice}]}, separators=(",", ":")
        ).encode()
    )


def said(text):
    """
    A piece of content.
    """
    return event({"delta": {"content": text}})


def call(**fragment):
    """
    A fragment of a tool call.
    """
    return event({"delta": {"tool_calls": [fragment]}})


def numbered(make):
    """
    Events that differ in a number.
    """

    def some(total):
        count = total // len(make(1000))
        return blocks(b"".join(make(number) for number in range(count)))

    return some


def in_one_chunk(make):
    """
    All in the list of one event.
    """

    def one(total):
        count = total // len(json.dumps(make(1000)))
        choices = json.dumps([make(number) for number in range(count)])
        return blocks(b'data: {"choices":%b}\n\n' % choices.encode())

    return one


def each_its_choice(total):
    """
    One event for each of many choices, as one block each.
    """
    count = total // 60
    return [
        event({"delta": {"content": "a"}, "finish_reason": "stop"}, number)
        for number in range(count)
    ]


def named(number):
    """
    The arguments of one call of many, told by its id alone.
    """
    return call(id=f"call_{number}", function={"name": "sea", "arguments": "{}"})


ODD = b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
ODD += b'data: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n'

LOGPROBS = {"content": [{"token": "a", "logprob": -1.0}]}

FRAGMENT = {"arguments": "abc "}

SHAPES = (
    Shape("one line without an end", again(b"x", before=b"data: "), decode, 1 << 18),
    Shape("one line, 16 bytes at a time", again(b"x", 16, before=b"data: "), decode),
    Shape("one event of many data lines", again(b"data: x\n"), decode),
    Shape("one event, a data line at a time", again(b"data: x\n", 8), decode),
    Shape("ordinary events, byte by byte", again(said("sea"), 1), decode),
    Shape("many tiny events", again(b"data\n\n"), decode),
    Shape("CR flood", again(b"\r"), decode),
    Shape("CR flood, byte by byte", again(b"\r", 1), decode),
    Shape("CRLF cut in its middle", again(b"\ndata: x\r\n\r", before=b"\r"), decode),
    Shape("CRLF, each cut in its middle", again(b"\ndata: x\r", 9), decode),
    Shape("comment flood", again(b":\n"), decode),
    Shape("comment flood, byte by byte", again(b":\n", 1), decode),
    Shape("one comment without an end", again(b"x", 64, before=b":"), decode, 1 << 18),
    Shape("flood of unknown lines", again(b"x\n"), decode),
    Shape("unknown lines of 1 KiB", again(b"x" * 1023 + b"\n"), decode),
    Shape("names of events", again(b"event: x\n"), decode),
    Shape("ordinary tokens", again(said("sea")), take),
    Shape("ordinary tokens, byte by byte", again(said("sea"), 1), take),
    Shape("tokens without an end of the stream", again(said(" ")), take),
    Shape("bare errors that are none", again(b'{"a":1}\n'), take),
    Shape("events that are no JSON", again(b"data: : x\n\n"), take),
    Shape("halves of characters", again(ODD), take),
    Shape("reasoning", again(event({"delta": {"reasoning": "hm"}})), take),
    Shape("refusals", again(event({"delta": {"refusal": "no"}})), take),
    Shape("logprobs", again(event({"delta": {}, "logprobs": LOGPROBS})), take),
    Shape("unknown lists that grow", again(event({"delta": {"x": [1, 2]}})), take),
    Shape(
        "unknown fields",
        numbered(lambda at: event({"delta": {f"x{at}": at}, f"y{at}": 1})),
        take,
    ),
    Shape("many choices, an event each", each_its_choice, take_many),
    Shape(
        "many choices in one chunk",
        in_one_chunk(lambda at: {"index": at, "delta": {"content": "a"}}),
        lambda sent: take(sent, n=1000),
    ),
    Shape(
        "one call, fragment by fragment", again(call(index=0, function=FRAGMENT)), take
    ),
    Shape("fragments without an index", again(call(function=FRAGMENT)), take),
    Shape(
        "fragments that repeat the name",
        again(call(function={"name": "sea", "arguments": "abc "})),
        take,
    ),
    Shape(
        "fragments that repeat the name, each like an end",
        again(
            call(function={"name": "sea", "arguments": "abc}"}),
            before=call(function={"name": "sea", "arguments": '{"a":"'}),
        ),
        take,
    ),
    Shape(
        "fragments that repeat id and name",
        again(call(id="a", function={"name": "sea", "arguments": "abc "})),
        take,
    ),
    Shape(
        "many calls by index",
        numbered(lambda at: call(index=at, id=f"c{at}", function={"name": "sea"})),
        take,
    ),
    Shape("many calls by id alone", numbered(named), take),
    Shape(
        "many calls under one index",
        numbered(lambda at: call(index=0, id=f"c{at}", function={"name": "sea"})),
        take,
    ),
    Shape(
        "a thousand calls in turn, by id alone",
        numbered(lambda at: named(at % 1000)),
        take,
        1 << 17,
    ),
    Shape(
        "the function call of old",
        again(event({"delta": {"function_call": FRAGMENT}})),
        take,
    ),
    Shape("a reply instead, byte by byte", again(b" ", 1, before=b"{"), take_whole),
    Shape("blanks before anything", again(b" ", 16), take_whole),
    Shape("nested lists", again(b"["), load, 1 << 20),
    Shape("nested objects", again(b'{"a":'), load, 1 << 20),
    Shape("a number without an end", again(b"9"), load, 1 << 18),
    Shape("numbers of 4,000 digits", again(b"9" * 4000 + b",", before=b"["), load),
    Shape("a string without an end", again(b"x", before=b'"'), load, 1 << 20),
    Shape("bytes that are no UTF-8", again(b"\xff"), load, 1 << 18),
    Shape("escapes", again(b"\\ud83d", before=b'"', after=b'"'), load),
    Shape("an error page", again(b"<p>Bad gateway</p>\n", before=b"<html>"), refuse),
    Shape("a page of titles", again(b"<title", before=b"<html>"), refuse),
    Shape("a page of scripts", again(b"<script>", before=b"<html>"), refuse),
    Shape("a page of <", again(b"<", before=b"<html>"), refuse),
    Shape("a page of &", again(b"&", before=b"<html>"), refuse),
    Shape(
        "a validation error of many complaints",
        again(b'{"loc":["a"],"msg":"no"},', before=b'{"detail":[', after=b"{}]}"),
        refuse,
    ),
    Shape(
        "an error with a long message",
        again(b"x", before=b'{"error":{"message":"', after=b'"}}'),
        refuse,
        1 << 18,
    ),
    Shape("an error that is one number", again(b"9"), refuse, 1 << 18),
    Shape("a wait of many digits", again(b"1"), wait),
    Shape("a wait of many parts", again(b"1h"), wait, 1 << 18),
    Shape("a wait of many blanks", again(b" "), wait),
)


# Measuring ---------------------------------------------------------------------------


def measure(shape):
    """
    The largest size, its seconds, and the exponent.
    """
    points = []
    for doubling in range(DOUBLINGS):
        sent = shape.blocks(shape.smallest << doubling)
        best = math.inf
        for _ in range(ROUNDS):
            # As timeit does: the collector looks at all that there is whenever it likes.
            gc.collect()
            gc.disable()
            began = time.process_time()
            shape.read(sent)
            best = min(best, time.process_time() - began)
            gc.enable()
        points.append((sum(map(len, sent)), best))
    return *points[-1], slope(points)


def slope(points):
    """
    The exponent of a power law through the points, by least squares of the logarithms.
    """
    xs = [math.log(size) for size, _ in points]
    ys = [math.log(max(seconds, size * COPYING)) for size, seconds in points]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    over = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return over / sum((a - x) ** 2 for a in xs)


def main():
    """
    Print a Markdown table.
    """
    names = sys.argv[1:]
    sys.stdout.write(
        f"CPython {platform.python_version()}, {platform.machine()}; sizes double"
        f" {DOUBLINGS - 1} times, best of {ROUNDS} rounds\n\n"
        "| shape | bytes | ms | ns/byte | exponent |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
    )
    worst = 0.0
    for shape in SHAPES:
        if names and not any(name in shape.name for name in names):
            continue
        size, seconds, exponent = measure(shape)
        worst = max(worst, exponent)
        sys.stdout.write(
            f"| {shape.name} | {size:,} | {seconds * 1e3:,.1f}"
            f" | {seconds / size * 1e9:,.1f} | {exponent:.2f} |\n"
        )
        sys.stdout.flush()
    sys.exit(worst > CLEARLY)


if __name__ == "__main__":
    main()
