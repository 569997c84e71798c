"""Compares the three stores: opens them, and reads them as the audit asks."""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import RowMapping

from consumers.authz import reads as authz_reads
from consumers.authz.client import AuthzClient, Tuple
from consumers.authz.effects import owner_of, relationships_of
from consumers.authz.names import INTENT, REGISTERED_BY
from consumers.calls import StoreFailure
from consumers.temporal import reads as temporal_reads
from consumers.temporal.client import TemporalClient
from outbox.audit.comparison import Holding, Lane, Observed, Registration, Scheduled
from outbox.audit.continuous import StampedPage
from outbox.audit.drift import Busy, Drift, Report
from outbox.audit.sweep import Finding, Tally, examine, survey
from outbox.compose.clients import authz_client, temporal_client
from outbox.errors import ErrorCode, StoreUnusable
from outbox.flow.dispatch import Creator
from outbox.settings import Settings
from outbox.store.continuous_audit import Stage
from outbox.store.engine import open_engine
from outbox.store.instance import instance
from outbox.store.ledger import LedgerStore

_SECONDS = 10.0
_AWAY = frozenset({ErrorCode.UNREACHABLE, ErrorCode.TIMED_OUT, ErrorCode.CONNECTION_LOST})


async def compare_stores(
    settings: Settings, *, ids: Collection[str] | None = None, prefix: str = ""
) -> Report:
    """Compare ledger, SpiceDB and Temporal, and keep all that is found.

    Args:
        settings: where the stores are.
        ids: only these schedules, each read by itself; None: all.
        prefix: only schedules whose ids start so.

    Raises:
        StoreUnusable: SpiceDB or Temporal can't be read.
    """
    tally = Tally()
    found = [one async for one in findings(settings, tally, ids=ids, prefix=prefix)]
    return Report(
        drifts=[one for one in found if isinstance(one, Drift)],
        busy=[one.schedule_id for one in found if isinstance(one, Busy)],
        lanes=tally.lanes,
        live=tally.live,
    )


async def findings(
    settings: Settings, tally: Tally, *, ids: Collection[str] | None = None, prefix: str = ""
) -> AsyncGenerator[Finding, None]:
    """Compare as ``compare_stores`` does, and yield what differs as it is confirmed; counts as it goes.

    Raises:
        StoreUnusable: SpiceDB or Temporal can't be read.
    """
    async with open_all(settings, prefix) as stores:
        audit = survey(stores, tally) if ids is None else examine(stores, ids, tally)
        async for finding in audit:
            yield finding


