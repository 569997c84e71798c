"""What a host does to a worker: a clock that is wrong, names that don't resolve, peers that vanish."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import orjson
import pytest

from tests.pipeline.harness import Pipeline
from tests.pipeline.scenes import CREATE

REPAIRING = {"repair_concurrency": 2}
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.mark.skipif(FAKETIME is None, reason="Debian's package faketime is not there")
async def test_the_clock_of_a_workers_host_decides_nothing(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    for name, value in wrong(host_clock).items():
        monkeypatch.setenv(name, value)
    log = tmp_path / "worker.log"
    async with pipeline.process(log, **REPAIRING):
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


@pytest.mark.skipif(FAKETIME is None, reason="Debian's package faketime is not there")
def test_a_clock_that_is_ahead_prunes_nothing_that_late_writes_need(database: str, tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("+3600")
    ran = subprocess.run(
        [sys.executable, "-m", "outbox", "prune", "--older-than", "1h"],
        env={
            **os.environ,
            **wrong(tmp_path / "clock"),
            "OUTBOX_DATABASE_URL": database,
            "OUTBOX_SPICEDB_TOKEN": "token",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, "is too young" in ran.stderr) == (2, True)


def wrong(clock: Path) -> dict[str, str]:
    """An environment where the time of day is as far off as the file says."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


async def repaired(pipeline: Pipeline, name: str) -> None:
    """Ask for a repair, and wait until it has ended."""
    asked = await pipeline.ledger.one("SELECT outbox.request_repair(%s) AS id", pipeline.lane(name))
    await pipeline.ledger.await_event(asked["id"], "repaired")
