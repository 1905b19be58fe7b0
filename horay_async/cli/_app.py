"""
The commands and their options, and what becomes of an error.
"""

import asyncio
import math
import os
import sys
import traceback

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from .. import ConfigurationError, HorayError, InvalidRequestError, __version__
from . import _batch, _chat, _serve
from ._failures import Exit, Failure, mute_stdout, put, reason, say
from ._target import Asking, Target, whole


_CODES = """
Exit codes: 0 all answered; 1 a call or a line failed; 2 the command or its settings
cannot work, nothing was sent; 130 interrupted; 141 whoever read the output has left.
"""

app = App(
    name="horay",
    help="Horay, Empower and servers of the same shape, on the command line.",
    help_epilogue=_CODES,
    help_format="markdown",
    version=f"horay-async {__version__}",
)

_NOTHING_SENT = (CycloptsError, ConfigurationError, InvalidRequestError)


def _file(_: object, name: str) -> None:
    """
    Refuse a mistyped option in a file's place: both may begin with a hyphen.
    """
    if not name:
        raise ValueError('The name of a file is empty ("-" is stdin or stdout).')
    if name.startswith("-") and name != "-":
        raise ValueError(f'Unknown option "{name}". (A file: "./{name}".)')


def _finite(_: object, value: Any) -> None:
    """
    Refuse what compares well, and is no length of time.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("Expected a finite number.")


@app.command
def chat(
    prompt: Annotated[str, Parameter(help="What to say.")],
    /,
    *,
    target: Target = Target(),  # noqa: B008 -- frozen
    asking: Asking = Asking(),  # noqa: B008
) -> Exit:
    """
    Stream the answer to one prompt.
    """
    return asyncio.run(_chat.chat(prompt, target=target, asking=asking))


@app.command
def batch(
    source: Annotated[
        str,
        Parameter(
            help="JSON Lines, each a prompt, messages, turns, or an OpenAI Batch line; "
            '"-" is stdin.',
            allow_leading_hyphen=True,
            validator=_file,
        ),
    ],
    /,
    *,
    output: Annotated[
        str,
        Parameter(
            name=["--output", "-o"],
            help='Where result lines go, replacing the file; "-" is stdout.',
            allow_leading_hyphen=True,
            validator=_file,
        ),
    ] = "-",
    concurrency: Annotated[
        int,
        Parameter(
            help="Lines answered at a time.", converter=whole, validator=Number(gte=1)
        ),
    ] = 32,
    target: Target = Target(),  # noqa: B008
    asking: Asking = Asking(),  # noqa: B008
) -> Exit:
    """
    Answer a file of prompts, one OpenAI Batch result line for each.

    What a line says itself goes before the options given here. Results come in the order
    in which they are ready; custom_id tells whose they are: it is a line's custom_id, id or
    question_id, or "line-7" for a seventh line that has none.
    """
    return asyncio.run(
        _batch.batch(
            source, output, concurrency=concurrency, target=target, asking=asking
        )
    )


@app.command
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
        float, Parameter(help="Seconds.", validator=[Number(gte=0), _finite])
    ] = 0.0,
    tokens_per_second: Annotated[
        float | None,
        Parameter(
            help="Of each answer. Default: all at once.",
            validator=[Number(gt=0), _finite],
        ),
    ] = None,
    requests_per_second: Annotated[
        float | None,
        Parameter(
            help="Beyond it comes a 429. Default: any.",
            validator=[Number(gt=0), _finite],
        ),
    ] = None,
) -> Exit:
    """
    Run the emulator: a local Horay and Empower, for experiments without a key.
    """
    return asyncio.run(
        _serve.serve(
            host=host,
            port=port,
            mode=mode,
            time_to_first_token=time_to_first_token,
            tokens_per_second=tokens_per_second,
            requests_per_second=requests_per_second,
        )
    )


@app.command
def version() -> None:
    """
    Print the version.
    """
    print(f"horay-async {__version__}")


def run(tokens: Sequence[str]) -> int:
    """
    Run the command that *tokens* spell; every error becomes one sentence and a code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end an answer. A stream that the
        # shell has closed is None.
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(
            tokens,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        put("")
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (CycloptsError, Failure, HorayError, OSError) as error:
        return _explain(error)
    except Exception as error:  # noqa: BLE001 -- a mistake of ours; still no traceback
        if os.environ.get("HORAY_LOG") == "debug":
            traceback.print_exc()
        fault = f"{type(error).__name__}: {error}"
        say(f"a mistake in horay itself, {fault} (HORAY_LOG=debug shows where)")
        return Exit.FAILED
    return code or Exit.OK


def _explain(error: Exception) -> Exit:
    if isinstance(error, BrokenPipeError):
        mute_stdout()
        return Exit.PIPE_CLOSED
    hint = " (horay --help lists what there is)"
    # Some of our own errors are a TimeoutError, and so an OSError, too.
    if isinstance(error, OSError) and not isinstance(error, HorayError):
        say(reason(error))
    else:
        say(f"{error}{hint if isinstance(error, CycloptsError) else ''}")
    if isinstance(error, Failure):
        return error.code
    return Exit.MISUSE if isinstance(error, _NOTHING_SENT) else Exit.FAILED
