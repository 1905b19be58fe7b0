"""
What a client is made with: each thing that cannot work has its sentence.
"""

import math

import attrs
import pytest

from horay_async._errors import ConfigurationError
from horay_async._services import COMPATIBLE, EMPOWER, HORAY, Service
from horay_async._settings import (
    Settings,
    check_headers,
    check_query,
    check_retries,
    check_timeouts,
    check_validate,
    is_loopback,
    own_headers,
    resolve,
)
from horay_async._timeouts import Timeouts
from horay_async._values import Secret


OWN = Service(name="Own", base_url="https://own.example/v1", key_variable="OWN_KEY")
VARIABLES = [
    "HORAY_API_KEY",
    "HORAY_BASE_URL",
    "HORAY_ALLOW_INSECURE",
    "EMPOWER_API_KEY",
    "EMPOWER_API_BASE",
    "OWN_KEY",
]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def settings(**given):
    """
    Resolve, with only some of the arguments.
    """
    arguments = dict.fromkeys(["api_key", "service", "base_url", "allow_insecure"])
    return resolve(**(arguments | given))


def refused(**given):
    """
    The sentence of what cannot work.
    """
    with pytest.raises(ConfigurationError) as caught:
        settings(**given)
    assert caught.value.__cause__ is None
    return str(caught.value)


# Service and address ---------------------------------------------------------------


def test_horay():
    """
    The default: Horay at its own address.
    """
    made = settings(api_key="key")
    assert made == Settings(
        service=HORAY, base_url="https://api.horay.ai/v1", key=Secret("key")
    )


@pytest.mark.parametrize(
    ("base_url", "service"),
    [
        ("https://api.horay.ai/v1", HORAY),
        ("https://sr-endpoint.horay.ai/v1", HORAY),
        ("https://app.empower.dev/api/v1", EMPOWER),
        ("https://horay.ai.example/v1", COMPATIBLE),
        ("https://nothoray.ai/v1", COMPATIBLE),
        ("http://localhost:8000/v1", COMPATIBLE),
        ("http://[::1]:8000/v1", COMPATIBLE),
    ],
)
def test_the_address_names_the_service(base_url, service):
    """
    A vendor's host is the vendor; any other is any compatible server.
    """
    made = settings(api_key="key", base_url=base_url)
    assert (made.service, made.base_url) == (service, base_url)


def test_a_service_at_another_address():
    """
    What is said is taken: a proxy in front of Horay is Horay.
    """
    made = settings(api_key="key", service=HORAY, base_url="https://proxy.example/h")
    assert (made.service, made.base_url) == (HORAY, "https://proxy.example/h")


def test_an_own_service():
    """
    With its own address and its own variable.
    """
    made = settings(api_key="key", service=OWN)
    assert (made.service, made.base_url) == (OWN, "https://own.example/v1")


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_slashes_at_the_end(slashes, monkeypatch):
    """
    Paths are appended with theirs.
    """
    url = f"https://host.example/v1{slashes}"
    assert settings(api_key="key", base_url=url).base_url == "https://host.example/v1"
    monkeypatch.setenv("HORAY_BASE_URL", url)
    assert settings(api_key="key").base_url == "https://host.example/v1"


def test_the_address_of_the_environment(monkeypatch):
    """
    It is the service's, wherever it points; an argument wins, and an empty one is none.
    """
    monkeypatch.setenv("HORAY_BASE_URL", "https://proxy.example/v1")
    monkeypatch.setenv("EMPOWER_API_BASE", "https://other.example/v1")
    made = settings(api_key="key")
    assert (made.service, made.base_url) == (HORAY, "https://proxy.example/v1")
    made = settings(api_key="key", service=EMPOWER)
    assert (made.service, made.base_url) == (EMPOWER, "https://other.example/v1")
    made = settings(api_key="key", base_url="https://app.empower.dev/api/v1")
    assert made.base_url == "https://app.empower.dev/api/v1"
    monkeypatch.setenv("HORAY_BASE_URL", "")
    assert settings(api_key="key").base_url == HORAY.base_url


