"""A worker is killed before and after each effect, and before and after each settle; another one goes on.

One process has a step of each kind at its point when it is killed, each in a lane of its own.
"""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from grpc import StatusCode as Status
from pydantic import SecretStr
from sqlalchemy import make_url

from outbox.testing import FaultProxy, Gate
from outbox.testing.relay import Relay
from tests.pipeline.harness import Pipeline, Process
from tests.pipeline.ledger import until
from tests.pipeline.scenes import (
    CREATE,
    DELETE,
    DESCRIBE,
    REMOVE,
    SITES,
    WRITE,
    Scene,
    Site,
    When,
    set_the_scenes,
)

# All steps must have come to their points before the first lease ends.
DOOMED = {"step_timeout_seconds": 6.0, "lease_seconds": 6.0}
QUICK: dict[str, Any] = {"step_timeout_seconds": 1.0, "lease_seconds": 1.5, "late_write_seconds": 0.4}

LAST_CALLS = {
    "register": Site("create", WRITE),
    "create": Site("create", CREATE),
    "compensate": Site("broken", REMOVE),
    "delete": Site("delete", DELETE),
    "deregister": Site("delete", REMOVE),
}
"""The call that each step ends with."""

NEXT_CALLS = {
    "registered": Site("create", CREATE),
    "created": Site("create", DESCRIBE),
    "compensation-requested": Site("broken", WRITE, mark=True),
    "create-failed": Site("broken", WRITE, of_follower=True),
    "unscheduled": Site("delete", WRITE, mark=True),
    "deleted": Site("delete", WRITE, of_follower=True),
}
"""The first call after each event was settled."""


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
async def test_killed_at_each_effect(pipeline: Pipeline, tmp_path: Path, *, after_effect: bool) -> None:
    def gate(proxy: FaultProxy, method: str, when: When) -> Gate:
        return proxy.gate(method, after_effect=after_effect, when=when)

    scenes = await set_the_scenes(pipeline, gate, SITES)
    async with pipeline.process(tmp_path / "worker.log", **DOOMED) as process:
        await all_reached(scenes)
        await kill(pipeline, process, scenes)
    assert [scene.held(pipeline).forwarded for scene in scenes] == [after_effect] * len(scenes)
    await another_goes_on(pipeline, scenes)
    for scene in scenes:
        codes = [row["error_code"] for row in await pipeline.ledger.attempts(scene.intent.id)]
        assert "lease_expired" in codes, scene.name


async def test_killed_after_a_create_that_the_next_attempt_is_refused(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    gate = pipeline.temporal.gate(CREATE, after_effect=True)
    pipeline.temporal.fail(CREATE, status=Status.INVALID_ARGUMENT)
    intent = await pipeline.create()
    async with pipeline.process(tmp_path / "worker.log", **QUICK) as process:
        await gate.reached.wait()
        process.kill()
    await pipeline.work(**QUICK)
    assert await pipeline.ledger.ended_as(intent.id) == ("created", None)
    await pipeline.agree()


async def test_killed_before_each_settle(pipeline: Pipeline, tmp_path: Path) -> None:
    def gate(proxy: FaultProxy, method: str, when: When) -> Gate:
        return proxy.gate(method, after_effect=True, when=when)

    scenes = await set_the_scenes(pipeline, gate, LAST_CALLS)
    before = await log(pipeline)
    async with pipeline.process(tmp_path / "worker.log", **DOOMED) as process, pipeline.producer() as other:
        await all_reached(scenes)
        before = await log(pipeline)
        await lock_the_queue(other)
        for scene in scenes:
            scene.gate.open()
        for scene in scenes:
            await scene.held(pipeline).ended.wait()
        await until("the settle to wait", lambda: waits(pipeline, "outbox.settle"))
        await kill(pipeline, process, scenes)
        # Postgres would go on with what it was asked; here it never got that far.
        await pipeline.ledger.rows(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_WAITS}", "outbox.settle"
        )
        await until("the settle to be over", lambda: nothing_waits(pipeline, "outbox.settle"))
        await other.rollback()
    assert await log(pipeline) == before
    await another_goes_on(pipeline, scenes)


async def test_killed_after_each_settle(pipeline: Pipeline, tmp_path: Path) -> None:
    def gate(proxy: FaultProxy, method: str, when: When) -> Gate:
        return proxy.gate(method, when=when)

    scenes = await set_the_scenes(pipeline, gate, NEXT_CALLS)
    async with pipeline.process(tmp_path / "worker.log", **DOOMED) as process:
        await all_reached(scenes)
        await kill(pipeline, process, scenes)
    for scene in scenes:
        assert (await pipeline.ledger.events(scene.intent.id))[-1] == scene.name.replace("-", "_")
    await another_goes_on(pipeline, scenes)


