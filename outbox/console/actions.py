"""What operators do: first told of, then done to exactly what they were told of."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.audit.brake import FEW, Allowance, Rounds
from outbox.audit.drift import Drift, Fix
from outbox.compose.audit import AllThree
from outbox.compose.side_by_side import judge
from outbox.console.access import Visitor
from outbox.console.asked import DiscardChange, IntentsChange, ReplayChange, SchedulesChange
from outbox.console.halting import Halting
from outbox.console.waves import Waves
from outbox.store.operate import Answer, OperateStore
from outbox.store.reads import ReadStore

Shown = dict[str, Any]
Verdict = tuple[str, str]
"""What is to be done, and why."""

_CHANGED = "it has changed since the preview, and was left as it is: look again"
_BRAKED = (
    f"so many lack the same that no more than {FEW} at once are repaired from here: look at what is set "
    "first; outbox audit --repair --yes does it all the same"
)


class Actions:
    """Carries out what operators ask for, by the functions that the commands call.

    Attributes:
        halting: holds and releases.
        waves: plans replays of any size.
    """

    def __init__(self, engine: AsyncEngine, stores: AllThree) -> None:
        self._engine = engine
        self._ledger = ReadStore(engine)
        self._stores = stores
        self.halting = Halting(engine)
        self.waves = Waves(engine)

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
        """Have schedules brought to what the ledger says; of what is braked, a few at once."""
        allowance = Allowance(Rounds.of(await self._ledger.audit()))

        def judged(drifts: Sequence[Drift]) -> Verdict | None:
            if not any(drift.is_repaired for drift in drifts):
                return None
            if not allowance.takes([drift.kind for drift in drifts]):
                return "refused", _BRAKED
            return "repairing", _told(drifts)

        return await self._schedules(change, by, judged, adopting=False)

    async def adopt(self, change: SchedulesChange, by: Visitor) -> list[Shown]:
        """Take schedules from before the outbox into the ledger."""

        def judged(drifts: Sequence[Drift]) -> Verdict | None:
            mends = any(drift.fix is Fix.ADOPT for drift in drifts)
            return ("adopting", _told(drifts)) if mends else None

        return await self._schedules(change, by, judged, adopting=True)

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
        self,
        change: SchedulesChange,
        by: Visitor,
        judged: Callable[[Sequence[Drift]], Verdict | None],
        *,
        adopting: bool,
    ) -> list[Shown]:
        store = OperateStore(self._engine, by.name, change.reason)
        answers = []
        for schedule_id, findings in (await judge(self._stores, change.schedules)).items():
            drifts = [one for one in findings if isinstance(one, Drift)]
            seen, intent = _told(drifts), None
            if _stands_otherwise(change.seen, schedule_id, seen):
                action, reason = "refused", _CHANGED
            else:
                busy = len(drifts) < len(findings)
                action, reason = judged(drifts) or ("refused", _why_not(drifts, busy=busy))
            if action != "refused" and not change.dry_run:
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


def _told(drifts: Sequence[Drift]) -> str:
    return "; ".join(f"{one.kind}: {one.detail}" for one in drifts)


def _why_not(drifts: Sequence[Drift], *, busy: bool) -> str:
    if busy:
        return "its intents are under way: it can't be judged yet"
    if not drifts:
        return "the stores agree on it"
    return "; ".join(f"{one.kind}: {one.fix}" for one in drifts)
