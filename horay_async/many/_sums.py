"""
What several calls gave and cost, as one: sums of usage, and what an error carries of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from .._events import AttemptStarted, Event
from .._line import Line, _prompt_bytes
from .._replies import ChatChoice, CompletionChoice
from .._stream import TokenStream
from .._values import Partial, PartialChoice, Usage
from ._shares import Share


class Account:
    """
    What the calls of a fan-out have cost so far; those that were cancelled, too.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._answered: list[Usage] = []
        # What was sent and not answered to its end, with its stream once it has begun.
        self._open: dict[Share, TokenStream[Any, Any] | None] = {}

    def line_for(self, share: Share) -> Line:
        """
        What sends this call, and says here that it was sent: one that was cancelled in the
        queue has cost nothing.
        """
        settings = self._line.settings
        hook, unanswered = settings.hook, self._open

        def heard(event: Event) -> None:
            if isinstance(event, AttemptStarted):
                unanswered[share] = None
            if hook is not None:
                hook(event)

        return attrs.evolve(self._line, settings=attrs.evolve(settings, hook=heard))

    def streams(self, share: Share, stream: TokenStream[Any, Any]) -> None:
        """
        Its answer has begun to come.
        """
        self._open[share] = stream

    def answered(self, share: Share, usage: Usage) -> None:
        """
        Its answer is whole.
        """
        self._open.pop(share, None)
        self._answered.append(usage)

    def refused(self, share: Share) -> None:
        """
        It was not answered, and has cost nothing.
        """
        self._open.pop(share, None)

    @property
    def usage(self) -> Usage:
        """
        The sum; an estimate where a server did not count, or could not, being left.
        """
        return summed([*self._answered, *map(self._so_far, self._open)])

    def _so_far(self, share: Share) -> Usage:
        stream = self._open[share]
        if stream is not None and stream.usage.source != "none":
            return stream.usage
        # Four bytes a token; what was made of it nobody knows.
        prompt = -(-_prompt_bytes(share.whole) // 4)
        return Usage(prompt_tokens=prompt, total_tokens=prompt, source="estimated")

    def begun(self) -> Iterator[tuple[Share, PartialChoice]]:
        """
        What came of the choices in answers that are not whole.
        """
        for share, stream in self._open.items():
            for choice in stream.partial.choices if stream is not None else ():
                yield share, choice


def partial_of(
    choices: Iterable[ChatChoice | CompletionChoice],
    usage: Usage,
    begun: Iterable[PartialChoice] = (),
) -> Partial:
    """
    Whole choices, and those that had only begun, as what had come when something failed.
    """
    parts = [*map(_partial_choice, choices), *begun]
    return Partial(
        choices=tuple(sorted(parts, key=lambda choice: choice.index)),
        tokens=usage.completion_tokens,
        usage=usage,
    )


def _partial_choice(choice: ChatChoice | CompletionChoice) -> PartialChoice:
    message = choice.message if isinstance(choice, ChatChoice) else None
    return PartialChoice(
        index=choice.index,
        text=choice.text,
        reasoning=(message and message.reasoning) or "",
        tool_calls=tuple((message and message.tool_calls) or ()),
        finish_reason=choice.finish_reason,
    )


def summed(usages: Sequence[Usage]) -> Usage:
    """
    What several calls cost; where some server did not count, an estimate.
    """
    if not usages:
        return Usage(source="none")
    first = usages[0].source
    alike = all(usage.source == first for usage in usages)
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        total_tokens=sum(usage.total_tokens for usage in usages),
        source=first if alike else "estimated",
        extra=_sum_counts([usage.extra for usage in usages]),
    )


def _sum_counts(counts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """
    The vendors' own counts, summed at any depth.
    """
    total: dict[str, Any] = {}
    for count in counts:
        for name, value in count.items():
            old = total.get(name)
            if isinstance(value, Mapping):
                before = [old] if isinstance(old, Mapping) else []
                total[name] = _sum_counts([*before, value])
            elif _is_number(value) and _is_number(old):
                total[name] = old + value
            elif old is None:
                total[name] = value
    return total


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
