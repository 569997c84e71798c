"""The ledger in memory, watched: what it settles, and what it answers to operators and producers."""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from outbox.flow.settlement import Settlement
from outbox.flow.table import Consumer, Kind
from outbox.store.work import Settled, Timing
from tests.simulation.ledger.postgres import MemoryPostgres
from tests.simulation.ledger.tables import FOREVER, Intent
from tests.simulation.reach.cells import Act, Deed, Head, Lane, Live
from tests.simulation.reach.witness import Witness

_ASKS = {Kind.CREATE: Deed.CREATE, Kind.UPDATE: Deed.UPDATE, Kind.DELETE: Deed.DELETE}


class WatchedPostgres(MemoryPostgres):
    """The ledger, whose witness learns in what state a lane was when somebody did something about it.

    Args:
        timing: of the leases.
        clock: tells the moment, in seconds.
        random: makes the ids.
        rates: steps a second of each consumer that has a limit.
        witness: learns it.
    """

    def __init__(
        self,
        timing: Timing,
        clock: Callable[[], float],
        random: random.Random,
        rates: Mapping[Consumer, float],
        witness: Witness,
    ) -> None:
        super().__init__(timing, clock, random, rates)
        self._witness = witness

    def settle(
        self, settlements: Sequence[Settlement], room: Mapping[Consumer, int], deadline: float
    ) -> Settled:
        """Settle a batch."""
        settled = super().settle(settlements, room, deadline)
        self._witness.settled(settlements, settled.matched)
        return settled

    def commit(self, intents: Iterable[Intent]) -> None:
        """Let everybody see what a producer's transaction wrote."""
        asked = list(intents)
        for one in asked:
            self._witness.acted(Act(self.state(one.schedule_id), _ASKS[one.kind], "asked"))
        super().commit(asked)

    def replay(self, intent_id: UUID, *, forced: bool = False) -> str:
        """Re-arm a parked step, or enqueue a failed intent anew."""
        deed = Deed.FORCE if forced else Deed.REPLAY
        lane = self.intents[intent_id].schedule_id
        return self._told(deed, [lane], partial(super().replay, intent_id, forced=forced))

    def discard(self, intent_id: UUID, why: str) -> str:
        """End a parked intent."""
        lane = self.intents[intent_id].schedule_id
        return self._told(Deed.DISCARD, [lane], partial(super().discard, intent_id, why))

    def hold(self, what: str, *, until: float = FOREVER) -> str:
        """Halt a store or a schedule."""
        deed = Deed.HALT_STORE if what in set(Consumer) else Deed.HALT
        return self._told(deed, self._halted_with(what), partial(super().hold, what, until=until))

    def release(self, what: str) -> str:
        """Let a store or a schedule go on."""
        deed = Deed.RELEASE_STORE if what in set(Consumer) else Deed.RELEASE
        return self._told(deed, self._halted_with(what), partial(super().release, what))

    def request_repair(self, schedule_id: str, *, adopting: bool = False) -> UUID:
        """Ask for a repair, or an adoption."""
        deed = Deed.ADOPT if adopting else Deed.REPAIR
        return self._asked(deed, schedule_id, partial(super().request_repair, schedule_id, adopting=adopting))

    def request_reclaim(
        self, schedule_id: str, stamp: UUID, definition: Mapping[str, Any], creator: Mapping[str, Any]
    ) -> UUID:
        """Ask for what carries this stamp to become the lane's live one."""
        ask = partial(super().request_reclaim, schedule_id, stamp, definition, creator)
        return self._asked(Deed.RECLAIM, schedule_id, ask)

    def prune(self, older_than: float, intents: Collection[UUID]) -> int:
        """Delete what ended before and nothing needs."""
        before = {name: self.state(name) for name in self._lanes()}
        of = {one.id: one.schedule_id for one in self.intents.values()}
        many = super().prune(older_than, intents)
        pruned = {of[gone] for gone in of.keys() - self.intents.keys()}
        for name, state in before.items():
            self._witness.acted(Act(state, Deed.PRUNE, "pruned" if name in pruned else "kept"))
        return many

    def state(self, schedule_id: str) -> Lane:
        """In what state a lane is."""
        rows = [row for row in self.queue.values() if row.schedule_id == schedule_id]
        head = next((row for row in rows if row.place == "head"), None)
        live = self.live_intent(schedule_id)
        return Lane(
            head=Head.NONE if head is None else Head(head.state),
            followed=any(row.place == "behind" for row in rows),
            live=Live.of(live, adopted=self._is_repair(live)),
        )

    def _told(self, deed: Deed, lanes: Iterable[str], act: Callable[[], str]) -> str:
        before = [self.state(name) for name in lanes]
        told = act()
        for one in before:
            self._witness.acted(Act(one, deed, told))
        return told

    def _asked(self, deed: Deed, lane: str, ask: Callable[[], UUID]) -> UUID:
        before, known = self.state(lane), set(self.intents)
        repair = ask()
        self._witness.acted(Act(before, deed, "asked already" if repair in known else "asked"))
        return repair

    def _halted_with(self, what: str) -> list[str]:
        return self._lanes() if what in set(Consumer) else [what]

    def _lanes(self) -> list[str]:
        return sorted({one.schedule_id for one in self.intents.values()})
