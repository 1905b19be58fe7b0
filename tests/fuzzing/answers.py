"""
The target `intake`: any bytes as a whole stream.
"""

import json

from collections import Counter

from horay_async import _codec as codec
from horay_async._errors import APIConnectionError, APIError
from horay_async._intake import Intake, feed_chunks, feed_nothing, feed_tokens
from horay_async._sse import MAX_EVENT
from horay_async._values import Meta, Outcome

from .events import by_the_book
from .promises import (
    HEAD,
    Options,
    check_error,
    check_value,
    encodable,
    promise,
    same,
    singly,
)


def intake(data):
    """
    Where the bytes are cut changes neither tokens nor verdict, and the verdict is true.
    """
    options = Options(data)
    wire = data[HEAD:]
    said = {
        "n": 1 + options.pick((0, 0, 0, 1, 2, 3)),
        "strict_end": options.pick((False, False, True)),
        "streamed": options.pick((True, True, None, False)),
    }
    chat = options.pick((True, True, False))
    feed = options.pick((feed_tokens, feed_tokens, feed_chunks, feed_nothing))
    cause = None
    if options.number(4) == 3:
        cause = APIConnectionError("the connection was reset")
    whole, reader, error = read([wire], chat, feed, cause, said)
    check(reader, error, feed, chat, options.number(3))
    if reader.outcome is Outcome.FINISHED and said["streamed"]:
        has_reasons(wire, said["n"])
    blocks = options.cut(wire) if options.number(2) else singly(wire)
    same(read(blocks, chat, feed, cause, said)[0], whole, "cut")


def read(blocks, chat, feed, cause, said):
    """
    All that an intake tells of these blocks, the intake, and its error.
    """
    reader = Intake(meta=Meta(status=200, service="Horay"), feed=feed, **said)
    error = None
    try:
        for block in blocks:
            reader.take(block)
        reader.end(cause)
    except APIError as caught:
        error = caught
    assembly = reader.assembly
    body = assembly.body(chat=chat)
    return (
        {
            "outcome": reader.outcome,
            "reason": reader.reason,
            "error": type(error),
            "said": str(error),
            "content": getattr(error, "content", None),
            # NaN is not equal to itself.
            "ready": repr(reader.ready),
            "body": repr(body),
            "pieces": assembly.pieces,
            "finished": assembly.finished,
        },
        reader,
        error,
    )


def check(reader, error, feed, chat, way):
    """
    One verdict; what was handed out is what was put together; all of it is portable.
    """
    promise(
        (reader.outcome is None) is (error is not None),
        "not one verdict",
        reader.outcome,
    )
    assembly = reader.assembly
    if error is not None:
        error.partial = assembly.partial()
        check_error(error)
    if reader.outcome is Outcome.FINISHED:
        promise(assembly.finished, "finished without its reasons", assembly)
    if reader.outcome is Outcome.UNCONFIRMED:
        promise(encodable(reader.reason), "no reason")
    if feed is feed_tokens:
        texts = Counter()
        for token in reader.ready:
            texts[token.index] = (texts[token.index] or "") + token.text
            encodable(token.text + token.reasoning)
        for choice in assembly.partial().choices:
            handed = texts.pop(choice.index, "") or ""
            promise(
                choice.text == handed or (not handed and unasked(assembly, choice)),
                "other text than was handed out",
                choice,
            )
        promise(not any(texts.values()), "text that is nobody's", texts)
    elif feed is feed_chunks:
        for chunk in reader.ready:
            make_chunk(chunk, chat, way)
    make = codec.chat_reply if chat else codec.completion_reply
    made = assembly.body(chat=chat)
    made["usage"] = assembly.usage(prompt_bytes=3)
    check_value(make(made, Meta()), way)


def unasked(assembly, choice):
    """
    Whether a server has sent this one beyond those that were asked for: it is kept, and
    handed to nobody.
    """
    return not assembly._choices[choice.index].asked_for


def make_chunk(chunk, chat, way):
    """
    What the user is given of a chunk, or one of our errors.
    """
    try:
        made = (codec.chat_chunk if chat else codec.completion_chunk)(chunk)
    except APIError as error:
        check_error(error)
    else:
        check_value(made, way)


def has_reasons(wire, n):
    """
    Every choice's finish reason stands in the bytes, as another reader finds them.
    """
    told = by_the_book(wire, MAX_EVENT)
    events = [*told["events"], *([told["last"]] if told["last"] else [])]
    reasons = 0
    for data, *_ in events:
        if data.strip() == b"[DONE]":
            break
        try:
            chunk = json.loads(data.decode("utf-8-sig", "replace"), parse_int=str)
        except (RecursionError, ValueError):
            continue
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            reasons += isinstance(choice, dict) and bool(choice.get("finish_reason"))
    promise(reasons >= n, "finished with fewer reasons than choices", reasons, n)
