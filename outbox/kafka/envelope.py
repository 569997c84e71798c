"""What a dispatch looks like in Kafka: it names a step and its lease, and carries nothing of it.

Whoever takes the step reads it from Postgres. So no request and no identity of a person passes through the
broker, and a record that is late, doubled or made up can't bring a step about that isn't due.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from outbox.flow.table import STEPS, Consumer, EventType

VERSION = 1
MAX_BYTES = 1024


class BadRecordError(ValueError):
    """A record that is no dispatch which this version understands; the message says why."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One dispatched step.

    Attributes:
        outbox: the id of the outbox whose step it is, as several may share a cluster.
        lease_number: of this dispatch; a step that was dispatched anew has a greater one.
    """

    outbox: UUID
    intent_id: UUID
    event_type: EventType
    lease_number: int

    @property
    def name(self) -> tuple[UUID, int]:
        """What tells this dispatch from any other: intent and lease number."""
        return self.intent_id, self.lease_number

    @property
    def consumer(self) -> Consumer:
        """Whose step it is."""
        return STEPS[self.event_type].consumer


def encode(envelope: Envelope) -> bytes:
    """The record's value."""
    return orjson.dumps(
        {
            "v": VERSION,
            "outbox": envelope.outbox,
            "intent": envelope.intent_id,
            "event": envelope.event_type,
            "lease": envelope.lease_number,
        }
    )


def decode(value: bytes | None, consumer: Consumer) -> Envelope:
    """Read the value of a record from the topic of a consumer.

    Raises:
        BadRecordError: it is too large, no dispatch at all, of a version that is not known here, or another
            consumer's.
    """
    if value is None:
        raise BadRecordError("it has no value")
    if len(value) > MAX_BYTES:
        raise BadRecordError(f"it has {len(value)} bytes; a dispatch has at most {MAX_BYTES}")
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadRecordError("it is not JSON") from error
    if not isinstance(fields, dict) or "v" not in fields:
        raise BadRecordError("it is no dispatch: it has no version")
    if fields["v"] != VERSION:
        raise BadRecordError(f"it is of version {fields['v']!r}; this program knows version {VERSION} alone")
    envelope = _read(fields)
    if envelope.consumer is not consumer:
        raise BadRecordError(f"it is a step of {envelope.consumer}, in the topic of {consumer}")
    return envelope


def _read(fields: dict[str, Any]) -> Envelope:
    try:
        event, lease = EventType(fields["event"]), fields["lease"]
        envelope = Envelope(UUID(fields["outbox"]), UUID(fields["intent"]), event, lease)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRecordError(f"a field is missing or of the wrong type: {error}") from error
    except ValueError as error:
        raise BadRecordError(str(error)) from error
    if event not in STEPS or type(lease) is not int or not 0 < lease < 2**63:
        raise BadRecordError("its event asks no step, or its lease number is none")
    return envelope
