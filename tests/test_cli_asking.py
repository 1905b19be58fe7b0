"""
The sampling options: one for every field, and what they send.
"""

import json

import attrs
import pytest

from batching import emulating
from horay_async import ChatRequest
from horay_async._fields import Request
from horay_async._requests import Sampling
from horay_async.cli import main
from horay_async.cli._asking import Asking, ChatAsking


# Streams get their usage by other means, and `extra` stands for what travels aside.
ASIDE = {"stream_options", "extra_body", "extra_headers", "extra_query"}
ONLY_CHAT = {"max_completion_tokens", "reasoning_effort"}


def names(kind):
    return set(attrs.fields_dict(kind))


def test_none_is_forgotten():
    """
    Every field of a sampling request has its option, and every option its field.
    """
    assert names(Asking) == names(Sampling) - ASIDE | {"extra"}
    assert names(ChatAsking) == names(Asking) | ONLY_CHAT
    assert names(Sampling) >= names(Request)
    assert names(ChatRequest) >= ONLY_CHAT


@pytest.fixture
def body(monkeypatch, capsys):
    """
    Run a command: what it sent.
    """
    monkeypatch.setenv("HORAY_API_KEY", "a-key")
    with emulating() as server:

        def body(*words):
            assert main([*words, *server.words]) == 0, capsys.readouterr().err
            return server.requests[-1].json

        yield body


def test_not_given(body):
    """
    What is not given is not sent.
    """
    assert body("chat", "hi").keys() == {"messages", "model", "stream"}


OPTIONS = {
    "model": (["meta-llama/Llama-3.2-1B-Instruct"], "meta-llama/Llama-3.2-1B-Instruct"),
    "max_tokens": (["7"], 7),
    "stop": (["x", "-y"], ["x", "-y"]),
    "temperature": (["0.5"], 0.5),
    "top_p": (["0.5"], 0.5),
    "top_k": (["5"], 5),
    "min_p": (["0.1"], 0.1),
    "frequency_penalty": (["-0.5"], -0.5),
    "presence_penalty": (["0.5"], 0.5),
    "repetition_penalty": (["1.5"], 1.5),
    "n": (["2"], 2),
    "seed": (["-3"], -3),
    "logit_bias": (["5=-1.5", "7=2"], {"5": -1.5, "7": 2.0}),
    "user": (["me"], "me"),
    "max_completion_tokens": (["9"], 9),
    "reasoning_effort": (["low"], "low"),
}


@pytest.mark.parametrize("command", ["chat", "complete"])
def test_sent(body, command):
    """
    Every option arrives as its field.
    """
    kind = {"chat": ChatAsking, "complete": Asking}[command]
    given = {name: OPTIONS[name] for name in names(kind) - {"extra", "ignore_eos"}}
    words = [
        f"--{name.replace('_', '-')}={value}"
        for name, (values, _) in given.items()
        for value in values
    ]
    extra = ["--extra", "top_a=0.2", "--extra", 'tags=["a", {"b": null}]']
    sent = body(command, "hi", *words, *extra, "--ignore-eos")
    for name, (_, value) in given.items():
        assert (name, sent[name]) == (name, value)
    assert sent["ignore_eos"] is True
    assert sent["top_a"] == 0.2
    assert sent["tags"] == ["a", {"b": None}]


@pytest.mark.parametrize("words", [["-n", "2"], ["--n", "2"]])
def test_short(body, words):
    """
    The usual short names.
    """
    assert body("chat", "hi", *words)["n"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--extra", "a"], "--extra: Expected a name, \"=\" and a value, found 'a'"),
        (["--extra", "=1"], "--extra: Expected a name"),
        (["--extra", "a=b"], "--extra: Expected JSON after the =, found 'b'"),
        (["--logit-bias", "x=1"], "Expected a token's number before the =, found 'x'"),
        (["--logit-bias", "1=x"], "Expected a number after the =, found 'x'"),
        (["--seed", "1.5"], "--seed: Expected a whole number"),
        (["--temperature", "nan"], "--temperature. Expected a finite number"),
        (["--top-p", "much"], "--top-p"),
        (["--max-tokens"], "--max-tokens"),
    ],
)
def test_wrong(capsys, words, said):
    """
    A value that cannot be read is one sentence that names its option.
    """
    assert main(["chat", "hi", "--emulator", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert "('" not in err


def test_help(capsys):
    """
    The options stand in groups, and the help names the documented defaults.
    """
    main(["chat", "--help"])
    out = capsys.readouterr().out
    places = [out.index(title) for title in ("Who answers", "How to answer", "Output")]
    assert places == sorted(places)
    assert out.index("Who answers") < out.index("--local") < out.index("How to answer")
    assert out.index("How to answer") < out.index("--top-k") < out.index("Output")
    assert "Usage: horay chat [OPTIONS] [PROMPT]..." in out
    assert json.dumps(512) in out
