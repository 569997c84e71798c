"""Public events: every event of a schedule, in the order of its lane, at least once, as CloudEvents."""

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from structlog.testing import capture_logs

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done, Outcome, Refused
from outbox.flow.table import Consumer, EventType
from outbox.kafka import cloudevents
from outbox.kafka.producer import Producer, Record
from outbox.settings import Settings
from outbox.store.engine import open_engine
from outbox.store.instance import instance
from outbox.testing import armed
from tests.kafka.conftest import Broker, Work, drained, publishing
from tests.store.conftest import Enqueue, Query
from tests.worker.conftest import Bench

FROZEN = Path(__file__).parent / "schemas" / "event.1.json"


@pytest.fixture(params=["direct", "kafka"])
def bench(request: pytest.FixtureRequest, database: str, topics: dict[str, object]) -> Bench:
    return Bench(database, topics if request.param == "kafka" else None)


def types(records: Sequence[Any]) -> dict[str, list[str]]:
    """Per schedule, the types in the order of the topic."""
    found: dict[str, list[str]] = defaultdict(list)
    for record in records:
        found[record.key.decode().split("--")[1]].append(orjson.loads(record.value)["type"])
    return found


async def test_every_event_of_a_lane_comes_in_its_order(
    bench: Bench, work: Work, settings: Settings, broker: Broker, *, enqueue: Enqueue, query: Query
) -> None:
    def refuse_the_bad(dispatch: Dispatch) -> Outcome:
        bad = dispatch.schedule_id.endswith("bad") and dispatch.event_type is EventType.REGISTERED
        return Refused(ErrorCode.REFUSED, "bad cron") if bad else Done()

    bench.effects.behaviour = refuse_the_bad
    await enqueue("good")
    await enqueue("good", "delete")
    await enqueue("good")
    await enqueue("bad")
    await work()
    async with publishing(settings):
        await drained(query)
    made = ["schedule.create.requested", "schedule.registered", "schedule.created"]
    gone = ["schedule.delete.requested", "schedule.unscheduled", "schedule.deleted"]
    assert types(broker.read("events")) == {
        "good": [*made, *gone, *made],
        "bad": [
            "schedule.create.requested",
            "schedule.registered",
            "schedule.compensation_requested",
            "schedule.create_failed",
        ],
    }


async def test_an_event_is_a_cloudevent_in_binary_mode(
    bench: Bench,
    work: Work,
    settings: Settings,
    broker: Broker,
    *,
    enqueue: Enqueue,
    query: Query,
    agent: str,
) -> None:
    bench.effects.behaviour = lambda _: Refused(ErrorCode.CONFLICT_FOREIGN, "somebody else's")
    intent = await enqueue("s")
    await work()
    async with publishing(settings), open_engine(settings.database_url.get_secret_value()) as engine:
        await drained(query)
        outbox_id = await instance(engine)
    _, failed = broker.read("events")
    headers = {name: value.decode() for name, value in failed.headers}
    (event,) = await query("SELECT id, at FROM outbox.events WHERE type = 'schedule.create_failed'")
    assert datetime.fromisoformat(headers.pop("ce_time")) == event["at"]
    assert int(headers.pop("ce_sequence")) > 0
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": f"{outbox_id}/{event['id']}",
        "ce_source": f"/agent-schedule-outbox/{outbox_id}",
        "ce_type": "schedule.create_failed",
        "ce_subject": f"{agent}--s",
        "ce_dataschema": "urn:agent-schedule-outbox:event:1",
        "content-type": "application/json",
    }
    assert failed.key == f"{agent}--s".encode()
    data = orjson.loads(failed.value)
    assert datetime.fromisoformat(data.pop("at")) == event["at"]
    assert data == {
        "schedule_id": f"{agent}--s",
        "agent_id": agent,
        "name": "s",
        "intent_id": str(intent),
        "kind": "create",
        "type": "schedule.create_failed",
        "terminal": True,
        "status": "failed",
        "consumer": "authz",
        "attempt": 1,
        "error": {"code": "conflict_foreign", "message": "somebody else's"},
        "superseded_by": None,
    }


class Unlucky(Producer):
    """Loses some acknowledgements: the record may have arrived or not."""

    def __init__(self, settings: Settings, *, arrives: bool) -> None:
        super().__init__(Broker(settings).cluster.options)
        self._arrives = arrives
        self._unlucky = 0

    async def send(self, records: Sequence[Record]) -> list[bool]:
        self._unlucky += 1
        if self._unlucky % 3:
            return await super().send(records)
        if self._arrives:
            await super().send(records)
        return [False] * len(records)


@pytest.mark.parametrize("arrives", [True, False], ids=["arrived", "lost"])
@pytest.mark.parametrize("bench", ["direct"], indirect=True)
async def test_no_event_overtakes_one_that_was_not_acknowledged(
    work: Work, settings: Settings, broker: Broker, enqueue: Enqueue, query: Query, *, arrives: bool
) -> None:
    for _ in range(3):
        for lane in ("a", "b"):
            await enqueue(lane)
            await enqueue(lane, "delete")
    await work()
    # Two at once, to take turns, and each with its own luck.
    async with (
        publishing(settings, Unlucky(settings, arrives=arrives)),
        publishing(settings, Unlucky(settings, arrives=arrives)),
    ):
        await drained(query)
    for lane in ("a", "b"):
        records = [one for one in broker.read("events") if one.key.decode().endswith(f"--{lane}")]
        numbers = [int(dict(one.headers)["ce_sequence"]) for one in records]
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts)
        assert len(firsts) == 18
        assert len(numbers) > 18 if arrives else len(numbers) == 18


