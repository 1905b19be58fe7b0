"""
What it costs to cut a body into events: ``python -m benchmarks.sse``.

Processor time an event, the best of several rounds. Read the rows as ratios: the first
is the least that any parser could do, one `split` over the whole.
"""

import platform
import sys
import time

from horay_async._sse import SSEDecoder


EVENTS = 20_000
ROUNDS = 7

# What aiohttp hands over at most by default.
BLOCK = 64 * 1024

EVENT = (
    b'data: {"id":"chatcmpl-0123456789","object":"chat.completion.chunk",'
    b'"created":1700000000,"model":"deepseek-v3.1","choices":[{"index":0,'
    b'"delta":{"content":" sea"},"finish_reason":null}]}\n\n'
)


def cut(body, size):
    """
    The body in chunks of *size* bytes.
    """
    return [body[start : start + size] for start in range(0, len(body), size)]


def decode(chunks):
    """
    Every event of the chunks, one chunk at a time.
    """
    decoder = SSEDecoder()
    return sum(len(decoder.feed(chunk)) for chunk in chunks)


def split_only(chunks):
    """
    The floor: no rule kept but the blank line.
    """
    return sum(len(chunk.split(b"\n\n")) for chunk in chunks)


def measure(work, chunks, events):
    """
    Microseconds an event.
    """
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        work(chunks)
        best = min(best, time.process_time() - start)
    return best / events * 1e6


def rows():
    """
    What is measured: name, work, chunks, events.
    """
    body = EVENT * EVENTS
    crlf = body.replace(b"\n", b"\r\n")
    named = (b"event: message\n" + EVENT) * EVENTS
    few = EVENTS // 50
    yield "split alone, blocks of 64 KiB", split_only, cut(body, BLOCK), EVENTS
    yield "blocks of 64 KiB", decode, cut(body, BLOCK), EVENTS
    yield "blocks of 64 KiB, CRLF", decode, cut(crlf, BLOCK), EVENTS
    yield "blocks of 64 KiB, named events", decode, cut(named, BLOCK), EVENTS
    yield "one event a feed", decode, [EVENT] * EVENTS, EVENTS
    yield "two feeds an event", decode, [EVENT[:60], EVENT[60:]] * EVENTS, EVENTS
    yield "byte by byte", decode, cut(EVENT * few, 1), few


def main():
    """
    Print a Markdown table.
    """
    machine = f"CPython {platform.python_version()}, {platform.machine()}"
    out = [
        f"{machine}; events of {len(EVENT)} bytes, best of {ROUNDS} rounds",
        "",
        "| fed | µs an event |",
        "| --- | ---: |",
    ]
    out += [
        f"| {name} | {measure(work, chunks, events):.2f} |"
        for name, work, chunks, events in rows()
    ]
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
