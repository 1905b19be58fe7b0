"""
An event loop on a thread of its own, and how other threads speak with it.
"""

import asyncio
import os
import queue
import threading

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, NoReturn, TypeVar


T = TypeVar("T")

_PATIENCE: Final = 10.0
"""
Seconds that the thread has for what takes it microseconds.
"""


class LoopThread:
    """
    Keeps something entered, over there, from `start` to `stop`.
    """

    def __init__(self, what: Callable[[], AbstractAsyncContextManager[object]]) -> None:
        self._what = what
        self._thread: threading.Thread | None = None
        self._process = 0
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._failure: BaseException | None = None
        self.ended: bool = False

    @property
    def runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """
        Returns when it is entered; raises what prevents that. Blocks as long.
        """
        if self._thread is not None or self.ended:
            raise RuntimeError("the emulator has been started already")
        begun: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._process = os.getpid()
        # A daemon: a test run that ends without stopping it is not held up.
        self._thread = threading.Thread(
            target=self._run, args=(begun,), name="horay-emulator", daemon=True
        )
        self._thread.start()
        begun.get()
        if self._failure is not None:
            self._thread = None
            raise self._failure

    def stop(self) -> bool:
        """
        Returns when all is over. False if it is already, or is another process's affair.
        """
        thread, self._thread, self.ended = self._thread, None, True
        if thread is None or os.getpid() != self._process:
            return False
        self._loop.call_soon_threadsafe(self._end.set)
        thread.join(_PATIENCE)
        if thread.is_alive():
            raise _stuck()
        if self._failure is not None:
            raise self._failure
        return True

    def do(self, what: Callable[[], T]) -> T:
        """
        Have something done over there, between two steps of the loop, and wait for it.

        It takes some 0.1 ms. Where nothing runs, or from over there, it is done here.
        """
        if self._thread is not None and os.getpid() != self._process:
            raise RuntimeError(
                "the emulator runs in the process that started it, and this is a fork"
                " of that one: here only its base_url is of use"
            )
        if not self.runs or threading.current_thread() is self._thread:
            return what()
        # A queue, and no future: waiting for that takes a lock, which counts as blocking
        # where an async test watches for it. Nobody who waits here is needed over there.
        results: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
        self._loop.call_soon_threadsafe(lambda: results.put(_tried(what)))
        try:
            result = results.get(timeout=_PATIENCE)
        except queue.Empty:
            raise _stuck() from None
        return result()

    def submit(self, task: Coroutine[Any, Any, T]) -> Future[T]:
        """
        Begin something that takes its time; what is left of it is cancelled by `stop`.
        """
        return asyncio.run_coroutine_threadsafe(task, self._loop)

    def _run(self, begun: queue.SimpleQueue[None]) -> None:
        # asyncio's own loop, whatever policy the tests have set: what is scheduled from
        # another thread runs before the bytes that are sent to it afterwards.
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._keep(begun))
        except BaseException as failure:  # noqa: BLE001 -- raised by start or stop
            self._failure = failure
            begun.put(None)

    async def _keep(self, begun: queue.SimpleQueue[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        async with self._what():
            begun.put(None)
            await self._end.wait()


def _stuck() -> RuntimeError:
    return RuntimeError(
        f"the emulator's thread has not answered for {_PATIENCE:g} s: does a function of"
        " the script block it?"
    )


def _tried(what: Callable[[], T]) -> Callable[[], T]:
    """
    Call it. Calling what this returns gives its result, or raises its error.
    """
    try:
        result = what()
    except BaseException as error:  # noqa: BLE001 -- raised where it was asked for
        return partial(_raise, error)
    return lambda: result


def _raise(error: BaseException) -> NoReturn:
    raise error
