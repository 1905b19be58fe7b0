"""
The fixtures.
"""

from collections.abc import Generator, Iterator

import pytest

from ._live import LiveEmulator
from ._waits import instant_retries


_PASSED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "horay_emulator(**options): what the fixture horay_emulator gives to Emulator",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.fixture
def horay_emulator(request: pytest.FixtureRequest) -> Iterator[LiveEmulator]:
    """
    A local Horay and Empower of this test's own, as a started `LiveEmulator`.

    `@pytest.mark.horay_emulator(mode="ngram")` gives it options. Whatever is open when
    the test ends is dropped. A test that has passed fails after all if something went
    wrong in the emulator, or scripted answers were never asked for.
    """
    marker = request.node.get_closest_marker("horay_emulator")
    if marker is not None and marker.args:
        raise pytest.UsageError(
            'the marker horay_emulator takes options by name, such as mode="ngram",'
            f" not {marker.args[0]!r}"
        )
    server = LiveEmulator(**marker.kwargs if marker else {})
    server.start()
    yield server
    if not request.node.stash.get(_PASSED, False):
        # It had no chance to ask for everything, and says itself what is wrong.
        server.clear_script()
    try:
        server.close()
    except AssertionError as error:
        unasked = str(error)
    else:
        return
    pytest.fail(unasked, pytrace=False)


@pytest.fixture
def horay_env(
    horay_emulator: LiveEmulator, monkeypatch: pytest.MonkeyPatch
) -> LiveEmulator:
    """
    `horay_emulator`, with the environment variables that lead clients to it.

    It sets HORAY_BASE_URL, HORAY_API_KEY, EMPOWER_API_BASE and EMPOWER_API_KEY. A client
    reads them when it is made.
    """
    monkeypatch.setenv("HORAY_BASE_URL", horay_emulator.base_url)
    monkeypatch.setenv("HORAY_API_KEY", "key-of-a-test")
    monkeypatch.setenv("EMPOWER_API_BASE", horay_emulator.empower_base_url)
    monkeypatch.setenv("EMPOWER_API_KEY", "key-of-a-test")
    return horay_emulator


@pytest.fixture(name="instant_retries")
def _instant_retries() -> Iterator[None]:
    """
    Waits between the attempts of a call take no time.
    """
    with instant_retries():
        yield