# name: (the address, what the sentence says)
ADDRESSES = {
    "a number": (8000, "is 8000, expected a string"),
    "bytes": (b"http://localhost/v1", "expected a string"),
    "empty": ("", "is '', expected something like https://host/v1"),
    "no scheme": ("localhost:8000/v1", "is 'localhost:8000/v1', expected something"),
    "only a host": ("localhost", "expected something like"),
    "another scheme": ("ftp://localhost/v1", "expected something like"),
    "no host": ("https:///v1", "expected something like"),
    "only a port": ("http://:8000/v1", "expected something like"),
    "port 0": ("http://localhost:0/v1", "expected something like"),
    "a port that is none": ("http://localhost:x/v1", "Port could not be cast"),
    "a port out of range": ("http://localhost:99999/v1", "out of range"),
    "an empty part": (
        "https://a..b/v1",
        "whose host is no name that could be looked up",
    ),
    "an empty first part": ("https://.example/v1", "no name that could be looked up"),
    "a part too long": (f"https://{'a' * 64}.example/v1", "no name that could be"),
    "a name that is none": ("https://xn--z\u200b.com/v1", "no name that could be"),
    "half a bracket": ("http://[::1/v1", "Invalid IPv6 URL"),
    "a space": ("http://localhost/v1 ", "has a space or control character"),
    "a line break": ("http://localhost/v1\r\nX: y", "has a space or control character"),
    "a line break in the host": ("http://local\nhost/v1", "space or control character"),
    "a query": ("https://host.example/v1?key=secret", "has a query or fragment"),
    "an empty query": ("https://host.example/v1?", "default_query="),
    "a fragment": ("https://host.example/v1#secret", "has a query or fragment"),
    "a password": ("https://me:secret@host.example/v1", "user name or password"),
    "a password, a bad port": ("https://me:secret@host.example:x/v1", "password"),
    "a password, no scheme": ("me:secret@host.example/v1", "user name or password"),
    "an empty user": ("https://@host.example/v1", "user name or password"),
}


@pytest.mark.parametrize(("base_url", "message"), ADDRESSES.values(), ids=ADDRESSES)
def test_addresses_that_cannot_work(base_url, message, monkeypatch):
    """
    The sentence names the argument or the variable, and shows no secret.
    """
    for service in (None, HORAY):
        said = refused(api_key="key", base_url=base_url, service=service)
        assert said.startswith("base_url ")
        assert message in said
        assert "secret" not in said
    if isinstance(base_url, str) and base_url:
        monkeypatch.setenv("HORAY_BASE_URL", base_url)
        said = refused(api_key="key")
        assert said.startswith("HORAY_BASE_URL ")
        assert message in said


def test_an_at_sign_in_the_path():
    """
    Only before the path is it a user's.
    """
    url = "https://host.example/me@home/v1"
    assert settings(api_key="key", base_url=url).base_url == url


def test_services_that_cannot_work():
    """
    One without an address needs one; its name is no service.
    """
    assert "pass base_url=" in refused(api_key="key", service=COMPATIBLE)
    assert "expected a Service: HORAY" in refused(api_key="key", service="empower")
    wrong = attrs.evolve(OWN, base_url="own.example")
    said = refused(api_key="key", service=wrong)
    assert said.startswith("the base_url of Own is 'own.example'")


# The key ---------------------------------------------------------------------------


def test_the_key_of_the_environment(monkeypatch):
    """
    Each service has its own; an argument wins.
    """
    monkeypatch.setenv("HORAY_API_KEY", "key-h")
    monkeypatch.setenv("EMPOWER_API_KEY", "key-e")
    monkeypatch.setenv("OWN_KEY", "key-o")
    assert settings().key == "key-h"
    assert settings(service=EMPOWER).key == "key-e"
    assert settings(service=OWN).key == "key-o"
    assert settings(base_url="https://app.empower.dev/api/v1").key == "key-e"
    assert settings(base_url="https://eu.horay.ai/v1").key == "key-h"
    assert settings(api_key="key-a").key == "key-a"


