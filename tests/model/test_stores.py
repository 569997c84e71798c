"""The model's stores answer as the real ones do, call for call."""

import random
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from temporalio.api.schedule import v1 as protobuf

from consumers.authz.client import AuthzClient, Match, NotAsExpected, Read, Requires, Tuple
from consumers.authz.names import AGENT, ENDED, INTENT, OWNER, PARENT_AGENT, REGISTERED_BY, SCHEDULE, USER
from consumers.calls import Call as Bounds
from consumers.calls import StoreFailure
from consumers.temporal.client import AlreadyTaken, Described, Found, NotThere, TemporalClient
from outbox.flow.dispatch import Dispatch
from outbox.flow.table import EventType, Kind
from outbox.stack import StackInfo
from tests.model.stores import (
    Answer,
    Call,
    Create,
    Delete,
    Describe,
    Look,
    Remove,
    Schedule,
    Stores,
    Update,
    Write,
    apply,
)

SEQUENCES = 12


@pytest.fixture
async def spicedb(stack: StackInfo, spicedb_schema: None) -> AuthzClient:
    del spicedb_schema
    return AuthzClient.connect(stack.spicedb_endpoint, stack.spicedb_token, tls=False)


@pytest.mark.parametrize("seed", range(SEQUENCES))
async def test_spicedb(spicedb: AuthzClient, agent: str, seed: int) -> None:
    schedule, intents = f"{agent}--nightly", [str(uuid4()), str(uuid4())]
    stores = Stores()
    for call in random.Random(seed).choices(_spicedb_calls(schedule, intents), k=16):
        stores, expected = apply(stores, call)
        assert await _on_spicedb(spicedb, call) == _without_token(expected), call
    await spicedb.close()


@pytest.mark.parametrize("seed", range(SEQUENCES))
async def test_temporal(stack: StackInfo, agent: str, seed: int) -> None:
    temporal = await TemporalClient.connect(stack.temporal_address, "default")
    schedule, intents = f"{agent}--nightly", [uuid4(), uuid4()]
    calls: list[tuple[Call, UUID]] = [
        (Create(f"{intent}:{generation}", str(intent), bad=bad), intent)
        for intent in intents
        for generation in ("1", "2")
        for bad in (False, generation == "2" and intent == intents[0])
    ]
    calls += [(Delete(), intents[0]), (Delete(), intents[0]), (Describe(), intents[0])]
    calls += [
        (Update(token, str(intent), (number, token), bad=bad), intent)
        for number, intent in enumerate(intents)
        for token, bad in ((1, False), (1, False), (2, False), (1, True))
    ]
    stores, tokens = Stores(), {1: b"", 2: b""}
    for number, (call, intent) in enumerate(random.Random(seed).choices(calls, k=24)):
        if stores.temporal.schedule:
            described = await temporal.read(schedule, Bounds.within(30))
            assert described
            tokens[stores.temporal.schedule.token] = described.token
        stores, expected = apply(stores, call)
        if isinstance(call, Update) and not tokens[call.token]:
            continue  # a token that the server has not given yet
        found = await _on_temporal(temporal, schedule, intent, call, tokens=tokens, lease=number + 1)
        assert found == _without_token(expected), call


def _spicedb_calls(schedule: str, intents: Sequence[str]) -> list[Call]:
    held, stamped = Match(SCHEDULE, schedule), Match(SCHEDULE, schedule, REGISTERED_BY)
    calls: list[Call] = [Look(held), Remove(held, (Requires(stamped, present=False),))]
    for user, intent in zip(("alice", "bob"), intents, strict=True):
        mark = Match(INTENT, intent, ENDED)
        mine = Match(SCHEDULE, schedule, REGISTERED_BY, INTENT, intent)
        registration = (
            Tuple(SCHEDULE, schedule, OWNER, USER, user),
            Tuple(SCHEDULE, schedule, PARENT_AGENT, AGENT, "agent"),
            Tuple(SCHEDULE, schedule, REGISTERED_BY, INTENT, intent),
        )
        register = Write(registration, (Requires(held, present=False), Requires(mark, present=False)))
        # Twice, as every other call stands in its way.
        calls += [register, register, Look(mark), Remove(held, (Requires(mine, present=True),))]
        calls += [Write((Tuple(INTENT, intent, ENDED, INTENT, intent),), ())] if intent == intents[1] else []
    return calls


async def _on_spicedb(client: AuthzClient, call: Call) -> object:
    bounds = Bounds.within(30)
    try:
        match call:
            case Look():
                return tuple(sorted((await client.read(call.match, bounds)).tuples))
            case Remove():
                await client.delete(call.match, call.requires, bounds)
            case Write(requires=()):
                await client.touch(call.tuples, bounds)
            case Write():
                await client.create(call.tuples, call.requires, bounds)
    except NotAsExpected:
        return NotAsExpected
    return None


async def _on_temporal(
    client: TemporalClient, schedule: str, intent: UUID, call: Call, *, tokens: dict[int, bytes], lease: int
) -> object:
    bounds = Bounds.within(30)
    try:
        match call:
            case Create():
                await client.create(_dispatch(schedule, intent, call), uuid4(), bounds)
            case Update():
                present = Described(Found(None), protobuf.Schedule(), tokens[call.token])
                step = replace(_dispatch(schedule, intent, call), lease_number=lease)
                revision = UUID(call.revision) if call.revision else None
                await client.update(step, present, bounds, revision=revision, changes=frozenset())
            case Delete():
                await client.delete(schedule, bounds)
            case Describe():
                found = await client.describe(schedule, bounds)
                return None if found is None else (found.stamp, found.revision)
    except (AlreadyTaken, NotThere, StoreFailure) as error:
        return type(error)
    return None


def _dispatch(schedule: str, intent: UUID, call: Create | Update) -> Dispatch:
    cron = "not a cron" if call.bad else "0 3 * * *"
    return Dispatch(
        intent_id=intent,
        schedule_id=schedule,
        kind=Kind.CREATE,
        event_type=EventType.REGISTERED,
        lease_number=1,
        attempt=1,
        deadline=Bounds.within(30).deadline,
        generation=call.request_id.partition(":")[2] if isinstance(call, Create) else "1",
        request={"workflow_name": "Run", "task_queue": "agents", "cron_expression": cron},
    )


def _without_token(answer: Answer) -> object:
    if answer.raises is not None:
        return answer.raises
    if isinstance(answer.value, Schedule):
        return answer.value.stamp, answer.value.revision
    return answer.value.tuples if isinstance(answer.value, Read) else _nothing_of(answer.value)


def _nothing_of(value: object) -> object:
    return None if value == "token" else value