@dataclass(frozen=True, slots=True)
class AllThree:
    """The three stores, opened; implements ``outbox.audit.continuous.ContinuousReaders``."""

    ledger: LedgerStore
    authz: AuthzClient
    temporal: TemporalClient
    instance: str
    prefix: str = ""

    async def lanes(self) -> AsyncIterator[Lane]:
        """All lanes of the ledger, in the order of their ids' bytes."""
        async for row in self.ledger.lanes(prefix=self.prefix):
            yield _lane(row)

    async def holdings(self) -> AsyncIterator[tuple[str, Holding]]:
        """All that SpiceDB has."""
        read = authz_reads.read_schedules(self.authz, prefix=self.prefix, seconds=_SECONDS)
        async for name, tuples in read:
            yield name, _holding(tuples)

    async def schedules(self) -> AsyncIterator[tuple[str, Scheduled]]:
        """All that Temporal lists."""
        read = temporal_reads.read_schedules(self.temporal, prefix=self.prefix, seconds=_SECONDS)
        async for name, found in read:
            yield name, Scheduled(found.stamp, found.instance)

    async def lane(self, name: str) -> Lane | None:
        """One lane as it is now."""
        row = await self.ledger.lane(name)
        return None if row is None else _lane(row)

    async def observed(self, name: str) -> Observed:
        """What the stores hold under one name now."""
        tuples, found = await asyncio.gather(
            authz_reads.read_schedule(self.authz, name, seconds=_SECONDS),
            temporal_reads.read_schedule(self.temporal, name, seconds=_SECONDS),
        )
        schedule = None
        if found is not None:
            schedule = Scheduled(found.stamp, found.instance, found.revision, looked_at=True)
        return Observed(_holding(tuples), schedule)

    async def stamped_page(self, stage: Stage, cursor: str) -> StampedPage:
        """Read on in a store's list; Temporal's tokens, which are bytes, travel as base64."""
        if stage is Stage.SPICEDB:
            return StampedPage(*await authz_reads.read_stamps(self.authz, cursor or None, seconds=_SECONDS))
        token = b64decode(cursor)
        found, following = await temporal_reads.read_stamps(self.temporal, token, seconds=_SECONDS)
        stamps = {name: one.stamp for name, one in found.items() if one.stamp}
        ours = {name for name, one in found.items() if one.instance == self.instance}
        return StampedPage(stamps, b64encode(following).decode() if following else None, ours)

    async def known(self, names: Collection[str]) -> set[str]:
        """Those of the names that have a lane."""
        return await self.ledger.known(names)

    async def lane_of(self, stamps: Collection[str]) -> dict[str, str]:
        """The schedule id of each stamp that is one of the ledger's intents."""
        return await self.ledger.lane_of(stamps)

    async def ended(self, stamps: Collection[str]) -> set[str]:
        """Those of the stamps that SpiceDB has marked as ended."""
        return await authz_reads.read_marks(self.authz, stamps, seconds=_SECONDS)


@asynccontextmanager
async def open_all(settings: Settings, prefix: str = "") -> AsyncIterator[AllThree]:
    """The three stores; only schedules whose ids start so are listed.

    Raises:
        StoreUnusable: SpiceDB or Temporal can't be read.
    """
    authz = authz_client(settings)
    try:
        async with open_engine(settings.database_url.get_secret_value()) as engine:
            temporal, which = await temporal_client(settings), await instance(engine)
            yield AllThree(LedgerStore(engine), authz, temporal, str(which), prefix)
    except StoreFailure as failure:
        raise unusable("the stores can't be compared", failure) from failure
    finally:
        await authz.close()


def unusable(what: str, failure: StoreFailure) -> StoreUnusable:
    """Say what can't be done for want of a store."""
    return StoreUnusable(f"{what}: {failure}", reachable=not is_away(failure))


def is_away(failure: StoreFailure) -> bool:
    """Whether the store did not answer at all."""
    return failure.outcome.code in _AWAY


def _lane(row: RowMapping) -> Lane:
    former = (owner_of(Creator(**creator)) for creator in row["former_creators"])
    return Lane(
        schedule_id=row["schedule_id"],
        live_intent=None if row["live_intent"] is None else str(row["live_intent"]),
        adopted=row["adopted"],
        registration=_registration(row),
        former_owners=frozenset(":".join(owner) for owner in former if owner),
        defined=row["defined"] or not row["adopted"],
        revision=None if row["revision"] is None else str(row["revision"]),
        ran_out=row["ran_out"],
        busy=row["busy"],
    )


def _registration(row: RowMapping) -> Registration | None:
    if row["live_intent"] is None or row["skipped"]:
        return None
    stamp = str(row["live_intent"])
    if row["creator"] is None or row["adopted"]:
        return Registration(frozenset({f"{REGISTERED_BY}@{INTENT}:{stamp}"}), owner=None)
    creator = Creator(**row["creator"])
    owner = owner_of(creator)
    required = relationships_of(row["schedule_id"], creator, stamp)
    return Registration(frozenset(map(words, required)), ":".join(owner) if owner else None)


def _holding(tuples: Iterable[Tuple]) -> Holding:
    return Holding(frozenset(map(words, tuples)))


def words(found: Tuple) -> str:
    """Put a relationship of a schedule as ``relation@type:id``."""
    of = f"#{found.subject_relation}" if found.subject_relation else ""
    return f"{found.relation}@{found.subject_type}:{found.subject_id}{of}"
