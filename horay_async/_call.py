"""
One call: what is sent in each of its attempts, and what the server says that refuses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import re

from collections.abc import Hashable, Mapping
from typing import Final

import attrs

from ._codec import describe, status_error_of
from ._errors import APIError, APIStatusError
from ._leases import NOTHING_ASKED, Asks, Lane
from ._secrets import SHORTEST_SECRET, redacted, redacted_value, secrets_in
from ._session import Body


ERROR_BODY_LIMIT: Final = 1 << 20
"""
Bytes that are read of an error's body.
"""

ERROR_BODY_SECONDS: Final = 10.0
"""
How long we wait for an error's body: the status has said the most important.
"""


@attrs.frozen(kw_only=True)
class Call:
    """
    What is sent, the same in every attempt.
    """

    method: str

    path: str

    service: str
    """
    The service's name, for messages.
    """

    gate: Hashable
    """
    What shares a rate limit: origin, key and model.
    """

    lane: Lane = "interactive"

    asks: Asks = NOTHING_ASKED
    """
    What it will cost, for a governor that must know before.
    """

    body: bytes | None = attrs.field(default=None, repr=False)

    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    query: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    stream: bool = False

    secret: str | None = attrs.field(default=None, repr=False)
    """
    The key: cut out of what a server echoes before an error carries it.
    """

    def redact(self, content: bytes) -> bytes:
        """
        The bytes without our key and the like: some servers echo what they were sent.
        """
        return redacted(content, self._secrets())

    def _secrets(self) -> tuple[str, ...]:
        given = secrets_in(self.headers)
        if self.secret is None or len(self.secret) < SHORTEST_SECRET:
            return given
        return (self.secret, *given)

    def clean(self, error: APIError) -> None:
        """
        Cut our key and the like out of what an error tells of the answer: there they may
        have been spelt otherwise, in JSON or in HTML, than in its bytes.
        """
        if not error.content:
            return
        secrets = self._secrets()
        told = [error.message, error.code, error.type, error.param, error.body]
        clean = redacted_value(told, secrets)
        content = _respelt(error.content, secrets)
        if clean == told and content is error.content:
            return
        error.reworded(clean[0])
        _, error.code, error.type, error.param, error.body = clean
        error.content = content
        # Its frames hold what was read.
        error.__traceback__ = None

    async def refusal(self, body: Body, seconds: float | None = None) -> APIStatusError:
        """
        Make the error of an answer that is not 2xx; the connection is done with.

        Args:
            seconds: Until the deadline; None: there is none.

        Cancelled: the connection is dropped.
        """
        limit = ERROR_BODY_SECONDS
        if seconds is not None:
            limit = min(limit, seconds)
        try:
            content = self.redact(await _explanation(body, limit))
        finally:
            body.drop()
        facts = describe(content, status=body.status, content_type=body.content_type)
        if 300 <= body.status < 400 and (place := body.headers.get("Location")):
            facts = attrs.evolve(facts, message=_elsewhere(place))
        error = status_error_of(
            facts, status=body.status, in_stream=False, service=self.service
        )
        return error.with_facts(content=content)


async def _explanation(body: Body, seconds: float) -> bytes:
    """
    The body of a refusal, as far as it comes: the status says more than that it broke off,
    or that a clock of ours ran out.
    """
    content = bytearray()
    with contextlib.suppress(APIError, TimeoutError):
        async with asyncio.timeout(seconds):
            while len(content) < ERROR_BODY_LIMIT and (block := await body.read()):
                content += block
    return bytes(content[:ERROR_BODY_LIMIT])


_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")


def _respelt(content: bytes, secrets: tuple[str, ...]) -> bytes:
    """
    The bytes, unless a secret hides behind escapes in them: then without both.
    """
    if len(content) > ERROR_BODY_LIMIT or not (b"\\u" in content or b"&" in content):
        return content
    text = _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)), content.decode("utf-8", "replace")
    )
    text = html.unescape(text)
    clean = redacted_value(text, secrets)
    return content if clean == text else clean.encode("utf-8", "replace")


def _elsewhere(place: str) -> str:
    # A query may hold what is nobody else's business.
    shown = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for char in place.partition("?")[0][:200]
    )
    return f"it redirects to {shown}, which is not followed (is the base URL right?)"
