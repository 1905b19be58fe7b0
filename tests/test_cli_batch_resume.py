"""
`horay batch` once more: what is answered is not asked again.
"""

import json
import signal

import pytest

from batching import command, emulating, results, text_of, write_lines
from horay_async.emulator import Answer
from shell import WAIT, start


__all__ = ["command"]

HANG = Answer(end="hang")


def refusal(status, **error):
    return Answer.json({"error": {"message": "no", **error}}, status)


def said(request):
    return request.json["messages"][-1]["content"]


@pytest.fixture
def server():
    with emulating() as server:
        yield server


@pytest.fixture
def four(tmp_path):
    """
    Four prompts.
    """
    words = "one", "two", "three", "four"
    return write_lines(tmp_path / "in.jsonl", *({"prompt": word} for word in words))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture
def batch(server, four, out, command):
    """
    Answers the four prompts into a file: exit code, stderr, and what was asked.
    """

    def run(*words, source=four):
        before = len(server.requests)
        code, printed, err = command("batch", source, "-o", out, *server.words, *words)
        assert not printed
        return code, err, sorted(map(said, server.requests[before:]))

    return run


ALL = ["four", "one", "three", "two"]


def texts(path):
    """
    What was answered, by its line.
    """
    lines = results(path.read_text()).items()
    return {name: text_of(line) for name, line in lines if line["error"] is None}


WHOLE = {"line-1": "one", "line-2": "two", "line-3": "three", "line-4": "four"}


# Going on --------------------------------------------------------------------------


def test_finished(batch, out):
    """
    What is finished is not asked again, and is no failure.
    """
    code, _, asked = batch()
    assert (code, asked) == (0, ALL)
    before = out.read_bytes()
    code, err, asked = batch()
    assert (code, asked) == (0, [])
    assert err.splitlines() == [
        f"horay: {out}: 4 lines answered already",
        f"horay: 4 lines: 0 answered, 0 failed, 4 answered before; results in {out}",
    ]
    assert out.read_bytes() == before
    assert texts(out) == WHOLE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(server, four, out, batch, number):
    """
    A batch that was told to stop says how to go on, and does.
    """

    def choose(request):
        return None if said(request) in ("one", "two") else HANG

    server.script(*[choose] * 4)
    words = "batch", four, "-o", out, *server.words, "--concurrency", 2
    with start(*words) as process:
        server.call(server.wait_for_request(4, timeout=WAIT))
        process.send_signal(number)
        err = process.stderr.read()
        assert process.wait(WAIT) == 128 + number
    assert err.splitlines()[-1] == "horay: the same command goes on from there"
    assert sorted(texts(out)) == ["line-1", "line-2"]
    code, err, asked = batch()
    assert (code, asked) == (0, ["four", "three"])
    greeting, lines, *_ = err.splitlines()
    assert greeting == f"horay: {out}: 2 lines answered already"
    assert "4 lines: 2 answered, 0 failed, 2 answered before; " in lines
    assert texts(out) == WHOLE


def test_killed(server, four, out, batch):
    """
    Nor does it need to be told.
    """
    server.script(None, None, None, HANG)
    words = "batch", four, "-o", out, *server.words, "--concurrency", 1
    with start(*words) as process:
        server.call(server.wait_for_request(4, timeout=WAIT))
        process.kill()
    code, _, asked = batch()
    assert (code, asked) == (0, ["four"])
    assert texts(out) == WHOLE


def test_half_a_conversation(server, out, batch, tmp_path):
    """
    A conversation that was cut off keeps its answers until it is asked again, whole.
    """
    source = write_lines(tmp_path / "talk", {"turns": ["one", "two"]})
    server.script(None, HANG)
    with start("batch", source, "-o", out, *server.words) as process:
        server.call(server.wait_for_request(2, timeout=WAIT))
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130
    [line] = results(out.read_text()).values()
    assert len(line["turns"]) == 1
    code, err, asked = batch(source=source)
    assert (code, asked) == (0, ["one", "two"])
    assert f"horay: {out}: 1 cut off (asked again)\n" in err
    [line] = results(out.read_text()).values()
    assert len(line["turns"]) == 2


def test_order(batch, out, server):
    """
    With `--order input` the file has the order of the lines in the end, over all runs.
    """
    server.script(refusal(400), refusal(400))
    assert batch("--concurrency", 1, "--order", "input")[0] == 1
    assert batch("--retry-failed", "--order", "input")[0] == 0
    assert list(results(out.read_text())) == list(WHOLE)


# Failed lines ----------------------------------------------------------------------


