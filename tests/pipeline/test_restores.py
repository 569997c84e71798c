"""SpiceDB or Temporal alone is restored from an earlier backup, while workers go on.

What audits find then, who has access that should not have it, and what repairs mend. Of ledgers that go back
tells ``tests/audit/test_disasters.py``.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from temporalio.client import Client

from consumers.authz.client import AuthzClient
from consumers.calls import StoreFailure
from outbox import Intent, Principal
from outbox.audit.drift import Drift
from outbox.compose import schema
from outbox.compose.audit import compare_stores
from outbox.settings import Settings
from outbox.stack import Stack, StackInfo
from outbox.testing.databases import prepare_template
from tests.audit.test_disasters import kinds, mend
from tests.conftest import settings_for
from tests.pipeline.harness import Pipeline
from tests.pipeline.ledger import until
from tests.pipeline.stores import Stores, registered
from tests.stack.folder import folder

pytestmark = pytest.mark.nemesis

REPAIRING: dict[str, Any] = {"repair_concurrency": 2}
BEFORE = ("kept", "changed", "deleted", "freed", "again")


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """Servers of the module's own: a restore takes all that is there with it."""
    with folder() as home, Stack(home) as own:
        yield own


@pytest.fixture(scope="module")
def stack(own: Stack) -> StackInfo:
    """Instead of the shared one."""
    info = own.info()
    assert info
    return info


@pytest.fixture(scope="module")
def template(stack: StackInfo) -> str:
    """In the module's own Postgres."""
    return prepare_template(stack)


@pytest.fixture(scope="module")
async def stores(stack: StackInfo) -> AsyncIterator[Stores]:
    """The module's own."""
    await schema.apply(settings_for(stack), lambda _: True)
    authz = AuthzClient.connect(stack.spicedb_endpoint, stack.spicedb_token, tls=False)
    temporal = await Client.connect(stack.temporal_address)
    async with grpc.aio.insecure_channel(stack.spicedb_endpoint) as channel:
        yield Stores(authz, channel, stack.spicedb_token, temporal)
    await authz.close()


class Backup:
    """What one store held at a moment.

    Args:
        own: the stack, which runs.
        stores: its clients.
        into: an empty folder.
    """

    def __init__(self, own: Stack, stores: Stores, into: Path) -> None:
        self._own = own
        self._stores = stores
        self._into = into

    async def take_of_spicedb(self) -> None:
        """A record that is half written when it is copied counts as none."""
        await asyncio.to_thread(shutil.copy, self._own.home / "spicedb" / "journal", self._into / "journal")

    async def restore_spicedb(self) -> None:
        await asyncio.to_thread(self._own.kill, "spicedb")
        await asyncio.to_thread(shutil.copy, self._into / "journal", self._own.home / "spicedb" / "journal")
        await asyncio.to_thread(self._own.start, "spicedb")
        await until("the test's own connections to SpiceDB to be back", self._spicedb_answers)

    async def take_of_temporal(self) -> None:
        await asyncio.to_thread(self._copy_temporal)

    async def restore_temporal(self) -> None:
        await asyncio.to_thread(self._own.kill, "temporal")
        for path in (self._own.home / "temporal").iterdir():
            path.unlink()
        await asyncio.to_thread(
            shutil.copy, self._into / "temporal.db", self._own.home / "temporal" / "temporal.db"
        )
        await asyncio.to_thread(self._own.start, "temporal")

    async def _spicedb_answers(self) -> bool:
        try:
            await self._stores.tuples("agent--none")
            await self._stores.may("read", "agent--none", "nobody")
        except (StoreFailure, grpc.aio.AioRpcError):
            return False
        return True

    def _copy_temporal(self) -> None:
        with (
            closing(sqlite3.connect(self._own.home / "temporal" / "temporal.db")) as live,
            closing(sqlite3.connect(self._into / "temporal.db")) as copy,
        ):
            live.backup(copy)


@pytest.fixture
def backup(own: Stack, stores: Stores, tmp_path: Path) -> Backup:
    return Backup(own, stores, tmp_path)


@pytest.fixture
def direct(stack: StackInfo, database: str) -> Settings:
    """Past the proxies, which lose their connections, too: a worker bears that, an audit would end."""
    return settings_for(stack, database, **REPAIRING)


async def before(pipeline: Pipeline) -> None:
    """What a backup has."""
    for name in ("alice", "bob"):
        await pipeline.may_use_the_agent(Principal(user_id=name))
    await applied(pipeline, *[await pipeline.create(name, by="alice") for name in BEFORE])


