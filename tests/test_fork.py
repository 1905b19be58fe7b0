"""
A client in a forked child process: it works, and the parent's connections go on untouched.
"""

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import threading

import pytest

from certificates import CERTIFICATE, PRIVATE_KEY
from deltas import ended, said
from loopback import PATIENCE, STREAM, answer, chunk
from streams import wire


FIRST = STREAM + chunk(wire(said("one")))
REST = chunk(wire(said(" two"), ended(), "[DONE]")) + chunk(b"")


class Threaded:
    """
    A server in threads. What it does the prompt says: "open" begins a stream that goes on
    after a "go"; "stay" one that does not; "left?" is answered when the first connection has
    ended.
    """

    def __init__(self, context=None):
        self._context = context
        self._go = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.left = threading.Event()
        """
        The first connection has ended.
        """
        self.prompts = []
        """
        What each connection was asked.
        """
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._go.set()
        self.left.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            sock.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                prompts = []
                self.prompts.append(prompts)
                number = len(self.prompts)
                threading.Thread(
                    target=self._serve, args=[sock, number, prompts], daemon=True
                ).start()

    def _serve(self, sock, number, prompts):
        with contextlib.suppress(OSError):
            if self._context is not None:
                sock = self._context.wrap_socket(
                    sock, server_side=True, suppress_ragged_eofs=True
                )
            self._sockets.append(sock)
            file = sock.makefile("rb")
            while (body := self._request(file)) is not None:
                prompt = body["messages"][0]["content"]
                prompts.append(prompt)
                for block in self._answer(prompt, stream=body.get("stream", False)):
                    sock.sendall(block)
        if number == 1:
            self.left.set()

    def _request(self, file):
        length = 0
        with contextlib.suppress(OSError):
            while line := file.readline().strip():
                if found := re.fullmatch(rb"(?i)content-length: (\d+)", line):
                    length = int(found[1])
            if length:
                return json.loads(file.read(length))
        return None

    def _answer(self, prompt, *, stream):
        if prompt == "go":
            self._go.set()
        if stream:
            yield FIRST
            if prompt == "stay":
                # It looks for what comes next, and so sees at once when the client leaves.
                return
            if prompt == "open":
                self._go.wait(PATIENCE)
            yield REST
            return
        text = prompt
        if prompt == "left?":
            text = "yes" if self.left.wait(PATIENCE) else "no"
        only = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
        yield answer(json.dumps({"choices": [only]}).encode())


PREAMBLE = """
    import asyncio, gc, os, ssl, sys
    from horay_async import AsyncHoray, WrongLoopError

    port, bundle = int(sys.argv[1]), sys.argv[2]
    client = AsyncHoray(
        api_key="key-of-the-tests",
        base_url=f"{'https' if bundle else 'http'}://127.0.0.1:{port}/v1",
        ssl=ssl.create_default_context(cafile=bundle) if bundle else None,
        timeout=10,
        max_retries=0,
    )
    governor = client._line.governor
    chat = client.chat.completions

    async def ask(prompt, model="m"):
        reply = await chat.create(model=model, messages=[{"role": "user", "content": prompt}])
        return reply.text

    def stream(prompt):
        return chat.stream(model="m", messages=[{"role": "user", "content": prompt}])

    async def child():
        assert governor.snapshot() == {}, governor.snapshot()
        assert client._line.session.stats().open == 0
        assert await ask("child", model="busy") == "child"
        async with stream("whole") as whole:
            assert "".join([token.text async for token in whole]) == "one two"
        async for token in stream("broken off"):
            break
        while client._line.session.stats().in_use:
            await asyncio.sleep(0)
        assert governor.snapshot() == {}

    def close_gate():
        settings = client._line.settings
        governor.close((settings.base_url, settings.key, "busy"), 3600)
"""

INSIDE = """
    async def main():
        opened = stream("open")
        async with opened:
            tokens = aiter(opened)
            assert (await anext(tokens)).text == "one"
            assert await ask("parent") == "parent"
            waiting = asyncio.create_task(ask("left?"))
            while client._line.session.stats().in_use < 2:
                await asyncio.sleep(0)
            close_gate()
            pid = os.fork()
            if not pid:
                # Out of a running loop, of which this process has only a picture.
                code = 1
                try:
                    asyncio.run(child())
                    opened.close()
                    asyncio.run(client.close())
                    code = 0
                finally:
                    gc.collect()
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
            assert governor.snapshot() != {}
            assert await ask("go") == "go"
            assert [token.text async for token in tokens] == [" two"]
        assert opened.outcome == "finished"
        waiting.cancel()
        await client.close()
        print("quiet")

    asyncio.run(main())
"""

