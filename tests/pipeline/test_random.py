"""Random intents under random faults, against a plain model of what must be true at the end.

The faults are those that cost time and decide nothing: with them, a lane's outcome follows from the order of
its intents alone. Derandomized: the examples are the same in every run; a failing one is printed as code.
``OUTBOX_TEST_EXPLORE=1`` looks for new ones, with the seed that ``--hypothesis-seed`` takes.
"""

import os
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from grpc import StatusCode as Status
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from temporalio.api.workflowservice.v1 import CreateScheduleRequest

from outbox import Principal
from outbox.testing import FaultProxy, Late
from outbox.testing.faults import ApplyLate
from tests.pipeline.harness import BAD_CRON, Pipeline
from tests.pipeline.scenes import CREATE, DELETE, DESCRIBE, READ, REMOVE, UPDATE, WRITE

QUICK: dict[str, Any] = {
    "step_timeout_seconds": 0.6,
    "lease_seconds": 0.8,
    "late_write_seconds": 0.2,
    "retry_base_seconds": 0.01,
    "poll_interval_seconds": 0.02,
    "repair_concurrency": 2,
}
EXPLORE = "OUTBOX_TEST_EXPLORE" in os.environ
LANES = 4


@dataclass(frozen=True)
class Entry:
    """One intent of a random run: a create of a kind, an update, or (None) a delete."""

    lane: int
    by: str | None
    kind: str | None

    def outcome(self, live: "Entry | None") -> tuple[str, str | None]:
        """How it must end, given what lives in the lane."""
        if self.kind is None:
            return "deleted", None
        if self.kind == "update":
            return ("updated", None) if live is not None else ("update_failed", "not_live")
        if live is not None:
            return "create_failed", "conflict_live"
        return ("create_failed", "refused") if self.kind == "broken" else ("created", None)


@dataclass(frozen=True)
class Trouble:
    """One fault, for one of the next calls of a method."""

    method: str
    kind: str
    skip: int

    def arm(self, proxy: FaultProxy) -> Late | None:
        which: Any = {"skip": self.skip}
        match self.kind:
            case "late":
                return proxy.apply_late(self.method, **which)
            case "lost":
                proxy.lose_reply(self.method, **which)
            case "silent":
                proxy.lose_reply(self.method, status=None, **which)
            case "swallowed":
                proxy.swallow(self.method, **which)
            case "cut":
                proxy.cut(self.method, **which)
            case "cut-after":
                proxy.cut(self.method, after_effect=True, **which)
            case status:
                proxy.fail(self.method, status=Status[status], **which)
        return None


ENTRIES = st.builds(
    Entry,
    lane=st.integers(0, LANES - 1),
    by=st.sampled_from(["alice", "bob", "carol", None]),
    kind=st.sampled_from(["good", "good", "broken", "update", "update", None, None]),
)
KINDS = ["lost", "silent", "swallowed", "cut", "cut-after", "UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED"]
TROUBLES = st.builds(
    Trouble,
    method=st.sampled_from([WRITE, WRITE, REMOVE, READ, CREATE, CREATE, UPDATE, DELETE, DESCRIBE]),
    # What arrives late may arrive whenever it likes, save what has no condition.
    kind=st.sampled_from([*KINDS, "late", "late"]),
    skip=st.integers(0, 3),
).filter(lambda trouble: not (trouble.method in {UPDATE, DELETE} and trouble.kind == "late"))


@pytest.mark.campaign(seconds=20)
@settings(
    max_examples=200 if EXPLORE else 12,
    derandomize=not EXPLORE,
    database=None,
    deadline=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    entries=st.lists(ENTRIES, min_size=6, max_size=16),
    troubles=st.lists(TROUBLES, min_size=1, max_size=6),
    workers=st.integers(1, 2),
)
async def test_random_intents_under_random_faults(
    pipeline: Pipeline, entries: list[Entry], troubles: list[Trouble], workers: int
) -> None:
    run = uuid4().hex[:8]
    expected = model(entries)
    intents = [await enqueue(pipeline, entry, f"{run}-{entry.lane}") for entry in entries]
    lates = [late for trouble in troubles if (late := trouble.arm(proxy_of(pipeline, trouble)))]
    note(f"lanes {pipeline.lane(run)}-*")
    if workers > 1:
        async with pipeline.working(**QUICK):
            await pipeline.work(**QUICK)
    else:
        await pipeline.work(**QUICK)
    pipeline.spicedb.clear()
    pipeline.temporal.clear()
    assert [await pipeline.ledger.ended_as(intent.id) for intent in intents] == expected
    await pipeline.agree()
    for late in lates:
        await release(pipeline, late)
    await pipeline.agree()
    await clear(pipeline)


def model(entries: list[Entry]) -> list[tuple[str, str | None]]:
    """What a lane does, were there no stores and no faults."""
    live: dict[int, Entry | None] = {}
    outcomes = []
    for entry in entries:
        outcome = entry.outcome(live.get(entry.lane))
        if outcome[0] == "created":
            live[entry.lane] = entry
        elif outcome[0] == "deleted":
            live[entry.lane] = None
        outcomes.append(outcome)
    return outcomes


async def enqueue(pipeline: Pipeline, entry: Entry, name: str) -> Any:
    by = Principal(user_id=entry.by)
    if entry.kind is None:
        return await pipeline.delete(name, by=by)
    if entry.kind == "update":
        return await pipeline.update(name, by=by, timezone="Europe/Berlin")
    return await pipeline.create(name, by=by, cron=BAD_CRON if entry.kind == "broken" else "0 3 * * *")


def proxy_of(pipeline: Pipeline, trouble: Trouble) -> FaultProxy:
    return pipeline.spicedb if trouble.method in {WRITE, REMOVE, READ} else pipeline.temporal


async def release(pipeline: Pipeline, late: Late) -> None:
    """Let a late request arrive, far beyond the bound.

    A create, where nothing of its name lives, would live again: that is for the audit to find.
    """
    if late.held.is_set():
        for call in pipeline.temporal.calls(CREATE):
            if isinstance(call.fault, ApplyLate) and call.fault.late is late:
                schedule_id = CreateScheduleRequest.FromString(call.request).schedule_id
                if await pipeline.stores.schedule(schedule_id) is None:
                    return
        await late.release()


async def clear(pipeline: Pipeline) -> None:
    """Empty the ledger between examples: each is judged whole, and none of them twice."""
    await pipeline.ledger.execute(
        "TRUNCATE outbox.intents, outbox.events, outbox.attempts, outbox.queue, outbox.lanes, outbox.breakers"
    )
