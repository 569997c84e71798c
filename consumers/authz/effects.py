"""Effects on SpiceDB: register a schedule, compensate a registration, deregister a deleted schedule, adopt.

Keeps rule 2 there: whose a registration is, and whether it happened, is read from its stamp; every
write is conditional; an intent is marked ended before what it registered is taken away, so that a write of
it which arrives late can never land; and nothing that isn't ours is ever touched.
"""

from collections.abc import Iterable

import structlog

from consumers.authz.client import AuthzClient, NotAsExpected, Read, Requires, Tuple
from consumers.authz.names import (
    AGENT,
    INTENT,
    OWNER,
    PARENT_AGENT,
    REGISTERED_BY,
    SCHEDULE,
    SERVICE_ACCOUNT,
    USER,
    agent_of,
)
from consumers.authz.relationships import (
    Holding,
    any_stamp,
    ended,
    mark_of,
    nothing_of,
    object_of,
    only,
    stamp_of,
    stamped,
)
from consumers.calls import ACCOUNT_HEADER, Call, StoreFailure, cause_stands, in_doubt, undecided
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Creator, Dispatch, Ledger, Standing
from outbox.flow.outcome import Conflict, Done, Outcome, Refused, Transient
from outbox.flow.table import Effect

_log = structlog.get_logger()


