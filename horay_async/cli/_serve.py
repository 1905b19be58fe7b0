"""
`horay serve`: the emulator, for people.
"""

import asyncio
import contextlib
import signal

from typing import Any

from ._failures import Exit, Misuse, reason, say
from ._target import emulator_class


async def serve(**options: Any) -> Exit:
    """
    Run the emulator until Ctrl-C, or until the process is told to end.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no signal handlers on its loop; there Ctrl-C is a KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ended.set)
    # A server may run for days: it remembers the last requests only.
    emulator = emulator_class()(keep_requests=1000, **options)
    try:
        await emulator.start()
    except OSError as error:
        where = f"{options['host']}:{options['port']}"
        raise Misuse(f"cannot listen on {where}: {reason(error)}") from None
    async with contextlib.aclosing(emulator):
        print(f"Horay    {emulator.base_url}")
        print(f"Empower  {emulator.empower_base_url}", flush=True)
        say("an emulator, no real model; any key but bad-key will do; Ctrl-C ends it")
        await ended.wait()
    say("ended")
    return Exit.OK
