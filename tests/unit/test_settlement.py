"""What each outcome does to its step; the expectations are written out by hand from the rules."""

import random
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.errors import ErrorCode
from outbox.flow.dispatch import Cause, Dispatch
from outbox.flow.outcome import Conflict, Done, Misconfigured, Outcome, Refused, Transient, Unknown
from outbox.flow.settlement import (
    Action,
    Redefinition,
    RetryPolicy,
    Settlement,
    StoreHealth,
    decide,
    park,
)
from outbox.flow.table import STEPS, TERMINALS, Consumer, EventType, Kind, Live
from outbox.settings import Settings

POLICY = RetryPolicy(base_seconds=1.0, cap_seconds=8.0, max_strikes=3)
REFUSAL = Refused(ErrorCode.REFUSED, "no")
CAUSE = Cause(ErrorCode.REFUSED, "no")


def dispatch(event: EventType = EventType.REGISTERED, **fields: object) -> Dispatch:
    known: dict[str, object] = {
        "intent_id": UUID(int=7),
        "schedule_id": "a--n",
        "kind": Kind.CREATE,
        "event_type": event,
        "lease_number": 4,
        "attempt": 2,
        "deadline": 0.0,
    }
    return Dispatch(**(known | fields))  # type: ignore[arg-type]


def settle(one: Dispatch, outcome: Outcome) -> Settlement:
    return decide(one, outcome, POLICY, random.Random(1))


def settlement(
    event: EventType = EventType.REGISTERED, consumer: Consumer = Consumer.TEMPORAL, **fields: object
) -> Settlement:
    """What a settlement of ``dispatch()`` says, and nothing but that."""
    known: dict[str, object] = {
        "intent_id": UUID(int=7),
        "schedule_id": "a--n",
        "event_type": event,
        "consumer": consumer,
        "lease_number": 4,
        "attempt": 2,
    }
    return Settlement(**(known | fields))  # type: ignore[arg-type]


def update(*run: int, **fields: object) -> Dispatch:
    return dispatch(
        EventType.UPDATE_REQUESTED, kind=Kind.UPDATE, run=tuple(UUID(int=number) for number in run), **fields
    )


def of_update(**fields: Any) -> Settlement:
    return settlement(EventType.UPDATE_REQUESTED, **fields)


class Dice(random.Random):
    """Always rolls the same."""

    def __init__(self, rolled: float) -> None:
        super().__init__()
        self._rolled = rolled

    def random(self) -> float:
        return self._rolled


@pytest.mark.parametrize(
    ("event", "following", "consumer"),
    [
        (EventType.CREATE_REQUESTED, EventType.REGISTERED, Consumer.TEMPORAL),
        (EventType.REGISTERED, EventType.CREATED, None),
        (EventType.REGISTRATION_SKIPPED, EventType.CREATED, None),
        (EventType.COMPENSATION_REQUESTED, EventType.CREATE_FAILED, None),
        (EventType.DELETE_REQUESTED, EventType.UNSCHEDULED, Consumer.AUTHZ),
        (EventType.UNSCHEDULED, EventType.DELETED, None),
    ],
)
def test_done_goes_on_to_the_next_event(
    event: EventType, following: EventType, consumer: Consumer | None
) -> None:
    settled = settle(dispatch(event), Done("token"))
    assert settled.action is Action.ADVANCE
    assert (settled.next_event, settled.next_consumer) == (following, consumer)
    assert settled.terminal is (consumer is None)
    assert settled.zed_token == "token"
    assert settled.store is StoreHealth.UP


def test_a_skipped_registration_goes_on_as_skipped() -> None:
    assert settle(dispatch(EventType.CREATE_REQUESTED), Done(skipped=True)).next_event is (
        EventType.REGISTRATION_SKIPPED
    )
    # A repair of a schedule without a registration is repaired all the same.
    assert settle(dispatch(EventType.REPAIR_REQUESTED), Done(skipped=True)).next_event is EventType.REPAIRED


