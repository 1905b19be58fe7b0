"""
The log: what is told of calls to Python's logging, and what never is.
"""

import asyncio
import logging
import os
import subprocess
import sys

import pytest

from horay_async import HORAY, APIError, AsyncHoray, CallEnded, Meta, Outcome, user
from horay_async._events import LOG_VARIABLE, Report, listen, tell
from horay_async.emulator import Answer
from horay_async.emulator import Emulator as Server
from loopback import soon


KEY = "sk-of-the-tests/secret"

PROMPT = "the prompt that nobody may keep"

SAID = "what the model answered"


@pytest.fixture
def log(caplog):
    """
    What is logged from `debug` on.
    """
    caplog.set_level(logging.DEBUG, "horay_async")
    return caplog


@pytest.fixture
def bare(monkeypatch):
    """
    The logger as a fresh program has it: nobody listens.
    """
    fresh = logging.getLogger("another")
    fresh.setLevel(logging.NOTSET)
    fresh.handlers = [logging.NullHandler()]
    # Apart from the root that pytest listens at.
    fresh.parent = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr("horay_async._events.logger", fresh)
    return fresh


def connect(emulator):
    """
    A client with a key that is long enough to be looked for.
    """
    return AsyncHoray(service=HORAY, base_url=emulator.base_url, api_key=KEY)


async def ask(client, **options):
    """
    One plain call.
    """
    return await soon(
        client.chat.completions.create(messages=[user(PROMPT)], **options)
    )


# What is in it ---------------------------------------------------------------------


async def test_a_call(emulator, log):
    """
    Each attempt, each failure with what was decided, and the end: as text and as facts.
    """
    refusal = Answer.json(
        {"error": {"message": "later", "code": "busy"}},
        503,
        headers=[("retry-after", "0.01"), ("x-request-id", "r-1")],
    )
    emulator.script(refusal, Answer.chat(SAID))
    async with connect(emulator) as client:
        await ask(client)
    first, failed, second, ended = log.records
    assert [each.levelname for each in log.records] == ["DEBUG"] * 3 + ["INFO"]
    call = first.horay["call"]
    assert first.horay == {
        "event": "AttemptStarted",
        "call": call,
        "attempt": 1,
        "method": "POST",
        "path": "/chat/completions",
    }
    wait = failed.horay.pop("wait")
    assert 0.01 <= wait < 0.02
    assert failed.horay == {
        "event": "AttemptFailed",
        "call": call,
        "attempt": 1,
        "reason": "status 503",
        "error": "ServiceUnavailableError",
        "status": 503,
        "code": "busy",
        "request_id": "r-1",
    }
    assert failed.getMessage() == (
        f"attempt 1 of call {call} failed: ServiceUnavailableError, status 503,"
        " code busy, request id r-1; again at once"
    )
    assert second.getMessage() == f"attempt 2 of call {call}: POST /chat/completions"
    facts = ended.horay
    assert (facts["outcome"], facts["status"], facts["attempts"]) == (
        "finished",
        200,
        2,
    )
    assert facts["timings"]["total"] > 0
    assert set(facts["usage"]) >= {"prompt_tokens", "completion_tokens", "source"}
    assert "error" not in facts
    said = ended.getMessage()
    assert said.startswith(
        "/chat/completions ended: finished, status 200, attempts 2, "
    )
    assert said.endswith(f"call {call}")


async def test_no_connection(log):
    """
    Which way it failed is a fact, too.
    """
    nobody = "http://127.0.0.1:1/v1"
    async with AsyncHoray(service=HORAY, base_url=nobody, max_retries=0) as client:
        with pytest.raises(APIError):
            await ask(client)
    _, failed, ended = log.records
    assert failed.horay["error"] == "APIConnectionError"
    assert failed.horay["cause"] == "ConnectionRefusedError"
    assert (ended.horay["outcome"], ended.horay["status"]) == ("failed", None)
    assert "failed, APIConnectionError, status None" in ended.getMessage()


async def test_calls_have_numbers(emulator, log):
    """
    What belongs together can be told, though several are under way.
    """
    async with connect(emulator) as client:
        await asyncio.gather(ask(client), ask(client))
    calls = [each.horay["call"] for each in log.records]
    assert len(set(calls)) == 2
    assert sorted(calls) == sorted([*set(calls)] * 2)


# What is not -----------------------------------------------------------------------


ECHO = f"you ({KEY}) asked: {PROMPT}"

NO = {"message": ECHO, "code": ECHO, "type": ECHO, "param": ECHO}

ECHOING = {
    "a refusal": Answer.json({"error": NO}, 400, headers=[("x-request-id", ECHO)]),
    "a refusal as text": Answer(status=503, headers={"retry-after": ECHO}, body=[ECHO]),
    "in a stream": Answer(
        headers={"content-type": "text/event-stream"},
        body=[f'data: {{"error": {{"message": "{ECHO}", "code": "{ECHO}"}}}}\n\n'],
    ),
    "an event that is no chunk": Answer(
        headers={"content-type": "text/event-stream"}, body=[f"data: {ECHO}\n\n"]
    ),
    "another type": Answer(headers={"content-type": f"x/{ECHO}"}, body=[ECHO]),
    "an answer": Answer.chat(ECHO),
    "usage": Answer.json(
        {
            "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "note": ECHO},
        }
    ),
}


