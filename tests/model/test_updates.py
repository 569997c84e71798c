"""Updates by themselves, over the stores as values: what they write, what they find, how they come out."""

from typing import Any, cast
from uuid import UUID

import pytest
from temporalio.api.schedule.v1 import Schedule as Protobuf

from consumers.calls import Call as Bounds
from consumers.temporal.client import Described, Found, TemporalClient
from consumers.temporal.described import request_of
from consumers.temporal.effects import TemporalEffects
from consumers.temporal.updates import carries_live, revision_of, tells
from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Conflict, Done, Failure, Outcome, Refused, Transient, Unknown
from outbox.flow.table import EventType, Kind
from tests.model.attempt import _INSTANCE, _Temporal
from tests.model.lane import SCHEDULE_ID
from tests.model.stores import GONE, Answer, Describe, Schedule, Update
from tests.model.world import BUSY, CAUSE, LIVE, OURS, SILENT, WRONG, Ledger, World, dispatch, fails

NEXT, BEFORE = UUID(int=8), UUID(int=6)
STANDS = Schedule(str(LIVE), str(BEFORE), (1,))
RUN: dict[str, Any] = {
    "kind": Kind.UPDATE,
    "live_intent": LIVE,
    "run": (OURS, NEXT),
    "revision": BEFORE,
    "request": {"bad": False, "definition": (1, 2)},
    "changes": frozenset({"definition"}),
}
DISCARDED = Cause(ErrorCode.DISCARDED, "not wanted")
RACED = Transient(
    ErrorCode.RACED, f"{SCHEDULE_ID} was changed by somebody else at the same moment", retry_after=0.0
)


class Remembers(_Temporal):
    """Which fields each update named."""

    def __init__(self, attempted: Dispatch) -> None:
        super().__init__(attempted)
        self.changes: list[object] = []

    async def update(
        self, dispatch: Dispatch, present: Described, call: Bounds, *, revision: UUID | None, changes: object
    ) -> Any:
        self.changes.append(changes)
        return await super().update(dispatch, present, call, revision=revision, changes=changes)


class Base:
    """Runs an update against a world."""

    changes: list[object]

    def go(self, what: str, world: World, **fields: Any) -> Outcome:
        asked = dispatch(EventType.UPDATE_REQUESTED, **(RUN | fields))
        client = Remembers(asked)
        effects = TemporalEffects(cast("TemporalClient", client), Ledger(), _INSTANCE)
        outcome: Outcome = world.run(getattr(effects, what)(asked))
        self.changes = client.changes
        return outcome


