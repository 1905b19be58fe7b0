"""
Proxies, certificates, and errors in words.
"""

import asyncio
import base64
import contextlib
import gc
import os
import ssl
import traceback

import aiohttp
import pytest

from yarl import URL

from certificates import CERTIFICATE, PRIVATE_KEY
from horay_async._errors import APIConnectionError, ConfigurationError
from horay_async._network import Proxy, cause_of, explain
from horay_async._session import Session
from horay_async._values import Secret
from loopback import STREAM, always, answer, chunk, once, serve, soon, threaded, until


pytestmark = pytest.mark.uvloop

KEY = "sk-do-not-show-me"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """
    An environment without proxies and certificates, to put some into.
    """
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("SSL_CERT"):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """
    The certificate as a file.
    """
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_text(CERTIFICATE)
    return path


@pytest.fixture(scope="module")
def server_side(tmp_path_factory):
    """
    A server's TLS context.
    """
    path = tmp_path_factory.mktemp("server") / "both.pem"
    path.write_text(CERTIFICATE + PRIVATE_KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def ask(base_url, **options):
    """
    One whole exchange in a session of its own.
    """
    options = {"headers": {"Authorization": Secret(f"Bearer {KEY}")}, **options}
    session = Session(base_url=base_url, **options)
    try:
        body = await soon(session.exchange("POST", "/chat", body=b"{}"))
        content = await soon(body.read_all(1 << 20))
        assert session.stats().in_use == 0
        return content
    finally:
        await session.close()


# Proxies ---------------------------------------------------------------------------


async def test_a_proxy_for_plain_http(environment):
    """
    It gets the whole URL, its own credentials, and needs no DNS of ours.
    """
    async with serve(always(answer(b'"proxy"'))) as proxy:
        environment.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        assert await ask("http://api.test/v1") == b'"proxy"'
    (request,) = proxy.requests
    assert request.line == "POST http://api.test/v1/chat HTTP/1.1"
    basic = base64.b64encode(b"me:p@ss").decode()
    assert request.headers["proxy-authorization"] == f"Basic {basic}"


async def tunnel(peer):
    """
    A script: take CONNECT, then pass bytes on to the server that `peer.server.target` is.
    """
    await peer.request()
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.target)
    peer.send(b"HTTP/1.1 200 Go on\r\n\r\n")
    await asyncio.gather(_pass(peer.reader, writer), _pass(reader, peer.writer))


async def _pass(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.close()


async def test_a_proxy_for_https(server_side, bundle):
    """
    The tunnel's CONNECT has the proxy's credentials and nothing of the request's: above
    all not the key, which aiohttp would send it were it a header of the session.
    """
    script = always(answer(b'"tls"'))
    async with serve(script, ssl=server_side) as server, serve(tunnel) as proxy:
        proxy.target = server.port
        url = f"http://me:pass@127.0.0.1:{proxy.port}"
        content = await ask("https://api.test/v1", proxy=url, ssl=str(bundle))
        assert content == b'"tls"'
    (connect,) = proxy.requests
    assert connect.line == "CONNECT api.test:443 HTTP/1.1"
    basic = base64.b64encode(b"me:pass").decode()
    assert connect.headers["proxy-authorization"] == f"Basic {basic}"
    assert KEY not in str(connect)
    (request,) = server.requests
    assert request.line == "POST /v1/chat HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "proxy-authorization" not in request.headers


async def test_the_environment_is_read_once(environment):
    """
    When the pool is made; what changes later does not count.
    """
    async with serve(always(answer())) as proxy:
        environment.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        session = Session(base_url="http://api.test/v1", headers={})
        for _ in range(2):
            body = await soon(session.exchange("GET", "/models"))
            await body.read_all(100)
            environment.setenv("http_proxy", "http://127.0.0.1:1")
            environment.setenv("no_proxy", "*")
        assert len(proxy.requests) == 2
        assert len(proxy.peers) == 1
        await session.close()


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({}, "http://api.test/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://api.test/v1", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://api.test/v1", None),
        ({"https_proxy": "p:1"}, "https://api.test/v1", "http://p:1"),
        ({"ALL_PROXY": "https://p"}, "https://api.test/v1", "https://p"),
        ({"ALL_PROXY": "a:1", "HTTPS_PROXY": "p:1"}, "https://api.test", "http://p:1"),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "api.test"}, "http://api.test/v1", None),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": ".test"}, "http://api.test/v1", None),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "api.test:81"}, "http://api.test:81", None),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "a.test"}, "http://api.test", "http://p:1"),
        ({"HTTP_PROXY": "p:1", "NO_PROXY": "*"}, "http://api.test/v1", None),
        ({"HTTP_PROXY": "p:1"}, "http://localhost:8000/v1", None),
        ({"HTTP_PROXY": "p:1"}, "http://127.0.0.1:8000/v1", None),
        ({"HTTP_PROXY": "p:1"}, "http://[::1]:8000/v1", None),
        ({"HTTP_PROXY": "p:1"}, "http://app.localhost/v1", None),
        ({"HTTP_PROXY": "p:1"}, "http://10.0.0.1/v1", "http://p:1"),
    ],
)
def test_the_environments_proxy(environment, variables, url, expected):
    """
    As curl reads the variables, but never for loopback.
    """
    for name, value in variables.items():
        environment.setenv(name, value)
    proxy = Proxy.from_environment(URL(url))
    assert (proxy and str(proxy.url).rstrip("/")) == expected


