"""
`horay chat` and `horay complete`: several prompts, several answers, JSON.
"""

import asyncio
import json
import signal

import pytest

from horay_async.emulator import Answer
from shell import WAIT, start


def bodies(server):
    """
    What was sent: the JSON of every request.
    """
    return [request.json for request in server.requests]


def by_prompt(**answers):
    """
    A script for any number of requests: each prompt has its own answer.
    """

    def choose(request):
        return answers[request.json["messages"][-1]["content"]]

    return [choose] * len(answers)


def hanging(*before):
    """
    Half an answer, whose other half never comes.
    """
    return Answer.chat(*before, "half", finish=None, done=False, end="hang")


# Text ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["chat", "complete"])
def test_one(say, command):
    """
    One answer stands alone, ended by one line feed.
    """
    assert say(command, "Grüße, 世界 🌊") == (0, "Grüße, 世界 🌊\n", "")
    assert say(command, "a line\n") == (0, "a line\n", "")


def test_in_order(say, server):
    """
    Prompts are asked at the same time; what is ready early waits for its turn.
    """
    other = asyncio.Event()
    server.script(
        *by_prompt(
            first=Answer.chat("slow", other, " one"),
            second=Answer.chat("quick", other.set),
        )
    )
    code, out, err = say("chat", "first", "second")
    assert (code, err) == (0, "")
    assert out == "[1 of 2] first\nslow one\n\n[2 of 2] second\nquick\n"


def test_bounded(say, server):
    """
    A hundred prompts are not a hundred connections.
    """
    code, out, _ = say("chat", *(f"prompt {number}" for number in range(40)))
    assert code == 0
    assert out.count("\nprompt ") == 40
    assert server.connections <= 16


def test_heading(say):
    """
    A heading is one line, and not longer than a line.
    """
    out = say("chat", "two\nlines", "x" * 200, "--max-tokens", 1)[1]
    assert "[1 of 2] two lines\n" in out
    assert f"[2 of 2] {'x' * 59}…\n" in out


def test_choices(say, server):
    """
    `-n` gives several answers in one call.
    """
    code, out, _ = say("chat", "hi", "-n", 3)
    assert code == 0
    assert out == "[1 of 3]\nhi\n\n[2 of 3]\nhi\n\n[3 of 3]\nhi\n"
    assert [body["n"] for body in bodies(server)] == [3]
    out = say("complete", "a", "b", "--n", 2)[1]
    assert out.splitlines()[:5] == [
        "[1 of 2, answer 1 of 2] a",
        "a",
        "",
        "[1 of 2, answer 2 of 2] a",
        "a",
    ]


def test_choices_beyond_the_limit(say, server):
    """
    More than the service documents is asked in several calls, with seeds of their own.
    """
    code, out, _ = say("complete", "hi", "-n", 130, "--seed", 5, "--max-tokens", 1)
    assert code == 0
    assert "[130 of 130]\nhi\n" in out
    sent = sorted((body["n"], body["seed"]) for body in bodies(server))
    assert sum(n for n, _ in sent) == 130
    assert max(n for n, _ in sent) <= 128
    assert len({seed for _, seed in sent}) == 2
    code, out, _ = say("complete", "hi", "-n", 130, "--max-tokens", 1, "--json")
    assert code == 0
    assert [choice["index"] for choice in json.loads(out)["choices"]] == [*range(130)]


def test_system(say, server):
    """
    The system prompt goes before the user's.
    """
    assert say("chat", "hi", "-s", "Be short.")[0] == 0
    assert bodies(server)[0]["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "hi"},
    ]


def test_cut(say, server):
    """
    An answer that ends where nobody here wanted it to is said to be so.
    """
    server.script(Answer.chat("half an", finish="length"))
    assert say("chat", "hi") == (
        0,
        "half an\n",
        "horay: the answer was cut at its longest; --max-tokens allows more\n",
    )
    assert say("chat", "one two three", "--max-tokens", 2) == (0, "one two\n", "")


def test_unconfirmed(say, server):
    """
    So is one that may not be whole; several name the prompt.
    """
    sentence = "the server did not say whether the answer is whole"
    server.script(Answer.chat("half", finish=None))
    assert say("chat", "hi") == (0, "half\n", f"horay: {sentence}\n")
    server.script(*by_prompt(a=Answer.chat("a"), b=Answer.chat("b", finish=None)))
    assert say("chat", "a", "b", "-n", 2)[2].splitlines() == [
        f"horay: prompt {number}: {sentence}" for number in (1, 2)
    ]


# What goes wrong -------------------------------------------------------------------


def test_one_fails(say, server):
    """
    What came is printed; the others are answered all the same.
    """
    no = {"error": {"message": "out of order", "type": "t", "code": "c"}}
    server.script(
        *by_prompt(
            a=Answer.chat("fine"),
            b=Answer.chat("bro", finish=None, done=False, end="close"),
            c=Answer.json(no, 400),
            d=Answer.chat("fine too"),
        )
    )
    code, out, err = say("chat", "a", "b", "c", "d")
    assert code == 1
    assert out == "[1 of 4] a\nfine\n\n[2 of 4] b\nbro\n\n[4 of 4] d\nfine too\n"
    broken, refused = err.splitlines()
    assert broken.startswith("horay: prompt 2: ")
    assert refused == "horay: prompt 3: 400 from Horay: out of order"


def test_broken_before_its_turn(say, server):
    """
    What came of an answer that broke off while it waited for its turn is printed, too.
    """
    other = asyncio.Event()
    broken = Answer.chat("bro", finish=None, done=False, end="close")
    broken.body.append(other.set)
    server.script(*by_prompt(a=Answer.chat(other, 0.1, "a"), b=broken))
    code, out, err = say("chat", "a", "b")
    assert code == 1
    assert out == "[1 of 2] a\na\n\n[2 of 2] b\nbro\n"
    assert err.startswith("horay: prompt 2: ")


