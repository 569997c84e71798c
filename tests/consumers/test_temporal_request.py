"""What an intent's request becomes on Temporal's side, and how its stamp is found again."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import Memo, Payload
from temporalio.api.enums.v1 import ScheduleOverlapPolicy
from temporalio.api.workflowservice.v1 import CreateScheduleRequest, DescribeScheduleRequest
from temporalio.client import Client
from temporalio.converter import DataConverter, PayloadCodec

from consumers.authz.client import AuthzClient
from consumers.calls import Call, StoreFailure
from consumers.temporal.client import Found, TemporalClient
from consumers.temporal.request import UNREADABLE, create_request, instance_in, stamp_in, stamp_memo
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Dispatch
from outbox.flow.outcome import Unknown
from outbox.flow.table import EventType
from outbox.stack import StackInfo
from tests.consumers.conftest import INSTANCE

Make = Callable[..., Dispatch]


class Scrambling(PayloadCodec):
    """Stands in for a platform's encryption."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"scrambled"}, data=p.SerializeToString()[::-1]) for p in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(p.data[::-1]) for p in payloads]


class Failing(PayloadCodec):
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise RuntimeError(f"no key\nfor {len(payloads)}")

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise NotImplementedError


async def build(step: Dispatch, converter: DataConverter = DataConverter.default) -> CreateScheduleRequest:
    return await create_request(step, INSTANCE, namespace="ns", identity="me", converter=converter)


def with_entry(make: Make, **entry: Any) -> Dispatch:
    step = make(EventType.REGISTERED)
    return replace(step, request={**step.request, **entry})


async def test_the_least_request(dispatch: Make, schedule_id: str) -> None:
    step = dispatch(EventType.REGISTERED, generation="3")
    request = await build(step)
    assert request.namespace == "ns"
    assert request.identity == "me"
    assert request.schedule_id == schedule_id
    assert request.request_id == f"{step.intent_id}:3"
    assert stamp_in(request.memo) == str(step.intent_id)
    assert instance_in(request.memo) == str(INSTANCE)
    schedule = request.schedule
    assert list(schedule.spec.cron_string) == ["0 3 * * *"]
    assert not schedule.spec.interval
    assert not schedule.spec.HasField("start_time")
    assert not schedule.spec.HasField("end_time")
    assert schedule.spec.timezone_name == ""
    assert not schedule.state.paused
    assert schedule.policies.overlap_policy == ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_SKIP
    workflow = schedule.action.start_workflow
    assert workflow.workflow_id == f"{schedule_id}-run"
    assert workflow.workflow_type.name == "Run"
    assert workflow.task_queue.name == "agents"
    assert not workflow.HasField("input")
    assert not workflow.HasField("workflow_execution_timeout")


async def test_the_full_request(dispatch: Make) -> None:
    step = with_entry(
        dispatch,
        cron_expression=None,
        interval_seconds=90,
        start_at="2030-01-01T02:00:00+02:00",
        end_at="2031-01-01T00:00:00Z",
        timezone="Europe/Rome",
        paused=True,
        workflow_params={"n": 1},
        execution_timeout_seconds=600,
    )
    schedule = (await build(step)).schedule
    assert [one.interval.seconds for one in schedule.spec.interval] == [90]
    assert schedule.spec.start_time.ToJsonString() == "2030-01-01T00:00:00Z"
    assert schedule.spec.end_time.ToJsonString() == "2031-01-01T00:00:00Z"
    assert schedule.spec.timezone_name == "Europe/Rome"
    assert schedule.state.paused
    workflow = schedule.action.start_workflow
    assert [payload.data for payload in workflow.input.payloads] == [b'{"n":1}']
    assert workflow.workflow_execution_timeout.seconds == 600


