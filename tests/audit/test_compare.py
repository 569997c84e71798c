from dataclasses import replace

import pytest

from outbox.audit.comparison import Holding, Known, Lane, Observed, Registration, Scheduled, compare
from outbox.audit.drift import Drift, Fix

ID = "billing-agent--daily-report"
STAMP = "01900000-0000-7000-8000-000000000001"
OLD = "01900000-0000-7000-8000-000000000002"
LOST = "01900000-0000-7000-8000-000000000003"
OURS = "01900000-0000-4000-8000-000000000001"
THEIRS = "01900000-0000-4000-8000-000000000002"
REGISTERED = frozenset(
    {"owner@user:alice", "parent_agent@agent:billing-agent", f"registered_by@outbox_intent:{STAMP}"}
)
REGISTRATION = Registration(REGISTERED, "user:alice")
LIVE = Lane(ID, STAMP, registration=REGISTRATION)
SKIPPED = Lane(ID, STAMP)
GONE = Lane(ID, former_owners=frozenset({"user:alice"}))


def holding(*relationships: str) -> Holding:
    return Holding(frozenset(relationships))


def stamped(stamp: str, owner: str = "user:alice") -> Holding:
    return holding(
        f"owner@{owner}", "parent_agent@agent:billing-agent", f"registered_by@outbox_intent:{stamp}"
    )


def drifts(
    lane: Lane | None, held: Holding | None, *schedule: str | None, lane_of: dict[str, str] | None = None
) -> list[Drift]:
    """The drifts of one schedule; ``schedule``: the stamp of the one in Temporal, if there is one."""
    observed = Observed(held or Holding(), Scheduled(schedule[0]) if schedule else None)
    return list(compare(lane or Lane(ID), observed, Known(OURS, lane_of or {STAMP: ID, OLD: ID})))


def found(lane: Lane | None, held: Holding | None, *schedule: str | None) -> list[str]:
    return [drift.kind for drift in drifts(lane, held, *schedule)]


def fixes(lane: Lane | None, held: Holding | None, *schedule: str | None) -> list[tuple[str, Fix]]:
    return [(drift.kind, drift.fix) for drift in drifts(lane, held, *schedule)]


def test_a_live_schedule_with_its_registration_agrees() -> None:
    assert found(LIVE, stamped(STAMP), STAMP) == []


def test_later_grantees_are_no_drift() -> None:
    more = holding(*REGISTERED, "editor@user:bob", "reader@service_account:reports")
    assert found(LIVE, more, STAMP) == []


def test_a_live_schedule_without_registration_agrees_where_that_was_skipped() -> None:
    assert found(SKIPPED, None, STAMP) == []


def test_an_ended_lane_with_nothing_left_agrees() -> None:
    assert found(GONE, None) == []


def test_a_live_schedule_that_temporal_lacks() -> None:
    assert found(LIVE, stamped(STAMP)) == ["missing_schedule"]


def test_a_live_schedule_whose_name_another_holds_in_temporal() -> None:
    assert found(LIVE, stamped(STAMP), None) == ["wrong_stamp"]
    assert fixes(LIVE, stamped(STAMP), "somebody's") == [("wrong_stamp", Fix.FREE_SCHEDULE)]


def test_a_former_schedule_in_the_place_of_the_live_one() -> None:
    assert found(LIVE, stamped(STAMP), OLD) == ["missing_schedule", "orphan_schedule"]


def test_a_live_schedule_without_its_tuples() -> None:
    assert found(LIVE, None, STAMP) == ["missing_tuple"]


def test_a_live_schedule_without_its_parent_agent() -> None:
    part = holding("owner@user:alice", f"registered_by@outbox_intent:{STAMP}")
    assert found(LIVE, part, STAMP) == ["missing_tuple"]


def test_a_former_owner_beside_the_present_one() -> None:
    assert found(LIVE, holding(*REGISTERED, "owner@user:bob"), STAMP) == ["wrong_owner"]


def test_the_former_owner_s_registration_in_the_place_of_the_present_one() -> None:
    assert found(LIVE, stamped(OLD, "user:bob"), STAMP) == ["missing_tuple", "wrong_owner", "orphan_tuple"]


def test_a_pruned_intent_s_owner_can_t_be_judged_but_its_stamp_can() -> None:
    stamp = frozenset({f"registered_by@outbox_intent:{STAMP}"})
    pruned = Lane(ID, STAMP, registration=Registration(stamp, None))
    assert found(pruned, stamped(STAMP, "user:whoever"), STAMP) == []
    assert found(pruned, None, STAMP) == ["missing_tuple"]


