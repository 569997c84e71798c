"""Halts from a page: what a hold keeps back is told first, and a release lets go what it showed."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox.console.access import Visitor
from outbox.console.asked import HaltChange, HoldChange
from outbox.store.halts import HaltAnswer, HaltStore

Shown = dict[str, Any]

_CHANGED = "somebody halted or released it since the preview, and it was left as it is: look again"


class Halting:
    """Keeps a store or a schedule from going on, and lets it go on again."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def hold(self, change: HoldChange, by: Visitor) -> list[Shown]:
        """Begin no step of it until it is released."""
        store, until = HaltStore(self._engine, by.name), change.ends_at

        def act() -> Awaitable[HaltAnswer]:
            return store.hold(change.what, until=until, why=change.reason, rehearsed=change.dry_run)

        return await _answered(store, change, act, until)

    async def release(self, change: HaltChange, by: Visitor) -> list[Shown]:
        """Let it go on."""
        store = HaltStore(self._engine, by.name)

        def act() -> Awaitable[HaltAnswer]:
            return store.release(change.what, why=change.reason, rehearsed=change.dry_run)

        return await _answered(store, change, act, None)


async def _answered(
    store: HaltStore, change: HaltChange, act: Callable[[], Awaitable[HaltAnswer]], until: datetime | None
) -> list[Shown]:
    """Act, unless it stands otherwise than the preview showed; with how much waits for it."""
    halt = await store.standing(change.what)
    kept = await store.kept(change.what)
    seen = "" if halt is None else f"{halt.who}, {halt.since.isoformat()}"
    changed = change.seen is not None and change.seen != seen
    answer = HaltAnswer(change.what, "refused", _CHANGED) if changed else await act()
    return [
        {
            "what": answer.what,
            "action": answer.action,
            "reason": answer.reason,
            "heads": kept.heads,
            "behind": kept.behind,
            "estimated": kept.estimated,
            "under_way": answer.under_way,
            "until": until,
            "seen": seen,
        }
    ]
