"""What a host does to a worker: a clock that is wrong, names that don't resolve, peers that vanish."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url
from structlog.testing import capture_logs

from outbox.store import engine as connections
from outbox.store import notifier
from outbox.store.notifier import Notifier
from outbox.testing.relay import Relay
from tests.debian import NotToBeHadError, unpacked
from tests.pipeline.harness import PATIENT, Pipeline, Process, environment_of, said
from tests.pipeline.ledger import until
from tests.pipeline.scenes import CREATE

REPAIRING = {"repair_concurrency": 2}
STORES = ("postgres", "spicedb", "temporal")
OWN_MOUNTS = ("unshare", "--mount")


@pytest.fixture(scope="module")
def faketime() -> Path:
    """A library that lets a process have another time of day."""
    try:
        return next(unpacked("libfaketime").rglob("libfaketime.so.1"))
    except NotToBeHadError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def own_mounts() -> None:
    if subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host lets nobody make a namespace of mounts")


async def test_the_clock_of_a_workers_host_decides_nothing(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faketime: Path
) -> None:
    """An hour ahead, and stepped to an hour behind while it runs."""
    soon = await pipeline.create("soon", end_at=datetime.now(UTC) + timedelta(minutes=30))
    ended = await pipeline.create("ended", end_at=datetime.now(UTC) + timedelta(days=1))
    await pipeline.work()
    for name in ("soon", "ended"):
        await pipeline.stores.drop_schedule(pipeline.lane(name))
    await pipeline.ledger.execute(
        """UPDATE outbox.intents SET request = request || jsonb_build_object(
               'end_at', clock_timestamp() - interval '30 minutes') WHERE id = %s""",
        ended.id,
    )
    host_clock = tmp_path / "clock"
    host_clock.write_text("+3600")
    for name, value in wrong(faketime, host_clock).items():
        monkeypatch.setenv(name, value)
    log = tmp_path / "worker.log"
    async with pipeline.process(log, **REPAIRING):
        await until("the worker to start", lambda: said(log, "worker.started"), seconds=120)
        await repaired(pipeline, "soon")
        found = await pipeline.stores.schedule(pipeline.lane("soon"))
        assert found
        assert found.stamp == str(soon.id)
        host_clock.write_text("-3600")
        await repaired(pipeline, "ended")
        assert await pipeline.stores.schedule(pipeline.lane("ended")) is None
        assert await pipeline.stores.tuples(pipeline.lane("ended")) == set()
        # A hold, a second attempt and a follower that waits.
        pipeline.temporal.lose_reply(CREATE)
        pipeline.temporal.fail(CREATE, status=grpc.StatusCode.INVALID_ARGUMENT)
        held = await pipeline.create("held")
        host_clock.write_text("+3600")
        await pipeline.ledger.await_event(held.id, "created")
    first, *_ = log.read_text().splitlines()
    said_at = datetime.fromisoformat(orjson.loads(first)["timestamp"])
    assert said_at - datetime.now(UTC) > timedelta(minutes=50), "only what is logged goes by it"


def test_a_clock_that_is_ahead_prunes_nothing_that_late_writes_need(
    database: str, tmp_path: Path, faketime: Path
) -> None:
    (tmp_path / "clock").write_text("+3600")
    ran = subprocess.run(
        [sys.executable, "-m", "outbox", "prune", "--older-than", "1h"],
        env={
            **os.environ,
            **wrong(faketime, tmp_path / "clock"),
            "OUTBOX_DATABASE_URL": database,
            "OUTBOX_SPICEDB_TOKEN": "token",
        },
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert (ran.returncode, "is too young" in ran.stderr) == (2, True)


def wrong(faketime: Path, clock: Path) -> dict[str, str]:
    """An environment where the time of day is as far off as the file says."""
    return {
        "LD_PRELOAD": str(faketime),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.usefixtures("own_mounts")
async def test_names_that_do_not_resolve_are_waited_for(pipeline: Pipeline, tmp_path: Path) -> None:
    """Those of the stores at the start, and all of them later."""
    log = tmp_path / "worker.log"
    async with named(pipeline, tmp_path, log) as (process, postgres):
        await until("the worker to start", lambda: said(log, "worker.started"), seconds=120)
        first = await pipeline.create("first")
        await pipeline.ledger.await_attempt(first.id, "unreachable")
        resolve(tmp_path, *STORES)
        await pipeline.ledger.await_event(first.id, "created")
        resolve(tmp_path)
        for end in (postgres.cut_all, pipeline.spicedb.cut_connections, pipeline.temporal.cut_connections):
            end()
        await until("Postgres to be missed", lambda: said(log, "take.postponed"))
        later = await pipeline.create("later")
        resolve(tmp_path, *STORES)
        await pipeline.ledger.await_event(later.id, "created")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    await pipeline.agree()


@pytest.mark.usefixtures("own_mounts")
def test_a_postgres_whose_name_does_not_resolve_is_one_line_and_3(tmp_path: Path) -> None:
    resolve(tmp_path)
    ran = subprocess.run(
        [*with_hosts(tmp_path), sys.executable, "-m", "outbox", "run"],
        env={
            **os.environ,
            "OUTBOX_DATABASE_URL": "postgresql://x@postgres.example/x",
            "OUTBOX_SPICEDB_TOKEN": "token",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 3
    *_, line, more = ran.stderr.splitlines()
    assert line.startswith("outbox: Postgres: failed to resolve host 'postgres.example'")
    assert more.startswith("help: https://")
    assert "OUTBOX_DATABASE_URL" in line


async def test_stores_whose_peer_vanished_cost_a_deadline_and_no_more(pipeline: Pipeline) -> None:
    before = await pipeline.create("before")
    async with pipeline.working():
        await pipeline.ledger.await_event(before.id, "created")
        async with pipeline.spicedb.black_hole():
            intent = await pipeline.create("registers")
            await pipeline.ledger.await_attempt(intent.id, "timed_out")
        await pipeline.ledger.await_event(intent.id, "created")
        async with pipeline.temporal.black_hole():
            intent = await pipeline.create("creates")
            await pipeline.ledger.await_attempt(intent.id, "timed_out")
        await pipeline.ledger.await_event(intent.id, "created")
    await pipeline.agree()


async def test_a_worker_whose_postgres_fell_silent_goes_on_when_it_answers(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy acknowledges what it doesn't pass on: TCP sees nothing amiss."""
    monkeypatch.setattr(connections, "_ANSWER_SECONDS", 1.0)
    url = make_url(pipeline.database_url)
    assert url.port
    async with Relay(url.port) as relay:
        through = SecretStr(url.set(port=relay.port).render_as_string(hide_password=False))
        with capture_logs() as logs:
            async with pipeline.working(database_url=through):
                before = await pipeline.create("before")
                await pipeline.ledger.await_event(before.id, "created")
                async with relay.silent():
                    await until("it to be given up", lambda: told(logs, "take.postponed"))
                    after = await pipeline.create("after")
                await pipeline.ledger.await_event(after.id, "created")
    await pipeline.agree()


