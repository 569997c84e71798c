"""What the console shows: one set of reads for its pages and for its API."""

from dataclasses import asdict
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.audit.brake import Rounds
from outbox.audit.drift import is_ours, mended_by
from outbox.compose.audit import AllThree
from outbox.compose.side_by_side import side_by_side
from outbox.console.asked import (
    AuditQuery,
    IntentsQuery,
    ItemsQuery,
    OperationsQuery,
    PageQuery,
    ReplaysQuery,
)
from outbox.console.shared import Shared
from outbox.flow.table import Status
from outbox.store.browse import BrowseStore
from outbox.store.drifts import DriftStore
from outbox.store.failures import FailureStore
from outbox.store.reads import ReadStore
from outbox.store.replays import ReplayReads
from outbox.store.shapes import intent_json, timeline
from outbox.store.why import waits_because

Shown = dict[str, Any]

_BY_TIME_ALONE = frozenset({"oldest_head_age_seconds", "oldest_transaction"})
_UNDER_WAY = frozenset({Status.PENDING, Status.PARKED})


class Reads:
    """Answers what pages and API calls ask. Writes nothing and locks nothing."""

    def __init__(self, engine: AsyncEngine, stores: AllThree) -> None:
        self._ledger = ReadStore(engine)
        self._browse = BrowseStore(engine)
        self._failures = FailureStore(engine)
        self._drifts = DriftStore(engine)
        self._replays = ReplayReads(engine)
        self._stores = stores

    async def pulse(self) -> Shown:
        """What changes when something happens, and not by time alone."""
        depths = await self._ledger.depths()
        still = {name: value for name, value in depths.items() if name not in _BY_TIME_ALONE}
        there = [one["id"] for one in depths["workers"] if one["present"]]
        return still | {"workers": there, "replays": await self._replays.progress()}

    async def overview(self) -> Shown:
        """How much waits and where, what ended lately, what is down; the last hour, minute by minute."""
        depths = await self._ledger.depths()
        return depths | {"last_hour": await self._browse.last_hour()}

    async def intents(self, query: IntentsQuery) -> Shown:
        """One page of the intents that match; ``next`` is the cursor of the one that follows."""
        page = await self._browse.page(query.wanted())
        return {"intents": [intent_json(row) for row in page.rows], "next": page.following}

    async def intent(self, intent_id: UUID, *, payload: bool) -> Shown | None:
        """One intent with all that happened to it; its request only with ``payload``."""
        row = await self._ledger.intent(intent_id)
        if row is None:
            return None
        events, attempts = await self._ledger.history([intent_id])
        (found,) = timeline([row], events, attempts)
        asked = await self._browse.asked(intent_id) if payload else None
        return found | (asked or {})

    async def failures(self) -> Shown:
        """What has failed or is parked, in groups of what is alike in it, the youngest first."""
        return {"groups": await self._failures.groups()}

    async def failure_group(self, group: str, query: PageQuery) -> Shown | None:
        """Some intents of a group, the last to fail first; ``next`` is the cursor of those that follow."""
        rows = await self._failures.page(group, before=query.cursor, limit=query.limit)
        if not rows and query.cursor is None:
            return None
        following = rows[-1]["id"] if len(rows) == query.limit else None
        return {
            "group_id": group,
            "intents": [intent_json(row) | {"failed_at": row["failed_at"]} for row in rows],
            "next": following,
        }

    async def audit(self, query: AuditQuery) -> Shown:
        """What the continuous audit has found: its rounds, how much of each kind, and some of it."""
        rounds = await self._ledger.audit()
        rows = await self._drifts.page(kind=query.kind, after=query.after, limit=query.limit)
        last = rows[-1] if len(rows) == query.limit else None
        return {
            "rounds": rounds,
            "braked": Rounds.of(rounds).told(),
            "kinds": [
                one | {"ours": is_ours(one["kind"]), "mended_by": mended_by(one["fix"])}
                for one in await self._drifts.kinds()
            ],
            "drifts": [
                one | {"ours": is_ours(one["kind"]), "mended_by": mended_by(one["fix"])} for one in rows
            ],
            "next": f"{last['schedule_id']}:{last['kind']}" if last else None,
        }

    async def replays(self, query: ReplaysQuery) -> Shown:
        """Replays in waves, the newest first, each with how many of it came out how."""
        rows = await self._replays.found(before=query.cursor, limit=query.limit)
        return {"replays": rows, "next": rows[-1]["id"] if len(rows) == query.limit else None}

    async def replay(self, replay: int) -> Shown | None:
        """One replay in waves: what is planned or came of how many and why, and how each wave came out."""
        found = await self._replays.found(replay=replay)
        if not found:
            return None
        return found[0] | {
            "answers": await self._replays.answers(replay),
            "by_wave": await self._replays.waves(replay),
        }

    async def replay_items(self, replay: int, query: ItemsQuery) -> Shown:
        """Some intents of a replay, in order."""
        rows = await self._replays.items(replay, after=query.cursor or 0, limit=query.limit)
        return {"items": rows, "next": rows[-1]["number"] if len(rows) == query.limit else None}

    async def operations(self, query: OperationsQuery) -> Shown:
        """What operators did, the newest first."""
        rows = await self._ledger.operations(
            target=query.target, since=query.after, before=query.cursor, limit=query.limit
        )
        following = rows[-1]["id"] if len(rows) == query.limit else None
        return {"operations": rows, "next": following}

    async def schedule(self, schedule_id: str, limit: int) -> Shown | None:
        """One lane: its timeline, why it waits, what stands behind its head, and the three stores."""
        rows = await self._ledger.lane(schedule_id, limit=limit)
        stores = await side_by_side(self._stores, schedule_id)
        if not rows and not any(stores[one] for one in ("ledger", "spicedb", "temporal")):
            return None
        events, attempts = await self._ledger.history([row["id"] for row in rows])
        head, behind = await self._ledger.head(schedule_id)
        waits = head is not None and any(row["status"] in _UNDER_WAY for row in rows)
        reason = waits_because(head, behind, await self._ledger.blocker()) if head and waits else None
        due = head["due_at"] if head and waits else None
        return {
            "schedule_id": schedule_id,
            "waits_because": reason,
            "waits_until": due if head and due and due > head["now"] else None,
            "head": head["intent_id"] if head and waits else None,
            "behind": behind,
            "halts": [asdict(one) for one in await self._ledger.halts(schedule_id)],
            "intents": timeline(rows, events, attempts),
            "operations": await self._ledger.operations(target=schedule_id, limit=limit),
            **stores,
        }


class SharedReads(Reads):
    """The same for pages that follow what happens: all that show the same share one read."""

    def __init__(self, engine: AsyncEngine, stores: AllThree) -> None:
        super().__init__(engine, stores)
        self._shared = Shared()
        self.forget = self._shared.forget

    async def overview(self) -> Shown:
        """As ``Reads.overview``."""
        found: Shown = await self._shared.get("overview", super().overview)
        return found

    async def intents(self, query: IntentsQuery) -> Shown:
        """As ``Reads.intents``."""
        found: Shown = await self._shared.get(query, partial(super().intents, query))
        return found

    async def schedule(self, schedule_id: str, limit: int) -> Shown | None:
        """As ``Reads.schedule``."""
        read = partial(super().schedule, schedule_id, limit)
        found: Shown | None = await self._shared.get((schedule_id, limit), read)
        return found

    async def replay(self, replay: int) -> Shown | None:
        """As ``Reads.replay``."""
        found: Shown | None = await self._shared.get(("replay", replay), partial(super().replay, replay))
        return found
