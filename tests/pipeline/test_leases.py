"""Workers that come back after their lease, and dispatches that come twice, on the real stores."""

import asyncio
import signal
from pathlib import Path

import orjson
import pytest

from tests.pipeline.harness import PATIENT, Pipeline, ends_as, said
from tests.pipeline.ledger import until

WRITE = "WriteRelationships"
CREATE, DELETE, DESCRIBE = "CreateSchedule", "DeleteSchedule", "DescribeSchedule"


class TestLeases:
    """A settle names its lease; one that is over is dropped and counted."""

    @pytest.mark.both_wires
    async def test_a_worker_that_comes_back_after_its_lease_is_dropped(
        self, pipeline: Pipeline, tmp_path: Path
    ) -> None:
        gate = pipeline.temporal.gate(CREATE, after_effect=True)
        intent = await pipeline.create()
        async with pipeline.process(tmp_path / "worker.log", "--json") as process:
            await gate.reached.wait()
            process.send_signal(signal.SIGSTOP)
            # Its own clock stands still; another takes over when the lease ends.
            await pipeline.work()
            await ends_as(pipeline, intent.id, "created")
            before = await pipeline.ledger.rows("SELECT * FROM outbox.events ORDER BY id")
            gate.open()
            process.send_signal(signal.SIGCONT)
            await until("the settle to be dropped", lambda: said(tmp_path / "worker.log", "settle.dropped"))
            process.send_signal(signal.SIGTERM)
            stdout, _ = await process.communicate()
            assert process.returncode == 0
        assert orjson.loads(stdout)["dropped"] == 1
        assert await pipeline.ledger.rows("SELECT * FROM outbox.events ORDER BY id") == before
        (taken,) = [
            a for a in await pipeline.ledger.attempts(intent.id) if a["error_code"] == "lease_expired"
        ]
        assert taken["lease_number"] >= 1
        await pipeline.agree()

    @pytest.mark.both_wires
    async def test_a_worker_that_comes_back_does_not_settle_for_its_successor(
        self, pipeline: Pipeline, tmp_path: Path
    ) -> None:
        mine = pipeline.temporal.gate(CREATE, after_effect=True)
        successors = pipeline.temporal.gate(CREATE)
        intent = await pipeline.create()
        async with pipeline.process(tmp_path / "worker.log") as process:
            await mine.reached.wait()
            process.send_signal(signal.SIGSTOP)
            async with pipeline.working(**PATIENT):
                await successors.reached.wait()
                leased = await pipeline.ledger.head(intent.id)
                mine.open()
                process.send_signal(signal.SIGCONT)
                await until(
                    "the settle to be dropped", lambda: said(tmp_path / "worker.log", "settle.dropped")
                )
                assert await pipeline.ledger.events(intent.id) == ["create.requested", "registered"]
                assert await pipeline.ledger.head(intent.id) == leased
                # The settle was late, not wrong: the successor finds the schedule.
                successors.open()
                await pipeline.ledger.await_event(intent.id, "created")
        await pipeline.agree()

    async def test_a_worker_that_was_stopped_within_a_delete_wakes_up_to_nothing(
        self, pipeline: Pipeline, tmp_path: Path
    ) -> None:
        """For longer than its lease, its deadline and the hold for late writes; then it works on."""
        await pipeline.create(by="alice")
        await pipeline.work()
        looked = pipeline.temporal.gate(DESCRIBE, after_effect=True)
        await pipeline.delete()
        again = await pipeline.create(by="bob")
        async with pipeline.process(tmp_path / "worker.log") as process:
            await looked.reached.wait()
            process.send_signal(signal.SIGSTOP)
            # It will find the answer that the victim is there, and its deadline long gone.
            looked.open()
            await pipeline.work()
            await ends_as(pipeline, again.id, "created")
            process.send_signal(signal.SIGCONT)
            await until("the settle to be dropped", lambda: said(tmp_path / "worker.log", "settle.dropped"))
            assert len(pipeline.temporal.calls(DELETE)) == 1
            later = await pipeline.create("later")
            await pipeline.ledger.await_event(later.id, "created")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        await pipeline.agree()

    @pytest.mark.direct_wire
    async def test_a_duplicate_dispatch_changes_nothing(self, pipeline: Pipeline) -> None:
        intent = await pipeline.create()
        async with pipeline._open() as worker:
            worker.stop()  # what follows is left to others
            (dispatch,) = await worker._source.take(worker._credit.for_claim())
            for _ in range(2):
                await worker._work(dispatch)
                await worker._settler.flush()
            assert worker.summary()["dropped"] == 1
        assert await pipeline.ledger.events(intent.id) == ["create.requested", "registered"]
        assert len(pipeline.spicedb.calls(WRITE)) == 2
        await pipeline.work()
        await pipeline.agree()

    @pytest.mark.direct_wire
    async def test_an_outcome_twice_in_one_batch_settles_once(self, pipeline: Pipeline) -> None:
        intent = await pipeline.create()
        async with pipeline._open() as worker:
            worker.stop()  # what follows is left to others
            (dispatch,) = await worker._source.take(worker._credit.for_claim())
            await asyncio.gather(worker._work(dispatch), worker._work(dispatch))
            await worker._settler.flush()
        assert await pipeline.ledger.events(intent.id) == ["create.requested", "registered"]
        await pipeline.work()
        await pipeline.agree()
