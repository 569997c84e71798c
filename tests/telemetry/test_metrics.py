"""What a worker's metrics say is what its ledger says."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome, Refused, Transient
from outbox.flow.table import EventType
from outbox.telemetry import catalogue
from outbox.telemetry.histograms import Histograms
from outbox.telemetry.instruments import Counted
from outbox.telemetry.requested import requested_at
from tests.store.conftest import Enqueue, Query
from tests.telemetry.ledger import Values, of_the_ledger
from tests.worker.conftest import Bench, bench, direct_only, enqueue, query, wire

__all__ = ["bench", "enqueue", "query", "wire"]


class Counts:
    """An observer that counts, and what it has counted."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._histograms = Histograms()
        self.observer = Counted(MeterProvider([self._reader]).get_meter("test"), self._histograms)

    def collected(self) -> Values:
        """The values of each metric by its labels' values; of a histogram, how many were recorded."""
        data = self._reader.get_metrics_data()
        assert data is not None
        found: Values = {
            metric.name: {
                tuple(str(label) for label in (point.attributes or {}).values()): getattr(point, "value", 0)
                for point in metric.data.data_points
            }
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        for one in self._histograms.read():
            found.setdefault(one.metric.name, {})[one.labels] = sum(one.counts)
        return found


def scripted(dispatch: Dispatch) -> Outcome:
    """By the schedule's name: refused in the end, done at the third attempt, parked, or done."""
    match dispatch.schedule_id.rpartition("--")[2], dispatch.event_type:
        case "refused", EventType.REGISTERED:
            return Refused(ErrorCode.REFUSED, "no")
        case "slow", EventType.REGISTERED if dispatch.attempt < 3:
            return Transient(ErrorCode.UNREACHABLE, "later", retry_after=0.0)
        case "parks", EventType.CREATE_REQUESTED:
            return Transient(ErrorCode.RACED, "again", retry_after=0.0)
    return Done()


@direct_only
async def test_each_counter_of_a_worker_agrees_with_the_ledger(
    bench: Bench, database: str, enqueue: Enqueue, query: Query
) -> None:
    for name in ("plain", "refused", "slow", "parks"):
        await enqueue(name)
    await enqueue("plain", "delete")
    for kind in ("create", "update", "update", "update"):
        await enqueue("changed", kind)
    bench.effects.behaviour = scripted
    counts = Counts()
    async with bench.worker(observer=counts.observer) as worker:
        await worker.run()
    found = counts.collected()

    ledger = await of_the_ledger(database)
    for metric in (catalogue.INTENTS_ENDED, catalogue.SETTLEMENTS):
        assert found[metric.name] == ledger[metric.name]
    assert set(found["outbox.intents.ended"]) == {
        ("create", "schedule.created", ""),
        ("create", "schedule.create_failed", "refused"),
        ("delete", "schedule.deleted", ""),
        ("update", "schedule.updated", ""),
    }
    assert found["outbox.intents.ended"]["update", "schedule.updated", ""] == 3
    errors = await query(
        "SELECT consumer, error_code, count(*) FROM outbox.attempts GROUP BY 1, 2"
        " UNION ALL SELECT 'temporal', 'refused', 1"
    )
    assert found["outbox.step.errors"] == {
        (row["consumer"], row["error_code"]): row["count"] for row in errors
    }
    made = sum(found["outbox.settlements"].values())
    assert sum(found["outbox.steps"].values()) == made == sum(found["outbox.steps.taken"].values())
    assert sum(found["outbox.effect.duration"].values()) == made
    assert found["outbox.settlements.dropped"] == {(): 0}
    assert found["outbox.intent.duration"] == {
        ("create", "succeeded"): 3,
        ("create", "failed"): 1,
        ("delete", "succeeded"): 1,
        ("update", "succeeded"): 3,
    }
    assert found["outbox.revocation.duration"] == {(): 1}


@direct_only
async def test_a_settlement_that_comes_too_late_is_dropped_and_counts_for_nothing_else(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()

    async def overtaken(_: Dispatch) -> Outcome:
        await query("UPDATE outbox.queue SET lease_number = lease_number + 1")
        await query("DELETE FROM outbox.queue")
        return Refused(ErrorCode.REFUSED, "no")

    bench.effects.behaviour = overtaken
    counts = Counts()
    async with bench.worker(observer=counts.observer) as worker:
        await worker.run()
    found = counts.collected()
    assert found["outbox.settlements.dropped"] == {(): 1}
    assert found["outbox.steps"] == {("authz", "register", "refused"): 1}
    assert "outbox.intents.ended" not in found
    assert "outbox.settlements" not in found


async def test_an_intents_id_tells_when_it_was_requested(enqueue: Enqueue, query: Query) -> None:
    intent = await enqueue()
    (row,) = await query("SELECT extract(epoch FROM created_at)::float8 AS at FROM outbox.intents")
    assert requested_at(intent) == pytest.approx(row["at"], abs=0.1)
