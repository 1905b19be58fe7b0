"""
What a client is made with, checked: key, address, headers, clocks. Reads the environment.
"""

from __future__ import annotations

import inspect
import ipaddress
import os
import re

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import attrs

from ._errors import ConfigurationError, MissingKeyError
from ._events import Hook
from ._leases import Lane
from ._requests import Validate
from ._services import HORAY, Service, service_of
from ._timeouts import Timeouts
from ._values import Secret
from ._version import __version__


INSECURE_VARIABLE: Final = "HORAY_ALLOW_INSECURE"

# RFC 9110, 5.6.2 and 5.5: a token for the name; no control character in the value. Half a
# UTF-16 pair could not be encoded.
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")
_KEY: Final = re.compile(r"[\x21-\x7e]+")
_NOT_IN_URL: Final = re.compile(r"[\x00-\x20\x7f]")


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

    query: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    timeouts: Timeouts = attrs.field(factory=Timeouts)

    max_retries: int = 2

    validate: Validate = "documented"

    hook: Hook | None = None

    idempotency_keys: bool = False

    lane: Lane | None = None
    """
    None: each verb has its own.
    """


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
    if service is not None and not isinstance(service, Service):
        raise ConfigurationError(
            f"service is {service!r}, expected a Service: HORAY, EMPOWER, or your own"
        )
    if base_url is not None:
        address = _address(base_url, "base_url")
        service = service or service_of(address)
    else:
        service = service or HORAY
        address = _address_of(service)
    key = _key(api_key, service, address, chosen=base_url is not None)
    if key is not None:
        _check_encrypted(address, allow_insecure=allow_insecure)
    return Settings(service=service, base_url=address, key=key)


def _address_of(service: Service) -> str:
    variable = service.base_url_variable
    if variable and (found := os.environ.get(variable)):
        return _address(found, variable)
    if service.base_url is None:
        raise ConfigurationError(
            f"{service.name} has no address of its own: pass base_url=..."
        )
    return _address(service.base_url, f"the base_url of {service.name}")


def _address(url: str, source: str) -> str:
    # Never shown whole: what stands before an @ or behind a ? may be a secret.
    if not isinstance(url, str):
        raise ConfigurationError(f"{source} is {url!r}, expected a string")
    if _NOT_IN_URL.search(url):
        raise ConfigurationError(f"{source} has a space or control character in it")
    if "?" in url or "#" in url:
        raise ConfigurationError(
            f"{source} has a query or fragment;"
            " pass query parameters as default_query=..."
        )
    if "@" in (url.partition("//")[2] or url).partition("/")[0]:
        raise ConfigurationError(
            f"{source} holds a user name or password; pass the key as api_key=..."
        )
    try:
        parts = urlsplit(url)
        works = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ConfigurationError(f"{source} is {url!r}: {error}") from None
    if not works:
        raise ConfigurationError(
            f"{source} is {url!r}, expected something like https://host/v1"
        )
    if not is_name(parts.hostname or ""):
        raise ConfigurationError(
            f"{source} is {url!r}, whose host is no name that could be looked up"
        )
    return url.rstrip("/")


def _key(
    api_key: str | None, service: Service, address: str, *, chosen: bool
) -> Secret | None:
    source, variable = "api_key", service.key_variable
    # An address in the code may be anybody's; one in the environment was put beside the
    # key by the same hand.
    if chosen and not (is_loopback(address) or service.owns(address)):
        variable = None
    if api_key is None and variable:
        api_key, source = os.environ.get(variable) or None, variable
    if api_key is None:
        if is_loopback(address):
            return None
        raise MissingKeyError(_missing(service, address, variable))
    if not isinstance(api_key, str):
        kind = type(api_key).__name__
        raise ConfigurationError(f"{source} is a {kind}, expected a string")
    if not api_key:
        raise ConfigurationError(f"{source} is empty: set it to your key")
    if not _KEY.fullmatch(api_key):
        # The key itself is not shown.
        raise ConfigurationError(
            f"{source} holds a space, line break or non-ASCII character,"
            " which no key has; was it copied with its line end?"
        )
    return Secret(api_key)


def _missing(service: Service, address: str, variable: str | None) -> str:
    if variable is not None:
        return f"no key for {service.name}: set {variable} or pass api_key=..."
    return (
        f"no key for {address}: pass api_key=... (a key from the environment is only"
        " sent to the vendor it belongs to)"
    )