def test_the_key_goes_to_no_foreign_host(monkeypatch):
    """
    An address in the code may be anybody's.
    """
    monkeypatch.setenv("HORAY_API_KEY", "key-h")
    monkeypatch.setenv("OWN_KEY", "key-o")
    for given in (
        {"base_url": "https://host.example/v1"},
        {"base_url": "https://host.example/v1", "service": HORAY},
        {"base_url": "https://own.example/v1", "service": OWN},
        {"base_url": "https://api.horay.ai.host.example/v1", "service": HORAY},
    ):
        said = refused(**given)
        assert said.startswith(f"no key for {given['base_url']}: pass api_key=")
        assert "vendor it belongs to" in said
        assert settings(api_key="key", **given).key == "key"


def test_the_key_goes_where_the_environment_says(monkeypatch):
    """
    Address and key stand there side by side.
    """
    monkeypatch.setenv("HORAY_API_KEY", "key-h")
    monkeypatch.setenv("HORAY_BASE_URL", "https://proxy.example/v1")
    assert settings().key == "key-h"


LOOPBACK = [
    "http://localhost:8000/v1",
    "http://LOCALHOST/v1",
    "http://api.localhost/v1",
    "http://127.0.0.1/v1",
    "http://127.9.9.9:1/v1",
    "http://[::1]/v1",
]
ELSEWHERE = [
    "http://localhost.example/v1",
    "http://10.0.0.1/v1",
    "http://0.0.0.0/v1",
    "http://[::2]/v1",
    "http://127.0.0.1.example/v1",
]


@pytest.mark.parametrize("url", LOOPBACK)
def test_loopback_needs_no_key(url, monkeypatch):
    """
    But gets one that is there for its service; an empty variable is none.
    """
    assert is_loopback(url)
    assert settings(base_url=url).key is None
    assert settings(base_url=url, service=HORAY).key is None
    monkeypatch.setenv("HORAY_API_KEY", "")
    assert settings(base_url=url, service=HORAY).key is None
    monkeypatch.setenv("HORAY_API_KEY", "key-h")
    assert settings(base_url=url).key is None
    assert settings(base_url=url, service=HORAY).key == "key-h"
    assert settings(base_url=url, api_key="key").key == "key"


@pytest.mark.parametrize("url", ELSEWHERE)
def test_elsewhere_needs_a_key(url):
    """
    What only looks like this machine is another.
    """
    assert not is_loopback(url)
    assert "pass api_key=" in refused(base_url=url)


@pytest.mark.parametrize("found", [None, ""])
def test_no_key(found, monkeypatch):
    """
    The sentence says which variable to set.
    """
    if found is not None:
        monkeypatch.setenv("HORAY_API_KEY", found)
    assert refused() == "no key for Horay: set HORAY_API_KEY or pass api_key=..."
    assert "set EMPOWER_API_KEY" in refused(service=EMPOWER)
    assert "set OWN_KEY" in refused(service=OWN)
    nameless = attrs.evolve(OWN, key_variable=None)
    assert "no key for https://own.example/v1: pass" in refused(service=nameless)


KEYS = {
    "empty": ("", "api_key is empty"),
    "bytes": (b"secret", "api_key is a bytes, expected a string"),
    "a line end": ("secret\n", "copied with its line end"),
    "a header smuggled in": ("secret\r\nX: y", "line break"),
    "a space": ("Bearer secret", "holds a space"),
    "not ASCII": ("secreté", "non-ASCII"),
    "only spaces": ("  ", "holds a space"),
}