def test_tuples_left_by_a_lane_that_ended() -> None:
    assert found(GONE, stamped(OLD, "user:bob")) == ["orphan_tuple"]


def test_tuples_where_the_registration_was_skipped() -> None:
    assert found(SKIPPED, stamped(OLD, "user:bob"), STAMP) == ["orphan_tuple"]


def test_a_former_owner_s_tuple_without_any_stamp() -> None:
    assert found(GONE, holding("owner@user:alice")) == ["wrong_owner"]


def test_a_schedule_left_by_a_lane_that_ended() -> None:
    assert found(GONE, None, OLD) == ["orphan_schedule"]


def test_both_left_by_a_lane_that_ended() -> None:
    assert found(GONE, stamped(OLD, "user:bob"), OLD) == ["orphan_tuple", "orphan_schedule"]


def test_an_unstamped_pair_is_legacy_with_and_without_a_lane() -> None:
    legacy = holding("owner@user:carol", "parent_agent@agent:billing-agent")
    assert found(None, legacy, None) == ["legacy"]
    assert found(GONE, legacy, None) == ["legacy"]


def test_what_nobody_here_made_is_foreign() -> None:
    assert found(None, holding("owner@user:carol")) == ["foreign"]
    assert found(None, None, None) == ["foreign"]
    assert found(None, None, "somebody's") == ["foreign"]
    assert found(None, stamped("somebody's")) == ["foreign"]


def test_what_no_delete_could_name_is_not_legacy() -> None:
    legacy = Observed(holding("owner@user:carol"), Scheduled(None))
    kinds = [drift.kind for drift in compare(Lane("not-a-schedule-id"), legacy, Known(OURS))]
    assert kinds == ["foreign", "foreign"]


def test_a_stamp_of_another_lane_is_not_of_this_one() -> None:
    other = {STAMP: "billing-agent--hourly-sync"}
    assert [drift.kind for drift in drifts(GONE, None, STAMP, lane_of=other)] == ["foreign"]


class TestWhatTheLedgerDoesNotKnow:
    """What is whole in both stores under one stamp; by default, under a name that is not known either."""

    def found(
        self,
        *,
        lane: Lane | None = None,
        held: Holding | None = None,
        schedule: Scheduled | None = None,
        ended: frozenset[str] = frozenset(),
    ) -> list[tuple[str, Fix]]:
        observed = Observed(held or stamped(LOST), schedule or Scheduled(LOST, OURS))
        known = Known(OURS, {STAMP: ID, OLD: ID}, ended)
        return [(one.kind, one.fix) for one in compare(lane or Lane(ID), observed, known)]

    def test_is_forgotten_where_it_names_this_outbox(self) -> None:
        assert self.found() == [("forgotten", Fix.RECLAIM)]

    def test_is_a_person_s_to_name_where_it_names_none(self) -> None:
        assert self.found(schedule=Scheduled(LOST)) == [("foreign", Fix.RECLAIM_BY_NAME)]

    def test_is_another_outbox_s_where_it_says_so(self) -> None:
        assert self.found(schedule=Scheduled(LOST, THEIRS)) == [("foreign", Fix.NONE)] * 2

    def test_is_foreign_where_it_is_marked_as_ended(self) -> None:
        assert self.found(ended=frozenset({LOST})) == [("foreign", Fix.NONE)] * 2

    @pytest.mark.parametrize(
        "held",
        [
            Holding(),
            stamped(OLD),
            stamped(THEIRS),
            holding(f"registered_by@outbox_intent:{LOST}"),
            holding(*stamped(LOST).relationships, "owner@user:mallory"),
            holding(*stamped(LOST).relationships, f"registered_by@outbox_intent:{THEIRS}"),
        ],
    )
    def test_is_not_forgotten_where_the_stores_differ_or_it_has_no_one_owner(self, held: Holding) -> None:
        assert not {kind for kind, _ in self.found(held=held)} & {"forgotten"}

    def test_is_forgotten_too_where_an_older_ledger_has_another_one_live(self) -> None:
        assert self.found(lane=LIVE) == [("forgotten", Fix.RECLAIM)]

    def test_is_not_forgotten_under_a_name_that_no_delete_could_name(self) -> None:
        assert "forgotten" not in {kind for kind, _ in self.found(lane=Lane("not-a-schedule-id"))}

    def test_another_outbox_is_named(self) -> None:
        (drift,) = compare(Lane(ID), Observed(schedule=Scheduled(LOST, THEIRS)), Known(OURS))
        assert drift.detail == f"in Temporal, with the stamp {LOST} of outbox {THEIRS}, not of this lane"


