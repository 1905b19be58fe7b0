"""
What a server's error means, in whichever of its many shapes it comes: bodies and events.

Shapes: OpenAI and vLLM, OpenRouter, TGI, FastAPI, SiliconFlow's family (Horay's likely
lineage), Anthropic-like gateways, plain text, and the HTML pages of proxies.
"""

from __future__ import annotations

import html
import json
import re

from collections.abc import Mapping
from typing import Any, Final

import attrs

from ._errors import APIStatusError, status_error


@attrs.frozen(kw_only=True)
class ErrorFacts:
    """
    One error, as the server tells it.
    """

    message: str

    type: str | None = None

    code: str | int | None = None

    param: str | None = None

    body: Any = None
    """
    The inside of `error` where it is an object, else all that came.
    """

    status: int | None = None
    """
    The HTTP status that the error stands for, as far as its own words tell.
    """


def error_in(obj: Any, event: str = "") -> ErrorFacts | None:
    """
    The error that stands where an answer or a chunk should, or None.

    To be asked before the choices are read: an error may come along with them.
    """
    if type(obj) is not dict:
        return facts_of(obj) if event == "error" else None
    if event != "error":
        # The hot path: an ordinary chunk is done after two look-ups.
        if obj.get("error"):
            return facts_of(obj)
        if "choices" in obj or not _is_refusal(obj):
            return None
    return facts_of(obj)


def _is_refusal(obj: Mapping[str, Any]) -> bool:
    """
    Whether an object with neither choices nor `error` is an error all the same.
    """
    if obj.get("object") == "error" or obj.get("status") is False:
        return True
    if "message" not in obj:
        return False
    code = obj.get("code")
    if code is not None:
        return code not in _SUCCESS
    return isinstance(obj["message"], str) and isinstance(obj.get("type"), str)


# SiliconFlow's envelope says 20000; other families 0 or 200.
_SUCCESS: Final = (20000, "20000", 0, "0", 200, "200")


def status_error_of(
    facts: ErrorFacts, *, status: int | None, in_stream: bool, service: str = ""
) -> APIStatusError:
    """
    The error to raise: its class by the HTTP status, or by what the facts stand for.

    Args:
        status: What HTTP said; 200 for an error inside an answer that began well.
    """
    refused = status is not None and not 200 <= status < 300
    stands_for = status if refused else facts.status
    kind = APIStatusError if stands_for is None else status_error(stands_for)
    who = service or "the server"
    where = "" if refused or status is None else f", under HTTP {status}"
    if in_stream:
        where = ", in the stream"
    error = kind(
        f"{stands_for or 'error'} from {who}{where}: {facts.message}",
        body=facts.body,
        code=facts.code,
        type=facts.type,
        param=facts.param,
    )
    return error.with_facts(in_stream=in_stream, status=stands_for)


# Reading one -----------------------------------------------------------------------


# Where servers put the sentence, the commonest first.
_SENTENCES: Final = ("message", "msg", "detail", "error_description", "title", "error")

LONGEST: Final = 1000
"""
Characters of a message; validation errors may quote the whole prompt. The body is whole.
"""


def facts_of(body: Any, *, status: int | None = None) -> ErrorFacts:
    """
    The facts in the JSON value of an error, of any shape.

    Args:
        status: What HTTP said, whose reason stands in for a missing message.
    """
    if isinstance(body, list) and body and isinstance(body[0], dict):
        body = body[0]  # Google's gateways wrap it in a list.
    if not isinstance(body, dict):
        return ErrorFacts(message=_sentence(body) or reason(status), body=body)
    inner = body.get("error")
    source = inner if isinstance(inner, dict) and inner else body
    kind = _word(source.get("type")) or _word(body.get("error_type"))
    code = source.get("code")
    if isinstance(code, bool) or not isinstance(code, (int, str)):
        code = None
    said = (_sentence(one.get(name)) for one in (source, body) for name in _SENTENCES)
    return ErrorFacts(
        message=next(filter(None, said), "") or reason(status),
        type=kind,
        code=code,
        param=_word(source.get("param")),
        body=source,
        status=_status_of(body, source, code, kind),
    )


def facts_of_text(
    text: str, *, content_type: str = "", status: int | None = None
) -> ErrorFacts:
    """
    The facts in an error's body that is not JSON.
    """
    start = text[:1000].lstrip("\ufeff \t\r\n").lower()
    if "html" in content_type.lower() or start.startswith(("<!doctype html", "<html")):
        return ErrorFacts(message=_html_summary(text) or reason(status), body=text)
    return ErrorFacts(
        message=_clipped(text.strip()) or reason(status), body=text or None
    )


def _sentence(value: Any) -> str:
    """
    A message of any type as text; "" where it says nothing.
    """
    if isinstance(value, str):
        return _clipped(value.strip())
    if isinstance(value, list):
        return _clipped("; ".join(filter(None, map(_complaint, value[:10]))))
    if isinstance(value, dict):
        return _inner_sentence(value)
    if value is None or isinstance(value, bool):
        return ""
    return _dumped(value)