@pytest.mark.parametrize(
    ("event", "live"),
    [
        (EventType.REGISTERED, Live.SET),
        (EventType.UNSCHEDULED, Live.CLEAR),
        (EventType.COMPENSATION_REQUESTED, Live.KEEP),
    ],
)
def test_only_created_and_deleted_touch_the_live_stamp(event: EventType, live: Live) -> None:
    assert settle(dispatch(event), Done()).live is live


@pytest.mark.parametrize("outcome", [REFUSAL, Conflict(ErrorCode.CONFLICT_FOREIGN, "no")])
@pytest.mark.parametrize(
    ("event", "following"),
    [
        (EventType.CREATE_REQUESTED, EventType.CREATE_FAILED),
        (EventType.REGISTERED, EventType.COMPENSATION_REQUESTED),
        (EventType.REGISTRATION_SKIPPED, EventType.CREATE_FAILED),
        (EventType.DELETE_REQUESTED, EventType.DELETE_FAILED),
    ],
)
def test_a_rejection_with_nothing_unknown_fails_or_compensates(
    outcome: Refused | Conflict, event: EventType, following: EventType
) -> None:
    settled = settle(dispatch(event), outcome)
    assert (settled.action, settled.next_event) == (Action.ADVANCE, following)
    assert (settled.error_code, settled.error_message) == (outcome.code, "no")


@pytest.mark.parametrize(
    "event",
    [
        EventType.CREATE_REQUESTED,
        EventType.REGISTERED,
        EventType.REGISTRATION_SKIPPED,
        EventType.DELETE_REQUESTED,
    ],
)
def test_a_rejection_after_an_unknown_attempt_holds(event: EventType) -> None:
    settled = settle(dispatch(event, unknown=True), REFUSAL)
    assert (settled.action, settled.next_event) == (Action.HOLD, None)
    assert settled.error_code is ErrorCode.REFUSED


def test_a_repair_that_gives_up_after_an_unknown_attempt_holds_and_is_repaired_by_a_look() -> None:
    conflict = Conflict(ErrorCode.CONFLICT_FOREIGN, "no")
    settled = settle(dispatch(EventType.REPAIR_REQUESTED, unknown=True), conflict)
    assert (settled.action, settled.error_code, settled.store) == (
        Action.HOLD,
        ErrorCode.CONFLICT_FOREIGN,
        StoreHealth.UP,
    )
    looked = settle(dispatch(EventType.REPAIR_REQUESTED, unknown=True, look=True, cause=CAUSE), Done())
    assert (looked.next_event, looked.error_code) == (EventType.REPAIRED, None)
    # A refusal is no reason to give a repair up.
    assert settle(dispatch(EventType.REPAIR_REQUESTED, unknown=True), REFUSAL).action is Action.RETRY


@pytest.mark.parametrize(
    ("event", "following"),
    [
        (EventType.CREATE_REQUESTED, EventType.COMPENSATION_REQUESTED),
        (EventType.REGISTERED, EventType.COMPENSATION_REQUESTED),
        (EventType.REGISTRATION_SKIPPED, EventType.CREATE_FAILED),
        (EventType.DELETE_REQUESTED, EventType.DELETE_FAILED),
    ],
)
def test_after_the_hold_a_look_that_finds_nothing_lets_the_cause_stand(
    event: EventType, following: EventType
) -> None:
    looked = dispatch(event, unknown=True, look=True, cause=CAUSE)
    settled = settle(looked, Refused(ErrorCode.REGISTRATION_REFUSED, "nothing of ours"))
    assert settled.next_event is following
    assert (settled.error_code, settled.error_message) == (ErrorCode.REFUSED, "no")


def test_after_the_hold_a_look_that_finds_our_effect_goes_on_as_done() -> None:
    settled = settle(dispatch(unknown=True, look=True, cause=CAUSE), Done())
    assert (settled.next_event, settled.error_code) == (EventType.CREATED, None)


