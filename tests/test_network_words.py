"""
What broke between us and a server, in words.
"""

import ssl

import aiohttp
import pytest

from horay_async import ConfigurationError
from horay_async._network import Proxy, cause_of, explain


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("IP address mismatch", "IP address mismatch"),
        ("Hostname mismatch", "hostname mismatch"),
    ],
)
def test_a_certificate_of_another(said, words):
    """
    OpenSSL's sentence goes on ours, but an abbreviation keeps its capitals.
    """
    error = ssl.SSLCertVerificationError(1, "…")
    error.verify_message = said
    assert explain(error, "https://a.example").endswith(f": {words}")


@pytest.mark.parametrize("proxy", ["http://a..b:1", f"{'a' * 64}.example:1"])
def test_a_proxy_that_cannot_be_looked_up(proxy):
    """
    It is told when the client is made.
    """
    with pytest.raises(ConfigurationError, match=r"^proxy= names a host|^proxy= is no"):
        Proxy.parse(proxy, "proxy=")


BAD_RECORD = (
    "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed or bad record"
)


def test_tls_in_the_middle():
    """
    aiohttp puts OpenSSL's number and words into an error of its own, which is no
    PermissionError for that.
    """
    error = aiohttp.ClientOSError(1, BAD_RECORD)
    assert explain(error, "h:1") == (
        "the connection to h:1 broke: decryption failed or bad record mac"
    )
    cause = cause_of(error)
    assert type(cause) is ssl.SSLError
    assert not isinstance(cause_of(aiohttp.ClientOSError(2, "No")), ssl.SSLError)
