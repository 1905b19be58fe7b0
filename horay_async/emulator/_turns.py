"""
Who gets what instead of the normal service: by script, by request, by chance.
"""

import difflib
import inspect
import math
import random

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from ._report import Request
from ._script import Answer, At
from .faults import FAULTS, Fault


Scripted: TypeAlias = (
    Answer | Fault | str | Callable[[Request], "Scripted | Awaitable[Scripted]"] | None
)
"""
An answer, a fault or the name of one, None for the normal service, or what chooses one of
these, seeing the request.
"""

_Turn: TypeAlias = Answer | Fault | Callable[[Request], Any] | None

_CHOOSING = "x-emulator-fault"

# What strikes before there is a request.
_EARLIER = ("accept", "listen")


class ChoiceError(ValueError):
    """
    A request chose a fault that it cannot have.
    """


def named(name: str, else_: str = "") -> Fault:
    """
    The fault of that name.

    Args:
        else_: What could have been meant instead.

    Raises:
        ValueError: There is none; the message has the names that come near.
    """
    if name in FAULTS:
        return FAULTS[name]
    near = difflib.get_close_matches(name, FAULTS, n=3)
    known = " or ".join(f'"{other}"' for other in near)
    hint = f"did you mean {known}?" if near else f"`horay faults` lists all{else_}"
    raise ValueError(f'no fault is called "{name}": {hint}')


class Script:
    """
    What successive requests and connections get; chance decides where nothing is written.
    """

    def __init__(
        self, shares: Mapping[str, float] | None = None, seed: int | None = None
    ) -> None:
        self.waiting: dict[str, list[_Turn]] = {}
        self._random = random.Random(seed)  # noqa: S311 -- dice, no secret
        checked = _checked(shares or {})
        self._of_requests = {
            name: share
            for name, share in checked.items()
            if FAULTS[name].at not in _EARLIER
        }
        self._of_connections = {
            name: share
            for name, share in checked.items()
            if name not in self._of_requests
        }

    def add(self, method: str, answers: Iterable[Scripted]) -> None:
        """
        Queue answers for the next requests of a method: all of them, or none.

        Raises:
            TypeError: One is no answer.
            ValueError: One is not the name of a fault.
        """
        known = [_turn(answer) for answer in answers]
        self.waiting.setdefault(method.upper(), []).extend(known)

    # Before a request.

    @property
    def ahead(self) -> At | None:
        """
        Whether what is next in line strikes before a request, and when.
        """
        for waiting in self.waiting.values():
            if waiting and (at := _at(waiting[0])) in _EARLIER:
                return at
        return None

    def take(self, at: At) -> Answer | Fault | None:
        """
        What is next in line, if that strikes *at* accept or listen.
        """
        for waiting in self.waiting.values():
            if waiting and _at(waiting[0]) == at:
                return cast(Answer | Fault, waiting.pop(0))
        return None

    def roll(self) -> Fault | None:
        """
        What chance has for a new connection.
        """
        return self._roll(self._of_connections)

    # For a request.

    def is_early(self, request: Request) -> bool:
        """
        Whether a request whose head has arrived is to be answered before its body.

        The dice are thrown here, once for each request.
        """
        name = request.headers.get(_CHOOSING)
        if name is not None:
            return name in FAULTS and FAULTS[name].at == "head"
        if waiting := self.waiting.get(request.method):
            return _at(waiting[0]) == "head"
        if self._of_requests and request.method == "POST":
            fault = self._roll(self._of_requests)
            request.fault = "" if fault is None else fault.name
            return fault is not None and fault.at == "head"
        return False

    async def next(self, request: Request) -> Answer | None:
        """
        The answer for this request; None if it gets the normal service.

        Raises:
            ChoiceError: It chose a fault that it cannot have.
            TypeError: What a function returned is no answer.
            ValueError: A function chose such a fault for it.
        """
        turn = self._next(request)
        while callable(turn):
            choice = turn(request)
            turn = _chosen(await choice if inspect.isawaitable(choice) else choice)
        if isinstance(turn, Fault):
            request.fault = turn.name
            return turn.answer(request)
        return turn

    def _next(self, request: Request) -> _Turn:
        name = request.headers.get(_CHOOSING)
        if name is not None:
            try:
                return _chosen(named(name))
            except ValueError as error:
                raise ChoiceError(f"{_CHOOSING}: {error}") from None
        if request.fault:
            return FAULTS[request.fault]
        waiting = self.waiting.get(request.method)
        if not waiting or _at(waiting[0]) in _EARLIER:
            return None
        return waiting.pop(0)

    def _roll(self, shares: Mapping[str, float]) -> Fault | None:
        if not shares:
            return None
        number = self._random.random()
        for name, share in shares.items():
            number -= share
            if number < 0:
                return FAULTS[name]
        return None


def _turn(answer: Scripted) -> _Turn:
    """
    What of a script is known to be one, with the fault for its name.

    Raises:
        TypeError: It is no answer.
        ValueError: There is no such fault.
    """
    if isinstance(answer, str):
        status = answer.isdecimal()
        meant = f"refuse: refusal({answer})" if status else 'say a text: reply("...")'
        return named(answer, f"; to {meant}")
    if answer is None or isinstance(answer, (Answer, Fault)) or callable(answer):
        return answer
    given = repr(answer)
    if isinstance(answer, (list, tuple)):  # whose repr would be a wall of objects
        given = f"a {type(answer).__name__}: script(first, second)"
    raise TypeError(
        f"an answer is an Answer, a fault or its name, None, or a function, not {given}"
    )


def _at(turn: _Turn) -> At:
    return turn.at if isinstance(turn, (Answer, Fault)) else "request"


def _chosen(choice: Scripted) -> _Turn:
    """
    What was chosen for a request that has arrived.

    Raises:
        TypeError: It is no answer.
        ValueError: There is no such fault, or it strikes earlier.
    """
    turn = _turn(choice)
    if (at := _at(turn)) in _EARLIER:
        what = f'the fault "{turn.name}"' if isinstance(turn, Fault) else "that answer"
        raise ValueError(
            f"{what} strikes at {at}, before there is a request that could choose it: "
            "give it to script() or `horay serve --fault`"
        )
    return turn


def _checked(shares: Mapping[str, float]) -> Mapping[str, float]:
    """
    Shares of known faults, none negative and together no more than everything.
    """
    for name, share in shares.items():
        if not (math.isfinite(share) and share >= 0):
            named(name)
            raise ValueError(f'the share of "{name}" must be 0 to 1, not {share!r}')
        named(name)
    if (total := math.fsum(shares.values())) > 1:
        raise ValueError(f"the shares of the faults must be 1 at most, not {total:g}")
    return shares
