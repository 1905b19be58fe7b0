"""
The key is nowhere but on the wire: not in what is printed, pickled, logged or kept by errors.
"""

import asyncio
import collections
import copy
import gc
import logging
import pickle
import traceback
import types
import warnings

import aiohttp
import attrs
import pytest

from horay_async import (
    APIError,
    APIStatusError,
    AsyncHoray,
    ConfigurationError,
    HorayError,
    MissingKeyError,
    Timeouts,
)
from horay_async._network import Proxy
from horay_async._secrets import redacted, redacted_headers, secrets_in
from horay_async._values import Secret
from loopback import STREAM, answer, chunk, once, serve, soon


KEY = "sk-d0/not+sh0w_me.never"

OTHER = "other-key-for-a-gateway"

PROMPT = "a prompt that is nobody else's business"

MESSAGES = [{"role": "user", "content": PROMPT}]


def reachable(root):
    """
    Everything that can be reached from an object: attributes, items, and of tracebacks the
    locals of every frame. Each with the way that leads there.
    """
    seen, found = set(), [(root, "it")]
    while found:
        one, way = found.pop()
        if id(one) in seen or isinstance(one, (types.ModuleType, type)):
            continue
        seen.add(id(one))
        yield one, way
        if isinstance(one, types.TracebackType):
            for frame, _ in traceback.walk_tb(one):
                # Not the test's own frames, which made the key.
                if frame.f_globals["__name__"].startswith(("horay_async", "aiohttp")):
                    for name, value in frame.f_locals.items():
                        found.append((value, f"{frame.f_code.co_name}:{name}"))
            continue
        if isinstance(one, (types.FrameType, types.FunctionType, types.CodeType)):
            continue
        found.extend(_parts(one, way))


def _parts(one, way):
    if isinstance(one, BaseException):
        for name in ("args", "__cause__", "__context__", "__traceback__"):
            yield getattr(one, name), f"{way}.{name}"
    if isinstance(one, (dict, types.MappingProxyType)) or hasattr(one, "getall"):
        yield list(one.keys()), f"{way} keys"
        for key, value in one.items():
            yield value, f"{way}[{key!r:.40}]"
    elif isinstance(one, (list, tuple, set, frozenset, collections.deque)):
        for place, value in enumerate(one):
            yield value, f"{way}[{place}]"
    yield from ((getattr(one, name), f"{way}.{name}") for name in _names(one))


def _names(one):
    yield from getattr(one, "__dict__", {})
    for kind in type(one).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(one, name):
                yield name


def leaks(root, *secrets):
    """
    Where the key stands, as text that would print itself, or as bytes.
    """
    return [
        way
        for one, way in reachable(root)
        if (type(one) is str and any(secret in one for secret in secrets))
        or (
            isinstance(one, (bytes, bytearray))
            and any(secret.encode() in one for secret in secrets)
        )
    ]


def shown(error):
    """
    All that could be printed of an error: with the locals of every frame but the test's.
    """
    parts, one = [str(error), repr(error), repr(vars(error))], error
    while one is not None:
        parts += traceback.format_exception_only(one)
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_globals["__name__"] != __name__:
                parts.append(repr(frame.f_locals))
        one = one.__cause__ or one.__context__
    return "".join(parts)


def assert_clean(error, *secrets):
    assert leaks(error, *secrets) == []
    text = shown(error)
    assert not any(secret in text for secret in secrets)
    pickled = pickle.dumps(error)
    assert not any(secret.encode() in pickled for secret in secrets)
    assert leaks(copy.copy(error), *secrets) == []
    if isinstance(error, APIError):
        assert PROMPT not in str(error)
        assert PROMPT not in repr(error)


def client_for(server, **options):
    options = {"max_retries": 0, "timeout": 10, "api_key": KEY, **options}
    return AsyncHoray(base_url=server.url, **options)


# Errors ----------------------------------------------------------------------------


ECHO = f"Bearer {KEY} and {KEY} and {KEY.replace('/', chr(92) + '/')}"
HEADERS = (f"X-Echo: {KEY}", f"X-Request-Id: {ECHO[:60]}", f"Set-Cookie: k={KEY}")
SAID = b'{"choices": [{"delta": {"content": "a"}, "index": 0}]}'
EVENT = b"data: " + SAID + b"\n\n"
REPORTED = f'{{"error": {{"message": "no {KEY}", "code": "{KEY}"}}}}'.encode()

