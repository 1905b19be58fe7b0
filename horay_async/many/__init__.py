"""
Many prompts: a job that answers as many as there are, a fan-out for many answers to one.
"""

from ._contest import Loser
from ._fan_out import FanOut, TokenFanOut
from ._job import Job, JournalFacts, TokenJob
from ._money import Budget, Price
from ._progress import Progress
from ._race import Hedge, Race
from ._rows import Conversation, Row, RowToken
from ._shares import shares


__all__ = [
    "Budget",
    "Conversation",
    "FanOut",
    "Hedge",
    "Job",
    "JournalFacts",
    "Loser",
    "Price",
    "Progress",
    "Race",
    "Row",
    "RowToken",
    "TokenFanOut",
    "TokenJob",
    "shares",
]
