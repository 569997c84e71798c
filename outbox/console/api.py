"""The JSON API: the same reads as the pages', in the stable shapes."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from outbox.console.asked import (
    DiscardChange,
    IntentsQuery,
    OperationsQuery,
    PageQuery,
    ReplayChange,
    ScheduleQuery,
    SchedulesChange,
)
from outbox.console.context import Console, NotFound, group_of, intent_id_of, schedule_id_of
from outbox.console.forms import body_of
from outbox.console.openapi import Operation, document

PREFIX = "/api/v1"


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode it."""
        return orjson.dumps(content, default=str)


async def overview(request: Request) -> Json:
    """How much waits and where, what ended lately, what is down; the last hour, minute by minute."""
    return Json(await Console.of(request).reads.overview())


async def intents(request: Request) -> Json:
    """A page of the intents that match, the newest first."""
    reads = Console.of(request).reads
    return Json(await reads.intents(IntentsQuery.of(request.query_params)))


async def intent(request: Request) -> Json:
    """One intent with all that happened to it."""
    console = Console.of(request)
    wanted = intent_id_of(request)
    found = await console.reads.intent(wanted, payload=console.shows_payloads)
    if found is None:
        raise NotFound(f"there is no intent {wanted}")
    return Json(found)


async def schedule(request: Request) -> Json:
    """One lane: its timeline, why it waits, and what each store holds."""
    wanted = schedule_id_of(request)
    query = ScheduleQuery.of(request.query_params)
    found = await Console.of(request).reads.schedule(wanted, query.limit)
    if found is None:
        raise NotFound(f"there is no schedule {wanted}")
    return Json(found)


async def failures(request: Request) -> Json:
    """What has failed or is parked, in groups of what is alike in it."""
    return Json(await Console.of(request).reads.failures())


async def failure_group(request: Request) -> Json:
    """Some intents of a group, the last to fail first."""
    reads, group = Console.of(request).reads, group_of(request)
    found = await reads.failure_group(group, PageQuery.of(request.query_params))
    if found is None:
        raise NotFound(f"there is no group {group}: has all of it been dealt with?")
    return Json(found)


async def operations(request: Request) -> Json:
    """What operators did, the newest first."""
    reads = Console.of(request).reads
    return Json(await reads.operations(OperationsQuery.of(request.query_params)))


async def replay(request: Request) -> Json:
    """Try intents again; with `dry_run` only tell what would happen to each."""
    console = Console.to_act(request)
    change = ReplayChange.model_validate_json(await body_of(request))
    return Json({"answers": await console.actions.replay(change, console.visitor)})


async def discard(request: Request) -> Json:
    """End parked intents; what is ours of them is undone first."""
    console = Console.to_act(request)
    change = DiscardChange.model_validate_json(await body_of(request))
    return Json({"answers": await console.actions.discard(change, console.visitor)})


async def repair(request: Request) -> Json:
    """Have schedules brought to what the ledger says, where a repair mends what differs."""
    console = Console.to_act(request)
    change = SchedulesChange.model_validate_json(await body_of(request))
    return Json({"answers": await console.actions.repair(change, console.visitor)})


async def adopt(request: Request) -> Json:
    """Take schedules from before the outbox into the ledger."""
    console = Console.to_act(request)
    change = SchedulesChange.model_validate_json(await body_of(request))
    return Json({"answers": await console.actions.adopt(change, console.visitor)})


async def openapi(request: Request) -> Json:
    """This document."""
    Console.of(request)
    return Json(document(OPERATIONS, PREFIX))


OPERATIONS = (
    Operation("GET", "/overview", overview),
    Operation("GET", "/intents", intents, query=IntentsQuery),
    Operation("GET", "/intents/{intent_id}", intent),
    Operation("GET", "/schedules/{schedule_id:path}", schedule, query=ScheduleQuery),
    Operation("GET", "/failures", failures),
    Operation("GET", "/failures/{group}", failure_group, query=PageQuery),
    Operation("GET", "/operations", operations, query=OperationsQuery),
    Operation("POST", "/replay", replay, body=ReplayChange),
    Operation("POST", "/discard", discard, body=DiscardChange),
    Operation("POST", "/repair", repair, body=SchedulesChange),
    Operation("POST", "/adopt", adopt, body=SchedulesChange),
    Operation("GET", "/openapi.json", openapi),
)


def routes() -> list[BaseRoute]:
    """Their places."""
    return [Route(PREFIX + one.path, one.handler, methods=[one.method]) for one in OPERATIONS]
