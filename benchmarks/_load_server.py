"""
A server under load, in a process of its own: every byte is made beforehand.

It answers each chat completion alike, after a service time; it may have so many slots and a
queue, or refuse by one of the limits that servers have. What it saw is told by a path of its
own. `running()` starts one; `Load` says what kind.
"""

import asyncio
import contextlib
import json
import math
import subprocess
import sys
import time
import urllib.request

from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks._load_answers import (
    REFUSED,
    STREAM,
    limits_told,
    plain,
    streamed,
    whole,
)


HOUSE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Load:
    """
    One kind of server. Times are in seconds.
    """

    service: float = 0.1
    """
    From the request to the answer; of a stream to its first token.
    """

    slots: int | None = None
    """
    How many are served at once; the rest wait in a queue.
    """

    rate: float | None = None
    """
    Requests a second, by a bucket that holds `burst` of them.
    """

    burst: int = 1

    window: float | None = None
    """
    So long are the windows of which each admits `limit` requests.
    """

    limit: int = 0

    at_once: int | None = None
    """
    Who comes while so many are served is refused.
    """

    outage: tuple[float, float] | None = None
    """
    All are refused from here to there; 0 is when the first request comes.
    """

    status: int = 429
    """
    Of an answer in the outage.
    """

    retry_after: bool = True
    """
    Whether refusals say when to come again, in whole seconds.
    """

    headers: bool = False
    """
    Whether answers say by `x-ratelimit-*` what is left of `rate` or `limit`.
    """

    tokens: int = 8
    """
    Of a streamed answer.
    """

    pace: float = 0.0
    """
    Between two of its tokens.
    """


# Limits ------------------------------------------------------------------------------


class Bucket:
    """
    So many a second, and so many at once after a while of none.
    """

    def __init__(self, rate, burst, now):
        self.rate, self.burst = rate, burst
        self.left, self.seen = float(burst), now

    def wait(self, now):
        """
        Take one, or say how long to wait for it.
        """
        gained = (now - self.seen) * self.rate
        self.left, self.seen = min(self.burst, self.left + gained), now
        # What is missing by an error of rounding is there.
        if self.left < 1 - 1e-9:
            return (1 - self.left) / self.rate
        self.left -= 1
        return 0.0

    def told(self, _):
        """
        The limit, what is left of it, and when all of it is back.
        """
        return self.burst, int(self.left), (self.burst - self.left) / self.rate


class Windows:
    """
    So many in each window, which all begin anew together.
    """

    def __init__(self, limit, seconds, now):
        self.limit, self.seconds = limit, seconds
        self.begun, self.left = now, limit

    def wait(self, now):
        """
        Take one, or say how long to wait for it.
        """
        past = int((now - self.begun) / self.seconds)
        if past:
            self.begun += past * self.seconds
            self.left = self.limit
        if not self.left:
            return self.begun + self.seconds - now
        self.left -= 1
        return 0.0

    def told(self, now):
        """
        The limit, what is left of it, and when all of it is back.
        """
        return self.limit, self.left, self.begun + self.seconds - now


# The server --------------------------------------------------------------------------


