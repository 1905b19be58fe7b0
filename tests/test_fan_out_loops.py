"""
A loop over a fan-out: each choice as it finishes, its tokens before it, and leaving it.
"""

import asyncio
import gc
import weakref

import pytest

from fanning import (
    CHAT,
    HANG,
    PATIENCE,
    asked,
    assert_over,
    connect,
    said,
    sparing_stream,
    streamed,
    whole,
)
from horay_async import (
    BadRequestError,
    ChatChoice,
    ClientClosedError,
    CompletionChoice,
    FanOut,
    IncompleteStreamError,
    StreamAbortedError,
    StreamConsumedError,
    Token,
    TokenFanOut,
    WrongLoopError,
)
from horay_async.emulator import Answer
from horay_async.many._fan_out import UNREAD


NO = {"error": {"message": "no more"}}


@pytest.fixture
async def two(emulator):
    """
    A client of a server that gives at most two choices a call.
    """
    async with connect(emulator, 2) as client:
        yield client


async def soon(condition):
    """
    Wait until something is so that no event tells of.
    """
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(0)


# Choices -----------------------------------------------------------------------------


async def test_each_as_it_finishes(two, emulator):
    """
    Not with its call, nor in the order of their numbers.
    """
    go = asyncio.Event()
    slow = Answer.sse(said(0, "a", None), said(1, "b"), go, said(0, "!"))
    emulator.script(slow)
    texts = []
    async with two.fan_out(CHAT, n=2) as choices:
        assert isinstance(choices, FanOut)
        assert emulator.requests == []
        async for choice in choices:
            assert isinstance(choice, ChatChoice)
            texts.append((choice.index, choice.text))
            go.set()
    assert texts == [(1, "b"), (0, "a!")]
    assert [choice.text for choice in choices.choices] == ["a!", "b"]
    assert_over(two)


async def test_all_of_them(two, emulator):
    emulator.script(*[sparing_stream(2)] * 4)
    async with two.fan_out(CHAT, n=7, seed=10) as choices:
        found = [choice async for choice in choices]
        assert [choice async for choice in choices] == []
    assert sorted(choice.index for choice in found) == list(range(7))
    assert {choice.index: choice.text for choice in found} == {
        at: str(10 + at) for at in range(7)
    }
    assert asked(emulator, "n", "stream")[-1] == (2, True)


async def test_a_text(two, emulator):
    async with two.fan_out(prompt=["a", "b"], n=2) as choices:
        found = [choice async for choice in choices]
    assert all(isinstance(choice, CompletionChoice) for choice in found)
    found.sort(key=lambda choice: choice.index)
    assert [(one.index, one.text) for one in found] == list(enumerate("aabb"))


async def test_leaving_cancels_the_rest(two, emulator):
    """
    When the block is left it is over: connections are closed, and what came is there.
    """
    emulator.script(streamed("a", "b"), Answer.sse(said(0, "c", None), **HANG))
    emulator.script(Answer(before=[asyncio.Event()]))
    async with two.fan_out(CHAT, n=6) as choices:
        async for choice in choices:
            assert choice.text in "ab"
            break
        await emulator.wait_for_request(3)
    assert_over(two)
    await emulator.wait_for_disconnect(2)
    assert [choice.text for choice in choices.choices] == ["a", "b"]
    assert choices.usage.source == "estimated"
    with pytest.raises(StreamAbortedError, match="closed before its end"):
        await anext(aiter(choices))


