"""
Bytes in, events out: WHATWG HTML, 9.2.6 "Interpreting an event stream".

No I/O and no JSON. The data of an event stays bytes, so that whoever reads it decodes
it once; a character cut by the network is whole again by then.
"""

from collections import deque

import attrs

from ._errors import EventTooLargeError


BOM = b"\xef\xbb\xbf"

MAX_EVENT = 16 * 1024 * 1024

# int() refuses more than 4,300 digits; no time to wait has half as many.
MAX_RETRY_DIGITS = 2000


@attrs.define
class Event:
    """
    One dispatched event. Treat it as frozen.

    It is not made so because a frozen class costs over three times as much to build,
    and there is one of these for every token.
    """

    data: bytes
    """
    The data lines joined with LF, as UTF-8. May be empty: the standard dispatches an
    event for a lone ``data:``.
    """

    event: str = ""
    """
    The event's name; "" where the standard would say "message".
    """

    id: str = ""
    """
    The last event id when the event was dispatched; it persists over events.
    """


class SSEDecoder:
    """
    Reads one body. Where the network cuts the bytes does not change what is read.

    Once it has raised it raises the same again: what follows a line that was given up
    cannot be told apart.
    """

    last_event_id: str
    """
    The id to resume from: that of the last block that a blank line ended.
    """

    retry: int | None
    """
    Reconnection time in milliseconds, if the server named one.
    """

    comments: int
    """
    Comment lines seen so far; servers send them as pings.
    """

    bare: deque[tuple[int, bytes]]
    """
    Lines whose field the standard does not know are ignored, as it says. But here are those
    that may be errors, as some servers report them so (llama.cpp of 2025: ``error: {...}``;
    gateways: the JSON alone), without their terminators, and how many events of the last
    *feed* came before each. For the caller to judge, and to empty.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self.last_event_id = ""
        self.retry = None
        self.comments = 0
        self.bare = deque()

        self._max_event = max_event
        self._error: EventTooLargeError | None = None
        self._head: bytes | None = b""  # the first bytes, while they may be a BOM
        self._after_cr = False
        self._line = bytearray()  # an unfinished line
        self._id = ""
        self._dispatched = 0  # events of this feed

        # The block being read. Its size counts the lines that left something in it, so
        # it is 0 exactly while the block is as good as not begun.
        self._data: bytes | bytearray | None = None
        self._event = ""
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """
        Take the next bytes of the body, return the events that they complete.

        Raises:
            EventTooLargeError: A line, or the lines of one event together, are longer
                than *max_event*. Events before it are returned first; it is then
                raised by the next call.
        """
        if self._error is not None:
            raise self._error
        if self._head is not None:
            chunk = self._skip_bom(chunk)
        if self._after_cr or b"\r" in chunk:
            chunk = self._unify_newlines(chunk)
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._hold(chunk)
            return []
        lines, rest = (chunk, b"") if end == len(chunk) else (chunk[:end], chunk[end:])
        if self._line:
            lines = bytes(self._line) + lines
            self._line.clear()

        # The common case: whole events, each one line of data. Cut at what stands
        # between two of them; if no LF is left over, every piece is one line. What the
        # pieces then are is what reading line by line would give, at a third of its
        # cost.
        if (
            lines.startswith(b"data: ")
            and lines.endswith(b"\n\n")
            and not self._size
            and len(lines) + len(rest) <= self._max_event
        ):
            pieces = lines[6:-2].split(b"\n\ndata: ")
            if lines.count(b"\n") == 2 * len(pieces):
                last = self._id
                if rest:
                    self._line += rest
                # Paced streams bring one at a time. Until we drop 3.11 a comprehension
                # is a function call, dearer than the event.
                if len(pieces) == 1:
                    return [Event(pieces[0], "", last)]
                return [Event(piece, "", last) for piece in pieces]

        return self._read_lines(lines, rest)

    def flush(self) -> Event | None:
        """
        The body has ended: return the unfinished event, if it has data.

        The standard discards it, but real servers omit the last blank line, or even the
        last LF. The caller judges whether what is there is whole. An unfinished line of
        another kind is read too, so that a bare error ends up in *bare*.

        The decoder's own *last_event_id* stays, for no blank line confirmed a new one.

        Raises:
            EventTooLargeError: As in :meth:`feed`, if it is still owed.
        """
        if self._error is not None:
            raise self._error
        if self._head:
            self._line += self._head
        self._head = None
        self._dispatched = 0
        if self._line:
            self._read_field(bytes(self._line))
            self._line.clear()
        data, event = self._data, self._event
        self._data, self._event, self._size = None, "", 0
        return Event(bytes(data), event, self._id) if data else None

    def _skip_bom(self, chunk: bytes) -> bytes:
        assert self._head is not None
        head = self._head + chunk
        if len(head) < len(BOM) and BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(BOM)

    def _unify_newlines(self, chunk: bytes) -> bytes:
        # The three terminators mean the same, so LF can stand for all. A CR ends the
        # line at once. If an LF opens the next chunk it is the rest of the same CRLF and
        # is skipped: waiting for it would hold back the last token.
        if chunk and self._after_cr:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _hold(self, part: bytes) -> None:
        # A bytearray grows in place, and nothing looks at it again before the line
        # ends: a line that comes byte by byte costs no more than its length.
        self._check(len(self._line) + len(part))
        self._line += part

    def _check(self, length: int) -> None:
        if self._size + length > self._max_event:
            # The bytes will not be used again; the error may live long.
            self._line.clear()
            self._data = None
            self._error = EventTooLargeError(
                f"an event of the stream is longer than {self._max_event} bytes",
                limit=self._max_event,
            )
            raise self._error

    def _read_lines(self, lines: bytes, rest: bytes) -> list[Event]:
        events: list[Event] = []
        self._dispatched = 0
        every = lines.split(b"\n")
        every.pop()
        try:
            for line in every:
                if line:
                    self._check(len(line))
                    self._read_field(line)
                elif (event := self._dispatch()) is not None:
                    events.append(event)
                    self._dispatched += 1
            self._hold(rest)
        except EventTooLargeError:
            if not events:
                raise
        return events

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        data, event = self._data, self._event
        self._data, self._event, self._size = None, "", 0
        return None if data is None else Event(bytes(data), event, self._id)

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._size += len(line)
            self._add_data(value)
        elif name == b"event":
            self._size += len(line)
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._size += len(line)
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry":
            if value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
                self.retry = int(value)
        elif not name:
            self.comments += 1
        else:
            self._look_at_stray(line)

    def _add_data(self, value: bytes) -> None:
        if self._data is None:
            self._data = value
            return
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        self._data += b"\n"
        self._data += value

    def _look_at_stray(self, line: bytes) -> None:
        # A look at the JSON of each line of a flood would hold up the loop.
        is_json = (
            len(line) > 10 and line.startswith(b"{") and line.rstrip().endswith(b"}")
        )
        if is_json or line.startswith(b"error:"):
            self.bare.append((self._dispatched, line))
