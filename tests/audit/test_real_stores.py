"""The check of all three stores, on real ones."""

from uuid import UUID

import grpc
import pytest

import outbox
from consumers.authz import reads as authz_reads
from consumers.authz.client import AuthzClient, Match, Tuple
from consumers.calls import Call
from consumers.temporal import reads as temporal_reads
from consumers.temporal.client import TemporalClient
from outbox.compose.audit import compare_stores
from outbox.compose.worker import open_worker
from outbox.errors import StoreUnusable
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.testing import FaultProxy

ALICE = outbox.Principal(user_id="alice")


def create(agent: str, name: str) -> outbox.CreateSchedule:
    return outbox.CreateSchedule(
        agent_id=agent, name=name, workflow_name="Report", task_queue="agents", interval_seconds=86_400
    )


async def enqueue(settings: Settings, *items: tuple[object, outbox.Principal]) -> list[UUID]:
    async with (
        open_engine(settings.database_url.get_secret_value()) as engine,
        engine.begin() as connection,
    ):
        return [intent.id for intent in await outbox.enqueue_many(connection, items)]  # type: ignore[arg-type]


async def converge(settings: Settings) -> None:
    async with open_worker(settings, until_idle=True) as worker:
        await worker.run()


async def drifts(settings: Settings, agent: str) -> list[tuple[str, str]]:
    report = await compare_stores(settings, prefix=f"{agent}--")
    return [(drift.schedule_id.removeprefix(f"{agent}--"), drift.kind) for drift in report.drifts]


async def test_what_the_outbox_did_agrees_and_what_is_done_behind_its_back_is_found(
    settings: Settings, agent: str, spicedb: AuthzClient, temporal: TemporalClient
) -> None:
    names = ["kept", "anonymous", "lost-tuple", "lost-schedule", "stolen"]
    entries = [(create(agent, name), ALICE if name != "anonymous" else outbox.Principal()) for name in names]
    deleted = [
        (create(agent, "deleted"), ALICE),
        (outbox.DeleteSchedule(agent_id=agent, name="deleted"), ALICE),
    ]
    await enqueue(settings, *entries, *deleted)
    await converge(settings)
    assert await drifts(settings, agent) == []

    call = Call.within(10)
    await spicedb.delete(Match("agent_schedule", f"{agent}--lost-tuple"), [], call)
    await temporal.delete(f"{agent}--lost-schedule", call)
    stolen = Tuple("agent_schedule", f"{agent}--stolen", "owner", "user", "mallory")
    theirs = Tuple("agent_schedule", f"{agent}--theirs", "owner", "user", "carol")
    await spicedb.touch([stolen, theirs], call)
    expected = [
        ("lost-schedule", "missing_schedule"),
        ("lost-tuple", "missing_tuple"),
        ("stolen", "wrong_owner"),
        ("theirs", "foreign"),
    ]
    assert await drifts(settings, agent) == expected
    some = await compare_stores(settings, ids=[f"{agent}--stolen", f"{agent}--kept"])
    assert [drift.kind for drift in some.drifts] == ["wrong_owner"]
    assert not some.agrees


async def test_a_lane_that_has_not_settled_is_busy(settings: Settings, agent: str) -> None:
    await enqueue(settings, (create(agent, "waiting"), ALICE))
    report = await compare_stores(settings, prefix=agent)
    assert (report.busy, report.drifts) == ([f"{agent}--waiting"], [])


async def test_reading_goes_on_over_pages(
    agent: str,
    spicedb: AuthzClient,
    temporal: TemporalClient,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    monkeypatch.setattr(authz_reads, "_PAGE", 4)
    monkeypatch.setattr(temporal_reads, "_PAGE", 2)
    monkeypatch.setattr("outbox.store.ledger._PAGE", 3)
    await enqueue(settings, *((create(agent, f"n{number}"), ALICE) for number in range(7)))
    await converge(settings)
    names = [f"{agent}--n{number}" for number in range(7)]
    report = await compare_stores(settings, prefix=agent)
    assert (report.lanes, report.live, report.drifts) == (7, 7, [])
    read = [
        (name, len(held)) async for name, held in authz_reads.read_schedules(spicedb, prefix=agent, seconds=5)
    ]
    assert read == [(name, 3) for name in names]
    listed = [name async for name, _ in temporal_reads.read_schedules(temporal, prefix=agent, seconds=5)]
    assert sorted(listed) == names


async def test_a_store_that_can_t_be_reached_is_said_so(settings: Settings) -> None:
    away = settings.model_copy(update={"spicedb_endpoint": "127.0.0.1:1"})
    with pytest.raises(StoreUnusable, match="can't be compared") as caught:
        await compare_stores(away)
    assert not caught.value.reachable


@pytest.mark.parametrize(("unanswered", "told"), [(2, True), (3, False)])
async def test_a_store_that_is_slow_for_a_moment_ends_no_comparison(
    settings: Settings, agent: str, monkeypatch: pytest.MonkeyPatch, *, unanswered: int, told: bool
) -> None:
    monkeypatch.setattr("consumers.calls._PAUSE_SECONDS", 0)
    await enqueue(settings, (create(agent, "one"), ALICE))
    await converge(settings)
    async with (
        FaultProxy(settings.temporal_address) as temporal,
        FaultProxy(settings.spicedb_endpoint) as spicedb,
    ):
        through = {"temporal_address": temporal.address, "spicedb_endpoint": spicedb.address}
        slow = settings.model_copy(update=through)
        for proxy, read in ((temporal, "ListSchedules"), (spicedb, "ReadRelationships")):
            proxy.fail(read, status=grpc.StatusCode.DEADLINE_EXCEEDED, times=unanswered)
        if told:
            assert (await compare_stores(slow, prefix=agent)).live == 1
        else:
            with pytest.raises(StoreUnusable, match="can't be compared"):
                await compare_stores(slow, prefix=agent)