@pytest.mark.parametrize(("key", "message"), KEYS.values(), ids=KEYS)
def test_keys_that_cannot_work(key, message, monkeypatch):
    """
    The key itself is not shown.
    """
    for url in ("https://host.example/v1", "http://localhost/v1"):
        said = refused(api_key=key, base_url=url)
        assert message in said
        assert "secret" not in said
    if isinstance(key, str) and key:
        monkeypatch.setenv("HORAY_API_KEY", key)
        assert refused().startswith("HORAY_API_KEY holds a space")


def test_no_repr_shows_a_secret():
    """
    Not the key, nor what else may be one.
    """
    made = attrs.evolve(
        settings(api_key="secret"),
        headers=check_headers({"api-key": "secret"}, "default_headers"),
        query=check_query({"key": "secret"}, "default_query"),
    )
    assert "secret" not in repr(made)
    assert "secret" not in repr([made.key, made.headers])
    headers = own_headers(made.key)
    assert "secret" not in repr(headers)
    assert headers["Authorization"] == "Bearer secret"
    assert headers["User-Agent"].startswith("horay-async/")
    assert "Authorization" not in own_headers(None)


# Encryption ------------------------------------------------------------------------


LAN = "http://10.0.0.1:8000/v1"


def test_a_key_over_plain_http():
    """
    Not to another machine; without a key, to this one, or encrypted it is nobody's.
    """
    said = refused(api_key="secret", base_url=LAN)
    assert said.startswith(f"{LAN} is not encrypted")
    assert "allow_insecure=True" in said
    assert "HORAY_ALLOW_INSECURE=1" in said
    assert "secret" not in said
    for url in ("https://10.0.0.1/v1", "HTTPS://10.0.0.1/v1", "http://localhost/v1"):
        assert settings(api_key="key", base_url=url).base_url == url


def test_allowed_by_argument(monkeypatch):
    """
    Which wins over the variable, both ways.
    """
    assert settings(api_key="key", base_url=LAN, allow_insecure=True).key == "key"
    monkeypatch.setenv("HORAY_ALLOW_INSECURE", "1")
    assert "not encrypted" in refused(api_key="key", base_url=LAN, allow_insecure=False)


@pytest.mark.parametrize("yes", ["1", "true", "Yes", " on "])
def test_allowed_by_variable(yes, monkeypatch):
    """
    By any word that says so.
    """
    monkeypatch.setenv("HORAY_ALLOW_INSECURE", yes)
    assert settings(api_key="key", base_url=LAN).key == "key"


@pytest.mark.parametrize("no", ["", "0", "false", "no", "off", "maybe"])
def test_not_allowed_by_variable(no, monkeypatch):
    """
    A word that does not say so does not open the door.
    """
    monkeypatch.setenv("HORAY_ALLOW_INSECURE", no)
    assert "not encrypted" in refused(api_key="key", base_url=LAN)


# Headers and query -----------------------------------------------------------------


def test_headers():
    """
    Copied, and of none made an empty dict.
    """
    given = {"X-Title": "tést\tof tabs", "X-Empty": ""}
    assert check_headers(given, "h") == given
    assert check_headers(given, "h") is not given
    assert check_headers(None, "h") == {}


HEADERS = {
    "a list": ([("a", "b")], "h is a list, expected a mapping"),
    "a line break": (
        {"X-A": "secret\r\nX-B: 1"},
        "h['X-A']: expected a string without",
    ),
    "a null byte": ({"X-A": "secret\0"}, "control characters"),
    "half a pair": ({"X-A": "secret\ud83d"}, "h['X-A']"),
    "a number": ({"X-A": 5}, "h['X-A']: expected a string"),
    "bytes": ({"X-A": b"secret"}, "expected a string"),
    "a name with a space": ({"X A": "1"}, "h: 'X A' is no header name"),
    "a name with a line break": ({"X-A\r\nX": "1"}, "is no header name"),
    "a name with a colon": ({"X:": "1"}, "is no header name"),
    "an empty name": ({"": "1"}, "is no header name"),
    "a name that is no text": ({5: "1"}, "5 is no header name"),
}


