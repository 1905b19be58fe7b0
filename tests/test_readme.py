"""
The README does what it says: every program runs as it is printed.

What answers is the emulator; a program is a process of its own, as its reader would run it.
Processes are slow to start, so each runs once, on a plain loop.
"""

import asyncio
import re
import shlex

import aiohttp
import pyarrow.parquet as pq
import pytest

from websockets.asyncio.client import connect

from horay_async.cli import main
from horay_async.emulator import Answer, Emulator
from readme_parts import (
    CLEAN,
    PATIENCE,
    README,
    blocks,
    commands,
    environment,
    finished,
    program,
    save,
    serving,
    table,
)
from shell import HOUSE


ASK = "Ask, and stream"
WEB = "In a web app"
MAP = "Many prompts"
SOCKET = "Over a websocket"
FAN_OUT = "Many answers"
LOCAL = "A model on your own machine"
PYTEST = "Test your app"
FILE = "A file of prompts"


def run(folder, heading):
    """
    Run the program under a heading beside an emulator: its lines, and what was asked.
    """

    async def beside():
        async with Emulator(mode="echo") as server:
            path = save(folder, "program.py", heading)
            done = await finished(path, cwd=folder, env=environment(server))
            return *done, server.requests

    code, out, err, requests = asyncio.run(beside())
    assert (code, err) == (0, "")
    return out.splitlines(), requests


def test_every_program_is_tried():
    """
    A new block of Python needs a test here.
    """
    tried = [ASK, WEB, MAP, SOCKET, FAN_OUT, LOCAL, PYTEST]
    assert [block.heading for block in blocks("python")] == tried


# Programs --------------------------------------------------------------------------


def test_ask(tmp_path):
    """
    The first program: a reply, then a stream that has it in its history.
    """
    lines, requests = run(tmp_path, ASK)
    assert lines[0].startswith("Name three seas. ")
    assert lines[1] == "Tell me more."
    assert lines[2].startswith("finished Usage(")
    said = [message["content"] for message in requests[1].json["messages"]]
    assert said == ["Name three seas.", "Name three seas.", "Tell me more."]


def test_many_prompts(tmp_path):
    """
    Every prompt has its row, and once it is answered none is asked again.
    """
    (*lines, progress), requests = run(tmp_path, MAP)
    assert len(requests) == 200
    expected = {f"{n} What is {n} times {n}?" for n in range(200)}
    assert set(lines) == expected
    assert len(lines) == 200
    assert progress.startswith("<Progress: 200 done, 0 failed, ")
    [progress], requests = run(tmp_path, MAP)
    assert "200 in the journal before" in progress
    assert not requests


def test_many_answers(tmp_path):
    """
    The first choice that will do; four choices' tokens; a race's text, and who won it at
    which cost; a hedged reply.
    """
    lines, _ = run(tmp_path, FAN_OUT)
    title = "A title for a book about the sea?"
    first, *tokens, raced, won, reply = lines
    number, text = first.split(" ", 1)
    assert 0 <= int(number) < 16
    assert text == title
    texts = dict.fromkeys("0123", "")
    for token in tokens:
        number, text = token.split(" ", 1)
        texts[number] += text
    assert texts == dict.fromkeys("0123", title)
    assert (raced, reply) == (title, title)
    assert re.match(r"[01] \S*Usage\(", won)


@pytest.mark.timeout(120)
def test_local_model(tmp_path, llama):
    """
    A real model answers; nothing but the program's own output is printed.
    """
    path = save(tmp_path, "program.py", LOCAL)
    env = CLEAN | {"PYTHONPATH": str(HOUSE)}
    done = asyncio.run(finished(path, cwd=tmp_path, env=env, seconds=100))
    code, out, err = done
    assert (code, err) == (0, "")
    assert len(out.split()) > 5


def test_the_readers_own_test(tmp_path):
    """
    The example passes under pytest, in a folder with nothing in it but the app.
    """
    save(tmp_path, "app.py", WEB)
    path = save(tmp_path, "test_mine.py", PYTEST)
    env = CLEAN | {"PYTHONPATH": str(HOUSE)}
    words = "-m", "pytest", "-q", "-W", "error", path
    code, out, _ = asyncio.run(finished(*words, cwd=tmp_path, env=env))
    assert code == 0, out
    assert re.search(
        rf"^{program(PYTEST).count('def test_')} passed", out, re.MULTILINE
    ), out


# Apps ------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_web_app(tmp_path):
    """
    The address in the text is the app's, and gives the answer.
    """
    [url] = re.findall(r"<http://127\.0\.0\.1:8000(\S+)>", README)

    async def visit():
        async with Emulator(mode="echo") as server:
            path = save(tmp_path, "app.py", WEB)
            async with serving(path, server) as app, aiohttp.ClientSession() as session:
                for _ in range(2):
                    async with session.get(f"http://{app.address}{url}") as answer:
                        given = await answer.json()
                    assert (answer.status, given["answer"]) == (200, "Name three seas.")
                    assert given["tokens"] > 0
            # One client, for the life of the app.
            assert len(server.requests) == 2
            assert server.connections == 1
            return "".join(app.log)

    check_log(asyncio.run(visit()))


def check_log(log):
    """
    The app has ended as it should, and nothing went wrong before.
    """
    assert "Application shutdown complete" in log
    assert "ERROR" not in log
    assert "Traceback" not in log


async def answered(server, url):
    """
    Every token is a message, and the end is an end.
    """
    async with connect(url) as socket:
        await socket.send("Name three seas.")
        tokens = [token async for token in socket]
    assert tokens == ["Name", " three", " seas."]
    assert socket.close_code == 1000


