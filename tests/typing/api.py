"""
What users write, as type checkers see it: checked by mypy and pyright, never run.

A line marked `type: ignore` is a mistake that the checkers must find: both complain about a
mark that is not needed.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator
from typing import assert_type

from horay_async import (
    EMPOWER,
    AsyncHoray,
    Budget,
    ChatChoice,
    ChatChunk,
    ChatReply,
    ChatRequest,
    CompletionChoice,
    CompletionReply,
    CompletionRequest,
    Conversation,
    FanOut,
    Hedge,
    ImageReply,
    IncompleteStreamError,
    Job,
    Loser,
    Message,
    ModelList,
    Outcome,
    Price,
    Progress,
    Race,
    RateLimitError,
    Row,
    RowToken,
    Timeouts,
    Token,
    TokenFanOut,
    TokenJob,
    TokenStream,
    Usage,
    UserInfo,
    system,
    user,
)


async def plain(client: AsyncHoray) -> None:
    """
    A reply, its parts, and the way back in.
    """
    reply = await client.chat.completions.create(
        messages=[
            system("Be brief."),
            user("Hello?"),
            {"role": "user", "content": "!"},
        ],
        model="any string will do",
        max_tokens=64,
        temperature=0,
        stop="\n",
    )
    assert_type(reply, ChatReply)
    assert_type(reply.text, str)
    assert_type(reply.message, Message)
    assert_type(reply.usage, Usage)
    assert_type(reply.usage.total_tokens, int)
    assert_type(reply.meta.request_id, str | None)
    assert_type(reply.choices[0].finish_reason, str | None)
    await client.chat.completions.create(messages=[reply.message, user("And?")])


async def built(client: AsyncHoray) -> None:
    """
    A request object, alone and evolved by keywords.
    """
    request = ChatRequest(messages=[user("A title?")], temperature=0.9)
    assert_type(request.evolve(seed=7), ChatRequest)
    assert_type(await client.chat.completions.create(request), ChatReply)
    await client.chat.completions.create(request, seed=7, timeouts=Timeouts(connect=1))
    text = CompletionRequest(prompt="Once", max_tokens=5)
    assert_type(await client.completions.create(text), CompletionReply)


async def streamed(client: AsyncHoray) -> None:
    """
    The ways to read a stream.
    """
    chat = client.chat.completions
    async with chat.stream(messages=[user("Hello?")], n=2) as stream:
        async for token in stream:
            assert_type(token, Token)
            assert_type(token.text, str)
            assert_type(token.index, int)
    assert_type(stream.outcome, Outcome | None)
    assert_type(stream.reply, ChatReply)

    async with chat.stream(messages=[user("Hello?")]) as stream:
        async for text in stream.text_stream:
            assert_type(text, str)
    async with chat.stream(messages=[user("Hello?")]) as stream:
        async for chunk in stream.chunks():
            assert_type(chunk, ChatChunk)
    async with chat.stream(messages=[user("Hello?")], n=2) as stream:
        async for token in stream.choices[1]:
            assert_type(token, Token)
    stream.abort("enough")
    await stream.close()


async def ported(client: AsyncHoray) -> None:
    """
    Code that was written for openai.
    """
    stream = await client.chat.completions.create(
        messages=[{"role": "user", "content": "Hello?"}], stream=True
    )
    async for chunk in stream:
        assert_type(chunk, ChatChunk)
        assert_type(chunk.choices[0].finish_reason, str | None)
    raw = await client.chat.completions.with_raw_response.create(messages=[user("a")])
    assert_type(raw.status_code, int)
    assert_type(raw.parse(), ChatReply)
    patient = client.with_options(timeout=600, max_retries=0)
    assert_type(patient, AsyncHoray)


async def beside(client: AsyncHoray) -> None:
    """
    What Horay has beside chat and text.
    """
    assert_type(await client.models.list(), ModelList)
    assert_type(await client.user.info(), UserInfo)
    assert_type(await client.images.generate(prompt="a boat"), ImageReply)


async def failed(client: AsyncHoray) -> str | None:
    """
    Errors carry their facts.
    """
    try:
        await client.chat.completions.create(messages=[user("Hello?")])
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.status_code, int | None)
    except IncompleteStreamError as error:
        return error.partial.text
    return None


async def made() -> None:
    """
    Clients.
    """
    async with AsyncHoray(service=EMPOWER, api_key="…", max_retries=0) as client:
        assert_type(client, AsyncHoray)
    await AsyncHoray(base_url="http://localhost:8000/v1", timeout=3.5).close()


async def mapped(client: AsyncHoray, texts: AsyncIterator[str]) -> None:
    """
    Many prompts: the replies are of the requests' kind.
    """
    async with client.map(["one", "two"], concurrency=8, max_tokens=9) as job:
        assert_type(job, Job[ChatReply])
        async for row in job:
            assert_type(row, Row[ChatReply])
            assert_type(row.reply, ChatReply | None)
            assert_type(row.error, Exception | None)
            assert_type(row.id, str)
            str(row.reply.text if row.reply else row.error)
            if row.reply is not None:
                assert_type(row.reply.message, Message)
    assert_type(job.done, int)
    async for row in client.map(texts, order="input", timeout=5.0):
        assert_type(row, Row[ChatReply])

    talk = Conversation(ChatRequest(messages=[user("Hi")]), ["And?", [user("So?")]])
    chats = client.map([("a", talk), "Hello?", (3, ValueError("no JSON"))])
    assert_type(chats, Job[ChatReply])
    request = CompletionRequest(prompt="Once")
    assert_type(client.map([("a", request)], echo=True), Job[CompletionReply])
    both = client.map([request, "Hello?", ("a", talk)], temperature=0, echo=True)
    assert_type(both, Job[ChatReply | CompletionReply])
    async for either in both:
        if either.reply is not None:
            assert_type(either.reply.text, str)


async def overnight(client: AsyncHoray, requests: list[ChatRequest]) -> None:
    """
    All that a job may be told, and what it tells.
    """

    def show(progress: Progress) -> None:
        str(progress.eta)

    job = client.map(
        requests,
        concurrency=None,
        order="input",
        stream="rows",
        journal="night.jsonl",
        retry_failed=True,
        budget=Budget(tokens=1_000_000, cost=5.0),
        prices={"*": Price(0.15, 0.6)},
        on_progress=show,
        total=9,
        max_tokens=9,
    )
    assert_type(job, Job[ChatReply])
    async with job:
        async for row in job:
            assert_type(row, Row[ChatReply])
            assert_type(row.outcome, Outcome)
            assert_type(row.seconds, float | None)
            assert_type(row.first_token, float | None)
            assert_type(row.attempts, int)
    assert_type(job.progress, Progress)
    assert_type(job.progress.cost, float | None)

    texts = [("a", CompletionRequest(prompt="Once"))]
    async with client.map(texts, stream=True, concurrency=4) as merged:
        assert_type(merged, TokenJob[CompletionReply])
        async for item in merged:
            assert_type(item, RowToken | Row[CompletionReply])
            if isinstance(item, RowToken):
                assert_type(item.token, Token)
                assert_type(item.text, str)
            else:
                assert_type(item.reply, CompletionReply | None)


async def undecided(client: AsyncHoray, tokens: bool) -> None:
    """
    Whether tokens are wanted may be known only when the program runs.
    """
    async with client.map(["one"], stream=tokens) as job:
        assert_type(job.done, int)
    async with client.fan_out("one", n=2, stream=tokens) as choices:
        assert_type(choices.usage, Usage)


async def fanned_out(client: AsyncHoray) -> None:
    """
    Many answers to one request: a reply or a choice of its kind.
    """
    request = ChatRequest(messages=[user("A title?")])
    fan: FanOut[ChatReply, ChatChoice] = client.fan_out(request, n=16)
    assert_type(await fan, ChatReply)
    assert_type(fan.choices[0].message, Message)
    best = await client.fan_out(request, n=16).first(
        lambda choice: "sea" in choice.text
    )
    assert_type(best, ChatChoice | None)
    assert_type(await client.fan_out(messages=[user("Hi")], n=2), ChatReply)
    assert_type(await client.fan_out(prompt="Once", n=2), CompletionReply)
    text = CompletionRequest(prompt="Once", n=3)
    assert_type(await client.fan_out(text, seed=1), CompletionReply)

    async def fits(choice: CompletionChoice) -> bool:
        return choice.finish_reason == "stop"

    assert_type(await client.fan_out(text).first(fits), CompletionChoice | None)

    assert_type(await client.fan_out("A title?", n=2), ChatReply)
    async with client.fan_out(request, n=16) as choices:
        async for choice in choices:
            assert_type(choice, ChatChoice)
            assert_type(choice.index, int)
    assert_type(choices.usage, Usage)
    async for text_choice in client.fan_out(text, stream=False):
        assert_type(text_choice, CompletionChoice)
    async with client.fan_out(request, n=16, stream=True) as tokens:
        async for item in tokens:
            assert_type(item, Token | ChatChoice)
            assert_type((item.index, item.text), tuple[int, str])
            if isinstance(item, Token):
                assert_type(item.reasoning, str)
            else:
                assert_type(item.message, Message)
    assert_type(tokens.choices[0].finish_reason, str | None)
    told: TokenFanOut[CompletionReply, CompletionChoice]
    told = client.fan_out(prompt="Once", n=2, stream=True)
    assert_type(await told, CompletionReply)


async def raced(client: AsyncHoray) -> None:
    """
    Several calls for one answer: the winner's stream, or its reply.
    """
    request = ChatRequest(messages=[user("A title?")])
    stream = client.chat.completions.stream(request)
    race: Race[ChatReply, ChatChunk] = client.race(["Hello?", stream], max_tokens=9)
    async with race as winner:
        assert_type(winner, TokenStream[ChatReply, ChatChunk])
    assert_type(race.winner, int | None)
    assert_type(race.losers, tuple[Loser, ...])
    assert_type(race.losers[0].usage, Usage)
    assert_type(race.errors, tuple[Exception, ...])
    assert_type(race.usage, Usage)
    text = CompletionRequest(prompt="Once")
    assert_type(await client.race([text, text], echo=True), CompletionReply)
    hedge: Hedge[ChatReply, ChatChunk] = client.hedge(request, after=1.5, timeout=9.0)
    assert_type(hedge.hedged, bool)
    assert_type(await hedge, ChatReply)
    assert_type(await client.hedge("Hello?", after="p95", at_most=0.1), ChatReply)
    assert_type(await client.hedge(messages=[user("Hi")], after=1), ChatReply)
    assert_type(await client.hedge(text, after=1), CompletionReply)
    assert_type(await client.hedge(prompt="Once", after=1), CompletionReply)


async def mistaken(client: AsyncHoray) -> None:
    """
    Mistakes that an editor shows.
    """
    await client.chat.completions.create(messages="Hello?")  # type: ignore[arg-type]
    await client.chat.completions.create(massages=[])  # type: ignore[call-overload]
    client.map(["Hello?"], temprature=1)  # type: ignore[call-overload]
    client.map(["Hello?"], order="any")  # type: ignore[call-overload]
    client.map(["Hello?"], stream="tokens")  # type: ignore[call-overload]
    client.map(["Hello?"], budget=5)  # type: ignore[call-overload]
    client.map([7])  # type: ignore[list-item]
    client.fan_out(["Hello?"], n=2)  # type: ignore[call-overload]
    client.fan_out("Hello?", n=2, stream="yes")  # type: ignore[call-overload]
    await client.race([7])  # type: ignore[list-item]
    await client.hedge("Hello?")  # type: ignore[call-overload]
    await client.hedge("Hello?", after="p99")  # type: ignore[call-overload]
    AsyncHoray("a key by position")  # type: ignore[call-arg]
    AsyncHoray(timeout="soon")  # type: ignore[arg-type]
    ChatRequest(messages=[user("a")], temperature="hot")  # type: ignore[arg-type]
