"""
What lies between us and a server: proxies, certificates, and what goes wrong, in words.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import os
import re
import ssl
import urllib.request

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import attrs

from aiohttp.http import HttpProcessingError
from aiohttp.http_exceptions import ContentEncodingError
from multidict import CIMultiDict
from yarl import URL

from ._errors import ConfigurationError
from ._settings import is_name
from ._values import Secret


@attrs.frozen
class Proxy:
    """
    An HTTP proxy, its credentials apart from its URL.
    """

    url: URL

    authorization: Secret | None = None

    @classmethod
    def parse(cls, text: str, name: str) -> Proxy:
        """
        Read a proxy's URL; a bare `host:port` is http, as curl has it.

        Raises:
            ConfigurationError: It is no http or https URL. The message shows no more of it
                than the scheme: it may hold a password.
        """
        if not isinstance(text, str):
            raise ConfigurationError(f"{name} is {text!r}, expected a URL")
        try:
            url = URL(text if "://" in text else f"http://{text}")
        except ValueError:
            raise ConfigurationError(f"{name} is no URL") from None
        if url.scheme not in {"http", "https"}:
            raise ConfigurationError(
                f"{name} names a {url.scheme!r} proxy; only http and https ones are spoken to"
            )
        if not url.host:
            raise ConfigurationError(f"{name} names no host")
        if not is_name(url.raw_host or ""):
            raise ConfigurationError(f"{name} names a host that cannot be looked up")
        if url.user is None and url.password is None:
            return cls(url)
        pair = f"{url.user or ''}:{url.password or ''}".encode()
        basic = Secret(f"Basic {base64.b64encode(pair).decode()}")
        return cls(url.with_user(None), basic)

    @classmethod
    def from_environment(cls, target: URL) -> Proxy | None:
        """
        The proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name for a URL.

        None for loopback, as Go has it: a local server's key and prompts stay on the machine.
        """
        assert target.host is not None
        if _is_loopback(target.host):
            return None
        proxies = urllib.request.getproxies_environment()
        place = f"{target.host}:{target.port}"
        if urllib.request.proxy_bypass_environment(place, proxies):  # type: ignore[attr-defined]
            return None
        for scheme in (target.scheme, "all"):
            if text := proxies.get(scheme):
                return cls.parse(text, f"{scheme.upper()}_PROXY")
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


TLS = ssl.SSLContext | bool | str | os.PathLike[str]
"""
A context, a file or directory of CA certificates, or False to trust anyone.
"""


async def route(
    url: URL, proxy: Proxy | None, choice: TLS | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """
    How to reach a server: aiohttp's arguments for each request, and headers to add to it.

    Raises:
        ConfigurationError: The certificates cannot be read.
    """
    secure = url.scheme == "https"
    options: dict[str, Any] = {"ssl": True}
    if secure or (proxy is not None and proxy.url.scheme == "https"):
        options["ssl"] = await trust(choice)
    if proxy is None:
        return options, {}
    options["proxy"] = proxy.url
    if proxy.authorization is None:
        return options, {}
    credentials: dict[str, str] = {"Proxy-Authorization": proxy.authorization}
    if secure:
        # With the CONNECT that asks for a tunnel, and not inside it.
        return {**options, "proxy_headers": credentials}, {}
    return options, credentials


def headers_of(*more: Mapping[str, str], stream: bool, sends: bool) -> CIMultiDict[str]:
    """
    The headers of a request: what kind of answer it wants, and more; the last of a name wins.
    """
    accept = "text/event-stream" if stream else "application/json"
    headers = CIMultiDict({"Accept": accept})
    if stream:
        # What is compressed comes in blocks, not token by token.
        headers["Accept-Encoding"] = "identity"
    if sends:
        headers["Content-Type"] = "application/json"
    for one in more:
        headers.update(one)
    return headers


def a_session(given: aiohttp.ClientSession | None) -> aiohttp.ClientSession | None:
    """
    The session, if it is one.
    """
    if given is not None and not isinstance(given, aiohttp.ClientSession):
        raise ConfigurationError(
            f"session is {given!r}, expected an aiohttp.ClientSession"
        )
    return given


def a_tls(choice: TLS | None) -> TLS | None:
    """
    The choice, if it is one of those that there are; files are only looked at later.
    """
    kinds = (ssl.SSLContext, bool, str, os.PathLike, type(None))
    if not isinstance(choice, kinds):
        raise ConfigurationError(
            f"ssl is {choice!r}, expected a context, a path, or False to trust anyone"
        )
    return choice


async def trust(choice: TLS | None) -> ssl.SSLContext | bool:
    """
    Whom to trust, in aiohttp's terms: a context, True for its own, False for anyone.

    Files are read in a thread. aiohttp made its own context when it was imported, so that
    OpenSSL's variables are looked at once more: one set since then counts only here.

    Raises:
        ConfigurationError: The certificates cannot be read.
    """
    if isinstance(choice, (bool, ssl.SSLContext)):
        return choice
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if choice is None and not named:
        return True
    return await asyncio.get_running_loop().run_in_executor(None, _load, choice)


def _load(path: str | os.PathLike[str] | None) -> ssl.SSLContext:
    try:
        if path is not None and Path(path).is_dir():
            context = ssl.create_default_context(capath=path)
        else:
            context = ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ConfigurationError(
            f"ssl={path!r}: cannot read CA certificates: {_reason(error)}"
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


# What went wrong -------------------------------------------------------------------


# The first that fits: aiohttp's errors inherit from each other.
_SENTENCES: Final = (
    (aiohttp.ClientHttpProxyError, "the proxy gives no tunnel to {where}: {reason}"),
    (aiohttp.ClientConnectorCertificateError, "cannot trust {place}: {reason}"),
    (
        aiohttp.ClientProxyConnectionError,
        "cannot connect to the proxy {place}: {reason}",
    ),
    (aiohttp.ClientConnectorDNSError, "cannot find {place}: {reason}"),
    (aiohttp.ClientConnectorError, "cannot connect to {place}: {reason}"),
    (aiohttp.EofStream, "{where} hung up before it answered"),
    (aiohttp.ServerDisconnectedError, "{where} hung up before it answered"),
    (aiohttp.ClientResponseError, "{where} sent what is not HTTP: {reason}"),
    (HttpProcessingError, "{where} sent what is not HTTP: {reason}"),
    (aiohttp.ClientPayloadError, "{where} hung up before the body was whole"),
    (BaseException, "the connection to {where} broke: {reason}"),
)


# aiohttp's words, where the library that could decode it is not there.
_UNREADABLE: Final = re.compile(r"Can not decode content-encoding: (\w+)")


def explain(error: BaseException, where: str) -> str:
    """
    One sentence on what broke. Nothing of the request is in it, and no byte of the answer.
    """
    if isinstance(error.__cause__, ContentEncodingError):
        return f"the body from {where} is not compressed as its headers say"
    if found := _UNREADABLE.match(str(getattr(error, "message", ""))):
        return (
            f"{where} sent a body with the content encoding {found[1]!r}, which was not"
            " asked for and cannot be read"
        )
    place = where
    if isinstance(error, aiohttp.ClientConnectorError):
        place = f"{error.host}:{error.port}"
    sentence = next(text for kind, text in _SENTENCES if isinstance(error, kind))
    return sentence.format(where=where, place=place, reason=_reason(error))


def cause_of(error: BaseException) -> OSError | None:
    """
    The operating system's or TLS's own error, for `__cause__`; None where there is none.

    Stripped of its traceback and chain: they lead into frames that hold the request.
    """
    cause: OSError | None = None
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        cause.__cause__ = cause.__context__ = cause.__traceback__ = None
    elif isinstance(error, OSError) and error.errno is not None:
        # The number of a TLS error is not the system's: its class would mislead.
        kind = ssl.SSLError if _TLS_ERROR.match(str(error.strerror)) else OSError
        cause = kind(error.errno, error.strerror)
    return cause


# As in "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)", which aiohttp passes
# on in an OSError of its own.
_TLS_ERROR: Final = re.compile(r"\[[A-Z0-9]+: (\w+)\]")

_NO_TLS: Final = "what answers there does not speak TLS (should it be http://?)"


def _tls_reason(reason: str) -> str:
    if reason == "WRONG_VERSION_NUMBER":
        return _NO_TLS
    return reason.replace("_", " ").lower()


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"HTTP {error.status}"
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
        # There the parser begins to quote the answer, which may echo the request.
        text = re.split("[:'\"]", error.message)[0].strip() or "unreadable"
    elif isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message
    elif isinstance(error, OSError) and (found := _TLS_ERROR.match(text)):
        text = _tls_reason(found[1])
    elif isinstance(error, ssl.SSLError):
        text = _tls_reason(getattr(error, "reason", None) or text)
    elif isinstance(error, ConnectionResetError):
        # asyncio's own, in the middle of a handshake, has no number.
        text = os.strerror(errno.ECONNRESET)
    elif isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        text = os.strerror(error.errno)
    # Not where the second letter is a capital, too: "IP address mismatch".
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
