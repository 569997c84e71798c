"""The audit's streaming core, over simulated stores: order, confirmation, memory."""

import gc
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from outbox.audit.comparison import Holding, Lane, Observed, Registration, Scheduled
from outbox.audit.drift import Busy, Drift, DriftKind
from outbox.audit.sweep import Finding, Tally, examine, survey

STAMP = "01900000-0000-7000-8000-000000000001"
STAMPED = frozenset({"owner@user:alice", f"registered_by@outbox_intent:{STAMP}"})
WHOLE = Observed(Holding(STAMPED), Scheduled(STAMP))


def live(name: str) -> Lane:
    return Lane(name, STAMP, registration=Registration(STAMPED, "user:alice"))


@dataclass
class World:
    """Three stores as values; what the lists tell may differ from what a look tells."""

    ledger: dict[str, Lane] = field(default_factory=dict)
    listed: dict[str, Observed] = field(default_factory=dict)
    seen: dict[str, Observed] = field(default_factory=dict)
    looked_at: list[str] = field(default_factory=list)
    moving: set[str] = field(default_factory=set)
    marked: set[str] = field(default_factory=set)
    instance: str = "ours"

    async def lanes(self) -> AsyncIterator[Lane]:
        for name in sorted(self.ledger):
            yield self.ledger[name]

    async def holdings(self) -> AsyncIterator[tuple[str, Holding]]:
        for name, observed in reversed(self.listed.items()):
            if observed.holding.relationships:
                yield name, observed.holding

    async def schedules(self) -> AsyncIterator[tuple[str, Scheduled]]:
        for name, observed in self.listed.items():
            if observed.schedule:
                yield name, observed.schedule

    async def lane(self, name: str) -> Lane | None:
        lane = self.ledger.get(name)
        if lane and name in self.moving:
            self.ledger[name] = lane = replace(lane, live_intent=f"{lane.live_intent}+")
        return lane

    async def observed(self, name: str) -> Observed:
        self.looked_at.append(name)
        return self.seen.get(name, self.listed.get(name, Observed()))

    async def lane_of(self, stamps: Collection[str]) -> dict[str, str]:
        return {stamp: "a--live" for stamp in stamps if stamp == STAMP}

    async def ended(self, stamps: Collection[str]) -> set[str]:
        return self.marked.intersection(stamps)


async def all_of(world: World, *names: str) -> tuple[list[Finding], Tally]:
    tally = Tally()
    audit = examine(world, names, tally) if names else survey(world, tally)
    return [finding async for finding in audit], tally


def kinds(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(one.schedule_id, one.kind if isinstance(one, Drift) else "busy") for one in findings]


async def test_whatever_the_order_of_the_lists_lanes_meet_what_the_stores_hold() -> None:
    names = ["b--b", "a--a", "a-b--c", "a=x--y", "Z--z", "a--z"]
    world = World({name: live(name) for name in names}, dict.fromkeys(names, WHOLE))
    found, tally = await all_of(world)
    assert found == []
    assert (tally.lanes, tally.live, tally.holdings, tally.schedules) == (6, 6, 6, 6)
    assert world.looked_at == []


async def test_drifts_come_in_the_order_of_the_ids_bytes_and_are_counted() -> None:
    gone = Observed(Holding(STAMPED))
    world = World(
        {name: live(name) for name in ("b--b", "Z--z", "a--a")},
        {"b--b": gone, "a--a": gone, "Z--z": gone, "é": Observed(schedule=Scheduled(None))},
    )
    found, tally = await all_of(world)
    missing = "missing_schedule"
    assert kinds(found) == [("Z--z", missing), ("a--a", missing), ("b--b", missing), ("é", "foreign")]
    assert tally.found == {DriftKind.MISSING_SCHEDULE: 3, DriftKind.FOREIGN: 1}
    assert tally.ours == 3


async def test_what_only_seems_to_differ_is_not_told() -> None:
    world = World({"a--a": live("a--a")}, {"a--a": Observed(Holding(STAMPED))}, seen={"a--a": WHOLE})
    found, _ = await all_of(world)
    assert (found, world.looked_at) == ([], ["a--a"])