# The key as some serializers write it, which no search of the bytes would find.
NUMBERS = "".join(f"\\u{ord(char):04X}" for char in KEY).encode()
ESCAPED = b'{"error": {"message": "no %b", "code": "%b"}}' % (NUMBERS, NUMBERS)
PAGE = "".join(f"&#{ord(char)};" for char in KEY).encode()
PAGE = b"<html><title>no %b</title></html>" % PAGE


def streamed(*events, end=True):
    return (
        STREAM
        + b"".join(chunk(b"data: " + one + b"\n\n") for one in events)
        + (chunk(b"") if end else b"")
    )


# What a server that echoes the key does.
SERVERS = {
    "refuses in JSON": once(
        answer(REPORTED, status="401 Unauthorized", headers=HEADERS)
    ),
    "refuses in text": once(
        answer(ECHO.encode(), status="500 No", kind="text/plain", headers=HEADERS)
    ),
    "refuses in its status line": once(
        answer(b"", status=f"403 {KEY} is wrong", headers=HEADERS)
    ),
    "redirects": once(
        answer(b"", status="302 Found", headers=(f"Location: http://x/?k={KEY}",))
    ),
    "refuses in JSON, escaped": once(answer(ESCAPED, status="401 Unauthorized")),
    "refuses in HTML, escaped": once(
        answer(PAGE, status="502 Bad Gateway", kind="text/html")
    ),
    "reports in a stream, escaped": once(streamed(SAID, ESCAPED)),
    "sends an event that is no chunk, escaped": once(
        streamed(SAID, b'{"choices": "%b"}' % NUMBERS)
    ),
    "sends JSON that is no answer, escaped": once(answer(b'{"a": "%b"}' % NUMBERS)),
    "reports in a stream": once(streamed(SAID, REPORTED)),
    "reports at once": once(streamed(REPORTED)),
    "sends an event that is no JSON": once(streamed(SAID, f"{{{KEY}".encode())),
    "sends an event that is no chunk": once(
        streamed(SAID, f'{{"choices": "{KEY}"}}'.encode())
    ),
    "sends a page": once(answer(f"<html>{KEY}</html>".encode(), kind="text/html")),
    "sends text": once(answer(KEY.encode(), kind="text/plain", headers=HEADERS)),
    "sends JSON that is no answer": once(answer(f'{{"a": "{KEY}"}}'.encode())),
    "sends another kind": once(answer(b"{}", kind=f"text/{KEY}")),
    "sends no HTTP": once(f"{KEY} {KEY}\r\n\r\n".encode()),
    "sends a bad header": once(f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode()),
    "sends a bad chunk": once(STREAM, f"{KEY}\r\n".encode()),
    "hangs up": once(then=lambda peer: peer.close()),
    "resets": once(then=lambda peer: peer.reset()),
    "breaks off": once(STREAM, chunk(EVENT), then=lambda peer: peer.close()),
    "hangs": once(STREAM, chunk(EVENT)),
    "never answers": once(),
}


@pytest.mark.parametrize("way", ["stream", "plain", "raw"])
@pytest.mark.parametrize("kind", SERVERS)
async def test_no_error_holds_the_key(kind, way, caplog):
    """
    Nor does anything that can be reached from it.
    """
    caplog.set_level(logging.DEBUG)
    events = []
    clocks = Timeouts(deadline=10)
    if kind in {"hangs", "never answers"}:
        clocks = Timeouts(stall=0.5, first_token=0.5, deadline=0.6)
    async with (
        serve(SERVERS[kind]) as server,
        client_for(
            server,
            on_event=events.append,
            timeouts=clocks,
            timeout=None,
        ) as client,
    ):
        with pytest.raises(HorayError) as caught:
            await soon(call(client, way))
        assert KEY in server.requests[0].headers["authorization"]
        assert_clean(caught.value, KEY)
        for event in events:
            assert KEY not in repr(event)
            assert leaks(attrs.asdict(event, recurse=False), KEY) == []
        response = getattr(caught.value, "response", None)
        assert leaks(response, KEY) == []
    for record in caplog.records:
        assert KEY not in record.getMessage() + repr(vars(record))
        assert PROMPT not in record.getMessage() + repr(vars(record))


