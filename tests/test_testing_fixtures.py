"""
The fixtures, in runs of pytest inside this one.
"""

import os

import pytest

from horay_async import _policy


pytest_plugins = ["pytester"]

VARIABLES = ["HORAY_BASE_URL", "HORAY_API_KEY", "EMPOWER_API_BASE", "EMPOWER_API_KEY"]

MINE = """
import os
import pytest
from horay_async import _policy
from horay_async.testing import LiveEmulator, refusal, reply
from live import asked
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """
    Run a file of tests, as a user's conftest.py says it.
    """
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def run(text, conftest='pytest_plugins = ["horay_async.testing"]', *words):
        # There pytest shortens nothing in its summary, and says things twice.
        monkeypatch.delenv("CI", raising=False)
        pytester.makeconftest(conftest)
        pytester.makepyfile(MINE + text)
        strict = "-W", "error", "--strict-markers"
        return pytester.runpytest_inprocess(*strict, *words)

    return run


def test_what_they_bring(run):
    """
    Each as it is documented, and nothing of it is left after the test.
    """
    result = run(f"""
VARIABLES = {VARIABLES}

def test_emulator(horay_emulator):
    assert type(horay_emulator) is LiveEmulator
    assert not set(VARIABLES) & set(os.environ)
    horay_emulator.script(reply("One."))
    assert asked(horay_emulator)[0] == 200
    assert horay_emulator.saw_request()

def test_env(horay_env, horay_emulator):
    assert horay_env is horay_emulator
    assert [os.environ[name] for name in VARIABLES] == [
        horay_emulator.base_url, "key-of-a-test",
        horay_emulator.empower_base_url, "key-of-a-test",
    ]
    assert horay_emulator.requests == []

def test_instant(instant_retries):
    assert _policy.INSTANT

def test_after_all():
    assert not _policy.INSTANT
    assert not set(VARIABLES) & set(os.environ)

@pytest.mark.horay_emulator(mode="ngram", api_keys=["other"])
def test_options(horay_emulator):
    assert asked(horay_emulator)[0] == 401
""")
    result.assert_outcomes(passed=5)
    assert not set(VARIABLES) & set(os.environ)
    assert not _policy.INSTANT


def test_what_fails_after_a_test(run):
    """
    A test that passed fails for what it did not see; one that failed says why once.
    """
    result = run("""
def test_unasked(horay_emulator):
    horay_emulator.script(refusal(429), None)
    asked(horay_emulator)

def test_unasked_on_purpose(horay_emulator):
    horay_emulator.script(None)
    horay_emulator.clear_script()

def test_failed(horay_emulator):
    horay_emulator.script(None)
    assert horay_emulator.saw_disconnect(within=0)

def test_skipped(horay_emulator):
    horay_emulator.script(None)
    pytest.skip()

def test_emulator_failed(horay_emulator):
    horay_emulator.script(lambda request: {}["missing"])
    asked(horay_emulator)

def test_both(horay_emulator):
    horay_emulator.script(lambda request: {}["missing"])
    assert asked(horay_emulator)[0] == 200
""")
    result.assert_outcomes(passed=3, failed=2, skipped=1, errors=3)
    said = result.stdout.str()
    assert said.count("nobody asked for what the script still has") == 1
    assert "During handling" not in said
    assert "(POST: the normal answer); where that is meant, call clear_script()" in said
    # What was asserted speaks for itself.
    assert "assert <no disconnect within 0 s; seen: 0 requests" in said
    assert "a function of the script, failed: KeyError('missing')" in said
    result.stdout.fnmatch_lines(["ERROR *::test_both - *"])


def test_options_without_a_name(run):
    """
    Nobody would know what became of them.
    """
    result = run("""
@pytest.mark.horay_emulator("echo")
def test_it(horay_emulator):
    pass
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*takes options by name, such as mode=\"ngram\", not 'echo'*"]
    )


def test_imported_before(run):
    """
    A conftest.py may use it before it says that it is a plugin.
    """
    result = run(
        "def test_it(mine): assert asked(mine)[0] == 200",
        """
import pytest
from horay_async.testing import LiveEmulator

pytest_plugins = ["horay_async.testing"]

@pytest.fixture
def mine():
    with LiveEmulator() as server:
        yield server
""",
    )
    result.assert_outcomes(passed=1)


def test_by_option(run):
    """
    Where the topmost conftest.py is not at hand.
    """
    result = run(
        "def test_it(horay_env): assert asked(horay_env)[0] == 200",
        "",
        "-p",
        "horay_async.testing",
    )
    result.assert_outcomes(passed=1)
