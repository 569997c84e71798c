"""``python -m tests.outside.simulated FOLDER``: records what clients would see of simulated runs.

A campaign's observer sees a store some times a second. Here it sees every change of both stores when it
happens, and hears every event when it is settled: so the judge's model has to be right to the moment.
Producers, owners, weather and workers are the simulation's; no operator acts, and nobody tampers.
"""

import argparse
import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from consumers.authz.client import Tuple
from consumers.authz.names import SCHEDULE
from consumers.temporal.request import revision_in, stamp_in
from outbox.flow.table import REQUESTED, TERMINALS, Kind, Status
from tests.chaos.recorder import Asked, Recorder, recording
from tests.simulation import actors
from tests.simulation.ledger.tables import Entry
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Fault
from tests.simulation.run import _quiet
from tests.simulation.world import BUSY_SECONDS, World, make

_WORKERS = 2
_REST_SECONDS = 400.0
_CHANGES: list[dict[str, Any]] = [
    {"cron_expression": "0 9 * * *"},
    {"cron_expression": "0 5 * * *", "note": "earlier"},
    {"paused": True, "note": "out of office"},
    {"paused": False},
    {"cron_expression": "not a cron"},
]


@dataclass
class Onlooker:
    """Sees all that happens in a world.

    Attributes:
        asked: for what, by intent, and not committed yet.
        heard: how many events of the log.
    """

    world: World
    history: Recorder
    asked: dict[UUID, Asked] = field(default_factory=dict)
    heard: int = 0

    def watch(self) -> None:
        """Look at what others have; from now on see everything."""
        for name in sorted(self.world.grounds):
            self._look(name, "found")
        self.world.spicedb.on_change = self._relations_changed
        self.world.temporal.on_change = lambda name, *_: self._schedule_changed(name)
        self.world.temporal.on_update = self._schedule_changed
        _after(self.world.postgres, "settle", lambda *_: self._hear())
        _after(self.world.postgres, "enqueue", self._enqueued)
        _after(self.world.postgres, "commit", self._committed)

    def rest(self) -> None:
        """Write down that nothing is under way, and what is left."""
        for intent, asked in self.asked.items():
            asked.failed("rolled back", intent=str(intent))
        self.history.note("campaign", "rest")
        for name in sorted(self.world.grounds):
            self._look(name, "read")

    def _enqueued(self, intent: Any, entry: Entry) -> None:
        user = entry.creator.get("user_id")
        named = {
            name: entry.request[name]
            for name in ("cron_expression", "paused", "note")
            if name in entry.request
        }
        self.asked[intent.id] = self.history.ask(
            "producer",
            "enqueue",
            entry.schedule_id,
            key=str(intent.id),
            kind=entry.kind.value,
            owner=f"user:{user}" if user else None,
            **named,
        )

    def _committed(self, _: None, intents: list[Any]) -> None:
        for intent in intents:
            self.asked.pop(intent.id).told(intent=str(intent.id))

    def _relations_changed(self, added: set[Tuple], removed: set[Tuple]) -> None:
        for reader in sorted(one for one in added if one.relation == "reader"):
            self.history.ask("owner", "grant", reader.resource_id, relation=_words(reader)).told()
        for name in sorted({one.resource_id for one in added | removed if one.resource_type == SCHEDULE}):
            self._look(name, "read", "spicedb")

    def _schedule_changed(self, name: str) -> None:
        self._look(name, "read", "temporal")

    def _look(self, name: str, what: str, *stores: str) -> None:
        for store in stores or ("temporal", "spicedb"):
            found = self._schedule(name) if store == "temporal" else self._relations(name)
            self.history.ask("observer", what, name, store=store).told(found=found)

    def _relations(self, name: str) -> list[str]:
        return sorted(_words(one) for one in self.world.spicedb.of(SCHEDULE, name))

    def _schedule(self, name: str) -> dict[str, Any] | None:
        standing = self.world.temporal.schedules.get(name)
        if standing is None:
            return None
        return {
            "stamp": stamp_in(standing.memo),
            "revision": revision_in(standing.schedule),
            "hours": [int(cron.split()[1]) for cron in standing.schedule.spec.cron_string],
            "paused": standing.schedule.state.paused,
            "note": standing.schedule.state.notes,
        }

    def _hear(self) -> None:
        """Hear what was settled, and be told of what ended."""
        postgres = self.world.postgres
        fresh, self.heard = postgres.events[self.heard :], len(postgres.events)
        for number, event in enumerate(fresh, self.heard - len(fresh)):
            kind = postgres.intents[event.intent_id].kind
            if kind is Kind.REPAIR or event.type in REQUESTED.values():
                continue
            intent, code = str(event.intent_id), event.error_code
            self.history.note(
                "subscriber",
                "hear",
                event.schedule_id,
                id=str(number),
                sequence=f"{number:020}",
                event=event.type,
                intent=intent,
                kind=kind,
                terminal=event.type in TERMINALS,
                code=code,
            )
            if event.type in TERMINALS:
                status = TERMINALS[event.type].status
                asked = self.history.ask("requester", "wait", event.schedule_id, intent=intent)
                asked.told(status=status, event=event.type, code=code)


