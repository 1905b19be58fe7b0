"""
Chunks as servers send them, and what an assembly makes of them.
"""

from horay_async._assembly import Assembly
from horay_async._codec import chat_reply
from horay_async._values import Meta


def choice(index=0, delta=None, **fields):
    """
    One choice of a chunk.
    """
    return {"index": index, "delta": delta or {}, "finish_reason": None, **fields}


def chunk(*choices, **fields):
    """
    One chunk, in the shape that everybody documents.
    """
    head = {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
    }
    return {**head, "choices": list(choices), **fields}


def said(text, index=0, **fields):
    """
    A chunk with one piece of content.
    """
    return chunk(choice(index, {"content": text}, **fields))


def ended(reason="stop", index=0, **fields):
    """
    A chunk with one finish reason.
    """
    return chunk(choice(index, finish_reason=reason, **fields))


def assembled(*chunks, n=1, odd=False):
    """
    An assembly that was given these chunks, and the tokens that came out.
    """
    assembly = Assembly(n)
    return assembly, [token for one in chunks for token in assembly.add(one, odd=odd)]


def reply_of(assembly):
    """
    The chat reply.
    """
    return chat_reply(assembly.body(chat=True), Meta())


def pieces(tokens, index=0):
    """
    The text of one choice, as its tokens have it.
    """
    return "".join(token.text for token in tokens if token.index == index)
