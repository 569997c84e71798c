"""The continuous audit: looks at a few lanes at a time, round after round, at a rate that all workers share.

Each lane is looked at by itself, as ``outbox audit --schedule`` does. After the lanes, a round goes through
the stores' lists for what carries a stamp under a name without a lane: a late write of an intent that was
pruned since, the work of another outbox, or what a lost ledger had made. That is counted, and never touched.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from outbox.audit.brake import Rounds
from outbox.audit.drift import Drift, DriftKind, Fix
from outbox.audit.sweep import Readers, Tally, examine
from outbox.store.continuous_audit import ContinuousAuditStore, Stage, Turn

_MOST_AT_ONCE = 50
_IN_WORDS = {Stage.SPICEDB: "SpiceDB", Stage.TEMPORAL: "Temporal"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StampedPage:
    """Some names of a store's list that carry a stamp, and where to read on (None: the end).

    Attributes:
        ours: those whose stamps say that they are this outbox's; SpiceDB's can't.
    """

    stamps: Mapping[str, str]
    following: str | None
    ours: Collection[str] = frozenset()


class ContinuousReaders(Readers, Protocol):
    """The three stores, as the continuous audit reads them."""

    async def stamped_page(self, stage: Stage, cursor: str) -> StampedPage:
        """Read on in a store's list."""
        ...

    async def known(self, names: Collection[str]) -> set[str]:
        """Those of the names that have a lane."""
        ...


class ContinuousAudit:
    """Goes on with the round, turn by turn.

    Args:
        store: where the round stands.
        readers: the three stores.
        rate: lanes per second, over all workers.
        request_repair: asks for a repair of a schedule; None: drifts are only told.
    """

    def __init__(
        self,
        store: ContinuousAuditStore,
        readers: ContinuousReaders,
        *,
        rate: float,
        request_repair: Callable[[str], Awaitable[object]] | None = None,
    ) -> None:
        self._store = store
        self._readers = readers
        self._rate = rate
        self._request_repair = request_repair
        self._turn: Turn | None = None

    async def step(self) -> bool:
        """Take a turn, if it is the time, and carry it out; whether there was one.

        Raises:
            Exception: whatever the readers raise; the next step tries the same turn again.
        """
        if self._turn is None:
            most = max(1, min(_MOST_AT_ONCE, int(self._rate)))
            self._turn = await self._store.take(self._rate, most=most)
        turn = self._turn
        if turn is None:
            return False
        await (self._look(turn) if turn.stage is Stage.LANES else self._sweep(turn))
        self._turn = None
        return True

    async def start_over(self) -> None:
        """Go back to the beginning of a list whose cursor its store refuses."""
        turn, self._turn = self._turn, None
        if turn is not None and turn.stage is not Stage.LANES:
            await self._store.go_on(turn, "")

    async def _look(self, turn: Turn) -> None:
        tally = Tally()
        judged, drifts = set(turn.names), []
        repairable: dict[str, set[DriftKind]] = {}
        async for finding in examine(self._readers, turn.names, tally):
            if not isinstance(finding, Drift):
                judged.discard(finding.schedule_id)
                continue
            drifts.append(_written(finding))
            told = log.warning if finding.is_ours else log.debug
            told(
                "audit.drift",
                schedule_id=finding.schedule_id,
                kind=finding.kind.value,
                detail=finding.detail,
                fix=finding.fix.value,
            )
            if finding.is_repaired:
                repairable.setdefault(finding.schedule_id, set()).add(finding.kind)
        if turn.names:
            found = await self._store.add(tally.by_kind, live=tally.live, judged=judged, drifts=drifts)
            await self._repair(repairable, Rounds.of(found))

    async def _repair(self, repairable: Mapping[str, Collection[DriftKind]], rounds: Rounds) -> None:
        """Ask for what mends these, save what a person has to look at first."""
        if self._request_repair is None:
            return
        held = rounds.held_back()
        for schedule_id, kinds in repairable.items():
            if held.isdisjoint(kinds):
                await self._request_repair(schedule_id)
        if not all(held.isdisjoint(kinds) for kinds in repairable.values()):
            reasons = rounds.told() or ["how much is missing is known after this round"]
            log.warning("audit.repairs_held_back", kinds=sorted(held), reason="; ".join(reasons))

    async def _sweep(self, turn: Turn) -> None:
        page = await self._readers.stamped_page(turn.stage, turn.reached)
        unknown = page.stamps.keys() - await self._readers.known(page.stamps.keys())
        drifts = [
            _of_a_stamp(turn.stage, name, page.stamps[name], ours=name in page.ours)
            for name in sorted(unknown)
        ]
        for drift in drifts:
            told, what = (log.warning, "forgotten") if drift.is_ours else (log.debug, "foreign")
            name = drift.schedule_id
            told(f"audit.{what}_stamp", schedule_id=name, store=turn.stage.value, stamp=page.stamps[name])
        if drifts:
            counted = Counter(drift.kind.value for drift in drifts)
            await self._store.add(counted, drifts=[_written(drift) for drift in drifts])
        if await self._store.go_on(turn, page.following):
            log.debug("audit.round_over")


def _of_a_stamp(stage: Stage, name: str, stamp: str, *, ours: bool) -> Drift:
    """What a stamp under a name without a lane is: this outbox's own, forgotten, or somebody else's."""
    kind, fix = (DriftKind.FORGOTTEN, Fix.RECLAIM) if ours else (DriftKind.FOREIGN, Fix.NONE)
    return Drift(
        name, kind, f"in {_IN_WORDS[stage]}, with the stamp {stamp}, which the ledger doesn't know", fix
    )


def _written(drift: Drift) -> dict[str, str]:
    """A drift as the ledger keeps it."""
    return {
        "schedule_id": drift.schedule_id,
        "kind": drift.kind.value,
        "detail": drift.detail,
        "fix": drift.fix.value,
    }
