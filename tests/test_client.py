"""
The client: what it is made with, what its copies share, how it ends.
"""

import asyncio

import pytest

from horay_async import (
    COMPATIBLE,
    EMPOWER,
    HORAY,
    AsyncHoray,
    AttemptFailed,
    AttemptStarted,
    AuthenticationError,
    BadRequestError,
    CallEnded,
    ClientClosedError,
    ConfigurationError,
    DeadlineExceeded,
    Outcome,
    RateLimitError,
    Timeouts,
    user,
)
from horay_async.emulator import Answer


HELLO = [user("Hello, you.")]
KEY = "sk-secret-0123456789"
VARIABLES = (
    "HORAY_API_KEY",
    "HORAY_BASE_URL",
    "EMPOWER_API_KEY",
    "EMPOWER_API_BASE",
    "HORAY_ALLOW_INSECURE",
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    """
    What the developer's own shell has set does not count.
    """
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def connect(server, **options):
    options = {"service": HORAY, "api_key": KEY, "max_retries": 0} | options
    return AsyncHoray(base_url=server.base_url, **options)


async def ask(client, **more):
    return await client.chat.completions.create(messages=HELLO, **more)


# Making one --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "variable"),
    [(None, "HORAY_API_KEY"), (HORAY, "HORAY_API_KEY"), (EMPOWER, "EMPOWER_API_KEY")],
)
def test_a_key_is_needed(service, variable, monkeypatch):
    """
    The error names the variable; with it the client can be made, outside any loop.
    """
    with pytest.raises(ConfigurationError, match=variable):
        AsyncHoray(service=service)
    monkeypatch.setenv(variable, KEY)
    client = AsyncHoray(service=service)
    assert client.service is (service or HORAY)
    assert not client.is_closed()


def test_addresses(monkeypatch):
    """
    The argument, then the variable, then the vendor's own.
    """
    assert AsyncHoray(api_key=KEY).base_url == "https://api.horay.ai/v1"
    empower = AsyncHoray(service=EMPOWER, api_key=KEY)
    assert empower.base_url == "https://app.empower.dev/api/v1"
    monkeypatch.setenv("HORAY_BASE_URL", "https://mirror.example/v1/")
    assert AsyncHoray(api_key=KEY).base_url == "https://mirror.example/v1"
    given = AsyncHoray(api_key=KEY, base_url="https://other.example/v1")
    assert given.base_url == "https://other.example/v1"
    assert given.service is COMPATIBLE
    assert AsyncHoray(api_key=KEY, base_url="https://eu.horay.ai/v1").service is HORAY


def test_a_key_from_the_environment_goes_to_its_vendor_only(monkeypatch):
    monkeypatch.setenv("HORAY_API_KEY", KEY)
    with pytest.raises(ConfigurationError, match="only sent to the vendor"):
        AsyncHoray(base_url="https://other.example/v1", service=HORAY)
    AsyncHoray(base_url="https://eu.horay.ai/v1")


def test_this_machine_needs_no_key():
    for host in ("localhost:8000", "127.0.0.1:1", "[::1]:8000"):
        assert AsyncHoray(base_url=f"http://{host}/v1").service is COMPATIBLE


def test_a_key_is_not_sent_in_the_clear(monkeypatch):
    address = "http://model.example/v1"
    with pytest.raises(ConfigurationError, match="not encrypted"):
        AsyncHoray(base_url=address, api_key=KEY)
    AsyncHoray(base_url=address, api_key=KEY, allow_insecure=True)
    monkeypatch.setenv("HORAY_ALLOW_INSECURE", "1")
    AsyncHoray(base_url=address, api_key=KEY)


MISTAKES = {
    "key with a line end": ({"api_key": f"{KEY}\n"}, "line break"),
    "empty key": ({"api_key": ""}, "api_key is empty"),
    "key of another type": ({"api_key": 5}, "api_key is a int"),
    "no scheme": ({"base_url": "model.example/v1"}, "base_url"),
    "query": ({"base_url": "https://model.example/v1?a=1"}, "default_query"),
    "password": ({"base_url": "https://me:pw@model.example/v1"}, "password"),
    "retries": ({"max_retries": -1}, "max_retries is -1"),
    "retries that are a flag": ({"max_retries": True}, "max_retries is True"),
    "connections": ({"max_connections": 0}, "max_connections is 0"),
    "connections that are a flag": ({"max_connections": True}, "max_connections"),
    "clocks": ({"timeouts": 5}, "Timeouts"),
    "clock": ({"timeout": "soon"}, "timeout is 'soon'"),
    "no time": ({"timeout": 0}, "timeout is 0"),
    "header": ({"default_headers": {"X-A": "a\r\nX-B: b"}}, "control character"),
    "header's name": ({"default_headers": {"X A": "a"}}, "no header name"),
    "query's value": ({"default_query": {"a": None}}, "default_query"),
    "proxy": ({"proxy": "socks5://host:1"}, "proxy"),
    "checks": ({"validate": "loose"}, "validate"),
}