class Server:
    """
    What all connections share.
    """

    def __init__(self, load):
        self.connections = set()
        self.begin(load)

    def begin(self, load):
        """
        Count from 0, with full buckets.
        """
        self.load = load
        self.plain, self.streamed = plain(load.tokens), streamed(load.tokens)
        self.requests = self.answered = self.refused = self.left = 0
        self.in_flight = self.peak = 0
        self.most_connections = len(self.connections)
        self.begun = self.limit = None
        self.serving = 0
        self.queue = deque()

    def counts(self):
        """
        What it saw since it began.
        """
        names = "requests", "answered", "refused", "left", "in_flight", "peak"
        counts = {name: getattr(self, name) for name in names}
        # Without the one that asks.
        counts["connections"] = len(self.connections) - 1
        return counts | {"most_connections": self.most_connections}

    def came(self, visit):
        """
        Refuse it, serve it, or let it wait.
        """
        self.requests += 1
        if (refusal := self._refusal()) is not None:
            self.refused += 1
            visit.write(refusal)
            return
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        if self.load.slots is not None and self.serving >= self.load.slots:
            self.queue.append(visit)
            visit.waits = True
        else:
            self.serve(visit)

    def _refusal(self):
        load, now = self.load, time.monotonic()
        if self.begun is None:
            self.begun = now
            if load.rate is not None:
                self.limit = Bucket(load.rate, load.burst, now)
            elif load.window is not None:
                self.limit = Windows(load.limit, load.window, now)
        if load.outage is not None:
            since, until = load.outage
            if since <= now - self.begun < until:
                return self._no(self.begun + until - now)
        if load.at_once is not None and self.in_flight >= load.at_once:
            return self._no(load.service)
        if self.limit is not None and (wait := self.limit.wait(now)):
            return self._no(wait)
        return None

    def _no(self, wait):
        extra = f"retry-after: {math.ceil(wait)}\r\n" if self.load.retry_after else ""
        outage = self.load.outage is not None
        return b"".join(whole(self.load.status if outage else 429, REFUSED, extra))

    def serve(self, visit):
        """
        It has a slot.
        """
        self.serving += 1
        visit.serves = True
        loop = asyncio.get_running_loop()
        visit.timer = loop.call_later(self.load.service, self.answer, visit)

    def answer(self, visit):
        """
        Its time is over.
        """
        extra = b""
        if self.load.headers and self.limit is not None:
            extra = limits_told(self.limit.told(time.monotonic()))
        if visit.stream:
            self.send(visit, 0, STREAM + extra + b"\r\n")
            return
        head, content = self.plain
        visit.write(head + extra + content)
        self.over(visit)

    def send(self, visit, at, head=b""):
        """
        A token, and the next one later.
        """
        last = len(self.streamed) - 1
        if not self.load.pace:
            visit.write(head + b"".join(self.streamed))
            at = last
        else:
            visit.write(head + self.streamed[at])
        if at < last:
            loop = asyncio.get_running_loop()
            visit.timer = loop.call_later(self.load.pace, self.send, visit, at + 1)
        else:
            self.over(visit)

    def over(self, visit):
        """
        It has its answer.
        """
        self.answered += 1
        visit.timer = None
        self.free(visit)
        visit.next()

    def free(self, visit):
        """
        Its slot is the next one's.
        """
        self.in_flight -= 1
        self.serving -= 1
        visit.serves = False
        if self.queue:
            self.serve(self.queue.popleft())

    def gone(self, visit):
        """
        Whoever asked has left.
        """
        self.connections.discard(visit)
        if visit.timer is not None:
            visit.timer.cancel()
        if visit.serves:
            self.left += 1
            self.free(visit)
        elif visit in self.queue:
            self.left += 1
            self.in_flight -= 1
            self.queue.remove(visit)

    def control(self, path, body):
        """
        What our own side asks: what was seen, or another kind of server.
        """
        counts = self.counts()
        if path == b"/begin":
            self.begin(Load(**json.loads(body)))
        return b"".join(whole(200, counts))


class Visit(asyncio.Protocol):
    """
    One connection: one request at a time.
    """

    def __init__(self, server):
        self.server = server
        self.buffer = b""
        self.stream = self.serves = False
        self.timer = None

    def connection_made(self, transport):
        """
        Somebody comes.
        """
        self.transport = transport
        self.write = transport.write
        server = self.server
        server.connections.add(self)
        server.most_connections = max(server.most_connections, len(server.connections))

    def data_received(self, data):
        """
        Some of a request, as a rule all of it.
        """
        self.buffer += data
        if not self.serves:
            self.next()

    def next(self):
        """
        Take the next request, where it is there.
        """
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = 0
        at = head.lower().find(b"content-length:")
        if at >= 0:
            length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        body, self.buffer = rest[:length], rest[length:]
        path = head.split(b" ", 2)[1]
        if path in (b"/counts", b"/begin"):
            self.write(self.server.control(path, body))
            return
        self.stream = b'"stream":true' in body or b'"stream": true' in body
        self.server.came(self)

    def connection_lost(self, _):
        """
        Somebody leaves.
        """
        self.server.gone(self)


async def main():
    """
    Serve until stdin ends.
    """
    loop = asyncio.get_running_loop()
    server = Server(Load())
    listening = await loop.create_server(
        lambda: Visit(server), "127.0.0.1", 0, backlog=4096
    )
    port = listening.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}", flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await lines.read()


# The other side ----------------------------------------------------------------------


class LoadServer:
    """
    The process, for those who ask it.
    """

    def __init__(self, url):
        self._url = url
        self.base_url = f"{url}/v1"

    def begin(self, load):
        """
        Be this kind of server from now on, and count from 0.
        """
        self._ask("begin", json.dumps(asdict(load)).encode())

    def counts(self):
        """
        What it saw since.
        """
        return self._ask("counts")

    def _ask(self, what, body=None):
        with urllib.request.urlopen(f"{self._url}/{what}", body) as answer:  # noqa: S310
            return json.load(answer)


@contextlib.contextmanager
def running(load=None, **changes):
    """
    A server for the time of a block.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks._load_server"],
        cwd=HOUSE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            server = LoadServer(process.stdout.readline().strip())
            server.begin(replace(load or Load(), **changes))
            yield server
        finally:
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(main())
