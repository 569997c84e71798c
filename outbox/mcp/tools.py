"""The tools: each asks what a page of the console asks, and answers what its API answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from outbox.console.access import Visitor
from outbox.console.actions import Actions
from outbox.console.asked import AuditQuery, IntentsQuery, OperationsQuery, ReplaysQuery
from outbox.console.reads import Reads, Shown
from outbox.console.refusals import NotFound
from outbox.mcp.asked import (
    Discard,
    Mend,
    Nothing,
    OfGroup,
    OfIntent,
    OfSchedule,
    Replay,
    ToDiscard,
    ToMend,
    ToReplay,
)


@dataclass(frozen=True, slots=True)
class Desk:
    """What the tools work with.

    Attributes:
        by: who is written down for what is done.
        payloads: whether what requests hold is shown.
    """

    reads: Reads
    actions: Actions
    by: Visitor
    payloads: bool


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        asked: its arguments.
        answer: to them; the first paragraph of what it says of itself is what an assistant chooses by.
        acts: it changes something.
    """

    name: str
    asked: type[BaseModel]
    answer: Callable[[Desk, Any], Awaitable[Shown]]
    acts: bool = False


async def overview(desk: Desk, _: Nothing) -> Shown:
    """How much waits and where, the oldest head, the last hour, stores that can't be used, halts, drift."""
    return await desk.reads.overview()


async def intents(desk: Desk, asked: IntentsQuery) -> Shown:
    """The intents that match a filter, the newest first; `next` is the cursor of the next page."""
    return await desk.reads.intents(asked)


async def intent(desk: Desk, asked: OfIntent) -> Shown:
    """One intent: each step and attempt, its errors, and what it asked for."""
    found = await desk.reads.intent(asked.intent_id, payload=desk.payloads)
    if found is None:
        raise NotFound(f"there is no intent {asked.intent_id}: `intents` lists them")
    return found


async def schedule(desk: Desk, asked: OfSchedule) -> Shown:
    """One schedule: why it waits, what ledger, SpiceDB and Temporal hold now, what differs with its fix."""
    found = await desk.reads.schedule(asked.schedule_id, asked.limit)
    if found is None:
        raise NotFound(
            f"there is no schedule {asked.schedule_id}, neither in the ledger nor in SpiceDB or Temporal: "
            "`intents` finds some by a part of their id"
        )
    return found


async def failures(desk: Desk, _: Nothing) -> Shown:
    """What has failed or is parked and nobody has dealt with, in groups of what is alike in it."""
    return await desk.reads.failures()


async def failure_group(desk: Desk, asked: OfGroup) -> Shown:
    """Some intents of a group of failures, the last to fail first."""
    found = await desk.reads.failure_group(asked.group_id, asked)
    if found is None:
        raise NotFound(
            f"there is no group {asked.group_id}: has all of it been dealt with? "
            "`failures` lists those there are"
        )
    return found


async def audit(desk: Desk, asked: AuditQuery) -> Shown:
    """What the workers' audit has found, by kind with its fix and schedule by schedule."""
    return await desk.reads.audit(asked)


async def replays(desk: Desk, asked: ReplaysQuery) -> Shown:
    """Replays in waves, the newest first: how far each is, and how its intents come out."""
    return await desk.reads.replays(asked)


async def operations(desk: Desk, asked: OperationsQuery) -> Shown:
    """What operators did: who, when, why, and what came of it; the newest first."""
    return await desk.reads.operations(asked)


async def replay(desk: Desk, asked: ToReplay | Replay) -> Shown:
    """Try failed intents again, and re-arm parked steps."""
    return {"answers": await desk.actions.replay(asked.change(), desk.by)}


async def discard(desk: Desk, asked: ToDiscard | Discard) -> Shown:
    """End parked intents, so that their schedules go on; what is ours of them is undone first."""
    return {"answers": await desk.actions.discard(asked.change(), desk.by)}


async def repair(desk: Desk, asked: ToMend | Mend) -> Shown:
    """Have schedules brought to what the ledger says, where a repair mends what differs."""
    return {"answers": await desk.actions.repair(asked.change(), desk.by)}


async def adopt(desk: Desk, asked: ToMend | Mend) -> Shown:
    """Take schedules from before the outbox into the ledger."""
    return {"answers": await desk.actions.adopt(asked.change(), desk.by)}


READS = (
    Tool("overview", Nothing, overview),
    Tool("intents", IntentsQuery, intents),
    Tool("intent", OfIntent, intent),
    Tool("schedule", OfSchedule, schedule),
    Tool("failures", Nothing, failures),
    Tool("failure_group", OfGroup, failure_group),
    Tool("audit", AuditQuery, audit),
    Tool("replays", ReplaysQuery, replays),
    Tool("operations", OperationsQuery, operations),
    Tool("preview_replay", ToReplay, replay),
    Tool("preview_discard", ToDiscard, discard),
    Tool("preview_repair", ToMend, repair),
    Tool("preview_adopt", ToMend, adopt),
)
ACTIONS = (
    Tool("replay", Replay, replay, acts=True),
    Tool("discard", Discard, discard, acts=True),
    Tool("repair", Mend, repair, acts=True),
    Tool("adopt", Mend, adopt, acts=True),
)
