"""
A client that says what it is told to, byte for byte.
"""

import asyncio
import contextlib
import json


CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "one two"}]}
BOUND = 5


def url(server):
    return server.base_url + "/chat/completions"


def request(body, version="1.1", **headers):
    """
    A request as bytes.
    """
    data = json.dumps(body).encode()
    given = {"host": "x", "authorization": "Bearer key", "content-length": len(data)}
    given |= {"content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"POST /v1/chat/completions HTTP/{version}"]
    lines += [f"{name}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode() + data


@contextlib.asynccontextmanager
async def dial(server):
    """
    A plain connection.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)