OUTSIDE = """
    async def begin():
        opened = stream("open")
        await opened.open()
        assert await ask("parent") == "parent"
        close_gate()
        return opened

    async def go_on():
        assert governor.snapshot() != {}
        assert await ask("go") == "go"
        async with opened:
            assert "".join([token.text async for token in opened]) == "one two"
        assert opened.outcome == "finished"
        await client.close()

    loop = asyncio.new_event_loop()
    opened = loop.run_until_complete(begin())
    pid = os.fork()
    if not pid:
        # The parent's loop, in its child, is refused; one of its own works.
        try:
            loop.run_until_complete(ask("never"))
        except WrongLoopError as error:
            assert "os.fork()" in str(error)
        else:
            os._exit(2)
        asyncio.run(child())
        if sys.argv[3] == "closed":
            asyncio.run(client.close())
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    loop.run_until_complete(go_on())
    loop.close()
    print("quiet")
"""

MULTIPROCESSING = """
    import multiprocessing

    async def begin():
        opened = stream("open")
        await opened.open()
        close_gate()
        return opened

    async def go_on():
        assert await ask("go") == "go"
        async with opened:
            assert "".join([token.text async for token in opened]) == "one two"
        await client.close()

    def work():
        for _ in range(2):
            asyncio.run(child())

    loop = asyncio.new_event_loop()
    opened = loop.run_until_complete(begin())
    workers = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    loop.run_until_complete(go_on())
    loop.close()
    print("quiet")
"""

UNUSED = """
    pid = os.fork()
    asyncio.run(child())
    asyncio.run(client.close())
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        print("quiet")
"""

LEFT = """
    async def main():
        opened = stream("stay")
        await opened.open()
        blocked, release = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(release)
            os.read(blocked, 1)
            os._exit(0)
        os.close(blocked)
        opened.close()
        # While the child still runs.
        assert await ask("left?") == "yes"
        os.close(release)
        assert os.waitpid(pid, 0)[1] == 0
        await client.close()
        print("quiet")

    asyncio.run(main())
"""

SCRIPTS = {
    "inside a running loop": INSIDE,
    "outside, closed": OUTSIDE,
    "outside, left": OUTSIDE,
    "multiprocessing": MULTIPROCESSING,
    "before any use": UNUSED,
    "the parent leaves": LEFT,
}

UVLOOP = """
    import uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """
    A certificate, and that with its key.
    """
    folder = tmp_path_factory.mktemp("tls")
    bundle, both = folder / "ca.pem", folder / "both.pem"
    bundle.write_text(CERTIFICATE)
    both.write_text(CERTIFICATE + PRIVATE_KEY)
    return bundle, both


CASES = [
    ("inside a running loop", "asyncio", "plain"),
    ("inside a running loop", "uvloop", "tls"),
    ("outside, closed", "asyncio", "tls"),
    ("outside, left", "uvloop", "plain"),
    ("multiprocessing", "asyncio", "plain"),
    ("before any use", "asyncio", "plain"),
    ("the parent leaves", "asyncio", "plain"),
    ("the parent leaves", "uvloop", "tls"),
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize(("kind", "loop", "tls"), CASES)
def test_forked(kind, loop, tls, files):
    """
    The child works on its own, the parent's stream goes on, its connections are only
    touched by itself, and nothing is printed.
    """
    preamble = PREAMBLE
    if loop == "uvloop":
        pytest.importorskip("uvloop")
        preamble += UVLOOP
    # uvloop has a thread of its own, of which Python warns since 3.12.
    warn = ["-W", "ignore::DeprecationWarning"] if loop == "uvloop" else []
    bundle, both = files
    context = None
    if tls == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
    server = Threaded(context)
    script = textwrap.dedent(preamble) + textwrap.dedent(SCRIPTS[kind])
    how = "closed" if kind.endswith("closed") else "left"
    try:
        done = subprocess.run(
            [
                sys.executable,
                *warn,
                "-c",
                script,
                str(server.port),
                str(bundle) if context else "",
                how,
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        prompts = server.prompts.copy()
    finally:
        server.close()
    assert done.stderr == ""
    assert done.stdout == "quiet\n"
    if kind != "before any use":
        assert prompts[0][0] in {"open", "stay"}
        # Nothing of the child's came on the parent's connections, which went on.
        assert not any(
            {"open", "parent"} & set(one) and "child" in one for one in prompts
        )
    if kind.startswith("outside"):
        assert ["parent", "go"] in prompts
