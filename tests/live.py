"""
A live emulator, and clients of it that are not ours.
"""

import http.client
import json

from contextlib import closing

import pytest

from horay_async.testing import LiveEmulator


@pytest.fixture
def server():
    """
    Started, and closed without a look at what is left of its script.
    """
    server = LiveEmulator()
    server.start()
    yield server
    server.close(check=False)


def connected(server):
    """
    A connection of the standard library's.
    """
    port = int(server.address.rpartition(":")[2])
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10))


def post(connection, text="Hello, you!", path="/v1/chat/completions", **fields):
    """
    Send a prompt: the response, with its head read.
    """
    said = {"prompt": text}
    if "/chat/" in path:
        said = {"messages": [{"role": "user", "content": text}]}
    body = json.dumps({"model": "gpt-4o-mini", **said, **fields})
    headers = {"authorization": "Bearer any", "content-type": "application/json"}
    connection.request("POST", path, body, headers)
    return connection.getresponse()


def asked(server, text="Hello, you!", **fields):
    """
    Ask on a connection of its own: the status, and the body as JSON.
    """
    with connected(server) as connection:
        response = post(connection, text, **fields)
        return response.status, json.load(response)


def events(response):
    """
    The events of a stream as JSON, to its end.
    """
    lines = response.read().decode().splitlines()
    data = [line.removeprefix("data: ") for line in lines if line]
    assert data[-1] == "[DONE]"
    return [json.loads(line) for line in data[:-1]]