class Watched(Producer):
    """Looks, before each wave, whether the publisher's transaction holds vacuum back."""

    def __init__(self, settings: Settings, query: Query) -> None:
        super().__init__(Broker(settings).cluster.options)
        self._query = query
        self.waves: list[list[dict[str, Any]]] = []

    async def send(self, records: Sequence[Record]) -> list[bool]:
        self.waves.append(
            await self._query(
                "SELECT backend_xid, backend_xmin FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle in transaction'"
            )
        )
        return await super().send(records)


@pytest.mark.parametrize("bench", ["direct"], indirect=True)
async def test_waiting_for_the_broker_holds_no_vacuum_back(
    work: Work, settings: Settings, enqueue: Enqueue, query: Query
) -> None:
    await enqueue("a")
    await enqueue("a", "delete")
    await work()
    watched = Watched(settings, query)
    async with publishing(settings, watched):
        await drained(query)
    assert len(watched.waves) == 6, "one event of a lane a wave"
    assert watched.waves == [[{"backend_xid": None, "backend_xmin": None}]] * 6


@pytest.mark.parametrize("bench", ["direct"], indirect=True)
async def test_a_publisher_that_fails_is_started_again(
    work: Work, settings: Settings, broker: Broker, enqueue: Enqueue, query: Query
) -> None:
    await enqueue("a")
    await work()
    failing = iter([True])

    async def fail_once() -> None:
        if next(failing, False):
            raise ZeroDivisionError("a defect")

    with armed("publisher.before", fail_once), capture_logs() as logs:
        async with publishing(settings):
            await drained(query)
    assert [line["task"] for line in logs if line["event"] == "task.failed"] == ["publisher"]
    assert [len(one) for one in types(broker.read("events")).values()] == [3]


@pytest.mark.parametrize("bench", ["direct"], indirect=True)
async def test_who_does_not_publish_writes_nothing_for_it(
    bench: Bench, enqueue: Enqueue, query: Query
) -> None:
    await enqueue()
    async with bench.worker() as worker:
        await worker.run()
    assert await query("SELECT FROM outbox.publications") == []


@pytest.mark.parametrize("bench", ["direct"], indirect=True)
async def test_an_intent_is_not_pruned_before_its_events_are_published(
    work: Work, settings: Settings, enqueue: Enqueue, query: Query
) -> None:
    intent = await enqueue("s")
    await enqueue("s", "delete")
    await work()
    prune = "SELECT outbox.prune(clock_timestamp(), ARRAY[%s]::uuid[]) AS gone"
    assert await query(prune, intent) == [{"gone": 0}]
    async with publishing(settings):
        await drained(query)
    assert await query(prune, intent) == [{"gone": 1}]


# The schema.


async def test_what_is_published_is_what_the_schema_says(
    bench: Bench, work: Work, settings: Settings, broker: Broker, *, enqueue: Enqueue, query: Query
) -> None:
    answers: dict[Consumer, Outcome] = {Consumer.TEMPORAL: Refused(ErrorCode.REFUSED, "no")}
    bench.effects.behaviour = lambda dispatch: answers.get(dispatch.consumer, Done())
    await enqueue("failed")
    await work()
    bench.effects.behaviour = lambda _: Done()
    await enqueue("made")
    await enqueue("made", "delete")
    await work()
    async with publishing(settings):
        await drained(query)
    validator = jsonschema.Draft202012Validator(cloudevents.schema())
    strict = copy.deepcopy(cloudevents.schema()) | {"additionalProperties": False}
    for record in broker.read("events"):
        validator.validate(orjson.loads(record.value))
        # What is published is described, too.
        jsonschema.validate(orjson.loads(record.value), strict)


def incompatible(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What a subscriber to the old schema could stumble over in the new one."""
    found = [
        f"{name} is not always there any more" for name in old["required"] if name not in new["required"]
    ]
    for name, was in old["properties"].items():
        now = new["properties"].get(name)
        if now is None:
            found.append(f"{name} is gone")
        elif "enum" in was and not set(was["enum"]) <= set(now.get("enum", ())):
            found.append(f"{name} can't be what it could")
        elif {key: was.get(key) for key in ("type", "format", "anyOf")} != {
            key: now.get(key) for key in ("type", "format", "anyOf")
        }:
            found.append(f"{name} is of another type")
    return found


def test_the_schema_only_grows() -> None:
    assert incompatible(orjson.loads(FROZEN.read_bytes()), cloudevents.schema()) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda new: new["properties"].pop("attempt"), "attempt is gone"),
        (lambda new: new["required"].remove("name"), "name is not always there any more"),
        (lambda new: new["properties"]["kind"]["enum"].remove("repair"), "kind can't be what it could"),
        (lambda new: new["properties"]["terminal"].update(type="string"), "terminal is of another type"),
    ],
)
def test_a_change_that_breaks_subscribers_is_found(
    change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    new = orjson.loads(FROZEN.read_bytes())
    change(new)
    assert complaint in incompatible(orjson.loads(FROZEN.read_bytes()), new)
