"""Keeps what stands in the application's own Postgres, from the public events; each event counts once.

    OUTBOX_KAFKA_BOOTSTRAP=localhost:9092 DATABASE_URL=postgresql://… python projection.py

It needs kafka-python and psycopg. The rows and the place in the topic are one transaction: whenever the
process dies, the next one goes on exactly there. What the topic has twice has one event id, and counts once.
"""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from kafka import KafkaConsumer, TopicPartition

TABLES = """
    CREATE TABLE IF NOT EXISTS schedule_history (
        event_id    text PRIMARY KEY,
        schedule_id text NOT NULL,
        what        text NOT NULL,              -- created, update_failed, …
        at          timestamptz NOT NULL,
        error       text
    );
    CREATE TABLE IF NOT EXISTS schedule_states (
        schedule_id text PRIMARY KEY,
        live_intent uuid,                       -- of the create that stands; null: none does
        failures    integer NOT NULL DEFAULT 0  -- counted: so no event may come in twice
    );
    CREATE TABLE IF NOT EXISTS projection_offsets (
        topic       text,
        partition   integer,
        next_offset bigint NOT NULL,
        PRIMARY KEY (topic, partition)
    );
"""
BEGIN = "INSERT INTO projection_offsets VALUES (%s, %s, 0) ON CONFLICT DO NOTHING"
PLACE = "SELECT next_offset FROM projection_offsets WHERE (topic, partition) = (%s, %s)"
# Of two processes one moves on; the other finds that the place is not where it left it.
MOVE = """
    UPDATE projection_offsets SET next_offset = %(next)s
     WHERE (topic, partition, next_offset) = (%(topic)s, %(partition)s, %(place)s)
"""
HAPPENED = """
    INSERT INTO schedule_history (event_id, schedule_id, what, at, error)
    VALUES (%(id)s, %(schedule_id)s, %(what)s, %(at)s, %(code)s) ON CONFLICT DO NOTHING
"""
STATE = """
    INSERT INTO schedule_states AS s (schedule_id, live_intent, failures)
    VALUES (%(schedule_id)s, %(live)s, %(failed)s)
        ON CONFLICT (schedule_id) DO UPDATE
        SET live_intent = CASE WHEN %(sets_live)s THEN excluded.live_intent ELSE s.live_intent END,
            failures = s.failures + excluded.failures
"""
SETS_LIVE = {"created", "deleted"}


class OvertakenError(Exception):
    """Another process keeps this projection."""


class Projection:
    """The tables, and how far they have come in each partition."""

    def __init__(self, connection: psycopg.Connection[Any], topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._places: dict[int, int] = {}
        connection.execute(TABLES)

    def begin(self, partition: int) -> int:
        """Say where to read on in a partition."""
        with self._connection.transaction():
            self._connection.execute(BEGIN, (self._topic, partition))
            (place,) = self._connection.execute(PLACE, (self._topic, partition)).fetchone() or (0,)
        self._places[partition] = place
        return place

    def take_in(self, partition: int, records: Sequence[Any]) -> list[str]:
        """Bring the tables up to date with records of one partition; returns what is new, in words.

        Raises:
            OvertakenError: nothing was written.
        """
        moved = {"topic": self._topic, "partition": partition, "next": records[-1].offset + 1}
        with self._connection.transaction():
            if not self._connection.execute(MOVE, moved | {"place": self._places[partition]}).rowcount:
                raise OvertakenError
            told = list(self._happened(records))
        self._places[partition] = moved["next"]
        return told

    def _happened(self, records: Iterable[Any]) -> Iterable[str]:
        for record in records:
            headers = {name: value.decode() for name, value in record.headers}
            event = json.loads(record.value)
            if not event["terminal"]:
                continue
            what = headers["ce_type"].removeprefix("schedule.")
            error = event["error"] or {"code": None}
            row = event | {"id": headers["ce_id"], "what": what, "code": error["code"]}
            if self._connection.execute(HAPPENED, row).rowcount:
                live = event["intent_id"] if what == "created" else None
                failed = int(event["status"] == "failed")
                row |= {"live": live, "sets_live": what in SETS_LIVE, "failed": failed}
                self._connection.execute(STATE, row)
                yield f"{event['schedule_id']} {what}"


def main() -> None:
    """Follow the topic for ever; without Postgres or Kafka it ends, and is to be started again."""
    topic = os.environ.get("OUTBOX_KAFKA_PREFIX", "agent-schedules") + ".events"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        projection = Projection(connection, topic)
        consumer = KafkaConsumer(
            bootstrap_servers=os.environ["OUTBOX_KAFKA_BOOTSTRAP"].split(","),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, projection.begin(partition.partition))
        while True:
            for partition, records in consumer.poll(timeout_ms=1000).items():
                for line in projection.take_in(partition.partition, records):
                    print(line, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
