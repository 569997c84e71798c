"""The demo's story: what is asked for, what breaks meanwhile, and what came of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from outbox import compose
from outbox.demo.aftermath import Aftermath
from outbox.demo.verdict import Verdict, ending, judge
from outbox.demo.view import View
from outbox.demo.watch import Snapshot, look, news
from outbox.demo.workers import DemoFailed, Workers
from outbox.demo.workload import Case, Planned, Workload
from outbox.producer.enqueue import enqueue_many
from outbox.settings import Settings
from outbox.store.engine import open_engine, transaction
from outbox.store.progress import ProgressStore

if TYPE_CHECKING:
    from outbox.stack import Stack

_LOOK_SECONDS = 0.1
_OUTAGE_SECONDS = 3.0
_SETTLE_SECONDS = 120.0
_BUSY = 10


@dataclass(frozen=True, slots=True)
class Ended:
    """A finished run.

    Attributes:
        first_seconds: from the start of the command to the first intent that had ended.
        seconds: the same to the last.
        failed_attempts: by consumer and error code, how many attempts did not settle their step.
    """

    verdict: Verdict
    first_seconds: float
    seconds: float
    failed_attempts: Sequence[dict[str, Any]]


@dataclass
class Story:
    """One run of the demo.

    Args:
        settings: the running stack's.
        started: when the command began, on ``time.monotonic``.
    """

    stack: "Stack"
    settings: Settings
    workload: Workload
    workers: Workers
    view: View
    started: float
    _cases: dict[UUID, Case] = field(default_factory=dict)
    _latest: Snapshot = field(default_factory=Snapshot)
    _first_at: float | None = None
    _watching: asyncio.Task[None] | None = None

    async def run(self) -> Ended:
        """Tell the story from beginning to end; the workers are stopped then.

        Raises:
            DemoFailed: it does not come to an end.
        """
        async with open_engine(self.settings.database_url.get_secret_value()) as engine:
            progress = ProgressStore(engine)
            try:
                doomed = await self._staff()
                before = await self._strangers_move_in()
                async with self._watched(progress):
                    await self._act(engine, doomed)
            finally:
                await self.workers.stop()
            seconds = time.monotonic() - self.started
            self.view.tell("all intents have ended; now the three stores are compared")
            verdict = await self._judge(await look(progress, list(self._cases)), before)
            failed = await progress.failed_attempts(list(self._cases))
            if verdict.good:
                await Aftermath(engine, self.settings, self.workload, self.workers, self.view).leave()
        return Ended(verdict, (self._first_at or time.monotonic()) - self.started, seconds, failed)

    async def _staff(self) -> int:
        """Start two workers, and return the number of the one that won't live to see the end."""
        await self.workers.start()
        self.view.tell("two workers start, each a process of `outbox run`")
        return await self.workers.start()

    async def _act(self, engine: AsyncEngine, doomed: int) -> None:
        first, second, third = self.workload.waves
        await self._enqueue(engine, first, "producers commit")
        await self._until(lambda now: now.ended >= len(first[0]) * 4)
        await self._outage(
            "spicedb", "SpiceDB is killed", lambda: self._enqueue(engine, second, "still, they commit")
        )
        await self._until(lambda now: now.ended >= 0.6 * len(self._cases))
        await self._enqueue(engine, third, "they commit")
        await self._until(lambda now: now.states["leased"] >= _BUSY or now.ended == len(now.intents))
        await self.workers.kill(doomed)
        self.view.tell(
            f"[red]worker {doomed} is killed (SIGKILL)[/] with its steps under way: "
            "their leases end, others take over and look before they act"
        )
        await self._outage("temporal", "Temporal is stopped", self._replace)
        await self._until(lambda now: now.ended == len(self._cases))
        await self._verified()

    async def _verified(self) -> None:
        """Wait until the lanes that had an attempt without an answer have been verified."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            report = await compose.audit.compare_stores(self.settings)
            if not report.busy:
                return
            self.workers.check()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _replace(self) -> None:
        number = await self.workers.start()
        self.view.tell(f"worker {number} starts in its place")

    async def _strangers_move_in(self) -> dict[str, object]:
        """Put strangers' objects into the stores, and remember what they look like."""
        for stranger in self.workload.strangers:
            if stranger.store == "SpiceDB":
                await compose.foreign.hold_in_spicedb(self.settings, stranger.schedule_id, stranger.owner)
            else:
                await compose.foreign.hold_in_temporal(self.settings, stranger.schedule_id)
            self.view.tell(
                f"past the outbox, {stranger.owner} takes {stranger.schedule_id} in {stranger.store}"
            )
        return await self._strangers()

    async def _strangers(self) -> dict[str, object]:
        return {
            stranger.schedule_id: await compose.foreign.read(self.settings, stranger.schedule_id)
            for stranger in self.workload.strangers
        }

    async def _enqueue(self, engine: AsyncEngine, wave: tuple[tuple[Planned, ...], ...], words: str) -> None:
        known = len(self._cases)
        for together in wave:
            first = await _commit(engine, together)
            self._cases |= {intent: planned.case for intent, planned in zip(first, together, strict=True)}
            repeated = [planned for planned in together if planned.repeated]
            if repeated and await _commit(engine, repeated) != first:
                raise DemoFailed("an idempotency key that was used again gave another intent")
        self.view.tell(
            f"{words} [bold]{len(self._cases) - known}[/] intents in {len(wave)} transactions"
            + (", one twice under one idempotency key" if wave == self.workload.waves[0] else "")
        )

    async def _outage(self, name: Any, words: str, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """Take a store away, do something meanwhile, and bring it back."""
        self.view.tell(f"[red]{words}[/] for {_OUTAGE_SECONDS:.0f} s and more")
        end = self.stack.kill if name == "spicedb" else self.stack.stop
        await asyncio.to_thread(end, name)
        await meanwhile()
        await asyncio.sleep(_OUTAGE_SECONDS)
        await asyncio.to_thread(self.stack.start, name)
        self.view.tell(f"[green]{'SpiceDB' if name == 'spicedb' else 'Temporal'} is back[/] with its data")

    async def _until(self, reached: Callable[[Snapshot], bool]) -> None:
        """Wait for a snapshot of which this is true.

        Raises:
            DemoFailed: it takes too long, or a worker has ended.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not (len(self._latest.intents) == len(self._cases) and reached(self._latest)):
            self.workers.check()
            if self._watching and self._watching.done():
                self._watching.result()
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{len(self._cases) - self._latest.ended} intents have not ended after "
                    f"{_SETTLE_SECONDS:.0f} s: `outbox intents --status pending`, `outbox status`"
                )
            await asyncio.sleep(_LOOK_SECONDS / 2)

    @contextlib.asynccontextmanager
    async def _watched(self, progress: ProgressStore) -> AsyncIterator[None]:
        self._watching = asyncio.create_task(self._watch(progress))
        try:
            yield
        finally:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self, progress: ProgressStore) -> None:
        while True:
            now = await look(progress, list(self._cases))
            if now.ended and self._first_at is None:
                self._first_at = time.monotonic()
                self.view.tell(
                    f"[bold green]the first intent has ended[/], {self._first_at - self.started:.1f} s "
                    "after the command was given"
                )
            for line in news(self._latest, now):
                self.view.tell(line)
            self._latest = now
            self.view.show(now)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _judge(self, last: Snapshot, strangers: dict[str, object]) -> Verdict:
        endings = [ending(row, self._cases[row["id"]]) for row in last.intents]
        names = {one.schedule_id for one in endings}
        report = await compose.audit.compare_stores(self.settings)
        after = await self._strangers()
        untouched = {name: after[name] == was for name, was in strangers.items()}
        return judge(endings, report, untouched, run=names | strangers.keys())


async def _commit(engine: AsyncEngine, planned: Sequence[Planned]) -> list[UUID]:
    async with transaction(engine) as connection:
        intents = await enqueue_many(connection, [one.entry for one in planned])
    return [intent.id for intent in intents]
