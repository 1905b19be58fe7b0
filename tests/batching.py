"""
What tests of `horay batch` share: an emulator of their own, prompts, and result lines.
"""

import asyncio
import contextlib
import json
import os
import threading

from pathlib import Path

import pytest

from horay_async.cli import main


@contextlib.contextmanager
def emulating(**options):
    """
    An emulator on a thread of its own, for commands that run as processes.
    """
    from horay_async.emulator import Emulator

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    server = Emulator(**{"mode": "echo", **options})
    call(server.start())
    server.call = call
    server.words = "--service", "horay", "--base-url", server.base_url
    try:
        yield server
    finally:
        call(server.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def command(capfd, monkeypatch):
    """
    Runs a command in this process, which is quicker: exit code, stdout, stderr.
    """
    monkeypatch.setenv("HORAY_API_KEY", "a-key")

    def run(*words, stdin=None):
        with contextlib.ExitStack() as stack:
            if stdin is not None:
                stack.enter_context(as_stdin(stdin))
            code = main(list(map(str, words)))
        return code, *capfd.readouterr()

    return run


@contextlib.contextmanager
def as_stdin(data):
    """
    Have a process read this, text or bytes, from a pipe: less than one holds.
    """
    kept = os.dup(0)
    ours, theirs = os.pipe()
    try:
        os.write(theirs, data.encode() if isinstance(data, str) else data)
        os.close(theirs)
        os.dup2(ours, 0)
        yield
    finally:
        os.dup2(kept, 0)
        os.close(ours)
        os.close(kept)


def write_lines(path, *lines):
    """
    Write lines of JSON; a string stands for itself.
    """
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    Path(path).write_text("".join(text + "\n" for text in texts))
    return path


def results(text):
    """
    The result lines, by their custom_id.
    """
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["custom_id"]: line for line in lines}


def text_of(result):
    """
    What was answered.
    """
    return result["response"]["body"]["choices"][0]["message"]["content"]
