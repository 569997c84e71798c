"""What a live ledger may lack without a violation, and what of the stores is others'."""

from dataclasses import replace

import pytest

from outbox.verify.lane import Lane, lanes_of
from outbox.verify.records import Held, Ledger, Scheduled
from outbox.verify.rows import Rows, ledger_of
from outbox.verify.stores import of_others, store_violations
from tests.verify.world import CREATED, DELETED, LaneRows, live, registered, stamp

NAME = "agent-7--daily"
UPDATED = ("schedule.update.requested", "schedule.updated")


def ledger(lane: LaneRows, *, pruned_before: int = 0) -> Ledger:
    rows = Rows(lane.intents, lane.events, lane.queue, [lane.row])
    return ledger_of(rows, {}, pruned_before=stamp(pruned_before) if pruned_before else "")


def broken(lane: LaneRows, *, pruned_before: int = 0) -> list[str]:
    judged = lanes_of(ledger(lane, pruned_before=pruned_before), ended=()).values()
    return [one.invariant.value for each in judged for one in each.log_violations()]


class TestPruned:
    """What a prune took counts for nothing; what it can't have taken counts."""

    def test_a_delete_may_be_gone_where_its_create_is_still_there(self) -> None:
        lane = live(NAME, 1)
        lane.live = None
        assert broken(lane, pruned_before=2) == []
        assert broken(lane, pruned_before=1) == ["live_stamp"]
        assert broken(lane) == ["live_stamp"]

    def test_what_is_live_is_never_gone(self) -> None:
        lane = live(NAME, 1)
        lane.live = stamp(7)
        assert broken(lane, pruned_before=9) == ["live_stamp"]

    def test_the_update_that_defines_what_is_live_may_be_gone(self) -> None:
        lane = live(NAME, 1)
        lane.revision = stamp(2)
        assert broken(lane, pruned_before=3) == []
        assert broken(lane, pruned_before=2) == ["revision"]
        assert broken(lane) == ["revision"]

    def test_an_update_that_is_there_is_the_revision_or_a_later_one_is(self) -> None:
        lane = live(NAME, 1).add(2, *UPDATED)
        lane.revision = stamp(2)
        assert broken(lane, pruned_before=9) == []
        lane.revision = None
        assert broken(lane, pruned_before=9) == ["revision"]
        lane.add(3, *UPDATED).revision = stamp(2)
        assert broken(lane, pruned_before=9) == ["revision"]

    def test_whole_intents_are_gone_and_never_some_of_their_events(self) -> None:
        lane = LaneRows(NAME).add(1, *CREATED[:1], CREATED[2])
        assert broken(lane, pruned_before=9) == ["flow"]


def test_what_is_asked_to_be_adopted_twice_may_have_been_updated_in_between() -> None:
    adoption = ("schedule.repair.requested", "schedule.repaired")
    lane = LaneRows(NAME).add(1, *adoption, adopt=True).add(2, *UPDATED).add(3, *adoption, adopt=True)
    lane.live, lane.revision = stamp(1), stamp(2)
    assert broken(lane) == []
    lane.live, lane.revision = stamp(3), None
    assert broken(lane) == []
    lane.add(4, *UPDATED)
    assert broken(lane) == ["revision"]


def of(lane: LaneRows, *, marked: set[str] | None = None) -> Lane:
    return lanes_of(ledger(lane), marked)[NAME]


def judged(lane: LaneRows, *words: str, schedule: Scheduled | None = None) -> list[str]:
    held = Held(frozenset(words), schedule)
    kept, granted = of_others(of(lane), held)
    return [one.invariant.value for one in store_violations(of(lane), held, kept=kept, granted=granted)]


OURS = sorted(registered(NAME).relationships)
ALIVE = Scheduled(stamp(1))
GONE = LaneRows(NAME).add(1, *CREATED).add(2, *DELETED)
STRANGER = "registered_by@outbox_intent:theirs"


class TestWhatIsLive:
    def test_has_its_registration_and_whatever_was_granted_on_it(self) -> None:
        assert judged(live(NAME), *OURS, schedule=ALIVE) == []
        assert judged(live(NAME), *OURS, "reader@user:rita", "viewer@group:g#member", schedule=ALIVE) == []

    @pytest.mark.parametrize("missing", OURS)
    def test_lacks_nothing_of_it(self, missing: str) -> None:
        assert judged(live(NAME), *(one for one in OURS if one != missing), schedule=ALIVE) == ["tuples"]

    def test_has_one_owner(self) -> None:
        assert judged(live(NAME), *OURS, "owner@user:mallory", schedule=ALIVE) == ["tuples"]

    def test_carries_no_stamp_of_an_ended_intent(self) -> None:
        lane = LaneRows(NAME).add(8, *CREATED).add(9, *DELETED).add(1, *CREATED)
        debris = f"registered_by@outbox_intent:{stamp(8)}"
        assert judged(lane, *OURS, debris, schedule=ALIVE) == ["tuples"]

    def test_tells_its_revision(self) -> None:
        told = replace(ALIVE, revision=stamp(2))
        lane = live(NAME).add(2, *UPDATED)
        lane.revision = stamp(2)
        assert judged(lane, *OURS, schedule=told) == []
        assert judged(lane, *OURS, schedule=replace(ALIVE, revision=None)) == ["revision"]

    def test_whoever_owned_what_was_adopted_owns_it(self) -> None:
        lane = LaneRows(NAME).add(1, "schedule.repair.requested", "schedule.repaired", adopt=True)
        lane.live = stamp(1)
        own = ("owner@user:carol", "parent_agent@agent:agent-7")
        assert judged(lane, *own, OURS[-1], schedule=Scheduled(None)) == []
        assert judged(lane, *own, schedule=Scheduled(None)) == ["tuples"]


class TestWhereNothingIsLive:
    def test_nothing_of_ours_is_left(self) -> None:
        assert judged(GONE) == []
        assert judged(GONE, *OURS) == ["tuples"]
        assert judged(GONE, schedule=ALIVE) == ["schedule"]

    def test_what_others_hold_is_theirs(self) -> None:
        theirs = ("owner@user:carol", "parent_agent@agent:agent-7")
        assert judged(GONE, *theirs, schedule=Scheduled(None)) == []
        assert judged(GONE, *theirs, STRANGER, schedule=Scheduled("theirs")) == []

    def test_a_former_owner_has_no_access(self) -> None:
        assert judged(GONE, "owner@user:alice") == ["tuples"]

    def test_unless_another_stamp_says_that_it_is_theirs_by_now(self) -> None:
        assert judged(GONE, "owner@user:alice", STRANGER, schedule=Scheduled("theirs")) == []

    def test_whoever_was_refused_was_no_owner(self) -> None:
        refused = LaneRows(NAME).add(1, "schedule.create.requested", "schedule.create_failed")
        assert judged(refused, "owner@user:alice", schedule=Scheduled(None)) == []
