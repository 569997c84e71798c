"""Workers audit by themselves: drifts are told, outages outlived, and what stops a worker stops its audit."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from tests.pipeline.harness import Pipeline
from tests.pipeline.ledger import until

AUDITING: dict[str, Any] = {"audit_rate_per_second": 1000.0}
ROUND_OVER = "SELECT 1 FROM outbox.audit WHERE last_found ? 'missing_schedule'"


def told(log: Path) -> list[dict[str, Any]]:
    whole = log.read_text().rpartition("\n")[0]
    return [line for line in map(json.loads, whole.splitlines()) if line["event"].startswith("audit.")]


async def test_a_worker_outlives_an_outage_tells_what_its_rounds_find_and_drains(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    await pipeline.create()
    await pipeline.work()
    await pipeline.stores.drop_schedule(pipeline.lane())
    log = tmp_path / "log"

    async def postponed() -> bool:
        return any(line["event"] == "audit.postponed" for line in told(log))

    async with pipeline.process(log, **AUDITING) as worker:
        async with pipeline.spicedb.outage():
            await until("the audit to be postponed", postponed)
        await pipeline.ledger.await_row(ROUND_OVER)
        worker.send_signal(signal.SIGTERM)
        async with asyncio.timeout(240):
            assert await worker.wait() == 0
    found = await pipeline.ledger.one("SELECT last_looked, last_found FROM outbox.audit")
    assert (found["last_looked"], found["last_found"]["missing_schedule"]) == (1, 1)
    drifts = [(line["schedule_id"], line["kind"]) for line in told(log) if line["event"] == "audit.drift"]
    assert (pipeline.lane(), "missing_schedule") in drifts
