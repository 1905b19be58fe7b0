"""
The ways in which a reader of `benchmarks.soak` reads a stream, or leaves it.
"""

import asyncio
import contextlib
import gc

from benchmarks._soak_call import LEFT, TEXT_SHARE, blame
from horay_async import APIError, APITimeoutError, ChatChunk, ChatRequest, Outcome, user


# Reading to the end ------------------------------------------------------------------


async def to_the_end(call):
    """
    `async with`, and every token.
    """
    await call.read()


async def texts(call):
    """
    Only the strings.
    """
    async with call.open() as stream:
        async for text in stream.text_stream:
            call.show(text)
        call.to_the_end = True


async def chunks(call):
    """
    Typed chunks in openai's shape.
    """
    async with call.open() as stream:
        async for chunk in stream.chunks():
            for choice in chunk.choices:
                chat = isinstance(chunk, ChatChunk)
                text = choice.delta.content if chat else choice.text
                if choice.index == 0 and text:
                    call.show(text)


async def final(call):
    """
    Nothing but the reply.
    """
    async with call.open() as stream:
        await stream.get_final_completion()


async def bare(call):
    """
    `async for` without `async with`.
    """
    async for token in call.open():
        call.show(token.text)
    call.to_the_end = True


async def heartbeat(call):
    """
    Waits that are given up and taken up again; not a token may be lost.
    """
    async with call.open() as stream:
        tokens = aiter(stream)
        patience = call.dice.choice([0.002, 0.01, 0.03])
        while True:
            try:
                async with asyncio.timeout(patience) as heart:
                    token = await anext(tokens)
            except StopAsyncIteration:
                break
            except APITimeoutError:
                raise
            except TimeoutError:
                if not heart.expired():
                    raise
            else:
                call.show(token.text)
        call.to_the_end = True


async def three_choices(call):
    """
    All of n=3 side by side, each with a reader of its own.
    """
    async with call.open(n=3) as stream:
        said = ["", "", ""]

        async def read(index):
            async for token in stream.choices[index]:
                if call.entry.shown is None:
                    call.entry.shown = call.entry.started
                said[index] += token.text

        ends = await asyncio.gather(*map(read, range(3)), return_exceptions=True)
        for error in filter(None, ends):
            raise error
        # By number: a server may also send a choice that nobody asked for.
        held = {choice.index: choice.text for choice in stream.reply.choices}
        for index, text in enumerate(said):
            if text != held.get(index, ""):
                call.entry.wrong.append("a choice's reader missed some text")


async def one_choice(call):
    """
    One of n=3.
    """
    async with call.open(n=3) as stream:
        call.index = call.dice.randrange(3)
        async for token in stream.choices[call.index]:
            call.show(token.text)


# Leaving -----------------------------------------------------------------------------


async def break_with(call):
    """
    `break` in `async with`.
    """
    await call.read(call.dice.randint(1, 12))


async def break_bare(call):
    """
    `break` out of a bare `async for`.
    """
    pieces = call.dice.randint(1, 12)
    async for token in call.open():
        call.show(token.text)
        if len(call.seen) >= pieces:
            break
    # The loop's next turn ends it.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class Oops(Exception):
    """
    A mistake of the user's.
    """


async def raises(call):
    """
    An exception in the block.
    """
    with contextlib.suppress(Oops):
        async with call.open() as stream:
            async for token in stream:
                call.show(token.text)
                if call.dice.random() < 0.2:
                    raise Oops


async def cancelled(call):
    """
    The task is cancelled, at any moment, once or more often.
    """
    reader = asyncio.create_task(call.read())
    await call.until_some_moment(reader)
    reader.cancel()
    while call.dice.random() < 0.4:
        for _ in range(call.dice.randrange(3)):
            await asyncio.sleep(0)
        reader.cancel()
    await asyncio.wait([reader])
    if not reader.cancelled():
        reader.result()


async def stopped(call):
    """
    `abort` or `close` from another task, at any moment.
    """
    reader = asyncio.create_task(call.read())
    await call.until_some_moment(reader)
    if call.stream is None:
        await asyncio.sleep(0)
    if call.dice.random() < 0.5:
        call.stream.abort("the soak")
    else:
        await call.stream.close()
    await asyncio.wait([reader])
    ended_by_us = call.stream.outcome in LEFT
    if not ended_by_us or reader.exception() is None:
        reader.result()


async def close_while_waiting(call):
    """
    `close` while `__anext__` waits.
    """
    async with call.open() as stream:
        tokens = aiter(stream)
        waiting = asyncio.create_task(anext(tokens))
        await asyncio.sleep(call.dice.random() * 0.2)
        stream.close()
        await asyncio.wait([waiting])
        error = waiting.exception()
        if error is None:
            call.show(waiting.result().text)
        elif stream.outcome is not Outcome.CLOSED and isinstance(error, APIError):
            raise error


