"""
Exactly once: through all faults each prompt ends in one result, which is its own.

The server echoes, so an answer shows whose it is; the requests that it saw show what was
sent again. A fault's own text stands for "answered, but not by the echo".
"""

import asyncio
import random

from collections import Counter

import pytest

from horay_async import (
    HORAY,
    APIConnectionError,
    APIError,
    AsyncHoray,
    AttemptFailed,
    AttemptStarted,
    ChatRequest,
    CompletionRequest,
    FirstTokenTimeoutError,
    Outcome,
    Timeouts,
    user,
)
from horay_async.emulator import FAULTS
from horay_async.emulator.faults import UNTELLABLE
from horay_async.testing import instant_retries
from loopback import PATIENCE


CONCURRENCY = 48
"""
What most of the time goes into is waiting for clocks.
"""

RETRIES = 2

CLOCKS = Timeouts(connect=5, first_token=0.4, stall=0.4, silence=0.4, deadline=1)
"""
Short for the faults that hang. Where a slow machine makes them ring without one, the error
is one of ours, too.
"""

EARLY = [fault.name for fault in FAULTS.values() if fault.at in {"accept", "listen"}]

BY_PROMPT = sorted(FAULTS.keys() - {*EARLY, UNTELLABLE})


def said(request):
    """
    The prompt of a request, of either kind.
    """
    return request.json.get("prompt") or request.json["messages"][-1]["content"]


class Prompt:
    """
    One prompt: its text, the fault that it meets, and what came of it.
    """

    def __init__(self, number, fault, dice):
        self.text = f"p{number:04}. Tell me of {fault}, in {number} words."
        self.fault = fault
        # How many of its requests meet the fault: the first, or all of them.
        large = fault is not None and FAULTS[fault].large
        self.strikes = 1 if large else dice.choice([1, 1, 1 + RETRIES])
        self.chat = dice.random() < 0.75
        self.requests = []
        self.results = []
        self.sent = 0
        self.shown = None
        self.slow = False

    def request(self):
        """
        Ready to be sent.
        """
        if self.chat:
            return ChatRequest(messages=[user(self.text)])
        return CompletionRequest(prompt=self.text)

    def heard(self, event):
        """
        The hook of its call.
        """
        self.sent += isinstance(event, AttemptStarted)
        if isinstance(event, AttemptFailed):
            self.slow |= isinstance(event.error, FirstTokenTimeoutError)

    def __repr__(self):
        met = [request.fault or "-" for request in self.requests]
        return f"{self.text!r} met {met}, has {self.results}"


class Lab:
    """
    An emulator whose answers depend on the prompt, and the client's results.
    """

    def __init__(self, emulator, faults, seed):
        dice = random.Random(seed)
        faults = list(faults)
        dice.shuffle(faults)
        self.emulator = emulator
        self.prompts = [Prompt(at, name, dice) for at, name in enumerate(faults)]
        self.by_text = {prompt.text: prompt for prompt in self.prompts}

    def choose(self, request):
        """
        The answer for a request, by its prompt.
        """
        self.emulator.script(self.choose)
        prompt = self.by_text[said(request)]
        return prompt.fault if self.count(prompt) <= prompt.strikes else None

    def count(self, prompt):
        """
        How many requests have come for it.
        """
        return [said(request) for request in self.emulator.requests].count(prompt.text)

    # The verbs -----------------------------------------------------------------------

    async def create(self, client, prompt):
        """
        A plain call.
        """
        client = client.with_options(on_event=prompt.heard)
        verbs = client.chat.completions if prompt.chat else client.completions
        try:
            reply = await verbs.create(prompt.request())
        except APIError as error:
            prompt.results.append(error)
        else:
            prompt.results.append(reply.text)

    async def stream(self, client, prompt):
        """
        A stream, read to its end.
        """
        client = client.with_options(on_event=prompt.heard)
        verbs = client.chat.completions if prompt.chat else client.completions
        stream = verbs.stream(prompt.request())
        try:
            async with stream:
                async for _ in stream:
                    if prompt.shown is None:
                        prompt.shown = prompt.sent
        except APIError as error:
            assert stream.outcome is not Outcome.FINISHED, prompt
            prompt.results.append(error)
        else:
            whole = {Outcome.FINISHED, Outcome.UNCONFIRMED}
            assert stream.outcome in whole, prompt
            prompt.results.append(stream.reply.text)

    async def map(self, client, order):
        """
        All of them as the rows of one job.
        """
        items = [(prompt.text, prompt.request()) for prompt in self.prompts]
        async with client.map(items, concurrency=CONCURRENCY, order=order) as job:
            async for row in job:
                prompt = self.by_text[row.id]
                assert row.request == prompt.request()
                prompt.results.append(row.error or row.reply.text)

    async def each(self, verb, client):
        """
        One call for each prompt, some at a time.
        """
        places = asyncio.Semaphore(CONCURRENCY)

        async def one(prompt):
            async with places:
                await verb(client, prompt)

        async with asyncio.TaskGroup() as group:
            for prompt in self.prompts:
                group.create_task(one(prompt))

    # What must hold ------------------------------------------------------------------

    def check(self):
        """
        Nothing lost, nothing twice, nothing of another's.
        """
        for request in self.emulator.requests:
            self.by_text[said(request)].requests.append(request)
        for prompt in self.prompts:
            assert len(prompt.results) == 1, prompt
            self.check_one(prompt, prompt.results[0])
        texts = Counter(prompt.results[0] for prompt in self.prompts)
        for prompt in self.prompts:
            assert texts[prompt.text] <= 1, prompt

    def check_one(self, prompt, result):
        """
        One prompt: the result, and the requests that led to it.
        """
        requests = prompt.requests
        assert len(requests) <= 1 + RETRIES + 1, prompt
        if prompt.shown is not None:
            # By what was sent: a request on a connection that broke under it, and was sent
            # again, may reach the server's eye after the second one.
            assert prompt.sent == prompt.shown, f"sent again once shown: {prompt}"
            assert len(requests) <= prompt.sent, f"sent in secret: {prompt}"
        whole = [one for one in requests if not one.fault and one.fate == "finished"]
        assert len(whole) <= 1 or prompt.slow, f"asked again once answered: {prompt}"
        struck = any(one.fault for one in requests)
        if isinstance(result, Exception):
            # With no fault of the server's only a clock or a connection can fail.
            assert struck or isinstance(result, APIConnectionError), prompt
        elif result == prompt.text:
            assert not all(one.fault for one in requests), prompt
        else:
            assert struck, f"neither its own text nor its fault's: {prompt}"
            others = (text for text in self.by_text if text[:6] in result)
            assert not list(others), f"the answer of another: {prompt}"


