"""Each effect by itself, over the stores as values: what it leaves there, and how it comes out.

What these stores answer is what the real ones do (``tests/model/test_stores.py``); what the effects do on the
real ones is in ``tests/consumers``. Here no situation is too rare, and none needs a server.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from consumers.authz.client import AuthzClient, Read, Tuple
from consumers.authz.effects import AuthzEffects
from consumers.calls import Call as Bounds
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Creator
from outbox.flow.outcome import Done, Failure, Outcome, Refused, Transient, Unknown
from outbox.flow.table import EventType, Kind, Live
from tests.model.attempt import _Authz
from tests.model.lane import SCHEDULE_ID
from tests.model.stores import (
    NOT_AS_EXPECTED,
    TAKEN,
    Answer,
    Create,
    Delete,
    Describe,
    Look,
    Remove,
    Schedule,
    Write,
)
from tests.model.world import (
    ALICE,
    BOB,
    BUSY,
    CAUSE,
    ENDED,
    FOREIGN,
    FOREIGN_SCHEDULE,
    FOREIGN_TUPLES,
    LIVE,
    NO_ANSWER,
    OURS,
    OVER,
    READER,
    SILENT,
    WRONG,
    Ledger,
    World,
    conflict,
    dispatch,
    fails,
    held,
    mark,
    owner,
    raced,
    stamp,
)

NOT_TODAY = Refused(ErrorCode.REGISTRATION_REFUSED, "not today")
CLEARED = raced(f"debris of intent {ENDED} was removed from {SCHEDULE_ID}")
CLEARED_IN_DOUBT = replace(CLEARED, waits=True)


class TestRegister:
    """CREATE_REQUESTED."""

    def run(self, world: World, **fields: Any) -> Outcome:
        asked = dispatch(EventType.CREATE_REQUESTED, **fields)
        outcome: Outcome = world.run(world.authz(asked).apply(asked))
        return outcome

    def test_a_free_name_is_registered_by_one_write(self) -> None:
        world = World()
        assert self.run(world) == Done("token")
        assert (world.tuples, len(world.calls)) == (held(), 1)

    def test_what_stands_is_done(self) -> None:
        world = World(held() | {READER})
        assert self.run(world) == Done("token")
        assert world.tuples == held() | {READER}

    @pytest.mark.parametrize("missing", sorted(owner()))
    def test_of_what_misses_a_part_the_rest_goes(self, missing: Tuple) -> None:
        world = World(held() - {missing})
        assert self.run(world) == raced(
            f"part of the registration of {SCHEDULE_ID} was missing: it starts over"
        )
        assert world.tuples == frozenset()
        assert self.run(world) == Done("token")

    def test_an_intent_that_was_ended_registers_nothing(self) -> None:
        world = World(frozenset({mark(OURS)}))
        message = f"{SCHEDULE_ID} was not free a moment ago, or its intent was ended"
        assert self.run(world) == raced(message, at_once=False)
        assert world.tuples == {mark(OURS)}

    def test_debris_goes_once_its_intent_is_marked(self) -> None:
        world = World(held(ENDED, BOB) | {READER})
        assert self.run(world) == raced(f"debris of intent {ENDED} was removed from {SCHEDULE_ID}")
        assert world.tuples == {mark(ENDED)}

    @pytest.mark.parametrize(
        ("tuples", "outcome"),
        [
            (
                held(LIVE, BOB),
                conflict(
                    ErrorCode.CONFLICT_LIVE,
                    f"{SCHEDULE_ID} exists, registered by intent {LIVE}: delete it first",
                ),
            ),
            (owner(BOB), FOREIGN_TUPLES),
            (owner(BOB) | {FOREIGN}, FOREIGN_TUPLES),
            # Two stamps say nothing, though each intent has ended.
            (held(ENDED) | {FOREIGN}, FOREIGN_TUPLES),
        ],
    )
    def test_what_is_not_ours_stays(self, tuples: frozenset[Tuple], outcome: Outcome) -> None:
        for creator in (ALICE, Creator()):
            world = World(tuples)
            assert self.run(world, creator=creator) == outcome
            assert world.tuples == tuples

    def test_beside_a_live_schedule_of_the_lane_nothing_is_asked(self) -> None:
        world = World()
        assert self.run(world, live_intent=LIVE) == conflict(
            ErrorCode.CONFLICT_LIVE, f"{SCHEDULE_ID} exists, created by intent {LIVE}: delete it first"
        )
        assert world.calls == []
        assert self.run(world, live_intent=OURS) == Done("token")

    def test_without_an_identity_it_is_skipped_with_a_warning(self) -> None:
        world = World()
        with capture_logs() as logs:
            assert self.run(world, creator=Creator()) == Done(skipped=True)
        assert [(line["event"], line["log_level"]) for line in logs] == [("registration_skipped", "warning")]
        assert world.tuples == frozenset()

    @pytest.mark.parametrize(("at", "failure"), [(0, BUSY), (0, SILENT), (0, WRONG), (2, BUSY), (2, WRONG)])
    def test_a_store_that_fails_is_told(self, at: int, failure: Failure) -> None:
        assert self.run(World(held(ENDED), instead=fails(failure, at))) == failure

    def test_what_a_read_missed_must_be_missing_still(self) -> None:
        """It is behind: the registration is less incomplete than it says."""
        (parent,) = (one for one in owner() if one.relation == "parent_agent")
        seen = Answer(Read((stamp(OURS),), "token"))
        world = World(held() - {parent} | {READER}, instead={2: seen})
        message = f"part of the registration of {SCHEDULE_ID} was missing: it starts over"
        assert self.run(world) == raced(message, at_once=False)
        assert world.tuples == held() - {parent} | {READER}

    def test_a_read_that_shows_nothing_frees_no_name(self) -> None:
        for creator, at in ((ALICE, 2), (Creator(), 1)):
            world = World(owner(BOB), instead={at: Answer(Read((), None))})
            outcome = self.run(world, creator=creator)
            assert isinstance(outcome, Transient)
            assert (outcome.code, outcome.retry_after) == (ErrorCode.RACED, None)
            assert world.tuples == owner(BOB)

    @pytest.mark.parametrize("failure", [BUSY, SILENT, WRONG, NOT_TODAY])
    def test_a_look_that_fails_leaves_the_registration_in_doubt(self, failure: Failure) -> None:
        """A write that arrived twice took effect, and then met itself."""
        world = World(held(), instead=fails(failure, 1))
        assert self.run(world) == Unknown(failure.code, failure.message)
        assert self.run(world) == Done("token")

    def test_that_nobody_may_read_refuses_nothing(self) -> None:
        world = World(held(ENDED), instead=fails(NOT_TODAY, 2))
        assert self.run(world) == Transient(NOT_TODAY.code, NOT_TODAY.message)


@pytest.mark.parametrize(("account", "header"), [("acme", {"x-account-id": "acme"}), (None, {})])
def test_each_call_to_spicedb_carries_the_account(account: str | None, header: dict[str, str]) -> None:
    carried: list[object] = []

    class Carries(_Authz):
        def bounded(self, call: Bounds) -> None:
            super().bounded(call)
            carried.append(call.metadata)

    creator = Creator(user_id="alice", account_id=account)
    asked = dispatch(EventType.CREATE_REQUESTED, creator=creator)
    World(held(ENDED)).run(AuthzEffects(cast("AuthzClient", Carries(asked)), Ledger()).apply(asked))
    assert carried == [header] * 5


class TestLookForARegistration:
    def run(self, world: World, **fields: Any) -> Outcome:
        asked = dispatch(EventType.CREATE_REQUESTED, look=True, **fields)
        outcome: Outcome = world.run(world.authz(asked).look(asked))
        return outcome

    def test_it_is_done_only_where_all_of_it_stands(self) -> None:
        assert self.run(World(held() | {READER})) == Done("token")
        for tuples in (frozenset(), owner(), held(ENDED), held() - {stamp(OURS)}, held() | {mark(OURS)}):
            world = World(tuples)
            assert self.run(world, cause=CAUSE) == Refused(CAUSE.code, CAUSE.message)
            assert world.tuples == tuples
        assert self.run(World()) == Refused(
            ErrorCode.REGISTRATION_REFUSED, "nothing of ours was found in the store"
        )

    def test_without_an_identity_nothing_can_stand(self) -> None:
        assert self.run(World(), creator=Creator(), cause=CAUSE) == Refused(CAUSE.code, CAUSE.message)

    @pytest.mark.parametrize("failure", [SILENT, Refused(ErrorCode.REFUSED, "no")])
    def test_one_that_fails_is_taken_again(self, failure: Failure) -> None:
        again = Transient(failure.code, failure.message)
        assert self.run(World(instead=fails(failure))) == again
        assert self.run(World(instead=fails(WRONG))) == WRONG


class TestTakeAway:
    """COMPENSATION_REQUESTED and UNSCHEDULED."""

    def run(self, world: World, event: EventType = EventType.UNSCHEDULED, **fields: Any) -> Outcome:
        asked = dispatch(event, **fields)
        outcome: Outcome = world.run(world.authz(asked).apply(asked))
        return outcome

    def test_a_compensation_takes_its_own_away_and_ends_its_intent(self) -> None:
        world = World(held() | {READER})
        assert self.run(world, EventType.COMPENSATION_REQUESTED) == Done("token")
        assert world.tuples == {mark(OURS)}

    @pytest.mark.parametrize("tuples", [frozenset(), held(LIVE), owner(BOB)])
    def test_a_compensation_leaves_all_else(self, tuples: frozenset[Tuple]) -> None:
        world = World(tuples)
        assert self.run(world, EventType.COMPENSATION_REQUESTED) == Done()
        assert world.tuples == tuples | {mark(OURS)}

    def test_looked_at_it_is_done_again(self) -> None:
        world, asked = World(held()), dispatch(EventType.COMPENSATION_REQUESTED, look=True, cause=CAUSE)
        assert world.run(world.authz(asked).look(asked)) == Done("token")
        assert world.tuples == {mark(OURS)}

    def test_a_delete_takes_away_what_the_live_intent_registered(self) -> None:
        world = World(held(LIVE) | {READER})
        assert self.run(world, live_intent=LIVE) == Done("token")
        assert world.tuples == {mark(LIVE)}

    def test_a_schedule_from_before_the_outbox_goes_as_it_is(self) -> None:
        world = World(owner() | {READER})
        assert self.run(world) == Done("token")
        assert world.tuples == frozenset()

    def test_an_adopted_one_goes_though_somebody_took_its_stamp(self) -> None:
        world = World(owner())
        assert self.run(world, live_intent=LIVE, live_adopted=True) == Done("token")
        assert world.tuples == {mark(LIVE)}
        # One that was created here had a stamp: without it, it is somebody else's.
        world = World(owner())
        assert self.run(world, live_intent=LIVE) == Done("token")
        assert world.tuples == owner() | {mark(LIVE)}

    def test_where_nothing_is_left_it_is_done(self) -> None:
        assert self.run(World(), live_intent=LIVE) == Done()

    def test_debris_goes_too(self) -> None:
        world = World(held(ENDED))
        assert self.run(world, live_intent=LIVE) == Done("token")
        assert world.tuples == {mark(LIVE), mark(ENDED)}
        # The mark is written, and then another is there.
        world = World(held(ENDED), instead={5: NOT_AS_EXPECTED})
        message = f"{SCHEDULE_ID} changed while debris was removed"
        assert self.run(world, live_intent=LIVE) == raced(message, at_once=False)

    def test_what_became_live_meanwhile_is_waited_for(self) -> None:
        message = f"{SCHEDULE_ID} was registered while it was deregistered"
        assert self.run(World(held(LIVE))) == raced(message, at_once=False)

    def test_a_read_that_shows_nothing_of_a_name_that_is_not_free_is_not_believed(self) -> None:
        world = World(instead={0: NOT_AS_EXPECTED, 1: NOT_AS_EXPECTED})
        assert self.run(world) == raced(f"{SCHEDULE_ID} was not free a moment ago", at_once=False)

    def test_what_others_wrote_is_left_with_a_warning(self) -> None:
        world = World(owner(BOB) | {FOREIGN})
        with capture_logs() as logs:
            assert self.run(world, live_intent=LIVE) == Done("token")
        assert [(line["event"], line["stamps"]) for line in logs] == [
            ("foreign_relationships_left", ["theirs"])
        ]
        assert world.tuples == owner(BOB) | {FOREIGN, mark(LIVE)}

    @pytest.mark.parametrize("at", [0, 1])
    def test_a_store_that_fails_is_told(self, at: int) -> None:
        assert self.run(World(held(LIVE), instead=fails(SILENT, at)), live_intent=LIVE) == SILENT


class TestAdoption:
    def adopt(self, world: World) -> Outcome:
        asked = dispatch(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR)
        outcome: Outcome = world.run(world.authz(asked).adopt(asked))
        return outcome

    def test_who_owns_it_still_does(self) -> None:
        world = World(owner(BOB) | {READER})
        assert self.adopt(world) == Done("token")
        assert world.tuples == owner(BOB) | {READER, stamp(OURS)}
        assert self.adopt(world) == Done("token")
        assert world.tuples == owner(BOB) | {READER, stamp(OURS)}

    @pytest.mark.parametrize(
        ("tuples", "outcome"),
        [
            (frozenset({READER}), FOREIGN_TUPLES),
            (owner() | {FOREIGN}, FOREIGN_TUPLES),
            (held(ENDED) | {FOREIGN}, FOREIGN_TUPLES),
        ],
    )
    def test_without_an_owner_or_with_a_stamp_it_is_not_adopted(
        self, tuples: frozenset[Tuple], outcome: Outcome
    ) -> None:
        world = World(tuples)
        assert self.adopt(world) == outcome
        assert world.tuples == tuples

    def test_debris_goes_first(self) -> None:
        world = World(held(ENDED))
        assert self.adopt(world) == raced(f"debris of intent {ENDED} was removed from {SCHEDULE_ID}")
        assert world.tuples == {mark(ENDED)}

    @pytest.mark.parametrize("ended", [False, True])
    def test_it_is_adopted_as_it_was_seen(self, *, ended: bool) -> None:
        marks = frozenset({mark(OURS)}) if ended else frozenset()
        world = World(owner() | marks, instead={} if ended else {1: NOT_AS_EXPECTED})
        changed = f"{SCHEDULE_ID} changed while it was adopted"
        assert self.adopt(world) == Unknown(ErrorCode.RACED, changed), "or the write has met itself"
        assert world.tuples == owner() | marks

    def test_each_owner_that_was_seen_must_be_there(self) -> None:
        world = World(owner() | owner(BOB))
        assert self.adopt(world) == Done("token")
        [_, write] = world.calls
        required = [(one.match.relation, one.match.subject_id, one.present) for one in write.requires]  # type: ignore[union-attr]
        assert required == [
            ("owner", "alice", True),
            ("owner", "bob", True),
            ("registered_by", "", False),
            ("ended", "", False),
        ]

    def test_taken_back_the_stamp_alone_goes_and_can_not_come_again(self) -> None:
        world, asked = World(owner() | {stamp(OURS)}), dispatch(EventType.REPAIR_REQUESTED)
        assert world.run(world.authz(asked).withdraw(asked)) == Done("token")
        assert world.tuples == owner() | {mark(OURS)}

    @pytest.mark.parametrize("at", [0, 1])
    def test_a_store_that_fails_is_told(self, at: int) -> None:
        assert self.adopt(World(owner(), instead=fails(SILENT, at))) == SILENT
        world, asked = World(instead=fails(SILENT, at)), dispatch(EventType.REPAIR_REQUESTED)
        assert world.run(world.authz(asked).withdraw(asked)) == SILENT


class TestWhatSpiceDBTells:
    @pytest.mark.parametrize(
        ("tuples", "by", "carries"),
        [
            (held(LIVE), ALICE, True),
            (held(LIVE) | {READER}, ALICE, True),
            (held(LIVE), BOB, False),
            (held(LIVE) | owner(BOB), ALICE, False),
            (held(LIVE) | {FOREIGN}, ALICE, False),
            (held(LIVE) | {mark(LIVE)}, ALICE, False),
            (held(LIVE) | {mark(ENDED)}, ALICE, True),
            (held(ENDED), ALICE, False),
            (frozenset(), ALICE, False),
        ],
    )
    def test_a_stamp_is_carried_alone_and_under_its_creator(
        self, tuples: frozenset[Tuple], by: Creator, *, carries: bool
    ) -> None:
        world, asked = World(tuples), dispatch(EventType.REPAIR_REQUESTED, creator=by)
        assert world.run(world.authz(asked).carries(asked, str(LIVE))) is carries

    def test_a_retired_intent_has_ended(self) -> None:
        world, asked = World(), dispatch(EventType.REPAIR_REQUESTED)
        effects = world.authz(asked)
        assert world.run(effects.has_ended(asked, str(LIVE))) is False
        world.run(effects.retire(asked, str(LIVE)))
        assert world.tuples == {mark(LIVE)}
        assert world.run(effects.has_ended(asked, str(LIVE))) is True

    @pytest.mark.parametrize(
        ("tuples", "outcome", "left"),
        [
            (frozenset(), Done(), frozenset()),
            (
                held(ENDED),
                raced(f"debris of intent {ENDED} was removed from {SCHEDULE_ID}"),
                frozenset({mark(ENDED)}),
            ),
            (owner(), FOREIGN_TUPLES, owner()),
        ],
    )
    def test_debris_is_cleared(
        self, tuples: frozenset[Tuple], outcome: Outcome, left: frozenset[Tuple]
    ) -> None:
        world, asked = World(tuples), dispatch(EventType.REPAIR_REQUESTED)
        assert world.run(world.authz(asked).clear_debris(asked)) == outcome
        assert world.tuples == left
        world = World(tuples, instead=fails(SILENT))
        assert world.run(world.authz(asked).clear_debris(asked)) == NO_ANSWER


class TestCreate:
    """REGISTERED."""

    USUAL = f"{OURS}:1"

    def run(self, world: World, **fields: Any) -> Outcome:
        asked = dispatch(EventType.REGISTERED, **fields)
        outcome: Outcome = world.run(world.temporal(asked).apply(asked))
        return outcome

    def test_a_free_name_is_created_and_not_looked_at(self) -> None:
        world = World()
        assert self.run(world) == Done()
        assert world.schedule == Schedule(str(OURS), None, (1,))
        assert world.calls == [Create(self.USUAL, str(OURS), bad=False, definition=(1,))]

    def test_after_an_unknown_attempt_it_is(self) -> None:
        assert self.run(World(), unknown=True) == Done()
        # It remembers the id, and the schedule is gone: OK creates nothing.
        world = World(remembered=self.USUAL)
        assert self.run(world, unknown=True) == Done()
        assert world.schedule == Schedule(str(OURS), None, (1,))
        assert [one.request_id for one in world.calls if isinstance(one, Create)] == [
            self.USUAL,
            f"{self.USUAL}-4",
        ]
        # Or it is another's since.
        world = World(schedule=Schedule("theirs"), remembered=self.USUAL)
        assert self.run(world, unknown=True) == FOREIGN_SCHEDULE
        # Or debris.
        world = World(schedule=Schedule(str(ENDED)), remembered=self.USUAL)
        assert self.run(world, unknown=True) == CLEARED_IN_DOUBT
        assert world.schedule is None

    def test_created_anew_the_name_may_be_taken(self) -> None:
        world = World(remembered=self.USUAL, instead={2: TAKEN, 3: Answer(Schedule("theirs"))})
        assert self.run(world, unknown=True) == FOREIGN_SCHEDULE
        world = World(remembered=self.USUAL, instead={2: TAKEN, 3: Answer(Schedule(str(ENDED)))})
        assert self.run(world, unknown=True) == CLEARED_IN_DOUBT

    def test_a_refusal_is_told(self) -> None:
        refused = self.run(World(), request={"bad": True, "definition": (1,)})
        assert refused == Refused(ErrorCode.REFUSED, "bad cron")

    @pytest.mark.parametrize(
        ("schedule", "outcome", "left"),
        [
            (Schedule(str(OURS)), Done(), Schedule(str(OURS))),
            (Schedule(str(ENDED)), CLEARED, None),
            (
                Schedule(str(LIVE)),
                conflict(
                    ErrorCode.CONFLICT_LIVE,
                    f"{SCHEDULE_ID} exists, created by intent {LIVE}: delete it first",
                ),
                Schedule(str(LIVE)),
            ),
            (Schedule("theirs"), FOREIGN_SCHEDULE, Schedule("theirs")),
            (Schedule(None), FOREIGN_SCHEDULE, Schedule(None)),
        ],
    )
    def test_of_a_name_that_is_taken(
        self, schedule: Schedule, outcome: Outcome, left: Schedule | None
    ) -> None:
        world = World(schedule=schedule)
        assert self.run(world) == outcome
        assert world.schedule == left

    def test_a_name_that_was_taken_and_is_free_is_tried_again(self) -> None:
        assert self.run(World(instead={0: TAKEN})) == raced(f"{SCHEDULE_ID} was deleted meanwhile")

    @pytest.mark.parametrize(("failure", "means"), [(BUSY, BUSY), (SILENT, SILENT), (WRONG, WRONG)])
    def test_a_store_that_fails_is_told(self, failure: Failure, means: Failure) -> None:
        assert self.run(World(instead=fails(failure))) == means

    @pytest.mark.parametrize("failure", [BUSY, SILENT, WRONG, Refused(ErrorCode.REFUSED, "no")])
    @pytest.mark.parametrize("unknown", [False, True])
    def test_a_look_that_fails_leaves_the_create_in_doubt(self, failure: Failure, *, unknown: bool) -> None:
        world = World(schedule=None if unknown else Schedule(str(OURS)), instead=fails(failure, 1))
        assert self.run(world, unknown=unknown) == Unknown(failure.code, failure.message)
        world = World(remembered=self.USUAL, instead={2: TAKEN} | fails(failure, 3))
        assert self.run(world, unknown=True) == Unknown(failure.code, failure.message)

    def test_debris_that_may_go_late_is_waited_for(self) -> None:
        world = World(schedule=Schedule(str(ENDED)), instead=fails(SILENT, 2))
        assert self.run(world) == replace(SILENT, waits=True)
        world = World(schedule=Schedule(str(ENDED)), instead=fails(BUSY, 2))
        assert self.run(world) == BUSY

    def test_debris_that_an_earlier_attempt_may_have_been_removing_is_removed_and_waited_for(self) -> None:
        world = World(schedule=Schedule(str(ENDED)))
        assert self.run(world, unknown=True) == CLEARED_IN_DOUBT
        assert world.schedule is None

    def test_so_is_debris_that_was_being_removed_when_the_time_was_over(self) -> None:
        world = World(schedule=Schedule(str(ENDED)), instead={2: OVER})
        assert self.run(world) == Unknown(
            ErrorCode.TIMED_OUT,
            f"{SCHEDULE_ID}: debris was being removed when the time was over",
            waits=True,
        )


class TestDelete:
    """DELETE_REQUESTED."""

    def run(self, world: World, **fields: Any) -> Outcome:
        asked = dispatch(EventType.DELETE_REQUESTED, kind=Kind.DELETE, **fields)
        with capture_logs() as self.logs:
            outcome: Outcome = world.run(world.temporal(asked).apply(asked))
        return outcome

    @pytest.mark.parametrize(
        ("stamp", "live", "adopted", "goes"),
        [
            (str(LIVE), LIVE, False, True),
            (str(LIVE), LIVE, True, True),
            (None, None, False, True),
            (None, LIVE, True, True),
            (None, LIVE, False, False),
            (str(ENDED), LIVE, False, True),
            (str(ENDED), None, False, True),
            ("theirs", LIVE, False, False),
            ("theirs", None, False, False),
            (str(LIVE), None, False, False),
        ],
    )
    def test_what_is_the_lanes_goes_and_what_is_not_stays(
        self, stamp: str | None, live: UUID | None, *, adopted: bool, goes: bool
    ) -> None:
        world = World(schedule=Schedule(stamp))
        outcome = self.run(world, live_intent=live, live_adopted=adopted)
        assert outcome == (Done() if goes else FOREIGN_SCHEDULE)
        assert (world.schedule is None) is goes
        told = [line["event"] for line in self.logs]
        assert told == (["legacy_schedule_deleted"] if goes and stamp is None else [])

    def test_what_is_gone_is_done(self) -> None:
        world = World()
        assert self.run(world, live_intent=LIVE) == Done()
        assert Delete() not in world.calls

    @pytest.mark.parametrize("at", [0, 1])
    def test_a_store_that_fails_is_told(self, at: int) -> None:
        world = World(schedule=Schedule(str(LIVE)), instead=fails(SILENT, at))
        assert self.run(world, live_intent=LIVE) == SILENT


class TestLookAtTemporal:
    def run(self, event: EventType, schedule: Schedule | None, **fields: Any) -> Outcome:
        asked = dispatch(event, look=True, **fields)
        world = World(schedule=schedule, instead=fields.pop("instead", {}))
        outcome: Outcome = world.run(world.temporal(asked).look(asked))
        assert world.schedule == schedule
        return outcome

    @pytest.mark.parametrize("schedule", [None, Schedule(str(OURS)), Schedule(str(ENDED)), Schedule(None)])
    def test_a_create_stands_where_its_stamp_does_and_a_delete_where_nothing_does(
        self, schedule: Schedule | None
    ) -> None:
        stands = Refused(CAUSE.code, CAUSE.message)
        created = schedule is not None and schedule.stamp == str(OURS)
        for event in (EventType.REGISTERED, EventType.REGISTRATION_SKIPPED):
            assert self.run(event, schedule, cause=CAUSE) == (Done() if created else stands)
        gone = self.run(EventType.DELETE_REQUESTED, schedule, cause=CAUSE)
        assert gone == (Done() if schedule is None else stands)

    def test_without_a_cause_it_is_refused(self) -> None:
        assert self.run(EventType.REGISTERED, None) == Refused(
            ErrorCode.REFUSED, "nothing of ours was found in the store"
        )

    def test_one_that_fails_is_taken_again(self) -> None:
        asked = dispatch(EventType.REGISTERED, look=True)
        world = World(instead=fails(SILENT))
        assert world.run(world.temporal(asked).look(asked)) == Transient(SILENT.code, SILENT.message)


@pytest.mark.parametrize(
    ("schedule", "adopted", "outcome", "left"),
    [
        (None, False, Done(), None),
        (Schedule(str(ENDED)), False, Done(), None),
        (Schedule(str(LIVE)), False, raced(f"{SCHEDULE_ID} is live again"), Schedule(str(LIVE))),
        (Schedule("theirs"), False, FOREIGN_SCHEDULE, Schedule("theirs")),
        (Schedule(None), False, FOREIGN_SCHEDULE, Schedule(None)),
        (Schedule(None), True, Done(), Schedule(None)),
        (Schedule(str(ENDED)), True, Done(), None),
    ],
)
def test_debris_in_temporal_is_cleared(
    schedule: Schedule | None, outcome: Outcome, left: Schedule | None, *, adopted: bool
) -> None:
    asked = dispatch(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR, live_adopted=adopted)
    world = World(schedule=schedule)
    assert world.run(world.temporal(asked).clear_debris(asked)) == outcome
    assert world.schedule == left
    world = World(schedule=schedule, instead=fails(SILENT))
    assert world.run(world.temporal(asked).clear_debris(asked)) == SILENT


@pytest.mark.parametrize(
    ("schedule", "outcome", "left"),
    [
        (Schedule(str(LIVE)), Done(), None),
        (Schedule("theirs"), FOREIGN_SCHEDULE, Schedule("theirs")),
        (None, Done(), None),
    ],
)
def test_what_has_ended_is_debris_whatever_the_ledger_has(
    schedule: Schedule | None, outcome: Outcome, left: Schedule | None
) -> None:
    asked = dispatch(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR)
    world = World(schedule=schedule)
    assert world.run(world.temporal(asked).clear_debris(asked, ended=LIVE)) == outcome
    assert world.schedule == left


@pytest.mark.parametrize(
    "event", [EventType.REGISTERED, EventType.DELETE_REQUESTED, EventType.REPAIR_REQUESTED]
)
def test_spicedb_does_only_what_is_its_own(event: EventType) -> None:
    world, asked = World(), dispatch(event)
    with pytest.raises(ValueError, match=f"{asked.step.effect} is no effect on SpiceDB"):
        world.run(world.authz(asked).apply(asked))


@pytest.mark.parametrize(
    "event", [EventType.CREATE_REQUESTED, EventType.UNSCHEDULED, EventType.REPAIR_REQUESTED]
)
def test_temporal_does_only_what_is_its_own(event: EventType) -> None:
    world, asked = World(), dispatch(event)
    with pytest.raises(ValueError, match=f"{asked.step.effect} is no effect on Temporal"):
        world.run(world.temporal(asked).apply(asked))


def test_a_repair_is_all_that_repairs() -> None:
    world, asked = World(), dispatch(EventType.REGISTERED)
    with pytest.raises(ValueError, match="create is no repair"):
        world.run(world.repair(asked).apply(asked))


WHOLE = Schedule(str(LIVE), None, (1,))


class TestRepair:
    """REPAIR_REQUESTED of a lane whose live intent was created here."""

    def run(self, world: World, **fields: Any) -> Outcome:
        known: dict[str, Any] = {"kind": Kind.REPAIR, "live_intent": LIVE}
        asked = dispatch(EventType.REPAIR_REQUESTED, **(known | fields))
        with capture_logs() as self.logs:
            outcome: Outcome = world.run(world.repair(asked).apply(asked))
        return outcome

    def test_what_is_whole_stays(self) -> None:
        world = World(held(LIVE) | {READER}, WHOLE)
        assert self.run(world) == Done("token")
        assert (world.tuples, world.schedule) == (held(LIVE) | {READER}, WHOLE)

    def test_what_is_missing_is_made_again_registered_first(self) -> None:
        world = World()
        assert self.run(world) == Done()
        assert (world.tuples, world.schedule) == (held(LIVE), WHOLE)
        [create] = [one for one in world.calls if isinstance(one, Create)]
        assert create.request_id == f"{LIVE}:{OURS}", (
            "by another id than the create's: that may be remembered"
        )

    def test_nothing_is_created_that_is_not_registered(self) -> None:
        world = World(instead=fails(SILENT, 2))
        assert self.run(world) == SILENT
        assert world.schedule is None

    def test_an_older_definition_is_written_over(self) -> None:
        update = UUID(int=6)
        wanted = {"revision": update, "request": {"bad": False, "definition": (1, 2)}}
        world = World(held(LIVE), WHOLE)
        assert self.run(world, **wanted) == Done()
        assert world.schedule == Schedule(str(LIVE), str(update), (1, 2), token=2)
        world = World(held(LIVE), Schedule(str(LIVE), str(update), (1, 2)))
        assert self.run(world, **wanted) == Done("token")
        assert world.schedule == Schedule(str(LIVE), str(update), (1, 2))

    def test_what_others_hold_is_left_and_told(self) -> None:
        theirs = Schedule("theirs")
        world = World(held(LIVE), theirs)
        assert self.run(world) == Done()
        assert (world.tuples, world.schedule) == (held(LIVE), theirs)
        assert [(line["event"], line["reason"]) for line in self.logs] == [
            ("repair_left_alone", FOREIGN_SCHEDULE.message)
        ]

    @pytest.mark.parametrize("ended", [False, True])
    def test_what_has_run_out_or_was_ended_is_cleared_away(self, *, ended: bool) -> None:
        marks = frozenset({mark(LIVE)}) if ended else frozenset()
        world = World(held(LIVE) | marks, Schedule(str(ENDED)))
        assert self.run(world, ran_out=not ended) == Done("token", live=Live.CLEAR)
        assert (world.tuples, world.schedule) == (frozenset({mark(LIVE)}), None)

    def test_what_has_run_out_and_is_there_stays(self) -> None:
        world = World(held(LIVE), WHOLE)
        assert self.run(world, ran_out=True) == Done("token")
        assert world.schedule == WHOLE

    def test_of_what_has_run_out_others_keep_their_schedule(self) -> None:
        world = World(held(LIVE), Schedule("theirs"))
        assert self.run(world, ran_out=True) == Done("token", live=Live.CLEAR)
        assert (world.tuples, world.schedule) == (frozenset({mark(LIVE)}), Schedule("theirs"))

    @pytest.mark.parametrize("at", [2, 3])
    def test_what_has_run_out_lives_on_in_the_ledger_until_its_owner_is_gone(self, at: int) -> None:
        assert self.run(World(held(LIVE), instead=fails(SILENT, at)), ran_out=True) == SILENT

    def test_of_what_was_adopted_and_has_run_out_the_owner_stays_where_somebody_took_the_stamp(self) -> None:
        world = World(owner())
        assert self.run(world, ran_out=True, live_adopted=True) == Done(live=Live.CLEAR)
        assert world.tuples == owner() | {mark(LIVE)}

    @pytest.mark.parametrize("at", range(4))
    def test_whatever_fails_is_tried_again(self, at: int) -> None:
        refused = Refused(ErrorCode.REFUSED, "no")
        world = World(held(LIVE) | {mark(LIVE)}, Schedule(str(ENDED)), instead=fails(WRONG, at))
        assert self.run(world) == WRONG
        world = World(instead=fails(refused, 0))
        assert self.run(world) == Transient(refused.code, refused.message)

    def test_discarded_it_leaves_what_it_did(self) -> None:
        world, asked = World(held(LIVE), WHOLE), dispatch(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR)
        assert world.run(world.repair(asked).look(asked)) == Done()
        assert world.calls == []


class TestRepairOfNothing:
    """REPAIR_REQUESTED of a lane without a live schedule."""

    def run(self, world: World) -> Outcome:
        asked = dispatch(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR)
        with capture_logs() as self.logs:
            outcome: Outcome = world.run(world.repair(asked).apply(asked))
        return outcome

    def test_debris_goes_from_both_temporal_first(self) -> None:
        world = World(held(ENDED), Schedule(str(ENDED)))
        assert self.run(world) == raced(f"debris of intent {ENDED} was removed from {SCHEDULE_ID}")
        assert (world.tuples, world.schedule) == (frozenset({mark(ENDED)}), None)
        assert [type(call) for call in world.calls] == [Describe, Delete, Remove, Look, Write, Remove]
        assert self.run(world) == Done()

    @pytest.mark.parametrize("schedule", [None, Schedule("theirs")])
    def test_a_former_owners_access_goes_whoever_has_the_schedule(self, schedule: Schedule | None) -> None:
        world = World(held(ENDED), schedule)
        self.run(world)
        assert (world.tuples, world.schedule) == (frozenset({mark(ENDED)}), schedule)

    def test_that_somebody_else_has_the_schedule_is_told(self) -> None:
        assert self.run(World(schedule=Schedule("theirs"))) == Done()
        assert [line["reason"] for line in self.logs] == [FOREIGN_SCHEDULE.message]

    def test_where_temporal_can_not_tell_nothing_is_taken_from_spicedb(self) -> None:
        world = World(held(ENDED), instead=fails(BUSY))
        assert self.run(world) == BUSY
        assert world.tuples == held(ENDED)


class TestReclaim:
    def run(self, world: World, **fields: Any) -> Outcome:
        known: dict[str, Any] = {"kind": Kind.REPAIR, "request": {"reclaim": str(LIVE)}}
        asked = dispatch(EventType.REPAIR_REQUESTED, **(known | fields))
        with capture_logs() as self.logs:
            outcome: Outcome = world.run(world.repair(asked).apply(asked))
        return outcome

    def test_what_both_stores_agree_on_is_live_again_with_its_revision(self) -> None:
        world = World(held(LIVE), WHOLE)
        assert self.run(world) == Done(live=Live.RECLAIM)
        world = World(held(LIVE), replace(WHOLE, revision=str(ENDED)))
        assert self.run(world) == Done(live=Live.RECLAIM, revision=ENDED)
        world = World(held(LIVE), replace(WHOLE, revision="by hand"))
        assert self.run(world) == Done(live=Live.RECLAIM)
        assert world.tuples == held(LIVE)

    @pytest.mark.parametrize(
        ("tuples", "schedule"),
        [
            (held(LIVE), None),
            (held(LIVE), Schedule(str(ENDED))),
            (held(ENDED), WHOLE),
            (held(LIVE, BOB), WHOLE),
            (frozenset(), WHOLE),
        ],
    )
    def test_what_they_do_not_agree_on_is_left(
        self, tuples: frozenset[Tuple], schedule: Schedule | None
    ) -> None:
        world = World(tuples, schedule)
        assert self.run(world) == Done()
        assert (world.tuples, world.schedule) == (tuples, schedule)
        [line] = self.logs
        assert line["reason"] == (
            f"{SCHEDULE_ID} can't be reclaimed: the stores don't agree on {LIVE} any more"
        )

    def test_an_older_ledgers_intent_is_ended(self) -> None:
        world = World(held(LIVE), WHOLE)
        assert self.run(world, live_intent=ENDED) == Done(live=Live.RECLAIM)
        assert world.tuples == held(LIVE) | {mark(ENDED)}

    def test_what_is_live_stays_as_the_ledger_has_it(self) -> None:
        world = World(held(LIVE), replace(WHOLE, revision=str(ENDED)))
        assert self.run(world, live_intent=LIVE) == Done()
        assert world.calls == []
        [line] = self.logs
        assert line["reason"] == f"{SCHEDULE_ID} exists, created by intent {LIVE}"


class TestAdopt:
    """An adoption, and repairs of what was adopted."""

    REQUEST: ClassVar = {"adopt": True, "bad": False, "definition": (1,)}

    def run(self, world: World, **fields: Any) -> Outcome:
        known: dict[str, Any] = {"kind": Kind.REPAIR, "request": self.REQUEST}
        asked = dispatch(EventType.REPAIR_REQUESTED, **(known | fields))
        with capture_logs() as self.logs:
            outcome: Outcome = world.run(world.repair(asked).apply(asked))
        return outcome

    def reasons(self) -> Sequence[str]:
        return [line["reason"] for line in self.logs]

    def test_what_is_there_is_live_with_its_description(self) -> None:
        world = World(owner(), Schedule(None))
        learnt = {"described": "as it is"}
        assert self.run(world) == Done("token", live=Live.SET, definition=learnt)
        assert (world.tuples, world.schedule) == (owner() | {stamp(OURS)}, Schedule(None))

    @pytest.mark.parametrize("schedule", [None, Schedule("theirs")])
    def test_without_a_schedule_there_is_nothing_to_adopt(self, schedule: Schedule | None) -> None:
        world = World(owner(), schedule)
        assert self.run(world) == Done()
        assert world.tuples == owner()
        assert self.reasons() == [
            f"{SCHEDULE_ID} can't be adopted: Temporal has no schedule without a stamp under the name"
        ]

    def test_without_an_owner_neither(self) -> None:
        world = World(frozenset({READER}), Schedule(None))
        assert self.run(world) == Done()
        assert self.reasons() == [
            f"{SCHEDULE_ID} can't be adopted: in SpiceDB it has no owner, or a stamp already"
        ]

    @pytest.mark.parametrize(
        ("tuples", "schedule", "reason"),
        [
            (owner() | {stamp(OURS)}, None, "Temporal has no schedule without a stamp under the name"),
            (frozenset(), Schedule(None), "in SpiceDB it has no owner, or a stamp already"),
        ],
    )
    def test_given_up_after_an_unknown_attempt_it_is_looked_at_and_nothing_is_written_yet(
        self, tuples: frozenset[Tuple], schedule: Schedule | None, reason: str
    ) -> None:
        world = World(tuples, schedule)
        message = f"{SCHEDULE_ID} can't be adopted: {reason}"
        assert self.run(world, unknown=True) == conflict(ErrorCode.CONFLICT_FOREIGN, message)
        assert world.tuples == tuples
        assert self.reasons() == [message]

    def test_a_stamp_that_may_have_been_written_is_tried_again(self) -> None:
        assert self.run(World(owner(), Schedule(None), instead=fails(SILENT, 2))) == SILENT

    def test_what_is_live_already_is_not_adopted(self) -> None:
        assert self.run(World(held(LIVE), WHOLE), live_intent=LIVE) == Done()
        assert self.reasons() == [f"{SCHEDULE_ID} exists, created by intent {LIVE}"]

    def test_given_up_or_discarded_it_gives_its_stamp_back(self) -> None:
        asked = dispatch(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR, request=self.REQUEST)
        world = World(owner() | {stamp(OURS)})
        assert world.run(world.repair(asked).look(asked)) == Done("token")
        assert world.tuples == owner() | {mark(OURS)}

    ADOPTED: ClassVar = {"live_intent": LIVE, "live_adopted": True}

    @pytest.mark.parametrize("described", [False, True])
    def test_a_stamp_that_somebody_took_is_written_again(self, *, described: bool) -> None:
        request = {"bad": False, "definition": (1,)} | ({"described": "x"} if described else {})
        world = World(owner(), Schedule(None))
        repaired = self.run(world, request=request, **self.ADOPTED)
        assert repaired == Done("token", definition=None if described else {"described": "as it is"})
        assert (world.tuples, world.schedule) == (owner() | {stamp(LIVE)}, Schedule(None))

    def test_a_schedule_that_is_gone_is_made_again_from_its_description(self) -> None:
        request = {"bad": False, "definition": (1,), "described": "x"}
        world = World(owner() | {stamp(LIVE)})
        assert self.run(world, request=request, **self.ADOPTED) == Done()
        assert world.schedule == WHOLE
        # Without a description there is nothing to make it from.
        world = World(owner() | {stamp(LIVE)})
        assert self.run(world, **self.ADOPTED) == Done("token")
        assert world.schedule is None

    def test_its_definition_is_brought_back(self) -> None:
        request = {"bad": False, "definition": (1, 2), "described": "x"}
        world = World(owner() | {stamp(LIVE)}, Schedule(None))
        assert self.run(world, request=request, revision=ENDED, **self.ADOPTED) == Done()
        assert world.schedule == Schedule(None, str(ENDED), (1, 2), token=2)

    def test_debris_in_its_place_goes_and_what_is_somebody_elses_stays(self) -> None:
        request = {"bad": False, "definition": (1,), "described": "x"}
        world = World(owner(), Schedule(str(ENDED)))
        assert self.run(world, request=request, **self.ADOPTED) == CLEARED
        assert self.run(world, request=request, **self.ADOPTED) == Done()
        assert (world.tuples, world.schedule) == (owner() | {stamp(LIVE)}, WHOLE)
        world = World(owner(), Schedule("theirs"))
        assert self.run(world, request=request, **self.ADOPTED) == Done()
        assert (world.tuples, world.schedule) == (owner(), Schedule("theirs"))

    def test_debris_in_its_place_that_went_meanwhile_leaves_room_at_once(self) -> None:
        request = {"bad": False, "definition": (1,), "described": "x"}
        world = World(owner(), instead={1: Answer(Schedule(str(ENDED)))})
        assert self.run(world, request=request, **self.ADOPTED) == Done()
        assert (world.tuples, world.schedule) == (owner() | {stamp(LIVE)}, WHOLE)

    def test_debris_in_its_place_that_may_go_late_is_waited_for(self) -> None:
        world = World(owner(), Schedule(str(ENDED)), instead=fails(SILENT, 3))
        assert self.run(world, **self.ADOPTED) == replace(SILENT, waits=True)
        world = World(owner(), Schedule(str(ENDED)))
        assert self.run(world, unknown=True, **self.ADOPTED) == CLEARED_IN_DOUBT

    @pytest.mark.parametrize("ended", [False, True])
    def test_what_has_run_out_or_was_ended_is_cleared_away(self, *, ended: bool) -> None:
        marks = frozenset({mark(LIVE)}) if ended else frozenset()
        world = World(owner() | {stamp(LIVE)} | marks)
        assert self.run(world, ran_out=not ended, **self.ADOPTED) == Done("token", live=Live.CLEAR)
        assert world.tuples == {mark(LIVE)}

    def test_without_an_owner_its_stamp_is_not_written(self) -> None:
        world = World(frozenset({READER}), Schedule(None))
        assert self.run(world, **self.ADOPTED) == Done()
        assert world.tuples == {READER}