async def test_a_lane_that_moves_while_it_is_looked_at_is_busy() -> None:
    world = World({"a--a": live("a--a")}, moving={"a--a"})
    found, tally = await all_of(world)
    assert (found, tally.busy) == ([Busy("a--a")], 1)
    found, _ = await all_of(world, "a--a")
    assert found == [Busy("a--a")]


async def test_a_lane_with_intents_under_way_is_not_looked_at() -> None:
    world = World({"a--a": replace(live("a--a"), busy=True)})
    found, tally = await all_of(world)
    assert (found, tally.busy, tally.lanes, world.looked_at) == ([Busy("a--a")], 1, 1, [])


async def test_strangers_are_not_looked_at_one_by_one() -> None:
    strangers = {f"theirs {n}\n": Observed(schedule=Scheduled("theirs")) for n in range(20)}
    world = World({}, strangers)
    found, tally = await all_of(world)
    assert {one.kind for one in found if isinstance(one, Drift)} == {DriftKind.FOREIGN}
    assert (len(found), tally.lanes, world.looked_at) == (20, 0, [])


async def test_what_the_ledger_has_forgotten_is_looked_at_before_it_is_told() -> None:
    ours = "01900000-0000-7000-8000-000000000009"
    held = Holding(frozenset({"owner@user:alice", f"registered_by@outbox_intent:{ours}"}))
    whole = Observed(held, Scheduled(ours, "ours"))
    found, _ = await all_of(World(listed={"a--a": whole, "b--b": whole}, seen={"b--b": Observed()}))
    assert kinds(found) == [("a--a", "forgotten")]
    found, _ = await all_of(World(listed={"a--a": whole}, marked={ours}))
    assert kinds(found) == [("a--a", "foreign")] * 2


async def test_a_live_schedule_that_has_ended_is_not_told_as_missing() -> None:
    found, _ = await all_of(World({"a--a": live("a--a")}, marked={STAMP}))
    assert kinds(found) == [("a--a", "deleted")]


async def test_an_unknown_name_that_is_asked_for_is_no_lane() -> None:
    found, tally = await all_of(World(), "a--a")
    assert (found, tally.lanes) == ([], 0)


async def test_a_list_that_fails_ends_the_audit() -> None:
    class Failing(World):
        async def schedules(self) -> AsyncIterator[tuple[str, Scheduled]]:
            yield "a--a", Scheduled(STAMP)
            raise ConnectionError("Temporal is away")

    with pytest.raises(ConnectionError, match="Temporal is away"):
        await all_of(Failing({"a--a": live("a--a")}))


@dataclass
class Many(World):
    """So many lanes that agree, and one in a thousand that doesn't; nothing is kept of them.

    Attributes:
        blocks: how much memory is in use, in Python's blocks, once in a thousand.
    """

    count: int = 0
    blocks: list[int] = field(default_factory=list)

    def _names(self) -> Iterator[str]:
        for number in range(self.count):
            if number % 1000 == 0:
                self.blocks.append(sys.getallocatedblocks())
            # Not in order: 7 and any power of ten have no divisor in common.
            yield f"agent--n{7 * number % self.count:06}"

    async def lanes(self) -> AsyncIterator[Lane]:
        for number in range(self.count):
            if number % 1000 == 0:
                self.blocks.append(sys.getallocatedblocks())
            yield live(f"agent--n{number:06}")

    async def holdings(self) -> AsyncIterator[tuple[str, Holding]]:
        for name in self._names():
            yield name, Holding(STAMPED)

    async def schedules(self) -> AsyncIterator[tuple[str, Scheduled]]:
        for name in self._names():
            if not name.endswith("000"):
                yield name, Scheduled(STAMP)

    async def lane(self, name: str) -> Lane | None:
        return live(name)

    async def observed(self, name: str) -> Observed:
        return Observed(Holding(STAMPED)) if name.endswith("000") else WHOLE


async def growth(count: int) -> int:
    """By how many blocks memory grows, at its peak, while so many schedules are compared."""
    world, tally, found = Many(count=count), Tally(), 0
    gc.collect()
    before = sys.getallocatedblocks()
    async for _ in survey(world, tally):
        found += 1
    assert (found, tally.lanes) == (count // 1000, count)
    return max(world.blocks) - before


async def test_memory_does_not_grow_with_what_is_compared() -> None:
    small, large = await growth(10_000), await growth(100_000)
    assert large < small + 20_000, "a lane that was kept would take five and more"