class TestALiveScheduleThatSpiceDBSaysHasEnded:
    marked = Known(OURS, {STAMP: ID, OLD: ID}, frozenset({STAMP}))

    @pytest.mark.parametrize(
        "observed", [Observed(), Observed(stamped(STAMP)), Observed(schedule=Scheduled(STAMP))]
    )
    def test_was_deleted_after_the_ledger_was_saved(self, observed: Observed) -> None:
        """Temporal may have gone back in time with it."""
        (drift,) = compare(LIVE, observed, self.marked)
        assert (drift.kind, drift.fix, drift.is_repaired) == ("deleted", Fix.CLEAN_UP, True)


class TestOfAnAdoptedSchedule:
    adopted = Lane(
        ID,
        STAMP,
        adopted=True,
        registration=Registration(frozenset({f"registered_by@outbox_intent:{STAMP}"}), None),
    )
    held = holding("owner@user:carol", f"registered_by@outbox_intent:{STAMP}")

    def test_that_carries_no_stamp_in_temporal_it_agrees(self) -> None:
        assert found(self.adopted, self.held, None) == []

    def test_a_missing_schedule_is_made_again_as_it_was_described(self) -> None:
        assert fixes(self.adopted, self.held) == [("missing_schedule", Fix.REPAIR)]
        assert found(self.adopted, self.held, STAMP) == []

    def test_one_that_nobody_described_can_not_be_made_again(self) -> None:
        assert fixes(replace(self.adopted, defined=False), self.held) == [("missing_schedule", Fix.DELETE)]

    def test_a_missing_stamp_is_repaired(self) -> None:
        assert fixes(self.adopted, holding("owner@user:carol"), None) == [("missing_tuple", Fix.REPAIR)]

    def test_without_an_owner_there_is_nothing_to_stamp(self) -> None:
        ownerless = holding(f"registered_by@outbox_intent:{STAMP}")
        assert fixes(self.adopted, ownerless, None) == [("missing_tuple", Fix.ADD_OWNER)]
        assert fixes(self.adopted, None, None) == [("missing_tuple", Fix.DELETE)]

    def test_a_schedule_with_somebodys_stamp_is_not_it(self) -> None:
        assert fixes(self.adopted, self.held, "somebody's") == [("wrong_stamp", Fix.FREE_SCHEDULE)]


class TestOfAScheduleThatRanOut:
    ran_out = Lane(ID, STAMP, registration=REGISTRATION, ran_out=True)

    def test_that_temporal_has_still_it_agrees(self) -> None:
        assert found(self.ran_out, stamped(STAMP), STAMP) == []

    def test_that_temporal_removed_it_is_finished_and_can_be_cleaned_up(self) -> None:
        assert fixes(self.ran_out, stamped(STAMP)) == [("finished", Fix.CLEAN_UP)]

    def test_whose_name_another_took_since_it_is_finished_and_the_other_is_left(self) -> None:
        assert fixes(self.ran_out, stamped(STAMP), None) == [
            ("finished", Fix.CLEAN_UP),
            ("foreign", Fix.NONE),
        ]


def test_a_registration_with_somebody_elses_in_its_way_is_not_repaired() -> None:
    assert fixes(LIVE, holding("owner@user:alice", "parent_agent@agent:billing-agent"), STAMP) == [
        ("missing_tuple", Fix.FREE_TUPLES)
    ]
    assert fixes(LIVE, stamped("somebody's", "user:mallory"), STAMP) == [
        ("missing_tuple", Fix.FREE_TUPLES),
        ("wrong_owner", Fix.REMOVE_OWNER),
        ("foreign", Fix.NONE),
    ]
    assert fixes(LIVE, stamped(OLD, "user:bob"), STAMP) == [
        ("missing_tuple", Fix.REPAIR),
        ("wrong_owner", Fix.REPAIR),
        ("orphan_tuple", Fix.REPAIR),
    ]


def test_what_is_repaired_and_what_is_a_failure() -> None:
    (finished,) = drifts(TestOfAScheduleThatRanOut.ran_out, stamped(STAMP))
    assert (finished.is_repaired, finished.is_ours) == (True, False)
    (legacy,) = drifts(None, holding("owner@user:carol"), None)
    assert (legacy.kind, legacy.fix, legacy.is_repaired, legacy.is_ours) == (
        "legacy",
        Fix.ADOPT,
        False,
        False,
    )
    (orphan,) = drifts(GONE, None, OLD)
    assert (orphan.is_repaired, orphan.is_ours) == (True, True)


def test_all_stamps_found_are_asked_about() -> None:
    assert Observed(stamped(STAMP), Scheduled(OLD)).stamps == {STAMP, OLD}
    assert Observed(stamped(STAMP), Scheduled(None)).stamps == {STAMP}