@pytest.mark.parametrize(("options", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(options, words):
    """
    A client that no call can work with is not made; the key is in no message.
    """
    with pytest.raises(ConfigurationError, match=words) as caught:
        AsyncHoray(**{"api_key": KEY} | options)
    assert KEY not in str(caught.value)


def test_mistakes_in_a_copy():
    client = AsyncHoray(api_key=KEY)
    for options in (
        {"max_retries": -1},
        {"timeout": float("nan")},
        {"timeouts": {"connect": 1}},
        {"default_headers": {"X-A": 5}},
        {"default_query": {"a": True}},
        {"validate": "loose"},
    ):
        with pytest.raises(ConfigurationError):
            client.with_options(**options)


async def test_nothing_is_opened_before_the_first_call(emulator):
    client = connect(emulator)
    await client.close()
    assert emulator.connections == 0


def test_the_key_is_in_no_repr():
    client = AsyncHoray(api_key=KEY, default_headers={"X-Other": KEY})
    seen = repr(client) + repr(client._line) + repr(vars(client._line.session))
    assert KEY not in seen
    assert "Horay" in repr(client)


async def test_a_key_that_is_echoed(emulator):
    """
    What a server says of our key is not carried by the error.
    """
    emulator.script(Answer.json({"error": {"message": f"bad key {KEY}"}}, 401))
    async with connect(emulator) as client:
        with pytest.raises(AuthenticationError) as caught:
            await ask(client)
    error = caught.value
    assert emulator.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{error} {error.body} {error.content} {vars(error)}"


# Copies ------------------------------------------------------------------------------


async def test_copies_share_the_pool(emulator):
    """
    One connection for the original and all copies; closing one closes all.
    """
    client = connect(emulator)
    other = client.with_options(max_retries=1)
    third = other.copy(timeout=9)
    for each in (client, other, third, client):
        await ask(each)
    assert emulator.connections == 1
    await third.close()
    assert client.is_closed()
    with pytest.raises(ClientClosedError):
        await ask(client)


async def test_options_of_a_copy(emulator):
    """
    Headers and query are added to those there are; the original stays as it was.
    """
    async with connect(
        emulator, default_headers={"X-A": "1", "X-B": "1"}, default_query={"a": 1}
    ) as client:
        other = client.with_options(
            default_headers={"X-B": "2"}, default_query={"b": 2.5}
        )
        await ask(other, extra_headers={"X-C": "3"}, extra_query={"c": "ä"})
        await ask(client)
    first, second = emulator.requests
    sent = [first.headers[name] for name in ("x-a", "x-b", "x-c")]
    assert sent == ["1", "2", "3"]
    assert first.query == "a=1&b=2.5&c=%C3%A4"
    assert second.headers["x-b"] == "1"
    assert "x-c" not in second.headers
    assert second.query == "a=1"


async def test_retries_of_a_copy(emulator):
    busy = Answer.json({"error": "busy"}, 429, headers={"retry-after-ms": "1"})
    async with connect(emulator) as client:
        emulator.script(busy, busy)
        patient = client.with_options(max_retries=2)
        assert (await ask(patient)).meta.attempts == 3
        emulator.script(busy)
        with pytest.raises(RateLimitError):
            await ask(client)


async def test_clocks(emulator):
    """
    Those of a call win over those of a copy, and these over the client's; `timeout` is
    the deadline.
    """
    hold = asyncio.Event()
    only = {"message": {"content": "late"}, "finish_reason": "stop"}
    slow = Answer.json({"choices": [only]}, before=[hold])
    clocks = Timeouts(deadline=30)
    async with connect(emulator, timeouts=clocks) as client:
        hurried = client.with_options(timeout=0.02)
        for call in (
            lambda: ask(hurried),
            lambda: ask(client, timeout=0.02),
            lambda: ask(client, timeouts=clocks.evolve(deadline=0.02)),
            lambda: ask(client, timeout=Timeouts(deadline=0.02)),
        ):
            emulator.script(slow)
            with pytest.raises(DeadlineExceeded):
                await call()
        for listing in (
            hurried.models.list(timeouts=Timeouts(deadline=0.01)),
            client.models.list(timeout=0.02),
            hurried.user.info(),
        ):
            emulator.script(slow, method="GET")
            with pytest.raises(DeadlineExceeded):
                await listing
        # On a busy machine a deadline may have passed before anything was sent, and what was
        # meant for that call is left for this one.
        hold.set()
        await ask(hurried, timeout=30)


class Mine(AsyncHoray):
    """
    A subclass of a user's own.
    """


async def test_copies_of_a_subclass(emulator):
    async with Mine(base_url=emulator.base_url, api_key=KEY) as client:
        copy = client.with_options(max_retries=0)
        assert type(copy) is Mine
        assert repr(copy).startswith("<Mine")


# What is told ------------------------------------------------------------------------


async def test_events(emulator):
    emulator.script(
        Answer.json({"error": "down"}, 503, headers={"retry-after": "0.01"})
    )
    told = []
    async with connect(emulator, max_retries=1, on_event=told.append) as client:
        reply = await ask(client)
    started, failed, again, ended = told
    assert [type(one) for one in told] == [
        AttemptStarted,
        AttemptFailed,
        AttemptStarted,
        CallEnded,
    ]
    assert (started.attempt, again.attempt) == (1, 2)
    assert (started.method, started.path) == ("POST", "/chat/completions")
    assert failed.error.status_code == 503
    assert 0 < failed.wait < 1
    assert failed.reason
    assert ended.outcome is Outcome.FINISHED
    assert ended.meta.request_id == reply.meta.request_id
    assert ended.usage == reply.usage
    assert ended.error is None


async def test_events_of_a_failure(emulator):
    told = []
    async with connect(emulator) as client:
        listened = client.with_options(on_event=told.append)
        with pytest.raises(BadRequestError) as caught:
            await ask(listened, model="no such model")
        await ask(client)
    assert [type(one) for one in told] == [AttemptStarted, AttemptFailed, CallEnded]
    assert told[1].wait is None
    assert told[2].outcome is Outcome.FAILED
    assert told[2].error is caught.value
    assert told[2].meta.status == 400


async def test_events_of_a_cancelled_call(emulator):
    emulator.script(Answer(before=[asyncio.Event()]))
    told = []
    async with connect(emulator, on_event=told.append) as client:
        task = asyncio.create_task(ask(client))
        await emulator.wait_for_request()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await emulator.wait_for_disconnect()
    assert told[-1].outcome is Outcome.CANCELLED


async def test_a_hook_that_raises(emulator, caplog):
    """
    It is logged; the call goes on.
    """

    def hook(event):
        raise ZeroDivisionError

    async with connect(emulator, on_event=hook) as client:
        assert (await ask(client)).text == "Hello, you."
    assert "on_event raised for AttemptStarted" in caplog.text


async def test_facts_of_a_reply(emulator):
    headers = {
        "x-request-id": "req-7",
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1m2.5s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "990",
        "x-ratelimit-reset-tokens": "20ms",
    }
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    emulator.script(
        Answer.json({"error": "busy"}, 429, headers={"retry-after": "0.05"}),
        Answer.json(body, headers=headers),
    )
    async with connect(emulator, max_retries=1) as client:
        meta = (await ask(client)).meta
    assert (meta.status, meta.request_id, meta.service) == (200, "req-7", "Horay")
    assert (meta.attempts, meta.headers["X-Request-ID"]) == (2, "req-7")
    limits = meta.rate_limits
    assert (limits.limit_requests, limits.remaining_requests) == (60, 59)
    assert (limits.limit_tokens, limits.remaining_tokens) == (1000, 990)
    assert (limits.reset_requests, limits.reset_tokens) == (62.5, 0.02)
    spent = meta.timings
    assert spent.governor >= 0.05
    assert min(spent.pool, spent.connect, spent.headers, spent.body) >= 0
    assert spent.first_token is None
    assert spent.total >= spent.governor + spent.headers + spent.body


async def test_facts_of_an_error(emulator):
    async with connect(emulator, api_key="bad-key") as client:
        with pytest.raises(AuthenticationError) as caught:
            await ask(client)
    error = caught.value
    assert error.request_id == emulator.requests[0].id
    assert (error.attempts, error.meta.service) == (1, "Horay")
    assert error.elapsed >= 0  # uvloop's clock ticks once a millisecond
    assert error.usage.source == "none"


@pytest.mark.parametrize("hook", ["log", 3, asyncio.sleep])
def test_a_hook_that_cannot_be_one(hook):
    """
    A hook is called, not awaited: what cannot be called so is refused at once.
    """
    with pytest.raises(ConfigurationError, match="on_event is"):
        AsyncHoray(api_key="key-of-the-tests", on_event=hook)


@pytest.mark.parametrize(
    "wrong", [{"session": "x"}, {"governor": 5}, {"proxy": 5}, {"ssl": 5}]
)
def test_parts_that_are_none(wrong):
    """
    What cannot be used is refused at once, not at the first call.
    """
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=f"{name}.* expected"):
        AsyncHoray(api_key="key-of-the-tests", **wrong)


async def test_closing_wakes_who_waits_for_a_turn(client, emulator):
    """
    A closed client keeps nobody in a queue or between two attempts.
    """
    busy = Answer.json({"message": "busy"}, 503, headers={"retry-after": "60"})
    emulator.script(busy)
    call = asyncio.create_task(client.chat.completions.create(messages=[user("a")]))
    await emulator.wait_for_request()
    await emulator.wait_until_idle()
    await asyncio.sleep(0.01)
    await client.close()
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(call, 5)
