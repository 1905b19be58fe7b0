"""
Horay's smaller endpoints: models, the account, pictures.
"""

import re
import struct

from collections.abc import Collection
from typing import Any
from zlib import compress, crc32

from ._families import MODELS


def models(query: dict[str, str], more: Collection[str]) -> dict[str, Any]:
    """
    GET /models, with SiliconFlow's filters `type` and `sub_type`.
    """
    kinds = MODELS | dict.fromkeys(more, "chat")
    names = [name for name, kind in kinds.items() if _fits(kind, query)]
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": ""} for name in names
    ]
    return {"object": "list", "data": data}


def _fits(kind: str, query: dict[str, str]) -> bool:
    broad, fine = ("image", kind) if kind == "text-to-image" else ("text", "chat")
    return query.get("type", broad) == broad and query.get("sub_type", fine) == fine


def user() -> dict[str, Any]:
    """
    GET /user/info: the account of the documented sample.
    """
    data = {
        "id": "userid",
        "name": "username",
        "image": "user_avatar_image_url",
        "email": "user_email_address",
        "isAdmin": False,
        "balance": "0.88",
        "status": "normal",
        "introduction": "",
        "role": "",
        "chargeBalance": "88.00",
        "totalBalance": "88.88",
    }
    return {"code": 20000, "message": "OK", "status": True, "data": data}


def image(values: dict[str, Any], address: str) -> dict[str, Any]:
    """
    POST /image/generations: where the picture is.

    Without a seed the prompt decides on one.
    """
    seed = values["seed"]
    if seed is None:
        seed = crc32(values["prompt"].encode("utf-8", "surrogatepass"))
    url = f"{address}/pictures/{seed}-{values['image_size']}.png"
    return {"images": [{"url": url}], "timings": {"inference": 0.1}, "seed": seed}


def picture(path: str) -> bytes | None:
    """
    The picture at a path, if there is one: a PNG of the wanted size and one colour.
    """
    match = re.fullmatch(r"/pictures/(\d{1,10})-(\d{3,4})x(\d{3,4})\.png", path)
    if match is None:
        return None
    seed, width, height = map(int, match.groups())
    # One bit a pixel (PNG specification, 11.2.2), every one of them 0: the only colour.
    header = struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)
    colour = struct.pack(">I", crc32(b"%d" % seed))[:3]
    rows = bytes(1 + (width + 7) // 8) * height
    parts = [(b"IHDR", header), (b"PLTE", colour), (b"IDAT", compress(rows))]
    chunks = [_chunk(kind, data) for kind, data in [*parts, (b"IEND", b"")]]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum
