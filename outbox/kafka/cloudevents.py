"""A public event as a CloudEvent in Kafka's binary mode: context in headers, data in the value.

The schema of the data is in ``event.schema.json`` beside this file; it only grows.
"""

from functools import cache
from pathlib import Path
from typing import Any

import orjson

from outbox.flow.table import TERMINALS
from outbox.kafka.names import events_topic
from outbox.kafka.producer import Record
from outbox.store.relay import Publication

SCHEMA_FILE = Path(__file__).with_name("event.schema.json")
_SOURCE = "/agent-schedule-outbox/{}"


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the data."""
    loaded: dict[str, Any] = orjson.loads(SCHEMA_FILE.read_bytes())
    return loaded


def record(publication: Publication, *, prefix: str, outbox: object) -> Record:
    """The record that tells of an event.

    ``ce_id`` names the event, however often it arrives; ``ce_sequence`` grows along a schedule, so that a
    subscriber can tell a late repetition from news.
    """
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"{outbox}/{publication.event_id}",
        "ce_source": _SOURCE.format(outbox),
        "ce_type": publication.type.value,
        "ce_subject": publication.schedule_id,
        "ce_time": publication.at.isoformat(),
        "ce_sequence": f"{publication.id:020d}",
        "ce_dataschema": schema()["$id"],
        "content-type": "application/json",
        # CloudEvents' extension for distributed tracing.
        **{f"ce_{name}": value for name, value in publication.trace.items()},
    }
    return Record(
        events_topic(prefix),
        publication.schedule_id.encode(),
        orjson.dumps(data(publication)),
        tuple((name, value.encode()) for name, value in headers.items()),
    )


def data(publication: Publication) -> dict[str, Any]:
    """What other systems are told: what happened to which schedule, and nothing of who asked or for what."""
    agent, _, name = publication.schedule_id.partition("--")
    code = publication.error_code
    terminal = TERMINALS.get(publication.type)
    return {
        "schedule_id": publication.schedule_id,
        "agent_id": agent,
        "name": name,
        "intent_id": str(publication.intent_id),
        "kind": publication.kind.value,
        "type": publication.type.value,
        "terminal": terminal is not None,
        "status": terminal.status.value if terminal else "pending",
        "at": publication.at.isoformat(),
        "consumer": publication.consumer.value if publication.consumer else None,
        "attempt": publication.attempt,
        "error": {"code": code, "message": publication.error_message} if code else None,
        "superseded_by": str(publication.superseded_by) if publication.superseded_by else None,
    }
