"""Every metric, as data: its instrument is made from here, and so is ``docs/metrics.md``.

Labels are closed lists: consumers, effects, codes, kinds. None names a schedule, an agent or a person.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

Reading = Iterable[tuple[tuple[str, ...], float]]
"""The values of a metric at a moment, each with its labels' values."""

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400)
REVOCATION = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 45, 60, 300, 900, 3600, 14_400)


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as OpenTelemetry has it; ``prometheus`` is what Prometheus makes of it.
        unit: of UCUM; what stands in braces is counted, and has no unit.
        labels: what it is told apart by.
        buckets: the upper bounds of a histogram, in its unit.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """The name at /metrics."""
        name = self.name.replace(".", "_")
        name += {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        return name + "_total" if self.kind is Kind.COUNTER else name


STEPS = Metric(
    "outbox.steps",
    Kind.COUNTER,
    "{step}",
    "Attempts at a step that this process made, by how each came out.",
    ("consumer", "effect", "outcome"),
)
EFFECT_DURATION = Metric(
    "outbox.effect.duration",
    Kind.HISTOGRAM,
    "s",
    "How long an attempt took, from its begin to its outcome.",
    ("consumer", "effect"),
    FAST,
)
STEP_ERRORS = Metric(
    "outbox.step.errors",
    Kind.COUNTER,
    "{attempt}",
    "Attempts that did not succeed, by error code.",
    ("consumer", "code"),
)
CLAIM_DURATION = Metric(
    "outbox.claim.duration",
    Kind.HISTOGRAM,
    "s",
    "How long it took to take steps, of those asked for; on the Kafka wire, to take what had come in.",
    buckets=FAST,
)
SETTLE_DURATION = Metric(
    "outbox.settle.duration",
    Kind.HISTOGRAM,
    "s",
    "How long it took to settle a batch, in one transaction.",
    buckets=FAST,
)
STEPS_TAKEN = Metric(
    "outbox.steps.taken", Kind.COUNTER, "{step}", "Steps that were leased to this process.", ("consumer",)
)
SETTLEMENTS = Metric(
    "outbox.settlements",
    Kind.COUNTER,
    "{settlement}",
    "Steps settled, by what became of them: advance, retry, hold, park.",
    ("action",),
)
SETTLEMENTS_DROPPED = Metric(
    "outbox.settlements.dropped",
    Kind.COUNTER,
    "{settlement}",
    "Settlements that matched nothing, as their lease was over. Each is harmless; many mean that leases are "
    "too short.",
)
INTENTS_ENDED = Metric(
    "outbox.intents.ended",
    Kind.COUNTER,
    "{intent}",
    "Intents that ended with a settlement of this process, by terminal event and error code (empty: none).",
    ("kind", "event", "code"),
)
INTENT_DURATION = Metric(
    "outbox.intent.duration",
    Kind.HISTOGRAM,
    "s",
    "From the request of an intent to its terminal event, by the clocks of Postgres and of this process.",
    ("kind", "status"),
    LONG,
)
REVOCATION_DURATION = Metric(
    "outbox.revocation.duration",
    Kind.HISTOGRAM,
    "s",
    "From the request of a delete until its former owner has no access any more.",
    buckets=REVOCATION,
)
STEPS_IN_FLIGHT = Metric(
    "outbox.steps.in_flight",
    Kind.GAUGE,
    "{step}",
    "Steps under way in this process: applied, or waiting to be settled.",
    ("consumer",),
)
STEPS_ROOM = Metric(
    "outbox.steps.room",
    Kind.GAUGE,
    "{step}",
    "How many steps this process may have under way at once (OUTBOX_*_CONCURRENCY).",
    ("consumer",),
)
DRAINING = Metric(
    "outbox.draining", Kind.GAUGE, "", "1 while this process takes no more steps, as it was told to stop."
)
LISTENING = Metric(
    "outbox.listening",
    Kind.GAUGE,
    "",
    "1 while this process hears wake-ups, 0 while it is deaf and polls.",
)
WAKEUPS = Metric("outbox.wakeups", Kind.COUNTER, "{notification}", "Wake-ups that this process has heard.")
STEPS_DISPATCHED = Metric(
    "outbox.steps.dispatched", Kind.COUNTER, "{step}", "Steps that this relay has sent to Kafka."
)
STEPS_RECALLED = Metric(
    "outbox.steps.recalled",
    Kind.COUNTER,
    "{step}",
    "Steps that this relay could not send, and that are dispatched again.",
)
EVENTS_PUBLISHED = Metric(
    "outbox.events.published",
    Kind.COUNTER,
    "{event}",
    "Events that this process has published, where Kafka is set up: a relay, or on the direct wire a worker.",
)
LOOP_AGE = Metric(
    "outbox.loop.age",
    Kind.GAUGE,
    "s",
    "Since this process's loop last came round; /healthz answers 503 when it is 120 s.",
    ("loop",),
)
BUILD_INFO = Metric(
    "outbox.build_info", Kind.GAUGE, "", "Always 1; the version is in the label.", ("version",)
)

HEADS = Metric(
    "outbox.heads",
    Kind.GAUGE,
    "{intent}",
    "Heads of lanes by the store that their step is for, and their state: ready, dispatched, leased, waiting "
    "(to be tried again), holding.",
    ("consumer", "state"),
)
WAITING = Metric(
    "outbox.waiting",
    Kind.GAUGE,
    "{intent}",
    "Intents that are no heads: incoming (not placed yet), behind (their lane's head), deferred (repairs "
    "whose time has not come).",
    ("place",),
)
PARKED = Metric(
    "outbox.parked", Kind.GAUGE, "{intent}", "Parked steps: each holds its lane until a person decides."
)
HALTED = Metric(
    "outbox.halted", Kind.GAUGE, "{intent}", "Heads of schedules that a person has halted (`outbox hold`)."
)
OLDEST_HEAD_AGE = Metric(
    "outbox.oldest_head_age",
    Kind.GAUGE,
    "s",
    "Since the oldest head, or what is still incoming, was requested; absent where nothing waits.",
)
OLDEST_UNPARKED_HEAD_AGE = Metric(
    "outbox.oldest_unparked_head_age",
    Kind.GAUGE,
    "s",
    "The same, without what waits for a person: parked and halted heads.",
)
OLDEST_PARKED_AGE = Metric(
    "outbox.oldest_parked_age", Kind.GAUGE, "s", "Since the oldest parked intent was requested."
)
OLDEST_REVOCATION_AGE = Metric(
    "outbox.oldest_revocation_age",
    Kind.GAUGE,
    "s",
    "Since the oldest delete was requested whose former owner still has access, whatever it waits for.",
)
BREAKER_OPEN = Metric(
    "outbox.breaker_open", Kind.GAUGE, "", "1 while a store's steps wait, as it can't be used.", ("consumer",)
)
BREAKER_AGE = Metric(
    "outbox.breaker_age",
    Kind.GAUGE,
    "s",
    "Since a store's breaker opened; absent while it is closed.",
    ("consumer",),
)
BUDGET_LEFT = Metric(
    "outbox.budget_left",
    Kind.GAUGE,
    "{step}",
    "What the last claim left of a store's rate (`OUTBOX_TEMPORAL_RATE_PER_SECOND` or that of SpiceDB).",
    ("consumer",),
)
WORKERS = Metric(
    "outbox.workers",
    Kind.GAUGE,
    "{process}",
    "Processes that were seen in the last half minute, by what they serve: the steps of SpiceDB (authz), of "
    "Temporal, of both (repairs); relay: they send steps to Kafka.",
    ("serves",),
)
LEASES_EXPIRED = Metric(
    "outbox.leases.expired",
    Kind.COUNTER,
    "{lease}",
    "Leases that ended before their worker had settled, since the outbox was set up; kept in the database.",
    ("consumer",),
)
DRIFT = Metric(
    "outbox.drift",
    Kind.GAUGE,
    "{schedule}",
    "Differences between the stores that the last round of the continuous audit found, by kind.",
    ("kind",),
)
AUDIT_AGE = Metric("outbox.audit_age", Kind.GAUGE, "s", "Since the last round of the continuous audit ended.")
UNPUBLISHED_EVENTS = Metric(
    "outbox.unpublished_events", Kind.GAUGE, "{event}", "Events that are still to be published to Kafka."
)
QUEUE_SIZE = Metric(
    "outbox.queue_size", Kind.GAUGE, "By", "The size of the table outbox.queue with its indexes."
)
QUEUE_DEAD_ROWS = Metric(
    "outbox.queue_dead_rows",
    Kind.GAUGE,
    "{row}",
    "Rows of outbox.queue that are gone and not vacuumed yet; each makes claims a little slower.",
)
LIVE_SCHEDULES = Metric(
    "outbox.live_schedules", Kind.GAUGE, "{schedule}", "Schedules that live, as the ledger has it."
)
OLDEST_TRANSACTION_AGE = Metric(
    "outbox.oldest_transaction_age",
    Kind.GAUGE,
    "s",
    "Since the oldest transaction of this database began that keeps dead rows from being vacuumed; absent "
    "where there is none, or none that the owner of the outbox may see (`pg_read_all_stats`).",
)
OF_THE_OUTBOX = (
    HEADS,
    WAITING,
    PARKED,
    HALTED,
    OLDEST_HEAD_AGE,
    OLDEST_UNPARKED_HEAD_AGE,
    OLDEST_PARKED_AGE,
    OLDEST_REVOCATION_AGE,
    BREAKER_OPEN,
    BREAKER_AGE,
    BUDGET_LEFT,
    WORKERS,
    LEASES_EXPIRED,
    DRIFT,
    AUDIT_AGE,
    UNPUBLISHED_EVENTS,
    LIVE_SCHEDULES,
    QUEUE_SIZE,
    QUEUE_DEAD_ROWS,
    OLDEST_TRANSACTION_AGE,
)
KAFKA_LAG = Metric(
    "outbox.kafka.lag",
    Kind.GAUGE,
    "{record}",
    "Records of a topic that the workers' group has not come to; on the Kafka wire, from the relay.",
    ("topic",),
)

OF_A_WORKER = (
    STEPS,
    STEP_ERRORS,
    EFFECT_DURATION,
    CLAIM_DURATION,
    STEPS_TAKEN,
    SETTLE_DURATION,
    SETTLEMENTS,
    SETTLEMENTS_DROPPED,
    INTENTS_ENDED,
    INTENT_DURATION,
    REVOCATION_DURATION,
    STEPS_IN_FLIGHT,
    STEPS_ROOM,
    DRAINING,
    LISTENING,
    WAKEUPS,
    EVENTS_PUBLISHED,
    LOOP_AGE,
    BUILD_INFO,
)
OF_A_RELAY = (
    STEPS_DISPATCHED,
    STEPS_RECALLED,
    EVENTS_PUBLISHED,
    KAFKA_LAG,
    LISTENING,
    WAKEUPS,
    LOOP_AGE,
    BUILD_INFO,
)
