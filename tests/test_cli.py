"""
The command `horay`, tried as a person would: as a process, by its output and exit code.
"""

import signal
import sys

import pytest

import horay_async

from horay_async.cli import main
from shell import WAIT, horay, serving, start


@pytest.fixture(scope="module")
def echo():
    """
    The options that lead to an emulator that says what was said last.
    """
    with serving("--mode", "echo") as url:
        yield "--service", "horay", "--base-url", url


# The words of the command line -----------------------------------------------------


def test_version(capsys):
    """
    `horay version` and `horay --version` say the same.
    """
    assert main(["version"]) == 0
    assert main(["--version"]) == 0
    out = capsys.readouterr().out
    assert out.split("\n")[:2] == [f"horay-async {horay_async.__version__}"] * 2


@pytest.mark.parametrize("words", [[], ["--help"], ["batch", "--help"]])
def test_help(capsys, words):
    """
    Help goes to stdout and is no failure.
    """
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "Usage: horay" in captured.out
    assert not captured.err


def test_help_lists_exit_codes(capsys):
    """
    A script's author finds the exit codes in the help.
    """
    main(["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "130 interrupted" in out
    assert "HORAY_LOG=debug" in out
    assert "debug everything" not in out
    assert out.index(" chat ") < out.index(" batch ") < out.index(" version ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chta"], "chta"),
        (["chta"], 'Did you mean "chat"?'),
        (["chat", "hi", "--tempreature", "1"], "--tempreature"),
        (["chat", "hi", "--tempreature", "1"], "Did you mean --temperature?"),
        (["chat", "hi", "--max-tokens", "many"], "--max-tokens"),
        (["batch", "--emulatr"], 'Unknown option "--emulatr"'),
        (["batch", "in.jsonl", "-o", "--emulatr"], 'Unknown option "--emulatr"'),
        (["batch", "in.jsonl", "--concurrency", "0"], "--concurrency"),
        (["chat", "hi", "--service", "acme"], "acme"),
        (["serve", "--port", "70000"], "--port"),
        (["chta"], "(horay --help lists what there is)"),
        (["chat", "hi", "--tempreature", "1"], "(horay chat --help lists what"),
        (["batch"], "(horay batch --help lists what there is)"),
        (["models", "extra"], 'horay: unexpected word: "extra" (horay models --help'),
        (["version", "a", "b"], 'horay: unexpected words: "a", "b" (horay version'),
        (["chat", "hi", "--max-tokens", "1.5"], "--max-tokens: Expected a whole"),
        (["batch", "-", "--concurrency", "1.9"], "--concurrency: Expected a whole"),
        (["chat", "hi", "--max-retries", "0.5"], "--max-retries: Expected a whole"),
        (["batch", "-", "--max-retries", "-1"], "--max-retries"),
        (["serve", "--port", "80.5"], "--port: Expected a whole"),
        (["serve", "--time-to-first-token", "inf"], "--time-to-first-token"),
        (["serve", "--time-to-first-token", "nan"], "--time-to-first-token"),
        (["serve", "--tokens-per-second", "inf"], "--tokens-per-second"),
        (["serve", "--requests-per-second", "nan"], "--requests-per-second"),
        (["batch", "in.jsonl", "-o", ""], "name of a file is empty"),
        (["batch", ""], "name of a file is empty"),
    ],
)
def test_misspelt(capsys, words, said):
    """
    A mistyped command is one sentence on stderr, and exit code 2.
    """
    assert main(words) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("horay: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_without_the_extra(capsys, monkeypatch):
    """
    The library without the extra names what to install.
    """
    monkeypatch.delitem(sys.modules, "horay_async.cli._app", raising=False)
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    assert main(["version"]) == 2
    assert "pip install 'horay-async[cli]'" in capsys.readouterr().err


def test_interrupted_while_it_starts(capsys, monkeypatch):
    """
    Ctrl-C before the command has begun is no traceback.
    """

    class Interruption:
        def find_spec(self, name, *_):
            if name == "horay_async.cli._app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "horay_async.cli._app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interruption(), *sys.meta_path])
    assert main(["version"]) == 130
    assert not capsys.readouterr().err


# Who answers -----------------------------------------------------------------------


@pytest.mark.parametrize("words", [["chat", "hi"], ["batch", "-"]])
def test_no_key(words):
    """
    Without key and flag: one sentence that names all ways on.
    """
    code, out, err = horay(*words, env={})
    assert (code, out) == (2, "")
    for way in "HORAY_API_KEY", "--local", "--emulator":
        assert way in err
    assert err.count("\n") == 1


def test_no_key_for_empower():
    """
    The sentence names the variable of the service that was asked for.
    """
    _, _, err = horay("chat", "hi", "--service", "empower", env={})
    assert "EMPOWER_API_KEY" in err


def test_no_key_for_another_server():
    """
    A key in the environment is not sent to just any address; the sentence says how it is.
    """
    url = "https://example.invalid/v1"
    code, _, err = horay("chat", "hi", "--base-url", url, env={"HORAY_API_KEY": "k"})
    assert code == 2
    assert err == (
        "horay: HORAY_API_KEY is sent to Horay's own hosts only: to send it to "
        f"{url}, set HORAY_BASE_URL to that address in place of --base-url\n"
    )
    code, _, err = horay("chat", "hi", "--base-url", url, env={})
    assert code == 2
    assert err == (
        f"horay: no key for {url}: set HORAY_API_KEY, and HORAY_BASE_URL to that "
        "address in place of --base-url\n"
    )


