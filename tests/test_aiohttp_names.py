"""
The private names of aiohttp's that the client stands on: a release that takes one away, or
gives it another name, is told of here, by that name.
"""

import asyncio

from unittest import mock

import aiohttp
import pytest

from aiohttp.http_parser import HttpResponseParserPy

from horay_async.emulator import Answer


NAMES = {
    "_body": [
        "response._cache",
        "response._headers",
        "response._raw_cookie_headers",
        "response._raw_headers",
        "content._buffer",
        "content._read_nowait",
        "content._waiter",
    ],
    "_connector": [
        "connection._protocol",
        "connector._acquired",
        "connector._close",
        "connector._closed",
        "connector._conns",
        "connector._create_connection",
        "connector._factory",
        "connector._get",
        "connector._loop",
        "connector._waiters",
        "response._closed",
        "response._connection",
        "response._loop",
        "session._retry_connection",
    ],
    "_protocol": [
        "parser._lines",
        "parser._tail",
        "protocol._buffer",
        "protocol._parser",
        "protocol._payload",
        "protocol._reading_paused",
        "protocol._should_close",
    ],
    "_session": ["session._loop"],
}
"""
By the room that needs them.
"""


@pytest.mark.loop("plain")
async def test_aiohttp_has_the_names(emulator):
    """
    All of them, on objects in the middle of an answer that none of ours has touched.
    """
    emulator.script(Answer.chat("word", end="hang", finish=None, done=False))
    url = f"{emulator.base_url}/chat/completions"
    asked = {"model": "m", "messages": [], "stream": True}
    loop = asyncio.get_running_loop()
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.post(url, json=asked) as response,
    ):
        things = {
            "session": session,
            "connector": session.connector,
            "connection": response.connection,
            "protocol": response.connection.protocol,
            "response": response,
            "content": response.content,
            "parser": HttpResponseParserPy(mock.Mock(), loop, 1 << 16),
        }
        gone = [
            f"{name}, for {room}"
            for room, names in NAMES.items()
            for name in names
            if not hasattr(things[name.partition(".")[0]], name.partition(".")[2])
        ]
    assert gone == []
