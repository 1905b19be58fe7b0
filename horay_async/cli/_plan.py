"""
What the command line says about one batch.
"""

from typing import Any, Literal

import attrs

from ._destination import Destination


@attrs.frozen(kw_only=True)
class Plan:
    """
    What the command line says about one batch.
    """

    destination: Destination

    overwrite: bool

    retry_failed: bool

    order: Literal["done", "input"]

    stream: bool

    of_job: dict[str, Any]
    """
    How many lines at a time, and at what cost: arguments of `client.map`.
    """

    instruction: str | None
    """
    The system message for chats that have none.
    """

    fields: dict[str, Any]
    """
    What goes into a request where a line leaves it open.
    """

    quiet: bool

    as_json: bool

    @property
    def needs_prices(self) -> bool:
        """
        Whether the budget is one of money.
        """
        budget = self.of_job["budget"]
        return budget is not None and budget.cost is not None
