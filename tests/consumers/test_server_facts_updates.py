"""What Temporal really does with updates of schedules; and that the one in memory does the same."""

from typing import Any

import pytest
from temporalio.api.workflowservice.v1 import (
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    UpdateScheduleRequest,
)
from temporalio.service import RPCStatusCode

from consumers.temporal.request import stamp_in, stamp_memo
from tests.consumers.test_server_facts_temporal import SECONDS, Raw, Service, client, error

__all__ = ["client"]


class Updated(Raw):
    """The same, with updates."""

    async def read(self) -> DescribeScheduleResponse:
        request = DescribeScheduleRequest(namespace="default", schedule_id=self._id)
        found: DescribeScheduleResponse = await self._service.describe_schedule(
            request, retry=False, timeout=SECONDS
        )
        return found

    async def update(self, note: str, *, token: bytes, request_id: str, cron: str = "0 3 * * *") -> None:
        schedule = self.request(request_id, cron=cron).schedule
        schedule.state.notes = note
        request = UpdateScheduleRequest(
            namespace="default",
            schedule_id=self._id,
            schedule=schedule,
            conflict_token=token,
            request_id=request_id,
        )
        await self._service.update_schedule(request, retry=False, timeout=SECONDS)

    async def note(self) -> str:
        return (await self.read()).schedule.state.notes


@pytest.fixture
def raw(client: Service, schedule_id: str) -> Updated:
    return Updated(client, schedule_id)


async def test_an_update_replaces_the_schedule_and_keeps_its_memo(raw: Updated) -> None:
    await raw.create("create", memo=stamp_memo("first", "ours"))
    await raw.update("changed", token=(await raw.read()).conflict_token, request_id="1")
    assert (await raw.note(), stamp_in(await raw.memo())) == ("changed", "first")


async def test_a_stale_token_answers_ok_and_changes_nothing(raw: Updated) -> None:
    await raw.create("create")
    token = (await raw.read()).conflict_token
    await raw.update("one", token=token, request_id="1")
    # Only then is the token stale: of two writes that come at once, the last one wins.
    assert await raw.note() == "one"
    await raw.update("two", token=token, request_id="2")
    assert await raw.note() == "one"


async def test_a_request_id_is_remembered_and_its_next_body_is_not_looked_at(raw: Updated) -> None:
    await raw.create("create")
    await raw.update("one", token=(await raw.read()).conflict_token, request_id="1")
    assert await raw.note() == "one"
    await raw.update("two", token=(await raw.read()).conflict_token, request_id="1")
    assert await raw.note() == "one"


async def test_tokens_count_anew_for_each_schedule_that_is_created(raw: Updated) -> None:
    await raw.create("first")
    token = (await raw.read()).conflict_token
    await raw.delete()
    await raw.create("second")
    assert (await raw.read()).conflict_token == token
    await raw.update("meant for the first", token=token, request_id="1")
    assert await raw.note() == "meant for the first"


@pytest.mark.parametrize("there", [True, False], ids=["there", "gone"])
async def test_the_definition_is_judged_before_anything_else(raw: Updated, *, there: bool) -> None:
    await raw.create("create")
    before: Any = (await raw.read()).schedule
    if not there:
        await raw.delete()
    status, _, _ = await error(raw.update("bad", token=b"", request_id="1", cron="not a cron"))
    assert status is RPCStatusCode.INVALID_ARGUMENT
    if there:
        assert (await raw.read()).schedule == before


async def test_what_is_not_there_is_not_found(raw: Updated) -> None:
    status, _, _ = await error(raw.update("x", token=b"", request_id="1"))
    assert status is RPCStatusCode.NOT_FOUND
    await raw.create("create")
    await raw.delete()
    status, _, _ = await error(raw.update("x", token=b"", request_id="1"))
    assert status is RPCStatusCode.NOT_FOUND
