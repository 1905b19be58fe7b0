"""
What a job has used and may use: the one place where its tokens and its money are counted.
"""

from __future__ import annotations

import asyncio
import math

from collections import deque
from collections.abc import Mapping
from typing import Final, final

import attrs

from .._errors import BudgetExceededError, ConfigurationError
from .._values import Usage, counted
from ._money import (
    ANY,
    MILLION,
    Budget,
    Price,
    cached_tokens,
    checked_budget,
    checked_prices,
    millionths,
    money,
)


# What a call may use -------------------------------------------------------------------

# Before any server has counted: the common rule of thumb, four bytes of English a token.
_TOKENS_PER_BYTE: Final = 0.25

# Prompts of one job are much alike, and what is under way is many of them: a quarter covers
# what their mean does not.
_PROMPT_MARGIN: Final = 1.25

# The chat template's own, for a prompt of a word.
_TEMPLATE: Final = 8

# The lengths of answers scatter about as widely as their mean, and those of all that is under
# way together much less. The largest so far would be safer, but a single runaway answer
# among thousands would then end the job.
_ANSWER_MARGIN: Final = 2

# A long answer of a chat model.
_FIRST_ANSWER: Final = 1000


@attrs.frozen
class _Call:
    """
    What is known of a call before it is sent.
    """

    prompt_bytes: int

    max_tokens: int | None

    choices: int

    model: str | None


@final
class Reservation:
    """
    A call's part of the budget. Whoever has it settles it, whatever happens.
    """

    __slots__ = ("_call", "_ledger", "cost", "tokens")

    def __init__(
        self, ledger: Ledger, call: _Call, tokens: int = 0, cost: float = 0.0
    ) -> None:
        self._ledger: Ledger | None = ledger
        self._call = call
        self.tokens: int = tokens
        """
        How many it may use; 0 where there is no budget.
        """
        self.cost: float = cost
        """
        The same in money, in millionths.
        """

    def settle(self, usage: Usage | None = None, model: str | None = None) -> None:
        """
        The call is over. Twice is fine: the first counts.

        Args:
            usage: What it used, as far as that is known. None: nothing that is charged. One
                that nobody counted leaves the estimate taken from the budget.
            model: As the reply names it.
        """
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger._settle(self, self._call, usage, model)


