"""
Fan-outs: a server with a limit on `n`, and answers that say which seed they had.
"""

import asyncio

import attrs

from horay_async import COMPATIBLE, HORAY, AsyncHoray, ChatRequest, Range, user
from horay_async.emulator import Answer


PATIENCE = 10
"""
Seconds that a test waits for an event before it fails.
"""

HANG = {"end": "hang", "done": False}
"""
A stream that falls silent for ever.
"""

MODEL = HORAY.chat.model

CHAT = ChatRequest(messages=[user("Hello, you.")])


def limited(high):
    """
    A service that documents a limit on `n`.
    """
    limits = {"n": Range(1, high)}
    return attrs.evolve(
        COMPATIBLE,
        chat=attrs.evolve(COMPATIBLE.chat, model=MODEL, limits=limits),
        completions=attrs.evolve(COMPATIBLE.completions, model=MODEL, limits=limits),
    )


def connect(emulator, high=None, **options):
    """
    A client of a service that gives at most *high* choices a call.
    """
    options = {"service": limited(high), "api_key": "key", "max_retries": 0} | options
    return AsyncHoray(base_url=emulator.base_url, **options)


def asked(emulator, *names):
    """
    What the requests asked for, by these fields.
    """
    return sorted(
        tuple(seen.json.get(name) for name in names) for seen in emulator.requests
    )


def whole(*texts, numbered=True, **usage):
    """
    A plain answer with a choice for each text.
    """
    choices = [
        {"message": {"content": text}, "text": text, "finish_reason": "stop"}
        | ({"index": at} if numbered else {})
        for at, text in enumerate(texts)
    ]
    usage = usage or {"prompt_tokens": 3, "completion_tokens": len(texts)}
    return {"id": "c", "choices": choices, "usage": usage}


def seeded(request, most=1000):
    """
    Choices that say their prompt and which seed they came of; at most so many of them.
    """
    seed, n = request.json["seed"], request.json.get("n", 1)
    prompt = request.json.get("prompt", "")
    return [f"{prompt}{seed + at}" for at in range(min(n, most))]


def numbered(request):
    """
    An answer of such choices.
    """
    return Answer.json(whole(*seeded(request)))


def sparing(most):
    """
    A server that gives fewer choices than it is asked for.
    """
    return lambda request: Answer.json(whole(*seeded(request, most)))


def said(index, text, finish="stop"):
    """
    A piece of one choice, for chats and texts; its last one unless told otherwise.
    """
    delta = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "c", "choices": [delta | {"text": text}]}


def streamed(*texts, **options):
    """
    A stream of whole choices.
    """
    return Answer.sse(*[said(*one) for one in enumerate(texts)], **options)


def sparing_stream(most):
    """
    The same in streams.
    """
    return lambda request: streamed(*seeded(request, most))


def refusing(most, error, status=400):
    """
    A server that refuses to give more choices than so many, in its words.
    """

    def answer(request):
        if request.json.get("n", 1) > most:
            return Answer.json(error, status)
        if request.json.get("stream"):
            return streamed(*seeded(request))
        return numbered(request)

    return answer


def assert_over(client):
    """
    No call is left, and no lease.
    """
    ours = ("_make", "judge")
    assert [one for one in asyncio.all_tasks() if one.get_coro().__name__ in ours] == []
    assert client._line.governor.snapshot() == {}
