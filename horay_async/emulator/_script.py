"""
Answers written out in advance: exactly these bytes, pauses and ends.
"""

import asyncio
import inspect
import itertools

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

from . import _wire
from ._connection import Connection
from ._report import Request


Step = bytes | float | asyncio.Event | Callable[[], Any]
"""
Bytes to send, seconds to wait, an event to wait for, or something to call.

A callable may be async; bytes that it returns are sent.
"""

At = Literal["request", "head", "accept", "listen"]

End = Literal["finish", "close", "reset", "hang", "stale"]

Framing = Literal["chunked", "length", "close", "raw"]

_WHOLE = ("finish", "stale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    One scripted answer.

    *framing* says how the body is delimited: by chunks (one for each bytes item), by a
    Content-Length, by the end of the connection, or *raw*: the items are all that is
    sent, without any head, so a status line or nonsense can be one of them. A framing
    header given in *headers* replaces the one that would be written.

    *end* says what comes after the last item. *finish* completes the answer and keeps
    the connection for the next request (unless its framing or the client wants it
    closed). *close* hangs up without completing a chunked body; *reset* does so with a
    TCP reset; *hang* keeps the connection open and silent until the client leaves;
    *stale* finishes, keeps the connection and resets it when the next request arrives.

    *at* says when the answer strikes:

    - *request*: when a request has arrived whole.
    - *head*: when a request's head has arrived, before its body is read. What the client
      still sends is thrown away, and the connection is closed after the answer.
    - *accept*: when the next connection is accepted, before a byte is read. Status and
      headers are not sent: the body is *raw*, and *finish* is *close*.
    - *listen*: when no request is being answered. The port refuses connections until the
      steps in *before* are done; nothing is sent.
    """

    status: int = 200

    headers: _wire.Headers = ()

    body: Iterable[Step | str] = ()
    """May be endless, except with framing *length*. A str is sent as UTF-8."""

    end: End = "finish"

    framing: Framing = "chunked"

    before: Iterable[Step] = ()
    """What to wait for before the head is sent."""

    at: At = "request"

    @classmethod
    def sse(
        cls,
        *events: Step | str | dict[str, Any],
        done: bool = True,
        newline: str = "\n",
        headers: _wire.Headers = (),
        **options: Any,
    ) -> Self:
        """
        An event stream: a dict is an event of JSON, a str an event of that data.

        Bytes are sent as they are, and the other steps done. *done* adds `[DONE]`.
        """
        end = newline.encode()

        def step(event: Step | str | dict[str, Any]) -> Step:
            if isinstance(event, dict):
                return _wire.event(_wire.dump(event), end)
            return _wire.event(event.encode(), end) if isinstance(event, str) else event

        body = [step(event) for event in events]
        if done:
            body.append(_wire.event(b"[DONE]", end))
        named = _typed("text/event-stream", headers)
        return cls(headers=named, body=body, **options)

    @classmethod
    def chat(
        cls,
        *texts: Step | str,
        finish: str | None = "stop",
        usage: dict[str, int] | None = None,
        **options: Any,
    ) -> Self:
        """
        A chat stream of one choice: each str is a piece of content.

        The other steps are done between the pieces. Without *finish* the stream has no
        finish reason.
        """

        def chunk(
            delta: dict[str, str], reason: str | None = None, **more: Any
        ) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            chunk = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk"}
            return (
                chunk | {"created": 0, "model": "scripted", "choices": [choice]} | more
            )

        events: list[Any] = [chunk({"role": "assistant", "content": ""})]
        events += [
            chunk({"content": text}) if isinstance(text, str) else text
            for text in texts
        ]
        if finish is not None:
            events.append(chunk({}, finish))
        if usage is not None:
            events.append(chunk({}, choices=[], usage=usage))
        return cls.sse(*events, **options)

    @classmethod
    def json(cls, value: Any, status: int = 200, **options: Any) -> Self:
        """
        A JSON body with its length.
        """
        return cls.text(_wire.dump(value), status, "application/json", **options)

    @classmethod
    def text(
        cls,
        body: str | bytes,
        status: int = 200,
        content_type: str = "text/plain; charset=utf-8",
        *,
        headers: _wire.Headers = (),
        **options: Any,
    ) -> Self:
        """
        Any body with its length.
        """
        options.setdefault("framing", "length")
        named = _typed(content_type, headers)
        return cls(status=status, headers=named, body=[body], **options)


def _typed(content_type: str, headers: _wire.Headers) -> list[tuple[str, str]]:
    """
    Headers with a content type, unless they have one.
    """
    named = _wire.pairs(headers)
    if any(name.lower() == "content-type" for name, _ in named):
        return named
    return [("content-type", content_type), *named]


async def play(answer: Answer, connection: Connection, request: Request) -> bool:
    """
    Send a scripted answer. Returns whether the connection can serve another request.
    """
    framing = answer.framing
    if framing == "chunked" and request.http_version == "1.0":
        framing = "close"  # HTTP/1.0 has no chunks
    keep = connection.keeps_alive and framing != "close"
    body = list(answer.body) if framing == "length" else answer.body
    await _do(answer.before, connection)
    if framing != "raw":
        request.status = answer.status
        headers = _headers(answer.headers, framing, body, keep=keep)
        connection.write(_wire.head(answer.status, headers))
    if framing == "chunked":
        last = _wire.LAST_CHUNK if answer.end in _WHOLE else b""
        await _do(body, connection, _wire.chunk, last)
    else:
        await _do(body, connection)
    if answer.end == "stale":
        connection.stale = True
    await _end(answer.end, connection)
    return answer.end in _WHOLE and keep


async def greet(answer: Answer, connection: Connection) -> None:
    """
    Treat a new connection as the answer says, instead of reading from it.
    """
    await _do(answer.before, connection)
    await _do(answer.body, connection)
    await _end(answer.end, connection)
    connection.close()


async def wait(steps: Iterable[Step]) -> None:
    """
    Do the steps; nobody is there to be sent what they give.
    """
    for step in steps:
        await _data(step)


async def _end(end: End, connection: Connection) -> None:
    if end == "hang":
        await asyncio.Event().wait()  # the client's leaving cancels this task
    elif end == "reset":
        connection.reset()
    elif end == "close":
        connection.close()


async def _do(
    steps: Iterable[Step | str],
    connection: Connection,
    frame: Callable[[bytes], bytes] = bytes,
    last: bytes = b"",
) -> None:
    """
    Do the steps, one after the other, and send *last* together with the last bytes.

    Together, because a client may leave as soon as it has read what it understands.
    """
    data = b""
    for step, more in _with_more(steps):
        data = await _data(step)
        if more:
            connection.write(frame(data))
            await connection.drain()
            # A turn of the loop after every step: it shows a client that left, even
            # while an endless body is being sent to one that reads as fast as we write.
            await asyncio.sleep(0)
    connection.write(frame(data) + last)
    await connection.drain()


def _with_more(steps: Iterable[Step | str]) -> Iterator[tuple[Step | str, bool]]:
    """
    Steps, and whether there are more after each.
    """
    ahead, behind = itertools.tee(steps)
    next(ahead, None)
    for step, following in itertools.zip_longest(behind, ahead):
        yield step, following is not None


async def _data(step: Step | str) -> bytes:
    """
    What a step gives to send.
    """
    result: Any = step
    if isinstance(step, asyncio.Event):
        await step.wait()
    elif isinstance(step, (int, float)):
        await asyncio.sleep(step)
    elif callable(step):
        result = step()
        if inspect.isawaitable(result):
            result = await result
    if isinstance(result, str):
        return result.encode()
    return result if isinstance(result, bytes) else b""


def _headers(
    given: _wire.Headers,
    framing: Framing,
    body: Iterable[Step | str],
    *,
    keep: bool,
) -> list[tuple[str, str]]:
    """
    The headers given, and those that the framing needs beside them.
    """
    headers = _wire.pairs(given)
    names = {name.lower() for name, _ in headers}
    if framing == "chunked" and "transfer-encoding" not in names:
        headers.append(("transfer-encoding", "chunked"))
    elif framing == "length" and "content-length" not in names:
        headers.append(("content-length", str(_size(body))))
    if not keep and "connection" not in names:
        headers.append(("connection", "close"))
    return headers


def _size(body: Iterable[Step | str]) -> int:
    sizes = (
        len(step.encode() if isinstance(step, str) else step)
        for step in body
        if isinstance(step, (str, bytes))
    )
    return sum(sizes)
