"""What a dispatch in Kafka is, and what is none."""

from uuid import UUID

import orjson
import pytest

from outbox.flow.table import Consumer, EventType
from outbox.kafka.envelope import BadRecordError, Envelope, decode, encode

OUTBOX = UUID("11111111-1111-4111-8111-111111111111")
INTENT = UUID("22222222-2222-4222-8222-222222222222")
GOOD = {"v": 1, "outbox": str(OUTBOX), "intent": str(INTENT), "event": "schedule.registered", "lease": 7}


def test_it_names_a_step_and_its_lease_and_nothing_of_the_request() -> None:
    envelope = Envelope(OUTBOX, INTENT, EventType.REGISTERED, 7)
    assert orjson.loads(encode(envelope)) == GOOD
    assert decode(encode(envelope), Consumer.TEMPORAL) == envelope


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "no value"),
        (b"", "not JSON"),
        (b"\x00\x01\xff", "not JSON"),
        (b"[1]", "no version"),
        (b"{}", "no version"),
        (b'{"v": 1}', "missing"),
        (orjson.dumps(GOOD | {"pad": "x" * 2000}), "at most 1024"),
        (orjson.dumps(GOOD | {"v": 2}), "version 2"),
        (orjson.dumps(GOOD | {"v": "1"}), "version '1'"),
        (orjson.dumps(GOOD | {"intent": "42"}), "badly formed"),
        (orjson.dumps(GOOD | {"intent": 42}), "wrong type"),
        (orjson.dumps(GOOD | {"event": "schedule.created"}), "asks no step"),
        (orjson.dumps(GOOD | {"event": "something"}), "something"),
        (orjson.dumps(GOOD | {"event": "schedule.unscheduled"}), "step of authz, in the topic of temporal"),
        (orjson.dumps(GOOD | {"lease": True}), "lease number"),
        (orjson.dumps(GOOD | {"lease": 0}), "lease number"),
        (orjson.dumps(GOOD | {"lease": 2**63}), "lease number"),
    ],
)
def test_everything_else_is_refused_by_name(value: bytes | None, why: str) -> None:
    with pytest.raises(BadRecordError, match=why):
        decode(value, Consumer.TEMPORAL)