def test_no_default_model():
    """
    What some other server has for a model, it can be asked.
    """
    url = "http://127.0.0.1:1/v1"
    code, _, err = horay("chat", "hi", "--base-url", url)
    assert code == 2
    assert err == (
        "horay: OpenAI-compatible server has no default model: name one with --model; "
        f"nothing was sent (horay models --base-url {url} lists them)\n"
    )


def test_no_encryption(monkeypatch, capsys):
    """
    The way out of a refusal is one that the command line has.
    """
    monkeypatch.setenv("HORAY_BASE_URL", "http://example.invalid/v1")
    monkeypatch.setenv("HORAY_API_KEY", "k")
    assert main(["chat", "hi"]) == 2
    err = capsys.readouterr().err
    assert "use https, or set HORAY_ALLOW_INSECURE=1" in err
    assert "True" not in err


def test_emulator_says_so():
    """
    The emulator answers on stdout, and stderr says that it was no real model.
    """
    code, out, err = horay("chat", "The sea", "--emulator", "--max-tokens", 8)
    assert code == 0
    assert out.strip()
    assert "emulator" in err
    assert "no real model" in err


def test_emulated_empower():
    """
    `--service` chooses which of the two the emulator plays; this one has no default model.
    """
    words = "chat", "hi", "--emulator", "--service", "empower"
    code, _, err = horay(*words)
    assert code == 2
    assert "model" in err
    assert err.count("\n") == 1  # nobody answered: nothing is said of who did
    assert horay(*words, "--model", "my-lora", "--max-tokens", 4)[0] == 0


def test_emulator_or_url():
    """
    Two answerers at once are a mistake.
    """
    code, _, err = horay("chat", "hi", "--emulator", "--base-url", "http://127.0.0.1:1")
    assert code == 2
    assert "--base-url" in err


def test_wrong_key(echo):
    """
    The server's refusal is one sentence, and a failure.
    """
    code, out, err = horay("chat", "hi", *echo, env={"HORAY_API_KEY": "bad-key"})
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


def test_nobody_there():
    """
    A URL where nobody listens is one sentence, and a failure.
    """
    url = "http://127.0.0.1:9/v1"
    code, out, err = horay("chat", "hi", "--base-url", url, "--model", "m")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


# Chat ------------------------------------------------------------------------------


def test_chat(echo):
    """
    The answer goes to stdout, ended by one line feed.
    """
    code, out, err = horay("chat", "Grüße, 世界 🌊", *echo)
    assert (code, out, err) == (0, "Grüße, 世界 🌊\n", "")


def test_chat_options(echo):
    """
    Options reach the server; those out of range are refused before.
    """
    words = "chat", "one two three four", *echo
    assert horay(*words, "--max-tokens", 2)[1] == "one two\n"
    code, _, err = horay(*words, "--temperature", "-1")
    assert code == 2
    assert "temperature" in err


def test_chat_streams_and_stops():
    """
    Words are there as soon as they come; Ctrl-C ends the answer and its line.
    """
    with serving("--mode", "echo", "--tokens-per-second", 2) as url:
        words = "chat", "and " * 100, "--service", "horay", "--base-url", url
        with start(*words) as process:
            assert process.stdout.read(3) == "and"
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT) == 130
            assert process.stdout.read().endswith("\n")
            assert not process.stderr.read()


def test_our_own_mistake(capsys, monkeypatch):
    """
    Even a bug is a sentence, and `HORAY_LOG=debug` shows where it is.
    """
    monkeypatch.setattr("horay_async.cli._serve._serve", None)
    assert main(["serve"]) == 1
    assert "a mistake in horay itself, TypeError" in capsys.readouterr().err
    monkeypatch.setenv("HORAY_LOG", "debug")
    assert main(["serve"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_chat_into_closed_pipe(echo):
    """
    A reader that leaves is no traceback.
    """
    with start("chat", "hi", *echo) as process:
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(WAIT) == 141
    assert not err


@pytest.mark.parametrize("words", [["--help"], ["chat", "--help"], ["version"]])
def test_help_into_closed_pipe(words):
    """
    The same goes for help, which others write.
    """
    with start(*words) as process:
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(WAIT) == 141
    assert not err


# Serve -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve(number):
    """
    `serve` says where it is, and ends cleanly when it is told to.
    """
    with start("serve", "--port", 0) as process:
        horay_line, empower_line = process.stdout.readline(), process.stdout.readline()
        process.send_signal(number)
        assert process.wait(WAIT) == 0
        err = process.stderr.read()
    assert horay_line.startswith("Horay    http://127.0.0.1:")
    assert empower_line.startswith("Empower  http://127.0.0.1:")
    assert "Traceback" not in err


def test_serve_for_days(monkeypatch):
    """
    A server for people does not keep every request it has ever seen.
    """
    started = []

    class Never:
        def __init__(self, **options):
            started.append(options)

        async def start(self):
            raise OSError("not here")

    monkeypatch.setattr("horay_async.cli._serve.emulator_class", lambda: Never)
    assert main(["serve"]) == 2
    assert started[0]["keep_requests"] == 1000


def test_serve_taken_port(echo):
    """
    A port that is taken is one sentence.
    """
    port = echo[-1].split(":")[2].split("/")[0]
    code, out, err = horay("serve", "--port", port)
    assert (code, out) == (2, "")
    assert f"127.0.0.1:{port}" in err