async def test_proxy_none_at_all(environment):
    """
    An empty string means no proxy, whatever the environment says; an argument wins.
    """
    async with serve(always(answer())) as server:
        environment.setenv("ALL_PROXY", "http://127.0.0.1:1")
        url = f"http://127.0.0.1.nip.test:{server.port}"
        assert Session(base_url=url, headers={}, proxy="")._asks_environment is False
        assert await ask(server.url, proxy="") == b"{}"
        assert await ask("http://api.test", proxy=f"127.0.0.1:{server.port}") == b"{}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("socks5://me:secret@p:1", "names a 'socks5' proxy"),
        ("http://me:secret@", "is no URL|names no host"),
        ("http://", "names no host"),
        ("http://me:secret@p:port", "is no URL"),
        ("file:///secret", "names a 'file' proxy"),
    ],
)
def test_a_proxy_that_cannot_be(environment, text, words):
    """
    At construction where it is an argument; without showing its password.
    """
    with pytest.raises(ConfigurationError, match=words) as caught:
        Session(base_url="https://api.test/v1", headers={}, proxy=text)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    environment.setenv("ALL_PROXY", text)
    with pytest.raises(ConfigurationError, match="ALL_PROXY"):
        Proxy.from_environment(URL("https://api.test/v1"))


def test_a_proxy_keeps_its_password_to_itself():
    """
    No repr shows it.
    """
    proxy = Proxy.parse("http://me:secret@p:1", "proxy=")
    assert "secret" not in repr(proxy)
    assert base64.b64encode(b"me:secret").decode() not in repr(proxy)
    assert Proxy.parse("http://me@p:1", "proxy=").authorization == "Basic bWU6"


async def test_a_proxy_that_fails(bundle):
    """
    Not there, or unwilling: the error names it, and shows no credentials.
    """
    refusing = once(b"HTTP/1.1 407 secret\r\nContent-Length: 0\r\n\r\n")
    async with serve(refusing) as proxy:
        url = f"http://me:secret@127.0.0.1:{proxy.port}"
        with pytest.raises(APIConnectionError) as caught:
            await ask("https://api.test/v1", proxy=url)
    words = "the proxy gives no tunnel to api.test:443: HTTP 407"
    assert str(caught.value) == words
    with pytest.raises(APIConnectionError) as caught:
        await ask("https://api.test/v1", proxy=url)
    words = f"cannot connect to the proxy 127.0.0.1:{proxy.port}: connection refused"
    assert str(caught.value) == words
    frames = traceback.TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    text = "".join(frames.format())
    basic = base64.b64encode(b"me:secret").decode()
    assert KEY not in text
    assert basic not in text


# Certificates ----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def refused_handshakes():
    """
    That a client does not trust the server is an error for asyncio's, and not for the test.
    """
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda *_: None)
    yield
    await until(
        lambda: not any("_accept" in repr(task) for task in asyncio.all_tasks())
    )
    loop.set_exception_handler(handler)


async def test_a_bundle_of_our_own(server_side, bundle):
    """
    As a path, as a directory that OpenSSL can read, in the environment, as a context, or
    nobody is asked.
    """
    context = ssl.create_default_context(cafile=bundle)
    async with refused_handshakes(), serve(always(answer()), ssl=server_side) as server:
        url = server.url.replace("http", "https")
        for choice in (bundle, str(bundle), context, False):
            assert await ask(url, ssl=choice) == b"{}"
        for choice in (None, True, bundle.parent):
            with pytest.raises(APIConnectionError) as caught:
                await ask(url, ssl=choice)
            place = f"127.0.0.1:{server.port}"
            assert str(caught.value).startswith(f"cannot trust {place}: self")
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_a_bundle_in_the_environment(server_side, bundle, environment):
    """
    Also when it was named after aiohttp was imported.
    """
    async with refused_handshakes(), serve(always(answer()), ssl=server_side) as server:
        environment.setenv("SSL_CERT_FILE", str(bundle))
        url = server.url.replace("http", "https")
        assert await ask(url) == b"{}"
        with pytest.raises(APIConnectionError):
            await ask(url, ssl=True)


async def test_a_bundle_is_read_once_and_in_a_thread(server_side, bundle, environment):
    """
    Not by each of a hundred first calls, and not on the loop.
    """
    threads = []
    create = ssl.create_default_context

    def note(**options):
        with contextlib.suppress(RuntimeError):
            pytest.fail(f"on the loop: {asyncio.get_running_loop()}")
        threads.append(1)
        return create(**options)

    environment.setattr(ssl, "create_default_context", note)
    async with serve(always(answer()), ssl=server_side) as server:
        url = server.url.replace("http", "https")
        session = Session(base_url=url, headers={}, ssl=bundle)
        calls = [session.exchange("POST", "/chat") for _ in range(10)]
        for body in await soon(asyncio.gather(*calls)):
            await body.read_all(10)
        await session.close()
    assert len(threads) == 1


