"""Whether each component can be reached and is set up right: for ``outbox doctor`` and starting workers."""

from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from consumers.authz import schema as authz_schema
from consumers.calls import Call, StoreFailure
from outbox.audit.brake import Rounds
from outbox.compose.clients import authz_client, temporal_client
from outbox.errors import ErrorCode, StoreUnusable
from outbox.flow.table import Consumer
from outbox.settings import Settings, Wire
from outbox.store import migrations
from outbox.store.blockers import Blocker, blocker
from outbox.store.engine import open_engine, why
from outbox.store.instance import instance
from outbox.store.reads import ReadStore
from outbox.store.sessions import Holder, oldest_holder
from outbox.store.url import to_mend

_SECONDS = 5.0
_LONG_TRANSACTION_SECONDS = 300.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        problem: what is wrong, or None.
        fix: the way out.
        reachable: whether the component answered at all.
        stops: whether a worker can do nothing right before it is mended.
    """

    component: str
    what: str
    problem: str | None = None
    fix: str | None = None
    reachable: bool = True
    stops: bool = True


async def check_postgres(settings: Settings) -> list[Finding]:
    """Postgres answers, and its outbox is of the revision that this version needs."""
    try:
        async with (
            open_engine(settings.database_url.get_secret_value()) as engine,
            engine.connect() as connection,
        ):
            found = await connection.run_sync(migrations.current)
            which = await instance(engine) if migrations.serves(found) else None
            holder = await oldest_holder(connection)
            blocked_by = await blocker(connection)
    except DBAPIError as error:
        reason = why(error)
        fix = f"start it, or mend {to_mend(reason)}"
        return [Finding("Postgres", "reachable", reason, fix, reachable=False)]
    reached = Finding("Postgres", "reachable")
    if migrations.serves(found):
        migrated = Finding("Postgres", f"migrated to {found}")
        return [reached, migrated, _identity(settings, which), _vacuum(holder), _locks(blocked_by)]
    have = "has no outbox" if found is None else f"is at revision {found}"
    return [
        reached,
        Finding(
            "Postgres", "migrated", f"the database {have}, needed is {migrations.newest()}", "outbox migrate"
        ),
    ]


async def check_halts(settings: Settings) -> list[Finding]:
    """What people have halted; nothing is told to who may not read it."""
    try:
        async with open_engine(settings.database_url.get_secret_value()) as engine:
            halted = await ReadStore(engine).halts()
    except DBAPIError:
        return []
    return [Finding("Outbox", "halts", one.told, one.way_out, stops=False) for one in halted]


async def check_audit(settings: Settings) -> list[Finding]:
    """The continuous audit doesn't hold repairs back; nothing is told to who may not read it."""
    try:
        async with open_engine(settings.database_url.get_secret_value()) as engine:
            rounds = Rounds.of(await ReadStore(engine).audit())
    except DBAPIError:
        return []
    fix = "mend what is set; if the store was emptied: outbox audit --repair --yes"
    return [Finding("Audit", "repairs", problem, fix, stops=False) for problem in rounds.told()]


def _identity(settings: Settings, which: UUID | None) -> Finding:
    """What is written under another name than the one that is set would be taken for a stranger's."""
    if settings.instance in {None, which}:
        return Finding("Postgres", f"holds outbox {which}")
    problem = f"the database holds outbox {which}, and OUTBOX_INSTANCE is {settings.instance}"
    return Finding("Postgres", "instance", problem, "outbox migrate, or unset OUTBOX_INSTANCE")


def _vacuum(holder: Holder | None) -> Finding:
    """What keeps dead rows from being cleared away makes claims and settles slower by and by."""
    if holder is None or (holder.seconds or 0.0) < _LONG_TRANSACTION_SECONDS:
        return Finding("Postgres", "no old transaction holds vacuum back")
    return Finding("Postgres", "vacuum", f"vacuum is held back by {holder.what}", holder.fix, stops=False)


def _locks(blocked_by: Blocker | None) -> Finding:
    """What our calls wait for, they wait for as long as it lasts."""
    if blocked_by is None:
        return Finding("Postgres", "no call waits for a lock")
    return Finding("Postgres", "locks", blocked_by.what, blocked_by.fix, stops=False)