@pytest.mark.parametrize(
    "policy", ["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]
)
async def test_overlap_policies_have_temporals_names(dispatch: Make, policy: str) -> None:
    request = await build(with_entry(dispatch, overlap_policy=policy))
    name = ScheduleOverlapPolicy.Name(request.schedule.policies.overlap_policy)
    assert name == f"SCHEDULE_OVERLAP_POLICY_{policy.upper()}"


async def test_the_platforms_converter_encodes_the_argument_but_not_the_stamp(dispatch: Make) -> None:
    converter = replace(DataConverter.default, payload_codec=Scrambling())
    step = with_entry(dispatch, workflow_params={"secret": "plan"})
    request = await build(step, converter)
    payloads = list(request.schedule.action.start_workflow.input.payloads)
    assert b"plan" not in payloads[0].data
    assert await converter.decode(payloads) == [{"secret": "plan"}]
    assert stamp_in(request.memo) == str(step.intent_id)
    assert instance_in(request.memo) == str(INSTANCE)


async def test_a_converter_that_fails_costs_no_schedule(stack: StackInfo, dispatch: Make) -> None:
    converter = replace(DataConverter.default, payload_codec=Failing())
    client = await TemporalClient.connect(stack.temporal_address, "default", data_converter=converter)
    with pytest.raises(StoreFailure) as caught:
        await client.create(with_entry(dispatch, workflow_params={}), INSTANCE, Call.within(5))
    assert caught.value.outcome == Unknown(
        ErrorCode.UNEXPECTED, "temporal: the request could not be built: RuntimeError: no key for 1"
    )


def test_stamps_that_are_none() -> None:
    assert stamp_in(Memo()) is None
    assert stamp_in(Memo(fields={"other": Payload()})) is None


@pytest.mark.parametrize(
    "payload",
    [
        Payload(),
        Payload(metadata={"encoding": b"scrambled"}, data=b"?"),
        Payload(metadata={"encoding": b"json/plain"}, data=b"{"),
        Payload(metadata={"encoding": b"json/plain"}, data=b"7"),
    ],
)
def test_a_stamp_that_cannot_be_read_is_nobodys(payload: Payload) -> None:
    assert stamp_in(Memo(fields={"outbox_intent_id": payload})) == UNREADABLE


def test_a_stamp_comes_back() -> None:
    stamp, instance = str(uuid4()), str(uuid4())
    memo = stamp_memo(stamp, instance)
    assert (stamp_in(memo), instance_in(memo)) == (stamp, instance)


def test_a_stamp_from_before_says_nothing_of_its_outbox() -> None:
    memo = stamp_memo("stamp", "instance")
    del memo.fields["outbox_instance"]
    assert (stamp_in(memo), instance_in(memo)) == ("stamp", None)


async def test_the_server_keeps_it_all(
    stack: StackInfo, schedules: TemporalClient, dispatch: Make, schedule_id: str
) -> None:
    step = with_entry(dispatch, workflow_params={"n": 1}, paused=True, timezone="Europe/Rome")
    await schedules.create(step, INSTANCE, Call.within(5))
    found = await schedules.describe(schedule_id, Call.within(5))
    assert found == Found(str(step.intent_id))
    assert found.instance == str(INSTANCE)
    page = await schedules.list_page(b"", Call.within(5), limit=500)
    assert {page.schedules[schedule_id].instance} <= {str(INSTANCE)}
    client = await Client.connect(stack.temporal_address)
    described = await client.workflow_service.describe_schedule(
        DescribeScheduleRequest(namespace="default", schedule_id=schedule_id)
    )
    assert described.schedule.state.paused
    assert described.schedule.spec.timezone_name == "Europe/Rome"
    [payload] = described.schedule.action.start_workflow.input.payloads
    assert payload.data == b'{"n":1}'


async def test_tls_files_go_together(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(b"key")
    with pytest.raises(ValueError, match="go together"):
        await TemporalClient.connect("127.0.0.1:1", "default", tls_key=file)


async def test_a_tls_file_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await TemporalClient.connect("127.0.0.1:1", "default", tls_ca=tmp_path / "no.pem")
    with pytest.raises(FileNotFoundError):
        AuthzClient.connect("127.0.0.1:1", "token", tls=True, ca_path=tmp_path / "no.pem")