def test_retry_failed(server, out, batch):
    """
    A line that failed is asked again when the user says so; until then the code tells.
    """

    def choose(request):
        return refusal(400) if said(request) == "two" else None

    server.script(*[choose] * 4)
    code, err, asked = batch()
    assert (code, asked) == (1, ALL)
    advice = "horay: with --retry-failed the same command asks again what failed"
    assert err.splitlines()[-1] == advice
    code, err, asked = batch()
    assert (code, asked) == (1, [])
    greeting, lines, last = err.splitlines()
    there = "3 lines answered already, 1 failed (--retry-failed asks again)"
    assert greeting == f"horay: {out}: {there}"
    there = "4 lines: 0 answered, 0 failed, 3 answered before, 1 failed before"
    assert lines == f"horay: {there}; results in {out}"
    assert last == advice
    code, err, asked = batch("--retry-failed")
    assert (code, asked) == (0, ["two"])
    assert "3 lines answered already, 1 failed (asked again)\n" in err
    assert texts(out) == WHOLE
    assert len(out.read_text().splitlines()) == 4


def test_mended_line(batch, out, tmp_path):
    """
    A bad line that was mended is one that has changed.
    """
    source = write_lines(tmp_path / "bad", {"prompt": "one"}, "{oops")
    assert batch(source=source)[0] == 1
    write_lines(source, {"prompt": "one"}, {"prompt": "two"})
    code, _, asked = batch(source=source)
    assert (code, asked) == (0, ["two"])
    assert texts(out) == {"line-1": "one", "line-2": "two"}


@pytest.mark.parametrize(
    "answer", [refusal(401), refusal(402), refusal(429, code="insufficient_quota")]
)
def test_mended_account(server, batch, out, answer):
    """
    A key or an account that is no good is not the lines' fault: the next run asks them.
    """
    server.script(None, *[answer] * 9)
    code, err, _ = batch("--concurrency", 1, "--max-retries", 0)
    assert code == 1
    assert err.splitlines()[-1] == "horay: the same command goes on from there"
    server._script.waiting.clear()
    code, _, asked = batch()
    assert (code, asked) == (0, ["four", "three", "two"])
    assert texts(out) == WHOLE


# Changed lines ---------------------------------------------------------------------


def test_changed(batch, four, out):
    """
    A line that asks for something else is asked again, and the newest answer is kept.
    """
    batch()
    write_lines(four, *({"prompt": word} for word in ("one", "2", "three", "4")))
    code, err, asked = batch("--concurrency", 1)
    assert (code, asked) == (0, ["2", "4"])
    assert "horay: line 2 asks for something else than when it was answered: " in err
    assert err.count("asks for something else") == 1
    *_, times, former = err.splitlines()
    assert times.endswith("; 2 lines had changed")
    assert former.startswith("horay: 2 earlier answers to lines that have changed: ")
    assert texts(out) == WHOLE | {"line-2": "2", "line-4": "4"}


def test_options_change_lines(batch):
    """
    Other options make other requests, where a line leaves them open.
    """
    batch()
    code, err, asked = batch("--max-tokens", 9, "--json", "--ask-changed")
    assert (code, asked) == (0, ALL)
    facts = json.loads(err)
    assert (facts["changed"], facts["answered"], facts["skipped"]) == (4, 4, 0)
    assert facts["former"] == 4


@pytest.mark.parametrize("count", [2, 4])
def test_nothing_is_as_it_was(batch, out, four, count):
    """
    Where all has changed it is taken for a mistake, and nothing is sent.
    """
    batch()
    before = out.read_bytes()
    write_lines(four, *({"prompt": f"new {n}"} for n in range(count)))
    code, err, asked = batch()
    assert (code, asked) == (2, [])
    assert err.startswith(f"horay: {out} has answers to other prompts, or with other ")
    assert f"none of the first {count} lines that it knows is as it was; " in err
    assert err.count("\n") == 1
    assert out.read_bytes() == before
    code, err, asked = batch("--ask-changed")
    assert (code, len(asked)) == (0, count)
    former = out.with_name("out.former.jsonl")
    said = f"{count} earlier answers to lines that have changed: in {former}"
    assert err.splitlines()[-1] == f"horay: {said}"
    assert len(former.read_text().splitlines()) == count


def test_a_few_are_as_they_were(batch, tmp_path):
    """
    One line that is as it was will do, be it behind new ones and such as have changed.
    """
    lines = [{"prompt": f"{n}", "id": n} for n in range(30)]
    source = write_lines(tmp_path / "some", *lines)
    batch(source=source)
    changed = [{"prompt": f"new {n}", "id": n} for n in range(19)]
    new = [{"prompt": f"more {n}", "id": n} for n in range(100, 150)]
    turns = {"turns": ["a", "b"], "id": "talk"}
    write_lines(source, *new, *changed, "{oops", turns, *lines[19:])
    code, _, asked = batch(source=source)
    assert (code, len(asked)) == (1, 71)


