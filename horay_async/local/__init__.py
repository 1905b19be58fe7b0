"""
A real small language model on this machine: llama.cpp's own server, started and stopped.

    async with LocalModel() as server, AsyncHoray(service=server.service) as client:
        reply = await client.chat.completions.create(messages=[user("Name three seas.")])

The server is a child process on a free loopback port that ends with this one, however that
ends. The model, SmolLM2-135M, is fetched once, with pip, and kept in the user's cache.
"""

from ._errand import LocalModelError
from ._server import LocalModel


__all__ = ["LocalModel", "LocalModelError"]
