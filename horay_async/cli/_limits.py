"""
How fast a batch goes and what it may cost: the options that say so.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import attrs

from cyclopts import Group, Parameter, Token

from .. import Adaptive, Budget, ConfigurationError, Governor, Price
from ..many._money import ANY
from ._failures import Misuse
from ._validators import amount, money, seconds, token_count, whole


# Of lines at a time: what a service takes well, and what keeps a model on this machine busy
# without a long queue before it.
_CONCURRENCY, _LOCAL_CONCURRENCY = 32, 8

# Seconds: longer than a server takes to load a large model, or a machine to start again.
_PATIENCE = 600.0

HOW_FAST = Group("How fast, at what cost", sort_key=0.5)


def _at_once(_: object, tokens: Sequence[Token]) -> int | Literal["auto"]:
    word = tokens[0].value
    if word == "auto":
        return "auto"
    try:
        number = whole(None, tokens)
    except ValueError:
        raise ValueError('Expected a whole number, or "auto".') from None
    if number < 1:
        raise ValueError(f'Expected 1 or more, or "auto", found {number}.')
    return number


def _prices(_: object, tokens: Sequence[Token]) -> tuple[str, ...]:
    """
    Words like IN,OUT or MODEL=IN,OUT, left as they are if they can be read.
    """
    words = tuple(token.value for token in tokens)
    for word in words:
        _price(word)
    return words


def _price(word: str) -> tuple[str, Price]:
    # A model's name may have any character; a price has no "=".
    model, _, numbers = word.rpartition("=")
    parts = numbers.split(",")
    try:
        price = Price(*[float(part) for part in parts]) if 1 < len(parts) < 4 else None
    except (ConfigurationError, ValueError):
        price = None
    if price is None:
        raise ValueError(
            "Expected two prices for a million tokens, of prompts and of answers, as in "
            f'0.1,0.4 (a third one is for cached tokens), found "{word}".'
        )
    return model or ANY, price


@Parameter(name="*", group=HOW_FAST)
@attrs.frozen(kw_only=True)
class Limits:
    """
    How many lines at a time, how many a minute, and when to stop for their price.
    """

    concurrency: Annotated[
        int | Literal["auto"] | None,
        Parameter(
            metavar="N|auto",
            show_choices=False,
            converter=_at_once,
            help="Lines answered at a time; auto finds out how many the server bears. "
            f"Default: {_CONCURRENCY}; {_LOCAL_CONCURRENCY} with --local.",
        ),
    ] = None

    rpm: Annotated[
        float | None,
        Parameter(
            metavar="N",
            converter=amount,
            help="Requests a minute, of each model: never more, retries included.",
        ),
    ] = None

    tpm: Annotated[
        float | None,
        Parameter(
            metavar="N",
            converter=amount,
            help="Tokens a minute, of each model: 200k, 1.5M.",
        ),
    ] = None

    patience: Annotated[
        float,
        Parameter(
            metavar="TIME",
            converter=seconds,
            show_default=False,
            help="How long to wait for a server that has gone away, or refuses all calls: "
            "90, 10m, 2h; then the batch stops. Default: 10m.",
        ),
    ] = _PATIENCE

    budget: Annotated[
        int | None,
        Parameter(
            metavar="TOKENS",
            converter=token_count,
            help="Stop before this run takes more tokens than that, in and out: 2M.",
        ),
    ] = None

    budget_cost: Annotated[
        float | None,
        Parameter(
            metavar="MONEY",
            converter=money,
            help="Stop before this run costs more than that, by --price: 5.00.",
        ),
    ] = None

    price: Annotated[
        tuple[str, ...] | None,
        Parameter(
            metavar="[MODEL=]IN,OUT",
            converter=_prices,
            negative_iterable="",
            help="What a million tokens cost, of prompts and of answers, in whichever "
            "currency: 0.1,0.4. May be given for several models.",
        ),
    ] = None

    def __attrs_post_init__(self) -> None:
        """
        Refuse a budget that nothing can be held against.
        """
        if self.budget_cost is not None and not self.price:
            raise Misuse(
                "--budget-cost needs prices: give --price IN,OUT, what a million tokens "
                "of prompts and of answers cost"
            )

    def governor(self) -> Governor | None:
        """
        What lets calls go at this speed; None: the client's own will do.
        """
        adaptive = Adaptive() if self.concurrency == "auto" else None
        if adaptive is None and self.rpm is None and self.tpm is None:
            return None
        return Governor(rpm=self.rpm, tpm=self.tpm, concurrency=adaptive)

    def of_job(self, *, is_local: bool) -> dict[str, Any]:
        """
        The arguments of the job.
        """
        at_once: int | None = _LOCAL_CONCURRENCY if is_local else _CONCURRENCY
        if self.concurrency is not None:
            # A job takes its governor's, where that has one.
            at_once = None if self.concurrency == "auto" else self.concurrency
        budget = None
        if self.budget is not None or self.budget_cost is not None:
            budget = Budget(tokens=self.budget, cost=self.budget_cost)
        prices = dict(map(_price, self.price)) if self.price else None
        return {
            "concurrency": at_once,
            "patience": self.patience,
            "budget": budget,
            "prices": prices,
        }