class TestApply(Base):
    def run(self, world: World, **fields: Any) -> Outcome:
        return self.go("apply", world, **fields)

    def test_the_whole_definition_is_written_with_the_last_of_the_run(self) -> None:
        world = World(schedule=STANDS)
        assert self.run(world) == Done()
        assert world.schedule == Schedule(str(LIVE), str(NEXT), (1, 2), token=2)
        assert world.calls == [Describe(), Update(1, str(NEXT), (1, 2), bad=False), Describe()]
        assert self.changes == [frozenset({"definition"})]

    def test_what_has_taken_effect_of_a_run_is_not_written_again(self) -> None:
        world = World(schedule=Schedule(str(LIVE), str(OURS)))
        assert self.run(world) == Done(through=OURS)
        assert world.calls == [Describe()]

    def test_a_run_that_another_may_have_come_into_is_written_again(self) -> None:
        world = World(schedule=Schedule(str(LIVE), str(NEXT), (9,)))
        assert self.run(world) == Done()
        assert world.schedule == Schedule(str(LIVE), str(NEXT), (1, 2), token=2)

    @pytest.mark.parametrize("told", [None, "another's"])
    def test_beside_another_definition_nobody_can_tell_what_people_changed(self, told: str | None) -> None:
        hands = frozenset({"paused", "note"})
        assert self.run(World(schedule=Schedule(str(LIVE), told, (1,)))) == Done()
        assert self.changes == [RUN["changes"] | hands]
        for own in (BEFORE, NEXT):
            assert self.run(World(schedule=Schedule(str(LIVE), str(own), (1,)))) == Done()
            assert self.changes == [RUN["changes"]]

    def test_without_a_live_schedule_there_is_nothing_to_update(self) -> None:
        world = World(schedule=STANDS)
        assert self.run(world, live_intent=None) == Refused(
            ErrorCode.NOT_LIVE, f"{SCHEDULE_ID} is not live: there is nothing to update"
        )
        assert world.calls == []
        assert self.run(World()) == Refused(
            ErrorCode.NOT_LIVE,
            f"Temporal has no schedule {SCHEDULE_ID}: `outbox audit` tells whether it should",
        )

    @pytest.mark.parametrize("stamp", [None, "theirs"])
    def test_what_is_not_the_live_one_is_left(self, stamp: str | None) -> None:
        world = World(schedule=Schedule(stamp))
        assert self.run(world) == Conflict(
            ErrorCode.CONFLICT_FOREIGN,
            f"{SCHEDULE_ID} in Temporal is not the one that intent {LIVE} created",
        )
        assert world.schedule == Schedule(stamp)

    def test_what_was_adopted_without_a_look_is_learnt_first(self) -> None:
        learnt = request_of(SCHEDULE_ID, Protobuf())
        changes = frozenset({"bad", "definition"})
        world = World(schedule=Schedule(None))
        assert self.run(world, live_adopted=True, changes=changes) == Done(definition=learnt)
        assert world.schedule == Schedule(None, str(NEXT), (1, 2), token=2)
        known = RUN["request"] | {"described": "x"}
        assert self.run(World(schedule=Schedule(None)), live_adopted=True, request=known) == Done()

    def test_a_change_to_what_is_known_overrides_what_was_learnt(self) -> None:
        asked: dict[str, Any] = {}

        class Asked(_Temporal):
            async def update(self, dispatch: Dispatch, *of: Any, **more: Any) -> Any:
                asked.update(dispatch.request)
                return await super().update(dispatch, *of, **more)

        change = dispatch(
            EventType.UPDATE_REQUESTED,
            **RUN
            | {
                "live_adopted": True,
                "request": {"bad": False, "definition": (2,), "task_queue": "other", "note": "not named"},
                "changes": frozenset({"bad", "definition", "task_queue", "paused"}),
            },
        )
        effects = TemporalEffects(cast("TemporalClient", Asked(change)), Ledger(), _INSTANCE)
        World(schedule=Schedule(None)).run(effects.apply(change))
        learnt = request_of(SCHEDULE_ID, Protobuf())
        assert asked == learnt | {"bad": False, "definition": (2,), "task_queue": "other", "paused": None}

    def test_what_somebody_else_changed_meanwhile_is_tried_again(self) -> None:
        assert self.run(World(schedule=STANDS, instead={1: GONE})) == RACED
        # OK, though nothing was written.
        assert self.run(World(schedule=STANDS, instead={1: Answer()})) == RACED
        another = Answer(Schedule(None, str(NEXT)))
        assert self.run(World(schedule=STANDS, instead={2: another})) == RACED
        assert self.run(World(schedule=STANDS, instead={2: Answer()})) == RACED

    @pytest.mark.parametrize("failure", [BUSY, SILENT, WRONG])
    def test_a_store_that_fails_is_told_and_a_look_that_does_leaves_doubt(self, failure: Failure) -> None:
        for at in (0, 1):
            assert self.run(World(schedule=STANDS, instead=fails(failure, at))) == failure
        doubt = Unknown(failure.code, failure.message)
        assert self.run(World(schedule=STANDS, instead=fails(failure, 2))) == doubt


