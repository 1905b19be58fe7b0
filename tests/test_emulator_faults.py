"""
The fault lab: whoever asks for a fault gets it, in turn, by choice or by chance.
"""

import asyncio
import contextlib
import socket

from unittest import mock

import aiohttp
import pytest

from dialling import BOUND, CHAT, dial, request, url
from horay_async.emulator import FAULTS, Answer, Emulator, Fault, faults
from loopback import until


OK = b"HTTP/1.1 200 OK\r\n"

STRIKE = Fault(
    name="strike",
    group="tests",
    does="It answers 599.",
    right="Whatever.",
    answer=lambda request: Answer.json(request.path, 599),
)


async def ask(server, data=None):
    """
    What comes for one request on a connection of its own, or the error instead.
    """
    try:
        async with dial(server) as (reader, writer), asyncio.timeout(BOUND):
            writer.write(data or request(CHAT, connection="close"))
            return await reader.read()
    except OSError as error:
        return type(error)


def status(answer):
    return answer if isinstance(answer, type) else int(answer.split()[1])


@pytest.fixture
async def client(anyio_backend):
    headers = {"authorization": "Bearer key"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session


async def call(client, server, **headers):
    """
    The status of one call, on whichever connection the pool has.
    """
    async with client.post(url(server), json=CHAT, headers=headers) as response:
        await response.read()
        return response.status


async def noticed(client):
    """
    Wait until a client knows that its idle connection was closed.
    """
    async with asyncio.timeout(BOUND):
        while any(  # noqa: ASYNC110 -- nobody sets an event for it
            protocol.is_connected()
            for idle in client.connector._conns.values()
            for protocol, *_ in idle
        ):
            await asyncio.sleep(0)


# In turn.


async def test_names_in_a_script(emulator):
    emulator.script("no-content-204", None, STRIKE, lambda _: "redirect-303")
    answers = [status(await ask(emulator)) for _ in range(5)]
    assert answers == [204, 200, 599, 303, 200]
    names = ["no-content-204", "", "strike", "redirect-303", ""]
    assert [seen.fault for seen in emulator.requests] == names
    assert emulator.struck == {"no-content-204": 1, "strike": 1, "redirect-303": 1}


async def test_a_name_misspelt(emulator):
    with pytest.raises(ValueError, match='did you mean "reset-mid-chunk"') as caught:
        emulator.script(STRIKE, "reset-mid-chnk")
    assert '"reset-mid-chnk"' in str(caught.value)
    assert status(await ask(emulator)) == 200  # nothing was added
    with pytest.raises(ValueError, match="`horay faults` lists all"):
        emulator.script("kaputt")
    with pytest.raises(ValueError, match=r"to say a text: reply\("):
        emulator.script("The Black Sea.")
    with pytest.raises(ValueError, match=r"to refuse: refusal\(429\)"):
        emulator.script("429")


async def test_a_function_chooses_too_late(anyio_backend):
    server = Emulator(mode="echo")
    await server.start()
    server.script(lambda _: "refused", lambda _: Answer(at="accept"))
    assert b'the fault \\"refused\\" strikes at listen' in await ask(server)
    assert b"that answer strikes at accept" in await ask(server)
    with pytest.raises(ValueError, match="give it to script"):
        await server.__aexit__(None, None, None)


# By a request's choice.


async def test_a_request_chooses(client, emulator):
    emulator.script(STRIKE)
    chosen = {"x-emulator-fault": "no-content-204"}
    assert await call(client, emulator, **chosen) == 204
    assert await call(client, emulator) == 599  # the script has waited
    assert await call(client, emulator, **{"x-emulator-fault": "early-413"}) == 413
    assert emulator.requests[2].body == b""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("reset-mid-chnk", 'did you mean \\"reset-mid-chunk\\"'),
        ("refused", "strikes at listen, before there is a request"),
        ("refused", "give it to script() or `horay serve --fault`"),
        ("reset-at-accept", "strikes at accept, before there is a request"),
    ],
)
async def test_what_a_request_cannot_choose(client, emulator, name, said):
    headers = {"x-emulator-fault": name}
    async with client.post(url(emulator), json=CHAT, headers=headers) as response:
        assert response.status == 400
        assert said in await response.text()


