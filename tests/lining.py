"""
A line to a server, as to Horay, and what its hook heard.
"""

import contextlib

import attrs

from horay_async._codec import chat_reply
from horay_async._events import CallEnded
from horay_async._governor import Governor
from horay_async._line import Line
from horay_async._requests import ChatRequest
from horay_async._services import HORAY
from horay_async._session import Session
from horay_async._settings import Settings, own_headers
from horay_async._timeouts import Timeouts
from horay_async._values import Secret, user


KEY = "sk-of/the-tests"

CLOCKS = Timeouts(deadline=5)

CHAT = ChatRequest(messages=[user("hello")], model="m")


def whole(text="all", **fields):
    """
    A plain answer.
    """
    only = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return {"id": "c", "choices": [only], **fields}


@contextlib.asynccontextmanager
async def lining(base_url):
    """
    A line to a server; closed in the end, when every lease must be back.
    """
    events = []
    settings = Settings(
        service=HORAY,
        base_url=base_url,
        key=Secret(KEY),
        timeouts=CLOCKS,
        max_retries=0,
        hook=events.append,
    )
    session = Session(base_url=base_url, headers=own_headers(settings.key))
    line = Line(settings=settings, session=session, governor=Governor())
    try:
        yield line
    finally:
        await session.close()
    assert line.governor.snapshot() == {}


def changed(line, **settings):
    """
    The same line with other settings.
    """
    return attrs.evolve(line, settings=attrs.evolve(line.settings, **settings))


async def ask(line, request=CHAT, **fields):
    """
    A plain chat; its reply.
    """
    request = request.evolve(**fields)
    return (await line.send(request, CLOCKS, chat_reply, chat=True))[0]


def last(line):
    """
    How the last call ended, as the hook heard it.
    """
    event = line.settings.hook.__self__[-1]
    assert isinstance(event, CallEnded)
    return event
