"""P14: what it costs to name no prepared statements, as behind a pooler of transactions."""

import statistics
from typing import Any

from sqlalchemy import event

from outbox.store.engine import open_engine
from outbox.store.work import WorkStore
from tests.bench.depth import Bed
from tests.bench.draining import TIMING
from tests.bench.measure import Result
from tests.bench.stage import Stage

_BATCHES = {"one": 1, "hundred": 100}


async def unprepared(stage: Stage) -> list[Result]:
    """P14: claim and settle with statements that have names, and with such that have none."""
    rounds = max(3, int(300 * stage.scale.share))
    with stage.database() as url:
        async with open_engine(url) as naming, open_engine(url) as plain:
            event.listen(plain.sync_engine, "connect", _name_none)
            named, nameless = (Bed(url, WorkStore(engine, TIMING)) for engine in (naming, plain))
            results = []
            for name, size in _BATCHES.items():
                for bed in (named, nameless) * 10:
                    await bed.step(size)
                pairs = [(await named.step(size), await nameless.step(size)) for _ in range(rounds)]
                detail = {
                    "named_us": round(statistics.median(one for one, _ in pairs), 1),
                    "nameless_us": round(statistics.median(other for _, other in pairs), 1),
                    "batch": size,
                    "rounds": rounds,
                }
                ratios = [other / one for one, other in pairs]
                results.append(Result.of(f"P14/{name}", ratios, detail=detail, at_most=1.25))
    return results


def _name_none(connection: Any, _: Any) -> None:
    connection.driver_connection.prepare_threshold = None
