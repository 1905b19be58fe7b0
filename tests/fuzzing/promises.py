"""
What every target stands on: broken promises, choices made by the input, portable values.
"""

import json
import pickle

from horay_async._errors import APIError


HEAD = 16
"""
Bytes at the beginning of an input that choose options; the rest is what a server sends.
"""


class Broken(AssertionError):
    """
    A promise of ours that an input has broken.
    """


def promise(kept, what, *facts):
    """
    Raise unless it was kept. The facts are looked at only then.
    """
    if not kept:
        raise Broken(": ".join([what, *(repr(fact)[:300] for fact in facts)]))


def same(one, other, what):
    """
    Two results that must be equal, by name: the first that differs is told.
    """
    if one != other:
        for name, value in one.items():
            promise(value == other[name], f"{what}: {name}", value, other[name])
        raise Broken(what)


class Options:
    """
    Choices, made by the input's first bytes; where these are used up, by what they were.
    """

    def __init__(self, data):
        self._bytes = data[:HEAD]
        self._at = 0
        self._state = int.from_bytes(self._bytes, "big") | 1

    def number(self, below):
        """
        A number from 0 on.
        """
        at = self._at
        if at < len(self._bytes):
            self._at = at + 1
            return self._bytes[at] % below
        # Knuth's MMIX: the upper bits are good enough to cut bytes by.
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 33) % below

    def pick(self, values):
        """
        One of them.
        """
        return values[self.number(len(values))]

    def cut(self, wire, most=4):
        """
        The bytes in up to so many blocks and one more; some may be empty.
        """
        cuts = sorted(self.number(65536) % (len(wire) + 1) for _ in range(most))
        if len(wire) > 256:
            # The options are bytes: a second one reaches further.
            cuts = sorted((one * 257 + self.number(256)) % len(wire) for one in cuts)
        return [wire[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]


def singly(wire):
    """
    Every byte on its own, but of a long wire only what stands at its beginning and its end.
    """
    most = 60
    if len(wire) <= 2 * most:
        return [wire[at : at + 1] for at in range(len(wire))]
    first, middle, last = wire[:most], wire[most:-most], wire[-most:]
    return [*singly(first), middle, *singly(last)]


def check_error(error):
    """
    An error of ours: it can be printed, shown to a log, and sent to another process.
    """
    promise(isinstance(error, APIError), "an error that is not ours", error)
    text = str(error)
    promise(text, "an error without a message", error)
    promise(text == encodable(text), "a message that cannot be printed", text)
    encodable(repr(error))
    again = pickle.loads(pickle.dumps(error))
    promise(type(again) is type(error), "another error after pickling", again)
    promise(str(again) == text, "another message after pickling", str(again))
    promise(
        again.__dict__.keys() == error.__dict__.keys(),
        "other facts after pickling",
        error,
    )
    promise(again.status_code == error.status_code, "another status", again)
    promise(again.partial.text == error.partial.text, "another partial", again)
    promise(error.response.status_code >= 0, "no response", error)


DUMPS = (
    lambda value: value.to_json(),
    lambda value: value.to_json(indent=None, exclude_none=True),
    lambda value: value.model_dump_json(),
)


def check_value(value, way=0):
    """
    A reply or a chunk: printed, dumped in one of the ways, copied, and the same afterwards.
    """
    repr(value)
    plain = value.to_dict()
    json.loads(DUMPS[way % len(DUMPS)](value))
    # NaN is not equal to itself, but its text is.
    again = pickle.loads(pickle.dumps(value))
    promise(type(again) is type(value), "another type after pickling", again)
    dumped = repr(again.to_dict())
    promise(dumped == repr(plain), "other fields after pickling", dumped, plain)


def encodable(text):
    """
    The text, if it can be printed.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"text that cannot be encoded: {text[:200]!a}"
        raise Broken(msg) from error
    return text
