"""
Races: a server that answers each prompt in its own way, and what may be left when one is over.
"""

import asyncio

from horay_async import HORAY, AsyncHoray
from horay_async.emulator import Answer


PATIENCE = 10
"""
Seconds that a test waits for an event before it fails.
"""

HANG = {"end": "hang", "done": False, "finish": None}


def connect(emulator, **options):
    """
    A client that tries everything once.
    """
    options = {"service": HORAY, "api_key": "key", "max_retries": 0} | options
    return AsyncHoray(base_url=emulator.base_url, **options)


def script(emulator, answers):
    """
    Give each prompt its answer, in whichever order the requests arrive, once all have.
    """
    left, arrived = dict(answers), asyncio.Event()

    async def choose(request):
        asked = request.json.get("prompt") or request.json["messages"][0]["content"]
        answer = left.pop(asked)
        if not left:
            arrived.set()
        await arrived.wait()
        return answer

    emulator.script(*[choose] * len(answers))


def silent(status=None):
    """
    Nothing comes; with a status a head does.
    """
    if status is None:
        return Answer(before=[asyncio.Event()])
    return Answer.sse(status=status, done=False, end="hang")


def refusal(text="no", status=400):
    """
    An error.
    """
    return Answer.json({"error": {"message": text}}, status)


def empty(**options):
    """
    An answer that is finished, and says nothing.
    """
    return Answer.chat(**options)


def assert_over(*clients):
    """
    No call is left, no connection in use, no lease.
    """
    ours = ("_contend", "_begin")
    assert [one for one in asyncio.all_tasks() if one.get_coro().__name__ in ours] == []
    for client in clients:
        assert client.governor.snapshot() == {}
        assert client._line.session.stats().in_use == 0


def in_flight(client):
    """
    How many calls have a lease, over all models.
    """
    return sum(gate.in_flight for gate in client.governor.snapshot().values())
