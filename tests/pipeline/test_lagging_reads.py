"""Workers whose reads of SpiceDB are behind: steps go on, and nothing is taken away because of a read."""

import pytest
from authzed.api.v1 import ZedToken

from outbox.compose.audit import compare_stores
from outbox.stack import StackInfo
from tests.lagging import READ, as_of, present
from tests.pipeline.harness import Pipeline
from tests.pipeline.scenes import REMOVE, WRITE
from tests.pipeline.stores import reader, registered


@pytest.fixture
async def before(stack: StackInfo, spicedb_schema: None) -> ZedToken:
    """A moment before the test did anything."""
    del spicedb_schema  # there for its effect
    return await present(stack.spicedb_endpoint, stack.spicedb_token)


async def test_a_lane_without_doubts_needs_no_read(pipeline: Pipeline, before: ZedToken) -> None:
    pipeline.spicedb.rewrite(READ, as_of(before), times=None)
    await pipeline.create(by="alice")
    await pipeline.update(paused=True)
    await pipeline.delete()
    await pipeline.create(by="bob")
    await pipeline.work()
    await pipeline.agree()


async def test_a_registration_and_a_deregistration_that_reads_do_not_show_yet_are_found(
    pipeline: Pipeline, before: ZedToken
) -> None:
    pipeline.spicedb.rewrite(READ, as_of(before), times=None)
    pipeline.spicedb.lose_reply(WRITE)
    created = await pipeline.create()
    await pipeline.work()
    pipeline.spicedb.lose_reply(REMOVE)
    deleted = await pipeline.delete()
    await pipeline.work()
    for intent in (created, deleted):
        codes = [row["error_code"] for row in await pipeline.ledger.attempts(intent.id)]
        assert codes == ["connection_lost"]
    await pipeline.agree()


async def test_an_audit_that_sees_what_was_asks_for_a_repair_that_changes_nothing(
    pipeline: Pipeline, before: ZedToken
) -> None:
    intent = await pipeline.create()
    await pipeline.work()
    granted = reader(pipeline.lane(), "rita")
    await pipeline.stores.put(granted)
    pipeline.spicedb.rewrite(READ, as_of(before), times=None)
    report = await compare_stores(pipeline.settings, ids={pipeline.lane()})
    assert [drift.kind for drift in report.drifts] == ["missing_tuple"]
    repair = await pipeline.ledger.one("SELECT outbox.request_repair(%s) AS id", pipeline.lane())
    await pipeline.work(repair_concurrency=1)
    assert await pipeline.ledger.ended_as(repair["id"]) == ("repaired", None)
    whole = registered(pipeline.lane(), intent.id, "alice")
    assert await pipeline.stores.tuples(pipeline.lane()) == {*whole, granted}
    await pipeline.agree(more={pipeline.lane(): {granted}})