async def test_a_bundle_that_cannot_be_read(tmp_path):
    """
    A clear error, nothing sent, and the next call says it again.
    """
    (tmp_path / "empty.pem").write_text("no certificate")
    words_for = {"none.pem": "no such file", "empty.pem": "no certificate or crl found"}
    for name, words in words_for.items():
        path = tmp_path / name
        session = Session(base_url="https://127.0.0.1:1/v1", headers={}, ssl=path)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=f"(?i){words}"):
                await session.exchange("GET", "/models")
        await session.close()
        # Where nothing is encrypted, nobody is asked for certificates.
        with pytest.raises(APIConnectionError, match="refused"):
            await ask("http://127.0.0.1:1/v1", ssl=path)


def test_a_bundle_that_cannot_be_read_in_two_runs(tmp_path):
    """
    What waited in one loop does not stand in another's way.
    """
    path = tmp_path / "none.pem"
    session = Session(base_url="https://127.0.0.1:1/v1", headers={}, ssl=path)

    async def main():
        calls = [session.exchange("GET", "/models") for _ in range(3)]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, ConfigurationError)

    for _ in range(2):
        asyncio.run(main())


def test_tls_in_a_loop_that_was_closed(server_side, bundle, environment):
    """
    The sockets are closed, nothing warns, and the certificates need no second reading.
    """
    transports, read = [], []
    create = ssl.create_default_context

    def note(**options):
        read.append(options)
        return create(**options)

    environment.setattr(ssl, "create_default_context", note)

    async def main(session, stream):
        body = await soon(session.exchange("POST", "/chat"))
        assert await soon(body.read()) == b"a"
        transports.extend(one.transport for one in session._http.connector._protocols())
        return body if stream else None

    for stream in (True, False):
        end = b"" if stream else chunk(b"")
        with threaded(STREAM + chunk(b"a") + end, server_side) as port:
            url = f"https://127.0.0.1:{port}"
            session = Session(base_url=url, headers={}, ssl=bundle)
            for _ in range(2):
                loop = asyncio.new_event_loop()
                body = loop.run_until_complete(main(session, stream))
                loop.close()
            asyncio.run(session.close())
            del body
            gc.collect()
    assert len(transports) == 4
    assert len(read) == 2
    assert all(one.get_extra_info("socket").fileno() == -1 for one in transports)
    transports.clear()
    gc.collect()


async def test_not_tls_at_all():
    """
    https to a server that speaks http.
    """

    async def talk(peer):
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.gone()

    async with serve(talk) as server:
        with pytest.raises(APIConnectionError) as caught:
            await ask(server.url.replace("http", "https"))
    place = f"127.0.0.1:{server.port}"
    assert str(caught.value).startswith(f"cannot connect to {place}: ")
    assert "does not speak TLS (should it be http://?)" in str(caught.value)
    assert caught.value.__cause__ is not None


async def test_streams_over_tls_close_at_once(server_side, bundle):
    """
    Without waiting for the server's goodbye; and they are reused like others.
    """
    async with serve(once(STREAM, chunk(b"a")), ssl=server_side) as server:
        url = server.url.replace("http", "https")
        session = Session(base_url=url, headers={}, ssl=bundle)
        body = await soon(session.exchange("POST", "/chat", stream=True))
        assert await soon(body.read()) == b"a"
        body.drop()
        await soon(server.peers[0].left.wait())
        await session.close()
    async with serve(always(answer()), ssl=server_side) as server:
        url = server.url.replace("http", "https")
        session = Session(base_url=url, headers={}, ssl=bundle)
        for number in range(5):
            body = await soon(session.exchange("POST", "/chat"))
            assert body.reused == (number > 0)
            await body.read_all(10)
        assert len(server.peers) == 1
        await session.close()


# Words -----------------------------------------------------------------------------


async def test_a_name_that_is_none(environment):
    """
    DNS says no.
    """

    async def lookup(self, host, port, **options):
        raise OSError(None, "Name or service not known")

    environment.setattr(aiohttp.ThreadedResolver, "resolve", lookup)
    with pytest.raises(APIConnectionError) as caught:
        await ask("http://api.test/v1")
    assert str(caught.value) == "cannot find api.test:80: name or service not known"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(), "the connection to h:1 broke: OSError"),
        (
            ConnectionResetError(),
            "the connection to h:1 broke: connection reset by peer",
        ),
        (ssl.SSLError(1, "odd"), "the connection to h:1 broke: odd"),
        (aiohttp.InvalidURL("x"), "the connection to h:1 broke: x"),
    ],
)
def test_errors_that_explain_little(error, words):
    """
    The name of the class has to do.
    """
    assert explain(error, "h:1").lower() == words.lower()


def test_causes():
    """
    The system's errors, and no other's.
    """
    assert cause_of(aiohttp.ServerDisconnectedError()) is None
    assert cause_of(OSError("no number")) is None
    cause = cause_of(aiohttp.ClientOSError(104, "Connection reset by peer"))
    assert isinstance(cause, ConnectionResetError)