def is_name(host: str) -> bool:
    """
    Whether a host can be looked up: no part of its name is empty, too long or unseen.
    """
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return host.isprintable()


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
        # Only what says so: "false" must not allow it.
        found = os.environ.get(INSECURE_VARIABLE, "")
        allow_insecure = found.strip().lower() in ("1", "true", "yes", "on")
    encrypted = urlsplit(address).scheme == "https"
    if encrypted or is_loopback(address) or allow_insecure:
        return
    raise ConfigurationError(
        f"{address} is not encrypted, so the key would be readable on its way:"
        f" use https, or pass allow_insecure=True, or set {INSECURE_VARIABLE}=1"
    )


def check_headers(headers: Mapping[str, str] | None, what: str) -> dict[str, str]:
    """
    Headers as a dict, after a look at each name and value; no repr shows the values.

    Raises:
        ConfigurationError: One that HTTP cannot carry.
    """
    checked: dict[str, str] = {}
    for name, value in _items(headers, what):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(f"{what}: {name!r} is no header name")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            # The value may be a secret, so it is not shown.
            raise ConfigurationError(
                f"{what}[{name!r}]: expected a string without control characters"
            )
        checked[name] = Secret(value)
    return checked


def check_query(query: Mapping[str, Any] | None, what: str) -> dict[str, str]:
    """
    Query parameters as strings.

    Raises:
        ConfigurationError: One that is neither a string nor a number.
    """
    checked: dict[str, str] = {}
    for name, value in _items(query, what):
        if not isinstance(name, str):
            raise ConfigurationError(f"{what}: {name!r} is no name, expected a string")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ConfigurationError(
                f"{what}[{name!r}] is {value!r}, expected a string or number"
            )
        checked[name] = str(value)
    return checked


def _items(mapping: Any, what: str) -> Iterable[tuple[Any, Any]]:
    if mapping is None:
        return ()
    if not isinstance(mapping, Mapping):
        kind = type(mapping).__name__
        raise ConfigurationError(f"{what} is a {kind}, expected a mapping")
    return mapping.items()


def check_timeouts(
    timeouts: Timeouts | None, timeout: float | Timeouts | None, base: Timeouts
) -> Timeouts:
    """
    The clocks to use: `timeouts` or the base's, with `timeout` as the deadline.

    Raises:
        ConfigurationError: One of them is not what it should be.
    """
    if isinstance(timeout, Timeouts):
        if timeouts is not None:
            raise ConfigurationError("timeout and timeouts: give one Timeouts(...)")
        return timeout
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


def check_hook(hook: Hook | None) -> Hook | None:
    """
    A plain function of one event; it is called in the middle of a call, not awaited.

    Raises:
        ConfigurationError: It is none.
    """
    if hook is not None and (not callable(hook) or inspect.iscoroutinefunction(hook)):
        raise ConfigurationError(
            f"on_event is {hook!r}, expected a plain function that takes one event"
        )
    return hook


def check_retries(max_retries: int) -> int:
    """
    A whole number from 0.

    Raises:
        ConfigurationError: It is none.
    """
    if isinstance(max_retries, bool) or not isinstance(max_retries, int):
        raise ConfigurationError(
            f"max_retries is {max_retries!r}, expected a whole number"
        )
    if max_retries < 0:
        raise ConfigurationError(f"max_retries is {max_retries}, expected 0 or more")
    return max_retries


def check_flag(name: str, value: bool) -> bool:
    """
    True or False, and nothing that merely counts as one.

    Raises:
        ConfigurationError: It is neither.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} is {value!r}, expected True or False")
    return value


def check_lane(lane: Lane) -> Lane:
    """
    One of the two words.

    Raises:
        ConfigurationError: It is neither.
    """
    if lane not in get_args(Lane):
        words = " or ".join(map(repr, get_args(Lane)))
        raise ConfigurationError(f"lane is {lane!r}, expected {words}")
    return lane


def check_validate(validate: Validate) -> Validate:
    """
    One of the three words.
    """
    if validate not in get_args(Validate):
        words = ", ".join(map(repr, get_args(Validate)))
        raise ConfigurationError(f"validate is {validate!r}, expected one of {words}")
    return validate


def own_headers(key: Secret | None) -> dict[str, str]:
    """
    What we send with every request, under the user's own headers.
    """
    headers = {"User-Agent": f"horay-async/{__version__}"}
    if key is not None:
        headers["Authorization"] = Secret(f"Bearer {str.__str__(key)}")
    return headers
