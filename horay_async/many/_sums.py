"""
What several calls gave and cost, as one: sums of usage, and what an error carries of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._replies import ChatChoice, CompletionChoice
from .._values import Partial, PartialChoice, Usage


def partial_of(
    choices: Iterable[ChatChoice | CompletionChoice], usage: Usage
) -> Partial:
    """
    Whole choices, as what had come when something else failed.
    """
    return Partial(
        choices=tuple(map(_partial_choice, choices)),
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
