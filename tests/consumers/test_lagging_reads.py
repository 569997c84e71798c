"""The effects on SpiceDB while its reads are behind: nothing is harmed, and no attempt is wasted."""

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from consumers.authz.client import AuthzClient, Match, Tuple
from consumers.authz.effects import AuthzEffects
from consumers.calls import Call
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Creator, Standing
from outbox.flow.outcome import Conflict, Done, Outcome, Transient
from outbox.flow.table import Kind
from outbox.stack import StackInfo
from outbox.testing import FaultProxy
from tests.consumers.test_authz_effects import (
    DEREGISTER,
    REGISTER,
    Make,
    Object,
    owner,
    parent,
    reader,
    registered,
    stamp,
)
from tests.lagging import READ, as_of, present

Freeze = Callable[[], Awaitable[None]]


@pytest.fixture
def held(relationships: AuthzClient, schedule_id: str) -> Object:
    return Object(relationships, schedule_id)


@pytest.fixture
def freeze(stack: StackInfo, spicedb: FaultProxy) -> Freeze:
    """From now on, what the effects read is as it is now."""

    async def now() -> None:
        spicedb.clear()
        moment = await present(stack.spicedb_endpoint, stack.spicedb_token)
        spicedb.rewrite(READ, as_of(moment), times=None)

    return now


def later(outcome: Outcome) -> bool:
    """Whether the step is tried again, and not at once: a read that is behind stays so for a while."""
    return isinstance(outcome, Transient) and (outcome.code, outcome.retry_after) == (ErrorCode.RACED, None)


async def test_a_frozen_read_is_of_its_moment_and_a_condition_is_not(
    stack: StackInfo, spicedb: FaultProxy, held: Object, schedule_id: str, freeze: Freeze
) -> None:
    client = AuthzClient.connect(spicedb.address, stack.spicedb_token, tls=False)
    await held.put(owner(schedule_id))
    await freeze()
    await held.drop(owner(schedule_id))
    found = await client.read(Match("agent_schedule", schedule_id), Call.within(30))
    page = await client.read_page("agent_schedule", schedule_id, None, Call.within(30), limit=10)
    assert set(found.tuples) == set(page.tuples) == {owner(schedule_id)}
    assert await held.tuples() == set()
    await client.close()


async def test_a_registration_that_landed_unseen_is_found(
    authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, freeze: Freeze
) -> None:
    step = dispatch(REGISTER)
    await freeze()
    assert isinstance(await authz_effects.apply(step), Done)
    for again in (authz_effects.apply, authz_effects.look):
        found = await again(step)
        assert isinstance(found, Done)
        assert found.zed_token
    assert await held.tuples() == registered(schedule_id, step.intent_id)


async def test_debris_that_is_gone_already_is_asked_about_later(
    *,
    authz_effects: AuthzEffects,
    dispatch: Make,
    held: Object,
    schedule_id: str,
    standings: dict[str, Standing],
    freeze: Freeze,
) -> None:
    """What has taken its place is somebody else's, and stays."""
    debris, other = uuid4(), uuid4()
    standings[str(debris)] = Standing.ENDED
    await held.put(*registered(schedule_id, debris))
    await freeze()
    for one in registered(schedule_id, debris):
        await held.drop(one)
    await held.put(*registered(schedule_id, other, "mallory"))
    assert later(await authz_effects.apply(dispatch(REGISTER)))
    assert await held.tuples() == registered(schedule_id, other, "mallory")
    await freeze()
    assert isinstance(await authz_effects.apply(dispatch(REGISTER)), Conflict)


async def test_a_registration_that_is_less_incomplete_than_was_read_keeps_what_was_granted_on_it(
    authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, freeze: Freeze
) -> None:
    step = dispatch(REGISTER)
    await held.put(stamp(schedule_id, step.intent_id))
    await freeze()
    whole = {*registered(schedule_id, step.intent_id), reader(schedule_id)}
    await held.put(*whole)
    assert isinstance(await authz_effects.apply(step), Done)
    await held.drop(parent(schedule_id))
    assert later(await authz_effects.apply(step)), "the read says that the owner is missing, too"
    assert await held.tuples() == whole - {parent(schedule_id)}


async def test_a_name_that_was_taken_a_moment_ago_is_no_free_one_to_a_create_without_an_owner(
    authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, freeze: Freeze
) -> None:
    """Whoever took it would own the schedule."""
    await freeze()
    await held.put(owner(schedule_id, "mallory"))
    assert later(await authz_effects.apply(dispatch(REGISTER, creator=Creator())))
    await freeze()
    assert isinstance(await authz_effects.apply(dispatch(REGISTER, creator=Creator())), Conflict)
    assert await held.tuples() == {owner(schedule_id, "mallory")}


async def test_a_name_that_became_free_a_moment_ago_is_free_to_a_create_without_an_owner(
    authz_effects: AuthzEffects, dispatch: Make, held: Object, schedule_id: str, freeze: Freeze
) -> None:
    await held.put(owner(schedule_id, "mallory"))
    await freeze()
    await held.drop(owner(schedule_id, "mallory"))
    outcome = await authz_effects.apply(dispatch(REGISTER, creator=Creator()))
    assert isinstance(outcome, Done)
    assert outcome.skipped


async def test_a_deregistration_that_is_done_already_is_done(
    *,
    authz_effects: AuthzEffects,
    dispatch: Make,
    held: Object,
    schedule_id: str,
    standings: dict[str, Standing],
    freeze: Freeze,
) -> None:
    live = uuid4()
    standings[str(live)] = Standing.LIVE
    await held.put(*registered(schedule_id, live))
    await freeze()
    step = dispatch(DEREGISTER, kind=Kind.DELETE, live_intent=live)
    assert isinstance(await authz_effects.apply(step), Done)
    assert isinstance(await authz_effects.apply(step), Done), "though a read would still show it"
    assert await held.tuples() == set()


async def test_an_ended_intent_never_registers_whatever_is_read(
    authz_effects: AuthzEffects, dispatch: Make, held: Object, freeze: Freeze
) -> None:
    step = dispatch(REGISTER)
    await freeze()
    await held.put(mark(step.intent_id))
    assert later(await authz_effects.apply(step))
    assert await held.tuples() == set()


def mark(intent: UUID) -> Tuple:
    return Tuple("outbox_intent", str(intent), "ended", "outbox_intent", str(intent))
