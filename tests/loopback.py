"""
Raw servers on loopback, every byte by hand, so that they can misbehave as they like.
"""

import asyncio
import contextlib
import socket
import struct
import threading

import attrs


PATIENCE = 5.0
"""
Seconds that a test waits for an event before it fails.
"""


@attrs.frozen
class Request:
    """
    What a client sent.
    """

    line: str

    headers: dict

    body: bytes


def answer(body=b"{}", *, status="200 OK", kind="application/json", headers=()):
    """
    A whole response with a length, on a connection that is kept.
    """
    head = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


def head(*headers, status="200 OK"):
    """
    The head of a response, up to the empty line.
    """
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


STREAM = head("Content-Type: text/event-stream", "Transfer-Encoding: chunked")


def chunk(data):
    """
    One chunk of a chunked body; of b"" it is the last one.
    """
    return b"%x\r\n%b\r\n" % (len(data), data)


class Peer:
    """
    One connection, seen from the server.
    """

    def __init__(self, server, reader, writer):
        self.server = server
        self.reader = reader
        self.writer = writer
        self.left = asyncio.Event()
        """
        Set when the client's end of the connection is closed.
        """

    async def request(self):
        """
        Read one request.
        """
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(lines[0], headers, body)
        self.server.requests.append(request)
        return request

    def send(self, *blocks):
        """
        Write bytes as they are.
        """
        self.writer.write(b"".join(blocks))

    async def gone(self):
        """
        Read until the client closes.
        """
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass
        self.left.set()

    def watch(self):
        """
        Notice in the background when the client closes.
        """
        self.server.tasks.add(asyncio.create_task(self.gone()))

    def close(self):
        """
        Send FIN, after all that was written.
        """
        self.writer.close()

    def reset(self):
        """
        Send RST.
        """
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Server:
    """
    A listening socket, and what came in.
    """

    def __init__(self, script):
        self._script = script
        self.peers = []
        self.requests = []
        self.tasks = set()
        self.port = 0

    @property
    def url(self):
        """
        The base URL of its API.
        """
        return f"http://127.0.0.1:{self.port}/v1"

    async def accept(self, reader, writer):
        """
        Let the script have the connection, until it ends or the client leaves.
        """
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        self.tasks.add(asyncio.current_task())
        try:
            await self._script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            peer.left.set()
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serve(script, **options):
    """
    A server that runs `await script(peer)` for each connection.
    """
    server = Server(script)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, **options)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in server.tasks:
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)


def always(reply):
    """
    A script that gives every request the same reply.
    """

    async def script(peer):
        while True:
            await peer.request()
            peer.send(reply)

    return script


def once(*blocks, then=None):
    """
    A script that answers one request, then calls `then(peer)`, or waits for the client to go.
    """

    async def script(peer):
        await peer.request()
        peer.send(*blocks)
        if then is None:
            await peer.gone()
        else:
            then(peer)

    return script


@contextlib.contextmanager
def threaded(reply, context=None):
    """
    The port of a server in a thread: it gives every request the same reply, and closes
    nothing before the end. For what outlives an event loop.
    """
    accepted = []

    def answer_all(sock):
        with contextlib.suppress(OSError):
            while sock.recv(1 << 16):
                sock.sendall(reply)

    def accept_all():
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                if context is not None:
                    sock = context.wrap_socket(sock, server_side=True)
                accepted.append(sock)
                threading.Thread(target=answer_all, args=[sock], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept_all, daemon=True).start()
        yield listener.getsockname()[1]
        # Closing alone does not wake a thread that waits in accept().
        listener.shutdown(socket.SHUT_RDWR)
    for sock in accepted:
        sock.close()


async def soon(awaitable):
    """
    Await what must come, for a bounded time.
    """
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def until(condition):
    """
    Turn the loop until something is true.
    """
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 -- nobody sets an event for it
            await asyncio.sleep(0)
