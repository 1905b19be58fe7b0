"""
What broke between us and a server, in words.
"""

import ssl

import pytest

from horay_async._network import explain


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
