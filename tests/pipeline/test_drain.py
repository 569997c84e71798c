"""Workers that are told to stop, on the real stores."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from outbox.stack import Stack
from tests.pipeline.harness import PATIENT, Pipeline, ends_as, said
from tests.pipeline.ledger import until
from tests.stack.containers import ContainerStack

CREATE = "CreateSchedule"


@pytest.mark.both_wires
class TestDrain:
    """A worker that is told to stop settles or releases what it has, and ends in bounded time."""

    async def test_sigterm_with_a_step_that_does_not_end(self, pipeline: Pipeline, tmp_path: Path) -> None:
        stuck = pipeline.temporal.gate(CREATE, when=pipeline.about(pipeline.lane("stuck")))
        settings = {**PATIENT, "drain_seconds": 0.5}
        intent = await pipeline.create("stuck")
        async with pipeline.process(tmp_path / "worker.log", **settings) as process:
            await stuck.reached.wait()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        # It did not wait for the step, which stands at its gate still.
        (released,) = await pipeline.ledger.attempts(intent.id)
        assert released["error_code"] == "released"
        await pipeline.work()
        await ends_as(pipeline, intent.id, "created")
        await pipeline.agree()

    @pytest.mark.parametrize("server", ["postgres", "spicedb", "temporal"])
    async def test_sigterm_while_a_server_hangs(
        self, pipeline: Pipeline, running_stack: Stack | ContainerStack, tmp_path: Path, server: Any
    ) -> None:
        await pipeline.create()
        async with pipeline.process(tmp_path / "worker.log", drain_seconds=0.5) as process:
            await until("it to work", lambda: said(tmp_path / "worker.log", "worker.started"))
            running_stack.pause(server)
            try:
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(240):
                    code = await process.wait()
            finally:
                running_stack.resume(server)
            # What hangs in Postgres, a claim for one, is cut off; and that can be told from a drain.
            cut_off = server == "postgres" and await said(tmp_path / "worker.log", "worker.cut_off")
            assert code == int(cut_off)
        await pipeline.work()
        await pipeline.agree()

    async def test_sigterm_lets_a_step_finish(self, pipeline: Pipeline, tmp_path: Path) -> None:
        gate = pipeline.temporal.gate(CREATE)
        intent = await pipeline.create()
        follower = await pipeline.delete()
        patient = {**PATIENT, "drain_seconds": 20.0}
        async with pipeline.process(tmp_path / "worker.log", **patient) as process:
            await gate.reached.wait()
            process.send_signal(signal.SIGTERM)
            await until("it to drain", lambda: said(tmp_path / "worker.log", "worker.draining"))
            gate.open()
            assert await process.wait() == 0
        await ends_as(pipeline, intent.id, "created")
        assert await pipeline.ledger.attempts(intent.id) == []
        assert await pipeline.ledger.events(follower.id) == ["delete.requested"]
        await pipeline.work()
        await pipeline.agree()