# By chance.


async def chances(seed):
    shares = {"no-content-204": 0.3, "redirect-303": 0.3}
    async with Emulator(mode="echo", faults=shares, seed=seed) as server:
        return [status(await ask(server)) for _ in range(30)], server.struck


async def test_shares():
    answers, struck = await chances(1)
    assert set(answers) == {200, 204, 303}
    assert struck == {
        "no-content-204": answers.count(204),
        "redirect-303": answers.count(303),
    }
    assert (answers, struck) == await chances(1)
    assert answers != (await chances(2))[0]


async def test_all_of_them(client):
    async with Emulator(mode="echo", faults={"early-413": 1}) as server:
        server.script(None)  # what is written down comes first
        answers = [await call(client, server) for _ in range(3)]
        assert answers == [200, 413, 413]
        async with client.get(server.base_url + "/models") as response:
            assert response.status == 200


async def test_a_share_of_the_connections(client):
    async with Emulator(mode="echo", faults={"close-at-accept": 1}) as server:
        assert await ask(server) in {b"", ConnectionResetError}
        assert server.struck == {"close-at-accept": 1}
        assert not server.requests


async def test_refused_by_chance(anyio_backend):
    """
    Who has been accepted is served; who comes next is refused.
    """
    async with Emulator(mode="echo", faults={"refused": 1}) as server:
        assert status(await ask(server)) == 200
        assert await ask(server) is ConnectionRefusedError
        await server.wait_until(lambda: server.listening)
        assert status(await ask(server)) == 200


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"kaputt": 0.1}, 'no fault is called "kaputt"'),
        ({"kaputt": -1}, 'no fault is called "kaputt"'),
        ({"refused": -0.1}, 'share of "refused" must be 0 to 1, not -0.1'),
        ({"refused": float("nan")}, "must be 0 to 1, not nan"),
        ({"refused": 0.6, "cookie": 0.6}, "must be 1 at most, not 1.2"),
    ],
)
def test_shares_that_cannot_be(shares, said):
    with pytest.raises(ValueError, match=said):
        Emulator(faults=shares)


# Before a byte is read.


async def test_accepting(emulator):
    """
    The next connection gets the bytes and the end, whatever it sends.
    """
    note = []
    emulator.script(
        Answer(at="accept", before=[lambda: note.append(1)], body=[b"220 hi\r\n"]),
        "reset-at-accept",
    )
    async with dial(emulator) as (reader, _):
        assert await reader.read() == b"220 hi\r\n"
    assert note == [1]
    assert await ask(emulator) is ConnectionResetError
    assert status(await ask(emulator)) == 200
    assert emulator.struck == {"reset-at-accept": 1}


async def test_hanging_at_accept(emulator):
    """
    The hanging ends when the client leaves.
    """
    emulator.script("hang-at-accept")
    async with dial(emulator) as (_, writer):
        writer.write(request(CHAT))
        await emulator.wait_until(lambda: emulator.struck["hang-at-accept"] == 1)
    await emulator.wait_until(lambda: emulator.open_connections == 0)
    assert not emulator.requests


async def test_accepting_goes_wrong(anyio_backend):
    def fail():
        raise ZeroDivisionError

    server = Emulator(mode="echo")
    await server.start()
    server.script(Answer(at="accept", before=[fail]))
    assert await ask(server) in {b"", ConnectionResetError}
    with pytest.raises(ZeroDivisionError):
        await server.__aexit__(None, None, None)


async def test_successive_calls(client, emulator):
    """
    No connection is kept while the next in line wants a new one.
    """
    assert await call(client, emulator) == 200
    assert emulator.open_connections == 1
    emulator.script("reset-at-accept", None, "close-at-accept", STRIKE)
    await noticed(client)
    with pytest.raises(aiohttp.ClientConnectionError):
        await call(client, emulator)
    async with client.post(url(emulator), json=CHAT) as response:
        assert response.headers["connection"] == "close"
    with pytest.raises(aiohttp.ClientConnectionError):
        await call(client, emulator)
    assert await call(client, emulator) == 599
    assert await call(client, emulator) == 200
    assert emulator.open_connections == 1  # kept again
    assert emulator.connections == 5


