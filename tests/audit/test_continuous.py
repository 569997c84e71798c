"""The audit that workers do by themselves, on the real stores."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.authz import reads as authz_reads
from consumers.authz.client import AuthzClient, Match, Tuple
from consumers.calls import Call, StoreFailure
from consumers.temporal import reads as temporal_reads
from consumers.temporal.client import TemporalClient
from outbox.audit.continuous import ContinuousAudit
from outbox.compose.continuous_audit import open_continuous_audit
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.reads import ReadStore
from tests.audit.test_real_stores import ALICE, converge, create, enqueue
from tests.conftest import lose


@pytest.fixture
def auditing(settings: Settings) -> Settings:
    return settings.model_copy(update={"audit_rate_per_second": 1_000_000.0})


@pytest.fixture
async def rounds(auditing: Settings) -> AsyncIterator[ContinuousAudit]:
    async with open_continuous_audit(auditing) as opened:
        yield opened


async def audit(settings: Settings) -> dict[str, Any]:
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        found: dict[str, Any] = (await ReadStore(engine).depths())["audit"]
        return found


async def one_round(rounds: ContinuousAudit, settings: Settings) -> dict[str, Any]:
    """Go on until a round more has ended; what the status says of it."""
    before = (await audit(settings))["last_ended_at"]
    while (now := await audit(settings))["last_ended_at"] == before:
        await rounds.step()
    return now


async def test_a_round_finds_what_was_done_behind_the_outbox_s_back_and_only_tells(
    auditing: Settings, agent: str, spicedb: AuthzClient, temporal: TemporalClient, rounds: ContinuousAudit
) -> None:
    await enqueue(auditing, (create(agent, "kept"), ALICE), (create(agent, "lost"), ALICE))
    await converge(auditing)
    quiet = await one_round(rounds, auditing)
    assert quiet["last_looked"] == 2
    assert set(quiet["last_found"]) <= {"foreign"}, "other tests share the stores"

    await spicedb.delete(Match("agent_schedule", f"{agent}--lost"), [], Call.within(10))
    await temporal.delete(f"{agent}--lost", Call.within(10))
    with capture_logs() as logs:
        loud = await one_round(rounds, auditing)
    assert {kind: loud["last_found"][kind] for kind in ("missing_schedule", "missing_tuple")} == {
        "missing_schedule": 1,
        "missing_tuple": 1,
    }
    told = [(line["schedule_id"], line["kind"]) for line in logs if line["log_level"] == "warning"]
    assert told == [(f"{agent}--lost", "missing_tuple"), (f"{agent}--lost", "missing_schedule")]
    await converge(auditing)
    assert await temporal.describe(f"{agent}--lost", Call.within(10)) is None, "it was told to tell alone"


async def test_where_it_may_a_round_has_repaired_what_can_be(
    auditing: Settings, agent: str, temporal: TemporalClient
) -> None:
    await enqueue(auditing, (create(agent, "lost"), ALICE))
    await converge(auditing)
    await temporal.delete(f"{agent}--lost", Call.within(10))
    mending = auditing.model_copy(update={"audit_repairs": True})
    async with open_continuous_audit(mending) as rounds:
        await one_round(rounds, mending)
    await converge(auditing)
    assert await temporal.describe(f"{agent}--lost", Call.within(10))


@pytest.mark.parametrize(("lost", "asked"), [(20, 20), (21, 0)])
async def test_very_much_that_is_missing_is_told_and_not_repaired(
    auditing: Settings, agent: str, *, lost: int, asked: int
) -> None:
    mending = auditing.model_copy(update={"audit_repairs": True})
    lose(auditing.database_url.get_secret_value(), agent, lost)
    with capture_logs() as logs:
        async with open_continuous_audit(mending) as rounds:
            found = await one_round(rounds, mending)
    assert found["last_found"]["missing_schedule"] == lost
    async with open_engine(auditing.database_url.get_secret_value()) as engine, engine.begin() as connection:
        repairs = await connection.exec_driver_sql("SELECT 1 FROM outbox.intents WHERE kind = 'repair'")
        assert len(repairs.all()) == asked
    held = [line["kinds"] for line in logs if line["event"] == "audit.repairs_held_back"]
    assert held == ([] if asked else [["missing_schedule", "missing_tuple"]])


async def test_a_lane_under_way_is_not_judged(
    auditing: Settings, agent: str, rounds: ContinuousAudit
) -> None:
    await enqueue(auditing, (create(agent, "waiting"), ALICE))
    found = await one_round(rounds, auditing)
    assert (found["last_looked"], set(found["last_found"]) <= {"foreign"}) == (1, True)


async def test_a_stamp_without_a_lane_is_counted_in_each_store(
    auditing: Settings,
    agent: str,
    spicedb: AuthzClient,
    rounds: ContinuousAudit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authz_reads, "_PAGE", 50)
    monkeypatch.setattr(temporal_reads, "_PAGE", 20)
    before = (await one_round(rounds, auditing))["last_found"].get("foreign", 0)
    name = f"{agent}--pruned"
    stamp = Tuple(
        "agent_schedule", name, "registered_by", "outbox_intent", "01900000-0000-7000-8000-000000000009"
    )
    await spicedb.touch([stamp], Call.within(10))
    assert (await one_round(rounds, auditing))["last_found"]["foreign"] == before + 1
    await spicedb.delete(Match("agent_schedule", name), [], Call.within(10))


async def test_what_a_lost_ledger_had_made_is_told(
    auditing: Settings, agent: str, rounds: ContinuousAudit
) -> None:
    await enqueue(auditing, (create(agent, "lost"), ALICE))
    await converge(auditing)
    async with open_engine(auditing.database_url.get_secret_value()) as engine, engine.begin() as connection:
        await connection.exec_driver_sql("TRUNCATE outbox.intents, outbox.events, outbox.queue, outbox.lanes")
    with capture_logs() as logs:
        found = await one_round(rounds, auditing)
    assert found["last_found"]["forgotten"] == 1
    told = [line["schedule_id"] for line in logs if line["event"] == "audit.forgotten_stamp"]
    assert told == [f"{agent}--lost"]


async def test_an_outage_costs_the_round_time_and_no_lane(auditing: Settings, agent: str) -> None:
    await enqueue(auditing, (create(agent, "lost"), ALICE))
    away = auditing.model_copy(update={"temporal_address": "127.0.0.1:1"})
    async with open_continuous_audit(away) as rounds:
        for _ in range(2):
            with pytest.raises(StoreFailure):
                await rounds.step()
    assert (await audit(auditing))["looked"] == 1, "the same turn again"


async def test_a_list_whose_cursor_is_refused_is_read_from_its_beginning(
    auditing: Settings, rounds: ContinuousAudit
) -> None:
    async with open_engine(auditing.database_url.get_secret_value()) as engine, engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE outbox.audit SET stage = 'spicedb', reached = 'nonsense'")
    with pytest.raises(StoreFailure):
        await rounds.step()
    await rounds.start_over()
    assert (await one_round(rounds, auditing))["last_looked"] == 0