async def dropped(call):
    """
    The last reference goes: here, on another thread, or in a cycle, for the collector.
    """
    held = [call.open()]
    call.stream = None
    tokens = None
    try:
        if call.dice.random() < 0.5:
            await held[0].open()
        else:
            tokens = aiter(held[0])
            for _ in range(call.dice.randint(1, 5)):
                call.show((await anext(tokens)).text)
    except StopAsyncIteration:
        return
    finally:
        del tokens
        where = call.dice.randrange(3)
        if where == 0:
            held.append(held)
        elif where == 1:
            await asyncio.to_thread(held.clear)
        del held
    if where == 0 and call.dice.random() < 0.05:
        gc.collect(0)


async def tiny_clock(call):
    """
    One of the clocks is far too short.
    """
    clock = call.dice.choice(["connect", "first_token", "stall", "silence", "deadline"])
    seconds = 10 ** call.dice.uniform(-3.5, -0.5)
    short = call.client._line.settings.timeouts.evolve(**{clock: seconds})
    async with call.open(timeouts=short) as stream:
        async for token in stream:
            call.show(token.text)
        call.to_the_end = True


# Plain calls -------------------------------------------------------------------------


async def create(call):
    """
    A plain call, now and then cancelled or with a short deadline.
    """
    fate = call.dice.random()
    timeouts = call.client._line.settings.timeouts
    if fate < 0.15:
        timeouts = timeouts.evolve(deadline=call.dice.random())
    text = call.entry.text
    options = {
        "model": call.model,
        "timeouts": timeouts,
        "extra_headers": call.entry.headers,
    }

    async def ask():
        if call.dice.random() < TEXT_SHARE:
            return await call.client.completions.create(prompt=text, **options)
        messages = [user(text)]
        return await call.client.chat.completions.create(messages=messages, **options)

    asking = asyncio.create_task(ask())
    if fate > 0.75:
        await asyncio.wait([asking], timeout=call.dice.random() * 0.5)
        asking.cancel()
    await asyncio.wait([asking])
    if asking.cancelled():
        return "cancelled"
    reply = asking.result()
    call.soak.ledger.check(call.entry, reply.text, whole=True)
    return "finished"


async def fan_out(call):
    """
    Three choices of one prompt.
    """
    # Asked again for the choices that a server leaves out.
    call.entry.started, call.entry.calls = None, 3
    reply = await call.soak.client.fan_out(
        messages=[user(call.entry.text)],
        n=3,
        model=call.model,
        extra_headers=call.entry.headers,
    )
    for choice in reply.choices:
        call.soak.ledger.check(call.entry, choice.text, whole=choice.index == 0)
    return "finished"


def request_of(entry):
    """
    A prompt as a row of a job.
    """
    return ChatRequest(messages=[user(entry.text)], extra_headers=entry.headers)


class Rows:
    """
    A job of some prompts.
    """

    def __init__(self, call):
        self._call = call
        self._ledger = call.soak.ledger
        count = call.dice.randint(2, 4)
        made = [
            self._ledger.entry(call.dice, "rows", watched=False) for _ in range(count)
        ]
        self.entries = {entry.marker: entry for entry in made}
        self.wanted = call.dice.choice([count, count, call.dice.randint(1, count)])
        self.got = set()

    async def read(self):
        """
        As many rows as are wanted.
        """
        items = [(entry.marker, request_of(entry)) for entry in self.entries.values()]
        concurrency = self._call.dice.randint(2, 4)
        options = {"model": self._call.model, "concurrency": concurrency}
        async with self._call.soak.client.map(items, **options) as job:
            async for row in job:
                self._told(row)
                if len(self.got) >= self.wanted:
                    break

    def _told(self, row):
        entry = self.entries[row.id]
        if row.id in self.got:
            entry.wrong.append("two rows for one request")
        self.got.add(row.id)
        if row.error is None:
            self._ledger.check(entry, row.reply.text, whole=True)
        else:
            blame(entry, row.error)
            self._call.soak.note(row.error)

    def done(self):
        """
        Leave the entries to the ledger.
        """
        for entry in self.entries.values():
            self._ledger.done(entry)


async def rows(call):
    """
    A job of some rows, read to its end, left early or cancelled.
    """
    job = Rows(call)
    worker = asyncio.create_task(job.read())
    if call.dice.random() < 0.25:
        await asyncio.wait([worker], timeout=call.dice.random())
        worker.cancel()
    await asyncio.wait([worker])
    job.done()
    if worker.cancelled():
        return "cancelled"
    worker.result()
    if len(job.got) < job.wanted:
        call.entry.wrong.append(f"{len(job.got)} rows of {job.wanted}")
    return "finished" if job.wanted == len(job.entries) else "closed"


WAYS = {
    to_the_end: 4,
    texts: 2,
    chunks: 2,
    final: 1,
    bare: 2,
    heartbeat: 2,
    three_choices: 1,
    one_choice: 1,
    break_with: 3,
    break_bare: 3,
    raises: 2,
    cancelled: 5,
    stopped: 3,
    close_while_waiting: 2,
    dropped: 3,
    tiny_clock: 3,
    create: 4,
    fan_out: 1,
    rows: 2,
}
"""
Each way, and how often it is gone.
"""
