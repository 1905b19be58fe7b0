"""
Idempotency keys: one for each call, the same in all its attempts; where they are wanted.
"""

import uuid

import pytest

from horay_async import ConfigurationError, user
from horay_async.emulator import Answer
from loopback import soon


HELLO = [user("hello")]


def keys(emulator):
    """
    What came with each request; None where nothing did.
    """
    return [request.headers.get("idempotency-key") for request in emulator.requests]


def busy():
    """
    A refusal that is soon over.
    """
    return Answer.json({}, 503, headers=[("retry-after", "0.01")])


@pytest.fixture
def careful(client):
    """
    A client that sends them.
    """
    return client.with_options(idempotency_keys=True)


async def test_not_unless_asked(client, emulator):
    """
    Some servers refuse what they do not know.
    """
    await client.chat.completions.create(messages=HELLO)
    assert keys(emulator) == [None]


async def test_one_call(careful, emulator):
    """
    All attempts of a call have one key, and the next call another.
    """
    emulator.script(busy(), busy(), Answer.chat("a"), busy(), Answer.chat("b"))
    await careful.chat.completions.create(messages=HELLO)
    stream = careful.chat.completions.stream(messages=HELLO)
    await stream.get_final_completion()
    first, second, third, fourth, fifth = keys(emulator)
    assert first == second == third != fourth == fifth
    for key in (first, fourth):
        assert uuid.UUID(key).version == 4


async def test_nothing_is_made_twice_by_a_get(careful, emulator):
    """
    What only asks has none.
    """
    await careful.models.list()
    await careful.with_options(idempotency_keys=False).chat.completions.create(
        messages=HELLO
    )
    assert keys(emulator) == [None, None]


async def test_many(careful, emulator):
    """
    Rows and shares are calls of their own.
    """
    async with careful.map(["a", "b", "c"]) as job:
        assert [row.error async for row in job] == [None] * 3
    await careful.fan_out(prompt=["d", "e"], n=2)
    found = keys(emulator)
    assert len(found) > 4
    assert len(set(found)) == len(found)
    assert None not in found


@pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key"])
async def test_the_users_own(careful, emulator, name):
    """
    In whatever letters it is written, and wherever: the call's, then the client's.
    """
    emulator.script(busy(), Answer.chat("a"))
    await careful.chat.completions.create(messages=HELLO, extra_headers={name: "mine"})
    always = careful.with_options(default_headers={name: "ours"})
    await soon(always.chat.completions.create(messages=HELLO))
    assert keys(emulator) == ["mine", "mine", "ours"]


@pytest.mark.parametrize("wrong", [1, "yes", None])
def test_yes_or_no(wrong):
    """
    It is a flag; None in `with_options` changes nothing.
    """
    from horay_async import AsyncHoray

    if wrong is not None:
        with pytest.raises(
            ConfigurationError, match=r"idempotency_keys is .*True or F"
        ):
            AsyncHoray(api_key="key", idempotency_keys=wrong)
    client = AsyncHoray(api_key="key", idempotency_keys=True)
    if wrong is None:
        kept = client.with_options(idempotency_keys=None)
        assert kept._line.settings.idempotency_keys
    else:
        with pytest.raises(ConfigurationError, match="idempotency_keys"):
            client.with_options(idempotency_keys=wrong)
