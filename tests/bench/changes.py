"""P16: many updates of few schedules, where Temporal takes few calls a second."""

import time

import psycopg

import outbox
from outbox.flow.table import Consumer
from tests.bench.intake import OWNER
from tests.bench.measure import Result, check
from tests.bench.stage import Stage
from tests.bench.stores import entries, real_stores, worker_on

RATE = 10.0
"""Steps a second: about what Temporal Cloud takes of schedule operations."""

_COUNTED = """
    SELECT count(*), count(*) FILTER (WHERE superseded_by IS NULL) FROM outbox.events
     WHERE type = 'schedule.updated'
"""


def _update(of: outbox.CreateSchedule, number: int) -> outbox.UpdateSchedule:
    return outbox.UpdateSchedule(agent_id=of.agent_id, name=of.name, interval_seconds=86_400 + number)


async def coalesced(stage: Stage) -> list[Result]:
    """P16: updates of live schedules, one after another in each lane, through the real Temporal."""
    lanes, each = stage.scale.of(100, least=2), stage.scale.of(100, least=3)
    asked = entries(lanes)
    with stage.database() as url:
        async with (
            real_stores(stage) as stores,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as line,
        ):
            await outbox.enqueue_many(line, [(entry, OWNER) for entry in asked])
            async with worker_on(url, stores) as (worker, _):
                await worker.run()
            for number in range(each):
                await outbox.enqueue_many(line, [(_update(one, number), OWNER) for one in asked])
            began = time.perf_counter()
            async with worker_on(url, stores, rates={Consumer.TEMPORAL: RATE}) as (worker, _):
                await worker.run()
            seconds = time.perf_counter() - began
            row = await (await line.execute(_COUNTED)).fetchone()
            check(row is not None and row[0] == lanes * each, f"{row} of {lanes * each} were updated")
    one_by_one = lanes * each / RATE
    detail = {
        "updates": lanes * each,
        "lanes": lanes,
        "steps_a_second": RATE,
        "seconds": round(seconds, 1),
        "steps": row[1] if row else 0,
        "one_by_one_seconds": one_by_one,
    }
    ratio = seconds / one_by_one
    return [Result("P16", ratio, at_most=0.05, spread=(ratio, ratio), detail=detail)]