async def check_spicedb(settings: Settings) -> list[Finding]:
    """SpiceDB answers to our token, and its schema has what the outbox needs."""
    client = authz_client(settings)
    try:
        problems = await authz_schema.check(client, seconds=_SECONDS)
    except StoreFailure as failure:
        return [_unusable("SpiceDB", failure, "mend OUTBOX_SPICEDB_ENDPOINT, _TOKEN, _TLS or _TLS_CA")]
    finally:
        await client.close()
    serious = [problem for problem in problems if not problem.note]
    found = [
        Finding("SpiceDB", f"schema: {one.where}", one.what, f"outbox authz-schema apply ({one.fix})")
        for one in serious
    ]
    return [Finding("SpiceDB", "reachable"), *(found or [Finding("SpiceDB", "schema as needed")])]


async def check_temporal(settings: Settings) -> list[Finding]:
    """Temporal answers to our credentials, and has the namespace."""
    try:
        client = await temporal_client(settings)
        await client.check(Call.within(_SECONDS))
    except StoreFailure as failure:
        fix = "mend OUTBOX_TEMPORAL_ADDRESS, _NAMESPACE, _API_KEY, _TLS_CA or _TLS_CERT"
        return [_unusable("Temporal", failure, fix)]
    return [
        Finding("Temporal", "reachable"),
        Finding("Temporal", f"has namespace {settings.temporal_namespace}"),
    ]


async def check_kafka(settings: Settings, *, to_start: bool = False) -> list[Finding]:
    """Kafka, where it is set: it answers to our credentials, and its topics are as they should be.

    Args:
        settings: which Kafka, and what topics.
        to_start: report only what keeps a worker or relay from working.
    """
    if settings.kafka_bootstrap is None:
        return []
    from outbox.compose.kafka import topic_problems  # noqa: PLC0415 - who has no Kafka needs no client
    from outbox.kafka.admin import MISSING, KafkaAway  # noqa: PLC0415

    try:
        problems = await topic_problems(settings)
    except KafkaAway as error:
        fix = "start it, or mend OUTBOX_KAFKA_BOOTSTRAP, _TLS or _SASL"
        return [Finding("Kafka", "reachable", str(error), fix, reachable=False)]
    fix = "outbox migrate makes what is missing; what is there is altered with Kafka's own tools"
    found = [
        Finding("Kafka", f"topic {name}", f"{name}: {what}", fix)
        for name, what in problems.items()
        if what == MISSING or not to_start
    ]
    return [Finding("Kafka", "reachable"), *(found or [Finding("Kafka", "topics as needed")])]


def _unusable(component: str, failure: StoreFailure, fix: str) -> Finding:
    answered = failure.outcome.code not in {
        ErrorCode.UNREACHABLE,
        ErrorCode.TIMED_OUT,
        ErrorCode.CONNECTION_LOST,
    }
    fix = fix if answered else f"start it, or {fix}"
    return Finding(component, "usable", failure.outcome.message, fix, reachable=answered)


async def require_ready(settings: Settings, only: Consumer | None) -> None:
    """Refuse to go on where a worker could do nothing right.

    A store that can't be reached is no reason: its steps wait until it can.

    Raises:
        StoreUnusable: Postgres can't be reached or isn't migrated, or a store is set up wrong.
    """
    findings = await _engine_findings(settings)
    if only in {None, Consumer.AUTHZ}:
        findings += await check_spicedb(settings)
    if only in {None, Consumer.TEMPORAL}:
        findings += await check_temporal(settings)
    _refuse(findings)


async def require_ready_to_relay(settings: Settings) -> None:
    """Refuse to go on where a relay could do nothing right; a broker that is away is waited for.

    Raises:
        StoreUnusable: Postgres can't be reached or isn't migrated, or the topics are not there.
    """
    _refuse([*await check_postgres(settings), *await check_kafka(settings, to_start=True)])


async def _engine_findings(settings: Settings) -> list[Finding]:
    wire = await check_kafka(settings, to_start=True) if settings.wire is Wire.KAFKA else []
    return [*await check_postgres(settings), *wire]


def _refuse(findings: list[Finding]) -> None:
    for finding in findings:
        if finding.problem is None or not finding.stops:
            continue
        line = f"{finding.component}: {finding.problem}: {finding.fix}"
        if finding.reachable or finding.component == "Postgres":
            raise StoreUnusable(line, reachable=finding.reachable)
        log.warning("store.unreachable", store=finding.component, error=finding.problem)
