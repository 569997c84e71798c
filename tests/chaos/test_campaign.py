"""Short campaigns; ``make chaos`` runs long ones, with every kind of trouble on either wire."""

import random
import signal

import pytest

from tests.chaos.campaign import TIMES, Campaign, run
from tests.chaos.recorder import keep
from tests.chaos.report import report
from tests.chaos.workload import SCRIPTS, plan

SEED = 20
# Drained; or told to end before it had begun, when there is nothing to drain.
ENDED = {0, -signal.SIGTERM}
QUICK = {
    "step_timeout_seconds": 1.0,
    "lease_seconds": 1.5,
    "late_write_seconds": 0.5,
    "verify_again_seconds": 4.0,
}


OF_THE_WIRE = {
    "Kafka killed",
    "one-way partition at Kafka",
    "Kafka hangs",
    "Kafka loses all its data",
    "Kafka delivers everything again, mixed up",
    "Postgres killed, its standby takes over",
    "worker SIGKILL",
}


ROLLED = {
    "PgBouncer restarted",
    "PgBouncer killed",
    "Postgres killed",
    "worker SIGKILL",
    "worker rolled to the other version",
}


@pytest.mark.campaign(seconds=60)
@pytest.mark.timeout(400)
async def test_all_agree_after_every_kind_of_trouble(tmp_path_factory: pytest.TempPathFactory) -> None:
    campaign = Campaign(
        SEED, 120, rounds=1, commands=("run", "run"), times=TIMES | QUICK, spicedb_on_postgres=True
    )
    result = await run(campaign, tmp_path_factory.mktemp("chaos"))
    keep(result.recorded, campaign.name)
    print(report(result))  # noqa: T201 - shown when it fails, and by -s
    assert list(result.stories()) == []
    assert result.verified > 1
    assert result.miscounted == []
    assert len(result.troubles) == 22
    assert set(result.exit_codes) <= ENDED


@pytest.mark.campaign(seconds=50)
@pytest.mark.timeout(500)
async def test_all_agree_on_the_kafka_wire_after_trouble_of_its_broker(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    commands = ("run", "run", "relay", "relay")
    campaign = Campaign(
        SEED, 60, rounds=1, commands=commands, times=TIMES | QUICK, kafka=True, only=OF_THE_WIRE
    )
    result = await run(campaign, tmp_path_factory.mktemp("chaos"))
    keep(result.recorded, campaign.name)
    print(report(result))  # noqa: T201 - shown when it fails, and by -s
    assert list(result.stories()) == []
    assert result.miscounted == []
    assert set(result.troubles) == OF_THE_WIRE
    assert set(result.exit_codes) <= ENDED


@pytest.mark.campaign(seconds=20)
@pytest.mark.timeout(400)
async def test_all_agree_by_way_of_a_pooler_while_workers_are_rolled(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    campaign = Campaign(
        SEED + 1,
        60,
        rounds=1,
        commands=("run", "run"),
        times=TIMES | QUICK,
        pooler=True,
        rolling=True,
        only=ROLLED,
    )
    result = await run(campaign, tmp_path_factory.mktemp("chaos"))
    print(report(result))  # noqa: T201 - shown when it fails, and by -s
    assert list(result.stories()) == []
    assert result.miscounted == []
    assert set(result.troubles) == ROLLED
    assert set(result.exit_codes) <= ENDED


def test_a_seed_gives_the_same_workload_with_every_script_in_it() -> None:
    lanes = plan(random.Random(7), 300, "x")
    assert lanes == plan(random.Random(7), 300, "x")
    assert {len(lane.entries) for lane in lanes} == {len(script) for script in SCRIPTS.values()}
    assert {lane.held for lane in lanes} == {None, "legacy", "spicedb", "temporal"}
    assert {lane.side_by_side for lane in lanes} == {True, False}
    entries = [entry for lane in lanes for entry in lane.entries]
    assert {entry.shared for entry in entries} == {True, False}
    assert any(entry.linger_seconds for entry in entries)
    assert {entry.thought_over for entry in entries} == {True, False}
    assert len({entry.key for entry in entries}) == len(entries) >= 300
