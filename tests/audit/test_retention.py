"""Pruning on the real stores: the marks of what goes, and what happens when SpiceDB is away."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

import outbox
from consumers.authz.client import AuthzClient, Match
from consumers.calls import Call, StoreFailure
from outbox.compose.clients import authz_client
from outbox.compose.retention import prune, prune_all
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.reads import ReadStore
from outbox.store.retention import RetentionStore
from tests.audit.test_real_stores import ALICE, converge, create, enqueue

SOON = datetime.now(UTC) + timedelta(days=1)


async def is_marked(spicedb: AuthzClient, intent: UUID) -> bool:
    match = Match("outbox_intent", str(intent), "ended")
    return bool((await spicedb.read(match, Call.within(10))).tuples)


async def prune_now(settings: Settings, spicedb: AuthzClient) -> int:
    """Prune as of tomorrow: what ended just now is old by then."""
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        store = RetentionStore(engine, SOON, batch=1, operator="tester")
        return sum([gone async for gone in prune_all(store, spicedb)])


async def remaining(settings: Settings) -> set[UUID]:
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        rows = await ReadStore(engine).intents(status=None, schedule_id=None, since=None, limit=100)
    return {row["id"] for row in rows}


async def test_marks_go_with_their_intents_and_those_of_what_stays_stay(
    settings: Settings, agent: str, spicedb: AuthzClient
) -> None:
    deleted, gone, live = await enqueue(
        settings,
        (create(agent, "gone"), ALICE),
        (outbox.DeleteSchedule(agent_id=agent, name="gone"), ALICE),
        (create(agent, "live"), ALICE),
    )
    await converge(settings)
    assert await is_marked(spicedb, deleted)
    assert await prune_now(settings, spicedb) == 2
    assert not await is_marked(spicedb, deleted)
    assert await remaining(settings) == {live}
    assert gone != live
    assert await prune_now(settings, spicedb) == 0


async def test_while_spicedb_is_away_nothing_of_the_ledger_is_lost(
    settings: Settings, agent: str, spicedb: AuthzClient
) -> None:
    (failed,) = await enqueue(settings, (outbox.DeleteSchedule(agent_id=agent, name="none"), ALICE))
    await converge(settings)
    away = authz_client(settings.model_copy(update={"spicedb_endpoint": "127.0.0.1:1"}))
    with pytest.raises(StoreFailure):
        await prune_now(settings, away)
    await away.close()
    assert await remaining(settings) == {failed}
    # That it began was written down before it took anything.
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        begun = await ReadStore(engine).operations(target="outbox", limit=10)
    assert [(one["action"], one["items"]) for one in begun] == [("prune", 0)]
    assert await prune_now(settings, spicedb) == 1


async def test_what_late_writes_may_need_can_not_be_asked_for(settings: Settings) -> None:
    # 2 s for a step, 1 s for a late write, 600 s until it is verified again.
    with pytest.raises(ValueError, match="is too young: what ended within 603 s is kept"):
        _ = [
            gone
            async for gone in prune(settings, datetime.now(UTC) - timedelta(seconds=590), operator="tester")
        ]
    assert [
        gone async for gone in prune(settings, datetime.now(UTC) - timedelta(seconds=620), operator="tester")
    ] == [0]
