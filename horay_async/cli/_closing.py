"""
What a batch says in the end: what has become of its lines, and how to go on.
"""

import json

from collections.abc import Iterator
from typing import Any

import attrs

from .. import Job
from .._values import counted
from ._plan import Plan
from ._tally import Tally


@attrs.frozen
class Closing:
    """
    A batch that is over.
    """

    plan: Plan

    tally: Tally

    job: Job[Any]

    by: str = attrs.field(kw_only=True)
    """
    Who answered, for people.
    """

    earlier: list[str] = attrs.field(kw_only=True)
    """
    The files of answers that were to be replaced, and not all of them were.
    """

    stopped: str | None = attrs.field(kw_only=True)
    """
    Why not all lines were asked.
    """

    first: str = attrs.field(kw_only=True)
    """
    What has to be done before the same command can go on.
    """

    last: str = attrs.field(kw_only=True)
    """
    What is to be known of its going on.
    """

    @property
    def is_whole(self) -> bool:
        """
        Whether the input came to its end.
        """
        return self.stopped is None

    @property
    def former(self) -> int:
        """
        The answers that were set aside, as their lines have changed.
        """
        journal = self.job.journal
        return 0 if journal is None else journal.former

    def to_json(self) -> str:
        """
        All of it for programs, as one line.
        """
        facts = {
            **self.tally.to_dict(whole=self.is_whole),
            "stopped": self.stopped,
            "answered_by": self.by,
            "output": self.plan.destination.shown,
            "set_aside": self.earlier,
            "former": self.former,
        }
        return json.dumps(facts)

    def sentences(self) -> Iterator[str]:
        """
        The same for people.
        """
        tally, destination, whole = self.tally, self.plan.destination, self.is_whole
        begin = "" if whole else "stopped; "
        place = destination.shown if whole else destination.journal or destination.shown
        place = f"; results in {place}" if place else ""
        yield f"{begin}{tally.lines(whole=whole)}{place}"
        if self.job.progress.done:
            yield f"{tally.cost()}, by {self.by}"
        if times := tally.times():
            yield times
        if self.earlier:
            places = " and ".join(map(destination.named, self.earlier))
            yield f"the earlier answers are in {places}"
        if (journal := self.job.journal) is not None and journal.former:
            before = counted(journal.former, "earlier answer")
            where = destination.named(journal.former_path)
            yield f"{before} to lines that have changed: in {where}"
        if destination.journal:
            yield from self._advice()

    def _advice(self) -> Iterator[str]:
        """
        How to go on, where something is left.
        """
        plan, tally = self.plan, self.tally
        same = "the same command"
        if plan.overwrite:
            same += " without --overwrite"
        if not self.is_whole:
            yield f"{self.first}{same} goes on from there{self.last}"
            return
        if tally.unanswered:
            yield f"{same} asks again what was not answered"
        if tally.failed or tally.progress.skipped_failed:
            how = "" if plan.retry_failed else "with --retry-failed "
            yield f"{how}{same} asks again what failed"
