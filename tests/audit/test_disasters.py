"""Disasters: the ledger is lost, or older than the stores, as a restored dump or an asynchronous standby is.

A copy of the database stands for it: the stores go on with the original, and then the copy takes its place.
"""

from base64 import b64decode
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from temporalio.api.schedule.v1 import Schedule

import outbox
from consumers.authz import reads as authz_reads
from consumers.authz.client import AuthzClient
from consumers.calls import Call
from consumers.temporal.client import Found, TemporalClient
from outbox.audit.drift import Drift
from outbox.compose.audit import compare_stores
from outbox.compose.reclaim import read_forgotten
from outbox.flow.dispatch import Dispatch
from outbox.flow.table import EventType, Kind
from outbox.settings import Settings
from outbox.stack import StackInfo
from outbox.store.engine import open_engine
from outbox.store.operate import OperateStore
from outbox.testing import judge
from outbox.testing.databases import copied
from tests.audit.test_real_stores import ALICE, converge, create, enqueue

BOB = outbox.Principal(user_id="bob")


def delete(agent: str, name: str) -> outbox.DeleteSchedule:
    return outbox.DeleteSchedule(agent_id=agent, name=name)


@asynccontextmanager
async def restored(stack: StackInfo, settings: Settings) -> AsyncIterator[Settings]:
    """A dump of the ledger, made now and restored later."""
    name = settings.database_url.get_secret_value().rpartition("/")[2]
    with copied(stack, name) as url:
        yield Settings.model_validate(settings.model_dump() | {"database_url": url})


async def found(settings: Settings, agent: str) -> dict[str, list[Drift]]:
    report = await compare_stores(settings, prefix=f"{agent}--")
    drifts: dict[str, list[Drift]] = {}
    for drift in report.drifts:
        drifts.setdefault(drift.schedule_id.removeprefix(f"{agent}--"), []).append(drift)
    return drifts


def kinds(drifts: dict[str, list[Drift]]) -> dict[str, list[str]]:
    return {name: [one.kind for one in found] for name, found in drifts.items()}


async def mend(settings: Settings, drifts: Iterable[list[Drift]]) -> None:
    """What ``outbox audit --repair`` asks for, carried out."""
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        for first, *_ in drifts:
            if first.is_repaired:
                await OperateStore(engine, "tester").request_repair(first.schedule_id)
    await converge(settings)


async def reclaim(settings: Settings, drifts: Iterable[list[Drift]]) -> None:
    """What ``outbox audit --reclaim --yes`` asks for, carried out."""
    names = [first.schedule_id for first, *_ in drifts if first.is_reclaimed]
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        async for one in read_forgotten(settings, names):
            await OperateStore(engine, "tester").request_reclaim(
                one.schedule_id, one.stamp, definition=one.definition, creator=one.creator
            )
    await converge(settings)


class World:
    """Both stores, seen past the ledger."""

    def __init__(self, agent: str, spicedb: AuthzClient, temporal: TemporalClient) -> None:
        self._agent = agent
        self._spicedb = spicedb
        self._temporal = temporal

    async def of(self, name: str) -> tuple[frozenset[object], Found | None, str]:
        """Relationships, stamp and definition of a schedule."""
        lane = f"{self._agent}--{name}"
        tuples = await authz_reads.read_schedule(self._spicedb, lane, seconds=10)
        described = await self._temporal.definition(lane, Call.within(10))
        return tuples, described[0] if described else None, described[1]["described"] if described else ""

    async def every(self, name: str) -> int:
        """How many seconds there are between the runs of a schedule."""
        *_, described = await self.of(name)
        (interval,) = Schedule.FromString(b64decode(str(described))).spec.interval
        return int(interval.interval.seconds)


@pytest.fixture
def stores(agent: str, spicedb: AuthzClient, temporal: TemporalClient) -> World:
    return World(agent, spicedb, temporal)


