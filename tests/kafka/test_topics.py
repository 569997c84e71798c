"""Topics, groups and connections: made by migrate, checked by doctor, told of by status; TLS and SASL."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from kafka import KafkaAdminClient
from typer.testing import CliRunner

from outbox.cli.main import app
from outbox.compose.kafka import create_topics, group_state, open_relay, topic_plans, topic_problems
from outbox.errors import StoreUnusable
from outbox.kafka.admin import TopicPlan
from outbox.kafka.connection import Cluster
from outbox.settings import Settings
from outbox.stack import kafka as broker_parts
from outbox.stack import kafka_jars, ports
from outbox.store.engine import open_engine
from outbox.store.instance import instance
from tests.kafka.brokers import broker as chosen_broker
from tests.kafka.conftest import Broker
from tests.store.conftest import Enqueue, Query
from tests.worker.conftest import Bench

PASSWORD = "not-a-secret"  # pragma: allowlist secret


def fresh(settings: Settings, **more: object) -> Settings:
    return settings.model_copy(update={"kafka_prefix": f"t{uuid4().hex[:12]}", **more})


def test_the_topics_that_the_settings_ask_for(settings: Settings) -> None:
    asked = settings.model_copy(
        update={
            "kafka_prefix": "p",
            "kafka_partitions": 7,
            "kafka_replication": 3,
            "kafka_dispatch_retention_hours": 2,
            "kafka_events_retention_hours": 48,
        }
    )
    assert topic_plans(asked) == [
        TopicPlan("p.dispatch.authz", 7, 3, 7_200_000),
        TopicPlan("p.dispatch.temporal", 7, 3, 7_200_000),
        TopicPlan("p.dispatch.both", 7, 3, 7_200_000),
        TopicPlan("p.events", 7, 3, 172_800_000),
    ]


async def test_missing_topics_are_made_once_and_found_right(settings: Settings) -> None:
    mine = fresh(settings)
    names = {plan.name for plan in topic_plans(mine)}
    assert await topic_problems(mine) == dict.fromkeys(names, "it is missing")
    assert set(create_topics(mine)) == names
    assert create_topics(mine) == []
    assert await topic_problems(mine) == {}


async def test_topics_that_fall_short_are_named_and_left_alone(settings: Settings) -> None:
    made = fresh(settings, kafka_partitions=2, kafka_events_retention_hours=1)
    create_topics(made)
    wants = made.model_copy(update={"kafka_partitions": 4, "kafka_events_retention_hours": 5})
    assert create_topics(wants) == []
    assert set((await topic_problems(wants)).values()) == {"it has 2 partitions, not 4"}
    if chosen_broker()[0] == "apache":
        keeps = made.model_copy(update={"kafka_events_retention_hours": 5})
        assert await topic_problems(keeps) == {f"{made.kafka_prefix}.events": "it keeps records 1 h, not 5 h"}


async def test_nobody_makes_topics_by_the_way(settings: Settings, enqueue: Enqueue) -> None:
    if chosen_broker()[0] != "apache":
        pytest.skip("tansu makes topics when they are asked for")
    mine = fresh(settings)
    await enqueue()
    async with open_relay(mine) as relay:
        running = asyncio.create_task(relay.run())
        async with asyncio.timeout(240):
            while not relay.recalled:  # noqa: ASYNC110 - a broker brings it about
                await asyncio.sleep(0.02)
        relay.stop()
        await running
    client = KafkaAdminClient(**Cluster.of(mine).options)
    try:
        assert not [name for name in client.list_topics() if name.startswith(mine.kafka_prefix)]
    finally:
        client.close()


async def test_a_kafka_that_is_away_is_named_with_the_way_out(settings: Settings) -> None:
    away = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:9"})
    with pytest.raises(StoreUnusable, match="OUTBOX_KAFKA_BOOTSTRAP"):
        create_topics(away)
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        state = await group_state(away, await instance(engine))
    assert "127.0.0.1:9" in state["error"]


async def test_the_state_of_the_group_tells_lag_and_members(
    bench: Bench, settings: Settings, broker: Broker, query: Query
) -> None:
    if chosen_broker()[0] != "apache":
        pytest.skip("tansu does not tell a group's lag")
    (row,) = await query("SELECT id FROM outbox.instance")
    broker.put("dispatch.temporal", b"{}", partition=1)
    broker.put("dispatch.temporal", b"{}", partition=3)
    before = await group_state(settings, row["id"])
    assert "error" not in before, before
    assert before["group"] == f"{settings.kafka_prefix}.workers.{row['id']}"
    assert {one["topic"].split(".")[-1]: (one["partitions"], one["lag"]) for one in before["topics"]} == {
        "authz": (4, 0),
        "temporal": (4, 2),
        "both": (4, 0),
    }
    async with bench.worker(until_idle=False) as worker:
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(240):
            while await shares(settings, row["id"]) != {(1, 0)}:  # noqa: ASYNC110 - a broker brings it about
                await asyncio.sleep(0.1)
        worker.stop()
        await running


async def shares(settings: Settings, outbox_id: UUID) -> set[tuple[int, int]]:
    """Members and lag, of every topic."""
    state = await group_state(settings, outbox_id)
    return {(one["members"], one["lag"]) for one in state["topics"]}


def test_commands_make_check_and_tell(
    settings: Settings, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = fresh(settings)
    found = {
        "OUTBOX_DATABASE_URL": database,
        "OUTBOX_KAFKA_BOOTSTRAP": str(mine.kafka_bootstrap),
        "OUTBOX_KAFKA_PREFIX": mine.kafka_prefix,
        "OUTBOX_KAFKA_PARTITIONS": "4",
        "OUTBOX_WIRE": "kafka",
        "OUTBOX_SPICEDB_ENDPOINT": "127.0.0.1:9",
        "OUTBOX_SPICEDB_TOKEN": "t",
        "OUTBOX_TEMPORAL_ADDRESS": "127.0.0.1:9",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> list[dict[str, Any]]:
        # A loop of the command's own needs a thread of its own here.
        answer = CliRunner().invoke(app, [*arguments, "--json"])
        return [orjson.loads(line) for line in answer.stdout.splitlines()]

    missing = [one for one in run("doctor") if one["component"] == "Kafka" and not one["ok"]]
    assert len(missing) == 4
    assert all("outbox migrate" in one["fix"] for one in missing)
    (migrated,) = run("migrate")
    assert sorted(migrated["topics"]) == sorted(plan.name for plan in topic_plans(mine))
    assert [one["ok"] for one in run("doctor") if one["component"] == "Kafka"] == [True, True]
    (status,) = run("status")
    assert status["dispatched"] == status["unpublished"] == 0
    if chosen_broker()[0] == "apache":
        assert [one["lag"] for one in status["kafka"]["topics"]] == [0, 0, 0]


# TLS and SCRAM.


@pytest.fixture
def secured(tmp_path: Path, kafka: str) -> Iterator[dict[str, object]]:
    """Settings for an Apache Kafka of its own that speaks TLS alone and asks who one is."""
    del kafka  # there to have the jars
    if chosen_broker()[0] != "apache":
        pytest.skip("tansu's users are made in another way")
    folder = tmp_path / "kafka"
    folder.mkdir()
    port, controller = ports.pick(set()), ports.pick(set())
    certificate = _certificate(folder)
    properties = broker_parts.apache_properties(folder, {"kafka": port, "kafka_controller": controller}) | {
        "listeners": f"SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"SASL_SSL://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required "
            f'username="outbox" password="{PASSWORD}";'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificate),
    }
    jars = kafka_jars.cache()
    user = f"SCRAM-SHA-512=[name=outbox,password={PASSWORD}]"
    broker_parts.format_storage(jars, folder, properties, "--add-scram", user)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            broker_parts.apache_command(jars, folder), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield {
            "kafka_bootstrap": f"127.0.0.1:{port}",
            "kafka_tls": True,
            "kafka_tls_ca": certificate,
            "kafka_sasl_mechanism": "SCRAM-SHA-512",
            "kafka_sasl_username": "outbox",
            "kafka_sasl_password": PASSWORD,
            "kafka_prefix": "secured",
            "kafka_partitions": 2,
        }
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=240)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself; for the broker, in one file with its key."""
    certificate, key = folder / "ca.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=kafka"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    (folder / "server.pem").write_text(key.read_text() + certificate.read_text())
    return certificate


async def test_steps_travel_over_tls_with_scram(
    secured: dict[str, object], database: str, enqueue: Enqueue, query: Query
) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                create_topics(Settings.model_validate(secured))
                break
            except StoreUnusable:
                await asyncio.sleep(0.5)
    await enqueue()
    async with Bench(database, secured).worker() as worker:
        await worker.run()
    assert len(await query("SELECT FROM outbox.events WHERE type = 'schedule.created'")) == 1

    for wrong in ({"kafka_sasl_password": "wrong"}, {"kafka_tls_ca": None}):  # pragma: allowlist secret
        with pytest.raises(StoreUnusable) as refused:
            create_topics(Settings.model_validate(secured | wrong))
        assert PASSWORD not in str(refused.value)
