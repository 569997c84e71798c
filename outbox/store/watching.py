"""The whole outbox in figures, for whoever exports them; any worker's role may read them."""

from collections import defaultdict
from typing import LiteralString

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.store.engine import rows

# What there is more of is estimated.
_COUNTED_MOST = 2_000
_GAUGES: LiteralString = "SELECT * FROM outbox.gauges(%(bound)s)"

Figures = dict[str, list[tuple[tuple[str, ...], float]]]
"""The values of each metric by its name, each with its labels' values."""


async def gauges(engine: AsyncEngine) -> Figures:
    """How the outbox is now; costs the same at a million waiting."""
    figures: Figures = defaultdict(list)
    for row in await rows(engine, _GAUGES, {"bound": _COUNTED_MOST}):
        figures[row["metric"]].append((tuple(row["labels"]), row["value"]))
    return figures