def test_a_compensation_that_is_done_ends_the_intent_with_what_caused_it() -> None:
    settled = settle(dispatch(EventType.COMPENSATION_REQUESTED, cause=CAUSE), Done())
    assert (settled.next_event, settled.error_code) == (EventType.CREATE_FAILED, ErrorCode.REFUSED)


@pytest.mark.parametrize("event", [EventType.COMPENSATION_REQUESTED, EventType.UNSCHEDULED])
def test_what_can_only_converge_is_retried_whatever_the_store_says(event: EventType) -> None:
    settled = settle(dispatch(event), REFUSAL)
    assert (settled.action, settled.strike, settled.next_event) == (Action.RETRY, True, None)


@pytest.mark.parametrize("event", [EventType.REGISTERED, EventType.DELETE_REQUESTED])
def test_what_undoes_waits_for_late_writes_and_what_goes_forward_does_not(event: EventType) -> None:
    outcome = REFUSAL if event is EventType.REGISTERED else Done()
    assert settle(dispatch(event), outcome).waits
    assert not settle(dispatch(EventType.CREATE_REQUESTED), Done()).waits


@pytest.mark.parametrize(
    ("outcome", "unknown", "strike", "news"),
    [
        (Transient(ErrorCode.OVERLOADED, "later"), False, False, StoreHealth.DOWN),
        (Transient(ErrorCode.TIMED_OUT, "a read"), False, False, StoreHealth.DOWN),
        (Transient(ErrorCode.RACED, "again"), False, True, StoreHealth.UP),
        (Transient(ErrorCode.UNREACHABLE, "gone"), False, False, StoreHealth.DOWN),
        (Unknown(ErrorCode.TIMED_OUT, "?"), True, False, StoreHealth.DOWN),
        (Unknown(ErrorCode.CONNECTION_LOST, "?"), True, False, None),
        (Unknown(ErrorCode.UNEXPECTED, "?"), True, True, None),
        (Misconfigured(ErrorCode.MISCONFIGURED, "token"), False, False, StoreHealth.DOWN),
    ],
)
def test_what_is_tried_again_and_what_it_costs(
    outcome: Outcome, unknown: bool, strike: bool, news: StoreHealth | None
) -> None:
    settled = settle(dispatch(), outcome)
    assert settled.action is Action.RETRY
    assert (settled.unknown, settled.strike, settled.store) == (unknown, strike, news)


def test_a_step_parks_at_its_last_strike_and_never_without_one() -> None:
    last = dispatch(strikes=2)
    assert settle(last, Transient(ErrorCode.RACED, "again")).action is Action.PARK
    assert settle(last, Unknown(ErrorCode.UNEXPECTED, "bug")).action is Action.PARK
    assert settle(last, Transient(ErrorCode.UNREACHABLE, "gone")).action is Action.RETRY
    assert settle(last, Transient(ErrorCode.OVERLOADED, "later")).action is Action.RETRY
    assert settle(last, Misconfigured(ErrorCode.MISCONFIGURED, "token")).action is Action.RETRY
    assert settle(last, Unknown(ErrorCode.TIMED_OUT, "?")).action is Action.RETRY
    assert settle(dispatch(strikes=1), Transient(ErrorCode.RACED, "again")).action is Action.RETRY


@pytest.mark.parametrize("outcome", [REFUSAL, Conflict(ErrorCode.CONFLICT_FOREIGN, "no")])
def test_a_store_that_rejects_what_can_only_converge_has_answered(outcome: Outcome) -> None:
    settled = settle(dispatch(EventType.UNSCHEDULED), outcome)
    assert (settled.strike, settled.store) == (True, StoreHealth.UP)


def test_a_parked_unknown_attempt_stays_unknown() -> None:
    assert settle(dispatch(strikes=2), Unknown(ErrorCode.UNEXPECTED, "bug")).unknown


