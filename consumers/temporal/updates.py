"""The effect of an update: the whole definition is written over what carries the live stamp.

Keeps rule 2 there: the schedule tells the revision, so that an update is recognized in the store, not
remembered. The server's token narrows the window between read and write and is no fence: with a stale one it
answers OK and does nothing, and of two writes that come at once it takes the last, whatever their tokens. So
each OK is followed by a look.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from consumers.calls import Call, StoreFailure, cause_stands, in_doubt, undecided
from consumers.temporal.client import Described, Found, NotThere, TemporalClient
from consumers.temporal.described import is_described, request_of
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Conflict, Done, Outcome, Refused, Transient, Unknown

# What people change in Temporal itself; a repair brings these back, too, and so may a look.
_BY_HAND = frozenset({"paused", "note"})


def carries_live(dispatch: Dispatch, found: Found) -> bool:
    """Whether it is the lane's live schedule; an adopted one has no stamp, unless it was made again since."""
    unstamped = dispatch.live_adopted and found.stamp is None
    return unstamped or (dispatch.live_intent is not None and found.stamp == str(dispatch.live_intent))


def tells(found: Found, revision: UUID | None) -> bool:
    """Whether a schedule tells this revision; None: what its create asked for stands."""
    return found.revision == (None if revision is None else str(revision))


def revision_of(found: Found) -> UUID | None:
    """The revision that a schedule tells, as the ledger keeps it; what is no intent's is none."""
    try:
        return None if found.revision is None else UUID(found.revision)
    except ValueError:
        return None


class Updates:
    """What is written over schedules that exist.

    Args:
        client: Temporal.
    """

    def __init__(self, client: TemporalClient) -> None:
        self._client = client

    async def apply(self, dispatch: Dispatch, call: Call) -> Outcome:
        """Write what the run of updates makes of the definition, or find that it stands.

        Raises:
            StoreFailure: Temporal doesn't let it.
        """
        schedule_id = dispatch.schedule_id
        if dispatch.live_intent is None:
            return Refused(ErrorCode.NOT_LIVE, f"{schedule_id} is not live: there is nothing to update")
        present = await self._client.read(schedule_id, call)
        if present is None:
            message = f"Temporal has no schedule {schedule_id}: `outbox audit` tells whether it should"
            return Refused(ErrorCode.NOT_LIVE, message)
        if not carries_live(dispatch, present.found):
            message = f"{schedule_id} in Temporal is not the one that intent {dispatch.live_intent} created"
            return Conflict(ErrorCode.CONFLICT_FOREIGN, message)
        # A later one's would not do: another may be in between by now, which was committed late.
        if tells(present.found, dispatch.run[0]):
            return Done(through=dispatch.run[0])
        learnt = None if _is_known(dispatch) else request_of(schedule_id, present.schedule)
        whole = replace(dispatch, request=_over(learnt, dispatch))
        changes = _changes(dispatch, present.found)
        written = await self._write(whole, present, call, revision=dispatch.run[-1], changes=changes)
        return replace(written, definition=learnt) if isinstance(written, Done) else written

    async def look(self, dispatch: Dispatch, call: Call) -> Outcome:
        """Read whether the update stands by itself, and nobody discards it: it is done then.

        Else what the ledger has is brought back, where the schedule tells another revision. That is a later
        update's, written together with this one, which may fail now: what it asked for must not stay.
        """
        try:
            present = await self._client.read(dispatch.schedule_id, call)
        except StoreFailure as failure:
            return undecided(failure.outcome)
        fails = cause_stands(dispatch, ErrorCode.REFUSED)
        if present is None or not carries_live(dispatch, present.found):
            return fails
        first, found = dispatch.run[0], present.found
        if tells(found, first) and not dispatch.is_discarded:
            return Done(through=first)
        if not _is_known(dispatch):
            return Done(through=first) if any(tells(found, one) for one in dispatch.run) else fails
        if tells(found, dispatch.revision):
            return fails
        # What was written together with a later one may be in the run no more.
        changes = dispatch.changes if tells(found, first) else _BY_HAND
        try:
            back = await self._write(dispatch, present, call, revision=dispatch.revision, changes=changes)
        except StoreFailure as failure:
            return failure.outcome if isinstance(failure.outcome, Unknown) else undecided(failure.outcome)
        return fails if isinstance(back, Done) else back

    async def restore(self, dispatch: Dispatch, call: Call) -> Outcome:
        """Write what the ledger says over what is there, whatever wrote that.

        Raises:
            StoreFailure: Temporal doesn't let it.
        """
        present = await self._client.read(dispatch.schedule_id, call)
        if present is None:
            return _raced(dispatch)
        return await self._write(dispatch, present, call, revision=dispatch.revision, changes=_BY_HAND)

    async def _write(
        self,
        dispatch: Dispatch,
        present: Described,
        call: Call,
        *,
        revision: UUID | None,
        changes: frozenset[str],
    ) -> Done | Transient:
        try:
            await self._client.update(dispatch, present, call, revision=revision, changes=changes)
        except NotThere:
            return _raced(dispatch)
        try:
            now = await self._client.read(dispatch.schedule_id, call)
        except StoreFailure as failure:
            raise StoreFailure(in_doubt(failure.outcome)) from failure
        stands = now is not None and now.found == present.found and tells(now.found, revision)
        return Done() if stands else _raced(dispatch)


def _raced(dispatch: Dispatch) -> Transient:
    message = f"{dispatch.schedule_id} was changed by somebody else at the same moment"
    return Transient(ErrorCode.RACED, message, retry_after=0.0)


def _is_known(dispatch: Dispatch) -> bool:
    """Whether the ledger has a definition; of what it adopted without a look, it has none."""
    return not dispatch.live_adopted or is_described(dispatch.request)


def _changes(dispatch: Dispatch, found: Found) -> frozenset[str]:
    """What is written though people may have changed it by hand.

    What they did stays where the ledger's definition stands, or what this run wrote before. Beside another
    one nobody can tell what was theirs: it came of a backup, or of an update that is in the run no more.
    """
    is_ours = any(tells(found, one) for one in (dispatch.revision, *dispatch.run))
    return dispatch.changes if is_ours else dispatch.changes | _BY_HAND


def _over(learnt: Mapping[str, Any] | None, dispatch: Dispatch) -> Mapping[str, Any]:
    if learnt is None:
        return dispatch.request
    return {**learnt, **{name: dispatch.request.get(name) for name in dispatch.changes}}
