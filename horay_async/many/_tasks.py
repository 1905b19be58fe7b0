"""
Tasks that somebody owns, and their end.
"""

from __future__ import annotations

import asyncio

from typing import Any


async def wind_up(tasks: set[asyncio.Task[Any]]) -> None:
    """
    Wait until all of them have ended and left the set, which they do by themselves.

    Cancelled: they are, once more, and it still waits; then the cancellation passes.
    """
    me = asyncio.current_task()
    assert me is not None
    interrupted: asyncio.CancelledError | None = None
    # One of them may be who asks: a job's source that closes its own job.
    while others := tasks - {me}:
        try:
            await asyncio.wait(others)
        except asyncio.CancelledError as error:
            interrupted, requests = error, me.cancelling()
            for task in others:
                task.cancel()
            if me.cancelling() > requests:
                break  # it came back to us: one of them waits for us
    if interrupted is not None:
        try:
            raise interrupted
        finally:
            del interrupted