def test_pipes_are_not_waited_for(server, out, batch):
    """
    What comes from a pipe may wait for its answers: only what is there is looked at.
    """
    batch()
    words = "batch", "-", "-o", out, *server.words
    with start(*words) as process:
        for line in '{"prompt": "1"}\n', '{"prompt": "2"}\n':
            before = len(server.requests)
            process.stdin.write(line)
            process.stdin.flush()
            server.call(server.wait_for_request(before + 1, timeout=WAIT))
        process.stdin.close()
        assert process.wait(WAIT) == 0


def test_same_id_twice(batch, tmp_path, out):
    """
    Lines with one id are told apart by their order, in each run.
    """
    lines = [{"prompt": word, "id": 7} for word in ("one", "two", "one")]
    source = write_lines(tmp_path / "twice", *lines)
    code, err, asked = batch("--concurrency", 1, source=source)
    assert (code, asked) == (0, ["one", "one", "two"])
    assert err.count("another line has the id '7' too") == 1
    assert "line 2: " in err
    assert batch(source=source)[2] == []
    assert len(out.read_text().splitlines()) == 3


# The file --------------------------------------------------------------------------


def test_overwrite(batch, out):
    """
    `--overwrite` begins anew, and only that does.
    """
    assert batch("--overwrite")[0] == 0
    first = out.read_text()
    code, err, asked = batch("--overwrite")
    assert (code, asked) == (0, ALL)
    assert "before" not in err
    assert len(out.read_text().splitlines()) == 4
    assert out.read_text() != first
    assert sorted(out.parent.glob("out*")) == [out]


def test_overwrite_that_fails(batch, server, out):
    """
    What was there before is kept until all has an answer, and never lost to another such
    attempt.
    """
    batch()
    first = out.read_bytes()
    server.script(*[refusal(401)] * 4)
    code, err, _ = batch("--overwrite", "--concurrency", 1)
    old = out.with_name("out.jsonl.old")
    assert code == 1
    assert old.read_bytes() == first
    *_, where, advice = err.splitlines()
    assert where == f"horay: the earlier answers are in {old}"
    again = "the same command without --overwrite goes on from there"
    assert advice == f"horay: {again}"
    second = out.read_bytes()
    server._script.waiting.clear()
    server.script(refusal(400))
    code, err, _ = batch("--overwrite", "--json")
    assert code == 1
    assert json.loads(err)["set_aside"] == [f"{old}-2"]
    assert old.read_bytes() == first
    assert out.with_name("out.jsonl.old-2").read_bytes() == second
    code, err, asked = batch("--retry-failed")
    assert (code, len(asked)) == (0, 1)
    assert texts(out) == WHOLE
    assert old.read_bytes() == first


def test_overwrite_all(batch, four, out):
    """
    Nor are answers found again that an earlier change has set aside.
    """
    batch()
    other = write_lines(four.with_name("other"), *({"prompt": n} for n in "abcd"))
    batch("--ask-changed", source=other)
    former = out.with_name("out.former.jsonl")
    assert former.exists()
    # To go back costs nothing.
    code, _, asked = batch()
    assert (code, asked) == (0, [])
    assert texts(out) == WHOLE
    code, _, asked = batch("--overwrite")
    assert (code, asked) == (0, ALL)
    assert sorted(out.parent.glob("out*")) == [out]


def test_two_at_a_time(server, four, out, command):
    """
    A second batch on the same file is refused, the first one goes on.
    """
    server.script(HANG)
    words = "batch", four, "-o", out, *server.words, "--concurrency", 1
    with start(*words) as process:
        server.call(server.wait_for_request(1, timeout=WAIT))
        for more in [], ["--overwrite"]:
            code, _, err = command(*words, *more)
            assert code == 2
            assert "is being written by another process" in err
            assert err.count("\n") == 1
        assert len(server.requests) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT) == 130


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_no_journal(batch, out, more):
    """
    A file that is something else is not touched.
    """
    out.write_text('{"prompt": "mine"}\n')
    code, err, asked = batch(*more)
    assert (code, asked) == (2, [])
    assert "is not a journal" in err
    assert err.count("\n") == 1
    assert out.read_text() == '{"prompt": "mine"}\n'


def test_other_tools_answers(batch, out):
    """
    The output of an OpenAI Batch is a journal, too.
    """
    line = {
        "id": "batch_req_1",
        "custom_id": "line-1",
        "response": {"status_code": 200, "request_id": "", "body": {}},
        "error": None,
    }
    write_lines(out, line)
    code, _, asked = batch()
    assert (code, asked) == (0, ["four", "three", "two"])


@pytest.mark.parametrize("option", ["--retry-failed", "--overwrite"])
def test_nothing_earlier(server, four, command, option):
    """
    Of results on stdout there is no earlier run.
    """
    code, out, err = command("batch", four, *server.words, option)
    assert (code, out) == (2, "")
    assert err == (
        f"horay: {option} is about the results of an earlier run: name them with -o\n"
    )
    assert not server.requests
