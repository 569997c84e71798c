"""P9: an audit beside the plainest reading of both stores, and its memory over stores that are not there."""

import asyncio
import json
import subprocess
import sys

import grpc
import psycopg
from authzed.api.v1 import Consistency, ReadRelationshipsRequest, RelationshipFilter
from authzed.api.v1.permission_service_pb2_grpc import PermissionsServiceStub
from temporalio.client import Client

import outbox
from outbox.audit.sweep import Tally, survey
from outbox.compose.audit import compare_stores
from outbox.settings import Settings
from tests.audit.test_audit import Many
from tests.bench.intake import OWNER
from tests.bench.measure import Result, Side, check, in_turn, middle, peak_memory
from tests.bench.stage import Stage
from tests.bench.stores import entries, real_stores, settings_of, worker_on

_MOST_SECONDS = 600


async def agreement(stage: Stage) -> list[Result]:
    """P9: the time of an audit, and its memory with a hundred thousand schedules beside a thousand."""
    return [await _time(stage), await _memory(stage)]


async def _time(stage: Stage) -> Result:
    schedules = stage.scale.of(5000, least=5)
    asked = entries(schedules)
    prefix = asked[0].schedule_id.partition("--")[0]
    with stage.database() as url:
        async with real_stores(stage) as stores:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as line:
                for begin in range(0, schedules, 500):
                    await outbox.enqueue_many(line, [(one, OWNER) for one in asked[begin : begin + 500]])
            async with worker_on(url, stores) as (worker, _):
                await worker.run()
        settings = settings_of(stage, url)
        await _come_to_rest(settings, prefix, schedules)
        ours, theirs = await in_turn(
            stage.scale.rounds,
            lambda: _audit(stage, settings, prefix, schedules),
            lambda: _read(stage, settings, prefix, schedules),
        )
    # The ratio is that of the times.
    ratios = [mine.seconds / plain.seconds for mine, plain in zip(ours, theirs, strict=True)]
    detail = {"audit": middle(ours), "plain_reading": middle(theirs), "schedules": schedules}
    return Result.of("P9/time", ratios, at_most=1.2, detail=detail)


async def _audit(stage: Stage, settings: Settings, prefix: str, schedules: int) -> Side:
    with stage.meter() as reading:
        report = await compare_stores(settings, prefix=prefix)
    check(report.live == schedules and not report.drifts, f"{report.live} live, {len(report.drifts)} drifts")
    return reading.side(schedules)


async def _read(stage: Stage, settings: Settings, prefix: str, schedules: int) -> Side:
    """Every relationship and every schedule, one store after the other, as the clients' own pages show it."""
    token = settings.spicedb_token
    check(token is not None, "the stack's SpiceDB has a token")
    bearer = (("authorization", f"Bearer {token.get_secret_value() if token else ''}"),)
    of_schedules = ReadRelationshipsRequest(
        consistency=Consistency(fully_consistent=True),
        relationship_filter=RelationshipFilter(
            resource_type="agent_schedule", optional_resource_id_prefix=prefix
        ),
    )
    with stage.meter() as reading:
        async with grpc.aio.insecure_channel(settings.spicedb_endpoint) as channel:
            read = PermissionsServiceStub(channel).ReadRelationships(of_schedules, metadata=bearer)
            objects = {answer.relationship.resource.object_id async for answer in read}
        listed = await _listed(settings, prefix)
    check(len(objects) == schedules, f"SpiceDB has {len(objects)}")
    check(len(listed) == schedules, f"Temporal lists {len(listed)}")
    return reading.side(schedules)


async def _listed(settings: Settings, prefix: str) -> set[str]:
    client = await Client.connect(settings.temporal_address)
    return {entry.id async for entry in await client.list_schedules() if entry.id.startswith(prefix)}


async def _come_to_rest(settings: Settings, prefix: str, schedules: int) -> None:
    """Wait until Temporal lists them all: an audit looks one by one at what the list doesn't show yet."""
    async with asyncio.timeout(_MOST_SECONDS):
        while len(await _listed(settings, prefix)) < schedules:  # noqa: ASYNC110 - it is the server that goes on
            await asyncio.sleep(1.0)


async def _memory(stage: Stage) -> Result:
    amounts = (stage.scale.of(1000), stage.scale.of(100_000, least=100))
    few, many = [await asyncio.to_thread(_peak, amount) for amount in amounts]
    detail = {"schedules": list(amounts), "peak_mib": [round(peak / 2**20, 1) for peak in (few, many)]}
    return Result("P9/memory", many / few, at_most=1.2, spread=(many / few,) * 2, detail=detail)


def _peak(amount: int) -> int:
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.audit", str(amount)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_MOST_SECONDS,
    )
    check(run.returncode == 0, run.stderr[-2000:])
    return int(json.loads(run.stdout)["peak"])


async def _survey(amount: int) -> None:
    tally = Tally()
    found = [one async for one in survey(Many(count=amount), tally)]
    check(tally.lanes == amount, f"{tally.lanes} lanes, {len(found)} findings")
    print(json.dumps({"peak": peak_memory()}))  # noqa: T201 - the answer


if __name__ == "__main__":
    asyncio.run(_survey(int(sys.argv[1])))
