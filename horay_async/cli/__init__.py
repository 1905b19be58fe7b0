"""
The command `horay`: its door. What is behind it is imported when somebody walks in.
"""

import sys

from collections.abc import Sequence


def main(tokens: Sequence[str] | None = None) -> int:
    """
    Run one command; *tokens* are the command line's words, by default this process's own.

    Returns:
        The exit code. Nothing is raised: what goes wrong is one sentence on stderr.
    """
    try:
        from ._app import run  # noqa: PLC0415 -- stands on an extra, and is heavy
        from ._signals import end  # noqa: PLC0415 -- of the same extra
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as missing:
        if missing.name not in {"cyclopts", "rich"}:
            raise
        sentence = "the command needs its extra: pip install 'horay-async[cli]'"
        print(f"horay: {sentence}", file=sys.stderr)
        return 2
    if tokens is not None:
        return run(tokens)
    code = run(sys.argv[1:])
    end(code)
    return code
