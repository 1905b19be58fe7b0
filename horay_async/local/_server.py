"""
`LocalModel`: llama.cpp's server as a child of this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import attrs

from .._errors import ConfigurationError
from .._services import COMPATIBLE, Endpoint, Range, Service
from ._children import Child
from ._errand import Ended, Errand, LocalModelError, in_thread, outlast
from ._fetching import WHEEL_SIZE, find_gguf, find_model


_NAME: Final = "SmolLM2-135M-Instruct"
_TITLE: Final = "SmolLM2-135M (llama.cpp) on this machine"

# In seconds: any model from any disk; between two looks at what has been fetched.
_START_TIMEOUT: Final = 600.0
_PROGRESS_EVERY: Final = 0.1

# Our own model gets the temperature of its authors (https://huggingface.co/HuggingFaceTB/
# SmolLM2-135M-Instruct), a penalty for what it has said already, and an end: without the
# penalty nearly half of its answers go round in circles, with it hardly one in ten. It gets
# no KV cache of 8 bits, which would halve the memory: its French gets in the way of the
# capital of France. What a request says goes before all this.
_SERVER: Final = """
import json, xllamacpp

asked = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = asked["path"]
params.model_alias = {asked["name"]}
params.hostnames = ["127.0.0.1"]
params.port = asked["port"]
params.n_parallel = asked["slots"]
params.n_ctx = asked["slots"] * asked["context"]
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked["threads"]
params.cache_ram_mib = 0
params.ui = False
if not asked["verbose"]:
    params.verbosity = 1  # errors
if asked["ours"]:
    params.sampling.temp = 0.2
    params.sampling.penalty_repeat = 1.1
    params.n_predict = 1024
    params.fit_params = False  # would load it twice, to see whether it fits
try:
    server = xllamacpp.Server(params)  # returns when the model is loaded
except BaseException:
    time.sleep(0.5)  # a thread writes the log, and would end with us before it has
    raise
