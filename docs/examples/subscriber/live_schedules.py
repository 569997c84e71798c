"""Follows the public events and keeps a table of the schedules that stand: an example of a subscriber.

    OUTBOX_KAFKA_BOOTSTRAP=localhost:9092 python live_schedules.py schedules.db

It needs kafka-python alone. Events arrive at least once, and each schedule's in order: so the
table remembers the sequence of the last event that it took in, and passes over what it has seen.
"""

import json
import os
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer

TABLE = """
    CREATE TABLE IF NOT EXISTS schedules (
        schedule_id TEXT PRIMARY KEY,
        sequence    TEXT NOT NULL,     -- of the last event taken in; fixed width, so it compares as text
        intent_id   TEXT               -- of the create that stands; null: none does
    )
"""
SEEN = """
    INSERT INTO schedules (schedule_id, sequence) VALUES (:schedule_id, :sequence)
        ON CONFLICT (schedule_id) DO UPDATE SET sequence = excluded.sequence
        WHERE excluded.sequence > schedules.sequence
"""
STANDS = "UPDATE schedules SET intent_id = :intent_id WHERE schedule_id = :schedule_id"
GONE = "UPDATE schedules SET intent_id = NULL WHERE schedule_id = :schedule_id"
CHANGES = {"schedule.created": STANDS, "schedule.deleted": GONE}


def take_in(table: sqlite3.Connection, records: Iterable[Any]) -> list[str]:
    """Bring the table up to date with some records, in one transaction; returns what is new, in words."""
    told = []
    with table:
        for record in records:
            headers = {name: value.decode() for name, value in record.headers}
            event = json.loads(record.value)
            news = table.execute(SEEN, event | {"sequence": headers["ce_sequence"]}).rowcount
            # Types that are not known here are passed over, too: there will be more of them one day.
            change = CHANGES.get(headers["ce_type"])
            if news and change:
                table.execute(change, event)
                told.append(f"{event['schedule_id']} {headers['ce_type'].removeprefix('schedule.')}")
    return told


def main() -> None:
    """Follow the topic for ever."""
    table = sqlite3.connect(sys.argv[1])
    table.execute(TABLE)
    with KafkaConsumer(
        os.environ.get("OUTBOX_KAFKA_PREFIX", "agent-schedules") + ".events",
        bootstrap_servers=os.environ["OUTBOX_KAFKA_BOOTSTRAP"].split(","),
        group_id="live-schedules",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        while True:
            for records in consumer.poll(timeout_ms=1000).values():
                for line in take_in(table, records):
                    print(line, flush=True)
            # After the table's own commit: a crash in between only delivers again.
            consumer.commit()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
