"""
How many choices one call may ask for: as documented, and as the server turns out to do.
"""

from __future__ import annotations

import re

from collections.abc import Hashable
from typing import Any, Final

from .._errors import APIStatusError
from .._line import Line
from .._refusals import facts_of
from .._requests import endpoint_of
from .._services import Range


class Allowance:
    """
    What holds for one request, and what a client knows of a model and shares.

    What a refusal says is believed for the request at hand, and remembered once a call that
    keeps to it was answered: then it was the *n* that was wrong.
    """

    def __init__(self, line: Line, request: Any) -> None:
        endpoint = endpoint_of(request, line.settings.service)
        # It holds with `validate="off"`, too, which lifts checks: here nothing is refused,
        # and the choices come all the same.
        documented = endpoint.limits.get("n")
        self.documented: int | None = None
        """
        What the service documents.
        """
        if isinstance(documented, Range) and documented.high is not None:
            self.documented = int(documented.high)
        model = (request.extra_body or {}).get("model", request.model)
        self._about = (line.settings.base_url, endpoint.path, str(model))
        self._learned = line.learned
        self._said: int | None = None
        self._unconfirmed: dict[Hashable, int] = {}

    def most(self, *, stream: bool) -> int | None:
        """
        How many a call may ask for: None where there is no limit; 0 for one, without an `n`.
        """
        learned = self._learned.get((*self._about, stream))
        limits = (self.documented, self._said, learned)
        return min((one for one in limits if one is not None), default=None)

    def gave(self, given: int, wanted: int, *, stream: bool) -> None:
        """
        A call was answered, with as many choices as were wanted of it, or fewer.

        The most that were ever given count: some servers leave out what they said before.
        """
        if self._said is not None and wanted <= max(self._said, 1):
            self._learned.update(self._unconfirmed)
            self._unconfirmed.clear()
        if given < wanted:
            key = (*self._about, stream)
            self._learned[key] = max(given, self._learned.get(key, 0))

    def refused(self, error: APIStatusError, wanted: int, *, stream: bool) -> bool:
        """
        A call failed; returns whether that was for its *n*, and fewer are to be asked for.
        """
        sentence = facts_of(error.body).message
        most = allowed(error, wanted)
        if most is None:
            return False
        self._said = most
        if not _DEPENDS.search(sentence):
            # A server that streams one choice only may well give more in a plain answer.
            kinds = (
                (True,) if "stream" in sentence.lower() and stream else (False, True)
            )
            self._unconfirmed.update({(*self._about, kind): most for kind in kinds})
        return True


# What a refusal says -----------------------------------------------------------------

_STATUSES: Final = frozenset({400, 422, 500, 501})
"""
llama.cpp has said it with 500.
"""

_NAMED: Final = re.compile(
    # `n`, `'n'`, `body.n`, `n>1`; not the "n": 16 of a request that is quoted.
    r"""(?<![\w\\-])n(?![\w-])(?!['"]?\s*:\s*\d)"""
    r"|\bn_cmpl\b"
    r"|(?i:\bcandidate_?count\b)"
    r"|(?i:\bnumber of (?:choices|candidates|completions)\b)"
    r"|(?i:\bmultiple (?:choices|candidates|completions)\b)"
    r"|(?i:\bone (?:completion )?choice\b)"
)

_REFUSED: Final = re.compile(
    r"support|allow|permit|must|should|at most|max|exceed|greater|larger|less than|<="
    r"|only|unknown|unrecogni[sz]ed|unexpected|invalid|illegal|enabled|cannot|limit"
    r"|range|too (?:large|many|high)",
    re.IGNORECASE,
)

_DEPENDS: Final = re.compile(r"greedy|sampling|temperature|beam", re.IGNORECASE)
"""
Refused as the request is, not as the server is (vLLM at a temperature of 0).
"""

_NUMBER: Final = re.compile(r"(?<![\w.<\-/])\d{1,6}(?![\w.]*\w)")


def allowed(error: APIStatusError, wanted: int) -> int | None:
    """
    How many choices a call may ask for, as the refusal of one for *wanted* says: None where
    it speaks of something else, 0 where the server takes one a call, or names no number.

    It is the largest number below *wanted* that the server names: one that was meant in
    another way costs a call, or a refusal more, but never asks for as many again.
    """
    if error.status_code not in _STATUSES:
        return None
    sentence = facts_of(error.body).message
    if error.param is not None:
        if error.param.rpartition(".")[2] != "n":
            return None
    elif "best_of" in sentence or not (
        _NAMED.search(sentence) and _REFUSED.search(sentence)
    ):
        return None
    named = [int(number) for number in _NUMBER.findall(sentence)]
    most = max((one for one in named if one < wanted), default=1)
    return most if most > 1 else 0