def test_the_stores_own_entry_is_the_delay() -> None:
    assert (
        settle(dispatch(), Transient(ErrorCode.OVERLOADED, "later", retry_after=42.0)).delay_seconds == 42.0
    )
    assert settle(dispatch(), Transient(ErrorCode.RACED, "again", retry_after=0.0)).delay_seconds == 0.0


def test_parking_by_hand_names_the_cause() -> None:
    assert park(dispatch(), Cause(ErrorCode.LEASE_EXPIRED, "died")) == settlement(
        action=Action.PARK, error_code=ErrorCode.LEASE_EXPIRED, error_message="died"
    )


def test_what_a_settlement_does_not_say() -> None:
    silent = settlement(action=Action.RETRY)
    assert silent.live is Live.KEEP
    assert {silent.terminal, silent.waits, silent.unknown, silent.strike, silent.patient} == {False}
    assert silent.delay_seconds == 0.0
    assert {silent.next_event, silent.next_consumer, silent.redefines, silent.store} == {None}
    assert {silent.error_code, silent.error_message, silent.zed_token} == {None}
    nothing_new = Redefinition()
    assert (nothing_new.split, nothing_new.run) == (False, ())
    assert {nothing_new.through, nothing_new.definition, nothing_new.revision} == {None}


class TestWhole:
    """All that a settlement says: what isn't named is as it is by default."""

    def test_of_a_create_that_is_done(self) -> None:
        assert settle(dispatch(), Done("token")) == settlement(
            action=Action.ADVANCE,
            next_event=EventType.CREATED,
            terminal=True,
            live=Live.SET,
            zed_token="token",
            store=StoreHealth.UP,
        )

    def test_of_one_that_is_refused(self) -> None:
        assert settle(dispatch(), REFUSAL) == settlement(
            action=Action.ADVANCE,
            next_event=EventType.COMPENSATION_REQUESTED,
            next_consumer=Consumer.AUTHZ,
            waits=True,
            error_code=ErrorCode.REFUSED,
            error_message="no",
            store=StoreHealth.UP,
        )

    def test_of_a_refusal_after_an_unknown_attempt(self) -> None:
        assert settle(dispatch(unknown=True), REFUSAL) == settlement(
            action=Action.HOLD, error_code=ErrorCode.REFUSED, error_message="no", store=StoreHealth.UP
        )

    def test_of_a_look_that_finds_nothing_though_nothing_stands_against_the_intent(self) -> None:
        settled = settle(dispatch(EventType.CREATE_REQUESTED, unknown=True, look=True), REFUSAL)
        assert settled == settlement(
            EventType.CREATE_REQUESTED,
            Consumer.AUTHZ,
            action=Action.ADVANCE,
            next_event=EventType.COMPENSATION_REQUESTED,
            next_consumer=Consumer.AUTHZ,
            waits=True,
            error_code=ErrorCode.REFUSED,
            error_message="no",
            store=StoreHealth.UP,
        )

    def test_of_a_compensation_that_is_done(self) -> None:
        settled = settle(dispatch(EventType.COMPENSATION_REQUESTED, cause=CAUSE), Done())
        assert settled == settlement(
            EventType.COMPENSATION_REQUESTED,
            Consumer.AUTHZ,
            action=Action.ADVANCE,
            next_event=EventType.CREATE_FAILED,
            terminal=True,
            error_code=ErrorCode.REFUSED,
            error_message="no",
            store=StoreHealth.UP,
        )

    def test_of_an_attempt_that_lost_a_race(self) -> None:
        # Half of two seconds, and half of the other half.
        settled = decide(dispatch(), Transient(ErrorCode.RACED, "again"), POLICY, Dice(0.5))
        assert settled == settlement(
            action=Action.RETRY,
            strike=True,
            patient=True,
            delay_seconds=1.5,
            error_code=ErrorCode.RACED,
            error_message="again",
            store=StoreHealth.UP,
        )

    def test_of_an_attempt_without_an_answer(self) -> None:
        settled = decide(dispatch(), Unknown(ErrorCode.TIMED_OUT, "?"), POLICY, Dice(0.0))
        assert settled == settlement(
            action=Action.RETRY,
            unknown=True,
            delay_seconds=1.0,
            error_code=ErrorCode.TIMED_OUT,
            error_message="?",
            store=StoreHealth.DOWN,
        )

    def test_of_a_removal_without_an_answer(self) -> None:
        settled = decide(dispatch(), Unknown(ErrorCode.CONNECTION_LOST, "?", waits=True), POLICY, Dice(0))
        assert settled == settlement(
            action=Action.RETRY,
            unknown=True,
            waits=True,
            delay_seconds=1.0,
            error_code=ErrorCode.CONNECTION_LOST,
            error_message="?",
        )

    def test_of_an_attempt_that_made_room_after_one_without_an_answer(self) -> None:
        made_room = Transient(ErrorCode.RACED, "!", retry_after=0.0, waits=True)
        assert decide(dispatch(), made_room, POLICY, Dice(0)).waits
        assert not decide(dispatch(), replace(made_room, waits=False), POLICY, Dice(0)).waits

    def test_of_a_store_that_is_misconfigured(self) -> None:
        settled = decide(dispatch(), Misconfigured(ErrorCode.MISCONFIGURED, "token"), POLICY, Dice(0.0))
        assert settled == settlement(
            action=Action.RETRY,
            delay_seconds=1.0,
            error_code=ErrorCode.MISCONFIGURED,
            error_message="token",
            store=StoreHealth.DOWN,
        )

    def test_of_a_removal_that_is_refused_once_too_often(self) -> None:
        settled = decide(dispatch(EventType.UNSCHEDULED, strikes=2), REFUSAL, POLICY, Dice(0.0))
        assert settled == settlement(
            EventType.UNSCHEDULED,
            Consumer.AUTHZ,
            action=Action.PARK,
            strike=True,
            delay_seconds=1.0,
            error_code=ErrorCode.REFUSED,
            error_message="no",
            store=StoreHealth.UP,
        )