async def test_every_worker_of_many_is_killed_again_and_again(pipeline: Pipeline, tmp_path: Path) -> None:
    """Two generations of two workers, killed as soon as a step of theirs is under way."""
    intents = []
    for number in range(6):
        intents.append(await pipeline.create(f"n-{number}", by="alice"))
        intents.append(await pipeline.delete(f"n-{number}"))
        intents.append(await pipeline.create(f"n-{number}", by="bob"))
    for generation in range(2):
        seen = len(pipeline.temporal.calls(CREATE))
        log = tmp_path / f"{generation}.log"
        async with pipeline.process(log, **QUICK) as one, pipeline.process(log, **QUICK) as two:
            await pipeline.temporal.wait_for_call(CREATE, seen + 1)
            one.kill()
            two.kill()
    await pipeline.work(**QUICK)
    for intent in intents[2::3]:
        assert (await pipeline.ledger.ended_as(intent.id))[0] == "created"
    await pipeline.agree()


async def test_postgres_drops_the_workers_connections(pipeline: Pipeline) -> None:
    intents = [await pipeline.create(f"n-{number}") for number in range(12)]
    async with pipeline.working(**QUICK, temporal_concurrency=2):
        for count in (1, 5, 9):
            await pipeline.temporal.wait_for_call(CREATE, count)
            await pipeline.ledger.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name LIKE 'outbox%%'"""
            )
        for intent in intents:
            await pipeline.ledger.await_event(intent.id, "created")
    await pipeline.agree()


async def test_a_worker_cut_off_within_its_claim_blocks_no_other(pipeline: Pipeline) -> None:
    url = make_url(pipeline.database_url)
    assert url.port
    intent = await pipeline.create()
    async with Relay(url.port) as relay, pipeline.producer() as other:
        await other.execute("LOCK TABLE outbox.turn_to_claim IN SHARE UPDATE EXCLUSIVE MODE")
        through = url.set(port=relay.port).render_as_string(hide_password=False)
        async with pipeline.working(database_url=SecretStr(through)):
            await until("the claim to wait", lambda: waits(pipeline, "outbox.claim"))
            async with relay.silent():
                # Its claim goes through now, and it will never hear of it, nor say anything more.
                await other.rollback()
                await pipeline.work(**QUICK)
    assert await pipeline.ledger.ended_as(intent.id) == ("created", None)
    await pipeline.agree()


async def test_a_worker_that_can_not_be_drained_is_cut_off_and_says_so(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    intent = await pipeline.create()
    gate = pipeline.temporal.gate(CREATE, after_effect=True)
    log_file = tmp_path / "log"
    async with (
        pipeline.process(log_file, drain_seconds=0.1, **QUICK) as process,
        pipeline.producer() as other,
    ):
        await gate.reached.wait()
        await lock_the_queue(other)
        gate.open()
        await until("the settle to wait", lambda: waits(pipeline, "outbox.settle"))
        process.terminate()
        assert await process.wait() == 1
    assert '"event": "worker.cut_off"' in log_file.read_text()
    await pipeline.work(**QUICK)
    assert await pipeline.ledger.ended_as(intent.id) == ("created", None)
    await pipeline.agree()


async def all_reached(scenes: list[Scene]) -> None:
    async with asyncio.timeout(240):
        await asyncio.gather(*(scene.gate.reached.wait() for scene in scenes))


async def kill(pipeline: Pipeline, process: Process, scenes: list[Scene]) -> None:
    process.kill()
    await process.wait()
    for scene in scenes:
        # From here on, what stood at a gate is never forwarded.
        await scene.held(pipeline).ended.wait()
        scene.gate.open()


async def another_goes_on(pipeline: Pipeline, scenes: list[Scene]) -> None:
    await pipeline.work(**QUICK)
    for scene in scenes:
        await scene.ends_as_without_faults(pipeline)
    await pipeline.agree()


async def log(pipeline: Pipeline) -> list[object]:
    rows = await pipeline.ledger.rows("SELECT id, intent_id, type FROM outbox.events ORDER BY id")
    return [tuple(row.values()) for row in rows]


async def lock_the_queue(connection: psycopg.AsyncConnection[object]) -> None:
    await connection.execute("SELECT FROM outbox.queue ORDER BY intent_id FOR UPDATE")


_WAITS = "datname = current_database() AND wait_event_type = 'Lock' AND strpos(query, %s) > 0"


async def waits(pipeline: Pipeline, function: str) -> bool:
    """Whether a worker's call of the function waits for a lock."""
    return bool(await pipeline.ledger.rows(f"SELECT FROM pg_stat_activity WHERE {_WAITS}", function))


async def nothing_waits(pipeline: Pipeline, function: str) -> bool:
    return not await waits(pipeline, function)
