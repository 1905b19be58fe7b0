"""
The target `socket`: any bytes as the HTTP answer to a real client, over loopback.
"""

import asyncio
import json
import struct

from socket import SO_LINGER, SOL_SOCKET

from horay_async import HORAY, AsyncHoray, Timeouts
from horay_async._errors import APIError

from .promises import HEAD, Broken, Options, check_error, check_value, promise
from .seeds import REPLY


RIGHT = json.dumps({**REPLY, "id": "right"}).encode()
RIGHT = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(RIGHT), RIGHT)

CLOCKS = Timeouts(connect=2, first_token=0.5, stall=0.5, silence=0.5, deadline=1)

PATIENCE = 10.0
"""
Seconds after which a call that has clocks of at most one second hangs.
"""

SAYS = {"messages": [{"role": "user", "content": "hello"}], "model": "m"}

_house = None


def socket(data):
    """
    A call ends with an answer or an error of ours, and the next one is right.
    """
    global _house  # noqa: PLW0603 -- one client and one server for all inputs
    if _house is None:
        _house = House()
    try:
        _house.run(data)
    except BaseException:
        close()
        raise


def close():
    """
    End the server and the client, if there are any.
    """
    global _house
    house, _house = _house, None
    if house is not None:
        house.close()


class House:
    """
    A loop with a client and a server that writes what it is told to.
    """

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.complaints = []
        self.loop.set_exception_handler(
            lambda _, context: self.complaints.append(
                context.get("exception") or context["message"]
            )
        )
        self.loop.run_until_complete(self._open())

    async def _open(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.client = AsyncHoray(
            service=HORAY,
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key="key-of-the-fuzzer",
            timeouts=CLOCKS,
            max_retries=0,
        )
        self.answers = []
        self.tasks = set()

    def close(self):
        """
        Nothing is left open.
        """
        self.loop.run_until_complete(self._close())
        self.loop.close()

    async def _close(self):
        await self.client.close()
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*list(self.tasks), return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            while await _request(reader):
                blocks, ending = (
                    self.answers.pop(0) if self.answers else ([RIGHT], "keep")
                )
                for block in blocks:
                    writer.write(block)
                    await asyncio.sleep(0)
                if ending == "reset":
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(
                        SOL_SOCKET, SO_LINGER, linger
                    )
                    writer.transport.abort()
                if ending != "keep":
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()

    def run(self, data):
        """
        One answer, and the one after it.
        """
        options = Options(data)
        wire = data[HEAD:]
        if options.number(3) == 0 and not wire.startswith(b"HTTP/"):
            wire = b"HTTP/1.1 200 OK\r\n" + wire
        blocks = options.cut(wire, options.pick((0, 0, 1, 2)))
        # What is kept may wait for one of the clocks: that is slow.
        ending = options.pick(("close",) * 29 + ("reset",) * 2 + ("keep",))
        self.answers[:] = [(blocks, ending)]
        call = CALLS[options.number(len(CALLS))]
        try:
            self.loop.run_until_complete(asyncio.wait_for(self._both(call), PATIENCE))
        except TimeoutError as error:
            msg = "a hang: the call never ends"
            raise Broken(msg) from error
        promise(not self.complaints, "the loop complains", self.complaints)

    async def _both(self, call):
        client = self.client
        try:
            await call(client)
        except APIError as error:
            check_error(error)
        self.answers.clear()
        # A refusal has closed the gate, as it should; here nobody waits for it to open.
        client._line.governor._gates.clear()
        answer = await client.chat.completions.create(**SAYS)
        promise(answer.id == "right", "the wrong answer to the next call", answer)
        gates = client._line.governor.snapshot().values()
        promise(not any(one.in_flight for one in gates), "a lease is left", gates)


async def _request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 :].split(b"\r\n")[0]))
    return True


async def _plain(client):
    check_value(await client.chat.completions.create(**SAYS))


async def _models(client):
    check_value(await client.models.list())


async def _stream(client):
    async with client.chat.completions.stream(**SAYS) as stream:
        async for _ in stream:
            pass
    check_value(stream.reply)


async def _left(client):
    async with client.chat.completions.stream(**SAYS, n=2) as stream:
        async for _ in stream:
            break


CALLS = (_plain, _models, _stream, _stream, _stream, _left)
