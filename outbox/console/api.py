"""The JSON API: the same reads as the pages', in the stable shapes."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from outbox.console import answers
from outbox.console.asked import (
    AuditQuery,
    Because,
    DiscardChange,
    HaltChange,
    HoldChange,
    IntentsQuery,
    ItemsQuery,
    OperationsQuery,
    PageQuery,
    PlanChange,
    ReplayChange,
    ReplaysQuery,
    ScheduleQuery,
    SchedulesChange,
)
from outbox.console.context import Console, group_of, intent_id_of, replay_of, schedule_id_of
from outbox.console.forms import body_of
from outbox.console.openapi import Operation, document
from outbox.console.refusals import NotFound

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


async def audit(request: Request) -> Json:
    """What the continuous audit has found: its rounds, how much of each kind, and some of it."""
    reads = Console.of(request).reads
    return Json(await reads.audit(AuditQuery.of(request.query_params)))


async def operations(request: Request) -> Json:
    """What operators did, the newest first."""
    reads = Console.of(request).reads
    return Json(await reads.operations(OperationsQuery.of(request.query_params)))


async def doctor(request: Request) -> Json:
    """How each component is, with the fix of what is wrong; looked at every few seconds at most."""
    return Json({"components": await Console.of(request).health.components()})


async def settings(request: Request) -> Json:
    """The settings of this console with their meanings; secrets are masked."""
    return Json({"settings": Console.of(request).health.settings()})


async def replays(request: Request) -> Json:
    """Replays in waves, the newest first."""
    reads = Console.of(request).reads
    return Json(await reads.replays(ReplaysQuery.of(request.query_params)))


async def replay_in_waves(request: Request) -> Json:
    """One replay in waves: what is planned or came of how many and why, and how each wave came out."""
    wanted = replay_of(request)
    found = await Console.of(request).reads.replay(wanted)
    if found is None:
        raise NotFound(f"there is no replay {wanted}")
    return Json(found)


async def replay_items(request: Request) -> Json:
    """What is planned of each intent of a replay in waves, or came of it, in order."""
    query = ItemsQuery.of(request.query_params)
    return Json(await Console.of(request).reads.replay_items(replay_of(request), query))


async def plan_replay(request: Request) -> Json:
    """Plan a replay in waves, of a whole group or of some intents; nothing is replayed before its start."""
    console = Console.to_act(request)
    change = PlanChange.model_validate_json(await body_of(request))
    planned = await console.actions.waves.plan(change, console.visitor)
    if planned is None:
        raise NotFound(f"there is no group {change.group}: has all of it been dealt with?")
    return Json(planned)


async def start_replay(request: Request) -> Json:
    """Have workers carry out what is planned."""
    console = Console.to_act(request)
    change = Because.model_validate_json(await body_of(request))
    return Json(await console.actions.waves.start(replay_of(request), change, console.visitor))


async def abort_replay(request: Request) -> Json:
    """End what is planned or running; what was replayed goes on."""
    console = Console.to_act(request)
    change = Because.model_validate_json(await body_of(request))
    return Json(await console.actions.waves.abort(replay_of(request), change, console.visitor))


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


async def hold(request: Request) -> Json:
    """Halt a store or a schedule: no step of it is begun until it is released."""
    console = Console.to_act(request)
    change = HoldChange.model_validate_json(await body_of(request))
    return Json({"answers": await console.actions.halting.hold(change, console.visitor)})


async def release(request: Request) -> Json:
    """Let a store or a schedule go on that is halted."""
    console = Console.to_act(request)
    change = HaltChange.model_validate_json(await body_of(request))
    return Json({"answers": await console.actions.halting.release(change, console.visitor)})


async def openapi(request: Request) -> Json:
    """This document."""
    Console.of(request)
    return Json(document(OPERATIONS, PREFIX))


OPERATIONS = (
    Operation("GET", "/overview", overview, answers.Overview),
    Operation("GET", "/intents", intents, answers.Intents, query=IntentsQuery),
    Operation("GET", "/intents/{intent_id}", intent, answers.IntentWithRequest),
    Operation("GET", "/schedules/{schedule_id:path}", schedule, answers.Schedule, query=ScheduleQuery),
    Operation("GET", "/failures", failures, answers.Groups),
    Operation("GET", "/failures/{group}", failure_group, answers.Members, query=PageQuery),
    Operation("GET", "/audit", audit, answers.Audit, query=AuditQuery),
    Operation("GET", "/operations", operations, answers.Operations, query=OperationsQuery),
    Operation("GET", "/replays", replays, answers.Replays, query=ReplaysQuery),
    Operation("POST", "/replays", plan_replay, answers.Replay, body=PlanChange),
    Operation("GET", "/replays/{replay}", replay_in_waves, answers.ReplayStory),
    Operation("GET", "/replays/{replay}/items", replay_items, answers.Items, query=ItemsQuery),
    Operation("POST", "/replays/{replay}/start", start_replay, answers.Replay, body=Because),
    Operation("POST", "/replays/{replay}/abort", abort_replay, answers.Replay, body=Because),
    Operation("GET", "/doctor", doctor, answers.Doctor),
    Operation("GET", "/settings", settings, answers.Settings),
    Operation("POST", "/replay", replay, answers.OfIntents, body=ReplayChange),
    Operation("POST", "/discard", discard, answers.OfIntents, body=DiscardChange),
    Operation("POST", "/repair", repair, answers.OfSchedules, body=SchedulesChange),
    Operation("POST", "/adopt", adopt, answers.OfSchedules, body=SchedulesChange),
    Operation("POST", "/hold", hold, answers.OfHalts, body=HoldChange),
    Operation("POST", "/release", release, answers.OfHalts, body=HaltChange),
    Operation("GET", "/openapi.json", openapi, answers.Document),
)


def routes() -> list[BaseRoute]:
    """Their places."""
    return [Route(PREFIX + one.path, one.handler, methods=[one.method]) for one in OPERATIONS]
