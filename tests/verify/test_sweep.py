"""Verifying page by page, over a ledger and stores that are values: order, second looks, pace, resuming."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from outbox.audit.comparison import Observed, Scheduled
from outbox.verify.sweep import Verifier
from outbox.verify.tally import Tally
from tests.verify.world import CREATED, DELETED, LaneRows, World, live, registered, stamp, whole

NAMES = ["Z--z", "a--a", "a--b", "b--b", "c--c"]
FAST = 1e9


def sound(*names: str) -> World:
    return World({name: live(name) for name in names}, {name: whole(name) for name in names})


async def verified(
    world: World, *named: str, after: str = "", stores: bool = True
) -> tuple[list[tuple[str, str]], Tally]:
    tally = Tally()
    verifier = Verifier(world, world if stores else None, FAST)
    found = verifier.named(named, tally) if named else verifier.all(tally, after=after)
    return [(one.schedule_id, one.invariant.value) async for one in found], tally


async def test_every_lane_is_verified_once_in_the_order_of_its_ids_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outbox.verify.sweep._PAGE", 2)
    world = sound(*NAMES)
    found, tally = await verified(world)
    assert (found, tally.lanes, tally.with_stores, tally.reached) == ([], 5, 5, "c--c")
    assert world.pages == [NAMES[:2], NAMES[2:4], NAMES[4:], []]
    assert world.looks == NAMES


async def test_some_that_are_named_are_verified_alone() -> None:
    world = sound(*NAMES)
    found, tally = await verified(world, "b--b", "nobody's--own", "a--a")
    assert (found, tally.lanes, world.looks) == ([], 2, ["b--b", "a--a"])


async def test_violations_come_lane_by_lane_and_are_counted() -> None:
    world = sound(*NAMES)
    world.lanes_by_name["b--b"].live = None
    del world.held["a--a"]
    found, tally = await verified(world)
    # By its log b--b is live, as the stores have it.
    assert found == [("a--a", "schedule"), ("a--a", "tuples"), ("b--b", "live_stamp")]
    assert (tally.violations, {one.value: count for one, count in tally.found.items()}) == (
        3,
        {"schedule": 1, "tuples": 1, "live_stamp": 1},
    )


async def test_without_stores_the_log_alone_is_judged() -> None:
    world = sound("a--a", "b--b")
    world.held.clear()
    world.lanes_by_name["b--b"].live = None
    found, tally = await verified(world, stores=False)
    assert (found, tally.lanes, tally.with_stores, world.looks) == ([("b--b", "live_stamp")], 2, 0, [])


@pytest.mark.parametrize("why", ["under way", "behind a parked head", "a repair is due later", "holds"])
async def test_where_something_is_under_way_the_log_alone_is_judged(why: str) -> None:
    lane = live("a--a")
    match why:
        case "under way":
            lane.add(2, *DELETED[:1]).wait(2)
        case "behind a parked head":
            lane.add(2, *DELETED[:2]).wait(2, state="parked", error_code="refused")
            lane.add(3, *CREATED[:1]).wait(3, place="behind", state="queued")
        case "a repair is due later":
            lane.add(2, "schedule.repair.requested").wait(2, place="deferred", state="queued")
        case _:
            lane.holds = True
    world = World({"a--a": lane})
    found, tally = await verified(world)
    assert (found, tally.lanes, tally.with_stores, world.looks) == ([], 1, 0, [])
    lane.live = stamp(7)
    assert ("a--a", "live_stamp") in (await verified(world))[0]


class TestSecondLooks:
    """The stores are read after the snapshot: a lane may have moved meanwhile."""

    async def test_what_a_lane_that_has_moved_seems_to_lack_is_not_told(self) -> None:
        world = sound("a--a")

        def delete(name: str) -> None:
            world.lanes_by_name[name].add(2, *DELETED)
            world.held.clear()
            world.marked.add(stamp(1))
            world.meanwhile = lambda _: None

        # Read before it was deleted, judged after: and the mark is there by now.
        world.meanwhile = delete
        found, tally = await verified(world)
        assert (found, tally.with_stores, world.looks) == ([], 1, ["a--a", "a--a"])

    async def test_a_lane_that_is_under_way_by_now_is_left(self) -> None:
        world = sound("a--a")
        world.held.clear()

        def ask(name: str) -> None:
            world.lanes_by_name[name].add(2, *DELETED[:1]).wait(2)

        world.meanwhile = ask
        found, tally = await verified(world)
        assert (found, tally.with_stores, len(world.looks)) == ([], 0, 1)

    async def test_a_lane_that_keeps_moving_is_left(self) -> None:
        world = sound("a--a")
        world.held.clear()
        world.marked.add(stamp(1))
        numbers = iter(range(2, 100))

        def move(name: str) -> None:
            number = next(numbers)
            world.lanes_by_name[name].add(number, "schedule.repair.requested", "schedule.repaired")

        world.meanwhile = move
        found, tally = await verified(world)
        assert (found, tally.with_stores, len(world.looks)) == ([], 0, 3)

    async def test_a_lane_that_was_pruned_meanwhile_is_gone(self) -> None:
        gone = LaneRows("a--a").add(1, *CREATED).add(2, *DELETED)
        world = World({"a--a": gone})
        world.meanwhile = world.lanes_by_name.pop  # type: ignore[assignment]
        found, tally = await verified(world)
        assert (found, tally.lanes) == ([], 1)

    async def test_what_stays_is_told_once(self) -> None:
        world = sound("a--a")
        world.held["a--a"] = replace(whole("a--a"), schedule=None)
        world.lanes_by_name["a--a"].live = None
        found, _ = await verified(world)
        assert found == [("a--a", "live_stamp"), ("a--a", "schedule")]


class TestResuming:
    async def test_it_goes_on_after_the_last_whole_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("outbox.verify.sweep._PAGE", 2)
        world = sound(*NAMES)
        world.lanes_by_name["b--b"].live = None
        tally = Tally()
        going = Verifier(world, None, FAST).all(tally)
        assert (await anext(going)).schedule_id == "b--b"
        await going.aclose()
        assert tally.reached == "a--a"
        found, tally = await verified(world, after="a--a", stores=False)
        assert (found, tally.lanes, tally.reached) == ([("b--b", "live_stamp")], 3, "c--c")

    async def test_a_store_that_fails_ends_it_and_it_goes_on_from_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Failing(World):
            async def ended(self, stamps: Collection[str]) -> set[str]:
                if stamp(3) in stamps:
                    raise ConnectionError("SpiceDB is away")
                return await super().ended(stamps)

        monkeypatch.setattr("outbox.verify.sweep._PAGE", 1)
        world = Failing(sound("a--a", "b--b").lanes_by_name, sound("a--a", "b--b").held)
        world.lanes_by_name["c--c"] = live("c--c", 3)
        tally = Tally()
        with pytest.raises(ConnectionError, match="SpiceDB is away"):
            _ = [one async for one in Verifier(world, world, FAST).all(tally)]
        assert tally.reached == "b--b"


@pytest.mark.parametrize(
    ("rate", "pages", "pauses"),
    [(4.0, [4, 1], [1.0, 0.25]), (1000.0, [5], [0.005]), (0.5, [1] * 5, [2.0] * 5)],
)
async def test_it_is_no_faster_than_it_is_asked_to_be(
    monkeypatch: pytest.MonkeyPatch, rate: float, pages: list[int], pauses: list[float]
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("outbox.verify.sweep.asyncio.sleep", sleep)
    monkeypatch.setattr("outbox.verify.sweep.clock.monotonic", lambda: 7.0)
    world = sound(*NAMES)
    assert [one async for one in Verifier(world, None, rate).all(Tally())] == []
    assert [len(page) for page in world.pages] == [*pages, 0]
    assert slept == pytest.approx(pauses)


class TestMarks:
    async def test_what_lives_and_what_was_undone_is_asked_for(self) -> None:
        lane = LaneRows("a--a").add(1, *CREATED).add(2, *DELETED).add(3, *CREATED)
        lane.add(4, "schedule.create.requested", "schedule.create_failed")
        world = World({"a--a": lane}, {"a--a": whole("a--a", 3)}, {stamp(1)})
        assert (await verified(world))[0] == []
        assert world.asked_marks == {stamp(1), stamp(3)}
        world.marked = set()
        assert (await verified(world))[0] == [("a--a", "ended_mark")]
        world.marked = {stamp(1), stamp(3)}
        assert (await verified(world))[0] == [("a--a", "ended_mark")]

    async def test_those_that_a_prune_may_have_taken_are_not_missed(self) -> None:
        lane = LaneRows("a--a").add(1, *CREATED).add(2, *DELETED)
        world = World({"a--a": lane}, pruned_before=stamp(2))
        assert (await verified(world))[0] == []
        world.pruned_before = stamp(1)
        assert (await verified(world))[0] == [("a--a", "ended_mark")]

    async def test_a_repair_that_cleared_up_is_known_by_them(self) -> None:
        """The log doesn't say what a repair did to the live stamp; the mark does."""
        lane = live("a--a").add(2, "schedule.repair.requested", "schedule.repaired")
        lane.live = None
        world = World({"a--a": lane}, marked={stamp(1)})
        assert (await verified(world))[0] == []
        world.marked = set()
        assert (await verified(world, stores=False))[0] == []
        assert ("a--a", "live_stamp") in (await verified(world))[0]


async def test_another_schedule_under_the_name_of_a_live_one_is_told() -> None:
    world = sound("a--a")
    world.held["a--a"] = Observed(registered("a--a"), Scheduled("theirs"))
    assert (await verified(world))[0] == [("a--a", "schedule")]
