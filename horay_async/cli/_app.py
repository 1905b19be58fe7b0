"""
The commands and their options, and what becomes of an error.
"""

import sys

from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError

from .. import ConfigurationError, HorayError, InvalidRequestError, __version__
from . import _log as log
from ._account import models, whoami
from ._batch import batch
from ._chat import chat
from ._complete import complete
from ._failures import Exit, Failure, explained, mute_stdout, put, reason, say
from ._output import AsJson, put_json
from ._prompts import lone_hyphens
from ._serve import serve
from ._signals import Stopped


_CODES = """
Exit codes: 0 all answered; 1 a call or a line failed; 2 the command or its settings
cannot work, nothing was sent; 130 interrupted (Ctrl-C); 141 whoever read the output has
left; 143 terminated.

HORAY_LOG=info tells on stderr how each call ended, HORAY_LOG=debug everything.
"""

app = App(
    name="horay",
    help="Horay, Empower and servers of the same shape, on the command line.",
    help_epilogue=_CODES,
    help_format="markdown",
    version=f"horay-async {__version__}",
    suppress_keyboard_interrupt=False,  # `run` has its own code for each signal
)
_commands: list[Callable[..., object]] = [chat, complete, batch, models, whoami, serve]
for _place, _command in enumerate(_commands):
    app.command(_command, sort_key=_place)
for _name in "chat", "complete":
    # cyclopts would call the prompts ARGS.
    app[_name].usage = f"Usage: horay {_name} [OPTIONS] [PROMPT]..."
app.register_install_completion_command(
    help="Let the shell complete commands and options: bash, zsh, fish or PowerShell."
)

_NOTHING_SENT = (CycloptsError, ConfigurationError, InvalidRequestError)


@app.command
def version(*, as_json: AsJson = False) -> None:
    """
    Print the version.
    """
    if as_json:
        put_json({"name": "horay-async", "version": __version__})
    else:
        put(f"horay-async {__version__}\n")


def run(tokens: Sequence[str]) -> int:
    """
    Run the command that *tokens* spell; every error becomes one sentence and a code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end an answer. A stream that the
        # shell has closed is None.
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    log.set_up()
    try:
        code = app(
            lone_hyphens(tokens),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        put("")
    except Stopped as stop:
        return stop.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (CycloptsError, Failure, HorayError, OSError) as error:
        log.show(error)
        return _explain(error)
    except Exception as error:  # noqa: BLE001 -- a mistake of ours; still no traceback
        log.show(error)
        fault = f"{type(error).__name__}: {error}"
        say(f"a mistake in horay itself, {fault} (HORAY_LOG=debug shows where)")
        return Exit.FAILED
    return code or Exit.OK


def _explain(error: Exception) -> Exit:
    if isinstance(error, BrokenPipeError):
        mute_stdout()
        return Exit.PIPE_CLOSED
    if isinstance(error, OSError) and not isinstance(error, HorayError):
        return _explain_system(error)
    more = " (horay --help lists what there is)"
    say(f"{explained(error)}{more if isinstance(error, CycloptsError) else ''}")
    if isinstance(error, Failure):
        return error.code
    return Exit.MISUSE if isinstance(error, _NOTHING_SENT) else Exit.FAILED


def _explain_system(error: OSError) -> Exit:
    if error.filename is not None:
        say(f"{error.filename}: {reason(error)}")
    else:
        # Help is written by others than `put`.
        mute_stdout()
        say(f"cannot write the answer: {reason(error)}")
    return Exit.FAILED
