"""
The target `sse`: the decoder against the standard's own words, at every cut.
"""

import attrs

from horay_async._errors import EventTooLargeError
from horay_async._sse import BOM, MAX_EVENT, Event, SSEDecoder

from .promises import HEAD, Broken, Options, promise, same, singly


CEILINGS = (MAX_EVENT, MAX_EVENT, MAX_EVENT, 8, 40, 120, 400)


def sse(data):
    """
    Where the bytes are cut changes nothing, and what comes out is what the standard says.
    """
    options = Options(data)
    wire, ceiling = data[HEAD:], options.pick(CEILINGS)
    whole = read([wire], ceiling)
    blocks = options.cut(wire) if options.number(2) else singly(wire)
    same(read(blocks, ceiling), whole, "cut")
    same(by_the_book(wire, ceiling), whole, "by the standard")


def read(blocks, ceiling):
    """
    All that the decoder tells of these blocks.
    """
    decoder = SSEDecoder(ceiling)
    events, error, last = [], None, None
    try:
        for block in blocks:
            events += decoder.feed(block)
            held = len(decoder._line) + len(decoder._data or b"")
            promise(held <= ceiling + len(BOM), "more is held than the ceiling", held)
        last = decoder.flush()
    except EventTooLargeError as caught:
        error = str(caught)
        promise(caught.limit == ceiling, "another ceiling", caught.limit)
        raises_again(decoder, error)
    return {
        "events": [attrs.astuple(event) for event in events],
        "error": error,
        "last": last and attrs.astuple(last),
        "last_event_id": decoder.last_event_id,
        "retry": decoder.retry,
        "comments": decoder.comments,
        "bare": [line for _, line in decoder.bare],
    }


def raises_again(decoder, error):
    """
    What was given up stays so.
    """
    for again in (lambda: decoder.feed(b"data: x\n\n"), decoder.flush):
        try:
            again()
        except EventTooLargeError as caught:
            promise(str(caught) == error, "another error the second time", caught)
        else:
            raise Broken("no error the second time")


def by_the_book(wire, ceiling):
    """
    The same by the letter of WHATWG HTML, 9.2.6, slowly, with our ceilings.
    """
    lines = wire.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, rest = lines.split(b"\n")
    told = {
        "events": [],
        "error": None,
        "last": None,
        "last_event_id": "",
        "retry": None,
        "comments": 0,
        "bare": [],
    }
    block = Block(told)
    for at, line in enumerate([*lines, rest]):
        if line == b"" and at < len(lines):
            event = block.dispatch()
            told["last_event_id"] = block.id
            if event is not None:
                told["events"].append(attrs.astuple(event))
        elif block.size + len(line) > ceiling:
            told["error"] = f"an event of the stream is longer than {ceiling} bytes"
            return told
        elif line:
            block.read(line)
    last = block.dispatch()
    if last is not None and last.data:
        told["last"] = attrs.astuple(last)
    return told


class Block:
    """
    The buffers of the standard.
    """

    def __init__(self, told):
        self.told = told
        self.id = ""
        self.clear()

    def clear(self):
        """
        As after each event.
        """
        self.data, self.event, self.size = None, "", 0

    def dispatch(self):
        """
        The event that a blank line makes.
        """
        event = None if self.data is None else Event(self.data, self.event, self.id)
        self.clear()
        return event

    def read(self, line):
        """
        One line that is not blank.
        """
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self.size += len(line)
            self.data = value if self.data is None else self.data + b"\n" + value
        elif name == b"event":
            self.size += len(line)
            self.event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self.size += len(line)
                self.id = value.decode("utf-8", "replace")
        elif name == b"retry":
            if value and not value.strip(b"0123456789") and len(value) <= 2000:
                self.told["retry"] = int(value)
        elif name == b"":
            self.told["comments"] += 1
        elif line.startswith(b"error:") or (
            len(line) > 10 and line[:1] + line.rstrip()[-1:] == b"{}"
        ):
            self.told["bare"].append(line)