def _complaint(value: Any) -> str:
    """
    One entry of a list of messages; FastAPI's `detail` says where and what.
    """
    if not isinstance(value, dict):
        return value.strip() if isinstance(value, str) else _dumped(value)
    what = _inner_sentence(value)
    where = value.get("loc")
    if not isinstance(where, list):
        return what
    steps = [str(step) for step in where if isinstance(step, (str, int))]
    return f"{'.'.join(steps)}: {what}" if steps else what


def _inner_sentence(value: Mapping[str, Any]) -> str:
    for name in _SENTENCES:
        if isinstance(inner := value.get(name), str) and inner.strip():
            return _clipped(inner.strip())
    return _dumped(value) if value else ""


def _dumped(value: Any) -> str:
    try:
        return _clipped(json.dumps(value, ensure_ascii=False, default=str))
    except (RecursionError, ValueError):  # nested too deeply; a number too long
        return ""


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _clipped(text: str) -> str:
    """
    A message as one line that any terminal can show: what steers one, turns the direction of
    writing, or is half a UTF-16 pair becomes U+FFFD. The body has it as it came.
    """
    text = " ".join(text[: 4 * LONGEST].split())
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    return _UNSHOWN.sub("\ufffd", text)


_UNSHOWN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


_TITLE: Final = re.compile(r"<title[^<>]*>([^<]*)", re.IGNORECASE)
_UNSEEN: Final = re.compile(
    # To the end where it is not closed: else each open one would be looked for that far.
    r"<(script|style|head)\b.*?(?:</\1\s*>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_TAG: Final = re.compile(r"<[^<>]*>")


def _html_summary(text: str) -> str:
    """
    A page's title, or the beginning of what it shows.
    """
    text = text[:20_000]
    if found := _TITLE.search(text):
        summary = " ".join(html.unescape(found[1]).split())
        if summary:
            return _clipped(summary)
    shown = " ".join(html.unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text))).split())
    return _clipped(shown if len(shown) <= 200 else shown[:199] + "…")


# Statuses --------------------------------------------------------------------------


_REASONS: Final[Mapping[int, str]] = {
    400: "bad request",
    401: "not authenticated",
    402: "payment required",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    408: "request timeout",
    409: "conflict",
    413: "content too large",
    415: "unsupported media type",
    422: "unprocessable content",
    424: "failed dependency",
    429: "too many requests",
    500: "internal server error",
    501: "not implemented",
    502: "bad gateway",
    503: "service unavailable",
    504: "gateway timeout",
    529: "overloaded",
}


def reason(status: int | None) -> str:
    """
    What to say of an error that says nothing itself.
    """
    if status is None:
        return "an error without a message"
    words = _REASONS.get(status)
    return f"{words} (no message)" if words else "no message"


# Words that servers use where a status belongs; the first one found in the error's code,
# then in its type, counts.
_WORDS: Final[tuple[tuple[str, int], ...]] = (
    ("rate_limit", 429),
    ("ratelimit", 429),
    ("too_many_requests", 429),
    ("resource_exhausted", 429),
    ("insufficient_quota", 429),
    ("overloaded_error", 529),
    ("overloaded", 429),  # TGI's word for its 429
    ("authentication", 401),
    ("invalid_api_key", 401),
    ("unauthorized", 401),
    ("permission", 403),
    ("forbidden", 403),
    ("billing", 402),
    ("payment_required", 402),
    ("insufficient_credit", 402),
    ("not_found", 404),
    ("notfound", 404),
    ("request_too_large", 413),
    ("unprocessable", 422),
    ("incomplete_generation", 500),
    ("invalid_request", 400),
    ("badrequest", 400),
    ("bad_request", 400),
    ("context_length", 400),
    ("timeout", 504),
    ("unavailable", 503),
    ("server_error", 500),
    ("servererror", 500),
    ("internal", 500),
    ("api_error", 500),
)
_EXACTLY: Final[Mapping[str, int]] = {
    "validation": 422,  # TGI's error types
    "generation": 424,
}
# SiliconFlow's documented codes.
_FAMILY: Final[Mapping[int, int]] = {20012: 400, 50505: 503}


def _status_of(
    body: Mapping[str, Any],
    source: Mapping[str, Any],
    code: str | int | None,
    kind: str | None,
) -> int | None:
    for value in (
        source.get("http_status_code"),
        source.get("status_code"),
        code,
        source.get("status"),
        body.get("code"),
        body.get("status_code"),
    ):
        if (status := _as_status(value)) is not None:
            return status
    for word in (code, kind, source.get("status"), body.get("error_type")):
        if isinstance(word, str) and (status := _status_in(word.lower())) is not None:
            return status
    return None


def _as_status(value: Any) -> int | None:
    if (
        isinstance(value, str)
        and len(value) < 6
        and value.isascii()
        and value.isdigit()
    ):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    value = _FAMILY.get(value, value)
    return value if 400 <= value < 600 else None


def _status_in(word: str) -> int | None:
    if word in _EXACTLY:
        return _EXACTLY[word]
    for part, status in _WORDS:
        if part in word:
            return status
    return None
