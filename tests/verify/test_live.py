"""Verified while it works, on the real stores: what is under way, pruned or repaired is no violation."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import grpc
import pytest

import outbox
from consumers.authz.client import AuthzClient
from consumers.authz.relationships import mark_of
from consumers.calls import Call
from outbox.compose.verify import Asked, verify
from outbox.compose.worker import open_worker
from outbox.settings import Settings
from outbox.store.engine import open_engine, transaction
from outbox.store.retention import RetentionStore
from outbox.testing import FaultProxy
from outbox.verify.tally import Tally
from tests.audit.test_real_stores import ALICE, converge, create, enqueue

FAST = 1e9
LANES = 5
BURSTS = 12
LOSE = ("WriteRelationships", "DeleteRelationships", "CreateSchedule", "UpdateSchedule", "DeleteSchedule")


async def violations(settings: Settings, tally: Tally | None = None) -> list[str]:
    return [str(one) async for one in verify(settings, Asked(rate=FAST), tally or Tally())]


def wish(
    agent: str, dice: random.Random
) -> tuple[outbox.CreateSchedule | outbox.UpdateSchedule | outbox.DeleteSchedule, outbox.Principal]:
    name, by = f"n{dice.randrange(LANES)}", outbox.Principal(user_id=dice.choice(["alice", "bob", None]))
    match dice.choice("ccuudd"):
        case "c":
            return create(agent, name), by
        case "u":
            return outbox.UpdateSchedule(agent_id=agent, name=name, paused=dice.random() < 0.5), by
        case _:
            return outbox.DeleteSchedule(agent_id=agent, name=name), by


@pytest.mark.campaign(seconds=30)
@pytest.mark.parametrize("seed", [1, 2])
async def test_beside_a_worker_nothing_is_cried_about(settings: Settings, agent: str, seed: int) -> None:
    """Answers are lost, calls fail, lanes move all the while."""
    dice = random.Random(seed)
    async with (
        FaultProxy(settings.spicedb_endpoint) as spicedb,
        FaultProxy(settings.temporal_address) as temporal,
    ):
        met = settings.model_copy(
            update={"spicedb_endpoint": spicedb.address, "temporal_address": temporal.address}
        )
        # One that nothing goes wrong with: it is judged with its stores in each pass.
        await enqueue(settings, (create(agent, "still"), ALICE))
        await converge(settings)
        async with (
            open_worker(met) as worker,
            open_engine(settings.database_url.get_secret_value()) as engine,
        ):
            working = asyncio.create_task(worker.run())
            for _ in range(BURSTS):
                async with transaction(engine) as connection:
                    await outbox.enqueue_many(connection, [wish(agent, dice) for _ in range(4)])
                method = dice.choice(LOSE)
                proxy = spicedb if method.endswith("Relationships") else temporal
                if dice.random() < 0.5:
                    proxy.lose_reply(method)
                else:
                    proxy.fail(method, status=grpc.StatusCode.UNAVAILABLE)
                tally = Tally()
                assert await violations(settings, tally) == []
                assert tally.with_stores > 0
            worker.stop()
            await working
    await converge(settings)
    tally = Tally()
    assert await violations(settings, tally) == []
    # Those with a repair to come are judged by their logs alone.
    assert (tally.lanes, tally.with_stores > 0) == (1 + LANES, True)


async def test_a_prune_leaves_nothing_that_counts_in_the_middle_of_a_batch_either(
    settings: Settings, agent: str, spicedb: AuthzClient
) -> None:
    await enqueue(
        settings,
        (create(agent, "gone"), ALICE),
        (outbox.DeleteSchedule(agent_id=agent, name="gone"), ALICE),
        (create(agent, "live"), ALICE),
        (outbox.UpdateSchedule(agent_id=agent, name="live", paused=True), ALICE),
    )
    await converge(settings)
    assert await violations(settings) == []
    async with open_engine(settings.database_url.get_secret_value()) as engine:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        retention = RetentionStore(engine, tomorrow, batch=10, operator="tester")
        await retention.begin()
        async for intents in retention.prunable():
            await spicedb.remove([mark_of(str(one)) for one in intents], Call.within(10))
            assert await violations(settings) == []
            assert await retention.prune(intents) == 3
    tally = Tally()
    assert await violations(settings, tally) == []
    assert (tally.lanes, tally.with_stores) == (2, 2)


async def test_marks_that_are_gone_without_a_prune_are_told(
    settings: Settings, agent: str, spicedb: AuthzClient
) -> None:
    first, _ = await enqueue(
        settings, (create(agent, "gone"), ALICE), (outbox.DeleteSchedule(agent_id=agent, name="gone"), ALICE)
    )
    await converge(settings)
    await spicedb.remove([mark_of(str(first))], Call.within(10))
    told = f"{agent}--gone: ended_mark: {first} was undone without being marked as ended"
    assert await violations(settings) == [told]
