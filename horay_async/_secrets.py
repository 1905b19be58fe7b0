"""
What must not be told: which headers are secret, and cutting them out of what a server says.
"""

from __future__ import annotations

import functools
import json
import re

from collections.abc import Iterable, Mapping
from typing import Any, Final

from multidict import CIMultiDict


SHORTEST_SECRET: Final = 8
"""
A key of fewer characters is a test's, and cutting it out would maim any text.
"""

MASK: Final = "***"

_SECRET: Final = re.compile(
    "auth|key|token|secret|passw|credential|cookie|signature", re.IGNORECASE
)


def secrets_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """
    The secret values among a request's headers, without the word that says what they are:
    a server may repeat `Bearer sk-...` with it or without.
    """
    found = []
    for name, value in headers.items():
        if _is_secret(name):
            _, _, credentials = value.partition(" ")
            found.append(credentials or str(value))
    return tuple(one for one in found if len(one) >= SHORTEST_SECRET)


@functools.lru_cache
def _is_secret(name: str) -> bool:
    # Asked of the same few names in every call.
    return _SECRET.search(name) is not None


def redacted(content: bytes, secrets: str | Iterable[str] | None) -> bytes:
    """
    The bytes without the key, plain or as JSON spells it: some servers echo it.
    """
    for secret in _each(secrets):
        quoted = json.dumps(secret)[1:-1]
        # For most keys they are one.
        for spelling in {secret, quoted, quoted.replace("/", r"\/")}:
            if (found := spelling.encode()) in content:
                content = content.replace(found, MASK.encode())
    return content


def redacted_value(value: Any, secrets: tuple[str, ...]) -> Any:
    """
    JSON without the key, however its bytes spelt it.
    """
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, list):
        return [redacted_value(one, secrets) for one in value]
    if isinstance(value, dict):
        return {
            redacted_value(name, secrets): redacted_value(one, secrets)
            for name, one in value.items()
        }
    return value


def redacted_headers(
    headers: Mapping[str, str], secrets: tuple[str, ...]
) -> CIMultiDict[str]:
    """
    A response's headers without the key, and fit to be printed: where they are not UTF-8,
    aiohttp has put halves of UTF-16 pairs.
    """
    clean = CIMultiDict(headers)
    if not all(value.isascii() for value in clean.values()):
        clean = CIMultiDict([(name, printable(value)) for name, value in clean.items()])
    for secret in secrets:
        if any(secret in value for value in clean.values()):
            clean = CIMultiDict(
                [(name, value.replace(secret, MASK)) for name, value in clean.items()]
            )
    return clean


def printable(text: str) -> str:
    """
    Text whose bytes that are not UTF-8 became halves of UTF-16 pairs, with U+FFFD instead.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _each(secrets: str | Iterable[str] | None) -> list[str]:
    if isinstance(secrets, str):
        secrets = (secrets,)
    return [one for one in secrets or () if len(one) >= SHORTEST_SECRET]
