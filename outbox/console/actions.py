"""What operators do: first told of, then done to exactly what they were told of."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.audit.drift import Drift, Fix
from outbox.compose.audit import AllThree
from outbox.compose.side_by_side import judge
from outbox.console.access import Visitor
from outbox.console.asked import DiscardChange, IntentsChange, ReplayChange, SchedulesChange
from outbox.store.operate import Answer, OperateStore
from outbox.store.reads import ReadStore

Shown = dict[str, Any]

_CHANGED = "it has changed since the preview, and was left as it is: look again"


class Actions:
    """Carries out what operators ask for, by the functions that the commands call."""

    def __init__(self, engine: AsyncEngine, stores: AllThree) -> None:
        self._engine = engine
        self._ledger = ReadStore(engine)
        self._stores = stores

    async def replay(self, change: ReplayChange, by: Visitor) -> list[Shown]:
        """Try intents again."""
        store = OperateStore(self._engine, by.name, change.reason)
        return await self._each(
            change,
            lambda intent: store.replay(intent, forced=change.force, rehearsed=change.dry_run),
        )

    async def discard(self, change: DiscardChange, by: Visitor) -> list[Shown]:
        """End parked intents."""
        store = OperateStore(self._engine, by.name, change.reason)
        return await self._each(
            change, lambda intent: store.discard(intent, change.reason, rehearsed=change.dry_run)
        )

    async def repair(self, change: SchedulesChange, by: Visitor) -> list[Shown]:
        """Have schedules brought to what the ledger says."""
        return await self._schedules(change, by, lambda drift: drift.is_repaired, adopting=False)

    async def adopt(self, change: SchedulesChange, by: Visitor) -> list[Shown]:
        """Take schedules from before the outbox into the ledger."""
        return await self._schedules(change, by, lambda drift: drift.fix is Fix.ADOPT, adopting=True)

    async def _each(self, change: IntentsChange, act: Callable[[UUID], Awaitable[Answer]]) -> list[Shown]:
        answers = []
        for intent in dict.fromkeys(change.intents):
            row = await self._ledger.intent(intent)
            seen = "" if row is None else f"{row['event_type']}/{row['attempts']}"
            if _stands_otherwise(change.seen, intent, seen):
                answer = Answer(intent, "refused", _CHANGED)
            else:
                answer = await act(intent)
            answers.append(
                {
                    "intent_id": intent,
                    "schedule_id": None if row is None else row["schedule_id"],
                    "action": answer.action,
                    "reason": answer.reason,
                    "new_intent_id": answer.new_intent,
                    "seen": seen,
                }
            )
        return answers

    async def _schedules(
        self, change: SchedulesChange, by: Visitor, mends: Callable[[Drift], bool], *, adopting: bool
    ) -> list[Shown]:
        store = OperateStore(self._engine, by.name, change.reason)
        answers = []
        found = await judge(self._stores, change.schedules)
        for schedule_id, findings in found.items():
            drifts = [one for one in findings if isinstance(one, Drift)]
            seen = "; ".join(f"{one.kind}: {one.detail}" for one in drifts)
            action, reason, intent = "refused", _why_not(drifts, busy=len(drifts) < len(findings)), None
            if _stands_otherwise(change.seen, schedule_id, seen):
                reason = _CHANGED
            elif any(map(mends, drifts)):
                action, reason = "adopting" if adopting else "repairing", seen
                if not change.dry_run:
                    intent = await store.request_repair(schedule_id, adopting=adopting)
            answers.append(
                {
                    "schedule_id": schedule_id,
                    "action": action,
                    "reason": reason,
                    "new_intent_id": intent,
                    "seen": seen,
                }
            )
        return answers


def _stands_otherwise(previewed: Mapping[Any, str], what: UUID | str, seen: str) -> bool:
    return bool(previewed) and previewed.get(what) != seen


def _why_not(drifts: Sequence[Drift], *, busy: bool) -> str:
    if busy:
        return "its intents are under way: it can't be judged yet"
    if not drifts:
        return "the stores agree on it"
    return "; ".join(f"{one.kind}: {one.fix}" for one in drifts)