async def test_a_connection_made_before(emulator):
    """
    A request on a connection that is there already is served, and the fault waits.
    """
    async with dial(emulator) as (reader, writer):
        await emulator.wait_until(lambda: emulator.open_connections == 1)
        emulator.script("reset-at-accept")
        writer.write(request(CHAT))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(OK)
        assert b"connection: close" in head
        assert await reader.read()
    assert await ask(emulator) is ConnectionResetError


async def test_written_down_while_a_call_is_answered(client, emulator):
    """
    A connection that was promised to be kept is closed nonetheless.
    """
    go = asyncio.Event()
    emulator.script(Answer(before=[go], body=[b"x"]))
    calling = asyncio.create_task(call(client, emulator))
    await emulator.wait_for_request()
    emulator.script("reset-at-accept")
    go.set()
    assert await calling == 200
    await noticed(client)
    with pytest.raises(aiohttp.ClientConnectionError):
        await call(client, emulator)


# Nobody listens.


async def test_refusing(client, emulator):
    """
    The port refuses until the steps are done, and cannot be taken by others meanwhile.
    """
    assert await call(client, emulator) == 200
    go = asyncio.Event()
    emulator.script(Answer(at="listen", before=[go]), None, "no-content-204")
    assert not emulator.listening
    await noticed(client)
    for _ in range(2):
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await call(client, emulator)
        assert isinstance(caught.value.os_error, ConnectionRefusedError)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", emulator.port))
    go.set()
    await emulator.wait_until(lambda: emulator.listening)
    assert [await call(client, emulator) for _ in range(3)] == [200, 204, 200]


async def test_refusing_waits_for_its_turn(client, emulator):
    """
    The port is shut when the call before it is over, not sooner.
    """
    go, open_again = asyncio.Event(), asyncio.Event()
    refusing = Answer(at="listen", before=[open_again])
    emulator.script(Answer(before=[go]), refusing, refusing, STRIKE)
    calling = asyncio.create_task(call(client, emulator))
    await emulator.wait_for_request()
    assert emulator.listening
    go.set()
    assert await calling == 200
    await emulator.wait_until(lambda: not emulator.listening)
    open_again.set()  # and so it is for the second, which follows at once
    await emulator.wait_until(lambda: emulator.listening)
    async with asyncio.timeout(BOUND):
        while await ask(emulator) is ConnectionRefusedError:
            pass
    assert [seen.status for seen in emulator.requests] == [200, 599]


@pytest.mark.parametrize("first", ["hang-at-accept", "hang-before-headers"])
async def test_refusing_when_the_client_has_left(emulator, first):
    """
    A call is over, too, when its client has left.
    """
    emulator.script(first)
    async with dial(emulator) as (_, writer):
        writer.write(request(CHAT))
        await emulator.wait_until(lambda: emulator.struck[first] == 1)
        emulator.script(Answer(at="listen", before=[asyncio.Event()]))
        assert emulator.listening
    await emulator.wait_until(lambda: not emulator.listening)


async def test_refusing_from_the_start(anyio_backend):
    server = Emulator(mode="echo")
    server.script(Answer(at="listen", before=[asyncio.Event()]))
    async with server:
        assert server.started
        assert not server.listening
        assert await ask(server) is ConnectionRefusedError


async def test_refusing_goes_wrong(anyio_backend):
    def fail():
        raise ZeroDivisionError

    server = Emulator(mode="echo")
    await server.start()
    server.script(Answer(at="listen", before=[fail]))
    await server.wait_until(lambda: server.listening and bool(server.errors))
    assert status(await ask(server)) == 200
    with pytest.raises(ZeroDivisionError):
        await server.__aexit__(None, None, None)


