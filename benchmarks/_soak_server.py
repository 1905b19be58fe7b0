"""
The server of `benchmarks.soak`: an emulator with random faults, in a process of its own.

It prints its URL, then answers each line on stdin with a line of JSON, until stdin ends:
`state` says what it holds, `log` which requests have come since it was last asked.
"""

import asyncio
import json
import sys

from benchmarks._soak_gauges import descriptors, resident
from horay_async.emulator import FAULTS, Emulator
from horay_async.emulator.faults import UNTELLABLE


MODELS = [f"soak-{number}" for number in range(50)]
"""
Many, because calls of one model share a gate, which a 429 closes for all of them.
"""

MARKER = "x-soak"
"""
The header by which both sides speak of a prompt. Some faults strike before its body came.
"""


def shares(total):
    """
    How often each fault strikes, in all as often as *total*. Large ones come a tenth as
    often, or both processes would do little else; what no client can tell is left out, as
    it would be counted as a mixed-up answer.
    """
    weights = {
        name: 0.1 if fault.large else 1.0
        for name, fault in FAULTS.items()
        if name != UNTELLABLE
    }
    all_of_them = sum(weights.values())
    return {name: total * weight / all_of_them for name, weight in weights.items()}


class Server(Emulator):
    """
    An emulator that notes who asked.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.log = []

    def arrived(self, request):
        """
        Note it; which fault it gets is decided after this.
        """
        super().arrived(request)
        self.log.append(request)

    def state(self):
        """
        What it holds open.
        """
        # Its own task, and the one that reads stdin.
        return {
            "connections": self.open_connections,
            "accepted": self.connections,
            "requests": len(self.open_requests),
            "tasks": len(asyncio.all_tasks()) - 1,
            "descriptors": descriptors(),
            "resident": resident(),
            "struck": sum(self.struck.values()),
            "faults": len(self.struck),
            "errors": [repr(error) for error in self.errors],
        }

    def news(self):
        """
        The requests since the last time: marker and fault.
        """
        log, self.log = self.log, []
        return [(request.headers.get(MARKER), request.fault) for request in log]


async def main(share, seed, patience):
    """
    Serve until stdin ends.
    """
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    server = Server(
        mode="echo",
        models=MODELS,
        faults=shares(share),
        seed=seed,
        # The longest answers take some forty percent of the time that a call has.
        time_to_first_token=patience / 80,
        tokens_per_second=80 / patience,
        keep_requests=1000,
    )
    async with server:
        print(server.base_url, flush=True)
        while question := await lines.readline():
            answer = server.state() if question == b"state\n" else server.news()
            print(json.dumps(answer), flush=True)
        # Its errors have been told.
        server.errors.clear()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
