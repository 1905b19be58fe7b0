"""
The verbs for many prompts and many answers, which a client has beside those for one.
"""

from __future__ import annotations

import os

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Literal, Unpack, overload

from .._chunks import ChatStream, CompletionStream
from .._fields import ChatArguments, CompletionArguments
from .._line import Line
from .._replies import (
    ChatChoice,
    ChatChunk,
    ChatReply,
    CompletionChoice,
    CompletionChunk,
    CompletionReply,
)
from .._requests import ChatRequest, CompletionRequest
from .._settings import check_flag
from ._arguments import ChatJob, CompletionJob, MixedJob, Order, Streaming, terms
from ._fan_out import FanOut, TokenFanOut
from ._hedging import After
from ._job import Job, TokenJob
from ._ledger import Ledger
from ._money import Budget, Price
from ._progress import Progress
from ._race import Hedge, Race
from ._rows import ChatItem, Id, Item


class Many:
    """
    `map`, `fan_out`, `race` and `hedge`, over a client's line.
    """

    _line: Line

    @overload
    def map(
        self,
        requests: Iterable[ChatItem | tuple[Id, ChatItem]]
        | AsyncIterable[ChatItem | tuple[Id, ChatItem]],
        *,
        stream: Literal[False, "rows"] = False,
        **arguments: Unpack[ChatJob],
    ) -> Job[ChatReply]: ...

    @overload
    def map(
        self,
        requests: Iterable[ChatItem | tuple[Id, ChatItem]]
        | AsyncIterable[ChatItem | tuple[Id, ChatItem]],
        *,
        stream: Literal[True],
        **arguments: Unpack[ChatJob],
    ) -> TokenJob[ChatReply]: ...

    @overload
    def map(
        self,
        requests: Iterable[CompletionRequest | tuple[Id, CompletionRequest]]
        | AsyncIterable[CompletionRequest | tuple[Id, CompletionRequest]],
        *,
        stream: Literal[False, "rows"] = False,
        **arguments: Unpack[CompletionJob],
    ) -> Job[CompletionReply]: ...

    @overload
    def map(
        self,
        requests: Iterable[CompletionRequest | tuple[Id, CompletionRequest]]
        | AsyncIterable[CompletionRequest | tuple[Id, CompletionRequest]],
        *,
        stream: Literal[True],
        **arguments: Unpack[CompletionJob],
    ) -> TokenJob[CompletionReply]: ...

    @overload
    def map(
        self,
        requests: Iterable[Item | tuple[Id, Item]]
        | AsyncIterable[Item | tuple[Id, Item]],
        *,
        stream: Literal[False, "rows"] = False,
        **arguments: Unpack[MixedJob],
    ) -> Job[ChatReply | CompletionReply]: ...

    @overload
    def map(
        self,
        requests: Iterable[Item | tuple[Id, Item]]
        | AsyncIterable[Item | tuple[Id, Item]],
        *,
        stream: Literal[True],
        **arguments: Unpack[MixedJob],
    ) -> TokenJob[ChatReply | CompletionReply]: ...

    @overload
    def map(
        self,
        requests: Iterable[Item | tuple[Id, Item]]
        | AsyncIterable[Item | tuple[Id, Item]],
        *,
        stream: Streaming,
        **arguments: Unpack[MixedJob],
    ) -> Job[Any] | TokenJob[Any]: ...

    def map(
        self,
        requests: Iterable[Any] | AsyncIterable[Any],
        *,
        concurrency: int | None = None,
        order: Order = "done",
        stream: Streaming = False,
        journal: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        patience: float = 0.0,
        budget: Budget | None = None,
        prices: Mapping[str, Price] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        total: int | None = None,
        **arguments: Any,
    ) -> Job[Any] | TokenJob[Any]:
        """
        Answer any number of requests, some at a time.

            async with client.map(prompts, journal="night.jsonl", max_tokens=64) as job:
                async for row in job:
                    print(row.id, row.reply.text if row.reply else row.error)

        Every request gets one row, which holds its answer or its error. Nothing is sent
        before the first row is asked for; leaving the block cancels what is under way. A row
        that waits for its retry gives its place to another one. In this example each row is
        in the file before it is printed: kill the program at any moment and run it again,
        and it goes on with what is not answered yet.

        Args:
            requests: Any iterable or async iterable, read only as fast as rows are sent, one
                item at a time; memory does not grow with their number. An item is a string
                (a chat of one message), a `ChatRequest`, a `CompletionRequest` or a
                `Conversation`; an exception, to become its row's error; or a pair of an id
                and one of these. A generator is closed when the job ends. What waits for a
                disk or a network should be async, or everything waits with it.
            concurrency: How many rows are asked at once. Default: 64; or as many as the
                client's governor lets, where it has a limit of its own.
            order: "done": each row as soon as it is there; the source is read at most twice
                `concurrency` ahead of the reader. "input": in the order of the requests; it
                is read up to four times `concurrency` ahead of the oldest row that is not
                there yet, and no further.
            stream: "rows" asks each row as a stream: the clocks of streams hold, errors
                carry the text that came, rows know their time to the first token. True also
                gives the tokens, each a `RowToken` tagged with its row, and each `Row` after
                its last token; a reader who is slow slows the streams down.
            journal: A file in which each row's line (OpenAI's Batch output) is written before
                the row is handed over. Rows that it has are not asked again, nor handed over:
                they count in `job.progress.skipped`. A row is known by its id and its
                request; where the request has changed it is asked again. One job at a time
                has it. After a clean end it holds each row once, in `order`.
            retry_failed: Ask those rows again that failed in an earlier run.
            patience: Seconds to wait for a server that has answered before and now is not
                there, or takes nothing: no connection, 429 after all retries, 502, 503, 504.
                Rows that fail so are kept and asked again when it is back; one of them
                asks now and then. Is it away for longer, the job asks no more and its
                reader gets the error after the last row. Default: such rows fail.
            budget: `Budget(tokens=…, cost=…)`: no row is begun that might take the job over
                it; its reader gets `BudgetExceededError` after the last row.
            prices: Of models, `Price(prompt, completion)` for a million tokens; "*" stands for
                all others. `job.progress.cost` is reckoned with them.
            on_progress: Called with `job.progress` at most every 0.2 s, while something
                changes, and at the end. What it raises ends the job.
            total: How many requests there are, for `progress.eta`. Default: their `len()`,
                where they have one.
            arguments: Fields that change every request, and `timeouts` or `timeout` (seconds
                for each call).

        Raises:
            TypeError: `requests` is no iterable, or one request in place of many; or an
                argument has a name that no request has.
            InvalidRequestError: Arguments that no request could be sent with.
            ConfigurationError: Another argument cannot be.
        """
        kind = TokenJob if stream is True else Job
        return kind(
            self._line,
            requests,
            terms=terms(
                requests,
                self._line.governor,
                concurrency=concurrency,
                order=order,
                stream=stream,
                journal=journal,
                retry_failed=retry_failed,
                patience=patience,
                on_progress=on_progress,
                total=total,
            ),
            ledger=Ledger(budget, prices),
            arguments=arguments,
        )

    @overload
    def fan_out(
        self,
        request: ChatRequest | str | None = None,
        /,
        *,
        stream: Literal[False] = False,
        **arguments: Unpack[ChatArguments],
    ) -> FanOut[ChatReply, ChatChoice]: ...

    @overload
    def fan_out(
        self,
        request: ChatRequest | str | None = None,
        /,
        *,
        stream: Literal[True],
        **arguments: Unpack[ChatArguments],
    ) -> TokenFanOut[ChatReply, ChatChoice]: ...

    @overload
    def fan_out(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        stream: Literal[False] = False,
        **arguments: Unpack[CompletionArguments],
    ) -> FanOut[CompletionReply, CompletionChoice]: ...

    @overload
    def fan_out(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        stream: Literal[True],
        **arguments: Unpack[CompletionArguments],
    ) -> TokenFanOut[CompletionReply, CompletionChoice]: ...

    @overload
    def fan_out(
        self,
        request: str | ChatRequest | CompletionRequest | None = None,
        /,
        *,
        stream: bool,
        **arguments: Any,
    ) -> FanOut[Any, Any] | TokenFanOut[Any, Any]: ...

    def fan_out(
        self, request: Any = None, /, *, stream: bool = False, **arguments: Any
    ) -> FanOut[Any, Any] | TokenFanOut[Any, Any]:
        """
        Ask for *n* choices, over as many calls as the service's limit on `n` demands.

            reply = await client.fan_out(request, n=16)
            best = await client.fan_out(request, n=16).first(fits)
            async with client.fan_out(request, n=16) as choices:
                async for choice in choices:
                    print(choice.index, choice.text)

        Awaited, it gives one reply: all choices, numbered from 0, the usage summed. Its
        `first` gives the first choice that a predicate takes, and cancels the rest. A loop
        over it gives each choice as it finishes; leaving the block cancels the rest.

        A `seed` grows by the number of choices before each call, so that choices differ. A
        server that gives fewer choices than it was asked for, or refuses a call for its `n`,
        is asked for the rest side by side; the client remembers it for the model.

        Args:
            request: A built request, or a string: what the user of a chat says. Keywords
                change fields of it.
            stream: Give the loop the tokens as well: each `Token` as it comes, with the
                number of its choice in `index`, and each choice after its last one.
            arguments: The fields of a request, `n` among them (or in the request), and
                `timeouts` or `timeout` (seconds for each call).

        Raises:
            InvalidRequestError: The request cannot be right, or does not say `n`; nothing
                was sent.
        """
        kind = TokenFanOut if check_flag("stream", stream) else FanOut
        return kind(self._line, request, arguments)

    @overload
    def race(
        self,
        requests: Iterable[str | ChatRequest | ChatStream],
        **arguments: Unpack[ChatArguments],
    ) -> Race[ChatReply, ChatChunk]: ...

    @overload
    def race(
        self,
        requests: Iterable[CompletionRequest | CompletionStream],
        **arguments: Unpack[CompletionArguments],
    ) -> Race[CompletionReply, CompletionChunk]: ...

    def race(self, requests: Iterable[Any], **arguments: Any) -> Race[Any, Any]:
        """
        Ask several at once: the first token wins, and the others are cancelled.

            async with client.race([fast, good]) as stream:
                async for token in stream: ...

        The losers' connections are closed before the winner's first token is handed out. What
        they had cost by then is in the race's `losers`. Awaited, it gives the winner's reply.

        Args:
            requests: Each a string (a chat of one message), a `ChatRequest` or a
                `CompletionRequest`; or, of any client, a stream that was not opened yet. All
                chats, or all texts.
            arguments: Fields that change every request, and `timeouts` or `timeout` (seconds
                for each call). Streams keep their own.

        Raises:
            InvalidRequestError: A request cannot be right; nothing was sent.
        """
        return Race(self._line, requests, arguments)

    @overload
    def hedge(
        self,
        request: str | ChatRequest | None = None,
        /,
        *,
        after: After,
        at_most: float = 0.05,
        **arguments: Unpack[ChatArguments],
    ) -> Hedge[ChatReply, ChatChunk]: ...

    @overload
    def hedge(
        self,
        request: CompletionRequest | None = None,
        /,
        *,
        after: After,
        at_most: float = 0.05,
        **arguments: Unpack[CompletionArguments],
    ) -> Hedge[CompletionReply, CompletionChunk]: ...

    def hedge(
        self,
        request: Any = None,
        /,
        *,
        after: After,
        at_most: float = 0.05,
        **arguments: Any,
    ) -> Hedge[Any, Any]:
        """
        Ask, and once more where the first token takes too long: the first one wins.

            async with client.hedge(request, after=1.5) as stream: ...

        Used and read as a race is. The second call is the same request (its seed, too), with
        an `Idempotency-Key` of its own, so that a server does not make it wait for the first;
        a key that you set yourself goes with both. It is never sent while the server's limits
        make calls wait.

        Args:
            request: A string (a chat of one message), or a built request; keywords change
                fields of it.
            after: Seconds from sending. "p95": of this client's last 200 calls by `hedge` to the
                model, 19 in 20 were faster; until 20 have answered nothing is sent twice.
            at_most: The share of such calls that may be sent twice, so that an outage is not
                doubled: each one that is answered earns so much of a second call. One is given
                at the beginning, and up to ten are saved.
            arguments: The fields of a request, and `timeouts` or `timeout` (seconds for both
                calls together).

        Raises:
            InvalidRequestError: The request cannot be right; nothing was sent.
            ConfigurationError: `after` or `at_most` cannot be.
        """
        return Hedge(self._line, request, arguments, after=after, at_most=at_most)
