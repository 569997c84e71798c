"""Builds the requests that write a schedule: its create, and its update.

The memo carries the intent's stamp, the request id its number (rule 2); beside the stamp stands which
outbox wrote it. What was updated carries its revision.
"""

from uuid import UUID

from temporalio.api.common.v1 import Memo
from temporalio.api.schedule.v1 import Schedule
from temporalio.api.workflowservice.v1 import CreateScheduleRequest, UpdateScheduleRequest
from temporalio.converter import DataConverter

from consumers.temporal.definition import PLAIN, REVISION_KEY, keep_what_hands_changed, schedule_of
from outbox.flow.dispatch import Dispatch

MEMO_KEY = "outbox_intent_id"
INSTANCE_KEY = "outbox_instance"
UNREADABLE = "(unreadable)"


async def create_request(
    dispatch: Dispatch,
    instance: UUID,
    *,
    namespace: str,
    identity: str,
    converter: DataConverter,
    anew: bool = False,
) -> CreateScheduleRequest:
    """Build the request. The same intent and generation give the same request id, whatever worker sends it.

    Args:
        dispatch: of the create.
        instance: the id of this outbox.
        namespace: of the schedule.
        identity: of this worker.
        converter: encodes the workflow's argument.
        anew: take a request id that no other lease of the intent has used.

    Raises:
        KeyError: the intent's request lacks what a create needs.
        Exception: whatever the platform's data converter raises.
    """
    return CreateScheduleRequest(
        namespace=namespace,
        schedule_id=dispatch.schedule_id,
        request_id=_request_id(dispatch, anew=anew),
        identity=identity,
        memo=stamp_memo(str(dispatch.intent_id), str(instance)),
        schedule=await schedule_of(
            dispatch.request,
            dispatch.schedule_id,
            revision=dispatch.revision,
            namespace=namespace,
            converter=converter,
        ),
    )


async def update_request(
    dispatch: Dispatch,
    present: Schedule,
    token: bytes,
    *,
    revision: UUID | None,
    changes: frozenset[str],
    namespace: str,
    identity: str,
    converter: DataConverter,
) -> UpdateScheduleRequest:
    """Build the request that writes the whole definition, by an id that no other attempt has.

    Args:
        dispatch: its request is the definition that is to stand.
        present: the schedule as it was just read.
        token: of that read; if it is stale, the server answers OK and does nothing.
        revision: that the schedule is to tell; None: what its create asked for stands.
        changes: the fields that are to be changed, though people may have changed them by hand.
        namespace: of the schedule.
        identity: of this worker.
        converter: encodes the workflow's argument.

    Raises:
        KeyError: the definition lacks what a schedule needs.
        Exception: whatever the platform's data converter raises.
    """
    schedule = await schedule_of(
        dispatch.request, dispatch.schedule_id, revision=revision, namespace=namespace, converter=converter
    )
    keep_what_hands_changed(schedule, present, changes)
    return UpdateScheduleRequest(
        namespace=namespace,
        schedule_id=dispatch.schedule_id,
        request_id=_request_id(dispatch, anew=True),
        identity=identity,
        conflict_token=token,
        schedule=schedule,
    )


def _request_id(dispatch: Dispatch, *, anew: bool) -> str:
    usual = f"{dispatch.intent_id}:{dispatch.generation}"
    return f"{usual}-{dispatch.lease_number}" if anew else usual


def stamp_memo(stamp: str, instance: str) -> Memo:
    """Write a stamp into a memo, and which outbox it is of."""
    return Memo(fields={MEMO_KEY: PLAIN.to_payload(stamp), INSTANCE_KEY: PLAIN.to_payload(instance)})


def stamp_in(memo: Memo) -> str | None:
    """Read the stamp from a memo: None if there is none; what can't be read is a stamp, but nobody's."""
    return _text_in(memo, MEMO_KEY)


def instance_in(memo: Memo) -> str | None:
    """Read from a memo which outbox wrote it: None if it doesn't say, as none did once."""
    return _text_in(memo, INSTANCE_KEY)


def revision_in(schedule: Schedule) -> str | None:
    """Read which update a schedule tells to have changed it last: None if none did."""
    return _text_in(schedule.action.start_workflow.memo, REVISION_KEY)


def _text_in(memo: Memo, key: str) -> str | None:
    if key not in memo.fields:
        return None
    try:
        text = PLAIN.from_payload(memo.fields[key])
    except Exception:  # noqa: BLE001 - anything may have been written there, and it fails in as many ways
        return UNREADABLE
    return text if isinstance(text, str) else UNREADABLE