def a_client(emulator, **options):
    """
    A client with short clocks.
    """
    options = {"timeouts": CLOCKS, "max_retries": RETRIES} | options
    return AsyncHoray(
        service=HORAY, base_url=emulator.base_url, api_key="key-of-the-tests", **options
    )


@pytest.fixture
def _at_once():
    """
    No wait between two attempts.
    """
    with instant_retries():
        yield


async def every_fault(emulator, verb):
    """
    Each fault meets one prompt, and many prompts are under way at a time.
    """
    lab = Lab(emulator, BY_PROMPT, verb)
    emulator.script(lab.choose)
    async with a_client(emulator) as client:
        if verb == "map":
            await lab.map(client, "input")
        else:
            await lab.each(getattr(lab, verb), client)
        await emulator.wait_until_idle(PATIENCE)
        lab.check()
        assert_idle(client)
    own = [prompt for prompt in lab.prompts if prompt.results == [prompt.text]]
    assert own


# Each on another loop: the rest is the same on all of them.


@pytest.mark.timeout(60)
@pytest.mark.loop("plain")
@pytest.mark.usefixtures("_at_once")
async def test_every_fault_in_calls(emulator):
    """
    As plain calls.
    """
    await every_fault(emulator, "create")


@pytest.mark.timeout(60)
@pytest.mark.loop("uvloop")
@pytest.mark.usefixtures("_at_once")
async def test_every_fault_in_streams(emulator):
    """
    As streams.
    """
    await every_fault(emulator, "stream")


@pytest.mark.timeout(60)
@pytest.mark.loop("eager")
@pytest.mark.usefixtures("_at_once")
async def test_every_fault_in_a_job(emulator):
    """
    As the rows of `client.map`.
    """
    await every_fault(emulator, "map")


async def what_strikes_before_a_request(emulator, verb):
    """
    A connection that is refused, reset or silent costs no prompt, and none goes out twice.
    """
    # The port refuses them in the beginning, when nothing is under way.
    faults = sorted(EARLY, key=lambda name: FAULTS[name].at, reverse=True)
    lab = Lab(emulator, [None] * 12, verb)
    emulator.script(*faults)
    clocks = CLOCKS.evolve(deadline=1.2)
    async with a_client(emulator, timeouts=clocks, max_connections=4) as client:
        if verb == "map":
            await lab.map(client, "done")
        else:
            await lab.each(getattr(lab, verb), client)
        await emulator.wait_until_idle(PATIENCE)
        lab.check()
        assert_idle(client)
    assert set(emulator.struck) == set(faults)


async def test_what_strikes_before_a_stream(emulator):
    """
    On all loops, as it is their sockets that meet it.
    """
    await what_strikes_before_a_request(emulator, "stream")


@pytest.mark.loop("plain")
@pytest.mark.parametrize("verb", ["create", "map"])
async def test_what_strikes_before_a_plain_call(emulator, verb):
    """
    One of its own, or a job's.
    """
    await what_strikes_before_a_request(emulator, verb)


def assert_idle(client):
    """
    No call holds a connection, or a place in a queue.
    """
    assert client._line.session.stats().in_use == 0
    for gate in client._line.governor.snapshot().values():
        assert (gate.in_flight, gate.waiting) == (0, 0)
