"""
Whether a batch goes on with what its output holds, or would ask all of it once more.
"""

from collections import Counter
from typing import Any

import attrs

from .. import AsyncHoray, Conversation, InvalidRequestError
from ..many._journal import Journal
from ..many._results import digest_of
from ._failures import Misuse
from ._lines import Asked, requested
from ._plan import Plan
from ._reader import LineReader
from ._source import Source


# So many lines that are not what they were are no chance. One alone may be.
_MOST, _LEAST = 20, 2

# Some lines may be new: so many are looked at, and held meanwhile.
_LOOKED_AT = 200


async def refuse_others(
    journal: Journal, lines: LineReader, source: Source, plan: Plan, client: AsyncHoray
) -> None:
    """
    Refuse prompts or options that are not those of the answers that there are.

    The lines are still to come. Of a pipe only those are looked at that are there: it may
    wait for an answer before it says more.

    Raises:
        Misuse: Of the first lines that the journal knows none is as it was.
    """
    changed = 0
    ids = Counter[str]()
    for ahead in range(_LOOKED_AT):
        line = await lines.peek(ahead, wait=source.is_file)
        if line is None or changed == _MOST:
            break
        name, request = requested(*line, plan.fields, plan.instruction)
        state = journal.look(name, ids[name], _digest(request, client))
        ids[name] += 1
        if state not in ("new", "changed"):
            return
        changed += state == "changed"
    if changed >= _LEAST:
        raise Misuse(
            f"{plan.destination.journal} has answers to other prompts, or with other "
            f"options (--model, --system, --temperature …): none of the first {changed} "
            f"{source.unit}s that it knows is as it was; name another -o, or give the "
            "former options, or have all asked again with --ask-changed (keeps the answers "
            "that there are) or --overwrite"
        )


def _digest(request: Asked | Exception, client: AsyncHoray) -> bytes:
    """
    What the journal tells a request by.
    """
    if isinstance(request, Exception):
        return digest_of(request)
    talk = request if isinstance(request, Conversation) else None
    opening: Any = talk.opening if talk else request
    try:
        bound = client._line.bind(type(opening), opening, {})[0]
    except InvalidRequestError as error:
        return digest_of(error)
    return digest_of(attrs.evolve(talk, opening=bound) if talk else bound)