say(server.listening_address)
threading.Event().wait()
"""

# Far more than anybody has a use for, and about the most that llama.cpp can bear.
_SLOTS: Final = Range(1, 256)
_CONTEXT: Final = Range(1, 2**20)
_THREADS: Final = Range(1, 512)

_ADDRESS: Final = re.compile(r"http://127\.0\.0\.1:\d+")

# As llama.cpp logs one: "0.00.002.007 E srv  start: couldn't bind HTTP server socket".
_ERROR: Final = re.compile(r"[\d.]+ E (?P<text>.+)")


class LocalModel:
    """
    A model on this machine, behind llama.cpp's own server.

    Use it as `async with LocalModel() as server:`, or `start()` and `close()` it.

    Args:
        gguf: The file of another model. By default SmolLM2-135M is fetched, once, and kept
            in the user's cache directory, or in the one that HORAY_CACHE names.
        slots: How many answers are written at once; further calls wait for their turn.
        context: The most tokens of a prompt and its answer together. They are paid for in
            memory: all in all our model needs 520 MB, and 340 MB with half the context.
        threads: How many compute. Default: half of the processors, at most 8; threads that
            lose their processor to other work hold up all the others.
        port: The loopback port; 0 is any free one.
        verbose: Whether the server's log goes to stderr. Otherwise it goes nowhere.
        on_fetch: Called on the loop while the model is fetched, with the bytes so far and
            the bytes in all; never called when there is nothing to fetch.

    Raises:
        ConfigurationError: A number that cannot be right.
    """

    def __init__(
        self,
        *,
        gguf: str | os.PathLike[str] | None = None,
        slots: int = 4,
        context: int = 4096,
        threads: int | None = None,
        port: int = 0,
        verbose: bool = False,
        on_fetch: Callable[[int, int], None] | None = None,
    ) -> None:
        threads = _spare_threads() if threads is None else threads
        self._gguf = None if gguf is None else Path(gguf)
        self._slots = _whole("slots", slots, _SLOTS)
        self._context = _whole("context", context, _CONTEXT)
        self._threads = _whole("threads", threads, _THREADS)
        self._port = _whole("port", port, Range(0, 65535))
        self._verbose = verbose
        self._on_fetch = on_fetch
        self._run: _Run | None = None

    @property
    def model(self) -> str:
        """
        The model's name in requests. (The server answers to any other too.)
        """
        return _NAME if self._gguf is None else self._gguf.stem

    @property
    def title(self) -> str:
        """
        Who answers, in words for people.
        """
        return _TITLE if self._gguf is None else self._gguf.name

    @property
    def base_url(self) -> str:
        """
        Where it listens: with the `/v1`, without a slash at the end.

        Raises:
            LocalModelError: It is not running.
        """
        if self._run is None or self._run.address is None:
            raise LocalModelError(
                "the local model is not running:"
                " use `async with LocalModel() as server:`, or await its start()"
            )
        return f"{self._run.address}/v1"

    @property
    def service(self) -> Service:
        """
        What `AsyncHoray(service=...)` needs to know of it.

        Raises:
            LocalModelError: It is not running.
        """

        def known(endpoint: Endpoint | None) -> Endpoint:
            assert endpoint is not None
            limits = {**endpoint.limits, "n": Range(1, self._slots)}
            return attrs.evolve(endpoint, model=self.model, limits=limits)

        return attrs.evolve(
            COMPATIBLE,
            name="the local model",
            base_url=self.base_url,
            chat=known(COMPATIBLE.chat),
            completions=known(COMPATIBLE.completions),
            images=None,
        )

    async def start(self) -> Self:
        """
        Return when it is ready to answer; fetch the model first where that must be done.

        Cancelling is safe: it leaves no process behind and no half file.

        Raises:
            LocalModelError: It cannot be had here; the message says what to do. Or it was
                closed meanwhile.
        """
        if self._run is not None:
            raise LocalModelError("the local model is already started")
        run = self._run = _Run(self._work)
        try:
            await self._watch(run)
        except BaseException:
            if self._run is run:
                self._run = None
            await run.end()
            raise
        return self

    async def _watch(self, run: _Run) -> None:
        every = None if self._on_fetch is None else _PROGRESS_EVERY
        seen = 0
        started = asyncio.wrap_future(run.started)
        while not started.done():
            await asyncio.wait({started}, timeout=every)
            if self._on_fetch is not None and run.errand.fetched > seen:
                seen = run.errand.fetched
                self._on_fetch(seen, WHEEL_SIZE)
        if run.errand.cancelled:
            raise LocalModelError("the local model was closed while it was starting")
        if (error := started.result()) is not None:
            raise error

    def _work(self, run: _Run) -> None:
        _require_packages()
        model = find_model(run.errand) if self._gguf is None else find_gguf(self._gguf)
        asked = {
            "path": str(model),
            "name": self.model,
            "port": self._port,
            "slots": self._slots,
            "context": self._context,
            "threads": self._threads,
            "verbose": self._verbose,
            "ours": self._gguf is None,
        }
        run.child = Child(_SERVER, json.dumps(asked), verbose=self._verbose)
        run.address = _wait_until_ready(run.child, run.errand, asked)

    async def close(self) -> None:
        """
        End the server at once, with the answers that it is writing. Twice is fine.

        A `start()` that is under way is broken off.
        """
        run, self._run = self._run, None
        if run is not None:
            await run.end()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _Run:
    """
    The server from one start to its end.
    """

    def __init__(self, start: Callable[[_Run], None]) -> None:
        self.errand = Errand()
        self.child: Child | None = None
        self.address: str | None = None
        """
        Where it listens, as soon as it is ready.
        """
        self.started: Ended = in_thread(start, self)

    async def end(self) -> None:
        """
        Kill it before the first wait, whatever it is doing. Twice is fine.
        """
        self.errand.cancel()
        if self.child is not None:
            self.child.kill()
        await outlast(in_thread(self._clear_away))

    def _clear_away(self) -> None:
        self.started.result()  # it may have made a child just now
        if self.child is not None:
            self.child.end()


def _whole(name: str, value: int, allowed: Range) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise ConfigurationError(
            f"{name} is {value!r}, expected a whole number, {allowed}"
        )
    return value


def _spare_threads() -> int:
    if sys.platform == "linux":
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, min(8, processors // 2))


def _require_packages() -> None:
    if not sys.executable:
        raise LocalModelError(
            "a model on this machine runs in a Python of its own, but sys.executable does"
            " not say where Python is: set it to the path of one"
        )
    for package in "filelock", "platformdirs", "xllamacpp":
        if find_spec(package) is None:
            raise LocalModelError(
                f"a model on this machine needs the package {package}:"
                " pip install 'horay-async[local]'"
            )


def _wait_until_ready(child: Child, errand: Errand, asked: Mapping[str, Any]) -> str:
    bound = time.monotonic() + _START_TIMEOUT
    while (address := child.log.said) is None:
        if not child.running:
            child.end()
            raise LocalModelError(_why_not(child, asked))
        if time.monotonic() > bound:
            raise LocalModelError(
                f"llama.cpp did not load {asked['path']} within {_START_TIMEOUT:.0f} s"
            )
        errand.pause()
    if not _ADDRESS.fullmatch(address):
        raise LocalModelError(
            f"llama.cpp listens at {address}, expected a port of 127.0.0.1"
        )
    return address


def _why_not(child: Child, asked: Mapping[str, Any]) -> str:
    """
    The first error that llama.cpp logs is the cause; the others follow from it.
    """
    lines = list(child.log.lines)
    first = next(filter(None, map(_ERROR.match, lines)), None)
    code = child.exit_code
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    too_little = (
        f"too little memory for {asked['slots']} slots with a context of"
        f" {asked['context']} tokens each: ask for less, or for a smaller model"
    )
    if ended == "SIGKILL":
        return f"llama.cpp was killed while it started, most likely for {too_little}"
    if first is None:
        return f"llama.cpp does not start: {(lines or [f'it ended with {ended}'])[-1]}"
    error = " ".join(first["text"].split())
    if "couldn't bind" in error:
        return (
            f"port {asked['port']} is taken, or kept for the system: choose another, or 0"
            " for a free one"
        )
    if "memory" in error or "alloc" in error:
        return too_little
    return f"llama.cpp cannot serve {asked['path']} ({error})"