async def left_in_the_middle(server, url):
    """
    The server has nothing more to say, so no send would notice.
    """
    server.script(Answer.chat("word", end="hang", finish=None, done=False))
    async with connect(url) as socket:
        await socket.send("Hello")
        assert await socket.recv() == "word"


async def left_before_the_first_byte(server, url):
    """
    Without a closing handshake, as when a machine is switched off.
    """
    server.script(Answer.chat("word", before=[asyncio.Event()]))
    this = len(server.requests) + 1
    async with connect(url) as socket:
        await socket.send("Hello")
        await server.wait_for_request(this, PATIENCE)
        socket.transport.abort()


async def left_in_a_flood(server, url):
    """
    While tokens come as fast as they can.
    """
    server.script(Answer.chat(*["word"] * 100_000))
    async with connect(url) as socket:
        await socket.send("Hello")
        assert await socket.recv() == "word"
        socket.transport.abort()


async def left_without_a_question(server, url):
    """
    Nothing was asked, so nothing is to be stopped.
    """
    async with connect(url):
        pass


LEAVING = [left_in_the_middle, left_before_the_first_byte, left_in_a_flood]


@pytest.mark.timeout(90)
def test_websocket(tmp_path):
    """
    Whoever leaves stops the answer, whatever it is doing, and nothing is logged of it.
    """

    async def visit():
        async with Emulator(mode="echo") as server:
            path = save(tmp_path, "app.py", SOCKET)
            async with serving(path, server) as app, asyncio.timeout(60):
                url = f"ws://{app.address}/chat"
                await answered(server, url)
                for number, leave in enumerate(LEAVING, 1):
                    await leave(server, url)
                    await server.wait_for_disconnect(number, PATIENCE)
                await left_without_a_question(server, url)
            return "".join(app.log)

    check_log(asyncio.run(visit()))


# The command line ------------------------------------------------------------------


def test_the_table_of_commands(capsys, monkeypatch):
    """
    The table has the commands that `horay --help` lists, in its order.
    """
    monkeypatch.setenv("NO_COLOR", "1")
    main(["--help"])
    listed = re.findall(r"^│ ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(table()) == sorted(listed)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands(words):
    """
    Every command shown is one that the command line takes; none is run.
    """
    from horay_async.cli._app import app
    from horay_async.cli._prompts import lone_hyphens

    app.parse_args(lone_hyphens(words), exit_on_error=False, print_error=False)


@pytest.mark.timeout(60)
def test_a_file_of_prompts(tmp_path):
    """
    The commands for a file do what is said of them, one after the other.
    """
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    (tmp_path / "prompts.csv").write_text("prompt,max_tokens\nthree,9\nfour,9\n")
    first, again, table = [
        shlex.split(line)[1:]
        for block in blocks("bash")
        if block.heading == FILE
        for line in block.text.splitlines()
    ]

    async def type_them():
        async with Emulator(mode="echo") as server:
            env = environment(server)

            async def horay(words):
                call = "-m", "horay_async", *words
                code, _, err = await finished(*call, cwd=tmp_path, env=env)
                return code, err, len(server.requests)

            refused = Answer.json({"error": {"message": "no"}}, 400)
            server.script(refused)
            code, err, asked = await horay(first)
            assert (code, asked) == (1, 2), err
            assert (await horay(first))[::2] == (1, 2)
            assert (await horay(again))[::2] == (0, 3)
            assert (await horay(first))[::2] == (0, 3)
            code, err, asked = await horay(table)
            assert (code, asked) == (0, 5), err

    asyncio.run(type_them())
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2
    answers = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    assert sorted(row["text"] for row in answers) == ["four", "three"]


def test_options(capsys, monkeypatch):
    """
    Every option that is named exists.
    """
    monkeypatch.setenv("NO_COLOR", "1")
    main(["--help"])
    for command in table():
        main([command, "--help"])
    listed = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    section = README.partition("## On the command line")[2].partition("\n## ")[0]
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]+", section)) - {"--help"} <= listed


def test_the_two_commands():
    """
    Whoever checks a change finds them: see .ci/run.
    """
    first, second = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert "horay batch docs/prompts.jsonl -o answers.jsonl" in first
    assert second.endswith("-m pytest")


# Figures, and other files ----------------------------------------------------------


def test_links():
    """
    What is linked inside the house is there.
    """
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert linked
    assert [link for link in linked if not (HOUSE / link).exists()] == []
    measured = re.findall(r"python -m benchmarks\.(\w+)", README)
    assert "rivals" in measured
    for name in measured:
        assert (HOUSE / "benchmarks" / f"{name}.py").exists(), name


@pytest.mark.timeout(60)
def test_beside_rivals():
    """
    The comparison runs, and what it says of us is so; the costs are the machine's affair.
    """
    words = "-m", "benchmarks.rivals", "--tokens", 50, "--rounds", 1, "--patience", 2
    code, out, err = asyncio.run(finished(*words, cwd=HOUSE, env=CLEAN, seconds=50))
    assert (code, err) == (0, "")
    ours = dict(re.findall(r"^(.{10,33}?)  .*  (\S.*)$", out, re.MULTILINE))
    assert ours["cut off after three tokens"].startswith("IncompleteStreamError, ")
    assert re.fullmatch(r"told after [\d.]+ ms", ours["`break`, the stream still held"])
    assert ours["pings and no token, timeout=1"].startswith("DeadlineExceeded after 1.")
