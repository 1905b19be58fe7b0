"""
What a client is made with, checked: key, address, headers, clocks. Reads the environment.
"""

from __future__ import annotations

import ipaddress
import os
import re

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from ._errors import ConfigurationError
from ._events import Hook
from ._requests import Validate
from ._services import HORAY, Service, service_of
from ._values import Secret, Timeouts
from ._version import __version__


INSECURE_VARIABLE: Final = "HORAY_ALLOW_INSECURE"

# RFC 9110, 5.6.2 and 5.5: a token for the name; no control character in the value.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


@attrs.frozen(kw_only=True)
class Settings:
    """
    What all calls of a client share. `with_options` makes a copy with some of it changed.
    """

    service: Service

    base_url: str

    key: Secret | None = attrs.field(default=None, repr=False)

    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """
    The user's default headers; ours and the key stand in `Session`.
    """

    query: Mapping[str, str] = attrs.field(factory=dict)

    timeouts: Timeouts = attrs.field(factory=Timeouts)

    max_retries: int = 2

    validate: Validate = "documented"

    hook: Hook | None = None


def resolve(
    *,
    api_key: str | None,
    service: Service | None,
    base_url: str | None,
    allow_insecure: bool | None,
) -> Settings:
    """
    Find the service, its address and its key, in the arguments and in the environment.

    Raises:
        ConfigurationError: What is missing or cannot work, and the variable that sets it.
    """
    given = base_url
    if service is None:
        service = HORAY if given is None else service_of(given)
    if given is None and service.base_url_variable:
        given = os.environ.get(service.base_url_variable) or None
    address = _address(given or service.base_url, service)
    key = _key(api_key, service, address, asked=base_url)
    if key is not None:
        _check_encrypted(address, allow_insecure=allow_insecure)
    return Settings(service=service, base_url=address, key=key)


def _address(base_url: str | None, service: Service) -> str:
    if base_url is None:
        raise ConfigurationError(
            f"{service.name} has no address of its own: pass base_url=..."
        )
    if not isinstance(base_url, str):
        raise ConfigurationError(f"base_url is {base_url!r}, expected a string")
    example = "expected something like https://host/v1"
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"base_url {base_url!r}: {error}") from None
    if re.search(r"[\x00-\x20\x7f]", base_url):
        raise ConfigurationError(
            f"base_url {base_url!r} has a space or control character in it"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigurationError(f"base_url is {base_url!r}, {example}")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            "base_url holds a user name or password; pass the key as api_key=..."
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"base_url {base_url!r} has a query or fragment;"
            " pass query parameters as default_query=..."
        )
    return base_url.rstrip("/")


def _key(
    api_key: str | None, service: Service, address: str, *, asked: str | None
) -> Secret | None:
    variable = service.key_variable
    source = "api_key"
    if api_key is None and variable and _may_have(service, address, asked):
        api_key, source = os.environ.get(variable), variable
    if api_key is None:
        if is_loopback(address):
            return None
        raise ConfigurationError(_missing(service, address))
    if not isinstance(api_key, str):
        kind = type(api_key).__name__
        raise ConfigurationError(f"{source} is a {kind}, expected a string")
    if not api_key:
        raise ConfigurationError(f"{source} is empty: set it to your key")
    if not re.fullmatch(r"[\x21-\x7e]+", api_key):
        # The key itself is not shown.
        raise ConfigurationError(
            f"{source} holds a space, line break or non-ASCII character,"
            " which no key has; was it copied with its line end?"
        )
    return Secret(api_key)


def _may_have(service: Service, address: str, asked: str | None) -> bool:
    # An address in the code may be anybody's; one in the environment was put beside the
    # key by the same hand.
    return asked is None or is_loopback(address) or service.owns(address)


def _missing(service: Service, address: str) -> str:
    variable = service.key_variable
    if variable is None or not service.owns(address):
        return (
            f"no key for {address}: pass api_key=... (a key from the environment is only"
            " sent to the vendor it belongs to)"
        )
    return f"no key for {service.name}: set {variable} or pass api_key=..."


def is_loopback(address: str) -> bool:
    """
    Whether the URL's host is this machine: there no key is needed, and none can leak.
    """
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_encrypted(address: str, *, allow_insecure: bool | None) -> None:
    if allow_insecure is None:
        allow_insecure = os.environ.get(INSECURE_VARIABLE, "") not in ("", "0")
    if address.startswith("https:") or is_loopback(address) or allow_insecure:
        return
    raise ConfigurationError(
        f"{address} is not encrypted, so the key would be readable on its way:"
        f" use https, or pass allow_insecure=True, or set {INSECURE_VARIABLE}=1"
    )


def check_headers(headers: Mapping[str, str] | None, what: str) -> dict[str, str]:
    """
    Headers as a dict, after a look at each name and value.

    Raises:
        ConfigurationError: One that HTTP cannot carry.
    """
    checked: dict[str, str] = {}
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(f"{what}: {name!r} is no header name")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            # The value may be a secret, so it is not shown.
            raise ConfigurationError(
                f"{what}[{name!r}]: expected a string without control characters"
            )
        checked[name] = value
    return checked


def check_query(query: Mapping[str, Any] | None, what: str) -> dict[str, str]:
    """
    Query parameters as strings.
    """
    checked: dict[str, str] = {}
    for name, value in (query or {}).items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ConfigurationError(
                f"{what}[{name!r}] is {value!r}, expected a string or number"
            )
        checked[str(name)] = str(value)
    return checked


def check_timeouts(
    timeouts: Timeouts | None, timeout: float | None, base: Timeouts
) -> Timeouts:
    """
    The clocks to use: `timeouts` or the base's, with `timeout` as the deadline.
    """
    if isinstance(timeout, Timeouts):
        timeouts, timeout = timeout, None
    if timeouts is not None and not isinstance(timeouts, Timeouts):
        raise ConfigurationError(f"timeouts is {timeouts!r}, expected Timeouts(...)")
    chosen = base if timeouts is None else timeouts
    if timeout is None:
        return chosen
    try:
        return chosen.evolve(deadline=timeout)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"timeout is {timeout!r}, expected seconds for the whole call,"
            " or Timeouts(...)"
        ) from None


def check_retries(max_retries: int) -> int:
    """
    A whole number from 0.
    """
    if isinstance(max_retries, bool) or not isinstance(max_retries, int):
        raise ConfigurationError(f"max_retries is {max_retries!r}, expected a number")
    if max_retries < 0:
        raise ConfigurationError(f"max_retries is {max_retries}, expected 0 or more")
    return max_retries


def own_headers(key: Secret | None) -> dict[str, str]:
    """
    What we send with every request, under the user's own headers.
    """
    headers = {"User-Agent": f"horay-async/{__version__}"}
    if key is not None:
        headers["Authorization"] = Secret(f"Bearer {str.__str__(key)}")
    return headers
