"""The administrative side of kafka-python: topics are made and checked, a group's lag is read.

Calls block: asyncio code runs them in a thread.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from outbox.kafka.connection import problem

MISSING = "it is missing"
_PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.2


class KafkaAway(Exception):  # noqa: N818 - it says what is the case
    """The cluster can't be asked; the message is its reason."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be; ``replication`` None: as the cluster does by default."""

    name: str
    partitions: int
    replication: int | None
    retention_ms: int


@dataclass(frozen=True, slots=True)
class TopicLag:
    """One partitioned topic, seen by a group.

    Attributes:
        lag: records that the group has not got to.
        members: how many members of the group have partitions of it.
    """

    topic: str
    partitions: int
    members: int
    lag: int


@contextmanager
def _client(options: Mapping[str, Any]) -> Iterator[Any]:
    if away := problem(options):
        raise KafkaAway(away)
    try:
        client = KafkaAdminClient(**options)
        try:
            yield client
        finally:
            client.close()
    except KafkaError as error:
        raise KafkaAway(str(error)) from error


def create_topics(options: Mapping[str, Any], plans: Sequence[TopicPlan]) -> list[str]:
    """Make the topics that are missing; those that are there stay as they are.

    Returns:
        The names of those that were made.

    Raises:
        KafkaAway: the cluster can't be reached, or refuses.
    """
    with _client(options) as client:
        there = {topic["name"] for topic in _describe(client, plans)}
        missing = {
            plan.name: {
                "num_partitions": plan.partitions,
                "replication_factor": plan.replication or -1,
                "configs": {"retention.ms": str(plan.retention_ms)},
            }
            for plan in plans
            if plan.name not in there
        }
        if missing:
            answer = client.create_topics(missing, raise_errors=False)
            for topic in answer["topics"]:
                refusal = for_code(topic["error_code"])
                # Another host was quicker.
                if topic["error_code"] and refusal is not TopicAlreadyExistsError:
                    raise refusal(f"{topic['name']}: {topic['error_message']}")
            client.wait_for_topics(list(missing), timeout_ms=_PATIENCE_SECONDS * 1000)
        return list(missing)


def topic_problems(options: Mapping[str, Any], plans: Sequence[TopicPlan]) -> dict[str, str]:
    """What is wrong with each topic, by its name; nothing where all are as they should be.

    Raises:
        KafkaAway: the cluster can't be reached.
    """
    with _client(options) as client:
        there = {topic["name"]: topic for topic in _describe(client, plans)}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
        configs = client.describe_configs(resources, config_filter="all") if resources else {}
        found = {
            plan.name: _problem(plan, there.get(plan.name), configs.get("topic", {}).get(plan.name, {}))
            for plan in plans
        }
        return {name: problem for name, problem in found.items() if problem}


def _describe(client: Any, plans: Sequence[TopicPlan]) -> list[dict[str, Any]]:
    found = client.describe_topics([plan.name for plan in plans])
    return [topic for topic in found if topic["error_code"] == 0]


def _problem(plan: TopicPlan, topic: dict[str, Any] | None, configs: dict[str, Any]) -> str | None:
    if topic is None:
        return MISSING
    partitions = topic["partitions"]
    copies = min((len(one["replica_nodes"]) for one in partitions), default=0)
    retention = int(configs["retention.ms"]["value"]) if "retention.ms" in configs else None
    if len(partitions) < plan.partitions:
        return f"it has {len(partitions)} partitions, not {plan.partitions}"
    if plan.replication and copies < plan.replication:
        return f"it is on {copies} brokers, not {plan.replication}"
    if retention is not None and 0 <= retention < plan.retention_ms:
        return f"it keeps records {retention // 3_600_000} h, not {plan.retention_ms // 3_600_000} h"
    return None


def group_lags(options: Mapping[str, Any], group: str, topics: Sequence[str]) -> list[TopicLag]:
    """How far a group is behind on each of these topics, and how many members share it.

    Raises:
        KafkaAway: the cluster can't be reached, or a topic is missing.
    """
    with _client(options) as client:
        described = client.describe_topics(list(topics))
        partitions = {
            topic["name"]: [
                TopicPartition(topic["name"], one["partition_index"]) for one in topic["partitions"]
            ]
            for topic in described
        }
        everything = [one for found in partitions.values() for one in found]

        def offsets(spec: OffsetSpec) -> dict[Any, Any]:
            return client.list_partition_offsets(dict.fromkeys(everything, spec)) if everything else {}

        ends, starts = offsets(OffsetSpec.LATEST), offsets(OffsetSpec.EARLIEST)
        committed, members = _group(client, group)

        def behind(one: Any) -> int:
            start = starts[one].offset
            done = committed[one].offset if one in committed else start
            return int(ends[one].offset - max(start, done))

        return [
            TopicLag(
                topic,
                len(partitions[topic]),
                sum(topic in shares for shares in members),
                sum(behind(one) for one in partitions[topic]),
            )
            for topic in topics
        ]


def _group(client: Any, group: str) -> tuple[dict[Any, Any], list[set[str]]]:
    """The group's offsets, and the topics that each member has partitions of."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            committed = client.list_group_offsets({group: None})[group]
            members = client.describe_groups([group])[group]["members"]
            return committed, [_topics_of(member) for member in members]
        except KafkaError as error:
            # A cluster that has had no group yet makes room for them first: there is no coordinator, or one
            # that is still loading, or has just moved.
            if not error.retriable or time.monotonic() > until:
                raise
            time.sleep(_POLL_SECONDS)


def _topics_of(member: dict[str, Any]) -> set[str]:
    assignment = member.get("member_assignment") or {}
    return {one["topic"] for one in assignment.get("assigned_partitions", []) if one.get("partitions")}
