"""What topics and groups are called."""

from collections.abc import Iterable
from uuid import UUID

from outbox.flow.table import Consumer


def dispatch_topic(prefix: str, consumer: Consumer) -> str:
    """Where the steps of one consumer go."""
    return f"{prefix}.dispatch.{consumer.value}"


def dispatch_topics(prefix: str, consumers: Iterable[Consumer] = Consumer) -> dict[str, Consumer]:
    """The topics of these consumers, and whose each is."""
    return {dispatch_topic(prefix, consumer): consumer for consumer in consumers}


def events_topic(prefix: str) -> str:
    """Where events are published for other systems."""
    return f"{prefix}.events"


def worker_group(prefix: str, outbox: UUID) -> str:
    """The consumer group of one outbox's workers.

    Of one outbox: where two share a prefix by mistake, each still sees all of its own records.
    """
    return f"{prefix}.workers.{outbox}"