async def call(client, way, **fields):
    chat = client.chat.completions
    if way == "stream":
        async with chat.stream(messages=MESSAGES, model="m", **fields) as stream:
            async for _ in stream:
                pass
    elif way == "plain":
        await chat.create(messages=MESSAGES, model="m", **fields)
    else:
        raw = await chat.with_raw_response.create(
            messages=MESSAGES, model="m", **fields
        )
        raw.parse()


@pytest.mark.parametrize("place", ["default_headers", "extra_headers"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("Authorization", f"Bearer {OTHER}"), ("x-api-key", OTHER), ("Cookie", OTHER)],
)
async def test_secrets_in_headers_of_the_user(place, name, value):
    """
    They are kept like the key.
    """
    refusal = answer(
        f'{{"error": {{"message": "{value}"}}}}'.encode(),
        status="401 Unauthorized",
        headers=(f"X-Echo: {value}",),
    )
    given = {name: value}
    options, fields = ({place: given}, {}) if place[0] == "d" else ({}, {place: given})
    async with serve(once(refusal)) as server, client_for(server, **options) as client:
        with pytest.raises(APIStatusError) as caught:
            await call(client, "plain", **fields)
        assert server.requests[0].headers[name.lower()] == value
        if place == "default_headers":
            # The others stand in the arguments of the call, as the user gave them.
            assert_clean(caught.value, OTHER)
        assert leaks(vars(caught.value), OTHER) == []
        assert OTHER not in str(caught.value)
        assert caught.value.response.headers["X-Echo"].endswith("***")
        assert leaks(client, OTHER) == []
        assert OTHER not in repr(vars(client))


def test_which_headers_are_secret():
    """
    By their names; what is no secret, or too short to be one, is left where it stands.
    """
    headers = {
        "Authorization": Secret(f"Bearer {KEY}"),
        "X-Api-Key": OTHER,
        "OpenAI-Organization": "my-organisation",
        "X-Token": "short",
    }
    assert secrets_in(headers) == (KEY, OTHER)
    said = {"a": f"{KEY}{OTHER}", "b": "my-organisation"}
    assert dict(redacted_headers(said, (KEY, OTHER))) == {
        "a": "******",
        "b": "my-organisation",
    }
    assert redacted(b"short", "short") == b"short"
    said = b"key of the tests"
    assert redacted(said, said.decode()) == b"***"
    assert redacted(said, KEY) is said
    assert redacted(KEY.encode(), None) == KEY.encode()


# Things ----------------------------------------------------------------------------


async def test_no_object_shows_the_key():
    """
    Not the client, nor what it is made of, used or not; copies and options neither.
    """
    async with serve(once(answer(b"{}"))) as server:
        for options in ({}, {"proxy": f"http://user:{OTHER}@127.0.0.1:9"}):
            client = client_for(server, **options)
            others = [client.with_options(timeout=1), copy.copy(client)]
            line = client._line
            things = [client, *others, line, line.settings, line.session, client.chat]
            for one in things:
                for text in (
                    repr(one),
                    str(one),
                    repr(vars(one) if hasattr(one, "__dict__") else ""),
                ):
                    assert KEY not in text
                    assert OTHER not in text
                assert leaks(one, KEY, OTHER) == []
            assert KEY not in repr(attrs.asdict(line.settings))
            assert KEY not in repr(attrs.astuple(line.settings))
            await client.close()


async def test_a_client_does_not_pickle():
    """
    Whoever sends one to another process hears why not; its bytes are nowhere.
    """
    async with serve(once(answer(b"{}"))) as server, client_for(server) as client:
        for one in (client, client._line, client._line.session, client.chat):
            with pytest.raises(TypeError, match="is not pickled"):
                pickle.dumps(one)
            with pytest.raises(TypeError, match="is not pickled"):
                copy.deepcopy(one)