def record(seed: int, path: Path) -> bool:
    """Record one run; whether calls may have taken effect after the bound in it."""
    loop = SimulatedLoop(seed)
    # What a killed worker leaves behind.
    loop.set_exception_handler(lambda *_: None)
    world = make(seed, loop, traced=False)
    for weather in world.weathers.values():
        # What a store will not take today, it takes tomorrow: no model can know.
        weather.faults = [fault for fault in weather.faults if fault is not Fault.REFUSED] or [
            Fault.UNREACHABLE
        ]
    moments = count()
    with recording(path, {"seed": seed, "wire": "simulated"}, lambda: next(moments)) as history, _quiet():
        try:
            loop.run_until_complete(_live(world, Onlooker(world, history)))
        finally:
            loop.close()
    return world.beyond_bound


async def _live(world: World, onlooker: Onlooker) -> None:
    actors.settle_grounds(world)
    onlooker.watch()
    workers = actors.Workers(world)
    with workers.defect():
        running = [asyncio.create_task(workers.run(place)) for place in range(_WORKERS)]
        await asyncio.gather(actors.produce(world), _update(world), actors.grant(world), workers.trouble())
        async with asyncio.timeout(BUSY_SECONDS + _REST_SECONDS):
            while world.postgres.queue:
                for intent, status in world.postgres.statuses().items():
                    if status is Status.PARKED:
                        world.postgres.replay(intent)
                await asyncio.sleep(2.0)
        await workers.stop()
        await asyncio.gather(*running)
    onlooker.rest()


async def _update(world: World) -> None:
    """Change what is live, or will be, or was: by one update, or several in a row."""
    dice = random.Random(world.seed)
    while world.loop.time() < BUSY_SECONDS * 0.7:
        await asyncio.sleep(dice.expovariate(0.4))
        name = dice.choice(sorted(world.grounds))
        agent, _, own = name.partition("--")
        intents = [
            world.postgres.enqueue(
                Entry(
                    name,
                    Kind.UPDATE,
                    {"agent_id": agent, "name": own, **dice.choice(_CHANGES)},
                    {"user_id": "carol"},
                )
            )
            for _ in range(dice.choice([1, 1, 2, 4]))
        ]
        await asyncio.sleep(dice.choice([0.0, dice.uniform(0.0, 3.0)]))
        world.postgres.commit(intents)


def _after(of: Any, name: str, then: Callable[..., None]) -> None:
    """Have something done after each call of a method, with its answer and what it was called with."""
    method = getattr(of, name)

    def called(*arguments: Any) -> Any:
        answer = method(*arguments)
        then(answer, *arguments)
        return answer

    setattr(of, name, called)


def _words(found: Tuple) -> str:
    return f"{found.relation}@{found.subject_type}:{found.subject_id}"


def main() -> None:
    """Record the histories of some seeds, each in a file of the folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.outside.simulated", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(asked.first, asked.first + asked.seeds):
        within = "beyond" if record(seed, asked.folder / f"{seed}.jsonl.gz") else "within"
        (asked.folder / f"{seed}.jsonl.gz").rename(asked.folder / f"{within}-{seed}.jsonl.gz")


if __name__ == "__main__":
    main()
