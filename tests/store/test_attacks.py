"""What roles try that they may not: each attack by name, as the role that makes it."""

import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest

from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Done
from outbox.flow.settlement import RetryPolicy, Settlement, decide
from outbox.flow.table import Consumer, Live
from outbox.store.work import WorkStore
from tests.store.conftest import Enqueue, Query
from tests.store.roles import connected_as

ALL = {Consumer.AUTHZ: 10, Consumer.TEMPORAL: 10}
SETTLE = "SELECT stale FROM outbox.settle(%s::jsonb, '{}', 1, 1, 1, 1, false)"
REQUEST: dict[str, Any] = {
    "agent_id": "a",
    "name": "n",
    "workflow_name": "W",
    "task_queue": "q",
    "interval_seconds": 60,
}
# What a role may put into a schema that comes first on its own search path.
SHADOWED = (
    "clock_timestamp() RETURNS timestamptz",
    "jsonb_typeof(jsonb) RETURNS text",
    "cardinality(anyarray) RETURNS integer",
    "pg_notify(text, text) RETURNS void",
    "setval(regclass, bigint) RETURNS bigint",
    "of(jsonb, text) RETURNS text",
    "same(text, text) RETURNS boolean",
    "joined(jsonb, jsonb) RETURNS jsonb",
)
SHADOWS = (
    "".join(
        f"CREATE FUNCTION {{0}}.{one} LANGUAGE plpgsql AS $$ BEGIN RAISE 'shadowed'; END $$;"
        for one in SHADOWED
    )
    + """
CREATE OPERATOR {0}.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = {0}.of);
CREATE OPERATOR {0}.= (LEFTARG = text, RIGHTARG = text, FUNCTION = {0}.same);
CREATE OPERATOR {0}.|| (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = {0}.joined);
CREATE TABLE {0}.intents (id uuid);
CREATE TABLE {0}.queue (intent_id uuid);
CREATE DOMAIN {0}.timestamptz AS text CHECK (false);
"""
)
RIGHTS = """
SELECT p.proname AS name FROM pg_proc p
 WHERE p.pronamespace = 'outbox'::regnamespace AND has_function_privilege('outbox_producer', p.oid, 'EXECUTE')
UNION ALL
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = 'outbox'::regnamespace
   AND CASE c.relkind
       WHEN 'S' THEN has_sequence_privilege('outbox_producer', c.oid, 'USAGE, SELECT, UPDATE')
       ELSE has_table_privilege('outbox_producer', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
         OR has_any_column_privilege('outbox_producer', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') END
ORDER BY name
"""


@pytest.fixture
def producer(database: str) -> Iterator[psycopg.Connection]:
    with connected_as(database, "outbox_producer") as connection:
        yield connection


@pytest.fixture
def worker(database: str) -> Iterator[psycopg.Connection]:
    with connected_as(database, "outbox_worker") as connection:
        yield connection


def done(dispatch: Dispatch) -> Settlement:
    return decide(dispatch, Done(), RetryPolicy(), random.Random(1))


def settles(worker: psycopg.Connection, **settlement: Any) -> bool:
    """Whether it is taken: the answer names what is not."""
    return worker.execute(SETTLE, (orjson.dumps([settlement]).decode(),)).fetchall() == []


async def ledger(query: Query) -> list[Any]:
    tables = ("intents", "events", "attempts", "queue", "lanes")
    return [await query(f"SELECT * FROM outbox.{table} ORDER BY 1, 2") for table in tables]


async def test_a_producer_reads_one_result_by_its_id_and_nothing_else_of_others(
    producer: psycopg.Connection, enqueue: Enqueue, query: Query
) -> None:
    intent = await enqueue()
    may = [row["name"] for row in await query(RIGHTS)]
    assert may == ["awaited_result", "enqueue", "enqueue_many", "intent_result"]
    result = producer.execute("SELECT * FROM outbox.intent_result(%s)", (intent,)).fetchone()
    assert result == ("pending", "schedule.create.requested", None, None, None), (
        "no request, and nobody's name"
    )