async def test_no_task_nor_warning_shows_the_key():
    """
    Nor a prompt: of the tasks of a call under way, and of what warns when it is forgotten.
    """
    async with serve(once(STREAM, chunk(EVENT))) as server:
        client = client_for(server)
        stream = client.chat.completions.stream(messages=MESSAGES, model="m")
        tokens = aiter(stream)
        await soon(anext(tokens))
        waiting = asyncio.create_task(anext(tokens))
        await asyncio.sleep(0)
        texts = [repr(task) for task in asyncio.all_tasks()] + [repr(stream)]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del tokens, stream, waiting
            gc.collect()
            await asyncio.sleep(0)
            del client
            gc.collect()
        texts += [str(one.message) for one in caught]
        assert any("not closed" in text for text in texts)
        assert not any(KEY in text or PROMPT in text for text in texts)


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": f"https://user:{OTHER}@host/v1"},
        {"base_url": f"https://host/v1?key={OTHER}"},
        {"base_url": f"https://{OTHER}\n/v1"},
        {"base_url": f"http://user:{OTHER}@[::1/v1"},
        {"base_url": f"ftp://user:{OTHER}@host"},
        {"base_url": f"user:{OTHER}@host/v1"},
        {"api_key": f"{OTHER}\n"},
        {"api_key": OTHER.encode()},
        {"api_key": OTHER, "base_url": "http://host/v1"},
        {"proxy": f"socks5://user:{OTHER}@host"},
        {"proxy": f"http://user:{OTHER}@[::1"},
        {"default_headers": {"Authorization": f"{OTHER}\n"}},
        {"default_headers": {"X": OTHER + "\0"}},
    ],
    ids=str,
)
def test_what_is_refused_is_not_shown(options):
    """
    A setting that cannot work may hold a secret all the same.
    """
    options = {"base_url": "https://host/v1", "api_key": KEY, **options}
    with pytest.raises((ConfigurationError, MissingKeyError)) as caught:
        AsyncHoray(**options)
    assert OTHER not in str(caught.value) + repr(caught.value)
    assert KEY not in str(caught.value) + repr(caught.value)
    chained = caught.value.__cause__ or caught.value.__context__
    assert OTHER not in repr(chained) or caught.value.__suppress_context__


def test_a_proxy_with_a_password():
    """
    It stands apart from the URL.
    """
    proxy = Proxy.parse(f"http://user:{OTHER}@host:1", "proxy=")
    assert OTHER not in repr(proxy) + str(proxy.url)
    assert leaks(proxy, OTHER) == []


# Cookies ---------------------------------------------------------------------------


async def test_a_cookie_is_not_kept():
    """
    Not even for the next call.
    """

    async def script(peer):
        for _ in range(2):
            await peer.request()
            peer.send(answer(b"{}", headers=("Set-Cookie: a=b",), status="400 No"))

    async with serve(script) as server, client_for(server) as client:
        for _ in range(2):
            with pytest.raises(APIStatusError):
                await call(client, "plain")
        assert "cookie" not in server.requests[1].headers
        assert isinstance(client._line.session._http.cookie_jar, aiohttp.DummyCookieJar)


@pytest.mark.parametrize("kind", [kind for kind in SERVERS if "escaped" in kind])
@pytest.mark.parametrize("way", ["stream", "plain"])
async def test_no_error_holds_the_key_spelt_otherwise(kind, way):
    """
    Neither do the bytes that came, however they are read.
    """
    async with serve(SERVERS[kind]) as server, client_for(server) as client:
        with pytest.raises(APIError) as caught:
            await soon(call(client, way))
        assert NUMBERS not in caught.value.content
        assert b"&#" not in caught.value.content
        if not kind.startswith("sends"):
            assert "no ***" in str(caught.value)
            assert caught.value.code in (None, "***")


async def test_a_secret_in_the_query():
    """
    Some services take their key so: a redirect repeats it.
    """
    moved = answer(b"", status="302 Found", headers=(f"Location: /y?key={OTHER}",))
    async with (
        serve(once(moved)) as server,
        client_for(server, default_query={"api_key": OTHER}) as client,
    ):
        with pytest.raises(APIError) as caught:
            await call(client, "plain")
        assert OTHER in server.requests[0].line
        assert leaks(vars(caught.value), OTHER) == []
        assert OTHER.encode() not in pickle.dumps(caught.value)