async def test_a_ledger_that_is_lost_is_built_again_from_the_stores(
    settings: Settings, stack: StackInfo, agent: str, stores: World, temporal: TemporalClient
) -> None:
    async with restored(stack, settings) as empty:
        service = outbox.Principal(service_account_id="reports")
        await enqueue(settings, (create(agent, "one"), ALICE), (create(agent, "two"), service))
        await converge(settings)
        before = {name: await stores.of(name) for name in ("one", "two")}
        drifts = await found(empty, agent)
        assert kinds(drifts) == {"one": ["forgotten"], "two": ["forgotten"]}
        await mend(empty, drifts.values())
        await reclaim(empty, drifts.values())
        assert await found(empty, agent) == {}
        assert {name: await stores.of(name) for name in before} == before

        await temporal.delete(f"{agent}--one", Call.within(10))
        await mend(empty, (await found(empty, agent)).values())
        assert await stores.of("one") == before["one"], "as it was defined"
        taken, _ = await enqueue(empty, (create(agent, "one"), BOB), (delete(agent, "two"), service))
        await converge(empty)
        assert await stores.of("two") == (frozenset(), None, "")
        async with open_engine(empty.database_url.get_secret_value()) as engine:
            result = await outbox.wait(engine, taken, timeout=240)
        assert result.error
        assert result.error.code == "conflict_live"
        assert (await judge(empty))[0] == []


async def test_what_is_reclaimed_twice_keeps_what_was_updated_in_between(
    settings: Settings, stack: StackInfo, agent: str, stores: World
) -> None:
    """As of two operators, the second one of whom asks by what was found before the first one was heard."""
    async with restored(stack, settings) as empty:
        await enqueue(settings, (create(agent, "one"), ALICE))
        await converge(settings)
        drifts = await found(empty, agent)
        await reclaim(empty, drifts.values())
        await enqueue(empty, (outbox.UpdateSchedule(agent_id=agent, name="one", interval_seconds=60), ALICE))
        await converge(empty)
        await reclaim(empty, drifts.values())
        await enqueue(empty, (outbox.UpdateSchedule(agent_id=agent, name="one", paused=True), ALICE))
        await converge(empty)
        assert await stores.every("one") == 60
        assert (await compare_stores(empty, ids={f"{agent}--one"})).drifts == []
        assert (await judge(empty))[0] == []


async def test_no_live_owner_loses_anything_to_a_ledger_that_went_back_in_time(
    settings: Settings, stack: StackInfo, agent: str, stores: World
) -> None:
    """Repairs of what an audit then finds bring back nothing that was deleted, and spare what lives."""
    await enqueue(settings, *((create(agent, name), ALICE) for name in ("kept", "deleted", "again", "asked")))
    await enqueue(settings, (create(agent, "free"), ALICE), (delete(agent, "free"), ALICE))
    await converge(settings)
    await enqueue(settings, (delete(agent, "asked"), ALICE), (create(agent, "late"), ALICE))
    async with restored(stack, settings) as older:
        await converge(settings)
        gone = [(delete(agent, name), ALICE) for name in ("deleted", "again")]
        came = [(create(agent, name), BOB) for name in ("again", "asked", "free", "new")]
        await enqueue(settings, *gone, *came)
        await converge(settings)
        assert await found(settings, agent) == {}
        bobs = {name: await stores.of(name) for name in ("again", "asked", "free", "new")}
        alices = {name: await stores.of(name) for name in ("kept", "late")}

        # What was under way when the ledger was saved goes on, a delete of what is bob's by now as well.
        await converge(older)
        drifts = await found(older, agent)
        forgotten = {name: ["forgotten"] for name in bobs}
        assert kinds(drifts) == forgotten | {"deleted": ["deleted"]}
        await mend(older, drifts.values())
        assert kinds(await found(older, agent)) == forgotten
        assert await stores.of("deleted") == (frozenset(), None, "")
        assert {name: await stores.of(name) for name in bobs} == bobs
        assert {name: await stores.of(name) for name in alices} == alices

        await reclaim(older, (await found(older, agent)).values())
        assert await found(older, agent) == {}
        assert {name: await stores.of(name) for name in bobs} == bobs
        assert (await judge(older))[0] == []
        await enqueue(older, *((delete(agent, name), BOB) for name in bobs))
        await converge(older)
        assert {name: await stores.of(name) for name in bobs} == dict.fromkeys(bobs, (frozenset(), None, ""))
        assert (await judge(older))[0] == []