class TestUpdates:
    """A run of updates is one step; what becomes of it, becomes of all of them, or of each by itself."""

    def test_all_of_a_run_end_with_it(self) -> None:
        assert settle(update(7, 8, 9), Done()) == of_update(
            action=Action.ADVANCE,
            next_event=EventType.UPDATED,
            terminal=True,
            live=Live.REVISE,
            redefines=Redefinition(through=UUID(int=9), run=(UUID(int=8), UUID(int=9))),
            store=StoreHealth.UP,
        )

    @pytest.mark.parametrize(("through", "others"), [(7, ()), (8, (8,)), (9, (8, 9))])
    def test_those_end_that_have_taken_effect(self, through: int, others: tuple[int, ...]) -> None:
        settled = settle(update(7, 8, 9), Done(through=UUID(int=through)))
        assert settled.redefines == Redefinition(
            through=UUID(int=through), run=tuple(UUID(int=number) for number in others)
        )

    def test_what_was_learnt_of_the_definition_is_told(self) -> None:
        learnt = {"cron_expression": "0 3 * * *"}
        settled = settle(update(7), Done(definition=learnt, revision=UUID(int=5)))
        assert settled.redefines == Redefinition(through=UUID(int=7), definition=learnt, revision=UUID(int=5))

    def test_one_that_is_refused_does_not_fail_the_others(self) -> None:
        assert settle(update(7, 8, 9), REFUSAL) == of_update(
            action=Action.RETRY,
            redefines=Redefinition(split=True, run=(UUID(int=8), UUID(int=9))),
            error_code=ErrorCode.REFUSED,
            error_message="no",
            store=StoreHealth.UP,
        )

    @pytest.mark.parametrize("look", [False, True])
    def test_one_alone_that_is_refused_fails(self, *, look: bool) -> None:
        assert settle(update(7, unknown=look, look=look), REFUSAL) == of_update(
            action=Action.ADVANCE,
            next_event=EventType.UPDATE_FAILED,
            terminal=True,
            error_code=ErrorCode.REFUSED,
            error_message="no",
            store=StoreHealth.UP,
        )

    def test_after_an_unknown_attempt_a_run_holds_before_it_is_split(self) -> None:
        assert settle(update(7, 8, unknown=True), REFUSAL).action is Action.HOLD
        looked = settle(update(7, 8, unknown=True, look=True, cause=CAUSE), REFUSAL)
        assert (looked.action, looked.redefines) == (
            Action.RETRY,
            Redefinition(split=True, run=(UUID(int=8),)),
        )

    def test_one_that_is_discarded_takes_no_other_with_it_and_is_not_split(self) -> None:
        discarded = Cause(ErrorCode.DISCARDED, "not wanted")
        settled = settle(update(7, 8, unknown=True, look=True, cause=discarded), REFUSAL)
        assert (settled.next_event, settled.redefines) == (EventType.UPDATE_FAILED, None)
        assert (settled.error_code, settled.error_message) == (ErrorCode.DISCARDED, "not wanted")

    def test_the_run_of_another_step_is_no_definition(self) -> None:
        # A create has no run; where it has, nothing of it ends with it.
        assert settle(dispatch(run=(UUID(int=7), UUID(int=8))), Done()).redefines is None


