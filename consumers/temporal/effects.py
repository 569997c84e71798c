"""Effects on Temporal: create a schedule, update it, delete it.

Keeps rule 2 there: a create is known by its request id and found again by the stamp in its memo; a
delete, which the server takes unconditionally, is sent only for what was just seen to be the victim's.
"""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import structlog

from consumers.calls import Call, StoreFailure, cause_stands, in_doubt, undecided
from consumers.temporal.client import AlreadyTaken, Found, TemporalClient
from consumers.temporal.updates import Updates, carries_live
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch, Ledger, Standing
from outbox.flow.outcome import Conflict, Done, Outcome, Transient, Unknown
from outbox.flow.table import Effect

_log = structlog.get_logger()


class TemporalEffects:
    """Temporal's side of the flow; implements ``outbox.flow.dispatch.Effects``.

    Args:
        client: Temporal.
        ledger: tells whose a stamp is.
        instance: the id of this outbox, written beside each stamp.
    """

    def __init__(self, client: TemporalClient, ledger: Ledger, instance: UUID) -> None:
        self._client = client
        self._updates = Updates(client)
        self._ledger = ledger
        self._instance = instance

    async def apply(self, dispatch: Dispatch) -> Outcome:
        """Create, update or delete the schedule, as the step asks.

        Raises:
            ValueError: the step is not one of Temporal's.
        """
        call = Call.of(dispatch)
        try:
            match dispatch.step.effect:
                case Effect.CREATE:
                    return await self._create(dispatch, call)
                case Effect.UPDATE:
                    return await self._updates.apply(dispatch, call)
                case Effect.DELETE:
                    return await self._delete(dispatch, call)
                case effect:
                    raise ValueError(f"{effect} is no effect on Temporal")
        except StoreFailure as failure:
            return failure.outcome

    async def look(self, dispatch: Dispatch) -> Outcome:
        """Read whether the created or updated schedule stands, or whether the deleted one is gone."""
        if dispatch.step.effect is Effect.UPDATE:
            return await self._updates.look(dispatch, Call.of(dispatch))
        try:
            found = await self._client.describe(dispatch.schedule_id, Call.of(dispatch))
        except StoreFailure as failure:
            return undecided(failure.outcome)
        stands = None if dispatch.step.effect is Effect.DELETE else Found(str(dispatch.intent_id))
        return Done() if found == stands else cause_stands(dispatch, ErrorCode.REFUSED)

    async def find(self, dispatch: Dispatch) -> Found | None:
        """Read the schedule of the dispatch's id as it is now; None if there is none.

        Raises:
            StoreFailure: Temporal can't tell in time.
        """
        return await self._client.describe(dispatch.schedule_id, Call.of(dispatch))

    async def definition(self, dispatch: Dispatch) -> tuple[Found, dict[str, Any]] | None:
        """Read the schedule, and the request that would create it as it is now; None if there is none.

        Raises:
            StoreFailure: Temporal can't tell in time.
        """
        return await self._client.definition(dispatch.schedule_id, Call.of(dispatch))

    async def restore(self, dispatch: Dispatch) -> Outcome:
        """Bring back what the ledger says of a live schedule that is there."""
        try:
            return await self._updates.restore(dispatch, Call.of(dispatch))
        except StoreFailure as failure:
            return failure.outcome

    async def clear_debris(
        self, dispatch: Dispatch, *, ended: UUID | None = None, makes_room: bool = False
    ) -> Outcome:
        """Delete the schedule if an ended intent of the lane left it behind; others' is a conflict.

        Args:
            dispatch: of a repair.
            ended: an intent that has ended, though the ledger has it as live.
            makes_room: what is live is to be made in its place, by the next attempt.
        """
        call = Call.of(dispatch)
        try:
            found = await self._client.describe(dispatch.schedule_id, call)
            if found is None or (dispatch.live_adopted and found.stamp is None):
                return Done()
            is_ended = ended is not None and found.stamp == str(ended)
            match Standing.ENDED if is_ended else await self._standing(dispatch.schedule_id, found):
                case Standing.ENDED if makes_room:
                    return await self._make_room(dispatch, found, call)
                case Standing.ENDED:
                    await self._client.delete(dispatch.schedule_id, call)
                    return Done()
                case Standing.LIVE:
                    return Transient(
                        ErrorCode.RACED, f"{dispatch.schedule_id} is live again", retry_after=0.0
                    )
                case Standing.FOREIGN:
                    return _foreign(dispatch.schedule_id)
        except StoreFailure as failure:
            return failure.outcome

    async def _create(self, dispatch: Dispatch, call: Call) -> Outcome:
        try:
            await self._client.create(dispatch, self._instance, call)
        except AlreadyTaken:
            return await self._explain(dispatch, await self._find(dispatch, call), call)
        # No look at what took effect: a look that fails must not cost a schedule that exists.
        if not dispatch.unknown:
            return Done()
        # Where there is doubt, OK may be the memory of an earlier attempt, whose schedule is gone since.
        found = await self._find(dispatch, call)
        if found is None:
            return await self._create_anew(dispatch, call)
        return await self._explain(dispatch, found, call)

    async def _create_anew(self, dispatch: Dispatch, call: Call) -> Outcome:
        """Create what the server remembers and has no more: under the usual id it would say OK for ever."""
        try:
            await self._client.create(dispatch, self._instance, call, anew=True)
        except AlreadyTaken:
            return await self._explain(dispatch, await self._find(dispatch, call), call)
        return Done()

    async def _find(self, dispatch: Dispatch, call: Call) -> Found | None:
        """Look what a create met or made; a look that fails leaves that open."""
        try:
            return await self._client.describe(dispatch.schedule_id, call)
        except StoreFailure as failure:
            raise StoreFailure(in_doubt(failure.outcome)) from failure

    async def _explain(self, dispatch: Dispatch, found: Found | None, call: Call) -> Outcome:
        """Tell whose schedule has the id, and clear it away if it is debris of our own lane."""
        schedule_id = dispatch.schedule_id
        if found is None:
            return Transient(ErrorCode.RACED, f"{schedule_id} was deleted meanwhile", retry_after=0.0)
        if found.stamp == str(dispatch.intent_id):
            return Done()
        match await self._standing(schedule_id, found):
            case Standing.ENDED:
                return await self._make_room(dispatch, found, call)
            case Standing.LIVE:
                message = f"{schedule_id} exists, created by intent {found.stamp}: delete it first"
                return Conflict(ErrorCode.CONFLICT_LIVE, message)
            case Standing.FOREIGN:
                return _foreign(schedule_id)

    async def _make_room(self, dispatch: Dispatch, found: Found, call: Call) -> Transient:
        """Delete debris, for the next attempt to create in its place.

        That one waits until no removal can land late and take away what it makes: neither this one, where it
        gets no answer, nor that of an earlier attempt without one, whose worker may have died at it.
        """
        schedule_id = dispatch.schedule_id
        try:
            await self._client.delete(schedule_id, call)
        except StoreFailure as failure:
            if isinstance(failure.outcome, Unknown):
                raise StoreFailure(replace(failure.outcome, waits=True)) from failure
            raise
        except asyncio.CancelledError:
            message = f"{schedule_id}: debris was being removed when the time was over"
            raise StoreFailure(Unknown(ErrorCode.TIMED_OUT, message, waits=True)) from None
        message = f"debris of intent {found.stamp} was removed from {schedule_id}"
        return Transient(ErrorCode.RACED, message, retry_after=0.0, waits=dispatch.unknown)

    async def _delete(self, dispatch: Dispatch, call: Call) -> Outcome:
        schedule_id = dispatch.schedule_id
        found = await self._client.describe(schedule_id, call)
        if found is None:
            return Done()
        # What the outbox did not create carries no stamp: a legacy schedule, adopted or not.
        is_legacy = dispatch.live_intent is None and found.stamp is None
        is_victim = is_legacy or carries_live(dispatch, found)
        if not is_victim and await self._standing(schedule_id, found) is not Standing.ENDED:
            return _foreign(schedule_id)
        if found.stamp is None:
            _log.info("legacy_schedule_deleted", schedule_id=schedule_id, intent_id=str(dispatch.intent_id))
        await self._client.delete(schedule_id, call)
        return Done()

    async def _standing(self, schedule_id: str, found: Found) -> Standing:
        if found.stamp is None:
            return Standing.FOREIGN
        return await self._ledger.standing(schedule_id, found.stamp)


def _foreign(schedule_id: str) -> Conflict:
    return Conflict(
        ErrorCode.CONFLICT_FOREIGN, f"{schedule_id} exists in Temporal, and the outbox did not create it"
    )