class AuthzEffects:
    """SpiceDB's side of the flow; implements ``outbox.flow.dispatch.Effects``."""

    def __init__(self, client: AuthzClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger

    async def apply(self, dispatch: Dispatch) -> Outcome:
        """Register, compensate or deregister, as the step asks.

        Raises:
            ValueError: the step is not one of SpiceDB's, or its ids are none.
        """
        call = _call(dispatch)
        try:
            match dispatch.step.effect:
                case Effect.REGISTER:
                    return await self._register(dispatch, call)
                case Effect.COMPENSATE:
                    return await self._compensate(dispatch, call)
                case Effect.DEREGISTER:
                    return await self._deregister(dispatch, call)
                case effect:
                    raise ValueError(f"{effect} is no effect on SpiceDB")
        except StoreFailure as failure:
            return failure.outcome

    async def look(self, dispatch: Dispatch) -> Outcome:
        """Ask whether the registration stands. The other effects, never refused, are applied again."""
        if dispatch.step.effect is not Effect.REGISTER:
            return await self.apply(dispatch)
        try:
            token = await self._registered(dispatch, _call(dispatch))
        except StoreFailure as failure:
            return undecided(failure.outcome)
        if token is not None:
            return Done(token)
        return cause_stands(dispatch, ErrorCode.REGISTRATION_REFUSED)

    async def clear_debris(self, dispatch: Dispatch) -> Outcome:
        """Remove the relationships that an ended intent of the lane left behind; others' are a conflict."""
        call = _call(dispatch)
        try:
            if await self._is_free(dispatch, call):
                return Done()
            outcome = await self._clear_what_is_there(dispatch, call)
        except StoreFailure as failure:
            return failure.outcome
        return outcome

    async def adopt(self, dispatch: Dispatch) -> Outcome:
        """Stamp an owned schedule that has no stamp in the intent's name; whoever owns it still does.

        ``Done`` too if the stamp stands. What has no owner, or a stamp of somebody else's, is a conflict.
        """
        call = _call(dispatch)
        stamp = stamp_of(dispatch.schedule_id, str(dispatch.intent_id))
        try:
            holding = await self._read(dispatch.schedule_id, call)
            if holding.stamps == [stamp.subject_id]:
                return Done(holding.zed_token)
            owners = [t for t in holding.tuples if t.relation == OWNER]
            if holding.stamps or not owners:
                return await self._clear(dispatch, holding, call)
            requires = [Requires(only(owner), present=True) for owner in sorted(owners)]
            unstamped = Requires(any_stamp(dispatch.schedule_id), present=False)
            going_on = Requires(ended(stamp.subject_id), present=False)
            return Done(await self._client.create([stamp], [*requires, unstamped, going_on], call))
        except NotAsExpected:
            # Or the write arrived twice, and met itself: only what is in doubt is taken back by a look.
            return in_doubt(_raced(f"{dispatch.schedule_id} changed while it was adopted"))
        except StoreFailure as failure:
            return failure.outcome

    async def withdraw(self, dispatch: Dispatch) -> Outcome:
        """Take an adoption's stamp back, and nothing else; one still under way can't land any more."""
        call = _call(dispatch)
        stamp = stamp_of(dispatch.schedule_id, str(dispatch.intent_id))
        try:
            await self._client.touch([mark_of(stamp.subject_id)], call)
            return Done(await self._client.delete(stamped(stamp.resource_id, stamp.subject_id), [], call))
        except StoreFailure as failure:
            return failure.outcome

    async def carries(self, dispatch: Dispatch, stamp: str) -> bool:
        """Whether this stamp alone stands, under the dispatch's creator alone, and is not marked as ended.

        Raises:
            StoreFailure: SpiceDB can't tell in time.
        """
        call = _call(dispatch)
        holding = await self._read(dispatch.schedule_id, call)
        if holding.stamps != [stamp] or _owners(holding.tuples) != {owner_of(dispatch.creator)}:
            return False
        return not await self.has_ended(dispatch, stamp)

    async def has_ended(self, dispatch: Dispatch, intent_id: str) -> bool:
        """Whether an intent is marked as ended.

        Raises:
            StoreFailure: SpiceDB can't tell in time.
        """
        marked = Requires(ended(intent_id), present=True)
        return await self._holds(dispatch, _call(dispatch), marked) is not None

    async def retire(self, dispatch: Dispatch, intent_id: str) -> None:
        """Mark an intent as ended, so that no registration of it can land any more.

        Raises:
            StoreFailure: it isn't known to be marked.
        """
        await self._client.touch([mark_of(intent_id)], _call(dispatch))

    # Registering.

    async def _register(self, dispatch: Dispatch, call: Call) -> Outcome:
        # The live schedule may have been created without a registration: SpiceDB alone can't tell.
        if dispatch.live_intent not in {None, dispatch.intent_id}:
            return Conflict(
                ErrorCode.CONFLICT_LIVE,
                f"{dispatch.schedule_id} exists, created by intent {dispatch.live_intent}: delete it first",
            )
        wanted = registration(dispatch)
        if not wanted:
            return await self._skip(dispatch, call)
        requires = (
            Requires(object_of(dispatch.schedule_id), present=False),
            Requires(ended(str(dispatch.intent_id)), present=False),
        )
        try:
            return Done(await self._client.create(sorted(wanted), requires, call))
        except NotAsExpected:
            return await self._explain(dispatch, call)

    async def _explain(self, dispatch: Dispatch, call: Call) -> Outcome:
        """Tell why the registration's preconditions did not hold, and clear away what is ours."""
        try:
            token = await self._registered(dispatch, call)
        except StoreFailure as failure:
            # A write that arrived twice meets itself: it may be what stands in its own way.
            raise StoreFailure(in_doubt(failure.outcome)) from failure
        if token is not None:
            return Done(token)
        holding = await self._read(dispatch.schedule_id, call)
        missing = registration(dispatch) - holding.tuples
        if missing and holding.stamps == [str(dispatch.intent_id)]:
            # Not marked as ended: this intent still means to register. What the read missed must be missing
            # still: one that is behind would have a whole registration removed, and what was granted on it.
            missing_still = [Requires(only(one), present=False) for one in sorted(missing)]
            removed = await self._remove(dispatch.schedule_id, str(dispatch.intent_id), call, *missing_still)
            message = f"part of the registration of {dispatch.schedule_id} was missing: it starts over"
            return _raced(message, written=removed)
        if not (missing and holding.tuples):
            return _raced(f"{dispatch.schedule_id} was not free a moment ago, or its intent was ended")
        return await self._clear(dispatch, holding, call)

    async def _skip(self, dispatch: Dispatch, call: Call) -> Outcome:
        """Register nothing, for want of an owner, unless others hold the name: they would own it all."""
        if not await self._is_free(dispatch, call):
            return await self._clear_what_is_there(dispatch, call)
        _log.warning(
            "registration_skipped",
            schedule_id=dispatch.schedule_id,
            intent_id=str(dispatch.intent_id),
            reason="the principal has neither a user id nor a service account id",
        )
        return Done(skipped=True)

    async def _clear(self, dispatch: Dispatch, holding: Holding, call: Call) -> Outcome:
        """Remove debris of our own lane and have the step tried again; anything else is a conflict."""
        schedule_id = dispatch.schedule_id
        match await self._standing(schedule_id, holding):
            case Standing.ENDED:
                removed = await self._mark_ended_and_remove(schedule_id, holding.stamps[0], call)
                message = f"debris of intent {holding.stamps[0]} was removed from {schedule_id}"
                return _raced(message, written=removed)
            case Standing.LIVE:
                return Conflict(
                    ErrorCode.CONFLICT_LIVE,
                    f"{schedule_id} exists, registered by intent {holding.stamps[0]}: delete it first",
                )
            case Standing.FOREIGN:
                return Conflict(
                    ErrorCode.CONFLICT_FOREIGN,
                    f"{SCHEDULE}:{schedule_id} has relationships in SpiceDB that the outbox did not write",
                )

    async def _clear_what_is_there(self, dispatch: Dispatch, call: Call) -> Outcome:
        """The same, of what is known to be there: a read that shows nothing is behind, or just too late."""
        holding = await self._read(dispatch.schedule_id, call)
        if not holding.tuples:
            return _raced(f"{dispatch.schedule_id} was not free a moment ago")
        return await self._clear(dispatch, holding, call)

    # Taking away.

    async def _compensate(self, dispatch: Dispatch, call: Call) -> Outcome:
        return Done(await self._mark_ended_and_remove(dispatch.schedule_id, str(dispatch.intent_id), call))

    async def _deregister(self, dispatch: Dispatch, call: Call) -> Outcome:
        schedule_id = dispatch.schedule_id
        if dispatch.live_intent is None:
            token = await self._remove_legacy(schedule_id, call)
        else:
            token = await self._mark_ended_and_remove(schedule_id, str(dispatch.live_intent), call)
        if token is None and dispatch.live_adopted:
            # Somebody took the stamp away: it is as it was before the adoption.
            token = await self._remove_legacy(schedule_id, call)
        if token is not None:
            return Done(token)
        if await self._is_free(dispatch, call):
            return Done()
        holding = await self._read(schedule_id, call)
        if not holding.tuples:
            return _raced(f"{schedule_id} was not free a moment ago")
        match await self._standing(schedule_id, holding):
            case Standing.ENDED:
                token = await self._mark_ended_and_remove(schedule_id, holding.stamps[0], call)
                return Done(token) if token else _raced(f"{schedule_id} changed while debris was removed")
            case Standing.LIVE:
                return _raced(f"{schedule_id} was registered while it was deregistered")
            case Standing.FOREIGN:
                _log.warning("foreign_relationships_left", schedule_id=schedule_id, stamps=holding.stamps)
                return Done(holding.zed_token)

    async def _mark_ended_and_remove(self, schedule_id: str, stamp: str, call: Call) -> str | None:
        """Mark an intent as ended, then remove what it registered."""
        # The order is the point: a registration of it that is still under way can't land after the mark.
        await self._client.touch([mark_of(stamp)], call)
        return await self._remove(schedule_id, stamp, call)

    async def _remove(self, schedule_id: str, stamp: str, call: Call, *also: Requires) -> str | None:
        """Remove all relationships of a schedule that carries the stamp; None if it doesn't."""
        try:
            return await self._client.delete(
                object_of(schedule_id), [Requires(stamped(schedule_id, stamp), present=True), *also], call
            )
        except NotAsExpected:
            return None

    async def _remove_legacy(self, schedule_id: str, call: Call) -> str | None:
        """Remove all relationships of a schedule that carries no stamp at all; None if it does."""
        try:
            return await self._client.delete(
                object_of(schedule_id), [Requires(any_stamp(schedule_id), present=False)], call
            )
        except NotAsExpected:
            return None

    # Looking.

    async def _is_free(self, dispatch: Dispatch, call: Call) -> bool:
        """Whether the schedule has no relationships."""
        free = Requires(object_of(dispatch.schedule_id), present=False)
        return await self._holds(dispatch, call, free) is not None

    async def _registered(self, dispatch: Dispatch, call: Call) -> str | None:
        """Tell whether the dispatch's registration stands, whole and not ended: by the consistency token."""
        wanted = [Requires(only(one), present=True) for one in sorted(registration(dispatch))]
        if not wanted:
            return None
        return await self._holds(
            dispatch, call, *wanted, Requires(ended(str(dispatch.intent_id)), present=False)
        )

    async def _holds(self, dispatch: Dispatch, call: Call, *requires: Requires) -> str | None:
        """Ask by the conditions of a write that changes nothing: unlike a read, they are never behind."""
        try:
            return await self._client.delete(nothing_of(str(dispatch.intent_id)), requires, call)
        except NotAsExpected:
            return None
        except StoreFailure as failure:
            # What changes nothing leaves nothing in doubt, and refusing to tell refuses no registration.
            raise StoreFailure(undecided(failure.outcome)) from failure

    async def _read(self, schedule_id: str, call: Call) -> Holding:
        """Read who holds a schedule; that SpiceDB won't tell is no refusal of what is written there."""
        try:
            found: Read = await self._client.read(object_of(schedule_id), call)
        except StoreFailure as failure:
            if isinstance(failure.outcome, Refused):
                raise StoreFailure(undecided(failure.outcome)) from failure
            raise
        return Holding(frozenset(found.tuples), found.zed_token)

    async def _standing(self, schedule_id: str, holding: Holding) -> Standing:
        """Tell whose the relationships are; without one stamp that says so, they are somebody else's."""
        if len(holding.stamps) != 1:
            return Standing.FOREIGN
        return await self._ledger.standing(schedule_id, holding.stamps[0])


def registration(dispatch: Dispatch) -> frozenset[Tuple]:
    """List the relationships that register the dispatch's schedule; none, if it has no creator."""
    return relationships_of(dispatch.schedule_id, dispatch.creator, str(dispatch.intent_id))


def relationships_of(schedule_id: str, creator: Creator, intent_id: str) -> frozenset[Tuple]:
    """List the relationships by which an intent registers a schedule; none, if it has no creator."""
    owner = owner_of(creator)
    if owner is None:
        return frozenset()
    return frozenset(
        {
            Tuple(SCHEDULE, schedule_id, OWNER, *owner),
            Tuple(SCHEDULE, schedule_id, PARENT_AGENT, AGENT, agent_of(schedule_id)),
            Tuple(SCHEDULE, schedule_id, REGISTERED_BY, INTENT, intent_id),
        }
    )


def owner_of(creator: Creator) -> tuple[str, str] | None:
    """Name the type and id of the subject that owns what the creator creates, if there is one."""
    if creator.user_id is not None:
        return USER, creator.user_id
    if creator.service_account_id is not None:
        return SERVICE_ACCOUNT, creator.service_account_id
    return None


def creator_of(tuples: Iterable[Tuple]) -> Creator | None:
    """Name who owns a schedule of these relationships; None: not one user or service account."""
    match list(_owners(tuples)):
        case [(kind, owner)] if kind == USER:
            return Creator(user_id=owner)
        case [(kind, owner)] if kind == SERVICE_ACCOUNT:
            return Creator(service_account_id=owner)
        case _:
            return None


def _owners(tuples: Iterable[Tuple]) -> set[tuple[str, str]]:
    return {(t.subject_type, t.subject_id) for t in tuples if t.relation == OWNER}


def _call(dispatch: Dispatch) -> Call:
    call = Call.of(dispatch)
    account = dispatch.creator.account_id
    return call if account is None else call.with_header(ACCOUNT_HEADER, account)


def _raced(message: str, *, written: str | None = None) -> Transient:
    """Have the step tried again: at once where a write of ours has cleared its way, as its token tells.

    Where only a read says that things have changed, a little later: it may be the read that is behind, and an
    answer that stays the same for a second must not use up all attempts.
    """
    return Transient(ErrorCode.RACED, message, retry_after=None if written is None else 0.0)