@pytest.mark.parametrize("live", list(Live))
def test_a_repair_says_what_becomes_of_the_live_stamp(live: Live) -> None:
    repair = dispatch(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR)
    assert settle(repair, Done(live=live)).live is live
    assert settle(repair, Done()).live is Live.KEEP


def test_nothing_is_said_of_the_live_stamp_before_the_end() -> None:
    assert settle(dispatch(EventType.CREATE_REQUESTED), Done(live=Live.SET)).live is Live.KEEP


@pytest.mark.parametrize(
    "learnt", [Done(definition={"paused": True}), Done(revision=UUID(int=5)), Done(definition={})]
)
def test_what_a_repair_learnt_is_told(learnt: Done) -> None:
    settled = settle(dispatch(EventType.REPAIR_REQUESTED, kind=Kind.REPAIR), learnt)
    assert settled.redefines == Redefinition(definition=learnt.definition, revision=learnt.revision)


class TestPatience:
    """A registration that stays impossible fails in the end, and nothing else does."""

    POLICY = RetryPolicy(registration_seconds=15.0)

    def settle(self, one: Dispatch, code: ErrorCode) -> Settlement:
        return decide(one, Transient(code, "later"), self.POLICY, random.Random(1))

    @pytest.mark.parametrize("code", [ErrorCode.RACED, ErrorCode.OVERLOADED])
    def test_a_registration_expires_with_its_patience(self, code: ErrorCode) -> None:
        patient = dispatch(EventType.CREATE_REQUESTED, patience=14.9)
        assert self.settle(patient, code).action is Action.RETRY
        expired = self.settle(dispatch(EventType.CREATE_REQUESTED, patience=15.0), code)
        assert (expired.action, expired.next_event) == (Action.ADVANCE, EventType.CREATE_FAILED)
        assert expired.error_code is ErrorCode.REGISTRATION_EXPIRED
        assert expired.error_message == "for too long: later"

    def test_one_that_may_have_landed_is_looked_for_first(self) -> None:
        unknown = dispatch(EventType.CREATE_REQUESTED, patience=15.0, unknown=True)
        assert self.settle(unknown, ErrorCode.RACED).action is Action.HOLD

    @pytest.mark.parametrize(
        ("event", "look", "code"),
        [
            (EventType.CREATE_REQUESTED, False, ErrorCode.UNREACHABLE),
            (EventType.CREATE_REQUESTED, False, ErrorCode.TIMED_OUT),
            (EventType.CREATE_REQUESTED, True, ErrorCode.OVERLOADED),
            (EventType.REGISTERED, False, ErrorCode.OVERLOADED),
            (EventType.UNSCHEDULED, False, ErrorCode.RACED),
        ],
    )
    def test_nothing_else_expires(self, event: EventType, *, look: bool, code: ErrorCode) -> None:
        assert self.settle(dispatch(event, look=look, patience=1e9), code).action is Action.RETRY

    @pytest.mark.parametrize("code", list(ErrorCode))
    def test_the_wait_after_an_answer_alone_counts(self, code: ErrorCode) -> None:
        counts = code in {ErrorCode.RACED, ErrorCode.OVERLOADED}
        assert self.settle(dispatch(), code).patient is counts


