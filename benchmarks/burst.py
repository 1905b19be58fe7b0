"""
One side of a burst, for `benchmarks.rivals`: a server of many tokens, or a reader of them.

`serve TOKENS` prints its URL. `WAY URL TOKENS` reads a stream that way for each line on
stdin, and prints the processor seconds it took.
"""
# ruff: noqa: PLC0415 -- a process imports only what it measures

import asyncio
import json
import sys
import time


HELLO = [{"role": "user", "content": "Name the seas."}]
REQUEST = {"model": "scripted", "messages": HELLO}

BLOCK = 64 * 1024


def words(tokens):
    """
    The content of so many tokens, no two of them in a row alike.
    """
    return [f" sea {number % 997}" for number in range(tokens)]


# A server --------------------------------------------------------------------------


def event(delta, finish=None):
    """
    One event as servers send them, some 230 bytes.
    """
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "scripted",
        "system_fingerprint": "fp_0123456789",
        "choices": [choice],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


async def serve(tokens):
    """
    An emulator whose every answer is one burst.
    """
    from horay_async.emulator import Answer, Emulator

    body = event({"role": "assistant", "content": ""})
    body += b"".join(event({"content": word}) for word in words(tokens))
    body += event({}, "stop") + b"data: [DONE]\n\n"
    blocks = [body[at : at + BLOCK] for at in range(0, len(body), BLOCK)]
    answer = Answer(headers=[("content-type", "text/event-stream")], body=blocks)

    async with Emulator(mode="echo") as server:

        def burst(_):
            server.script(burst)
            return answer

        server.script(burst)
        print(server.base_url, flush=True)
        await asyncio.Event().wait()


# Readers ---------------------------------------------------------------------------


def openai_create(url):
    """
    `create(stream=True)`, the way most code reads.
    """
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="key")

    async def read():
        stream = await client.chat.completions.create(**REQUEST, stream=True)
        return [chunk.choices[0].delta.content or "" async for chunk in stream]

    return read


def openai_stream(url):
    """
    The helper, which assembles the reply as it goes.
    """
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="key")

    async def read():
        async with client.chat.completions.stream(**REQUEST) as stream:
            return [item.delta async for item in stream if item.type == "content.delta"]

    return read


def ours_tokens(url):
    """
    `async for token in stream`; the reply is assembled as it goes.
    """
    from horay_async import AsyncHoray

    client = AsyncHoray(base_url=url, api_key="key")

    async def read():
        async with client.chat.completions.stream(**REQUEST) as stream:
            return [token.text async for token in stream]

    return read


def ours_chunks(url):
    """
    Typed chunks in openai's shape.
    """
    from horay_async import AsyncHoray

    client = AsyncHoray(base_url=url, api_key="key")

    async def read():
        async with client.chat.completions.stream(**REQUEST) as stream:
            return [
                chunk.choices[0].delta.content or "" async for chunk in stream.chunks()
            ]

    return read


def bare(url):
    """
    The floor: aiohttp, a split at the blank lines, orjson; no check of anything.
    """
    import aiohttp
    import orjson

    async def read():
        texts, rest = [], b""
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{url}/chat/completions", json={**REQUEST, "stream": True}
            ) as response,
        ):
            async for block in response.content.iter_any():
                *events, rest = (rest + block).split(b"\n\n")
                for data in events:
                    if data != b"data: [DONE]":
                        delta = orjson.loads(data[6:])["choices"][0]["delta"]
                        texts.append(delta.get("content") or "")
        return texts

    return read


OURS = "horay-async tokens"

WAYS = {
    "openai create(stream=True)": openai_create,
    "openai .stream()": openai_stream,
    OURS: ours_tokens,
    "horay-async chunks()": ours_chunks,
    "aiohttp + orjson by hand": bare,
}


def read(way, url, tokens):
    """
    Read a stream for each line on stdin.
    """
    read_one, expected = WAYS[way](url), "".join(words(tokens))
    with asyncio.Runner() as runner:
        for _ in sys.stdin:
            begun = time.process_time()
            texts = runner.run(read_one())
            seconds = time.process_time() - begun
            if "".join(texts) != expected:
                raise AssertionError(f"{way}: {len(texts)} pieces of {tokens}")
            print(json.dumps(seconds), flush=True)


def main(what, *words):
    """
    Be one of the processes.
    """
    if what == "serve":
        asyncio.run(serve(int(words[0])))
    else:
        url, tokens = words
        read(what, url, int(tokens))


if __name__ == "__main__":
    main(*sys.argv[1:])