async def test_a_listener_whose_peer_vanished_connects_anew(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "_HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(notifier, "_RECONNECT_SECONDS", 0.05)
    url = make_url(pipeline.database_url)
    assert url.port
    heard = asyncio.Event()
    async with Relay(url.port) as relay:
        through = Notifier(url.set(port=relay.port).render_as_string(hide_password=False))
        through.on_wake = heard.set
        async with through:
            await heard.wait()
            heard.clear()
            with capture_logs() as logs:
                async with relay.silent():
                    await until("it to be given up", lambda: told(logs, "notifier.lost"))
            await heard.wait()


@asynccontextmanager
async def named(pipeline: Pipeline, at: Path, log: Path) -> AsyncIterator[tuple[Process, Relay]]:
    """Inside, a worker runs that knows its stores by names; at first only Postgres' resolves."""
    url = make_url(pipeline.database_url)
    assert url.port
    resolve(at, "postgres")
    async with Relay(url.port) as postgres:
        through = url.set(host="postgres.example", port=postgres.port).render_as_string(hide_password=False)
        ends = {
            "database_url": SecretStr(through),
            "spicedb_endpoint": pipeline.spicedb.address.replace("127.0.0.1", "spicedb.example"),
            "temporal_address": pipeline.temporal.address.replace("127.0.0.1", "temporal.example"),
        }
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *with_hosts(at),
                *(sys.executable, "-m", "outbox", "run"),
                env=environment_of(pipeline.settings.model_copy(update=PATIENT | ends)),
                cwd=at,
                stderr=stderr,
            )
        try:
            yield process, postgres
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def resolve(at: Path, *names: str) -> None:
    """Let these names of stores resolve, and no others, for who runs with the hosts of this folder."""
    (at / "nsswitch").write_text("hosts: files\n")
    (at / "hosts").write_text(f"127.0.0.1 localhost {' '.join(f'{name}.example' for name in names)}\n")


def with_hosts(at: Path) -> list[str]:
    """How to start a process that resolves names by a folder's own files, and asks no DNS."""
    bind = 'mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/nsswitch" /etc/nsswitch.conf && exec "$@"'
    return [*OWN_MOUNTS, "sh", "-c", bind, str(at)]


async def told(logs: list[Any], event: str) -> bool:
    return any(entry["event"] == event for entry in logs)


async def repaired(pipeline: Pipeline, name: str) -> None:
    """Ask for a repair, and wait until it has ended."""
    asked = await pipeline.ledger.one("SELECT outbox.request_repair(%s) AS id", pipeline.lane(name))
    await pipeline.ledger.await_event(asked["id"], "repaired")
