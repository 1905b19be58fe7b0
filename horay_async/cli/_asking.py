"""
How to answer: the options that go into every request.
"""

import json

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import attrs

from cyclopts import Group, Parameter, Token

from ._validators import finite, whole


HOW = Group("How to answer", sort_key=2)

Text = Annotated[str | None, Parameter(group=HOW)]
Whole = Annotated[int | None, Parameter(group=HOW, converter=whole)]
Real = Annotated[float | None, Parameter(group=HOW, validator=finite)]

System = Annotated[
    str | None,
    Parameter(
        name=["--system", "-s"],
        group=HOW,
        help="What the model is told first: who it is, how it should answer.",
    ),
]


Read = Callable[[str, str], Any]


def _pairs(read: Read) -> Callable[[object, Sequence[Token]], tuple[str, ...]]:
    """
    A converter of words like NAME=VALUE: it leaves them as they are, if they can be read.
    """

    def check(_: object, tokens: Sequence[Token]) -> tuple[str, ...]:
        words = tuple(token.value for token in tokens)
        for word in words:
            name, found, value = word.partition("=")
            if not found or not name:
                raise ValueError(f'Expected a name, "=" and a value, found {word!r}.')
            read(name, value)
        return words

    return check


def _bias(token: str, bias: str) -> float:
    if not token.isdecimal():
        raise ValueError(f"Expected a token's number before the =, found {token!r}.")
    try:
        return float(bias)
    except ValueError:
        raise ValueError(f"Expected a number after the =, found {bias!r}.") from None


def _extra(_: str, value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        text = f"(Text is '\"{value}\"'.)"
        raise ValueError(
            f"Expected JSON after the =, found {value!r}. {text}"
        ) from None


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Asking:
    """
    What chats and text completions have in common. What is not given is not sent.
    """

    model: Annotated[
        Text, Parameter(help="Which model. Default: the service's, where it has one.")
    ] = None

    max_tokens: Annotated[
        Whole,
        Parameter(
            help="The longest answer, in tokens. Horay: 512 for a chat, at most 4096; "
            "Empower: 256."
        ),
    ] = None

    stop: Annotated[
        tuple[str, ...] | None,
        Parameter(
            group=HOW,
            negative_iterable="",
            help="End the answer before this text. May be given several times.",
        ),
    ] = None

    temperature: Annotated[
        Real,
        Parameter(
            help="0 is the most predictable, more is more varied. "
            "Horay: 0.7 for a chat; Empower: 1."
        ),
    ] = None

    top_p: Annotated[
        Real,
        Parameter(
            help="Only the likeliest tokens with this probability together. "
            "Horay: 0.7 for a chat; Empower: 1."
        ),
    ] = None

    top_k: Annotated[
        Whole,
        Parameter(help="Only so many likeliest tokens. Horay: 50 for a chat."),
    ] = None

    min_p: Annotated[
        Real,
        Parameter(help="Only tokens with this share of the likeliest's probability."),
    ] = None

    frequency_penalty: Annotated[
        Real,
        Parameter(
            help="Above 0: less repetition, the more often. "
            "Horay: 0.5 for a chat; Empower: 0."
        ),
    ] = None

    presence_penalty: Annotated[
        Real, Parameter(help="Above 0: less of what was said once. Empower: 0.")
    ] = None

    repetition_penalty: Annotated[
        Real, Parameter(help="Above 1: less of what was said, in the prompt too.")
    ] = None

    n: Annotated[
        Whole, Parameter(name=["--n", "-n"], help="How many answers to each prompt.")
    ] = None

    seed: Annotated[
        Whole, Parameter(help="The same seed, the same answer, where servers can.")
    ] = None

    logit_bias: Annotated[
        tuple[str, ...] | None,
        Parameter(
            group=HOW,
            metavar="TOKEN=BIAS",
            negative_iterable="",
            converter=_pairs(_bias),
            help="Make a token, by its number, likelier or less likely. "
            "May be given several times.",
        ),
    ] = None

    ignore_eos: Annotated[
        bool,
        Parameter(
            group=HOW,
            negative="",
            show_default=False,
            help="Go on to --max-tokens where the model would end.",
        ),
    ] = False

    user: Annotated[
        Text, Parameter(help="Your name for who asks, for the vendor's checks.")
    ] = None

    extra: Annotated[
        tuple[str, ...] | None,
        Parameter(
            group=HOW,
            metavar="NAME=JSON",
            negative_iterable="",
            converter=_pairs(_extra),
            help="Any other field of the request. May be given several times.",
        ),
    ] = None

    def fields(self) -> dict[str, Any]:
        """
        The fields of the request that were given.
        """
        items = attrs.asdict(self, recurse=False).items()
        given = {
            name: value
            for name, value in items
            if value is not None and value is not False
        }
        if "logit_bias" in given:
            given["logit_bias"] = _read(given["logit_bias"], _bias)
        if "extra" in given:
            given["extra_body"] = _read(given.pop("extra"), _extra)
        return given


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class ChatAsking(Asking):
    """
    With what only a chat has.
    """

    max_completion_tokens: Annotated[
        Whole,
        Parameter(help="OpenAI's newer name for --max-tokens, thinking included."),
    ] = None

    reasoning_effort: Annotated[
        Text, Parameter(help="How long to think: low, medium, high, …")
    ] = None


def _read(words: tuple[str, ...], read: Read) -> dict[str, Any]:
    pairs = (word.partition("=")[::2] for word in words)
    return {name: read(name, value) for name, value in pairs}
