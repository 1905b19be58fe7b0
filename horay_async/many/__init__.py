"""
Many prompts: a job that answers as many as there are, a fan-out for many answers to one.
"""

from ._fan_out import FanOut, shares
from ._job import Job
from ._rows import Conversation, Row


__all__ = ["Conversation", "FanOut", "Job", "Row", "shares"]