def test_empty(say, server):
    """
    An answer without a word is one: its heading stands, and nothing failed.
    """
    server.script(*by_prompt(a=Answer.chat(), b=Answer.chat("b")))
    assert say("chat", "a", "b") == (0, "[1 of 2] a\n\n[2 of 2] b\nb\n", "")


def test_choices_fail_once(say, server):
    """
    A call for several answers that fails is told once.
    """
    server.script(Answer.json({"error": {"message": "no"}}, 400))
    code, out, err = say("chat", "hi", "-n", 3)
    assert (code, out) == (1, "")
    assert err == "horay: 400 from Horay: no\n"
    server.script(*by_prompt(a=Answer.json({"error": {"message": "no"}}, 400), b=None))
    code, out, err = say("chat", "a", "b", "-n", 2)
    assert (code, out.count("\nb\n")) == (1, 2)
    assert err == "horay: prompt 1: 400 from Horay: no\n"


def test_the_only_one_breaks_off(say, server):
    """
    What came ends its line before the sentence does.
    """
    server.script(Answer.chat("half", finish=None, done=False, end="close"))
    code, out, err = say("chat", "hi")
    assert (code, out) == (1, "half\n")
    assert err.count("\n") == 1


def test_server_errors_are_one_line(say, server):
    """
    What a server says cannot break the line, or reach the terminal's controls.
    """
    no = {"error": {"message": "no\n\x1b[2J\x1b]0;title\x07 way"}}
    server.script(Answer.json(no, 400))
    assert (
        say("chat", "hi")[2]
        == "horay: 400 from Horay: no \ufffd[2J\ufffd]0;title\ufffd way\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chat", ""], "a prompt is empty"),
        (["chat", "fine", " \n"], "a prompt is empty"),
        (["chat", "-", "-"], "stdin can be read only once"),
        (
            ["chat", "hi", "--temperature", "-1"],
            "Horay documents at least 0.0; nothing",
        ),
        (["chat", "hi", "--temperature", "-1", "--json"], "--temperature -1.0: "),
        (["chat", "hi", "--max-tokens", "0"], "horay: --max-tokens 0: expected"),
        (["chat", "hi", "-n", "0"], "horay: -n 0: "),
        (["complete", "hi", "--reasoning-effort", "low"], "--reasoning-effort"),
    ],
)
def test_nothing_is_sent(say, server, words, said):
    """
    What cannot work is refused here.
    """
    code, out, err = say(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert "validate" not in err  # an argument of the library's
    assert not server.requests


def test_deadline(say, server):
    """
    `--timeout` bounds a call, and is what the sentence names.
    """
    server.script(hanging())
    code, out, err = say("chat", "hi", "--timeout", 0.5)
    assert (code, out) == (1, "half\n")
    assert "0.5 s" in err
    assert "--timeout" in err
    assert "Timeouts(" not in err


# JSON ------------------------------------------------------------------------------


def test_json(say):
    """
    For programs: a line for each prompt, in OpenAI's shape and in order.
    """
    code, out, err = say("chat", "Grüße", "b", "--json", "-n", 2)
    assert (code, err) == (0, "")
    first, second = map(json.loads, out.splitlines())
    assert "Grüße" in out
    assert first["object"] == "chat.completion"
    assert [each["message"]["content"] for each in first["choices"]] == ["Grüße"] * 2
    assert second["usage"]["completion_tokens"] == 2
    code, out, _ = say("complete", "c", "--json")
    assert json.loads(out)["choices"][0]["text"] == "c"


def test_json_errors(say, server):
    """
    One that failed is a line too; the sentence and the code stay.
    """
    no = {"error": {"message": "out of order", "type": "t", "code": "c"}}
    answers = {"a": Answer.json(no, 400), "b": None}
    server.script(*by_prompt(**answers))
    code, out, err = say("chat", "a", "b", "--json")
    assert code == 1
    first, second = map(json.loads, out.splitlines())
    message = "400 from Horay: out of order"
    assert first == {"error": {"message": message, "type": "t", "code": "c"}}
    assert second["choices"][0]["message"]["content"] == "b"
    assert err == f"horay: prompt 1: {message}\n"
    server.script(Answer(end="close", framing="raw"))
    code, out, err = say("chat", "a", "--json", "--max-retries", 0)
    assert code == 1
    assert json.loads(out)["error"]["type"] == "APIConnectionError"
    assert err.count("\n") == 1


# Stopped ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_stopped(server, number, code):
    """
    What is whole already is printed, though its turn has not come.
    """
    other = asyncio.Event()
    whole = Answer.chat("whole")
    whole.body.append(other.set)
    server.script(*by_prompt(a=hanging(other), b=whole))
    with start("chat", "a", "b", *server.words) as process:
        begun = "[1 of 2] a\nhalf"
        assert process.stdout.read(len(begun)) == begun
        process.send_signal(number)
        assert process.wait(WAIT) == code
        assert process.stdout.read() == "\n\n[2 of 2] b\nwhole\n"
        assert not process.stderr.read()
    server.call(server.wait_for_disconnect())


def test_stopped_with_json(server):
    """
    A program still finds a line for each prompt.
    """
    server.script(*by_prompt(a=None, b=Answer(end="hang"), c=None))
    with start("chat", "a", "b", "c", "--json", *server.words) as process:
        assert "choices" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130
        second, third = map(json.loads, process.stdout.read().splitlines())
        assert second["error"]["message"] == "interrupted"
        assert third.keys() & {"choices", "error"}
        assert not process.stderr.read()
