"""
The README in parts, and its programs run as they are printed.
"""

import asyncio
import contextlib
import os
import re
import shlex
import sys

import attrs

from shell import HOUSE


README = (HOUSE / "README.md").read_text("utf-8")

PATIENCE = 15
"""
Seconds: what takes longer hangs.
"""

# Home, as the local model is kept below it.
_KEPT = "PATH", "HOME", "SYSTEMROOT", "XDG_CACHE_HOME", "HORAY_CACHE"
CLEAN = {name: os.environ[name] for name in _KEPT if name in os.environ}


@attrs.frozen
class Block:
    """
    What stands between two fences.
    """

    heading: str

    language: str

    text: str


def blocks(language):
    """
    Every block in a language, with the heading that it stands under.
    """
    found = []
    for part in re.split(r"^##+ ", README, flags=re.MULTILINE):
        heading = part.partition("\n")[0]
        fenced = re.findall(r"^```(\w+)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
        found += [Block(heading, *each) for each in fenced if each[0] == language]
    return found


def program(heading):
    """
    The one Python block under a heading.
    """
    [block] = [block for block in blocks("python") if block.heading == heading]
    return block.text


def commands():
    """
    The words after `horay` in every command shown, in blocks and in the text.
    """
    lines = [line for block in blocks("bash") for line in block.text.splitlines()]
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    lines += re.findall(r"`([^`\n]*)`", prose)
    found = []
    for line in lines:
        for command in line.split("&&"):
            horay = re.fullmatch(r"\s*(?:[A-Z_]+=\S+ )*(?:\S*/)?horay( .*)?", command)
            if horay and horay[1]:
                # What the shell itself takes is not the command's.
                found.append(shlex.split(horay[1].partition(" < ")[0]))
    return found


def table():
    """
    The first cells of the table of commands.
    """
    return re.findall(r"^\| `horay (\w+)[^|]*\|", README, re.MULTILINE)


def save(folder, name, heading):
    """
    Put a program into a file, as a reader would.
    """
    path = folder / name
    path.write_text(program(heading), "utf-8")
    return path


def environment(server):
    """
    What leads every program to an emulator.
    """
    given = {"HORAY_API_KEY": "any", "HORAY_BASE_URL": server.base_url}
    return CLEAN | given | {"PYTHONPATH": str(HOUSE), "PYTHONUTF8": "1"}


async def python(*words, cwd, env):
    """
    Start a Python process whose output can be read.
    """
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, *map(str, words), cwd=cwd, env=env, stdout=pipe, stderr=pipe
    )


async def finished(*words, cwd, env, seconds=PATIENCE):
    """
    Run a Python process to its end: exit code, stdout, stderr.
    """
    process = await python(*words, cwd=cwd, env=env)
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode, out.decode(), err.decode()


class App:
    """
    A web app under uvicorn.
    """

    def __init__(self, process):
        self._process = process
        self.log = []
        """
        What it printed, line by line; whole after the end.
        """
        self.address = ""
        """
        Host and port.
        """

    async def listening(self):
        """
        Read until it says where it is.
        """
        while not self.address:
            await self._line()
            if told := re.search(r"running on http://(\S+)", self.log[-1]):
                self.address = told[1]

    async def _line(self):
        line = await self._process.stderr.readline()
        if not line:
            raise EOFError("".join(self.log))
        self.log.append(line.decode())

    async def stop(self):
        """
        End it as a deployment does, and read what it has still to say.
        """
        if self._process.returncode is None:
            self._process.terminate()
        self.log.append((await self._process.communicate())[1].decode())


@contextlib.asynccontextmanager
async def serving(path, server):
    """
    The app in a file on a free port, as its own process.
    """
    words = "-m", "uvicorn", f"{path.stem}:app", "--port", "0", "--no-use-colors"
    app = App(await python(*words, cwd=path.parent, env=environment(server)))
    try:
        async with asyncio.timeout(PATIENCE):
            await app.listening()
        yield app
    finally:
        await app.stop()