async def test_every_address_refuses(anyio_backend):
    """
    A host of several addresses, where the machine has them.
    """
    go = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with Emulator(mode="echo", host="", port=port) as server:
        server.script(Answer(at="listen", before=[go]))
        assert await ask(server) is ConnectionRefusedError
        go.set()
        await server.wait_until(lambda: server.listening)
        assert status(await ask(server)) == 200


# The head.


LARGE = {"model": "m", "messages": [{"role": "user", "content": "x" * 1_000_000}]}


async def test_before_the_body(emulator):
    """
    The answer comes without the body, and survives what is still sent of it.
    """
    emulator.script(Answer.json("no", 413, at="head"))
    data = request(LARGE)
    async with dial(emulator) as (reader, writer), asyncio.timeout(BOUND):
        writer.write(data[:1000])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        writer.write(data[1000:])
        await writer.drain()
        assert await reader.read() == b'"no"'
    await emulator.wait_until(lambda: emulator.open_connections == 0)
    seen = emulator.requests[0]
    assert (seen.body, seen.fate, seen.headers["host"]) == (b"", "finished", "x")


async def test_nobody_is_told_to_go_on(emulator):
    """
    Who asks whether to send the body is not told to.
    """
    emulator.script("early-413")
    data = request(LARGE, expect="100-continue").partition(b"\r\n\r\n")
    async with dial(emulator) as (reader, writer), asyncio.timeout(BOUND):
        writer.write(data[0] + data[1])
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")


async def test_waiting_for_nothing(emulator):
    """
    A client that leaves a hanging early answer is noticed, body or not.
    """
    emulator.script(Answer(at="head", before=[asyncio.Event()]))
    async with dial(emulator) as (_, writer):
        writer.write(request(LARGE)[:5000])
        await emulator.wait_for_request()
    await emulator.wait_for_disconnect()
    await emulator.wait_until(lambda: emulator.open_connections == 0)


async def test_a_turn_that_comes_late(emulator, monkeypatch):
    """
    A turn before the body that comes when the body is there is as good.
    """
    emulator.script(lambda _: None, "early-413")
    heads = mock.Mock(wraps=emulator._script.is_early)
    monkeypatch.setattr(emulator._script, "is_early", heads)
    data = request(CHAT, connection="close")
    async with (
        dial(emulator) as (one, first),
        dial(emulator) as (two, second),
        asyncio.timeout(BOUND),
    ):
        first.write(data[:-1])
        second.write(data[:-1])
        await until(lambda: heads.call_count == 2)
        first.write(data[-1:])
        assert status(await one.read()) == 200
        second.write(data[-1:])
        assert status(await two.read()) == 413


# The end.


@pytest.mark.parametrize("doing", ["hang-at-accept", "refused", "hang-mid-stream"])
async def test_closing_meanwhile(doing):
    """
    Nothing that is under way keeps the emulator from closing, or outlives it.
    """
    before = asyncio.all_tasks()
    async with Emulator(mode="echo") as server:
        server.script(doing)
        if doing == "refused":
            assert not server.listening
        else:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request(CHAT))
            await server.wait_until(lambda: server.struck[doing] == 1)
    if doing != "refused":
        writer.transport.abort()
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    with contextlib.closing(socket.create_server(("127.0.0.1", server.port))):
        pass


def test_what_there_is():
    """
    Every fault has its words, and a name that can be typed.
    """
    for name, fault in FAULTS.items():
        assert fault.name == name
        assert name.replace("-", "").replace(".", "").isalnum()
        assert name == name.lower()
        for sentence in fault.does, fault.right:
            assert sentence[0].isupper() or not sentence[0].isalpha()
            assert sentence.endswith(".")
            assert "\n" not in sentence
    assert sum(len(room.FAULTS) for room in faults._ROOMS) == len(FAULTS)  # no twins
    groups = [fault.group for fault in FAULTS.values()]
    blocks = [
        group for at, group in enumerate(groups) if not at or groups[at - 1] != group
    ]
    assert len(blocks) == len(set(blocks))  # a group is listed in one piece