@final
class Ledger:
    """
    What a job has used, and may use: the one place where its tokens are counted.

    It belongs to the loop of its job.
    """

    __slots__ = (
        "_answers",
        "_bytes",
        "_cost",
        "_held",
        "_held_cost",
        "_prompts",
        "_reserved",
        "_reserved_cost",
        "_texts",
        "_under_way",
        "_waiting",
        "budget",
        "cached_tokens",
        "completion_tokens",
        "estimated",
        "prices",
        "prompt_tokens",
        "unpriced",
        "why",
    )

    def __init__(
        self,
        budget: Budget | None = None,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        """
        Raises:
            ConfigurationError: One of them is something else, or a budget in money has no
                prices.
        """
        self.budget = checked_budget(budget)
        self.prices: Mapping[str, Price] = checked_prices(prices)
        self.prompt_tokens: int = 0
        """
        What the server counted; where it did not, an estimate from what came.
        """
        self.completion_tokens: int = 0
        """
        The same of the answers; those that broke off count as well.
        """
        self.cached_tokens: int = 0
        """
        How many of the prompts' tokens came out of the server's cache.
        """
        self.estimated: int = 0
        """
        Calls of which no server counted the tokens.
        """
        self.unpriced: int = 0
        """
        The answers whose model has no price.
        """
        self.why: str | None = None
        """
        Why nothing more may be sent, once that is so.
        """
        # All money in millionths.
        self._cost = 0.0
        # What nobody counted, as it was estimated.
        self._held, self._held_cost = 0, 0.0
        # What is under way.
        self._reserved, self._reserved_cost = 0, 0.0
        self._under_way = 0
        # What estimates are made of: bytes and tokens of prompts; texts, and their tokens.
        self._bytes = self._prompts = 0
        self._texts = self._answers = 0
        self._waiting: deque[tuple[_Call, asyncio.Future[Reservation | None]]] = deque()
        if self.budget is not None and self.budget.cost is not None and not prices:
            raise ConfigurationError(
                "a budget in cost needs prices: prices={'model': Price(…, …)}, per"
                " million tokens"
            )

    @property
    def cost(self) -> float | None:
        """
        What it all cost, as far as models have prices. None: without prices.
        """
        # A sum of floats says 0.0007409999999999998.
        return round(self._cost / MILLION, 12) if self.prices else None

    def check(self, model: str | None) -> None:
        """
        Whether a call to this model could be kept within the budget.

        Raises:
            ConfigurationError: The budget is in money, and the model has no price.
        """
        if self.budget is None or self.budget.cost is None:
            return
        if self._price(model) is None:
            whose = "a model that has no name" if model is None else repr(model)
            raise ConfigurationError(
                f"a budget in cost needs a price for {whose}: prices names"
                f" {', '.join(map(repr, self.prices))}; {ANY!r} would stand for all others"
            )

    async def reserve(
        self,
        *,
        prompt_bytes: int,
        max_tokens: int | None = None,
        choices: int = 1,
        model: str | None = None,
    ) -> Reservation:
        """
        Take what a call may use out of the budget; settle it when the call is over.

        Waits, in the order of asking, while it fits only without what is under way.
        Cancelling takes nothing.

        Raises:
            BudgetExceededError: It would not fit even without that, nor will anything that
                is asked for later: once over, a job is over.
            ConfigurationError: The budget is in money, and the model has no price.
        """
        call = _Call(prompt_bytes, max_tokens, choices, model)
        if self.budget is None:
            return Reservation(self, call)
        self.check(model)
        if not self._waiting and (reservation := self._decide(call)) is not None:
            return reservation
        if self.why is None:
            return await self._turn(call)
        raise BudgetExceededError(self.why)

    async def _turn(self, call: _Call) -> Reservation:
        """
        Wait for those under way, behind those who wait already.
        """
        turn: asyncio.Future[Reservation | None]
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((call, turn))
        try:
            reservation = await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._admit()
            elif (given := turn.result()) is not None:
                # It came in the same turn of the loop.
                given.settle()
            raise
        if reservation is None:
            assert self.why is not None
            raise BudgetExceededError(self.why)
        return reservation

    # Deciding ------------------------------------------------------------------------

    def _decide(self, call: _Call) -> Reservation | None:
        """
        What the call gets now, if it gets something.

        None without `why`: it may, when something under way is over.
        """
        if self.why is not None:
            return None
        prompt, answer = self._estimate(call)
        if not self._fits(call, prompt, answer):
            if not self._under_way:
                self.why = self._sentence(call, prompt, answer)
            return None
        cost = self._millionths(call, prompt, answer)
        self._under_way += 1
        self._reserved += prompt + answer
        self._reserved_cost += cost
        return Reservation(self, call, prompt + answer, cost)

    def _estimate(self, call: _Call) -> tuple[int, int]:
        """
        How many tokens prompt and answer may use.
        """
        rate = self._prompts / self._bytes if self._bytes else _TOKENS_PER_BYTE
        prompt = math.ceil(_TEMPLATE + call.prompt_bytes * rate * _PROMPT_MARGIN)
        answer = call.max_tokens
        if answer is None:
            answer = _FIRST_ANSWER
            if self._texts:
                answer = math.ceil(self._answers / self._texts * _ANSWER_MARGIN)
        return prompt, answer * call.choices

    def _millionths(self, call: _Call, prompt: int, answer: int) -> float:
        price = self._price(call.model)
        if price is None:
            return 0.0
        return float(prompt * price.prompt + answer * price.completion)

    def _fits(self, call: _Call, prompt: int, answer: int) -> bool:
        assert self.budget is not None
        if call.max_tokens is None and not (self._spent or self._under_way):
            # Nobody knows how long it will be, and one has to be the first to tell.
            answer = 1
        if not self._within_tokens(prompt + answer):
            return False
        if self.budget.cost is None:
            return True
        cost = self._millionths(call, prompt, answer)
        # Sums of floats: what fits exactly must not fail by their last digits.
        most = self.budget.cost * MILLION * (1 + 1e-9)
        return self._spent_cost + self._reserved_cost + cost <= most

    def _within_tokens(self, tokens: int) -> bool:
        assert self.budget is not None
        most = self.budget.tokens
        return most is None or self._spent + self._reserved + tokens <= most

    @property
    def _spent(self) -> int:
        return self.prompt_tokens + self.completion_tokens + self._held

    @property
    def _spent_cost(self) -> float:
        return self._cost + self._held_cost

    def _sentence(self, call: _Call, prompt: int, answer: int) -> str:
        """
        Why no more is sent, with nothing under way.
        """
        assert self.budget is not None
        if not self._within_tokens(prompt + answer):
            limit = counted(self.budget.tokens or 0, "token")
            used, more = str(self._spent), str(prompt + answer)
        else:
            limit = money(self.budget.cost or 0.0)
            used = money(self._spent_cost / MILLION)
            more = money(self._millionths(call, prompt, answer) / MILLION)
        if not self._spent:
            return (
                f"the budget of {limit} is too small for a single call: the first may"
                f" use {more}"
            )
        return (
            f"the budget of {limit} is used up: {used} used, and the next call may use"
            f" {more}"
        )

    def _admit(self) -> None:
        """
        Let those go who fit now, in their order; all of them hear of the end.
        """
        while self._waiting:
            call, turn = self._waiting[0]
            if not turn.done():
                reservation = self._decide(call)
                if reservation is None and self.why is None:
                    return
                turn.set_result(reservation)
            self._waiting.popleft()

    # Counting ------------------------------------------------------------------------

    def _settle(
        self,
        reservation: Reservation,
        call: _Call,
        usage: Usage | None,
        model: str | None,
    ) -> None:
        if usage is not None and usage.source == "none":
            self._held += reservation.tokens
            self._held_cost += reservation.cost
        elif usage is not None:
            self._count(call, usage, model)
        if self.budget is not None:
            self._under_way -= 1
            self._reserved -= reservation.tokens
            # Floats, subtracted in another order than added, leave a little over.
            left = self._reserved_cost - reservation.cost
            self._reserved_cost = left if self._under_way else 0.0
            self._admit()

    def _count(self, call: _Call, usage: Usage, model: str | None) -> None:
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.cached_tokens += cached_tokens(usage)
        self.estimated += usage.source != "server"
        self._bytes += call.prompt_bytes
        self._prompts += usage.prompt_tokens
        self._texts += call.choices
        self._answers += usage.completion_tokens
        if not self.prices:
            return
        if (price := self._price(call.model, model)) is not None:
            self._cost += millionths(price, usage)
        else:
            self.unpriced += 1

    def _price(self, *models: str | None) -> Price | None:
        """
        By the first name that the prices have.
        """
        for model in (*models, ANY):
            if model is not None and (price := self.prices.get(model)) is not None:
                return price
        return None