async def test_what_was_deleted_goes_again_where_temporal_went_back_with_the_ledger(
    settings: Settings, stack: StackInfo, agent: str, stores: World, temporal: TemporalClient
) -> None:
    """As of one Postgres server that has the databases of both."""
    who = {"owned": ALICE, "unowned": outbox.Principal(), "on": ALICE}
    asked = [(create(agent, name), principal) for name, principal in who.items()]
    ids = dict(zip(who, await enqueue(settings, *asked), strict=True))
    del ids["on"]
    await converge(settings)
    kept = await stores.of("on")
    async with restored(stack, settings) as older:
        await enqueue(settings, *((delete(agent, name), ALICE) for name in ids))
        await converge(settings)
        for name, intent_id in ids.items():
            made = Dispatch(
                intent_id, f"{agent}--{name}", Kind.CREATE, EventType.REGISTERED, 1, 1, deadline=0.0,
                request=create(agent, name).model_dump(mode="json"),
            )  # fmt: skip
            await temporal.create(made, uuid4(), Call.within(10), anew=True)
        drifts = await found(older, agent)
        assert kinds(drifts) == {"owned": ["deleted"]}
        violations, _ = await judge(older)
        assert {one.schedule_id for one in violations} == {f"{agent}--{name}" for name in ids}
        unowned = (await compare_stores(older, ids={f"{agent}--unowned"})).drifts
        assert [one.kind for one in unowned] == ["deleted"], "lists tell no marks"
        await mend(older, [*drifts.values(), list(unowned)])
        assert await found(older, agent) == {}
        assert {name: await stores.of(name) for name in ids} == dict.fromkeys(ids, (frozenset(), None, ""))
        assert await stores.of("on") == kept
        assert (await judge(older))[0] == []


async def test_an_update_that_a_ledger_went_back_behind_is_told_and_a_repair_brings_the_older_one_back(
    settings: Settings, stack: StackInfo, agent: str, stores: World
) -> None:
    """The ledger is what repairs go by: whoever wants to keep what Temporal has asks for it anew."""
    await enqueue(settings, (create(agent, "one"), ALICE))
    await converge(settings)
    async with restored(stack, settings) as older:
        change = outbox.UpdateSchedule(agent_id=agent, name="one", interval_seconds=60)
        await enqueue(settings, (change, ALICE))
        await converge(settings)
        assert await stores.every("one") == 60

        assert await found(older, agent) == {}, "lists tell no revision"
        (drift,) = (await compare_stores(older, ids={f"{agent}--one"})).drifts
        assert drift.kind == "wrong_revision"
        await enqueue(older, (change, ALICE))
        await converge(older)
        assert (await compare_stores(older, ids={f"{agent}--one"})).drifts == [], (
            "it stands in the ledger, too"
        )
        assert await stores.every("one") == 60

    async with restored(stack, settings) as older:
        await enqueue(
            settings, (outbox.UpdateSchedule(agent_id=agent, name="one", interval_seconds=30), ALICE)
        )
        await converge(settings)
        (drift,) = (await compare_stores(older, ids={f"{agent}--one"})).drifts
        await mend(older, [[drift]])
        assert (await compare_stores(older, ids={f"{agent}--one"})).drifts == []
        assert await stores.every("one") == 60, "as the older ledger has it"
