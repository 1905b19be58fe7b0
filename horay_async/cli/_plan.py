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

    ask_changed: bool
    """
    Whether all may be asked anew where nothing is as it was in an earlier run.
    """

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
    def patience(self) -> float:
        """
        Seconds to wait for a server that has gone away.
        """
        return float(self.of_job["patience"])

    @property
    def needs_prices(self) -> bool:
        """
        Whether the budget is one of money.
        """
        budget = self.of_job["budget"]
        return budget is not None and budget.cost is not None