@pytest.mark.parametrize("code", list(ErrorCode))
def test_what_opens_a_breaker(code: ErrorCode) -> None:
    """A store that is away, silent, busy or unusable; of one that answered, this is told."""
    away = {ErrorCode.UNREACHABLE, ErrorCode.OVERLOADED, ErrorCode.TIMED_OUT}
    down = code in away | {ErrorCode.MISCONFIGURED}
    answered = StoreHealth.UP if code is ErrorCode.RACED else None
    assert settle(dispatch(), Transient(code, "x")).store is (StoreHealth.DOWN if down else answered)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_what_counts_towards_parking(code: ErrorCode) -> None:
    strike = code in {ErrorCode.RACED, ErrorCode.UNEXPECTED}
    assert settle(dispatch(), Unknown(code, "x")).strike is strike


def test_the_backoff_doubles_up_to_its_cap() -> None:
    assert [POLICY.delay(attempt, Dice(0.0)) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert [POLICY.delay(attempt, Dice(0.5)) for attempt in range(1, 6)] == [0.75, 1.5, 3.0, 6.0, 6.0]


def test_the_policy_is_by_default_what_the_settings_are() -> None:
    assert Settings.model_validate({}).retry_policy == RetryPolicy()


@given(attempt=st.integers(1, 10_000), seed=st.integers())
def test_the_backoff_grows_to_its_cap_and_never_beyond(attempt: int, seed: int) -> None:
    delay = POLICY.delay(attempt, random.Random(seed))
    longest = min(8.0, 2.0 ** min(attempt - 1, 10))
    assert longest / 2 <= delay <= longest


@given(
    event=st.sampled_from(list(STEPS)),
    unknown=st.booleans(),
    look=st.booleans(),
    strikes=st.integers(0, 3),
    outcome=st.sampled_from(
        [
            Done(),
            REFUSAL,
            Conflict(ErrorCode.CONFLICT_LIVE, "x"),
            Transient(ErrorCode.OVERLOADED, "x"),
            Transient(ErrorCode.UNREACHABLE, "x"),
            Unknown(ErrorCode.TIMED_OUT, "x"),
            Unknown(ErrorCode.UNEXPECTED, "x"),
            Misconfigured(ErrorCode.MISCONFIGURED, "x"),
        ]
    ),
)
def test_nothing_ends_an_intent_that_may_not(
    event: EventType, unknown: bool, look: bool, strikes: int, outcome: Outcome
) -> None:
    one = dispatch(event, unknown=unknown, look=look, strikes=strikes, cause=CAUSE if look else None)
    settled = settle(one, outcome)
    assert settled.terminal is (settled.next_event in TERMINALS)
    if not isinstance(outcome, Done | Refused | Conflict):
        assert settled.next_event is None, "only an answer moves a step on"
    if isinstance(outcome, Refused | Conflict) and unknown and not look:
        assert settled.next_event is None, "a refusal after an unknown attempt looks first"
    if settled.action is not Action.ADVANCE:
        assert settled.error_code is not None
