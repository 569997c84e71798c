"""The effect on both stores: bring them to what a lane's live stamp says.

Runs in the lane like any other intent, so that nothing else of the lane is under way (rule 5). It
repeats the live create's own effects, which are conditional; clears away what ended intents left behind, and
what a schedule that has run out leaves; and takes into the ledger what it doesn't know, from before the
outbox or of a ledger that was lost.
"""

from dataclasses import replace
from uuid import UUID

import structlog

from consumers.authz.effects import AuthzEffects
from consumers.calls import StoreFailure, undecided
from consumers.temporal.client import Found
from consumers.temporal.described import is_described
from consumers.temporal.effects import TemporalEffects
from consumers.temporal.updates import carries_live, revision_of, tells
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Conflict, Done, Outcome
from outbox.flow.table import Effect, EventType, Kind, Live

_log = structlog.get_logger()


class RepairEffects:
    """Both stores' side of a repair; implements ``outbox.flow.dispatch.Effects``.

    Args:
        authz: SpiceDB's side.
        temporal: Temporal's side.
    """

    def __init__(self, authz: AuthzEffects, temporal: TemporalEffects) -> None:
        self._authz = authz
        self._temporal = temporal

    async def apply(self, dispatch: Dispatch) -> Outcome:
        """Make the live schedule whole, take away what no live schedule needs, or take in what is there.

        What somebody else put there is left alone and reported by ``audit``: a repair is done with it.

        Raises:
            ValueError: the step is no repair.
        """
        if dispatch.step.effect is not Effect.REPAIR:
            raise ValueError(f"{dispatch.step.effect} is no repair")
        try:
            outcome = await self._bring_about(dispatch)
        except StoreFailure as failure:
            return undecided(failure.outcome)
        if not isinstance(outcome, Conflict):
            return outcome
        _log.warning("repair_left_alone", schedule_id=dispatch.schedule_id, reason=outcome.message)
        # An adoption's stamp may be there, or land yet. No attempt may go on once one has begun to take it
        # back, so that is left to a look: after a conflict that holds, there is nothing else.
        return outcome if dispatch.adopts and dispatch.unknown else Done()

    async def look(self, dispatch: Dispatch) -> Outcome:
        """End a repair that is given up or discarded: what it did stands, save an adoption's stamp."""
        return await self._authz.withdraw(dispatch) if dispatch.adopts else Done()

    async def _bring_about(self, dispatch: Dispatch) -> Outcome:
        if dispatch.reclaims is not None:
            return await self._reclaim(dispatch, dispatch.reclaims)
        if dispatch.live_intent is None:
            return await (self._adopt(dispatch) if dispatch.adopts else self._clear(dispatch))
        if dispatch.adopts and not dispatch.live_adopted:
            return _is_live(dispatch)
        if await self._was_ended(dispatch, dispatch.live_intent):
            return await self._finish(dispatch, dispatch.live_intent)
        if dispatch.live_adopted:
            return await self._restore_adopted(dispatch, dispatch.live_intent)
        return await self._restore(dispatch, dispatch.live_intent)

    async def _restore(self, dispatch: Dispatch, live: UUID) -> Outcome:
        """Register first, then create: the order of every create."""
        create = _create_of(dispatch, live)
        found = await self._temporal.find(dispatch)
        stands = found == Found(str(live))
        if dispatch.ran_out and not stands:
            return await self._finish(dispatch, live)
        registered = await self._authz.apply(replace(create, event_type=EventType.CREATE_REQUESTED))
        if not isinstance(registered, Done):
            return registered
        if found is None or not stands:
            return await self._temporal.apply(create)
        return await self._bring_back(dispatch, found) or registered

    async def _bring_back(self, dispatch: Dispatch, found: Found) -> Outcome | None:
        """Write the definition over a late update of another one; None if the right one stands."""
        if tells(found, dispatch.revision):
            return None
        return await self._temporal.restore(dispatch)

    async def _was_ended(self, dispatch: Dispatch, live: UUID) -> bool:
        """Whether the live intent's end is in SpiceDB already: then the ledger has gone back in time."""
        return await self._authz.has_ended(dispatch, str(live))

    async def _finish(self, dispatch: Dispatch, live: UUID) -> Outcome:
        """Free the name of a schedule that has ended, and end its owner's access.

        It is gone from Temporal, unless that went back in time with the ledger.
        """
        cleared = await self._temporal.clear_debris(dispatch, ended=live)
        if not isinstance(cleared, Done | Conflict):
            return cleared
        gone = replace(dispatch, intent_id=live, event_type=EventType.COMPENSATION_REQUESTED)
        retired = await self._authz.apply(gone)
        return replace(retired, live=Live.CLEAR) if isinstance(retired, Done) else retired

    async def _clear(self, dispatch: Dispatch) -> Outcome:
        """Take the schedule away first, then its registration: the order of every delete."""
        unscheduled = await self._temporal.clear_debris(dispatch)
        if not isinstance(unscheduled, Done | Conflict):
            return unscheduled
        # Somebody else's schedule of the name is no reason to leave a former owner's access to it.
        deregistered = await self._authz.clear_debris(dispatch)
        return unscheduled if isinstance(deregistered, Done) else deregistered

    # Schedules of a ledger that was lost.

    async def _reclaim(self, dispatch: Dispatch, stamp: str) -> Outcome:
        """Have what carries the stamp in both stores live again: it stays as it is."""
        if str(dispatch.live_intent) == stamp:
            # The ledger knows how it is defined. Temporal may tell of an update that failed, and landed late.
            return _is_live(dispatch)
        found = await self._temporal.find(dispatch)
        if found is None or found != Found(stamp) or not await self._authz.carries(dispatch, stamp):
            message = f"{dispatch.schedule_id} can't be reclaimed: the stores don't agree on {stamp} any more"
            return Conflict(ErrorCode.CONFLICT_FOREIGN, message)
        if dispatch.live_intent is not None:
            # An older ledger's, of which nothing is left.
            await self._authz.retire(dispatch, str(dispatch.live_intent))
        return Done(live=Live.RECLAIM, revision=revision_of(found))

    # Schedules from before the outbox.

    async def _adopt(self, dispatch: Dispatch) -> Outcome:
        """Make what is there the live schedule, by a stamp in SpiceDB: Temporal's memo can't change."""
        there = await self._temporal.definition(dispatch)
        if there is None or there[0] != Found(None):
            return _not_adopted(dispatch, "Temporal has no schedule without a stamp under the name")
        stamped = await self._authz.adopt(dispatch)
        if isinstance(stamped, Conflict):
            return _not_adopted(dispatch, "in SpiceDB it has no owner, or a stamp already")
        if not isinstance(stamped, Done):
            return stamped
        return replace(stamped, live=Live.SET, definition=there[1])

    async def _restore_adopted(self, dispatch: Dispatch, live: UUID) -> Outcome:
        """Restore an adopted schedule's stamp, and the schedule too where the ledger has its description."""
        there = await self._temporal.definition(dispatch)
        if there is None and dispatch.ran_out:
            return await self._finish(dispatch, live)
        if there is not None and not carries_live(dispatch, there[0]):
            cleared = await self._temporal.clear_debris(dispatch, makes_room=True)
            if not isinstance(cleared, Done):
                return cleared
            there = None
        stamped = await self._authz.adopt(replace(dispatch, intent_id=live))
        if not isinstance(stamped, Done):
            return stamped
        if not is_described(dispatch.request):
            return stamped if there is None else replace(stamped, definition=there[1])
        if there is None:
            return await self._temporal.apply(_create_of(dispatch, live))
        return await self._bring_back(dispatch, there[0]) or stamped


def _is_live(dispatch: Dispatch) -> Conflict:
    message = f"{dispatch.schedule_id} exists, created by intent {dispatch.live_intent}"
    return Conflict(ErrorCode.CONFLICT_LIVE, message)


def _not_adopted(dispatch: Dispatch, reason: str) -> Conflict:
    return Conflict(ErrorCode.CONFLICT_FOREIGN, f"{dispatch.schedule_id} can't be adopted: {reason}")


def _create_of(dispatch: Dispatch, live: UUID) -> Dispatch:
    """The live create once more, by another request id than what the server remembers."""
    return replace(
        dispatch,
        intent_id=live,
        kind=Kind.CREATE,
        event_type=EventType.REGISTERED,
        generation=str(dispatch.intent_id),
        unknown=True,
    )