async def test_a_worker_settles_no_lease_that_is_not_out_under_the_number_that_it_names(
    worker: psycopg.Connection, store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    await enqueue("leased")
    (leased,) = await store.claim(ALL)
    waiting = await enqueue("waiting")
    before = await ledger(query)
    good = asdict(done(leased))
    for wrong in (
        {"lease_number": 0},
        {"lease_number": 2},
        {"lease_number": None},
        {"event_type": "schedule.registered"},
        {"intent_id": uuid4()},
        {"intent_id": waiting, "lease_number": 0},
        {"intent_id": waiting, "lease_number": 1},
    ):
        assert not settles(worker, **(good | wrong))
        assert await ledger(query) == before


async def test_a_worker_writes_of_a_lease_of_its_own_into_no_other_lane(
    worker: psycopg.Connection, store: WorkStore, enqueue: Enqueue, query: Query
) -> None:
    """Neither into its log nor over its live stamp, whatever lane the settlement names."""
    await enqueue("victim")
    await enqueue("own")
    victim, own = await store.claim(ALL)
    forged = asdict(replace(done(own), schedule_id=victim.schedule_id, terminal=True, live=Live.SET))
    assert settles(worker, **forged)
    lanes = await query("SELECT schedule_id, live_intent FROM outbox.lanes")
    assert lanes == [{"schedule_id": own.schedule_id, "live_intent": own.intent_id}]
    events = await query("SELECT type FROM outbox.events WHERE schedule_id = %s", victim.schedule_id)
    assert events == [{"type": "schedule.create.requested"}]


@pytest.mark.parametrize("schema", ["pg_temp", "public"])
async def test_what_a_producer_puts_before_our_names_is_looked_at_by_nothing_of_ours(
    producer: psycopg.Connection, query: Query, schema: str
) -> None:
    await query("GRANT CREATE ON SCHEMA public TO PUBLIC")
    producer.execute(SHADOWS.format(schema).encode())
    producer.execute(f"SET search_path = {schema}, pg_catalog".encode())
    request = orjson.dumps(REQUEST).decode()
    (intent,) = (
        producer.execute("SELECT id FROM outbox.enqueue(%s::pg_catalog.jsonb)", (request,)).fetchone() or ()
    )
    both = f"[{request}, {request}]"
    producer.execute("SELECT FROM outbox.enqueue_many(%s::pg_catalog.jsonb)", (both,))
    producer.execute("SELECT FROM outbox.awaited_result(%s::pg_catalog.uuid)", (intent,))
    assert len(await query("SELECT FROM outbox.intents")) == 3
    assert producer.execute(f"SELECT FROM {schema}.intents".encode()).fetchall() == []


@pytest.mark.parametrize("schema", ["pg_temp", "public"])
async def test_what_a_worker_puts_before_our_names_is_looked_at_by_nothing_of_ours(
    worker: psycopg.Connection, enqueue: Enqueue, query: Query, schema: str
) -> None:
    await enqueue()
    await query("GRANT CREATE ON SCHEMA public TO PUBLIC")
    worker.execute(SHADOWS.format(schema).encode())
    worker.execute(f"SET search_path = {schema}, pg_catalog".encode())
    for call in (
        """outbox.claim('{"authz": 1}', '{"authz": 5}', 30, 10, 5)""",
        """outbox.dispatch('{"authz": 1}', 1, '{}', 30, 5)""",
        """outbox.take('[]', 30, 10)""",
        "outbox.recall('[]')",
        "outbox.dispatched('[]')",
        "outbox.audit_take(1, 1)",
        "outbox.audit_add('{}', 1, '{}', '[]')",
        "outbox.audit_pass('spicedb', '', 'x')",
        "outbox.audited_lanes('{a}')",
        "outbox.lane_of('{}')",
        "outbox.request_repair('a--b', false)",
        "outbox.take_turn_to_publish()",
        "outbox.carry_on_replays()",
        "outbox.to_publish(1)",
        "outbox.published('{}')",
        "outbox.pending(true)",
        "outbox.standing('a', 'b')",
    ):
        worker.execute(f"SELECT FROM {call}".encode())
    (leased,) = await query(
        "SELECT intent_id, lease_number, event_type FROM outbox.queue WHERE state = 'leased'"
    )
    more = {"action": "advance", "next_event": "schedule.registered", "next_consumer": "temporal"}
    assert settles(worker, **leased, **more, terminal=False, waits=False, unknown=False, strike=False)


def test_every_function_that_looks_names_up_when_it_runs_does_so_where_nobody_else_can_put_any(
    database: str,
) -> None:
    with psycopg.connect(database) as connection:
        found = connection.execute(
            """SELECT proname FROM pg_proc
                WHERE pronamespace = 'outbox'::regnamespace AND prosqlbody IS NULL
                  AND prokind <> 'a'  -- an aggregate is no text of its own
                  AND 'search_path=pg_catalog, pg_temp' <> ALL (coalesce(proconfig, '{}'))"""
        ).fetchall()
    assert found == [("floors",)], "which is called by claims alone, where theirs holds"


async def test_a_compressed_request_is_judged_by_what_it_is(
    producer: psycopg.Connection, query: Query
) -> None:
    """As it stands in a table it is small; a worker would get all of it."""
    await query("UPDATE outbox.limits SET max_request_bytes = 50000")
    producer.execute("CREATE TEMP TABLE requests (request jsonb)")
    long: list[dict[str, Any]] = [{"workflow_name": "W" * 60_000}, {"workflow_params": {"a": "W" * 60_000}}]
    for more, message in zip(
        long, ("workflow_name: must be 1 to 1000", "request: must be at most"), strict=True
    ):
        producer.execute("TRUNCATE requests")
        producer.execute("INSERT INTO requests VALUES (%s)", (orjson.dumps(REQUEST | more).decode(),))
        size = producer.execute("SELECT pg_column_size(request) FROM requests").fetchone()
        assert size is not None
        assert size[0] < 1000
        with pytest.raises(psycopg.DatabaseError, match=message):
            producer.execute("SELECT FROM requests, outbox.enqueue(request)")


def test_a_huge_request_is_refused_before_anything_in_it_is_judged(producer: psycopg.Connection) -> None:
    wrong = "jsonb_build_object('agent_id', repeat('a-', 1000000), 'name', repeat('-', 1000000))"
    for call in (f"outbox.enqueue({wrong})", f"outbox.enqueue_many(jsonb_build_array({wrong}, {wrong}))"):
        with pytest.raises(psycopg.DatabaseError, match="request: must be at most 262144 bytes as JSON"):
            producer.execute(f"SELECT FROM {call}".encode())


def test_a_request_within_the_limit_is_taken_however_large_it_is_in_postgres(
    producer: psycopg.Connection,
) -> None:
    """Nothing takes more room there than a list of digits: four times as much as text."""
    params = "jsonb_build_object('a', (SELECT jsonb_agg(1) FROM generate_series(1, 87000)))"
    request = f"'{orjson.dumps(REQUEST).decode()}'::jsonb || jsonb_build_object('workflow_params', {params})"
    sizes = producer.execute(
        f"SELECT pg_column_size(r), octet_length(r::text) FROM (SELECT {request}) AS x (r)".encode()
    )
    stored, text = sizes.fetchone() or (0, 0)
    assert stored / 5 < text < 262_144 < stored / 3.9
    producer.execute(f"SELECT FROM outbox.enqueue({request})".encode())


@pytest.mark.parametrize("depth", [64, 6000])
def test_a_deep_request_is_refused(producer: psycopg.Connection, depth: int) -> None:
    deep = f"(repeat('[', {depth}) || repeat(']', {depth}))::jsonb"
    for place, message in (
        (
            f"jsonb_build_object('workflow_params', jsonb_build_object('a', {deep}))",
            "workflow_params: must be",
        ),
        (
            f"jsonb_build_object('principal', jsonb_build_object('user_id', {deep}))",
            "principal.user_id: must be",
        ),
        (f"jsonb_build_object('bogus', {deep})", "bogus: is not a known field"),
    ):
        request = f"'{orjson.dumps(REQUEST).decode()}'::jsonb || {place}"
        with pytest.raises(psycopg.DatabaseError, match=message):
            producer.execute(f"SELECT FROM outbox.enqueue({request})".encode())