@pytest.mark.parametrize(("headers", "message"), HEADERS.values(), ids=HEADERS)
def test_headers_that_cannot_work(headers, message):
    """
    The sentence names the header, and shows no value.
    """
    with pytest.raises(ConfigurationError) as caught:
        check_headers(headers, "h")
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_query():
    """
    Numbers become text.
    """
    given = {"a": "b c", "n": 5, "x": 0.5}
    assert check_query(given, "q") == {"a": "b c", "n": "5", "x": "0.5"}
    assert check_query(None, "q") == {}


QUERIES = {
    "a string": ("a=b", "q is a str, expected a mapping"),
    "a bool": ({"a": True}, "q['a'] is True, expected a string or number"),
    "none": ({"a": None}, "q['a'] is None"),
    "a list": ({"a": ["b"]}, "q['a'] is ['b']"),
    "a name that is no text": ({5: "b"}, "q: 5 is no name"),
}


@pytest.mark.parametrize(("query", "message"), QUERIES.values(), ids=QUERIES)
def test_queries_that_cannot_work(query, message):
    """
    The sentence names the parameter.
    """
    with pytest.raises(ConfigurationError) as caught:
        check_query(query, "q")
    assert message in str(caught.value)


# Clocks and counts -----------------------------------------------------------------


BASE = Timeouts(first_token=7, deadline=8)
OTHER = Timeouts(stall=3)

# name: (timeouts, timeout, the clocks)
CLOCKS = {
    "nothing": (None, None, BASE),
    "timeouts": (OTHER, None, OTHER),
    "seconds are the deadline": (None, 5, BASE.evolve(deadline=5)),
    "seconds beside timeouts": (OTHER, 5.5, OTHER.evolve(deadline=5.5)),
    "no limit": (None, math.inf, BASE.evolve(deadline=math.inf)),
    "timeouts under the other name": (None, OTHER, OTHER),
}


@pytest.mark.parametrize(("timeouts", "timeout", "clocks"), CLOCKS.values(), ids=CLOCKS)
def test_clocks(timeouts, timeout, clocks):
    """
    `timeout` is short for the deadline; what is not given stays.
    """
    assert check_timeouts(timeouts, timeout, BASE) == clocks


WRONG_CLOCKS = {
    "timeouts of seconds": (5, None, "timeouts is 5, expected Timeouts(...)"),
    "no time": (None, 0, "timeout is 0, expected seconds for the whole call"),
    "less than no time": (None, -1, "timeout is -1"),
    "not a number": (None, math.nan, "timeout is nan"),
    "a bool": (None, True, "timeout is True"),
    "text": (None, "5", "timeout is '5', expected seconds for the whole call"),
    "both": (OTHER, BASE, "timeout and timeouts: give one"),
}


@pytest.mark.parametrize(
    ("timeouts", "timeout", "message"), WRONG_CLOCKS.values(), ids=WRONG_CLOCKS
)
def test_clocks_that_cannot_work(timeouts, timeout, message):
    """
    The sentence says what was expected.
    """
    with pytest.raises(ConfigurationError) as caught:
        check_timeouts(timeouts, timeout, BASE)
    assert message in str(caught.value)


def test_retries():
    """
    From none on.
    """
    assert [check_retries(count) for count in (0, 5)] == [0, 5]
    for wrong in (-1, 1.5, True, None, "2", math.inf):
        with pytest.raises(ConfigurationError, match="max_retries is"):
            check_retries(wrong)


def test_validate():
    """
    One of three words.
    """
    assert check_validate("strict") == "strict"
    with pytest.raises(ConfigurationError, match="'documented', 'strict', 'off'"):
        check_validate("loose")