@pytest.mark.parametrize("scripted", ECHOING.values(), ids=ECHOING)
@pytest.mark.parametrize("stream", [False, True])
async def test_no_secrets(emulator, log, scripted, stream):
    """
    No key, no prompt, no answer, and no sentence of the server's, in any attribute.
    """
    emulator.script(scripted, Answer.chat(SAID))
    async with connect(emulator) as client:
        try:
            if stream:
                await soon(
                    client.chat.completions.stream(
                        messages=[user(PROMPT)]
                    ).get_final_completion()
                )
            else:
                await ask(client)
        except APIError:
            pass
    assert len(log.records) >= 2
    for record in log.records:
        shown = repr(record.__dict__) + record.getMessage()
        for secret in (KEY, PROMPT, SAID, "asked:"):
            assert secret not in shown


# Who listens -----------------------------------------------------------------------


def test_nobody(bare, capsys, monkeypatch):
    """
    Without the variable nothing is added, and nothing made.
    """
    monkeypatch.delenv(LOG_VARIABLE, raising=False)
    monkeypatch.setattr("horay_async._events.facts_of", None)
    listen()
    assert len(bare.handlers) == 1
    tell(
        None,
        CallEnded(path="/x", outcome=Outcome.FINISHED, meta=Meta(), usage=None),
    )
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("said", "lines"), [("info", 1), ("debug", 2), (" DEBUG ", 2)])
async def test_the_variable(bare, capsys, monkeypatch, said, lines):
    """
    stderr, once, however many clients are made.
    """
    monkeypatch.setenv(LOG_VARIABLE, said)
    async with Server(mode="echo") as server:
        for _ in range(3):
            async with connect(server) as client:
                pass
        async with connect(server) as client:
            await ask(client)
    assert client.is_closed()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == lines
    assert all(" another " in line for line in told)
    assert " INFO /chat/completions ended: finished" in told[-1]


def test_a_word_that_means_nothing(bare, capsys, monkeypatch):
    """
    It is said to, once, and ignored.
    """
    monkeypatch.setenv(LOG_VARIABLE, "loud")
    listen()
    listen()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("HORAY_LOG is 'loud', expected info or debug; ignored")
    assert not bare.isEnabledFor(logging.INFO)


@pytest.mark.parametrize("where", ["logger", "root"])
def test_somebody_listens_already(bare, capsys, monkeypatch, where):
    """
    Then the variable adds no second voice, and takes nothing from the first.
    """
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    bare.setLevel(logging.DEBUG)
    if where == "logger":
        bare.addHandler(handler)
    else:
        bare.parent.addHandler(handler)
    count = len(bare.handlers)
    monkeypatch.setenv(LOG_VARIABLE, "info")
    listen()
    assert len(bare.handlers) == count
    assert bare.level == logging.DEBUG
    tell(None, CallEnded(path="/x", outcome=Outcome.FINISHED, meta=Meta(), usage=None))
    (record,) = heard
    assert record.horay["path"] == "/x"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("where", ["logger", "root"])
def test_somebody_listens_later(bare, capsys, monkeypatch, where):
    """
    A program that sets its logging up after its first client reads each line once.
    """
    monkeypatch.setenv(LOG_VARIABLE, "info")
    ended = CallEnded(path="/x", outcome=Outcome.FINISHED, meta=Meta(), usage=None)
    listen()
    tell(None, ended)
    assert len(capsys.readouterr().err.splitlines()) == 1
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    (bare if where == "logger" else bare.parent).addHandler(handler)
    tell(None, ended)
    assert len(heard) == 1
    assert capsys.readouterr().err == ""


def test_what_nobody_hears_is_not_made(bare, monkeypatch):
    """
    Not even the events: neither a hook nor a log wants them.
    """
    for name in ("AttemptStarted", "CallEnded"):
        monkeypatch.setattr(f"horay_async._events.{name}", None)
    report = Report(None, "POST", "/x")
    report.started(1)
    report.ended(Outcome.FINISHED, Meta(), None, None)


SCRIPT = """
import asyncio
from horay_async import HORAY, AsyncHoray, user
from horay_async.emulator import Emulator

async def main():
    async with Emulator(mode="echo") as server:
        options = dict(service=HORAY, base_url=server.base_url, api_key="sk-secret")
        async with AsyncHoray(**options) as client:
            await client.chat.completions.create(messages=[user("hush")])

asyncio.run(main())
"""


def test_as_a_script():
    """
    `HORAY_LOG=debug python script.py`.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env={**os.environ, LOG_VARIABLE: "debug"},
        capture_output=True,
        check=True,
        text=True,
        timeout=20,
    )
    first, last = done.stderr.splitlines()
    assert first.endswith(
        " horay_async DEBUG attempt 1 of call 1: POST /chat/completions"
    )
    assert "INFO /chat/completions ended: finished, status 200" in last
    assert "sk-secret" not in done.stderr
    assert "hush" not in done.stderr
