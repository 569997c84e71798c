"""Schedules from before the outbox, adopted into the ledger; and those that ran out, cleaned up."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from outbox.audit.drift import DriftKind
from outbox.compose.audit import compare_stores
from tests.pipeline.harness import Pipeline
from tests.pipeline.stores import legacy, stamp
from tests.pipeline.test_repairs import let_repairs_be_due

REPAIRING: dict[str, Any] = {"repair_concurrency": 1}
WRITE = "WriteRelationships"


async def plant(pipeline: Pipeline, owner: str = "holder") -> None:
    await pipeline.stores.put(*legacy(pipeline.lane(), owner))
    await pipeline.stores.plant_schedule(pipeline.lane())


async def ask(pipeline: Pipeline, *, adopting: bool) -> UUID:
    row = await pipeline.ledger.one("SELECT outbox.request_repair(%s, %s) AS id", pipeline.lane(), adopting)
    return UUID(str(row["id"]))


async def drifts(pipeline: Pipeline) -> list[DriftKind]:
    report = await compare_stores(pipeline.settings, ids=[pipeline.lane()])
    assert report.busy == []
    return [drift.kind for drift in report.drifts]


async def live(pipeline: Pipeline) -> UUID | None:
    found: UUID | None = (await pipeline.ledger.one("SELECT live_intent FROM outbox.lanes"))["live_intent"]
    return found


async def test_a_legacy_schedule_is_adopted_and_then_lives_like_any_other(pipeline: Pipeline) -> None:
    await plant(pipeline)
    assert await drifts(pipeline) == [DriftKind.LEGACY]
    adoption = await ask(pipeline, adopting=True)
    await pipeline.work(**REPAIRING)
    assert await pipeline.ledger.events(adoption) == ["repair.requested", "repaired"]
    assert await live(pipeline) == adoption
    assert await drifts(pipeline) == []
    tuples = legacy(pipeline.lane(), "holder") | {stamp(pipeline.lane(), adoption)}
    assert await pipeline.stores.tuples(pipeline.lane()) == tuples

    taken = await pipeline.create(by="alice")
    await pipeline.work()
    assert await pipeline.ledger.ended_as(taken.id) == ("create_failed", "conflict_live")
    assert await pipeline.stores.tuples(pipeline.lane()) == tuples

    gone = await pipeline.delete()
    await pipeline.work()
    assert await pipeline.ledger.ended_as(gone.id) == ("deleted", None)
    assert await pipeline.stores.schedule(pipeline.lane()) is None
    assert await pipeline.stores.tuples(pipeline.lane()) == set()
    assert await live(pipeline) is None

    await pipeline.create(by="bob")
    await pipeline.work()
    assert await drifts(pipeline) == []


async def test_an_adoption_waits_its_turn_and_writes_nothing_where_nothing_is_left(
    pipeline: Pipeline,
) -> None:
    await plant(pipeline)
    gone = await pipeline.delete()
    adoption = await ask(pipeline, adopting=True)
    await pipeline.work(**REPAIRING)
    assert await pipeline.ledger.ended_as(gone.id) == ("deleted", None)
    assert await pipeline.ledger.ended_as(adoption) == ("repaired", None)
    assert await live(pipeline) is None
    assert await pipeline.stores.tuples(pipeline.lane()) == set()
    assert not await pipeline.stores.ended(adoption), "nothing was written"


async def test_an_adoption_behind_a_create_of_the_name_finds_it_legacy_still(pipeline: Pipeline) -> None:
    await plant(pipeline)
    taken = await pipeline.create()
    adoption = await ask(pipeline, adopting=True)
    await pipeline.work(**REPAIRING)
    assert await pipeline.ledger.ended_as(taken.id) == ("create_failed", "conflict_foreign")
    assert await live(pipeline) == adoption
    assert await drifts(pipeline) == []


async def test_an_adoption_whose_answers_are_lost_converges(pipeline: Pipeline) -> None:
    await plant(pipeline)
    adoption = await ask(pipeline, adopting=True)
    pipeline.spicedb.lose_reply(WRITE)
    await pipeline.work(**REPAIRING)
    assert [row["error_code"] for row in await pipeline.ledger.attempts(adoption)] == ["connection_lost"]
    await let_repairs_be_due(pipeline)
    await pipeline.work(**REPAIRING)
    assert await live(pipeline) == adoption
    assert await drifts(pipeline) == []


async def test_a_repair_of_an_adopted_schedule_restores_its_stamp_and_the_schedule(
    pipeline: Pipeline,
) -> None:
    await plant(pipeline)
    adoption = await ask(pipeline, adopting=True)
    await pipeline.work(**REPAIRING)
    await pipeline.stores.remove(stamp(pipeline.lane(), adoption))
    await pipeline.stores.drop_schedule(pipeline.lane())
    assert await drifts(pipeline) == [DriftKind.MISSING_TUPLE, DriftKind.MISSING_SCHEDULE]
    await ask(pipeline, adopting=False)
    await pipeline.work(**REPAIRING)
    assert await drifts(pipeline) == []
    await pipeline.delete()
    await pipeline.work()
    assert await drifts(pipeline) == []
    assert await pipeline.stores.tuples(pipeline.lane()) == set()


async def test_a_schedule_that_ran_out_is_cleaned_up_and_its_name_is_free(pipeline: Pipeline) -> None:
    created = await pipeline.create(by="alice", end_at=datetime.now(UTC) + timedelta(days=1))
    await pipeline.work()
    await pipeline.stores.drop_schedule(pipeline.lane())
    await pipeline.ledger.execute(
        'UPDATE outbox.intents SET request = request || \'{"end_at": "2026-01-01T00:00:00Z"}\''
    )
    assert await drifts(pipeline) == [DriftKind.FINISHED]
    assert await pipeline.stores.may("read", pipeline.lane(), "alice")
    await ask(pipeline, adopting=False)
    await pipeline.work(**REPAIRING)
    assert await drifts(pipeline) == []
    assert await pipeline.stores.tuples(pipeline.lane()) == set()
    assert not await pipeline.stores.may("read", pipeline.lane(), "alice")
    assert await pipeline.stores.ended(created.id)
    assert await live(pipeline) is None
    again = await pipeline.create(by="bob")
    await pipeline.work()
    assert await live(pipeline) == again.id
    assert await drifts(pipeline) == []