class TestLook(Base):
    def run(self, world: World, **fields: Any) -> Outcome:
        return self.go("look", world, look=True, **({"cause": CAUSE} | fields))

    def test_what_has_taken_effect_is_done(self) -> None:
        assert self.run(World(schedule=Schedule(str(LIVE), str(OURS)))) == Done(through=OURS)

    @pytest.mark.parametrize(
        "schedule",
        [None, STANDS, Schedule("theirs", str(OURS)), Schedule(None, str(OURS))],
    )
    @pytest.mark.parametrize("cause", [CAUSE, DISCARDED])
    def test_what_has_not_lets_the_cause_stand(self, schedule: Schedule | None, cause: Cause) -> None:
        world = World(schedule=schedule)
        assert self.run(world, cause=cause) == Refused(cause.code, cause.message)
        assert (world.schedule, world.calls) == (schedule, [Describe()])
        nothing = Refused(ErrorCode.REFUSED, "nothing of ours was found in the store")
        assert self.run(World(schedule=schedule), cause=None) == nothing

    @pytest.mark.parametrize(
        ("told", "cause"),
        [
            (str(NEXT), CAUSE),
            (str(OURS), DISCARDED),
            (str(NEXT), DISCARDED),
            ("another's", CAUSE),
            (None, CAUSE),
        ],
    )
    def test_else_what_the_ledger_has_is_brought_back(self, told: str | None, cause: Cause) -> None:
        world = World(schedule=Schedule(str(LIVE), told, (1, 2)))
        request = {"bad": False, "definition": (1,)}
        assert self.run(world, cause=cause, request=request) == Refused(cause.code, cause.message)
        assert world.schedule == Schedule(str(LIVE), str(BEFORE), (1,), token=2)
        own, any_run = frozenset({"definition"}), frozenset({"paused", "note"})
        assert self.changes == [own if told == str(OURS) else any_run]

    @pytest.mark.parametrize(("told", "cause"), [(NEXT, CAUSE), (OURS, DISCARDED), (NEXT, DISCARDED)])
    def test_where_that_is_not_known_the_first_of_what_was_written_is_done(
        self, told: UUID, cause: Cause
    ) -> None:
        schedule = Schedule(None, str(told))
        world = World(schedule=schedule)
        assert self.run(world, cause=cause, live_adopted=True) == Done(through=OURS)
        assert world.schedule == schedule
        nothing = World(schedule=Schedule(None))
        assert self.run(nothing, cause=cause, live_adopted=True) == Refused(cause.code, cause.message)

    def test_one_that_fails_is_taken_again(self) -> None:
        for failure in (SILENT, Refused(ErrorCode.REFUSED, "no")):
            again = Transient(failure.code, failure.message)
            assert self.run(World(instead=fails(failure))) == again
        assert self.run(World(instead=fails(WRONG))) == WRONG

    @pytest.mark.parametrize(
        ("failure", "means"),
        [
            (SILENT, SILENT),
            (Refused(ErrorCode.REFUSED, "no"), Transient(ErrorCode.REFUSED, "no")),
            (WRONG, WRONG),
        ],
    )
    def test_what_can_not_be_brought_back_is_tried_again(self, failure: Failure, means: Failure) -> None:
        landed = Schedule(str(LIVE), str(OURS))
        assert self.run(World(schedule=landed, instead=fails(failure, 1)), cause=DISCARDED) == means
        assert self.run(World(schedule=landed, instead={1: GONE}), cause=DISCARDED) == RACED


class TestRestore(Base):
    def test_what_the_ledger_says_is_written_what_people_changed_too(self) -> None:
        world = World(schedule=Schedule(str(LIVE), str(NEXT), (9,)))
        assert self.go("restore", world) == Done()
        assert world.schedule == Schedule(str(LIVE), str(BEFORE), (1, 2), token=2)
        assert self.changes == [frozenset({"paused", "note"})]

    def test_what_is_gone_is_tried_again(self) -> None:
        assert self.go("restore", World()) == RACED
        assert self.go("restore", World(schedule=STANDS, instead={1: GONE})) == RACED

    @pytest.mark.parametrize("at", [0, 1])
    def test_a_store_that_fails_is_told(self, at: int) -> None:
        assert self.go("restore", World(schedule=STANDS, instead=fails(SILENT, at))) == SILENT


@pytest.mark.parametrize(
    ("stamp", "live", "adopted", "carries"),
    [
        (str(LIVE), LIVE, False, True),
        (str(LIVE), LIVE, True, True),
        (None, LIVE, True, True),
        (None, LIVE, False, False),
        (str(OURS), LIVE, True, False),
        (str(LIVE), None, False, False),
        ("None", None, False, False),
    ],
)
def test_what_carries_the_live_stamp(
    stamp: str | None, live: UUID | None, *, adopted: bool, carries: bool
) -> None:
    asked = dispatch(EventType.UPDATE_REQUESTED, live_intent=live, live_adopted=adopted)
    assert carries_live(asked, Found(stamp)) is carries


def test_a_revision_is_an_intents_or_none() -> None:
    assert revision_of(Found("x", revision=str(OURS))) == OURS
    assert revision_of(Found("x", revision="by hand")) is None
    assert revision_of(Found("x")) is None
    assert tells(Found("x", revision=str(OURS)), OURS)
    assert tells(Found("x"), None)
    assert not tells(Found("x", revision=str(OURS)), None)
    assert not tells(Found("x"), OURS)