async def since(pipeline: Pipeline) -> Intent:
    """What it lacks; returns the update."""
    changed = await pipeline.update("changed", cron_expression="0 4 * * *")
    gone = [await pipeline.delete(name) for name in ("deleted", "freed", "again")]
    came = [await pipeline.create(name, by="bob") for name in ("again", "new")]
    await applied(pipeline, changed, *gone, *came)
    return changed


async def applied(pipeline: Pipeline, *intents: Intent) -> None:
    events = {"create": "created", "update": "updated", "delete": "deleted"}
    for intent in intents:
        await pipeline.ledger.await_event(intent.id, events[intent.kind])


async def differing(settings: Settings, pipeline: Pipeline) -> dict[str, list[Drift]]:
    """What ``outbox audit --schedule`` finds; lists, by which one of everything goes, tell no revision."""
    report = await compare_stores(settings, ids={pipeline.lane(name) for name in (*BEFORE, "new")})
    assert report.busy == []
    drifts: dict[str, list[Drift]] = {}
    for drift in report.drifts:
        drifts.setdefault(drift.schedule_id.removeprefix(f"{pipeline.agent}--"), []).append(drift)
    return drifts


async def may_read(pipeline: Pipeline, who: str, name: str) -> bool:
    return await pipeline.stores.may("read", pipeline.lane(name), who)


async def test_a_spicedb_that_went_back_gives_former_owners_access_until_it_is_repaired(
    pipeline: Pipeline, backup: Backup, direct: Settings
) -> None:
    async with pipeline.working(**REPAIRING):
        await before(pipeline)
        await backup.take_of_spicedb()
        await since(pipeline)
        assert not await may_read(pipeline, "alice", "again")
        await backup.restore_spicedb()

        drifts = await differing(direct, pipeline)
        assert kinds(drifts) == {
            "again": ["missing_tuple", "wrong_owner", "orphan_tuple"],
            "deleted": ["orphan_tuple"],
            "freed": ["orphan_tuple"],
            "new": ["missing_tuple"],
        }
        # What is unsafe meanwhile: it is bob's schedule by now, and the other is deleted.
        assert await may_read(pipeline, "alice", "again")
        assert await may_read(pipeline, "alice", "deleted")
        assert not await may_read(pipeline, "bob", "again")

        # A delete and a create of such a name remove what an ended intent left there.
        created = await pipeline.create("freed", by="bob")
        await applied(pipeline, await pipeline.delete("again", by="bob"), created)
        assert not await may_read(pipeline, "alice", "again")
        tuples = await pipeline.stores.tuples(pipeline.lane("freed"))
        assert tuples == registered(pipeline.lane("freed"), created.id, "bob")
        await mend(direct, drifts.values())
    assert await differing(direct, pipeline) == {}
    assert not await may_read(pipeline, "alice", "deleted")
    assert await may_read(pipeline, "bob", "new")
    await pipeline.agree()


async def test_a_temporal_that_went_back_runs_what_was_deleted_until_it_is_repaired(
    pipeline: Pipeline, backup: Backup, direct: Settings
) -> None:
    async with pipeline.working(**REPAIRING):
        await before(pipeline)
        await backup.take_of_temporal()
        changed = await since(pipeline)
        await backup.restore_temporal()

        drifts = await differing(direct, pipeline)
        assert kinds(drifts) == {
            "again": ["missing_schedule", "orphan_schedule"],
            "changed": ["wrong_revision"],
            "deleted": ["orphan_schedule"],
            "freed": ["orphan_schedule"],
            "new": ["missing_schedule"],
        }
        # What is unsafe meanwhile: it runs, though nobody has access to it.
        assert await pipeline.stores.schedule(pipeline.lane("deleted"))
        assert await pipeline.stores.tuples(pipeline.lane("deleted")) == set()

        # A delete and a create of such a name remove what an ended intent left there.
        created = await pipeline.create("freed", by="bob")
        await applied(pipeline, await pipeline.delete("again", by="bob"), created)
        assert await pipeline.stores.schedule(pipeline.lane("again")) is None
        freed = await pipeline.stores.schedule(pipeline.lane("freed"))
        assert freed
        assert freed.stamp == str(created.id)
        await mend(direct, drifts.values())
    assert await differing(direct, pipeline) == {}
    assert await pipeline.stores.schedule(pipeline.lane("deleted")) is None
    again_as_changed = await pipeline.stores.schedule(pipeline.lane("changed"))
    assert again_as_changed
    assert again_as_changed.revision == str(changed.id)
    await pipeline.agree()
