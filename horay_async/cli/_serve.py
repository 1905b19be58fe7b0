"""
`horay serve`: the emulator, for people.
"""

import asyncio
import contextlib
import os

from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from . import _log as log
from ._failures import Exit, Misuse, put, reason, say
from ._signals import run_async
from ._target import emulator_class
from ._validators import finite, whole


def serve(
    *,
    port: Annotated[
        int,
        Parameter(
            help="0 takes a free one.",
            converter=whole,
            validator=Number(gte=0, lte=65535),
        ),
    ] = 8080,
    host: Annotated[str, Parameter(help="The address to listen on.")] = "127.0.0.1",
    mode: Annotated[
        Literal["ngram", "echo"],
        Parameter(help="Made-up text, or what was said last, byte for byte."),
    ] = "ngram",
    time_to_first_token: Annotated[
        float, Parameter(help="Seconds.", validator=[Number(gte=0), finite])
    ] = 0.0,
    tokens_per_second: Annotated[
        float | None,
        Parameter(
            help="Of each answer. Default: all at once.",
            validator=[Number(gt=0), finite],
        ),
    ] = None,
    requests_per_second: Annotated[
        float | None,
        Parameter(
            help="Beyond it comes a 429. Default: any.",
            validator=[Number(gt=0), finite],
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        Parameter(
            name="--fault",
            negative="",
            help="NAME=SHARE: of all answers, this share (0 to 1) goes wrong so. "
            "Repeatable; `horay faults` lists the names.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        Parameter(help="Of the chance that deals out faults.", converter=whole),
    ] = None,
    model: Annotated[
        list[str] | None,
        Parameter(
            name="--model",
            negative="",
            help="A name that Horay's endpoints take beside the documented ones. "
            "Repeatable.",
        ),
    ] = None,
) -> Exit:
    """
    Run the emulator: a local Horay and Empower, for experiments without a key.

    HORAY_LOG=info tells on stderr what each request got.
    """
    if seed is not None and not fault:
        raise Misuse(f"--seed {seed}: without --fault there is no chance to deal out")
    return run_async(
        _serve(
            host=host,
            port=port,
            mode=mode,
            time_to_first_token=time_to_first_token,
            tokens_per_second=tokens_per_second,
            requests_per_second=requests_per_second,
            faults=_shares(fault or []),
            seed=seed,
            models=model or [],
            log=say if log.is_on() else None,
        )
    )


def _shares(words: list[str]) -> dict[str, float]:
    """
    Which faults, and how often.

    Raises:
        Misuse: That is not what the words say.
    """
    shares: dict[str, float] = {}
    for word in words:
        name, _, share = word.partition("=")
        if name in shares:
            raise Misuse(f"--fault {word}: its share was given before")
        try:
            shares[name] = float(share)
        except ValueError:
            raise Misuse(
                f"--fault {word}: expected NAME=SHARE, such as reset-mid-chunk=0.05"
            ) from None
    return shares


async def _serve(**options: Any) -> Exit:
    """
    Run the emulator until Ctrl-C, or until the process is told to end.
    """
    # A server may run for days: it remembers the last requests only.
    try:
        emulator = emulator_class()(keep_requests=1000, **options)
    except ValueError as error:
        raise Misuse(f"--fault: {error}") from None
    try:
        await emulator.start()
    except OSError as error:
        where = f"{options['host']}:{options['port']}"
        # asyncio's own words repeat the address; a host that is not found has no such code.
        code = error.errno or 0
        why = os.strerror(code) if code > 0 else reason(error)
        raise Misuse(f"cannot listen on {where}: {why}") from None
    async with contextlib.aclosing(emulator):
        put(f"Horay    {emulator.base_url}\nEmpower  {emulator.empower_base_url}\n")
        say("an emulator, no real model; any key but bad-key will do; Ctrl-C ends it")
        # Ending it is what everybody wants of it in the end: no failure.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    say("ended")
    return Exit.OK