async def test_a_block_has_several_loops(two, emulator):
    """
    A second one goes on where the first was left, and nothing was closed between them.
    """
    emulator.script(streamed("a", "b"))
    async with two.fan_out(CHAT, n=2) as choices:
        texts = []
        async for choice in choices:
            texts.append(choice.text)
            break
        gc.collect()
        await asyncio.sleep(0)
        texts += [choice.text async for choice in choices]
    assert sorted(texts) == ["a", "b"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_bare_loop(two, emulator, stream):
    """
    Leaving it closes soon after, though the fan-out is still referred to.
    """
    emulator.script(Answer.sse(said(0, "a"), said(1, "b", None), **HANG))
    fan = two.fan_out(CHAT, n=2, stream=stream)
    async for _ in fan:
        break
    await emulator.wait_for_disconnect()
    await soon(lambda: not fan._calls.tasks)
    assert_over(two)
    with pytest.raises(StreamConsumedError, match="has been used"):
        aiter(fan)


async def test_a_bare_loop_cancelled(two, emulator):
    """
    Also where somebody keeps the cancellation.
    """
    emulator.script(Answer.sse(said(0, "a"), said(1, "b", None), **HANG))
    fan, begun = two.fan_out(CHAT, n=2), asyncio.Event()

    async def read():
        async for _ in fan:
            begun.set()

    task = asyncio.ensure_future(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    await emulator.wait_for_disconnect()
    await soon(lambda: not fan._calls.tasks)
    assert caught.value is not None


async def test_a_cancelled_wait_loses_nothing(two, emulator):
    go = asyncio.Event()
    emulator.script(Answer.sse(go, said(0, "a"), said(1, "b")))
    async with two.fan_out(CHAT, n=2) as choices:
        reader = aiter(choices)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(reader)
        go.set()
        assert {(await anext(reader)).text, (await anext(reader)).text} == {"a", "b"}


@pytest.mark.parametrize("way", ["await", "first", "loop"])
async def test_in_a_block_it_is_used_once(two, emulator, way):
    """
    Awaited, or asked for the first, as without the block.
    """
    async with two.fan_out(CHAT, n=3) as choices:
        if way == "await":
            assert len((await choices).choices) == 3
        elif way == "first":
            assert (await choices.first(lambda one: one.index == 2)).index == 2
        else:
            assert len([one async for one in choices]) == 3
        with pytest.raises(StreamConsumedError):
            await choices
        with pytest.raises(StreamConsumedError):
            await choices.first(bool)
    assert len(emulator.requests) == 2


async def test_closed_before_it_was_begun(two, emulator):
    fan = two.fan_out(CHAT, n=2)
    async with fan:
        reader = aiter(fan)
    await fan.aclose()
    with pytest.raises(StreamAbortedError, match="closed before its end"):
        await anext(reader)
    never = two.fan_out(CHAT, n=2)
    await never.aclose()
    with pytest.raises(StreamAbortedError, match="closed before its end"):
        await never
    assert emulator.requests == []


async def test_closed_while_it_is_awaited(two, emulator):
    emulator.script(Answer(before=[asyncio.Event()]))
    fan = two.fan_out(CHAT, n=2)
    reading = asyncio.ensure_future(fan)
    await emulator.wait_for_request()
    await fan.aclose()
    with pytest.raises(StreamAbortedError, match="closed before its end"):
        await reading
    await emulator.wait_for_disconnect()


async def test_another_loop(two):
    async with two.fan_out(CHAT, n=2) as choices:
        await anext(aiter(choices))

        async def elsewhere():
            for use in (lambda: anext(aiter(choices)), choices.aclose):
                with pytest.raises(WrongLoopError, match="another event loop"):
                    await use()

        await asyncio.to_thread(asyncio.run, elsewhere())


async def test_freed_when_it_is_left(two, emulator):
    """
    After an error, too: what it holds does not wait for the garbage collector.
    """
    gc.collect()
    gc.disable()
    try:
        for answer in (streamed("a", "b"), Answer.json(NO, 400)):
            emulator.script(answer)
            fan = two.fan_out(CHAT, n=2)
            async with fan:
                try:
                    async for _ in fan:
                        pass
                except BadRequestError:
                    pass
            gone = weakref.ref(fan)
            del fan
            await soon(lambda gone=gone: gone() is None)
    finally:
        gc.enable()


# Tokens ------------------------------------------------------------------------------


async def test_tokens_and_choices(two, emulator):
    """
    Each token has the number of its choice, which comes after the last of them.
    """

    def answer(request):
        letters = {2: "ab", 1: "c"}[request.json["n"]]
        small = [said(at, text, None) for at, text in enumerate(letters)]
        large = [said(at, text.upper()) for at, text in enumerate(letters)]
        return Answer.sse(*reversed(small), *large)

    emulator.script(answer, answer)
    got = {0: [], 1: [], 2: []}
    async with two.fan_out(CHAT, n=3, stream=True) as choices:
        assert isinstance(choices, TokenFanOut)
        async for item in choices:
            got[item.index].append((type(item), item.text))
    for index, text in enumerate("abc"):
        assert got[index] == [
            (Token, text),
            (Token, text.upper()),
            (ChatChoice, text + text.upper()),
        ]


async def test_thinking(two, emulator):
    delta = {"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}
    emulator.script(Answer.sse({"choices": [delta]}, said(0, "a")))
    async with two.fan_out(CHAT, n=1, stream=True) as choices:
        items = [item async for item in choices]
    assert [(one.text, one.reasoning) for one in items[:2]] == [("", "hm"), ("a", "")]
    assert items[2].message.reasoning == "hm"


async def test_several_prompts(two, emulator):
    """
    No prompt's tokens are another's.
    """
    emulator.script(*[sparing_stream(2)] * 4)
    async with two.fan_out(prompt=["a", "b"], n=3, seed=0, stream=True) as choices:
        items = [item async for item in choices]
    expected = [f"{prompt}{at}" for prompt in "ab" for at in range(3)]
    assert len(items) == 12
    assert all(item.text == expected[item.index] for item in items)


async def test_numbers_that_nobody_asked_for(two, emulator):
    """
    Their tokens are nobody's, and no IndexError comes of them.
    """
    emulator.script(Answer.sse(said(0, "a"), said(7, "?"), said(1, "b")))
    async with two.fan_out(CHAT, n=2, stream=True) as choices:
        items = [item async for item in choices]
    assert {item.index for item in items} == {0, 1}


async def test_one_reply_of_streams(two, emulator):
    """
    Awaited, the answers are streamed as well: what comes of it is the same.
    """
    emulator.script(*[sparing_stream(2)] * 2)
    reply = await two.fan_out(CHAT, n=4, seed=0, stream=True)
    assert [choice.text for choice in reply.choices] == ["0", "1", "2", "3"]
    assert asked(emulator, "n", "stream") == [(2, True)] * 2


async def test_a_slow_reader_holds_the_server_up(two, emulator):
    """
    Tokens do not pile up here, nor do they get lost.
    """
    many = 6 * UNREAD
    events = (said(0, str(at), None) for at in range(many))
    emulator.script(Answer.sse(*events, said(0, "end")))
    async with two.fan_out(CHAT, n=1, stream=True) as choices:
        reader = aiter(choices)
        texts = [(await anext(reader)).text]
        await soon(lambda: len(choices._items) >= UNREAD)
        for _ in range(50):
            await asyncio.sleep(0)
            assert len(choices._items) <= UNREAD
        async for item in reader:
            assert len(choices._items) <= UNREAD + 1
            texts.append(item.text)
    assert texts[:-1] == [*map(str, range(many)), "end"]


async def test_left_with_tokens_unread(two, emulator):
    events = (said(0, str(at), None) for at in range(4 * UNREAD))
    emulator.script(Answer.sse(*events, **HANG))
    async with two.fan_out(CHAT, n=1, stream=True) as choices:
        await anext(aiter(choices))
        await soon(lambda: len(choices._items) >= UNREAD)
    await emulator.wait_for_disconnect()
    assert_over(two)
    assert choices.choices == ()


# Errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_ends_it_and_carries_what_came(two, emulator, stream):
    """
    What was finished comes first; of what was not the error has the beginning.
    """
    go = asyncio.Event()

    async def refuse(request):
        await go.wait()
        return Answer.json(NO, 400)

    begun = Answer.sse(said(0, "a"), said(1, "b", None), **HANG)
    emulator.script(begun, refuse)
    fan = two.fan_out(CHAT, n=4, stream=stream)
    texts = []
    async with fan:
        with pytest.raises(BadRequestError, match="no more") as caught:
            async for item in fan:
                texts.append(item.text)
                if isinstance(item, ChatChoice):
                    await soon(fan._calls._begun)
                    go.set()
        await emulator.wait_for_disconnect()
        with pytest.raises(StreamAbortedError, match="ended, with BadRequestError"):
            await anext(aiter(fan))
    assert "a" in texts
    (finished,) = fan.choices
    choices = caught.value.partial.choices
    assert sorted((one.text, one.finish_reason) for one in choices) == [
        ("a", "stop"),
        ("b", None),
    ]
    assert len({one.index for one in choices}) == 2
    assert finished.index in {one.index for one in choices}
    assert caught.value.usage.source == "estimated"
    assert caught.value.usage.completion_tokens == 2
    assert_over(two)


async def test_a_stream_that_breaks_off(two, emulator):
    """
    The tokens that came before come before the error.
    """
    broken = Answer.sse(said(0, "a", None), said(1, "b"), done=False, end="close")
    emulator.script(broken)
    reader = aiter(two.fan_out(CHAT, n=2, stream=True))
    items = [await anext(reader) for _ in range(3)]
    assert [(one.index, one.text) for one in items] == [(0, "a"), (1, "b"), (1, "b")]
    with pytest.raises(IncompleteStreamError) as caught:
        await anext(reader)
    assert [one.text for one in caught.value.partial.choices] == ["a", "b"]


async def test_an_error_in_a_bare_loop(two, emulator):
    """
    When it is told, all that was under way has ended.
    """
    emulator.script(Answer.sse(said(0, "a", None), **HANG), Answer.json(NO, 400))
    fan = two.fan_out(CHAT, n=4)
    reader = aiter(fan)
    with pytest.raises(BadRequestError):
        await anext(reader)
    assert fan._calls.tasks == set()
    await emulator.wait_for_disconnect()


async def test_the_client_is_closed(two, emulator):
    emulator.script(Answer.sse(said(0, "a"), said(1, "b", None), **HANG))
    with pytest.raises(ClientClosedError):
        async for _ in two.fan_out(CHAT, n=2):
            await two.close()


# What it costs -----------------------------------------------------------------------


async def test_usage_so_far(two, emulator):
    """
    Nothing before, an estimate while calls are under way, the server's word in the end.
    """
    go, counted = asyncio.Event(), {"prompt_tokens": 3, "completion_tokens": 5}
    total = {"choices": [], "usage": counted}
    emulator.script(Answer.sse(said(0, "a"), go, said(1, "b"), total))
    async with two.fan_out(CHAT, n=2) as choices:
        assert (choices.usage.source, choices.usage.total_tokens) == ("none", 0)
        async for _ in choices:
            if not go.is_set():
                assert choices.usage.source == "estimated"
                assert choices.usage.completion_tokens == 1
                assert choices.usage.prompt_tokens > 0
            go.set()
    assert choices.usage.source == "server"
    assert choices.usage.completion_tokens == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_sent_is_counted(two, emulator, stream):
    """
    A call that was cancelled before its answer had its prompt read; one that never left
    the queue, or was refused, has cost nothing.
    """
    emulator.script(*[Answer(before=[asyncio.Event()])] * 64)
    fan = two.fan_out(CHAT, n=150, stream=stream)
    reading = asyncio.ensure_future(fan)
    await emulator.wait_for_request(64, PATIENCE)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    usage = fan.usage
    assert usage.source == "estimated"
    # "Hello, you." is 11 bytes.
    assert (usage.prompt_tokens, usage.completion_tokens) == (64 * 3, 0)
    await emulator.wait_for_disconnect(64)

    emulator.script(Answer.json(NO, 400))
    refused = two.fan_out(CHAT, n=2, stream=stream)
    with pytest.raises(BadRequestError) as caught:
        await refused
    assert refused.usage.source == caught.value.usage.source == "none"


async def test_some_counted_and_some_cancelled(two, emulator):
    emulator.script(Answer.json(whole("a", "b")))
    emulator.script(Answer(before=[asyncio.Event()]))
    fan = two.fan_out(CHAT, n=4)
    reading = asyncio.ensure_future(fan)
    await emulator.wait_for_request(2)
    await soon(lambda: fan.choices)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert fan.usage.source == "estimated"
    assert (fan.usage.prompt_tokens, fan.usage.completion_tokens) == (6, 2)


async def test_who_counts_is_not_in_the_way(two, emulator):
    """
    The client's own hook is told all the same, and its other options hold.
    """
    seen = []
    client = two.with_options(on_event=seen.append, default_headers={"x-team": "sea"})
    await client.fan_out(CHAT, n=2, timeout=PATIENCE)
    assert emulator.requests[0].headers["x-team"] == "sea"
    assert [type(event).__name__ for event in seen] == ["AttemptStarted", "CallEnded"]
