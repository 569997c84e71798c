"""Keeps what became of the application's own requests beside them, by SQL alone and without Kafka.

    DATABASE_URL=postgresql://… python without_kafka.py

It needs psycopg, and the rights of a producer. The table ``reports`` holds the intents that the application
enqueued; each is asked about until it has ended. What others ask for, it doesn't see.
"""

import os
import time
from contextlib import suppress

import psycopg

TABLE = """
    CREATE TABLE IF NOT EXISTS reports (
        number      text PRIMARY KEY,
        schedule_id text NOT NULL,
        intent_id   uuid NOT NULL,
        status      text NOT NULL DEFAULT 'pending',  -- pending, parked, succeeded, failed
        failure     text
    );
    CREATE INDEX IF NOT EXISTS reports_open ON reports (intent_id) WHERE status IN ('pending', 'parked');
"""
# Whoever asks so is told of results on the channel for a few seconds; of those of others, too.
REFRESH = """
    UPDATE reports r SET status = f.status, failure = f.error_code
      FROM (SELECT o.number, a.status, a.error_code FROM reports o
             CROSS JOIN LATERAL outbox.awaited_result(o.intent_id) a
             WHERE o.status IN ('pending', 'parked')) f
     WHERE r.number = f.number AND r.status <> f.status
    RETURNING r.number, r.status, r.failure
"""
CHANNEL = "outbox_settled"
LONGEST_NAP_SECONDS = 1.0
SHORTEST_NAP_SECONDS = 0.1


def main() -> None:
    """Refresh for ever; without Postgres it ends, and is to be started again."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute(f"LISTEN {CHANNEL}")
        while True:
            for number, status, failure in connection.execute(REFRESH).fetchall():
                print(number, status, failure or "", flush=True)
            # Behind a pooler nobody tells; on a busy outbox, many results are told of in a moment.
            for _ in connection.notifies(timeout=LONGEST_NAP_SECONDS, stop_after=1):
                time.sleep(SHORTEST_NAP_SECONDS)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
