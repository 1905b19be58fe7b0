"""
The commands and their options, and what becomes of an error.
"""

import re
import sys

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from cyclopts import App, CycloptsError, UnusedCliTokensError

from .. import ConfigurationError, HorayError, InvalidRequestError, __version__
from . import _log as log
from ._account import models, whoami
from ._asking import ChatAsking
from ._batch import batch
from ._chat import chat
from ._complete import complete
from ._failures import Exit, Failure, explained, mute_stdout, put, reason, say
from ._faults import faults
from ._output import AsJson, put_json
from ._prompts import lone_hyphens
from ._serve import serve
from ._signals import Stopped


_CODES = """
Exit codes: 0 all answered; 1 a call or a line failed, or a batch stopped early; 2 the
command or its settings cannot work, nothing was sent; 130 interrupted (Ctrl-C); 141 whoever
read the output has left; 143 terminated.

HORAY_LOG=info tells on stderr how each call ended, HORAY_LOG=debug also each attempt, and
where an error came from.
"""


class _App(App):
    """
    The command, whose completion leaves file names to bash.
    """

    def generate_completion(self, **options: Any) -> str:
        """
        A shell's script; in bash a word that is none of ours is completed as elsewhere.
        """
        script = super().generate_completion(**options)
        ours = "complete -o bashdefault -o default -F "
        return re.sub("^complete -F ", ours, script, flags=re.MULTILINE)


app = _App(
    name="horay",
    help="Horay, Empower and servers of the same shape, on the command line.",
    help_epilogue=_CODES,
    help_format="markdown",
    version=f"horay-async {__version__}",
    suppress_keyboard_interrupt=False,  # `run` has its own code for each signal
)
_commands: list[Callable[..., object]] = [
    chat,
    complete,
    batch,
    models,
    whoami,
    serve,
    faults,
]
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
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # typed TextIO
    with log.listening():
        return _run(tokens)


def _run(tokens: Sequence[str]) -> int:
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
    except SystemExit as end:
        # What rich, which writes the help, makes of a closed pipe.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return _explain(end.__context__, tokens)
    except (CycloptsError, Failure, HorayError, OSError) as error:
        log.show(error)
        return _explain(error, tokens)
    except Exception as error:  # noqa: BLE001 -- a mistake of ours; still no traceback
        log.show(error)
        fault = f"{type(error).__name__}: {error}"
        say(f"a mistake in horay itself, {fault} (HORAY_LOG=debug shows where)")
        return Exit.FAILED
    return code or Exit.OK


def _explain(error: Exception, tokens: Sequence[str]) -> Exit:
    if isinstance(error, BrokenPipeError):
        mute_stdout()
        return Exit.PIPE_CLOSED
    if isinstance(error, OSError) and not isinstance(error, HorayError):
        return _explain_system(error)
    if isinstance(error, CycloptsError):
        say(_usage(error))
    else:
        say(_in_options(error, tokens))
    if isinstance(error, Failure):
        return error.code
    return Exit.MISUSE if isinstance(error, _NOTHING_SENT) else Exit.FAILED


def _usage(error: CycloptsError) -> str:
    """
    The parser's sentence, or ours, and where to look.
    """
    sentence = str(error)
    if isinstance(error, UnusedCliTokensError):
        words = [f'"{word}"' for word in error.unused_tokens or ()]
        sentence = f"unexpected word{'s' * (len(words) > 1)}: {', '.join(words)}"
    command = " ".join(["horay", *(error.command_chain or ())])
    return f"{sentence} ({command} --help lists what there is)"


def _in_options(error: Exception, tokens: Sequence[str]) -> str:
    """
    An error in words; the field of a request that is at fault, as the option it came from.

    In a batch the field may be that of a line, and keeps its name.
    """
    sentence = explained(error)
    name = error.field if isinstance(error, InvalidRequestError) else None
    if tokens[0] != "batch" and name in attrs.fields_dict(ChatAsking):
        option = "-n" if name == "n" else "--" + name.replace("_", "-")
        if any(token.partition("=")[0] == option for token in tokens):
            return re.sub(rf"^{name} = (.*?): ", rf"{option} \1: ", sentence)
    return sentence


def _explain_system(error: OSError) -> Exit:
    if error.filename is not None:
        say(f"{error.filename}: {reason(error)}")
    else:
        # Help is written by others than `put`.
        mute_stdout()
        say(f"cannot write the answer: {reason(error)}")
    return Exit.FAILED
